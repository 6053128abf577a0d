"""Files of `trickzoo export`: ONNX, and OpenVINO's graph with its weights."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
import openvino
from onnx import TensorProto, helper

from tests.fuzz.check import Target
from tests.fuzz.inputs import damaged, texts
from trickzoo.deployment.description import Description
from trickzoo.deployment.opened import open_exported
from trickzoo.deployment.openvino_file import METADATA
from trickzoo.weights.record import Preprocessing

CLASSES = ("cat", "dog", "owl")
DESCRIPTION = Description(
    trickzoo="0.1.0",
    task="classification",
    model="resnet18",
    weights="a.safetensors",
    sha256="0" * 64,
    licence="unknown",
    input="float",
    input_in_words="images",
    output_in_words="logits",
    classes=CLASSES,
    class_names=CLASSES,
    preprocessing=Preprocessing(size=8),
)


def onnx_file() -> bytes:
    """A classifier of three classes: the means of a convolution's channels."""
    weights = onnx.numpy_helper.from_array(np.ones((3, 3, 3, 3), np.float32), "w")
    nodes = [helper.make_node("Conv", ["images", "w"], ["x"]), helper.make_node("ReduceMean", ["x"], ["logits"], axes=[2, 3], keepdims=0)]
    shapes = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("images", ["n", 3, 8, 8]), ("logits", ["n", 3]))
    ]
    graph = helper.make_graph(nodes, "g", shapes[:1], shapes[1:], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, DESCRIPTION.texts())
    return model.SerializeToString()


def openvino_files() -> tuple[bytes, bytes]:
    """The same classifier as graph and weights."""
    model = openvino.Core().read_model(onnx_file())
    for key, value in DESCRIPTION.texts().items():
        model.set_rt_info(value, [METADATA, key])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.xml")
        openvino.save_model(model, path, compress_to_fp16=False)
        return path.read_bytes(), path.with_suffix(".bin").read_bytes()


def run(path: Path) -> None:
    """Run a file on a batch of two images, as `trickzoo predict` does on one."""
    open_exported(path).run(np.zeros((2, 3, 8, 8), np.float32))


def onnx_network(content: bytes, folder: Path) -> None:
    """An ONNX file."""
    (folder / "a.onnx").write_bytes(content)
    run(folder / "a.onnx")


def openvino_graph(content: bytes, folder: Path) -> None:
    """A graph of OpenVINO, beside whole weights."""
    (folder / "a.xml").write_bytes(content)
    run(folder / "a.xml")


def openvino_weights(content: bytes, folder: Path) -> None:
    """The weights of an OpenVINO file, beside a whole graph."""
    (folder / "a.bin").write_bytes(content)
    run(folder / "a.xml")


def prepare_openvino(folder: Path) -> None:
    graph, weights = openvino_files()
    (folder / "a.xml").write_bytes(graph)
    (folder / "a.bin").write_bytes(weights)


_GRAPH, _WEIGHTS = openvino_files()
XML_WORDS = ("<layer", "</layer>", "<edge", "<port", "4294967295", "-1", "offset=", "size=", "Convolution", "Constant", "&#0;", "nan")
TARGETS = (
    Target("onnx", damaged([onnx_file()]), onnx_network, onnx_file),
    Target("openvino graph", texts(_GRAPH.decode(), words=XML_WORDS), openvino_graph, lambda: _GRAPH, prepare_openvino),
    Target("openvino weights", damaged([_WEIGHTS]), openvino_weights, lambda: _WEIGHTS, prepare_openvino),
)
