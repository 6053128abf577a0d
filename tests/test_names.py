"""Names of models and weights as users type them, and names of tensors in each layout."""

from __future__ import annotations

import functools
import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import trickzoo
from tests import gluoncv
from tests.backbones import PLAIN
from tests.checkpoints import SMALL, complaint, network, same, saved, state
from trickzoo import moved, registry
from trickzoo.errors import BadCheckpoint, BadOption, NoWeights, TrickzooError, UnknownName
from trickzoo.gluoncv import import_gluoncv
from trickzoo.weights import convert, named, store

# ---------------------------------------------------------------------------------------------------------------------
# of models and weights

NAMES: list[tuple[type[TrickzooError], str, dict[str, Any], str]] = [
    (UnknownName, "resnet50d", {}, 'no model "resnet50d"; did you mean resnet50_d, resnet50, '),
    (UnknownName, "vgg", {}, 'no model "vgg"; there are resnet18, '),
    (UnknownName, "vgg.tv_in1k", {}, 'no weight "vgg.tv_in1k"'),
    (UnknownName, "resnet50.a1_in1k", {}, 'no weight "resnet50.a1_in1k"; did you mean resnet50_b.a1_in1k?'),
    (UnknownName, "resnet50_d", {"pretrained": "glon_in1k"}, 'no weight "resnet50_d.glon_in1k"; did you mean resnet50_d.gluon_in1k'),
    (UnknownName, "resnet50_d.glon_in1k", {}, 'no weight "resnet50_d.glon_in1k"; did you mean resnet50_d.gluon_in1k'),
    (
        NoWeights,
        "resnet152",
        {"pretrained": True},
        "no weights are published for resnet152; resnet152_b, resnet152_c, resnet152_d, resnet152_s",
    ),
    (NoWeights, "resnet34_c", {"weights": "gluon_in1k"}, "no weights are published for resnet34_c; resnet34, resnet34_d have them"),
    (
        NoWeights,
        "mobilenet_v1_050",
        {"pretrained": True},
        "no weights are published for mobilenet_v1_050; mobilenet_v1_100, mobilenet_v1_100h",
    ),
    (
        NoWeights,
        "resnet50",
        {"pretrained": True},
        "resnet50 has no default weight; name one of its own: resnet50.msra_in1k; resnet50_b, resnet50_c, ",
    ),
    (NoWeights, SMALL, {"pretrained": True}, f"{SMALL} has no default weight; name one of its own: {SMALL}.tz_imagenette128; "),
    (BadOption, "resnet18", {"pretrained": True, "weights": "a1_in1k"}, "give either pretrained or weights, not both"),
    (BadOption, "resnet18", {"pretrained": "a1_in1k", "weights": "a1_in1k"}, "give either pretrained or weights, not both"),
    (BadOption, "resnet18", {"weights": True}, "resnet18: weights is a tag or a file; pretrained=True loads the default weight"),
    (BadOption, "resnet18", {"weights": {"fc.bias": 0}}, "resnet18: weights is a tag or a file; load_state_dict takes tensors"),
    (BadOption, "resnet18.a1_in1k", {"pretrained": "a2_in1k"}, "resnet18.a1_in1k already names a weight; to load a2_in1k, create resnet18"),
    (BadOption, "resnet18.a1_in1k", {"weights": "x.pth"}, "resnet18.a1_in1k already names a weight; to load x.pth, create resnet18"),
]


@pytest.mark.parametrize(("kind", "name", "options", "words"), NAMES)
def test_unknown_names_and_wrong_options(kind: type[TrickzooError], name: str, options: dict[str, Any], words: str) -> None:
    assert complaint(kind, name, **options).startswith(words)


@pytest.mark.parametrize(
    ("name", "options", "chosen"),
    [
        ("resnet18", {"pretrained": True}, "resnet18.gluon_in1k"),
        ("resnet18_b", {"pretrained": True}, "resnet18.gluon_in1k"),
        ("resnet18", {"pretrained": "tv_in1k"}, "resnet18.tv_in1k"),
        ("resnet18", {"weights": "tv_in1k"}, "resnet18.tv_in1k"),
        ("resnet18", {"weights": "resnet18.tv_in1k"}, "resnet18.tv_in1k"),
        ("resnet18.tv_in1k", {}, "resnet18.tv_in1k"),
        ("resnet18_b.tv_in1k", {"pretrained": True}, "resnet18.tv_in1k"),
        ("resnet18.tv_in1k", {"pretrained": "tv_in1k"}, "resnet18.tv_in1k"),
    ],
)
def test_every_way_to_name_a_weight(name: str, options: dict[str, Any], chosen: str, tmp_path: Path, monkeypatch: Any) -> None:
    file = saved(state("resnet18", "timm"), tmp_path / "weights.safetensors")
    monkeypatch.setattr(store, "fetch", lambda record: store.WeightFile(record.name, file, "0" * 64, "a test"))
    model = trickzoo.create(name, **options)
    assert model.name == "resnet18"
    assert (model.weights.name, model.weights.classes, model.weights.sha256) == (chosen, "imagenet1k", "0" * 64)
    assert same(model, network("resnet18"))


