"""A whole training: from a recipe and a folder of images to weights with their evidence."""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torchvision.transforms import v2

from trickzoo.backbone import Backbone
from trickzoo.data import hub
from trickzoo.data.imagenet import ImageSet
from trickzoo.data.shapes import Shapes
from trickzoo.data.sources import open_set
from trickzoo.data.training import Resident, Streamed, TrainingImages, decode_once, draw_once, squash
from trickzoo.data.transforms import resize_and_crop
from trickzoo.errors import BadData, BadOption
from trickzoo.evaluation import result
from trickzoo.evaluation.distributed import default_workers
from trickzoo.factory import create
from trickzoo.recipes.collection import plain
from trickzoo.recipes.recipe import Recipe
from trickzoo.training import classification, loop, tracking
from trickzoo.tricks.low_precision import mixed_precision
from trickzoo.weights import publish, store
from trickzoo.weights.load import LoadedWeights, is_file, model_of
from trickzoo.weights.record import Preprocessing

SHAPES = "shapes"
"""`Settings.data` for the generated shapes. A folder of this name is named by its whole path."""


@dataclass(frozen=True)
class Settings:
    """What a training is run with and its outcome does not depend on, but for the seed.

    Attributes:
        data: where the images are: a folder that `open_set` knows, hf:NAME, or `SHAPES`, the generated shapes.
        out: folder of checkpoints, metrics and weights.
        decode: "once" keeps decoded images in a memory-map, "always" reads the files each time.
        side: of the kept images in pixels, with decode "once"; None is the recipe's size × 8 / 7.
        cache: folder of decoded images; None is resident/ in the store's home.
        micro_batch: images a process takes at once; the rest of its share of the batch is accumulated.
        save_every: steps between checkpoints, beside the one at each epoch's end; 0 is none.
        evaluate_every: epochs between evaluations; the last epoch always has one.
        tensorboard: whether to write curves to `out/tensorboard` too.
        images: how many generated shapes to train on; a fifth as many are evaluated on.
    """

    data: Path | str
    out: Path
    seed: int = 0
    decode: Literal["once", "always"] = "always"
    side: int | None = None
    cache: Path | None = None
    micro_batch: int | None = None
    workers: int | None = None
    save_every: int = 0
    evaluate_every: int = 1
    use_cpu: bool = False
    tensorboard: bool = False
    images: int = 10_000


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
    preprocessing: Preprocessing

    @property
    def description(self) -> str:
        """What the images are, where they are not photographs from files."""
        return "; ".join(images.description for images in (self.train, self.val) if isinstance(images, Resident) and images.description)

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch."""
        return len(self.train) // self.recipe.batch_size


def prepare(recipe: Recipe, settings: Settings, images: Images | None = None) -> Job:
    """Find the images, unless they are given, build the networks, and check that they fit. Raises one clear error if they do not."""
    use_cpu = settings.use_cpu or not torch.accelerator.is_available()
    if str(settings.data) == SHAPES:
        recipe = recipe.but(recipe.name, data=SHAPES)
    AcceleratorState._reset_state()  # it would refuse a precision other than an earlier training's in this process
    accelerator = Accelerator(cpu=use_cpu, mixed_precision=mixed_precision(recipe.precision, accelerator=not use_cpu))
    images = images or open_images(recipe, settings)
    classes = len(images.train.classes)
    model = classification.prepare(recipe, classes, settings.seed, create)
    teacher = _teacher(recipe, classes)
    if teacher is not None:
        teacher.to(accelerator.device)
    normalisation = classification.Normalisation.of(model)
    preprocessing = msgspec.structs.replace(images.preprocessing, mean=normalisation.mean, std=normalisation.std)
    return Job(recipe, settings, accelerator, model, teacher, images.train, images.val, preprocessing)


def open_images(recipe: Recipe, settings: Settings) -> Images:
    """The images that the settings name, at the sizes that the recipe names. Raises BadData if they cannot be used."""
    train: TrainingImages
    workers = default_workers() if settings.workers is None else settings.workers
    cache = settings.cache or store.home() / "resident"
    preprocessing = Preprocessing(size=recipe.eval_size or recipe.size, crop=recipe.crop, interpolation=recipe.interpolation)
    name = f"val{preprocessing.short_side}-{preprocessing.size}-{recipe.interpolation}"
    if str(settings.data) == SHAPES:
        train = draw_once(Shapes("train", settings.images, recipe.size), v2.PILToTensor(), "as-drawn", cache, workers=workers)
        val = draw_once(Shapes("val", settings.images // 5, recipe.size), resize_and_crop(preprocessing), name, cache, workers=workers)
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
    val = decode_once(val_files, resize_and_crop(preprocessing), name, cache, classes=train.classes, workers=workers)
    return Images(train, val, preprocessing)


def _without_empty(images: ImageSet) -> ImageSet:
    if images.empty:
        raise BadData(f"{images.root}: class folder {images.empty[0]} is empty; put images in it, or remove it")
    return images


def _teacher(recipe: Recipe, classes: int) -> Backbone | None:
    """The recipe's teacher: a weight of the zoo, a model with its default weight, or a file that trickzoo wrote."""
    if recipe.teacher is None:
        return None
    if is_file(recipe.teacher):
        path = Path(recipe.teacher)
        teacher = create(model_of(path), weights=path)
    else:
        teacher = create(recipe.teacher, pretrained=True)
    if teacher.num_classes != classes:
        raise BadOption(f"the teacher {recipe.teacher} has {teacher.num_classes} classes, the data {classes}; they must be the same")
    return teacher.requires_grad_(False)


