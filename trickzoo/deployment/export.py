"""Writes networks to files for other programs, with their preprocessing and a description."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import trickzoo
from trickzoo.backbone import Backbone
from trickzoo.data.classes import describe_class
from trickzoo.deployment.deploy import deploy
from trickzoo.deployment.description import Description, Input
from trickzoo.deployment.engines import INPUT, OUTPUT, OnnxRuntime
from trickzoo.deployment.extras import require
from trickzoo.deployment.networks import Preparation, WholeDetector, WholeSegmenter
from trickzoo.deployment.onnx_file import join, to_onnx
from trickzoo.deployment.openvino_file import to_openvino, weights_of
from trickzoo.deployment.torch_file import to_torch
from trickzoo.detection.model import FasterRCNN
from trickzoo.errors import BadOption
from trickzoo.result_files import check_overwrite
from trickzoo.segmentation.model import Segmenter
from trickzoo.weights.named import EXPORTED
from trickzoo.weights.record import Preprocessing
from trickzoo.weights.tensors import check_finite
from trickzoo.wording import count

PREPARED = "prepared"
"""The name of the output of the preprocessing of a quantised network."""


class Graph(NamedTuple):
    """A network ready to be written.

    Attributes:
        module: the network with its preprocessing inside.
        example: an example of its input.
        inputs: the name of its input.
        outputs: the names of its outputs.
        dynamic: the axes that may have any length.
        description: the metadata.
        quantised: the content of an ONNX file of the network with 8-bit integers. It takes the output of `module`, which is then the
            preprocessing alone. None if the network is in `module`.
        note: a sentence for the user about the network, or an empty text.
    """

    module: nn.Module
    example: tuple[Tensor, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    dynamic: Sequence[Mapping[int, str]]
    description: Description
    quantised: bytes | None = None
    note: str = ""


def classifier(
    model: Backbone,
    preprocessing: Preprocessing,
    classes: tuple[str, ...],
    *,
    kind: Input = "uint8",
    calibration: Sequence[Path] | None = None,
) -> Graph:
    """Prepare a classifier for `write`.

    Args:
        model: the network, with loaded weights.
        preprocessing: how its images are prepared.
        classes: the names of its classes, in the order of its outputs.
        kind: what the file takes.
        calibration: None for a network of float32. With paths of typical images, the network computes with 8-bit
            integers, and its ranges come from these images.

    Raises BadOption if the network takes neither RGB nor grey images, or has no weights, and DeviationTooLarge if the 8-bit integers change
    more than 5 % of the predictions on the images of the calibration.
    """
    channels, side = model.in_chans, preprocessing.size
    if channels not in (1, 3):
        raise BadOption(f"{model.name} has {channels} input channels, and images have 1 or 3; export it with torch.export yourself")
    content = "RGB" if channels == 3 else "grey"
    cropped = f"(batch, {channels}, {side}, {side}), {content} images, resized and cropped outside"
    words = {
        "uint8": f"uint8 {cropped}; 0 to 255, normalised inside",
        "float": f"float32 {cropped}; 0 to 1, normalised inside",
        "normalised": f"float32 {cropped}, and normalised outside with mean and std of the preprocessing",
        "image": "uint8 (batch, height, width, 3), RGB images of any size; resized, cropped and normalised inside",
    }
    if kind == "image":
        example, dynamic = torch.zeros((2, 300, 400, 3), dtype=torch.uint8), {0: "batch", 1: "height", 2: "width"}
    else:
        example, dynamic = torch.zeros((2, channels, side, side)), {0: "batch"}
        example = example.byte() if kind == "uint8" else example
    description = _described(
        model,
        "classification",
        classes,
        input=kind,
        input_in_words=words[kind],
        output_in_words=f"logits: float32 (batch, {len(classes)}); softmax gives the probabilities of the classes",
        channels=channels,
        preprocessing=preprocessing,
        precision="fp32" if calibration is None else "int8",
    )
    preparation = Preparation(channels, preprocessing, kind).eval()
    if calibration is None:
        return Graph(nn.Sequential(preparation, model).eval(), (example,), (INPUT,), (OUTPUT,), [dynamic], description)
    deployed = deploy(model, "onnxruntime", "int8", images=calibration, preprocessing=preprocessing)
    assert isinstance(deployed.engine, OnnxRuntime)
    note = f"int8: {deployed.disagreement:.2%} of the predictions on {count(len(calibration), 'image')} differ from those in fp32"
    return Graph(preparation, (example,), (INPUT,), (PREPARED,), [dynamic], description, deployed.engine.model, note)


def detector(model: FasterRCNN) -> Graph:
    """Prepare a detector from `detection.load` for `write`. The file takes one image."""
    short, long = model.sides
    description = _described(
        model.trunk,
        "detection",
        model.classes,
        input="image",
        input_in_words=f"uint8 (height, width, 3), one RGB image of any size; resized inside to a short side of {short} and a "
        f"long side of at most {long} pixels",
        output_in_words="boxes: float32 (n, 4), x0 y0 x1 y1 in pixels of the image; scores: float32 (n), descending; "
        "labels: int64 (n), indices of classes from 0",
    )
    return _whole(WholeDetector(model), ("boxes", "scores", "labels"), description)


def segmenter(model: Segmenter) -> Graph:
    """Prepare a segmenter from `segmentation.load` for `write`. The file takes one image."""
    side = f"to a short side of {model.short} pixels" if model.short else "only if it is large"
    description = _described(
        model.trunk,
        "segmentation",
        model.classes,
        input="image",
        input_in_words=f"uint8 (height, width, 3), one RGB image of any size; resized inside {side}",
        output_in_words="pixels: uint8 (height, width), the class of each pixel of the image, an index of classes from 0",
    )
    return _whole(WholeSegmenter(model), ("pixels",), description)


def _whole(module: nn.Module, outputs: tuple[str, ...], description: Description) -> Graph:
    example = torch.zeros((300, 400, 3), dtype=torch.uint8)
    return Graph(module.eval(), (example,), ("image",), outputs, [{0: "height", 1: "width"}], description)


def _described(model: Backbone, task: str, classes: tuple[str, ...], **rest: object) -> Description:
    weights = model.weights
    if weights is None:
        raise BadOption(f"{model.name} has no weights; export a network with weights")
    return Description(
        trickzoo=trickzoo.__version__,
        task=task,  # type: ignore[arg-type]
        model=model.name,
        weights=weights.name if weights.record or weights.revision else weights.path.name,
        sha256=weights.digest(),
        licence=weights.record.licence if weights.record else "unknown",
        classes=classes,
        class_names=tuple(map(describe_class, classes)),
        data_digest=str((weights.training or {}).get("data_digest", "")),
        **rest,  # type: ignore[arg-type]
    )


def check_path(path: Path, *, overwrite: bool) -> None:
    """Raise BadOption if `write` would replace a file without `overwrite`."""
    for file in (path, weights_of(path)) if path.suffix == ".xml" else (path,):
        check_overwrite(file, overwrite)


def write(graph: Graph, path: Path, *, overwrite: bool = False) -> None:
    """Write a network to a file in the format that its suffix names: .onnx, .pt2 or .xml.

    Raises BadOption for another suffix, if a file would be replaced without `overwrite`, or if a package is missing, BadCheckpoint if the
    network has weights that are not finite, and NotWritten if the file cannot be written.
    """
    if path.suffix not in EXPORTED:
        raise BadOption(f"{path}: the name of an exported network must end in {', '.join(EXPORTED)}")
    check_path(path, overwrite=overwrite)
    check_finite(graph.module.state_dict(), graph.description.weights)
    texts = graph.description.texts()
    if path.suffix == ".pt2":
        if graph.quantised is not None:
            raise BadOption(f"{path}: archives of torch.export have no int8; name a file that ends in .onnx or .xml")
        to_torch(graph.module, graph.example, path, dynamic=graph.dynamic, metadata=texts)
    elif path.suffix == ".onnx":
        _to_onnx(graph, path, texts)
    else:
        require(path, "openvino", "onnx", "onnxscript", "openvino")
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder, "model.onnx")
            _to_onnx(graph, made, {})
            to_openvino(made, path, texts)


def _to_onnx(graph: Graph, path: Path, texts: Mapping[str, str]) -> None:
    names: dict[str, Any] = {"inputs": graph.inputs, "outputs": graph.outputs, "dynamic": graph.dynamic}
    if graph.quantised is None:
        to_onnx(graph.module, graph.example, path, **names, metadata=texts)
    else:
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder, "preparation.onnx")
            to_onnx(graph.module, graph.example, made, **names)
            join(made.read_bytes(), graph.quantised, path, metadata=texts)
