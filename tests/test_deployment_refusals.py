"""What `trickzoo.deploy` refuses: arguments, networks, and engines that are not installed or cannot take a network."""

from __future__ import annotations

import copy
import importlib.util
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import trickzoo
from trickzoo.backbone import Backbone
from trickzoo.deployment.forms import Unavailable
from trickzoo.errors import BadOption


@pytest.fixture(scope="module")
def model() -> Backbone:
    return trickzoo.create("mobilenet_v1_025.tz_imagenette128")


def test_inductor_needs_a_compiler(model: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(Unavailable, match=r"inductor needs a C\+\+ compiler, and there is no no-such-compiler"):
        trickzoo.deploy(model, "inductor")


@pytest.mark.parametrize(
    ("backend", "missing", "extra"),
    [("onnxruntime", "onnxruntime", "onnx"), ("onnxruntime", "onnxscript", "onnx"), ("openvino", "openvino", "openvino")],
)
def test_an_engine_without_its_package(backend: str, missing: str, extra: str, model: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr("trickzoo.deployment.forms.find_spec", lambda name: None if name == missing else found(name))
    with pytest.raises(Unavailable, match=rf"{backend} needs the package {missing}; pip install 'trickzoo\[{extra}\]'"):
        trickzoo.deploy(model, backend)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "onnx"}, 'deploy: backend must be "auto", "eager", "onnxruntime", "openvino" or "inductor", not "onnx"'),
        ({"precision": "fp16"}, 'deploy: precision must be "fp32", "bf16" or "int8", not "fp16"'),
        ({"threads": 0}, "batch_size and threads must be 1 or more"),
        ({"batch_size": 0}, "batch_size and threads must be 1 or more"),
        ({"images": []}, "images is empty"),
        ({"images": "photos"}, r'images must be paths or a tensor, not one path; pass sorted\(Path\("photos"\).iterdir\(\)\) for a folder'),
        ({"images": Path("photos")}, "images must be paths or a tensor, not one path"),
        ({"images": torch.zeros(3, 64, 64)}, "images must be N×3×H×W float32, not 3×64×64"),
        ({"images": torch.zeros(2, 3, 64, 0)}, "images must be N×3×H×W float32, not 2×3×64×0"),
        ({"images": torch.zeros(0, 3, 64, 64)}, "images is empty"),
        ({"images": torch.zeros(2, 3, 64, 64, device="meta")}, "images must be N×3×H×W float32 on the CPU, not on meta"),
        ({"images": np.zeros((2, 3, 64, 64), np.float32)}, "images must be paths, a tensor or several tensors, and one is ndarray"),
        ({"images": ["a.png", torch.zeros(1, 3, 64, 64)][::-1]}, "images must be paths, a tensor or several tensors, and one is Tensor"),
        ({"threads": "2"}, "batch_size and threads must be 1 or more, not 1 and '2'"),
        ({"batch_size": 2.5}, "batch_size and threads must be 1 or more, not 2.5 and None"),
        ({"tolerance": float("nan")}, "tolerance must be a number, not nan"),
        ({"preprocessing": {"size": 64}}, "preprocessing must be a trickzoo.weights.record.Preprocessing, not dict"),
        (
            {"images": torch.full((2, 3, 64, 64), 255.0), "precision": "int8"},
            r"images have values up to 255, and images that are normalised for mobilenet_v1_025 have values up to 2.64; prepare them as in",
        ),
    ],
)
def test_wrong_arguments(options: dict[str, Any], message: str, model: Backbone) -> None:
    with pytest.raises(BadOption, match=message):
        trickzoo.deploy(model, **options)


def test_wrong_networks(model: Backbone) -> None:
    with pytest.raises(BadOption, match=r"not FasterRCNN; `trickzoo export`"):
        trickzoo.deploy(trickzoo.detection.faster_rcnn("mobilenet_v1_025", num_classes=2))
    with pytest.raises(BadOption, match=r"not of float16 on cpu; call model.float\(\)"):
        trickzoo.deploy(copy.deepcopy(model).half())
    with pytest.raises(BadOption, match="for a segmenter, images must be a tensor"):
        trickzoo.deploy(trickzoo.segmentation.fcn("mobilenet_v1_025"), images=["a.png"])


@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated")
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_a_quantised_network_is_refused(model: Backbone) -> None:
    quantised = torch.ao.quantization.quantize_dynamic(model, {nn.Linear})
    for backend in ("auto", "eager", "onnxruntime"):
        with pytest.raises(BadOption, match=r"and head.fc is quantised; pass the network as it was before, with precision=.int8"):
            trickzoo.deploy(quantised, backend)


def no_operator(*args: Any, **options: Any) -> None:
    raise RuntimeError("no ONNX function found\nfor one layer")


def test_an_engine_that_cannot_take_the_network_is_left_out(model: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trickzoo.deployment.forms.to_onnx", no_operator)
    monkeypatch.setattr("trickzoo.deployment.deploy.SECONDS", 0.0)
    monkeypatch.setenv("CXX", "no-such-compiler")
    message = 'onnxruntime cannot take mobilenet_v1_025 (no ONNX function found); use backend="eager"'
    with pytest.raises(Unavailable, match=re.escape(message)):
        trickzoo.deploy(model, "onnxruntime")
    deployed = trickzoo.deploy(model)
    assert set(deployed.rates) == {"eager"} and deployed.skipped["onnxruntime"] == message


class DecidingHead(nn.Module):
    """A head that decides by the values of its images."""

    def forward(self, features: Tensor) -> Tensor:
        means = features.mean((2, 3))
        return 2 * means if means.sum() > 0 else means


def test_a_network_that_cannot_be_traced_is_refused(model: Backbone) -> None:
    network = copy.deepcopy(model)
    network.head = DecidingHead()  # type: ignore[assignment]
    with pytest.raises(BadOption, match=r"^torch.fx cannot trace mobilenet_v1_025 \(.*control flow\); its code must not depend on the val"):
        trickzoo.deploy(network, "eager")
