"""The command `trickzoo export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from trickzoo.cli.networks import Preparation
from trickzoo.cli.options import MOST_CALIBRATION, Classes, Overwrite, calibration_images, check_calibration
from trickzoo.cli.printing import say
from trickzoo.errors import BadOption
from trickzoo.weights import named
from trickzoo.weights.record import Layout

if TYPE_CHECKING:
    from trickzoo.deployment.export import Graph

FORMATS = {".safetensors": "weights", ".pth": "weights", **named.EXPORTED}


def export(
    out: Path,
    /,
    *,
    model: Annotated[str, Parameter(help="A model, one of its weights, or the folder or weight file of a training run, for any task.")],
    weights: Annotated[str | None, Parameter(help="Tag, file or hf-hub: reference; by default the model's default weight.")] = None,
    format: Annotated[
        Literal["weights", "onnx", "torch-export", "openvino"] | None,
        Parameter(help="Format of OUT; by default by its suffix, .safetensors or .pth, .onnx, .pt2, or .xml."),
    ] = None,
    input: Annotated[
        Literal["uint8", "float", "normalised", "image"] | None,
        Parameter(
            help="What an exported classifier takes. uint8 (default): cropped images, from 0 to 255; float: cropped images, from 0 to 1; "
            "normalised: cropped and normalised images; image: whole uint8 images of any size. The file contains the other steps."
        ),
    ] = None,
    preparation: Preparation = Preparation(),
    classes: Classes = None,
    precision: Annotated[
        Literal["fp32", "int8"] | None,
        Parameter(help="Arithmetic of an exported classifier; fp32 (default), or int8 in ONNX and OpenVINO, which needs --calibration."),
    ] = None,
    calibration: Annotated[
        Path | None,
        Parameter(help=f"Folder with typical images, for --precision int8; at most {MOST_CALIBRATION} are used."),
    ] = None,
    layout: Annotated[Layout | None, Parameter(help="Naming scheme of the tensors in a weight file; by default that of trickzoo.")] = None,
    dtype: Annotated[
        Literal["float32", "float16", "bfloat16"] | None,
        Parameter(help="Data type of the tensors in a weight file; float16 halves its size."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a model's weights, or the whole network for other programs, to OUT.

    Weights are written to .safetensors or .pth, with the tensor names of trickzoo, timm or torchvision.

    The whole network is written as ONNX, as an archive of torch.export, or as OpenVINO's .xml with a .bin beside it. These files do
    not need trickzoo, and contain the class names, the preprocessing, the licence and the digest of the weights. A classifier takes
    batches of any size. A detector or a segmenter takes one whole image, and returns its boxes, or the class of each of its pixels.
    `trickzoo predict --model OUT` runs .onnx and .xml.
    """
    chosen = _format(out, format)
    graphs = {"--input": input, **preparation.options, "--classes": classes, "--precision": precision, "--calibration": calibration}
    others = {"--layout": layout, "--dtype": dtype} if chosen != "weights" else graphs
    for name, value in others.items():
        if value is not None:
            raise BadOption(f"{name} is not for {out.suffix} files; leave it out")
    check_calibration(precision, calibration)
    if precision == "int8" and chosen == "torch-export":
        raise BadOption(f"{out}: archives of torch.export have no int8; name a file that ends in .onnx or .xml")
    named.check(model, weights)
    if chosen == "weights":
        _weights(out, model, weights, layout or "trickzoo", dtype, overwrite)
    else:
        from trickzoo.deployment.export import check_path, write

        check_path(out, overwrite=overwrite)
        graph = _graph(model, weights, preparation, graphs)
        write(graph, out, overwrite=overwrite)
        if graph.note:
            say(graph.note)
    say(str(out))


def _format(out: Path, stated: str | None) -> str:
    """Return the format of a file, by its suffix. Raises BadOption if no format has the suffix, or if another one is stated."""
    found = FORMATS.get(out.suffix)
    if stated is not None and stated != found:
        suffixes = " or ".join(suffix for suffix, name in FORMATS.items() if name == stated)
        raise BadOption(f"{out}: --format {stated} is for files that end in {suffixes}; name such a file")
    if found is None:
        raise BadOption(f"{out}: the name must end in .safetensors or .pth for weights, or in .onnx, .pt2 or .xml for the whole network")
    return found


def _weights(out: Path, model: str, weights: str | None, layout: Layout, dtype: str | None, overwrite: bool) -> None:
    import torch  # only now, because it takes seconds

    from trickzoo.cli.common import loaded
    from trickzoo.weights.export import export as write

    write(loaded(model, weights), out, layout=layout, overwrite=overwrite, dtype=getattr(torch, dtype) if dtype else None)


def _graph(model: str, weights: str | None, preparation: Preparation, options: dict[str, Any]) -> Graph:
    """Return the network that `--model` and `--weights` name, ready to be written. Raises BadOption for an option of another task."""
    from trickzoo import detection, segmentation
    from trickzoo.cli.common import classes_of, loaded, preprocessing_of
    from trickzoo.deployment import export
    from trickzoo.files import expanded
    from trickzoo.weights.header import task_of

    path = expanded(model) if named.is_file(model) else None
    task = task_of(path) if path is not None and weights is None else "classification"
    if path is None or task == "classification":
        network = loaded(model, weights)
        return export.classifier(
            network,
            preprocessing_of(network, preparation),
            classes_of(network, options["--classes"]),
            kind=options["--input"] or "uint8",
            calibration=calibration_images(options["--calibration"]),
        )
    for name, value in options.items():
        if value is not None:
            raise BadOption(f"{name} is for classification, and {path} is for {task}; leave it out")
    return export.detector(detection.load(path)) if task == "detection" else export.segmenter(segmentation.load(path))
