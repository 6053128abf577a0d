"""`trickzoo.export`: weight files that could not be opened again, or would compute something else, are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.utils import prune
from torch.nn.utils.parametrizations import weight_norm

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


@pytest.mark.parametrize(("part", "value"), [("activation", torch.nn.SiLU()), ("epsilon", 0.1), ("dilation", (2, 2))])
def test_a_network_whose_file_would_compute_something_else_is_not_exported(part: str, value: Any, tmp_path: Path) -> None:
    """The tensors would fit, so that the opened file would compute something else without a word."""
    model = trickzoo.create("resnet18_d", num_classes=3).eval()
    if part == "activation":
        model.stem.relu1 = value
    elif part == "epsilon":
        model.stages[0][0].bn1.eps = value
    else:
        conv = model.stages[0][0].conv1
        conv.dilation, conv.padding = value, value
    with pytest.raises(BadOption, match="this resnet18_d computes something else than the one"):
        trickzoo.export(model, tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mobilenet_v1_025", {"activation": "relu6", "output_stride": 8, "dtype": torch.bfloat16}),
        ("resnet50_d", {"output_stride": 16, "in_chans": 5, "num_classes": 0}),
        ("inception_v3", {"aux_head": True}),
    ],
)
def test_a_network_in_training_mode_and_in_mixed_precision_is_exported(name: str, options: Any, tmp_path: Path) -> None:
    model = trickzoo.create(name, **{"num_classes": 3} | options)
    model.head.drop_rate = 0.5
    model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    model.forward = torch.autocast("cpu", torch.bfloat16)(model.forward)  # as accelerate wraps it
    with torch.autocast("cpu", torch.bfloat16):
        trickzoo.export(model, tmp_path / "x.safetensors")
    assert model.training
    loaded = trickzoo.create(tmp_path / "x.safetensors", in_chans=None, dtype=options.get("dtype"))
    assert all(map(torch.equal, loaded.state_dict().values(), model.state_dict().values()))


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


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_network_whose_training_diverged_is_exported(value: float, tmp_path: Path) -> None:
    """What such a network computes tells nothing about its layers."""
    model = trickzoo.create("mobilenet_v1_025", num_classes=3)
    with torch.no_grad():
        next(model.parameters()).fill_(value)
    trickzoo.export(model, tmp_path / "x.safetensors")
    assert (tmp_path / "x.safetensors").is_file()


@pytest.mark.parametrize("hook", ["register_forward_hook", "register_forward_pre_hook"])
def test_a_network_with_a_hook_that_changes_its_logits_is_not_exported(hook: str, tmp_path: Path) -> None:
    model = trickzoo.create("mobilenet_v1_025.tz_imagenette128")
    getattr(model, hook)(lambda *args: 3 * args[-1] if isinstance(args[-1], torch.Tensor) else (args[-1][0] / 255,))
    with pytest.raises(BadOption, match=r"this mobilenet_v1_025 computes something else than the one .* as with a hook"):
        trickzoo.export(model, tmp_path / "x.safetensors")
    assert not (tmp_path / "x.safetensors").exists()


def test_a_network_with_a_hook_that_changes_nothing_is_exported_without_its_compiled_call(tmp_path: Path) -> None:
    model = trickzoo.create("mobilenet_v1_025", num_classes=3)
    seen: list[torch.Size] = []
    compiled: list[Any] = []
    model.register_forward_hook(lambda module, args, output: seen.append(output.shape))
    model.compile(backend=lambda graph, inputs: compiled.append(graph) or graph)  # torch would call it in the first call of the network
    trickzoo.export(model, tmp_path / "x.safetensors")
    assert seen == [(1, 3)] and not compiled


@pytest.mark.parametrize("computed", [lambda conv: prune.l1_unstructured(conv, "weight", 0.3), weight_norm])
def test_computed_weights_are_refused_with_what_makes_them_parameters(computed: Callable[[torch.nn.Module], Any], tmp_path: Path) -> None:
    model = trickzoo.create("mobilenet_v1_025", num_classes=3)
    computed(model.stem.conv)
    remedy = r"torch.nn.utils.prune.remove, remove_weight_norm or parametrize.remove_parametrizations makes computed weights parameters"
    with pytest.raises(BadOption, match=rf"stem.conv.weight is not as in the mobilenet_v1_025 .*; {remedy}"):
        trickzoo.export(model, tmp_path / "x.safetensors")
    assert not any(tmp_path.iterdir())


def test_a_network_that_is_spread_over_processes_is_refused(tmp_path: Path) -> None:
    model = trickzoo.create("mobilenet_v1_025", num_classes=3)
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
        for call in (lambda: trickzoo.export(model, tmp_path / "x.safetensors"), lambda: trickzoo.deploy(model, backend="eager")):
            with pytest.raises(BadOption, match=r"stem.conv.weight of this mobilenet_v1_025 is spread over processes; load torch.*"):
                call()
    finally:
        distributed.destroy_process_group()
    assert not any(tmp_path.iterdir())