def test_a_weight_of_another_network_is_refused_by_name() -> None:
    with pytest.raises(BadOption, match=r"resnet50_d.a1_in1k is a weight of resnet50_d, not of resnet50_b; create resnet50_d"):
        trickzoo.create("resnet50_b", weights="resnet50_d.a1_in1k")
    with pytest.raises(UnknownName, match=r"did you mean resnet50_d\.ra2_in1k"):
        trickzoo.create("resnet50d.ra2_in1k")


def test_a_folder_named_like_a_tag_does_not_hide_the_weight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gluon_in1k").mkdir()
    monkeypatch.chdir(tmp_path)
    assert not named.is_file("gluon_in1k")
    assert named.is_file("folder/gluon_in1k")
    assert named.is_file("x.pth")


def test_listing_imports_no_torch() -> None:
    code = """
import sys, trickzoo
assert "resnet50_d" in trickzoo.list_models("resnet50*")
assert "resnet50_d.gluon_in1k" in trickzoo.list_weights("resnet50_d")
assert trickzoo.list_models(pretrained=True)
assert trickzoo.describe("resnet50_d").default.tag == "gluon_in1k"
assert trickzoo.describe("resnet50_d.a1_in1k").weights[0].licence
heavy = {"torch", "torchvision", "timm", "numpy"} & set(sys.modules)
assert not heavy, heavy
trickzoo.create
assert "torch" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_description_that_is_changed_leaves_the_networks_as_they_are() -> None:
    for name in ("resnet18_d", "resnet18_d.ra2_in1k"):
        trickzoo.describe(name).architecture.options["depth"] = 50  # type: ignore[index]
    assert trickzoo.describe("resnet18_d").architecture.options == {"depth": 18, "letter": "d"}


def test_functions_of_timm_are_answered_by_those_here() -> None:
    for theirs, ours in (("create_model", "create"), ("list_pretrained", "list_weights"), ("resolve_model_data_config", "eval_transform")):
        with pytest.raises(AttributeError, match=f"has no attribute '{theirs}'; trickzoo.{ours} takes its place"):
            getattr(trickzoo, theirs)
        assert ours in trickzoo.__all__
    with pytest.raises(AttributeError, match=r'has no attribute \'resnet50_d\'; trickzoo.create\("resnet50_d"\) creates this network'):
        trickzoo.resnet50_d  # noqa: B018
    with pytest.raises(AttributeError, match=r"trickzoo\.detection\.faster_rcnn takes its place"):
        trickzoo.fasterrcnn_resnet50_fpn  # noqa: B018


# ---------------------------------------------------------------------------------------------------------------------
# of tensors

PLACES = [(a.name, layout) for a in registry.ARCHITECTURES.values() for layout in ("trickzoo", *convert.layouts(a))]


@functools.cache
def our_keys(name: str) -> list[str]:
    options = {"aux_head": True} if name == "inception_v3" else {}
    return list(trickzoo.create(name, device="meta", **options).state_dict())


@settings(deadline=None, derandomize=True, max_examples=50)
@given(st.data())
def test_key_maps_are_bijections(data: st.DataObject) -> None:
    """Any selection of keys, in any order, is mapped to distinct names, which are those of the complete map."""
    name, layout = data.draw(st.sampled_from(PLACES))
    architecture, keys = registry.find(name), our_keys(name)
    whole = convert.key_map(architecture, layout, keys)
    assert sorted(whole.values()) == sorted(keys)
    some = data.draw(st.lists(st.sampled_from(keys), unique=True, max_size=20))
    assert list(convert.key_map(architecture, layout, some).values()) == some
    assert convert.key_map(architecture, layout, some).items() <= whole.items()
    for other in registry.ARCHITECTURES.values() if layout != "trickzoo" else ():
        assert other is architecture or layout in convert.layouts(other) or convert.detected_map(other, whole, our_keys(other.name)) is None


@pytest.mark.parametrize(("name", "layout"), PLACES)
def test_layout_is_detected(name: str, layout: str) -> None:
    """Timm and torchvision use the same names for every network that both have."""
    architecture, keys = registry.find(name), our_keys(name)
    theirs = convert.key_map(architecture, layout, keys)
    assert convert.detected_map(architecture, theirs, keys) == convert.key_map(architecture, layout, keys)


def test_layout_that_does_not_exist() -> None:
    with pytest.raises(BadOption, match=r"resnet50 has its stride in the first 1x1; .*: name resnet50_b"):
        convert.key_map(registry.find("resnet50"), "timm", our_keys("resnet50"))
    with pytest.raises(BadOption, match="resnet50_d does not exist in torchvision; name one of its layouts, trickzoo, timm"):
        convert.key_map(registry.find("resnet50_d"), "torchvision", our_keys("resnet50_d"))


def test_a_family_without_the_names_of_other_libraries(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A row in the registry and a file in `models/` are enough, for the network itself and for the messages of all others."""
    monkeypatch.setitem(registry.ARCHITECTURES, "plain", PLAIN)
    model = trickzoo.create("plain", num_classes=5).eval()
    trickzoo.export(model, tmp_path / "own.safetensors")
    torch.save(model.state_dict(), tmp_path / "bare.pth")
    torch.save({"strange": torch.zeros(1)}, tmp_path / "strange.pth")
    x = torch.randn(1, 3, 40, 40)
    for again in (trickzoo.create(tmp_path / "own.safetensors"), trickzoo.create("plain", weights=tmp_path / "bare.pth").eval()):
        assert torch.equal(again(x), model(x))
    for layout in ("timm", "torchvision", "openmmlab", "mmcv"):
        with pytest.raises(BadOption, match=f"plain does not exist in {layout}; name one of its layouts, trickzoo$"):
            trickzoo.export(model, tmp_path / f"{layout}.pth", layout=layout)
    with pytest.raises(BadOption, match=r"plain does not exist in timm$"):
        trickzoo.to_timm(model)
    for name in ("plain", "resnet18"):
        with pytest.raises(BadCheckpoint, match=f"does not fit {name}: missing .*; unexpected strange$"):
            trickzoo.create(name, weights=tmp_path / "strange.pth")
    with pytest.raises(BadCheckpoint, match=r"does not fit resnet18: .*Its tensors are those of plain: create that"):
        trickzoo.create("resnet18", weights=tmp_path / "bare.pth")
    with pytest.raises(BadCheckpoint, match="trickzoo does not have this network; the nearest is "):
        trickzoo.from_timm(timm.create_model("mobilenetv2_050"))
    gluoncv.save(nn.Sequential(nn.Linear(3, 5)), tmp_path / "net.params")
    with pytest.raises(BadCheckpoint, match="is not a classifier of GluonCV that trickzoo has; the nearest is "):
        import_gluoncv(tmp_path / "net.params", tmp_path / "net.safetensors")


