"""Training a classifier: what the loop needs to know of it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from trickzoo.backbone import Backbone
from trickzoo.classification import objective
from trickzoo.classification.metrics import top_k_hits
from trickzoo.data.augment import DRAWS, augment
from trickzoo.data.classes import class_list, synsets
from trickzoo.data.loaders import Resident, TrainingImages
from trickzoo.data.transforms import Normalisation
from trickzoo.errors import BadData, BadOption
from trickzoo.recipes.collection import plain
from trickzoo.recipes.recipe import Recipe
from trickzoo.training import loop
from trickzoo.training.schedule import learning_rate
from trickzoo.tricks.ema import ema_decay, update_average
from trickzoo.tricks.initialisation import initialise
from trickzoo.tricks.no_bias_decay import decay_groups
from trickzoo.tricks.progressive_size import training_size
from trickzoo.tricks.zero_gamma import zero_last_gammas
from trickzoo.weights import load


def prepare(recipe: Recipe, num_classes: int, seed: int, create: Callable[..., Backbone]) -> Backbone:
    """The recipe's network, with its weights, or initialised from the seed as the recipe says."""
    torch.manual_seed(seed)
    if recipe.pretrained is not None:
        if recipe.zero_gamma:
            raise BadOption("zero_gamma would undo the weights of pretrained; choose one of them")
        where = {"pretrained": True} if recipe.pretrained == "default" else {"weights": recipe.pretrained}
        return create(recipe.model, num_classes=num_classes, **where).train()
    model = create(recipe.model, num_classes=num_classes)
    initialise(model, form=recipe.init)
    if recipe.zero_gamma:
        zero_last_gammas(model)
    return model


def adopt(model: Backbone, classes: Sequence[str]) -> bool:
    """Give a network's outputs the order of these classes; False, and nothing is done, if its weights are of others.

    Weights that do not say which classes they are of are taken to be of these.
    """
    if model.weights is None or model.weights.classes is None:
        return True
    theirs = synsets(class_list(model.weights.classes))
    if set(theirs) != set(classes):
        return False
    place = {name: i for i, name in enumerate(theirs)}
    order = [place[name] for name in classes]
    for module in model.modules():
        if isinstance(module, nn.Linear):  # the classifiers, Inception's second one too
            module.weight.data, module.bias.data = module.weight.data[order], module.bias.data[order]
    model.weights = replace(model.weights, classes=tuple(classes))
    return True


def check(data: TrainingImages, val: Resident | None) -> None:
    """Raise one clear error for images that a training cannot work with."""
    if len(data.classes) < 2:
        raise BadData(f"there is one class, {data.classes[0]}; two are the least")
    if data.labels is not None:
        counts = np.bincount(data.labels, minlength=len(data.classes))
        if counts.min() < 2:
            raise BadData(f"class {data.classes[int(counts.argmin())]} has {counts.min()} training images; two are the least")
    if val is not None and val.classes != data.classes:
        raise BadData("training and validation images have other classes")


