"""`trickzoo eval LAYOUT`: detectors and segmenters on annotated images, in a layout of `data.layouts.LAYOUTS`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import msgspec
from cyclopts import Parameter

from trickzoo import environment, result_files
from trickzoo.cli import options
from trickzoo.cli.networks import check_exported
from trickzoo.cli.printing import hush, say, say_json, table
from trickzoo.data.layouts import LAYOUTS
from trickzoo.errors import BadOption, NoEffect
from trickzoo.recipes.ranges import Count
from trickzoo.training.machine import Machine
from trickzoo.weights.named import is_exported
from trickzoo.wording import count

if TYPE_CHECKING:
    from accelerate import Accelerator

    from trickzoo.data.annotated import AnnotatedSet
    from trickzoo.data.location import AnnotatedLocation, Part
    from trickzoo.deployment.deployed import Deployed
    from trickzoo.deployment.opened import Exported
    from trickzoo.training.annotated_evaluation import AnnotatedEvaluation
    from trickzoo.weights.loaded import LoadedWeights

Data = Annotated[Path | None, Parameter(help="Folder of the data set.")]
Split = Annotated[str | None, Parameter(help="Split to evaluate on, val by default; all for images without splits.")]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """The options of every command that evaluates on annotated images."""

    model: Annotated[
        Path,
        Parameter(
            name=("--model", "--weights"),
            help="The folder of a training run by trickzoo finetune, its model.safetensors, a detector or a segmenter that `trickzoo list` "
            "shows, or an .onnx or .xml file of `trickzoo export`.",
        ),
    ]
    out: Annotated[Path | None, Parameter(help="Write the result to this JSON file.")] = None
    per_class: Annotated[Path | None, Parameter(help="Write the metrics of each class to this CSV file.")] = None
    predictions: Annotated[
        Path | None,
        Parameter(help="Boxes: write them to this JSON file, in COCO's results format. Masks: write them to this new folder, as PNG."),
    ] = None
    report: options.Report = None
    pictures: options.Pictures = 0
    short: Annotated[
        int | None, options.within(Count), Parameter(help="Short side of the resized images in pixels; by default that of the training.")
    ] = None
    long: Annotated[
        int | None, options.within(Count), Parameter(help="For detectors: largest long side in pixels; by default that of the training.")
    ] = None
    workers: options.Workers = None
    device: options.Device = "auto"
    precision: options.Precision = "fp32"
    backend: options.Backend = "eager"
    printing: options.PrintingOptions = options.PrintingOptions()


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """Files in place of `--data` that name the images to evaluate on, and a list that divides them."""

    annotations: options.Annotations = None
    folder: Annotated[
        Path | None, Parameter(name="--images", help="With --annotations: the folder of the images, by default that of the file.")
    ] = None
    split_file: options.SplitFile = None


def __getattr__(name: str) -> Callable[..., None]:
    """Return the command of a layout, under the layout's name."""
    if name not in LAYOUTS:
        raise AttributeError(name)

    def of_years(
        *,
        data: Data = None,
        split: Split = None,
        year: options.Year = None,
        sources: SourceOptions = SourceOptions(),
        evaluation: EvaluationOptions,
    ) -> None:
        """Evaluate a detector or a segmenter on annotated images.

        Boxes: VOC's AP50 in both forms, and COCO's twelve metrics. Masks: mean IoU and pixel accuracy.
        """
        from trickzoo.data.location import AnnotatedLocation

        if (data is None) == (sources.annotations is None):
            raise BadOption("name the folder of images with --data" if data is None else "--data and --annotations exclude each other")
        if sources.annotations is not None and sources.split_file is None and split is not None:
            raise NoEffect("--split", "--annotations names the file of one split")
        split = split or "val"
        location = AnnotatedLocation(
            name, data or Path(), year, train=split, val=split, annotations=sources.annotations, folder=sources.folder
        )
        _evaluate(evaluation, location, "train" if sources.annotations else "val", sources.split_file)

    def without_years(
        *, data: Data = None, split: Split = None, sources: SourceOptions = SourceOptions(), evaluation: EvaluationOptions
    ) -> None:
        of_years(data=data, split=split, sources=sources, evaluation=evaluation)

    def generated(
        *,
        images: Annotated[int, Parameter(help="Number of images; a training run on n images validates on n / 5.")] = 200,
        split: Annotated[Literal["val", "train"], Parameter(help="Split of the generated images.")] = "val",
        evaluation: EvaluationOptions,
    ) -> None:
        from trickzoo.data.location import AnnotatedLocation

        _evaluate(evaluation, AnnotatedLocation(name, images=images if split == "train" else 5 * images), split)

    generated.__doc__ = without_years.__doc__ = of_years.__doc__
    if LAYOUTS[name].generated:
        return generated
    return of_years if LAYOUTS[name].years else without_years


