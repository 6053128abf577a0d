"""What `trickzoo export` and `trickzoo predict` refuse: options, missing packages, damaged and foreign files, and some networks."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from torch import nn

from tests.commands import Call
from tests.deployment import CLASSES, PREPROCESSING, Tiny, random_detector, random_segmenter, tiny
from trickzoo.deployment import export
from trickzoo.deployment.opened import _check_outputs
from trickzoo.errors import BadCheckpoint, BadOption, NotWritten

SMALL = "mobilenet_v1_025.tz_imagenette128"


@pytest.fixture(scope="module")
def place(exported_files: Path) -> Path:
    return exported_files


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (("a.txt",), "a.txt: the name must end in .safetensors or .pth for weights, or in .onnx, .pt2 or .xml for the whole network"),
        (("a.onnx", "--format", "openvino"), "a.onnx: --format openvino is for files that end in .xml; name such a file"),
        (("a.onnx", "--format", "weights"), "--format weights is for files that end in .safetensors or .pth"),
        (("a.onnx", "--layout", "timm"), "--layout is not for .onnx files; leave it out"),
        (("a.pt2", "--dtype", "float16"), "--dtype is not for .pt2 files; leave it out"),
        (("a.pth", "--input", "image"), "--input is not for .pth files; leave it out"),
        (("there.onnx",), "there.onnx exists; name another file, or overwrite it with --overwrite"),
        (("there.xml",), "there.bin exists; name another file, or overwrite it with --overwrite"),
        (("a.onnx", "--crop", 2), "--crop must be above 0 and at most 1, not 2"),
        (("a.onnx", "--size", 100_000), "this preprocessing is not possible: size must be at most 4,096 pixels"),
        (("a.onnx", "--classes", "imagenet1k"), "has 10 outputs, but the class list has 1,000 classes"),
    ],
    ids=str,
)
def test_export_refuses_in_one_line(tokens: tuple[Any, ...], message: str, call: Call, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    for name in ("there.onnx", "there.bin"):
        (folder / name).write_text("mine")
    status, _, err = call("export", folder / tokens[0], "--model", SMALL, *tokens[1:])
    assert (status, len(err.splitlines())) == (2, 1) and message in err
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"there.onnx": "mine", "there.bin": "mine"}


@pytest.mark.parametrize(
    ("name", "missing", "extra"), [("a.onnx", "onnxscript", "onnx"), ("a.xml", "openvino", "openvino"), ("a.xml", "onnx", "openvino")]
)
def test_export_without_an_extra_names_it(
    name: str, missing: str, extra: str, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    status, _, err = call("export", tmp_path / "out" / name, "--model", SMALL)
    assert (status, len(err.splitlines())) == (2, 1) and not (tmp_path / "out").exists()
    assert f"{name} needs the package {missing}, which is not installed; pip install 'trickzoo[{extra}]'" in err


@pytest.mark.parametrize(("name", "missing", "extra"), [("image.onnx", "onnxruntime", "onnx"), ("float.xml", "openvino", "openvino")])
def test_predict_without_an_extra_names_it(
    name: str, missing: str, extra: str, call: Call, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    status, _, err = call("predict", place / "a.jpg", "--model", place / name)
    assert (status, len(err.splitlines())) == (2, 1)
    assert f"{name} needs the package {missing}, which is not installed; pip install 'trickzoo[{extra}]'" in err


def test_a_write_that_fails_leaves_nothing(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import openvino

    def refuse(model: Any, path: Path, **options: Any) -> None:
        Path(path).write_text("half")
        raise RuntimeError("Error while\nwriting")

    monkeypatch.setattr(openvino, "save_model", refuse)
    with pytest.raises(NotWritten, match=r"tiny.xml cannot be written \(Error while writing\)"):
        export.write(tiny("float")[1], tmp_path / "tiny.xml")
    assert not list(tmp_path.iterdir())


def test_options_that_a_file_decides_are_refused(call: Call, place: Path) -> None:
    for tokens, message in (
        (("--size", 64), "--size is decided in"),
        (("--precision", "bf16"), "image.onnx has its own precision; leave it out"),
        (("--weights", "x"), "--weights is decided in"),
        (("--task", "detection"), "image.onnx is for classification, not for detection"),
        (("--threshold", 0.5), "--threshold is for detection, and"),
        (("--workers", 2), "--workers is for networks on the CPU that are not exported files, which use all cores themselves"),
    ):
        status, _, err = call("predict", place / "a.jpg", "--model", place / "image.onnx", *tokens)
        assert (status, len(err.splitlines())) == (2, 1) and message in err
    status, _, err = call("predict", place / "a.jpg", "--weights", place / "image.onnx")
    assert status == 2 and "is a whole network and not only weights; name it with --model" in err


def foreign(path: Path, **texts: str) -> Path:
    """An ONNX file that returns its input, with other metadata."""
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.UINT8, None)],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.UINT8, None)],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    onnx.helper.set_model_props(model, texts)
    onnx.save(model, path)
    return path


def outside(path: Path) -> Path:
    """An ONNX file whose weights are in another file of the working folder."""
    weights = onnx.numpy_helper.from_array(np.ones(4, np.uint8), "w")
    weights.ClearField("raw_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", "secret"), ("offset", "0"), ("length", "4")):
        weights.external_data.add(key=key, value=value)
    shape = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.UINT8, [4])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["w"], ["y"])], "g", [], [shape], [weights])
    path.write_bytes(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9).SerializeToString())
    return path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.onnx", "cannot be read (No such file or directory)"),
        ("folder.onnx", "cannot be read (Is a directory)"),
        ("empty.onnx", "cannot be run ("),
        ("cut.onnx", "cannot be run ("),
        ("cut.xml", "cannot be run ("),
        ("disguised.xml", "is not an OpenVINO file"),
        ("alone.xml", "alone.bin cannot be read (No such file or directory)"),
        ("light.xml", "cannot be run ("),
        ("stranger.onnx", "its metadata are not those of `trickzoo export` (Object missing required field `trickzoo`)"),
        ("deep.onnx", "its metadata are not those of `trickzoo export` (classes: "),
        ("liar.onnx", "does not return what its metadata state"),
        ("outside.onnx", "cannot be run ("),
    ],
)
def test_damaged_and_foreign_files_end_in_one_line(
    name: str, message: str, call: Call, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, weights, whole = ((place / each).read_bytes() for each in ("float.xml", "float.bin", "image.onnx"))
    (tmp_path / "folder.onnx").mkdir()
    contents = {"empty.onnx": b"", "cut.onnx": whole[: len(whole) // 2], "cut.xml": graph[: len(graph) // 2], "cut.bin": weights}
    contents |= {"disguised.xml": whole, "disguised.bin": b"", "alone.xml": graph, "light.xml": graph, "light.bin": weights[:8]}
    for each, content in contents.items():
        (tmp_path / each).write_bytes(content)
    foreign(tmp_path / "stranger.onnx")
    foreign(tmp_path / "deep.onnx", classes="[" * 100_000)
    foreign(tmp_path / "liar.onnx", **tiny("image")[1].description.texts())
    outside(tmp_path / "outside.onnx")
    (tmp_path / "secret").write_bytes(b"mine")
    monkeypatch.chdir(tmp_path)
    status, _, err = call("predict", place / "a.jpg", "--model", name)
    assert (status, len(err.splitlines())) == (2, 1), err
    assert message in err and "Traceback" not in err


def test_networks_that_no_file_can_describe_are_refused() -> None:
    model = Tiny(channels=4)
    with pytest.raises(BadOption, match="tiny has 4 input channels, and images have 1 or 3"):
        export.classifier(model, PREPROCESSING, CLASSES)
    model = Tiny()
    model.weights = None
    with pytest.raises(BadOption, match="tiny has no weights; export a network with weights"):
        export.classifier(model, PREPROCESSING, CLASSES)
    with pytest.raises(BadOption, match=re.escape("a.bin: the name of an exported network must end in .onnx, .pt2, .xml")):
        export.write(tiny("float")[1], Path("a.bin"))


def test_networks_with_weights_that_are_not_finite_are_not_exported(call: Call, place: Path, tmp_path: Path) -> None:
    model, _ = tiny("float")
    nn.init.constant_(model.stem[1].bias, float("inf"))  # type: ignore[index]
    detector, segmenter = random_detector("c4"), random_segmenter(64)
    for module in (detector.roi_heads.box_predictor.cls_score, segmenter.head[-1]):  # type: ignore[index]
        nn.init.constant_(module.bias, float("nan"))
    graphs = (export.classifier(model, PREPROCESSING, CLASSES), export.detector(detector), export.segmenter(segmenter))
    for graph, name in zip(graphs, ("tiny", "boxes", "masks"), strict=True):
        for path in (tmp_path / "x.onnx", tmp_path / "x.pt2", tmp_path / "x.xml"):
            with pytest.raises(BadCheckpoint, match=rf"^{name}.safetensors has weights that are not finite; the weights are damaged$"):
                export.write(graph, path)
    with pytest.raises(BadCheckpoint, match=r"^tiny gives logits that are not finite; the weights are damaged$"):
        export.classifier(model, PREPROCESSING, CLASSES, calibration=[place / "a.jpg"])
    assert list(tmp_path.iterdir()) == []


def test_an_exported_classifier_whose_logits_are_not_finite() -> None:
    _, graph = tiny("float")
    with pytest.raises(BadCheckpoint, match=r"^a.onnx gives logits that are not finite; the weights are damaged$"):
        _check_outputs(Path("a.onnx"), graph.description, np.zeros((1, 3, 32, 32)), [np.full((1, 3), np.nan, np.float32)])


def test_the_command_names_a_remedy_if_8_bits_change_too_much(
    call: Call, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trickzoo.deployment.deploy.TOLERANCE", {"int8": -1.0})
    status, _, err = call("export", tmp_path / "x.onnx", "--model", SMALL, "--precision", "int8", "--calibration", place)
    assert status == 2 and err.endswith("are accepted; calibrate with more images, or use another precision\n"), err
