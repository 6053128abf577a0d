"""`trickzoo-eval coco | voc | ade20k | lists | shapes`: detectors and segmenters on annotated images."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from trickzoo.cli import options
from trickzoo.cli.printing import say, table
from trickzoo.errors import BadData, BadOption, nearest

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import Tensor

    from trickzoo.data.boxes import DetectionSet
    from trickzoo.data.masks import SegmentationSet
    from trickzoo.finetune import Source
    from trickzoo.recipes.finetune import DetectionRecipe, SegmentationRecipe
    from trickzoo.training.job import Machine
    from trickzoo.weights.load import LoadedWeights

Data = Annotated[Path, Parameter(help="The folder of the set.")]
Split = Annotated[str, Parameter(help="Which of its splits.")]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What every one of these commands takes."""

    model: Annotated[Path, Parameter(name=("--model", "--weights"), help="A model.safetensors that trickzoo-finetune wrote.")]
    out: Annotated[Path | None, Parameter(help="Write the result to this JSON file.")] = None
    per_class: Annotated[Path | None, Parameter(help="Write the figures of each class to this CSV file.")] = None
    predictions: Annotated[
        Path | None,
        Parameter(help="Boxes: write them to this JSON file, in COCO's results format. Masks: write them to this new folder, as PNG."),
    ] = None
    short: Annotated[int | None, Parameter(help="Short side of the images in pixels, in place of the training's.")] = None
    long: Annotated[int | None, Parameter(help="What the long side may not pass, in place of the training's; for detectors.")] = None
    workers: options.Workers = None
    device: options.Device = "auto"
    precision: options.Precision = "fp32"


def coco(
    *,
    data: Data,
    split: Split = "val",
    year: Annotated[str | None, Parameter(help="2014 or 2017, the default.")] = None,
    evaluation: Evaluation,
) -> None:
    """Evaluate a detector on COCO's folder: VOC's AP50 in both forms, and COCO's twelve figures."""
    _evaluate(evaluation, _source("coco", data, split, year))


def voc(
    *,
    data: Data,
    split: Split = "val",
    year: Annotated[str | None, Parameter(help="2007, 2012 or 07+12, where there are several.")] = None,
    evaluation: Evaluation,
) -> None:
    """Evaluate a detector or a segmenter on VOC, or a folder like it.

    Boxes: VOC's AP50 in both forms, and COCO's twelve figures. Masks: mean IoU and pixel accuracy.
    """
    _evaluate(evaluation, _source("voc", data, split, year))


def ade20k(*, data: Data, split: Split = "val", evaluation: Evaluation) -> None:
    """Evaluate a segmenter on ADE20K's folder: mean IoU and pixel accuracy."""
    _evaluate(evaluation, _source("ade20k", data, split))


def lists(*, data: Data, split: Split = "val", evaluation: Evaluation) -> None:
    """Evaluate a segmenter on images and masks that lists name, as CamVid has them: mean IoU and pixel accuracy."""
    _evaluate(evaluation, _source("lists", data, split))


def shapes(
    *,
    images: Annotated[int, Parameter(help="How many; a training on n evaluates on the first n / 5.")] = 200,
    split: Annotated[Literal["val", "train"], Parameter(help="Which of the generated images.")] = "val",
    evaluation: Evaluation,
) -> None:
    """Evaluate a detector or a segmenter on generated images.

    Boxes: VOC's AP50 in both forms, and COCO's twelve figures. Masks: mean IoU and pixel accuracy.
    """
    from trickzoo.finetune import Source

    _evaluate(evaluation, Source("shapes", images=images if split == "train" else 5 * images), split)


def _source(layout: Literal["coco", "voc", "ade20k", "lists"], data: Path, split: str, year: str | None = None) -> Source:
    from trickzoo.finetune import Source

    return Source(layout, data, year, val=split)


def _evaluate(of: Evaluation, source: Source, part: Literal["val", "train"] = "val") -> None:
    for name, side in (("--short", of.short), ("--long", of.long)):
        if side is not None and side < 1:
            raise BadOption(f"{name} must be 1 or more, not {side}")
    from trickzoo import evidence
    from trickzoo.finetune import TASKS
    from trickzoo.training.job import Machine
    from trickzoo.weights.load import task_of

    evidence.check_apart({"--out": of.out, "--per-class": of.per_class, "--predictions": of.predictions})
    for path in filter(None, (of.out, of.per_class)):
        evidence.check_writable(path)
    task = task_of(of.model)
    if task not in TASKS[source.layout]:
        raise BadOption(
            f"{of.model} is for {task}, and {source.layout} has annotations for {' and '.join(TASKS[source.layout])}; "
            f"name a file that trickzoo-finetune wrote for {' or '.join(TASKS[source.layout])}"
        )
    machine = Machine(out=Path(), workers=of.workers, use_cpu=of.device == "cpu")
    accelerator = machine.accelerator(of.precision)
    start = time.perf_counter()
    found = (_boxes if task == "detection" else _masks)(of, source, part, machine, accelerator)
    seconds = time.perf_counter() - start
    if accelerator.is_main_process:
        _show(found)
        if of.per_class is not None:
            evidence.write_csv(of.per_class, found.header, found.rows)
        if of.out is not None:
            run = {
                "precision": of.precision,
                "device": str(accelerator.device),
                "processes": accelerator.num_processes,
                "wall_seconds": round(seconds, 2),
            }
            what = {"what": f"{task} evaluation", "model": found.recipe.model, "weights": str(of.model)}
            evidence.write_json(of.out, {**what, **found.content, **run, **evidence.environment()})
    accelerator.end_training()


