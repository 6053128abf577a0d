"""`trickzoo eval imagenet`: classifiers on ImageNet and on sets with other classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from trickzoo import environment, result_files
from trickzoo.cli import imagenet_printing, options
from trickzoo.cli.imagenet_options import CorruptionOptions, EngineOptions, ImageOptions, NetworkOptions, OutputOptions
from trickzoo.cli.networks import Preparation, check_exported, matching
from trickzoo.cli.printing import hush, say, say_json
from trickzoo.data.corruption_names import Corruption
from trickzoo.data.layouts import FOLDERS_IN_WORDS, HUB_IN_WORDS, check_exists
from trickzoo.errors import BadOption, NoEffect
from trickzoo.files import expanded
from trickzoo.weights import named

if TYPE_CHECKING:
    from accelerate import PartialState

    from trickzoo.backbone import Backbone
    from trickzoo.classification.evaluate import SetPredictions
    from trickzoo.classification.predictions import Predictions
    from trickzoo.classification.result import Result
    from trickzoo.data.imageset import ImageSet
    from trickzoo.deployment.predict import ExportedClassifier
    from trickzoo.pages.page import Section


def imagenet(
    *,
    data: Annotated[
        str, Parameter(help=f"Class folders, a CSV of path and label, validation folder or tar, {FOLDERS_IN_WORDS}, or {HUB_IN_WORDS}.")
    ],
    networks: NetworkOptions,
    output: OutputOptions = OutputOptions(),
    images: ImageOptions = ImageOptions(),
    preparation: Preparation = Preparation(),
    engine: EngineOptions = EngineOptions(),
    corruption: CorruptionOptions = CorruptionOptions(),
) -> None:
    """Evaluate classifiers on ImageNet, or on any images of their classes, as after `trickzoo train`.

    Top-1, top-5, their 95 % intervals and the calibration are printed, with the published accuracy beside them. The preprocessing is the
    one that the weights state, and it is printed. If the set has only some of the model's classes, the accuracy among these classes is
    reported too. With --corruptions, so is the accuracy on corrupted copies of the images. Under `torchrun` or `accelerate launch` each
    process takes a share, and the result is the same.
    """
    hush(output.printing.quiet or output.printing.json)
    corruptions = corruption.parsed()
    if images.labels is not None and images.variant is not None:
        raise BadOption("--labels is for ImageNet's own validation images, and --variant for others; leave one of them out")
    names = matching(networks.model)
    files = {"--out": output.out, "--per-class": output.per_class, "--predictions": output.predictions, "--report": output.report}
    options.check_pictures(output.pictures, output.report)
    _check_several(names, networks.weights, files)
    exported = list(filter(named.is_exported, names))
    for name in exported:
        decided = {"--weights": networks.weights, "--classes": images.classes, **preparation.options}
        check_exported(name, decided, device=engine.device, backend=engine.backend, precision=engine.precision)
    for name in names:
        if name not in exported:
            named.check(name, networks.weights)
    result_files.check_outputs(files, (data, images.split_file, images.classes, images.labels, *names, networks.weights))
    check_exists(data)
    from trickzoo.classification import report, result  # only now, because torch takes seconds to import
    from trickzoo.classification.predictions import write_predictions
    from trickzoo.cli.common import loaded
    from trickzoo.data.imagenet_variants import read_real_labels
    from trickzoo.data.open import open_part
    from trickzoo.training.processes import processes
    from trickzoo.tricks.low_precision import mixed_precision

    of_file = {name: _of_file(name, engine, corruptions) for name in exported}
    real_labels = read_real_labels(None if images.labels == "real" else Path(images.labels)) if images.labels is not None else ()
    opened = open_part(data, images.split, images.split_file, devkit=images.devkit, folder=images.folder)
    state = processes(device="cpu" if exported else engine.device)
    if engine.backend == "eager" and engine.precision != "int8":
        mixed_precision(engine.precision, accelerator=state.device.type != "cpu")
    results = []
    for name in names:
        network = of_file.get(name) or loaded(name, networks.weights)
        if corruptions and network.in_chans == 1:
            raise BadOption(f"--corruptions is for images in RGB, and {name} takes grey images; leave it out")
        predictions, found = _evaluate(network, opened, images, preparation, engine, state, corruptions, real_labels)
        results.append(found)
        if state.is_main_process:
            imagenet_printing.print_result(found)
            if output.per_class is not None:
                result.write_per_class(output.per_class, predictions)
            if output.predictions is not None:
                write_predictions(output.predictions, predictions)
            if output.report is not None:
                shown = report.pictures(predictions, report.image_of(predictions, opened), output.pictures) if output.pictures else []
                _write_report(output.report, predictions, found, shown)
    if state.is_main_process:
        if len(results) > 1:
            imagenet_printing.print_table(results)
        if output.out is not None:
            result.write_results(output.out, results)
        if output.printing.json:
            say_json(result.content(results))
    if state.num_processes > 1:
        state.destroy_process_group()


def _write_report(path: Path, predictions: Predictions, found: Result, shown: Sequence[Section]) -> None:
    """Write the page on an evaluation."""
    import msgspec

    from trickzoo.classification import report
    from trickzoo.files import write_atomically
    from trickzoo.pages.page import page
    from trickzoo.training.report import data_section, provenance_section

    content = {**msgspec.to_builtins(found), **environment.describe(), "num_classes": found.data.classes}
    notes = [
        f"{found.data.path}: {found.data.layout}.",
        *(f"{each.image} is left out: {each.reason}." for each in found.data.corrupt_left_out),
    ]
    sections = [
        *report.sections(predictions),
        *shown,
        *report.corrupted(found.robustness),
        data_section(content, notes),
        provenance_section(content),
    ]
    write_atomically(path, page(f"{found.weights} on {found.data.path}", report.findings(predictions), sections).encode())


def _check_several(names: Sequence[str], weights: str | None, files: dict[str, Path | None]) -> None:
    """Raise BadOption if several models are evaluated with an option that applies to one model only."""
    if len(names) == 1:
        return
    if weights is not None:
        raise BadOption("--weights is for one --model; name weights as MODEL.TAG to evaluate several")
    for option in ("--per-class", "--predictions", "--report"):
        if files[option] is not None:
            raise BadOption(f"{option} is for one --model")


def _of_file(name: str, engine: EngineOptions, corruptions: Sequence[Corruption]) -> ExportedClassifier:
    """Open an exported file. Raises BadOption if it is not of a classifier, or if an option does not fit what it takes."""
    from trickzoo.deployment.opened import open_exported
    from trickzoo.deployment.predict import ExportedClassifier

    file = open_exported(expanded(name))
    task, takes = file.description.task, file.description.input
    if task != "classification":
        raise BadOption(f"{name} is for {task}; evaluate it by the layout of its images, such as `trickzoo eval voc --model {name}`")
    if corruptions and takes == "image":
        raise BadOption(f"--corruptions is for images after their resizing, and {name} takes whole images; leave it out")
    if engine.batch_size is not None and takes == "image":
        raise NoEffect("--batch-size", f"{name} takes whole images, which are given to it one at a time")
    return ExportedClassifier(file)


def _evaluate(
    network: Backbone | ExportedClassifier,
    opened: ImageSet,
    images: ImageOptions,
    preparation: Preparation,
    engine: EngineOptions,
    state: PartialState,
    corruptions: Sequence[Corruption],
    real_labels: Sequence[Sequence[int]],
) -> tuple[SetPredictions, Result]:
    """Run one model over the images, and return its predictions and the result."""
    from msgspec import UNSET

    from trickzoo.backbone import Backbone
    from trickzoo.classification import evaluate, result
    from trickzoo.cli import common
    from trickzoo.data.imagenet_variants import check_variant, real_labels_of
    from trickzoo.data.listing import warn
    from trickzoo.data.selection import seen_exactly, warn_if_seen
    from trickzoo.training.processes import default_workers

    assert network.weights is not None
    if isinstance(network, Backbone):
        file, classes = None, common.classes_of(network, images.classes, opened.order or opened.classes)
        preprocessing = common.preprocessing_of(network, preparation)
    else:
        file, classes, preprocessing = network.file, network.file.description.classes, network.preprocessing
    known, unknown = evaluate.match_classes(opened, classes, skip_unknown=images.skip_unknown)
    warned = warn_if_seen(known.names, network.weights)
    if images.variant is not None:
        check_variant(known, images.variant)
    if real_labels:
        real_labels_of(known.names, real_labels)
    workers = default_workers() if engine.workers is None else engine.workers
    deployed = engine.deployed(network, known, preprocessing, workers, state) if isinstance(network, Backbone) else None
    if state.is_main_process:
        say(f"{network.weights.name}: {preprocessing}")
        if file is not None:
            say(f"  {common.in_words(file)}")
        elif deployed is not None:
            say(f"  {deployed}")
    with common.progress_bar(network.weights.name, len(known.entries), state.is_main_process, state.num_processes) as tick:
        predictions = evaluate.predict(
            network,
            known,
            classes,
            preprocessing,
            state=state,
            batch_size=1 if file is not None and file.description.input == "image" else engine.batch_size,
            workers=workers,
            precision="fp32" if engine.precision == "int8" else engine.precision,
            network=deployed,
            skip_corrupt=images.skip_corrupt,
            corruptions=corruptions,
            progress=tick,
        )
    if not warned and (seen := seen_exactly(predictions.digest, network.weights, known)):
        warn(seen)
    found = result.summarise(
        predictions,
        network,
        known,
        preprocessing,
        unknown=unknown,
        precision=engine.precision if file is None else file.description.precision,
        state=state,
        backend=common.backend_of(file or deployed),
        exported_from=UNSET if file is None else common.exported_from(file),
        corruptions=corruptions,
        real_labels=real_labels,
        variant=images.variant,
    )
    return predictions, found
