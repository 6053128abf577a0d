"""The command `trickzoo predict`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from trickzoo import result_files
from trickzoo.cli import predict_classes, predict_objects, predict_rows
from trickzoo.cli.networks import Preparation, check_exported
from trickzoo.cli.options import Backend, Classes, Device, Flag, Json, Precision, within
from trickzoo.cli.printing import say, say_json
from trickzoo.data.listing import images_at
from trickzoo.errors import BadData, BadOption, shortened
from trickzoo.files import expanded
from trickzoo.recipes.ranges import Count, CountOrZero, Probability
from trickzoo.weights import named
from trickzoo.wording import count, verb

if TYPE_CHECKING:
    from trickzoo.deployment.opened import Exported
    from trickzoo.loading import Network

TOP, THRESHOLD, PICTURES = 5, 0.5, Path("predictions")
MANY = 32
"""The number of images from which on worker processes save time, although they must start."""


def predict(
    *images: Annotated[Path, Parameter(help="Images, folders of images, or patterns.")],
    model: Annotated[
        str | None,
        Parameter(
            help="A model, one of its weights, the folder or weight file of a training run, or an .onnx or .xml file of `trickzoo export`."
        ),
    ] = None,
    weights: Annotated[
        str | None, Parameter(help="Tag, file or hf-hub: reference of the weights of --model; by default its default weight.")
    ] = None,
    task: Annotated[
        Literal["classification", "detection", "segmentation"] | None,
        Parameter(help="Refuse a file that is for another task."),
    ] = None,
    classes: Classes = None,
    preparation: Preparation = Preparation(),
    top: Annotated[int | None, within(Count), Parameter(help=f"How many classes to print, {TOP} by default.")] = None,
    out: Annotated[
        Path | None, Parameter(help=f"Folder for the pictures with boxes or masks, {PICTURES}/ by default. Subfolders of IMAGES are kept.")
    ] = None,
    threshold: Annotated[
        float | None, within(Probability), Parameter(help=f"Lowest score of the boxes that are shown, {THRESHOLD} by default.")
    ] = None,
    masks: Annotated[
        Path | None,
        Parameter(help="Write the class of every pixel to PNG masks in this folder, as numbers of the classes from 0, with a palette."),
    ] = None,
    overwrite: Annotated[bool, Flag, Parameter(help="Replace existing pictures and masks.")] = False,
    skip_corrupt: Annotated[
        bool, Flag, Parameter(help="Leave out and name images that cannot be read. Every image is decoded once before the start.")
    ] = False,
    csv: Annotated[Path | None, Parameter(help="Write a row for each class, box or class of a mask to this CSV file.")] = None,
    coco: Annotated[Path | None, Parameter(help="Write the boxes to this JSON file, in COCO's format, with their scores.")] = None,
    workers: Annotated[
        int | None,
        within(CountOrZero),
        Parameter(
            help="Number of processes, each of which runs the network on one core of the CPU; by default one per core for "
            f"{MANY} images or more, and otherwise 0: this process alone, on all cores."
        ),
    ] = None,
    device: Device = "auto",
    precision: Precision = "fp32",
    backend: Backend = "eager",
    json: Json = False,
) -> None:
    """Print the most likely classes of each image, or draw and print the boxes or masks that a fine-tuned or exported network predicts.

    IMAGES may be files, folders, which are searched with their subfolders, and patterns such as "*.jpg".
    Images are turned upright by their EXIF orientation, and the output says so. Boxes are x0 y0 x1 y1 in pixels of the upright image at its
    full size. For masks, each class's share of the pixels is printed.
    """
    if not images:
        raise BadOption("name one image or more")
    listed = [(file, image) for image in images for file in images_at(image)]
    files = tuple(file for file, _ in listed)
    result_files.check_outputs({"--csv": csv, "--coco": coco}, (*files, model, weights, classes))
    if model is not None and weights is None and not named.is_exported(model) and named.is_file(model):
        model, weights = None, model
    prepared = {"--classes": classes, **preparation.options}
    exported = None
    if model is not None and named.is_exported(model):
        check_exported(model, {"--weights": weights, **prepared}, device=device, backend=backend, precision=precision)
        exported = _exported(model, task)
    kind, path = (exported.description.task, Path(str(model))) if exported else _kind(weights, task)
    given: dict[str, Any] = {
        "--out": out,
        "--masks": masks,
        "--overwrite": overwrite or None,
        "--threshold": threshold,
        "--coco": coco,
        "--top": top,
    }
    given |= {**prepared, "--model": None if exported else model, "--backend": None if backend == "eager" else backend}
    _check_fitting(kind, str(path or model or "this"), given)
    drawn = {} if kind == "classification" else predict_objects.outputs(listed, out or PICTURES, masks, overwrite)
    name = _checked_name(model, path, weights) if kind == "classification" and not exported else ""
    from trickzoo.data.images import read, size_of  # only here, because it imports NumPy and Pillow

    files = _readable(files, skip_corrupt, look=size_of if kind == "classification" and not skip_corrupt else read)
    _warn_of_dark(files)
    if kind == "classification":
        network = _run(exported) if exported else _classifier(name, weights, classes, preparation, device)
        items: Sequence[Any] = files
        predicted: Callable[..., dict[str, Any]] = functools.partial(predict_classes.row, top=top or TOP)
    else:
        items = [(file, *drawn[file]) for file in files]
        network = _run(exported) if exported else _detector_or_segmenter(Path(str(path)), device)
        if kind == "detection":
            shown = THRESHOLD if threshold is None else threshold
            predicted = functools.partial(predict_objects.boxes, threshold=shown)
        else:
            predicted = predict_objects.mask
    processes = _workers(workers, len(items), network)
    if backend != "eager":
        network = _deployed(network, backend, precision, files, processes)
        if not json:
            say(str(network.deployed))
    elif precision != "fp32":
        network = _in_precision(network, precision)
    found = predict_rows.each(functools.partial(predicted, network=network), items, processes)
    _report(found, kind, network.classes, csv=csv, coco=coco, json=json)


FOR = {
    **dict.fromkeys(("--out", "--overwrite"), ("detection", "segmentation")),
    **dict.fromkeys(("--threshold", "--coco"), ("detection",)),
    "--masks": ("segmentation",),
    "--backend": ("classification", "segmentation"),
    **dict.fromkeys(("--model", "--classes", "--size", "--crop", "--interpolation", "--top"), ("classification",)),
}
"""The tasks that an option is for."""


def _check_fitting(kind: str, what: str, given: dict[str, Any]) -> None:
    """Raise BadOption for an option that is given and is not for this task."""
    for name, value in given.items():
        if value is not None and kind not in FOR[name]:
            raise BadOption(f"{name} is for {' and '.join(FOR[name])}, and {what} is for {kind}; leave it out")


def _readable(files: Sequence[Path], skip_corrupt: bool, look: Callable[[Path], object]) -> tuple[Path, ...]:
    """Return the images that `look` can read. It is called before torch is imported, the network loaded and the first picture drawn.

    Raises BadData for the first image that it cannot read; with `skip_corrupt`, these are left out and named, and it is raised if none is
    left.
    """
    from trickzoo.data.contents import SKIP, in_threads
    from trickzoo.data.listing import warn

    def fault(file: Path) -> str | None:
        try:
            look(file)
        except BadData as error:
            return str(error)
        return None

    if not skip_corrupt:
        if first := next(filter(None, map(fault, files)), None):
            raise BadData(f"{first}; {SKIP}")
        return tuple(files)
    faults = {file: found for file, found in zip(files, in_threads(fault, files), strict=True) if found}
    if len(faults) == len(set(files)):
        raise BadData(f"no image can be read: {next(iter(faults.values()))}")
    if faults:
        warn(f"{count(len(faults), 'image')} cannot be read and {verb(len(faults), 'is')} left out: {shortened(list(map(str, faults)))}")
    return tuple(file for file in files if file not in faults)


def _warn_of_dark(images: Sequence[Path]) -> None:
    """Warn of the first image that `images.depth_notes` finds too dark, and count the others."""
    from trickzoo.data.images import content, depth_notes, is_of_16_bits
    from trickzoo.data.listing import warn

    possible = (image for image in images if is_of_16_bits(image))
    notes = [note for image in possible for note in depth_notes(functools.partial(content, image), str(image))]
    if notes:
        others = f"; {count(len(notes) - 1, 'other image')} {verb(len(notes) - 1, 'is')} as dark" if len(notes) > 1 else ""
        warn(f"{notes[0]}{others}")


def _workers(asked: int | None, images: int, network: Network) -> int:
    """Return the number of worker processes. Raises BadOption if some are asked for, and the network is not a module on the CPU."""
    from torch import nn

    from trickzoo.training.processes import default_workers

    if isinstance(network.network, nn.Module) and next(network.network.parameters()).device.type == "cpu":
        return (default_workers() if images >= MANY else 0) if asked is None else asked
    if asked:
        raise BadOption("--workers is for networks on the CPU that are not exported files, which use all cores themselves; leave it out")
    return 0


def _in_precision(network: Network, precision: Precision) -> Network:
    """Return a network that computes in a precision. Raises BadOption for fp16 on the CPU."""
    from trickzoo.tricks.low_precision import mixed_precision

    mixed_precision(precision, accelerator=next(network.network.parameters()).device.type != "cpu")
    return replace(network, precision=precision)


def _deployed(network: Network, backend: str, precision: Precision, images: Sequence[Path], workers: int) -> Network:
    """Return a network that computes its logits in the engine that `--backend` names. It is checked on the first images."""
    from trickzoo.cli import common
    from trickzoo.data.images import read

    deployed = common.deployed(
        network.network,
        backend,
        precision,
        device=next(network.network.parameters()).device,
        images=lambda: [network.transform(read(image).upright().image)[None] for image in images[: common.CHECKED]],
        threads=1 if workers else None,  # each worker has one core
    )
    return replace(network, deployed=deployed)


def _run(exported: Exported) -> Network:
    from trickzoo import loading

    return loading.of_exported(exported)


def _classifier(name: str, weights: str | None, classes: str | None, preparation: Preparation, device: Device) -> Network:
    from trickzoo import loading
    from trickzoo.cli import common
    from trickzoo.training.device import find

    model = common.loaded(name, weights).to(find(device))
    return loading.of_classifier(model, common.classes_of(model, classes), common.preprocessing_of(model, preparation))


def _detector_or_segmenter(path: Path, device: Device) -> Network:
    from trickzoo import loading
    from trickzoo.training.device import find

    return loading.load(path, find(device))


def _report(found: Iterable[dict[str, Any]], kind: str, names: Sequence[str], *, csv: Path | None, coco: Path | None, json: bool) -> None:
    """Print the results, each as soon as it is computed unless they are printed as JSON, and write them to the files."""
    tell = {
        "classification": predict_classes.say_classes,
        "detection": predict_objects.say_boxes,
        "segmentation": predict_objects.say_shares,
    }
    rows = []
    for row in found:
        rows.append(row)
        if not json:
            tell[kind](row)
    if kind == "detection" and not json and not any(row["boxes"] for row in rows):
        say("no box has a score of --threshold or more; a lower --threshold shows more boxes")
    if csv is not None:
        predict_rows.write_csv(csv, kind, rows)
    if coco is not None:
        predict_rows.write_coco(coco, names, rows)
    if json:
        say_json(rows)


def _exported(model: str, task: str | None) -> Exported:
    """Open the exported file that `--model` names. Raises BadOption if it is for another task than `task`."""
    from trickzoo.deployment.opened import open_exported

    exported = open_exported(expanded(model))
    if task is not None and task != exported.description.task:
        raise BadOption(f"{model} is for {exported.description.task}, not for {task}; leave --task out")
    return exported


def _kind(weights: str | None, task: str | None) -> tuple[str, Path | None]:
    """Return the task, and the path of the weights if they are a file. Raises BadOption if the file is for another task than `task`."""
    from trickzoo.weights.header import task_of

    if weights and named.is_exported(weights):
        raise BadOption(f"{weights} is a whole network and not only weights; name it with --model")
    path = named.existing(weights) if weights and named.is_file(weights) else None
    kind = task_of(path) if path else "classification"
    if task is not None and task != kind:
        if path is None:
            raise BadOption(f"--task {task} needs --weights FILE, a model.safetensors that `trickzoo finetune` wrote for {task}")
        raise BadOption(f"{path} is for {kind}, not for {task}; name a file that was trained for {task}, or leave --task out")
    return kind, path


def _checked_name(model: str | None, path: Path | None, weights: str | None) -> str:
    """Return the name of the classifier, from `model` or from the file's header.

    Raises BadOption if neither is given, and UnknownName if there is no such model or it has no such weights.
    """
    from trickzoo.weights.header import model_of

    if model is None and path is None:
        raise BadOption("name a model with --model, or with --weights a file that trickzoo wrote")
    name = model if model is not None else model_of(Path(str(path)))
    named.check(name, weights)
    return name