@dataclass(frozen=True)
class _Found:
    """What an evaluation gave.

    Attributes:
        content: what the result file has of model, data and figures.
        figures: what is printed, by their names, in percent.
        header, rows: the table of classes.
    """

    recipe: DetectionRecipe | SegmentationRecipe
    content: dict[str, Any]
    figures: dict[str, float | None]
    header: Sequence[str]
    rows: Sequence[Sequence[Any]]


def _boxes(of: Evaluation, source: Source, part: Literal["val", "train"], machine: Machine, accelerator: Accelerator) -> _Found:
    import numpy as np

    from trickzoo import evidence
    from trickzoo.cli.common import progress_bar
    from trickzoo.data.annotated_transforms import FitAndFlip
    from trickzoo.detection import evaluate
    from trickzoo.detection import task as detector
    from trickzoo.detection.metrics import coco_results
    from trickzoo.finetune import open_boxes

    if of.predictions is not None:
        evidence.check_writable(of.predictions)
    model = detector.load(of.model, short=of.short, long=of.long)
    recipe, weights, chief = model.recipe, model.backbone.body.weights, accelerator.is_main_process
    assert recipe is not None
    transform = FitAndFlip(recipe.short, recipe.long)
    opened = open_boxes(source, part)
    data = _in_the_models_order(opened, model.classes)
    content = {**_of_model(weights, short=recipe.short, long=recipe.long), "data": _of_data(opened, weights, opened.faults.notes)}
    if chief:
        say(f"{of.model}: {recipe.model} by {recipe.name}, short side {recipe.short}, long side at most {recipe.long}")
        _tell(content["data"])
    with progress_bar("", len(data), chief, accelerator.num_processes) as tick:
        net = model.to(accelerator.device)
        found = evaluate.detect(net, data, transform, accelerator, workers=machine.decoders, progress=tick)
    if chief and of.predictions is not None:
        evidence.write_json(of.predictions, coco_results(data, found.found))
    summary = found.summary()
    columns = ("VOC AP50 11-point", "VOC AP50 all-point", "COCO AP")
    counts = np.bincount(data.objects.labels[data.objects.plain], minlength=len(data.classes) + 1)[1:].tolist()
    rows = [(name, n, *(summary["per_class"][name][column] for column in columns)) for name, n in zip(data.classes, counts, strict=True)]
    figures = {f"{kind.upper()} {name}": value for kind in ("voc", "coco") for name, value in summary[kind].items()}
    return _Found(recipe, {**content, **summary}, figures, ("class", "objects", *columns), rows)


def _masks(of: Evaluation, source: Source, part: Literal["val", "train"], machine: Machine, accelerator: Accelerator) -> _Found:
    from trickzoo.cli.common import progress_bar
    from trickzoo.data.annotated_transforms import Scale
    from trickzoo.data.transforms import Normalisation
    from trickzoo.finetune import open_masks
    from trickzoo.segmentation import evaluate
    from trickzoo.segmentation import task as segmenter

    if of.long is not None:
        raise BadOption(f"--long is for detectors; {of.model} is for segmentation, and --short alone says its images' size")
    model = segmenter.load(of.model, short=of.short)
    recipe, weights, chief = model.recipe, model.backbone.weights, accelerator.is_main_process
    assert recipe is not None
    data = open_masks(source, part)
    _check_classes(data, model.classes, ordered=True)
    content = {**_of_model(weights, short=recipe.short), "data": _of_data(data, weights), "n": len(data)}
    with (
        _masks_in(of.predictions, data, chief) as write,
        progress_bar("", len(data), chief, accelerator.num_processes) as tick,
    ):
        if chief:
            size = f"short side {recipe.short}" if recipe.short else "images in the files' sizes"
            say(f"{of.model}: {recipe.model} by {recipe.name}, {size}")
            _tell(content["data"])

        def keep(index: int, classes: Tensor) -> None:
            write(index, classes)
            tick(1)

        net, normalise = model.to(accelerator.device), Normalisation.of(model.backbone)
        transform = Scale(recipe.short)
        found = evaluate.segment(net, data, transform, normalise, accelerator, workers=machine.decoders, keep=keep)
    summary = found.summary()
    rows = [(name, n, summary["per_class"][name]) for name, n in zip(data.classes, found.counts.sum(1).tolist(), strict=True)]
    figures = {"mean IoU": summary["miou"], "pixel accuracy": summary["pixel_accuracy"]}
    return _Found(recipe, {**content, **summary}, figures, ("class", "pixels", "IoU"), rows)