def _evaluate(evaluation: EvaluationOptions, location: AnnotatedLocation, part: Part = "val", split_file: Path | None = None) -> None:
    hush(evaluation.printing.quiet or evaluation.printing.json)
    sides = {name: side for name, side in (("short", evaluation.short), ("long", evaluation.long)) if side is not None}
    options.check_pictures(evaluation.pictures, evaluation.report)
    machine = Machine(out=Path(), workers=evaluation.workers, device="cpu" if is_exported(str(evaluation.model)) else evaluation.device)
    files = {"--out": evaluation.out, "--per-class": evaluation.per_class, "--report": evaluation.report}
    result_files.check_apart({**files, "--predictions": evaluation.predictions})
    inputs = evaluation.model, location.root, location.annotations, split_file
    result_files.check_outputs(files, inputs)
    file = _open(evaluation)
    task = _checked_task(evaluation.model, file, location.layout)
    if evaluation.backend != "eager" and task != "segmentation":
        raise BadOption(f"--backend is for classification and segmentation, and {evaluation.model} is for {task}; leave it out")
    location.check_exists(task)
    from trickzoo import tasks  # only now, because torch takes seconds to import
    from trickzoo.cli.common import backend_of, progress_bar

    package = tasks.find_annotated_task(task)
    for name in sides.keys() - set(package.SIDES):
        raise BadOption(f"--{name} is not for {task}; {evaluation.model} takes only {' and '.join(f'--{side}' for side in package.SIDES)}")
    if evaluation.predictions is not None:
        package.check_predictions(evaluation.predictions)
        if evaluation.predictions.is_file():
            result_files.check_outputs({"--predictions": evaluation.predictions}, inputs)
    accelerator = machine.accelerator(evaluation.precision)
    chief = accelerator.is_main_process
    start = time.perf_counter()
    evaluated = _of_file(file) if file is not None else _of_training(package.load(evaluation.model, **sides))
    opened = location.open(task, part) if split_file is None else _listed(location, task, split_file)
    data = opened.with_classes(evaluated.classes)
    images = _images(opened, evaluated.weights)
    deployed = _deployed(evaluation, evaluated.network, data, machine.decoders, accelerator)
    engine: dict[str, Any] = {} if deployed is None else {"network": deployed}
    if chief:
        say(f"{evaluation.model}: {evaluated.in_words}")
        _print_images(images)
        if deployed is not None:
            say(f"  {deployed}")
    with progress_bar("", len(data), chief, accelerator.num_processes) as tick:
        found = package.evaluate_set(
            evaluated.network, data, accelerator, workers=machine.decoders, predictions=evaluation.predictions, progress=tick, **engine
        )
    seconds = time.perf_counter() - start
    if chief:
        _print_metrics(found)
        if evaluation.per_class is not None:
            result_files.write_csv(evaluation.per_class, found.header, found.rows)
        content = {
            "what": f"{task} evaluation",
            "model": evaluated.model,
            "weights": str(evaluation.model),
            "weights_sha256": evaluated.weights.digest(),
            **evaluated.content,
            "data": images,
            **found.content,
            "precision": evaluation.precision if file is None else file.description.precision,
            "backend": msgspec.to_builtins(backend_of(file or deployed)),
            "device": str(accelerator.device),
            "processes": accelerator.num_processes,
            "wall_seconds": round(seconds, 2),
            **environment.describe(),
        }
        if evaluation.out is not None:
            result_files.write_json(evaluation.out, content)
        if evaluation.report is not None:
            _write_report(evaluation.report, f"{evaluation.model} on {images['path']}", found, content, evaluation.pictures)
        if evaluation.printing.json:
            say_json(content)
    accelerator.end_training()


class Evaluated(NamedTuple):
    """A network to evaluate.

    Attributes:
        network: what `evaluate_set` of the task takes.
        classes: the names of its classes.
        model: the architecture of its backbone.
        weights: its file.
        in_words: what the network is.
        content: what else the result file states about it.
    """

    network: Any
    classes: tuple[str, ...]
    model: str
    weights: LoadedWeights
    in_words: str
    content: dict[str, Any]