def run(job: Job, report: Callable[[loop.Progress], None] = lambda progress: None) -> dict[str, Any]:
    """Train, write `model.safetensors`, `log.csv`, `curves.png` and `result.json` into the job's folder, and return the result."""
    settings, recipe = job.settings, job.recipe
    chief = job.accelerator.is_main_process
    board = tracking.tensorboard(settings.out / "tensorboard") if settings.tensorboard and chief else nullcontext(lambda progress: None)
    with board as write:

        def tell(progress: loop.Progress) -> None:
            report(progress)
            write(progress)

        outcome = classification.train(
            recipe,
            job.model,
            job.train,
            job.val,
            settings.out,
            seed=settings.seed,
            accelerator=job.accelerator,
            micro_batch=settings.micro_batch,
            teacher=job.teacher,
            save_every=settings.save_every,
            evaluate_every=settings.evaluate_every,
            report=tell,
        )
    found: dict[str, Any] = {
        "what": f"training by {recipe.name}",
        **{key: round(value, 4) for key, value in outcome.evaluation.items()},
        "n": len(job.val.labels),
        "n_train": len(job.train),
        "recipe": plain(recipe),
        "seed": settings.seed,
        "data_digest": job.train.digest,
        "val_digest": job.val.digest,
        **({"data": job.description} if job.description else {}),
        "processes": job.accelerator.num_processes,
        "wall_seconds": round(outcome.seconds, 1),
        **result.environment(),
    }
    if chief:
        path = settings.out / "model.safetensors"
        job.model.weights = LoadedWeights(recipe.name, path, classes=job.train.classes, preprocessing=job.preprocessing)
        made_by: dict[str, Any] = {
            key: found[key] for key in ("recipe", "seed", "data", "data_digest", "commit", "versions") if key in found
        }
        publish.export(job.model, path, overwrite=True, training=made_by)
        tracking.write_log(settings.out)
        tracking.plot_curves(settings.out, f"{recipe.name}, seed {settings.seed}")
        result.write_json(settings.out / "result.json", found)
    return found


@dataclass(frozen=True)
class Rehearsal:
    """What three steps say of a training: seconds of one, and peak memory in bytes."""

    seconds_per_step: float
    memory: int


def rehearse(job: Job) -> Rehearsal:
    """Take three steps and leave nothing behind."""
    times: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        classification.train(
            job.recipe,
            job.model,
            job.train,
            None,
            Path(folder),
            seed=job.settings.seed,
            accelerator=job.accelerator,
            micro_batch=job.settings.micro_batch,
            teacher=job.teacher,
            stop_after=min(3, job.steps_per_epoch),
            report=lambda _: times.append(time.perf_counter()),
        )
    on_gpu = job.accelerator.device.type == "cuda"
    memory = torch.cuda.max_memory_allocated() if on_gpu else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Rehearsal((times[-1] - times[0]) / max(len(times) - 1, 1), memory)