# ---------------------------------------------------------------------------------------------------------------------
# the classes of the file and of the set


def _in_the_models_order(data: DetectionSet, known: Sequence[str]) -> DetectionSet:
    """The set with the model's labels: its classes are the same, perhaps in another order. Raises BadData if they are not."""
    import numpy as np

    if data.classes == tuple(known):
        return data
    _check_classes(data, known)
    label_of = np.array([0, *(known.index(name) + 1 for name in data.classes)])
    objects = replace(data.objects, labels=label_of[data.objects.labels])
    ids = tuple(data.class_ids[data.classes.index(name)] for name in known)
    return replace(data, classes=tuple(known), class_ids=ids, objects=objects)


def _check_classes(data: DetectionSet | SegmentationSet, known: Sequence[str], *, ordered: bool = False) -> None:
    """Raise BadData with the first difference between the classes of a set and a model's; `ordered` if their order counts too."""
    remedy = "; take a set of the classes that it was trained on"
    for name in data.classes:
        if name not in known:
            raise BadData(f'{data.root} has the class "{name}", which the model does not know{nearest(name, known) or remedy}')
    for name in known:
        if name not in data.classes:
            raise BadData(f'{data.root} has no class "{name}", which the model knows{nearest(name, data.classes) or remedy}')
    for number, (theirs, own) in enumerate(zip(data.classes, known, strict=True)):
        if ordered and theirs != own:
            raise BadData(f'{data.root} has "{theirs}" as class {number}, the model "{own}"; renumber the masks')


# ---------------------------------------------------------------------------------------------------------------------
# what comes out


def _of_model(weights: LoadedWeights | None, **sides: int | None) -> dict[str, Any]:
    assert weights is not None
    return {"weights_sha256": weights.digest(), "training": weights.training, **sides}


def _of_data(data: DetectionSet | SegmentationSet, weights: LoadedWeights | None, notes: Sequence[str] = ()) -> dict[str, Any]:
    """What the result says of the images; its notes are for the user, too."""
    seen = weights is not None and data.digest == (weights.training or {}).get("data_digest")
    return {
        "path": str(data.root),
        "layout": data.layout,
        "images": len(data),
        "classes": len(data.classes),
        "digest": data.digest,
        "notes": [*notes, *(["the model was trained on these very images: the figures say little of others"] if seen else [])],
    }


def _tell(data: dict[str, Any]) -> None:
    say(f"  {data['images']:,} images of {data['classes']} classes ({data['layout']})")
    for note in data["notes"]:
        say(f"  {note}")


def _show(found: _Found) -> None:
    width = max(map(len, found.figures))
    for name, value in found.figures.items():
        say(f"  {name:<{width}} {_percent(value):>7} %")
    say()
    table(found.header, ((name, f"{n:,}", *map(_percent, figures)) for name, n, *figures in found.rows), left=("class",))


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


@contextlib.contextmanager
def _masks_in(folder: Path | None, data: SegmentationSet, chief: bool) -> Iterator[Callable[[int, Tensor], None]]:
    """What writes a mask, in the numbers of the set's files. The folder has its name once the block has ended well on all processes."""
    if folder is None:
        yield lambda index, classes: None
        return
    from accelerate.utils import broadcast_object_list
    from PIL import Image

    from trickzoo.drawing import palette

    folder = folder.resolve()
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise BadOption(f"{folder} {'holds files already' if folder.is_dir() else 'is a file'}; name a new folder")
    names, colours = mask_names(data), palette(data.classes, first=data.first)
    token = [secrets.token_hex(4)]
    broadcast_object_list(token)  # the processes write into one folder
    staged = folder.with_name(f".{folder.name}.{token[0]}")

    def write(index: int, classes: Tensor) -> None:
        image = Image.fromarray((classes + data.first).byte().cpu().numpy())
        image.putpalette(colours)
        path = staged / names[index]
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)

    try:
        staged.mkdir(parents=True, exist_ok=True)
        yield write
        if chief:  # all have written: the confusion matrix was gathered
            if folder.exists():
                folder.rmdir()
            os.replace(staged, folder)
    except OSError as error:
        raise BadOption(f"{folder} cannot be written ({error.strerror or error})") from None
    finally:
        if chief:
            shutil.rmtree(staged, ignore_errors=True)


def mask_names(data: SegmentationSet) -> list[str]:
    """Where the mask of each image goes: by the image's name alone, or its whole path where two images share a name."""
    paths = [PurePosixPath(image) for image, _ in data.pairs]
    names = [f"{path.stem}.png" for path in paths]
    return names if len(set(names)) == len(names) else [f"{path}.png" for path in paths]
