"""`trickzoo.export`: weight files that could not be opened again, or would compute something else, are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import trickzoo
from trickzoo.errors import BadOption


@pytest.mark.parametrize(
    ("classes", "layout", "message"),
    [
        (("a", "b"), "trickzoo", "has 3 outputs; name as many classes, each once, not 2"),
        (("a", "b", "a"), "trickzoo", 'has 3 outputs; name as many classes, each once, not 3, with "a" twice'),
        ({"a", "b", "c"}, "trickzoo", "classes are a list of strings, in the order of the outputs"),
        ((1, 2, 3), "trickzoo", "classes are a list of strings, in the order of the outputs"),
        (("a", "b", "c"), "timm", "files in the layout timm hold neither classes nor preprocessing"),
    ],
)
def test_classes_that_do_not_fit_are_not_exported(classes: Any, layout: str, message: str, tmp_path: Path) -> None:
    model = trickzoo.create("mobilenet_v1_025", num_classes=3, activation="relu6")
    with pytest.raises(BadOption, match=message):
        trickzoo.export(model, tmp_path / "x.safetensors", classes=classes, layout=layout)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_a_dilated_network_is_not_exported_to_a_layout_that_does_not_state_its_stride(tmp_path: Path) -> None:
    model = trickzoo.create("resnet18", num_classes=3, output_stride=8)
    with pytest.raises(BadOption, match="this resnet18 has the output stride 8, which files in the layout torchvision do not state"):
        trickzoo.export(model, tmp_path / "x.pth", layout="torchvision")
    trickzoo.export(model.eval(), tmp_path / "x.safetensors")
    x = torch.randn(1, 3, 97, 97)
    assert torch.equal(trickzoo.create(tmp_path / "x.safetensors")(x), model(x))


@pytest.mark.parametrize(
    ("head", "dtype", "message"),
    [
        (None, torch.int8, "dtype must be float16, bfloat16, float32 or float64, not int8"),
        (None, torch.float16, "head.fc.bias has values of 1e.06, which torch.float16 cannot hold; take torch.bfloat16"),
        (torch.nn.Linear(256, 3, bias=False), None, "head.fc.bias is not as in the mobilenet_v1_025 that trickzoo.create builds"),
        (torch.nn.Sequential(torch.nn.Linear(256, 3)), None, "head.fc.weight is not as in the mobilenet_v1_025 that trickzoo.create"),
    ],
)
def test_what_could_not_be_loaded_is_not_exported(head: torch.nn.Module | None, dtype: torch.dtype, message: str, tmp_path: Path) -> None:
    model = trickzoo.create("mobilenet_v1_025", num_classes=3)
    torch.nn.init.constant_(model.head.fc.bias, 1e6)
    trickzoo.export(model, tmp_path / "x.safetensors", dtype=torch.bfloat16)
    before = (tmp_path / "x.safetensors").read_bytes()
    if head is not None:
        model.head.fc = head
    with pytest.raises(BadOption, match=message):
        trickzoo.export(model, tmp_path / "x.safetensors", dtype=dtype, overwrite=True)
    assert (tmp_path / "x.safetensors").read_bytes() == before
