"""Training a classifier: the task that the training loop runs."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor, nn

from trickzoo.backbone import Backbone
from trickzoo.classification import class_counts, objective, report
from trickzoo.classification.evaluate import predict_resident
from trickzoo.classification.model import load_teacher, prepare, reorder_outputs
from trickzoo.classification.open import evaluation_preprocessing
from trickzoo.classification.predictions import metrics, write_predictions
from trickzoo.data.augment import DRAWS, augment
from trickzoo.data.loaders import TrainingImages
from trickzoo.data.location import Splits
from trickzoo.data.prefetch import ahead
from trickzoo.data.resident import Resident
from trickzoo.data.selection import warn_if_seen
from trickzoo.data.transforms import Normalisation
from trickzoo.errors import BadData, shortened
from trickzoo.folding import fold_norms
from trickzoo.output_files import NETWORK, PREDICTIONS
from trickzoo.pages.page import Section
from trickzoo.recipes.collection import to_dict
from trickzoo.recipes.recipe import Recipe
from trickzoo.training import optimiser
from trickzoo.training.balance import class_weights
from trickzoo.training.machine import Machine
from trickzoo.training.norms import check_norms
from trickzoo.training.schedule import learning_rate
from trickzoo.training.shares import Shares
from trickzoo.training.task import Task
from trickzoo.tricks.ema import ema_decay, update_average
from trickzoo.tricks.no_bias_decay import decay_groups
from trickzoo.tricks.progressive_size import training_size
from trickzoo.weights.export import export
from trickzoo.weights.header import header
from trickzoo.weights.loaded import LoadedWeights
from trickzoo.wording import count, verb

log = logging.getLogger("trickzoo")


def new_task(recipe: Recipe, data: Splits[Any], machine: Machine, accelerator: Accelerator) -> Classification:
    """Build the recipe's network and its teacher for the classes of the images, and the task that trains it.

    Raises a TrickzooError if recipe, weights and images do not match.
    """
    classes = data.train.classes
    model = prepare(recipe, len(classes), machine.seed)
    weights_sha256 = model.weights.digest() if model.weights is not None else None
    if data.val is not None:
        warn_if_seen(data.val.names, model.weights, training=True)
    if not reorder_outputs(model, classes):
        differ = "%s: the classes of %s differ from those of the data, so the classifier is initialised anew"
        log.warning(differ, model.name, recipe.pretrained)
        model.reset_head(len(classes))
    teacher = load_teacher(recipe, classes)
    if teacher is not None:
        teacher.to(accelerator.device)
    normalisation = Normalisation.of(model)
    preprocessing = msgspec.structs.replace(evaluation_preprocessing(recipe), mean=normalisation.mean, std=normalisation.std)
    model.weights = LoadedWeights(recipe.name, machine.out / NETWORK, classes=classes, preprocessing=preprocessing)
    task = Classification(
        recipe,
        model,
        data.train,
        data.val,
        seed=machine.seed,
        accelerator=accelerator,
        micro_batch=machine.micro_batch,
        teacher=teacher,
    )
    task.weights_sha256 = weights_sha256
    task.teacher_sha256 = teacher.weights.digest() if teacher is not None and teacher.weights is not None else None
    return task


def check(data: TrainingImages, val: Resident | None) -> None:
    """Raise BadData if there is one class only, if a class has fewer than two training images, or if the validation classes differ."""
    if len(data.classes) < 2:
        raise BadData(f"there is one class, {data.classes[0]}; at least two are needed")
    if data.labels is not None:
        counts = np.bincount(data.labels, minlength=len(data.classes))
        if small := [name for name, n in zip(data.classes, counts, strict=True) if n < 2]:
            few = f"{len(small):,} of {count(len(data.classes), 'class')} {verb(len(small), 'has')} fewer than two training images"
            raise BadData(f"{few} ({shortened(small)}); add some, or leave {'the class' if len(small) == 1 else 'these classes'} out")
    if val is not None and val.classes != data.classes:
        raise BadData("training and validation images have different classes")


class Classification(Task):
    """The training of a classifier by a recipe.

    Args:
        recipe: the recipe.
        model: the network, from `prepare`.
        data: the training images.
        val: the validation images, decoded at the recipe's evaluation size.
        seed: the random seed of the order, the crops, augmentation and mixup.
        accelerator: device, precision and processes.
        micro_batch: how many images a process takes at once; gradients are accumulated over its share of the batch.
        teacher: the network to distil from, on the device.
    """

    measure = "top1"

    def __init__(
        self,
        recipe: Recipe,
        model: Backbone,
        data: TrainingImages,
        val: Resident | None,
        *,
        seed: int,
        accelerator: Accelerator,
        micro_batch: int | None = None,
        teacher: nn.Module | None = None,
    ) -> None:
        self.recipe: Recipe = recipe
        self.model: Backbone = model
        self.data, self.val = data, val
        self.seed, self.accelerator = seed, accelerator
        check(data, val)
        labels = class_counts.to_balance(recipe, data)
        options = {"stream": data.labels is None, "labels": labels if recipe.balance == "sampler" else None}
        self.shares = Shares.of(len(data), recipe, DRAWS, seed, accelerator, micro_batch, **options)
        self.class_weights: Tensor | None = None
        if labels is not None and recipe.balance == "loss":
            self.class_weights = class_weights(labels, len(data.classes)).to(accelerator.device)
        check_norms(model, self.shares.micro, size_at(recipe, 0))
        self.data_digest, self.val_digest = data.digest, val.digest if val is not None else None
        self.normalise, self.teachers = Normalisation.of(model), Normalisation.of(teacher)
        self.teacher = _faster(teacher) if isinstance(teacher, Backbone) else teacher
        if recipe.ema:
            self.average = copy.deepcopy(model).to(accelerator.device).requires_grad_(False)

    def optimiser(self) -> torch.optim.Optimizer:
        """Return the recipe's optimiser of the parameters that are not frozen; SGD has Nesterov momentum."""
        recipe, model = self.recipe, self.model
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        groups = trained if recipe.decay_biases_and_norms else decay_groups(model, recipe.weight_decay)
        return optimiser.build(recipe, groups, nesterov=recipe.momentum > 0)

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a step by the recipe's schedule."""
        return learning_rate(self.recipe, step, self.shares.per_epoch)

    def batches(self, first_step: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield micro-batches of augmented and normalised crops, (k, 3, size, size), with their (k,) labels, while their size stays.

        Another thread prepares the next ones during a step, if the images allow it.
        """
        epoch, recipe = first_step // self.shares.per_epoch, self.recipe
        size = size_at(recipe, epoch)
        end = next((later for later in range(epoch, recipe.epochs) if size_at(recipe, later) != size), recipe.epochs)
        crops = self.data.crops(self.shares.of_epochs(first_step, end), size, recipe.augmentation, self.accelerator.device, seed=self.seed)
        planned = zip(self.shares.of_epochs(first_step, end), crops, strict=True)
        prepared = (self._prepared(images, labels, draws) for (_, draws), (images, labels) in planned)
        return ahead(prepared, self.accelerator.device) if self.data.ahead(self.accelerator.device) else prepared

    def _prepared(self, images: Tensor, labels: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        return self.normalise(augment(images, draws.to(images.device), self.recipe.augmentation)), labels

    def loss(self, net: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Return the cross-entropy after label smoothing, mixing and distillation, as far as the recipe uses them."""
        images, labels = batch
        images, target = objective.targets(self.recipe, images, labels, len(self.data.classes), self.class_weights)
        with self.accelerator.autocast():
            logits = net(images)
            soft = None if self.teacher is None else _predict(self.teacher, self.normalise.towards(self.teachers, images))
        return objective.loss(self.recipe, logits, target, soft)

    def stepped(self, step: int) -> None:
        """Update the averaged weights after a step."""
        if self.average is not None:
            update_average(self.average, self.model, ema_decay(step, self.recipe.ema))

    def metadata(self) -> dict[str, str]:
        """Return the header that `weights.export` writes into a weight file."""
        return header(self.model, {"recipe": to_dict(self.recipe), "seed": self.seed, "data_digest": self.data_digest})

    def evaluate(self) -> dict[str, float] | None:
        """Return the metrics of `predictions.metrics`, of the averaged weights if there are any, or None without validation images."""
        if self.val is None:
            return None
        network = self.model if self.average is None else self.average
        self.last_evaluation = predict_resident(network, self.val, self.normalise, self.accelerator)
        return metrics(self.last_evaluation)

    def findings(self) -> list[str]:
        """Return the results of the last evaluation as sentences, for the report."""
        return report.findings(self.last_evaluation)

    def sections(self, pictures: int) -> list[Section]:
        """Return the sections of the report on the last evaluation. The pictures show the pixels that the network gets."""
        assert self.val is not None  # there was an evaluation
        pixels, predictions = self.val.pixels, self.last_evaluation
        shown = report.pictures(predictions, lambda i: Image.fromarray(pixels[i].transpose(1, 2, 0)), pictures)
        return [*report.sections(predictions), *shown]

    def write_predictions(self, folder: Path) -> None:
        """Write the most probable classes of each validation image to `predictions.csv`."""
        write_predictions(folder / PREDICTIONS, self.last_evaluation)

    def finish(self) -> None:
        """Load the averaged weights into the model, if the recipe has `ema`."""
        if self.average is not None:
            self.model.load_state_dict(self.average.state_dict())

    @property
    def data_in_words(self) -> str:
        """The number of training images and of classes, in words."""
        return f"{count(len(self.data), 'image')} of {count(len(self.data.classes), 'class')}"

    @property
    def description(self) -> str:
        """A description of the images if they were generated, otherwise empty."""
        return "; ".join(images.description for images in (self.data, self.val) if isinstance(images, Resident) and images.description)

    @property
    def notes(self) -> tuple[str, ...]:
        """A line that describes the images if they were generated, or one with the number of images of each class."""
        if self.description:
            return (self.description,)
        return class_counts.in_words(self.data, advise=self.recipe.balance is None)

    def facts(self) -> dict[str, Any]:
        """Return facts about the images for the result file.

        These are the numbers of images and classes, also of each class, the share of the largest class among the validation images in
        percent, the digests of the images, and the comparison of training and validation images.
        """
        labels = self.val.labels if self.val is not None else ()
        comparison = self.val.comparison if self.val is not None else None
        return {
            "n": len(labels),
            "n_train": len(self.data),
            "num_classes": len(self.data.classes),
            **({"majority": round(100 * float(np.bincount(labels).max()) / len(labels), 4)} if len(labels) else {}),
            "data_digest": self.data_digest,
            "val_digest": self.val_digest,
            **(comparison.as_result if comparison is not None else {}),
            **class_counts.counts(self.data, self.val),
            **({"data": self.description} if self.description else {}),
        }

    def save(self, path: Path, training: dict[str, Any]) -> None:
        """Write the network to a file that `create` and `trickzoo eval imagenet` read."""
        export(self.model, path, overwrite=True, training=training)


def size_at(recipe: Recipe, epoch: int) -> int:
    """Return the side in pixels of the training images of a 0-based epoch."""
    if recipe.start_size is None:
        return recipe.size
    return training_size(epoch, recipe.epochs, recipe.start_size, recipe.size, growth=recipe.growth)


def _faster(teacher: Backbone) -> nn.Module:
    """Return a copy of a teacher that computes the same logits, up to rounding, in less time."""
    return fold_norms(copy.deepcopy(teacher).eval()).to(memory_format=torch.channels_last)


@torch.no_grad()
def _predict(teacher: nn.Module, images: Tensor) -> Tensor:
    return teacher(images)
