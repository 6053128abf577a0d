"""ONNX files compute what the network computes, at every batch size, and contain nothing about the machine that wrote them."""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from tests.checkpoints import randomise_norms
from trickzoo.deployment.onnx_file import to_onnx
from trickzoo.errors import BadOption


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 7)
    )
    randomise_norms(network)
    return network.eval()


@pytest.fixture(scope="module")
def file(network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "file.onnx"
    example = (torch.rand(2, 3, 32, 32),)
    to_onnx(network, example, path, inputs=["image"], outputs=["logits"], dynamic=[{0: "batch"}], metadata={"classes": "é"})
    return path


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_the_file_computes_what_the_network_computes(network: nn.Module, file: Path, batch: int) -> None:
    images = torch.randn(batch, 3, 32, 32)
    with torch.no_grad():
        expected = network(images)
    (found,) = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]).run(["logits"], {"image": images.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), expected, atol=1e-4, rtol=1e-4)


def test_the_file_names_its_axes_and_holds_metadata_and_no_source_lines(file: Path) -> None:
    model = onnx.load(file)
    (image,), (logits,) = model.graph.input, model.graph.output
    assert [dim.dim_param or dim.dim_value for dim in image.type.tensor_type.shape.dim] == ["batch", 3, 32, 32]
    assert [dim.dim_param or dim.dim_value for dim in logits.type.tensor_type.shape.dim] == ["batch", 7]
    assert {each.key: each.value for each in model.metadata_props} == {"classes": "é"}
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    content = file.read_bytes()
    assert str(Path(torch.__file__).parent).encode() not in content and b"forward" not in content


@pytest.mark.parametrize("missing", ["onnx", "onnxscript"])
def test_without_the_extra_one_line_names_it(missing: str, network: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(BadOption, match=rf"file.onnx needs the package {missing}, .*; pip install 'trickzoo\[onnx\]'"):
        to_onnx(network, (torch.rand(2, 3, 32, 32),), tmp_path / "file.onnx", inputs=["image"], outputs=["logits"], dynamic=[{}])
    assert not list(tmp_path.iterdir())