class Classification(loop.Task):
    """Images to classes by a recipe.

    Args:
        recipe, model: what to do, and the network from `prepare`.
        data, val: training images, and validation images decoded at the recipe's evaluation size.
        seed: of order, crops, augmentation and mixup.
        accelerator: device, precision and processes.
        micro_batch: images a process takes at once; the rest of its share of the batch is accumulated.
        teacher: network to distil from, on the device.
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
        self.data, self.val, self.teacher = data, val, teacher
        self.seed, self.accelerator = seed, accelerator
        self.shares = loop.Shares.of(len(data), recipe, DRAWS, seed, accelerator, micro_batch, stream=data.labels is None)
        check(data, val)
        self.data_digest, self.val_digest = data.digest, val.digest if val is not None else None
        self.normalise, self.teachers = Normalisation.of(model), Normalisation.of(teacher)
        if recipe.ema:
            self.average = copy.deepcopy(model).to(accelerator.device).requires_grad_(False)

    def optimiser(self) -> torch.optim.SGD:
        """Nesterov SGD as the recipe says."""
        recipe, model = self.recipe, self.model
        groups: Any = model.parameters() if recipe.decay_biases_and_norms else decay_groups(model, recipe.weight_decay)
        return torch.optim.SGD(
            groups, lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay, nesterov=recipe.momentum > 0
        )

    def learning_rate(self, step: int) -> float:
        """By the recipe's schedule."""
        return learning_rate(self.recipe, step, self.shares.per_epoch)

    def batches(self, first_step: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Crops, (k, 3, size, size) float in 0…255, their labels, and the draws of what is done to the crops."""
        size = size_at(self.recipe, first_step // self.shares.per_epoch)
        plan = self.shares.of_epoch(first_step)
        crops = self.data.crops(plan, size, self.recipe.augmentation, self.accelerator.device, seed=self.seed)
        for (_, draws), (images, labels) in zip(self.shares.of_epoch(first_step), crops, strict=True):
            yield images, labels, draws

    def loss(self, net: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Cross-entropy with what the recipe makes of labels and images."""
        images, labels, draws = batch
        images = self.normalise(augment(images, draws.to(images.device), self.recipe.augmentation))
        images, target = objective.targets(self.recipe, images, labels, len(self.data.classes))
        with self.accelerator.autocast():
            logits = net(images)
            soft = None if self.teacher is None else _predict(self.teacher, self.normalise.towards(self.teachers, images))
        return objective.loss(self.recipe, logits, target, soft)

    def stepped(self, step: int) -> None:
        """Moves the averaged weights."""
        if self.average is not None:
            update_average(self.average, self.model, ema_decay(step, self.recipe.ema))

    def metadata(self) -> dict[str, str]:
        """As `weights.publish` writes it."""
        return load.header(self.model, {"recipe": plain(self.recipe), "seed": self.seed, "data_digest": self.data_digest})

    def evaluate(self) -> dict[str, float] | None:
        """Top-1 and top-5, of the averaged weights if there are any."""
        if self.val is None:
            return None
        return evaluate(self.model if self.average is None else self.average, self.val, self.normalise, self.accelerator)


def fit(task: Classification, out: Path, **options: Any) -> loop.Outcome:
    """`loop.fit`, which has the options; with `ema` the model ends with the averaged weights."""
    outcome = loop.fit(task, out, **options)
    if task.average is not None:
        task.model.load_state_dict(task.average.state_dict())
    return outcome


def train(
    recipe: Recipe,
    model: Backbone,
    data: TrainingImages,
    val: Resident | None,
    out: Path,
    *,
    seed: int,
    accelerator: Accelerator,
    micro_batch: int | None = None,
    teacher: nn.Module | None = None,
    **options: Any,
) -> loop.Outcome:
    """`fit` of a `Classification` with these arguments."""
    task = Classification(recipe, model, data, val, seed=seed, accelerator=accelerator, micro_batch=micro_batch, teacher=teacher)
    return fit(task, out, seed=seed, accelerator=accelerator, **options)


def size_at(recipe: Recipe, epoch: int) -> int:
    """Side in pixels of the training images of a 0-based epoch."""
    if recipe.start_size is None:
        return recipe.size
    return training_size(epoch, recipe.epochs, recipe.start_size, recipe.size, growth=recipe.growth)


@torch.no_grad()
def _predict(teacher: nn.Module, images: Tensor) -> Tensor:
    return teacher(images)


@torch.inference_mode()
def evaluate(
    net: nn.Module, val: Resident, normalise: Normalisation, accelerator: Accelerator, *, batch_size: int = 256
) -> dict[str, float]:
    """Top-1 and top-5 in percent, each process on its share."""
    net.eval()
    n = len(val.labels)
    mine = torch.arange(accelerator.process_index, n, accelerator.num_processes)
    hits = torch.zeros(2, dtype=torch.long)
    for indices in mine.split(batch_size):
        images = normalise(val.take(indices).to(accelerator.device))
        with accelerator.autocast():
            logits = net(images)
        top = logits.float().topk(min(5, logits.shape[1])).indices.cpu().numpy()
        wanted = val.labels[indices.numpy()]
        hits += torch.tensor([top_k_hits(top, wanted, 1), top_k_hits(top, wanted, 5)])
    top1, top5 = (sum(column) for column in zip(*gather_object([hits.tolist()]), strict=True))
    return {"top1": 100 * top1 / n, "top5": 100 * top5 / n}
