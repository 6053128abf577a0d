"""A whole training: from a recipe and a folder of images to weights with their evidence."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from accelerate import Accelerator
from torchvision.transforms import v2

from trickzoo import evidence as evidence_file
from trickzoo.backbone import Backbone
from trickzoo.classification import task as classifier
from trickzoo.data.classes import class_list
from trickzoo.data.imageset import ImageSet, as_known
from trickzoo.data.loaders import Resident, Streamed, TrainingImages, decode_once, draw_once, squash
from trickzoo.data.open import open_set
from trickzoo.data.readers import hub
from trickzoo.data.shapes import Shapes
from trickzoo.data.transforms import Normalisation, resize_and_crop
from trickzoo.errors import BadData, BadOption, NoEffect
from trickzoo.factory import create
from trickzoo.files import home
from trickzoo.recipes.ranges import Count, Range
from trickzoo.recipes.recipe import Recipe
from trickzoo.training import loop
from trickzoo.training.job import Machine, evidence, finished, made_by, telling, write_evidence
from trickzoo.weights import publish
from trickzoo.weights.load import LoadedWeights, is_file, model_of
from trickzoo.weights.record import Preprocessing

log = logging.getLogger("trickzoo")

SHAPES = "shapes"
"""`Settings.data` for the generated shapes. A folder of this name is named by its whole path."""
NUMBER = 10_000
"""Of shapes to train on, unless the settings name another."""


@dataclass(frozen=True, kw_only=True)
class Settings(Machine):
    """What a training of a classifier is run with.

    Attributes:
        data: where the images are: a folder that `open_set` knows, hf:NAME, or `SHAPES`, the generated shapes.
        decode: "once" keeps decoded images in a memory-map, "always" reads the files each time.
        side: of the kept images in pixels, with decode "once"; None is the recipe's size × 8 / 7.
        cache: folder of decoded images; None is resident/ in the store's home.
        images: how many generated shapes to train on, None for `NUMBER`; a fifth as many are evaluated on.

    Raises BadOption for a value out of range, NoEffect for one that nothing would come of.
    """

    data: Path | str
    decode: Literal["once", "always"] = "always"
    side: Count | None = None
    cache: Path | None = None
    images: Annotated[int, Range("5 or more", lambda number: number >= 5)] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        shapes = str(self.data) == SHAPES
        if self.side is not None and (shapes or self.decode == "always"):
            raise NoEffect("side", "shapes are drawn at the recipe's size" if shapes else "only decode once keeps images")
        if self.images is not None and not shapes:
            raise NoEffect("images", "only generated shapes are made to a number")


@dataclass(frozen=True)
class Images:
    """The images of a training, opened: for every recipe of the same sizes."""

    train: TrainingImages
    val: Resident
    preprocessing: Preprocessing


@dataclass(frozen=True)
class Job:
    """A training with everything built."""

    recipe: Recipe
    settings: Settings
    accelerator: Accelerator
    model: Backbone
    teacher: Backbone | None
    train: TrainingImages
    val: Resident

    @property
    def description(self) -> str:
        """What the images are, where they are not photographs from files."""
        return "; ".join(images.description for images in (self.train, self.val) if isinstance(images, Resident) and images.description)

    @property
    def task(self) -> classifier.Classification:
        """What the loop trains. Raises one clear error for a training that cannot work."""
        return classifier.Classification(
            self.recipe,
            self.model,
            self.train,
            self.val,
            seed=self.settings.seed,
            accelerator=self.accelerator,
            micro_batch=self.settings.micro_batch,
            teacher=self.teacher,
        )


def prepare(recipe: Recipe, settings: Settings, images: Images | None = None) -> Job:
    """Find the images, unless they are given, build the networks, and check that they fit. Raises one clear error if they do not."""
    evidence_file.check_folder(settings.out)
    if str(settings.data) == SHAPES:
        recipe = recipe.but(recipe.name, data=SHAPES)
    accelerator = settings.accelerator(recipe.precision)
    images = images or open_images(recipe, settings)
    classes = images.train.classes
    model = classifier.prepare(recipe, len(classes), settings.seed, create)
    if not classifier.adopt(model, classes):
        log.warning("%s: %s is of other classes than the data, so the classifier is initialised anew", model.name, recipe.pretrained)
        model.reset_head(len(classes))
    teacher = _teacher(recipe, classes)
    if teacher is not None:
        teacher.to(accelerator.device)
    normalisation = Normalisation.of(model)
    preprocessing = msgspec.structs.replace(images.preprocessing, mean=normalisation.mean, std=normalisation.std)
    path = settings.out / "model.safetensors"
    model.weights = LoadedWeights(recipe.name, path, classes=classes, preprocessing=preprocessing)
    return Job(recipe, settings, accelerator, model, teacher, images.train, images.val)


def open_images(recipe: Recipe, settings: Settings) -> Images:
    """The images that the settings name, at the sizes that the recipe names. Raises BadData or BadOption if they cannot be used."""
    train: TrainingImages
    workers = settings.decoders
    cache = settings.cache or home() / "resident"
    evidence_file.check_folder(cache)
    preprocessing = Preprocessing(size=recipe.eval_size or recipe.size, crop=recipe.crop, interpolation=recipe.interpolation)
    name = f"val{preprocessing.short_side}-{preprocessing.size}-{recipe.interpolation}"
    if str(settings.data) == SHAPES:
        number = settings.images or NUMBER
        train = draw_once(Shapes("train", number, recipe.size), v2.PILToTensor(), "as-drawn", cache, workers=workers)
        val = draw_once(Shapes("val", number // 5, recipe.size), resize_and_crop(preprocessing), name, cache, workers=workers)
        return Images(train, val, preprocessing)
    val_files = _without_empty(open_set(settings.data, split="val"))
    if settings.decode == "always" and hub.is_hub(settings.data):
        train = hub.HubStream(str(settings.data), workers=workers)
    else:
        files = _without_empty(open_set(settings.data, split="train"))
        if (files.root, files.entries) == (val_files.root, val_files.entries):
            raise BadData(f"{settings.data} does not tell training images from validation images; put them in train/ and val/")
        side = settings.side or round(recipe.size * 8 / 7)
        once = settings.decode == "once"
        train = decode_once(files, squash(side), f"squash{side}", cache, workers=workers) if once else Streamed(files, workers=workers)
    val_files = as_known(val_files, train.classes)
    val = decode_once(val_files, resize_and_crop(preprocessing), name, cache, classes=train.classes, workers=workers)
    return Images(train, val, preprocessing)


def _without_empty(images: ImageSet) -> ImageSet:
    if images.empty:
        raise BadData(f"{images.root}: class folder {images.empty[0]} is empty; put images in it, or remove it")
    return images


def _teacher(recipe: Recipe, classes: tuple[str, ...]) -> Backbone | None:
    """The recipe's teacher: a weight of the zoo, a model with its default weight, or a file that trickzoo wrote.

    Raises BadOption if it is of other classes.
    """
    if recipe.teacher is None:
        return None
    if is_file(recipe.teacher):
        path = Path(recipe.teacher)
        teacher = create(model_of(path), weights=path)
    else:
        teacher = create(recipe.teacher, pretrained=True)
    if teacher.num_classes != len(classes):
        raise BadOption(f"the teacher {recipe.teacher} has {teacher.num_classes} classes, the data {len(classes)}; they must be the same")
    if not classifier.adopt(teacher, classes):
        assert teacher.weights is not None
        theirs = class_list(teacher.weights.classes or ())
        raise BadOption(
            f"the teacher {recipe.teacher} is of other classes ({_few(theirs)}) than the data ({_few(classes)}); "
            "name a teacher that was trained on the same"
        )
    return teacher.requires_grad_(False)


def _few(classes: tuple[str, ...]) -> str:
    return ", ".join(classes[:3]) + (", …" if len(classes) > 3 else "")


def run(job: Job, report: Callable[[loop.Progress], None] = lambda progress: None) -> dict[str, Any]:
    """Train, write `model.safetensors`, `log.csv`, `curves.png` and `result.json` into the job's folder, and return the result.

    A training that is finished there is left as it is.
    """
    settings, recipe, task = job.settings, job.recipe, job.task
    if done := finished(settings, task):
        return done
    with telling(settings, job.accelerator, report) as tell:
        outcome = classifier.fit(
            task,
            settings.out,
            seed=settings.seed,
            accelerator=job.accelerator,
            save_every=settings.save_every,
            evaluate_every=settings.evaluate_every,
            report=tell,
        )
    found = evidence(
        f"training by {recipe.name}",
        recipe,
        settings.seed,
        outcome,
        job.accelerator,
        n=len(job.val.labels),
        n_train=len(job.train),
        data_digest=job.train.digest,
        val_digest=job.val.digest,
        data=job.description,
    )
    if job.accelerator.is_main_process:
        path = settings.out / "model.safetensors"
        publish.export(job.model, path, overwrite=True, training=made_by(found))
        write_evidence(settings.out, found)
    return found