def test_different_networks_have_different_keys() -> None:
    """A state dict without a header is never taken for that of another network. Activations have no tensors, so they are not compared."""
    shapes = {}
    for name in trickzoo.list_models():
        state = trickzoo.create(name, device="meta").state_dict()
        shapes[name] = frozenset((key, tensor.shape) for key, tensor in state.items())
    assert len(set(shapes.values())) == len(shapes)


@pytest.mark.parametrize("former", [name for name, homes in moved.MOVED.items() if homes])
def test_former_names_of_modules_still_import(former: str) -> None:
    sys.modules.pop(former, None)
    with pytest.warns(DeprecationWarning, match=f"{former} is now {' and '.join(moved.MOVED[former])}"):
        module = importlib.import_module(former)
    for home in map(importlib.import_module, moved.MOVED[former]):
        for name, value in vars(home).items():
            assert name.startswith("_") or getattr(module, name).__class__ is value.__class__


def test_a_former_module_has_the_objects_of_the_new_one() -> None:
    sys.modules.pop("trickzoo.data.coco", None)
    with pytest.warns(DeprecationWarning, match="trickzoo.data.coco is now trickzoo.data.readers.coco"):
        from trickzoo.data.coco import open_coco  # type: ignore[import-not-found]
    from trickzoo.data.readers.coco import open_coco as now

    assert open_coco is now
    with pytest.raises(ImportError, match="cannot import name 'nothing'"):
        from trickzoo.data.coco import nothing  # noqa: F401


@pytest.mark.parametrize("pretrained", [1, np.bool_(True)])
def test_every_true_value_of_weights_loads_the_default(pretrained: Any) -> None:
    """As in timm, and not for random parameters."""
    assert named.resolve("resnet50_d", pretrained=pretrained) == named.resolve("resnet50_d", pretrained=True)
    assert named.resolve("resnet50_d", pretrained=np.bool_(False))[1] is None  # type: ignore[arg-type]
