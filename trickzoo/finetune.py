"""A whole fine-tuning: from a recipe and annotated images to a detector or a segmenter with its evidence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator

from trickzoo import detection, evidence, segmentation
from trickzoo.backbone import Backbone
from trickzoo.data.boxes import DetectionSet, detection_shapes
from trickzoo.data.masks import SegmentationSet, segmentation_shapes
from trickzoo.data.readers.ade20k import open_ade20k
from trickzoo.data.readers.coco import open_coco
from trickzoo.data.readers.mask_lists import open_lists
from trickzoo.data.readers.voc import open_voc, open_voc_masks
from trickzoo.data.shapes import Shapes
from trickzoo.errors import BadData, BadOption, NoEffect
from trickzoo.recipes.finetune import DetectionRecipe, SegmentationRecipe
from trickzoo.recipes.ranges import Checked, Count
from trickzoo.training import job as job_file
from trickzoo.training import loop

Layout = Literal["coco", "voc", "ade20k", "lists", "shapes"]
TASKS: dict[Layout, tuple[str, ...]] = {
    "coco": ("detection",),
    "voc": ("detection", "segmentation"),
    "ade20k": ("segmentation",),
    "lists": ("segmentation",),
    "shapes": ("detection", "segmentation"),
}
"""What each layout has annotations for."""
DEFAULTS = {
    ("coco", "detection"): "paper.detection.coco_fpn",
    ("voc", "detection"): "paper.detection.voc",
    ("voc", "segmentation"): "paper.segmentation.voc",
    ("ade20k", "segmentation"): "paper.segmentation.ade20k",
    ("shapes", "detection"): "shapes.detection",
    ("shapes", "segmentation"): "shapes.segmentation",
}
"""The recipe where the user names none; "small.TASK" for the others."""
SHAPE_SIZE = 96
"""Side of generated images in pixels: several shapes must find room."""
NUMBER = 1000
"""Of generated images to train on, unless the source names another."""


Pair = tuple[DetectionSet, DetectionSet] | tuple[SegmentationSet, SegmentationSet]
"""Training and validation images."""


@dataclass(frozen=True)
class Source(Checked):
    """Where annotated images lie.

    Attributes:
        root: the folder; not for shapes.
        year, val_year: of COCO or VOC, for training and for validation; None for `val_year` is `year`.
        train, val: names of the splits.
        images: how many shapes to train on, None for `NUMBER`; a fifth as many are evaluated on.

    Raises BadOption for a value out of range, NoEffect for `images` where nothing is drawn.
    """

    layout: Layout
    root: Path = Path()
    year: str | None = None
    val_year: str | None = None
    train: str = "train"
    val: str = "val"
    images: Count | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.images is not None and self.layout != "shapes":
            raise NoEffect("images", "only generated shapes are made to a number")


def open_boxes(source: Source, part: Literal["train", "val"]) -> DetectionSet:
    """The images of a part with boxes. Raises BadData with what is wrong, BadOption for a layout without boxes."""
    split, year = _split(source, part, "detection")
    if source.layout == "coco":
        return open_coco(source.root, split, **({"year": year} if year else {}))
    if source.layout == "voc":
        return open_voc(source.root, split, year=year)
    return detection_shapes(_shapes(source, part))


def open_masks(source: Source, part: Literal["train", "val"]) -> SegmentationSet:
    """The images of a part with masks. Raises BadData with what is wrong, BadOption for a layout without masks."""
    split, year = _split(source, part, "segmentation")
    if source.layout == "voc":
        return open_voc_masks(source.root, split, year=year)
    if source.layout == "ade20k":
        return open_ade20k(source.root, split)
    if source.layout == "lists":
        return open_lists(source.root, split)
    return segmentation_shapes(_shapes(source, part))


def _split(source: Source, part: Literal["train", "val"], task: str) -> tuple[str, str | None]:
    if task not in TASKS[source.layout]:
        raise BadOption(f"{source.layout} has no annotations for {task}, only for {' and '.join(TASKS[source.layout])}")
    return (source.train, source.year) if part == "train" else (source.val, source.val_year or source.year)


def _shapes(source: Source, part: Literal["train", "val"]) -> Shapes:
    number = source.images or NUMBER
    return Shapes(part, number if part == "train" else number // 5, SHAPE_SIZE, objects="several")


@dataclass(frozen=True)
class Job:
    """A fine-tuning with everything built."""

    task: detection.task.Detection | segmentation.task.Segmentation
    settings: job_file.Machine
    accelerator: Accelerator

    @property
    def train(self) -> DetectionSet | SegmentationSet:
        """The training images."""
        return self.task.data

    @property
    def val(self) -> DetectionSet | SegmentationSet:
        """The validation images."""
        assert self.task.val is not None
        return self.task.val

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of the images: boxes that were dropped, and that shapes are generated."""
        found: list[str] = []
        for data, where in ((self.train, "training"), (self.val, "validation")):
            if isinstance(data, DetectionSet):
                found += [f"{where} images: {note}" for note in data.faults.notes]
        return (*found, self.description) if self.description else tuple(found)

    @property
    def description(self) -> str:
        """What the images are, where they are generated."""
        return f"{self.train.layout}; {self.val.layout}" if self.train.drawings else ""