def _of_training(model: Any) -> Evaluated:
    """Return a network that the task's `load` has loaded."""
    recipe, weights = model.recipe, model.trunk.weights
    in_words = f"{recipe.model} by {recipe.name}, {recipe.sides_in_words}"
    return Evaluated(model, model.classes, recipe.model, weights, in_words, {"training": weights.training, **recipe.sides})


def _of_file(file: Exported) -> Evaluated:
    """Return the network of an exported file."""
    from trickzoo import loading
    from trickzoo.cli.common import exported_from, in_words
    from trickzoo.deployment.predict import weights_of

    network, content = loading.of_exported(file), {"exported_from": asdict(exported_from(file))}
    return Evaluated(network.run, network.classes, file.description.model, weights_of(file), in_words(file), content)


def _open(evaluation: EvaluationOptions) -> Exported | None:
    """Open the exported file that `--model` names, or return None if it names none. Raises BadOption for an option that a file decides."""
    path = evaluation.model
    if not is_exported(str(path)):
        return None
    from trickzoo.deployment.opened import open_exported

    for name, value in (("--short", evaluation.short), ("--long", evaluation.long)):
        if value is not None:
            raise BadOption(f"{name}: images are resized inside {path}; leave it out")
    check_exported(str(path), {}, device=evaluation.device, backend=evaluation.backend, precision=evaluation.precision)
    return open_exported(path)


def _deployed(evaluation: EvaluationOptions, model: Any, data: Any, workers: int, accelerator: Accelerator) -> Deployed | None:
    """Deploy a segmenter to the engine that `--backend` names; None for eager. It is checked on the first images of the set."""
    from trickzoo.cli import common
    from trickzoo.segmentation.evaluate import first_inputs

    return common.deployed(
        model,
        evaluation.backend,
        evaluation.precision,
        device=accelerator.device,
        images=lambda: first_inputs(model, data, common.CHECKED) or None,
        processes=accelerator.num_processes,
        threads=1 if workers else None,  # each worker has one core
    )


def _listed(location: AnnotatedLocation, task: str, split_file: Path) -> Any:
    """Open the images that a list assigns to the split that is evaluated."""
    from trickzoo.data.selection import listed

    return listed(location.open_undivided(task), split_file, location.val)


def _write_report(path: Path, title: str, found: AnnotatedEvaluation, content: dict[str, Any], pictures: int) -> None:
    """Write the page on an evaluation."""
    from trickzoo.files import write_atomically
    from trickzoo.pages.page import page
    from trickzoo.training.report import data_section, provenance_section

    findings, sections = found.report(pictures)
    about = data_section({"n": content["n"], "val_digest": content["data"]["digest"]}, content["data"]["notes"])
    write_atomically(path, page(title, findings, [*sections, about, provenance_section(content)]).encode())


def _checked_task(path: Path, file: Exported | None, layout: str) -> str:
    """Return the task of a weight file or an exported file. Raises BadOption if the layout has no annotations for that task."""
    from trickzoo.weights.header import task_of

    task, fitting = file.description.task if file else task_of(path), LAYOUTS[layout].readers
    if task not in fitting:
        named = f"name a file that `trickzoo finetune` wrote for {' or '.join(fitting)}"
        remedy = "`trickzoo eval imagenet` evaluates classifiers, whatever their classes" if task == "classification" else named
        raise BadOption(f"{path} is for {task}, and {layout} has annotations for {' and '.join(fitting)}; {remedy}")
    return task


def _images(data: AnnotatedSet, weights: LoadedWeights) -> dict[str, Any]:
    """Return what the result file states about the images."""
    from trickzoo.data.checks import summary_of
    from trickzoo.data.selection import seen_exactly, seen_in_training

    seen = seen_exactly(data.digest, weights) or seen_in_training(data.names, weights.path)
    summary = summary_of(data)
    return {
        "path": str(data.root),
        "layout": data.layout,
        "images": len(data),
        "classes": len(data.classes),
        "digest": data.digest,
        "summary": summary.content,
        "notes": [*summary.odd, *data.notes, *([seen] if seen else [])],
    }


def _print_images(images: dict[str, Any]) -> None:
    say(f"  {count(images['images'], 'image')} of {count(images['classes'], 'class')} ({images['layout']})")
    for note in images["notes"]:
        say(f"  {note}")


def _print_metrics(found: AnnotatedEvaluation) -> None:
    width = max(map(len, found.metrics))
    for name, value in found.metrics.items():
        say(f"  {name:<{width}} {_percent(value):>7} %")
    say()
    table(found.header, ((name, f"{n:,}", *map(_percent, figures)) for name, n, *figures in found.rows), left=("class",))


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