def open_both(recipe: DetectionRecipe | SegmentationRecipe, source: Source) -> Pair:
    """Training and validation images for a recipe. Raises BadData with what is wrong."""
    pair: Pair
    if isinstance(recipe, DetectionRecipe):
        pair = open_boxes(source, "train"), open_boxes(source, "val")
    else:
        pair = open_masks(source, "train"), open_masks(source, "val")
    train, val = pair
    if train.classes != val.classes:
        raise BadData("training and validation images have other classes")
    if train.digest == val.digest:
        raise BadData(f"{train.root}: training and validation images are the same; name the splits")
    return pair


def prepare(recipe: DetectionRecipe | SegmentationRecipe, source: Source, settings: job_file.Machine, data: Pair | None = None) -> Job:
    """Open the images, unless they are given, build the network, and check that they fit. Raises one clear error if they do not."""
    evidence.check_folder(settings.out)
    accelerator = settings.accelerator(recipe.precision)
    train, val = data or open_both(recipe, source)
    torch.manual_seed(settings.seed)
    options: dict[str, Any] = {
        "seed": settings.seed,
        "accelerator": accelerator,
        "micro_batch": settings.micro_batch,
        "workers": settings.decoders,
    }
    task: detection.task.Detection | segmentation.task.Segmentation
    if isinstance(recipe, DetectionRecipe):
        assert isinstance(train, DetectionSet)
        assert isinstance(val, DetectionSet)
        task = detection.task.Detection(recipe, detection.task.build(recipe, len(train.classes)), train, val, **options)
    else:
        assert isinstance(train, SegmentationSet)
        assert isinstance(val, SegmentationSet)
        task = segmentation.task.Segmentation(recipe, segmentation.task.build(recipe, len(train.classes)), train, val, **options)
    weights = _backbone(task).weights
    task.weights_sha256 = weights.digest() if weights else None
    return Job(task, settings, accelerator)


def _backbone(task: detection.task.Detection | segmentation.task.Segmentation) -> Backbone:
    return task.model.backbone.body if isinstance(task, detection.task.Detection) else task.model.backbone


def run(job: Job, report: Callable[[loop.Progress], None] = lambda progress: None, **also: Any) -> dict[str, Any]:
    """Train, write `model.safetensors`, `log.csv`, `curves.png` and `result.json` into the job's folder, and return the result.

    `also` is written into the result too. A training that is finished there is left as it is.
    """
    task, settings, accelerator = job.task, job.settings, job.accelerator
    if done := job_file.finished(settings, task):
        return done
    with job_file.telling(settings, accelerator, report) as tell:
        outcome = loop.fit(
            task,
            settings.out,
            seed=settings.seed,
            accelerator=accelerator,
            save_every=settings.save_every,
            evaluate_every=settings.evaluate_every,
            report=tell,
        )
    found = job_file.evidence(
        f"fine-tuning by {task.recipe.name}",
        task.recipe,
        settings.seed,
        outcome,
        accelerator,
        task=task.recipe.task,
        measure=task.measure,
        weights_sha256=task.weights_sha256,
        **also,
        n=len(job.val),
        n_train=len(job.train),
        data_digest=job.train.digest,
        val_digest=job.val.digest,
        data=job.description,
    )
    if accelerator.is_main_process:
        path, made_by = settings.out / "model.safetensors", job_file.made_by(found)
        if isinstance(task, detection.task.Detection):
            detection.task.save(task.model, task.recipe, job.train.classes, path, made_by)
        else:
            segmentation.task.save(task.model, task.recipe, job.train.classes, path, made_by)
        job_file.write_evidence(settings.out, found, task.measure)
    return found
