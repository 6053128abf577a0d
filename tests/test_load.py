"""Files that `create` loads. Files that it refuses are in test_load_refusals.py."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import pickle
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models import adapt_input_conv
from torch import nn

import trickzoo
from tests import training
from tests.checkpoints import FORMATS, SMALL, complaint, network, same, saved, state
from trickzoo.data.classes import NAMES, class_list
from trickzoo.data.resident import Resident
from trickzoo.errors import BadCheckpoint, BadOption
from trickzoo.models.mobilenet import MobileNetV1
from trickzoo.weights import header as headers
from trickzoo.weights.header import model_of
from trickzoo.weights.loaded import LoadedWeights
from trickzoo.weights.record import LIST_LENGTHS

FILES = [(SMALL, layout, form) for layout in ("trickzoo", "timm") for form in FORMATS]
FILES += [("resnet18", "torchvision", form) for form in ("safetensors", "zip.pth", "legacy.pth")]


@contextlib.contextmanager
def no_pickle() -> Any:
    """Make every function of the standard library that unpickles raise an error."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a pickle is being loaded")

    places = [f"{module}.{name}" for module in ("pickle", "_pickle") for name in ("load", "loads", "Unpickler")]
    with contextlib.ExitStack() as stack:
        for place in [*places, "pickle._load", "pickle._loads", "pickle._Unpickler"]:
            stack.enter_context(mock.patch(place, refuse))
        with pytest.raises(AssertionError):
            pickle.loads(b"N.")
        yield


@pytest.mark.parametrize(("name", "layout", "form"), FILES)
def test_every_format_and_layout_without_a_pickle(name: str, layout: str, form: str, tmp_path: Path) -> None:
    file = tmp_path / (f"weights.{form}" if "." not in form else form)
    FORMATS[form](state(name, layout), file)
    options = {"activation": "relu"} if layout == "timm" else {}
    with no_pickle():
        model = trickzoo.create(name, weights=file, **options)
    assert same(model, network(name))
    assert not model.training
    assert (model.weights.name, model.weights.path, model.weights.not_loaded) == (str(file), file, ())
    with torch.inference_mode():
        x = torch.randn(1, 3, 32, 32)
        torch.testing.assert_close(model(x), network(name)(x))


@pytest.mark.parametrize("num_classes", [None, 3])
def test_tensors_are_placed_as_load_state_dict_places_them(num_classes: int | None, tmp_path: Path) -> None:
    """With another number of classes the classifier is initialised anew, and nothing stays on the meta device."""
    model = trickzoo.create(SMALL, weights=saved(state(), tmp_path / "a.safetensors"), num_classes=num_classes)
    reference = trickzoo.create(SMALL, num_classes=num_classes or 1000)
    reference.load_state_dict(model.state_dict(), assign=True)

    def described(network: nn.Module) -> list[tuple[Any, ...]]:
        tensors = [*network.named_parameters(), *network.named_buffers()]
        return [(name, type(each), each.device, each.dtype, each.requires_grad, each.is_leaf) for name, each in tensors]

    assert described(model) == described(reference)
    assert not any(tensor.is_meta for tensor in model.state_dict().values())


def test_the_header_keeps_the_options_of_the_network(tmp_path: Path) -> None:
    """A file that trickzoo wrote keeps the options that the weights depend on. An explicit option takes precedence."""
    model = trickzoo.create(SMALL, activation="relu6", num_classes=3)
    trickzoo.export(model, file := tmp_path / "own.safetensors")
    again = trickzoo.create(SMALL, weights=file)
    assert (again.activation, again.num_classes, again.options) == ("relu6", 3, {"activation": "relu6"})
    assert same(again, model)
    assert trickzoo.create(SMALL, weights=file, activation="relu").activation == "relu"


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_a_dilated_network_computes_the_same_from_its_file(stride: int, tmp_path: Path) -> None:
    dilated = trickzoo.create(SMALL, num_classes=3, output_stride=stride).eval()
    trickzoo.export(dilated, file := tmp_path / "dilated.safetensors")
    image = torch.rand(1, 3, 64, 64)
    assert torch.equal(trickzoo.create(file)(image), dilated(image))
    assert trickzoo.create(file).feature_info == dilated.feature_info
    assert trickzoo.create(file, output_stride=32).feature_info[-1].stride == 32


def test_a_file_cannot_state_a_stride_that_does_not_exist(tmp_path: Path) -> None:
    own = json.loads(headers.header(network())["trickzoo"])
    save_file(network().state_dict(), file := tmp_path / "a.safetensors", {"trickzoo": json.dumps(own | {"output_stride": 7})})
    with pytest.raises(BadCheckpoint, match="its trickzoo header cannot be read"):
        trickzoo.create(file)


def test_mobilenet_weights_of_timm_get_relu6(tmp_path: Path) -> None:
    file = saved(state(layout="timm"), tmp_path / "timm.safetensors")
    assert trickzoo.create(SMALL, weights=file).activation == "relu6"
    assert trickzoo.create(SMALL, weights=file, activation="relu").activation == "relu"
    assert trickzoo.create(SMALL, weights=saved(state(), tmp_path / "own.safetensors")).activation == "relu"
    assert trickzoo.create(SMALL).activation == "relu"


@pytest.mark.parametrize("layout", ["trickzoo", "timm"])
def test_the_network_of_a_file_is_built_once(layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = saved(state(layout=layout), tmp_path / "weights.safetensors")
    built: list[str] = []
    init_weights = MobileNetV1.init_weights  # the last call of a network's constructor
    monkeypatch.setattr(MobileNetV1, "init_weights", lambda network: (built.append(network.activation), init_weights(network)))
    trickzoo.create(SMALL, weights=file)
    assert built == ["relu6" if layout == "timm" else "relu"]


@pytest.mark.parametrize(("num_classes", "anew"), [(10, ("head.fc.weight", "head.fc.bias")), (0, ()), (1000, ()), (None, ())])
def test_another_number_of_classes(num_classes: int | None, anew: tuple[str, ...], tmp_path: Path, caplog: Any) -> None:
    """Only the classifier is initialised anew, and a warning says so."""
    file = saved(state(), tmp_path / "weights.safetensors")
    model = trickzoo.create(SMALL, weights=file, num_classes=num_classes)
    assert model(torch.rand(1, 3, 32, 32)).shape == (1, {None: 1000, 0: model.num_features}.get(num_classes, num_classes))
    assert same(model, network(), *anew)
    assert model.weights.not_loaded == anew
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert warnings == ([f"{SMALL}: {file} has no classifier for 10 classes, so the classifier is initialised anew"] if anew else [])
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())


def test_classes_belong_to_the_classifier_of_the_file(tmp_path: Path) -> None:
    """A new classifier does not keep the class names of the file, neither in the network nor when it is exported."""
    model = trickzoo.create(SMALL, num_classes=2)
    model.weights = LoadedWeights("animals", tmp_path, classes=("cat", "dog"))
    trickzoo.export(model, file := tmp_path / "animals.safetensors")
    assert trickzoo.create(SMALL, weights=file).weights.classes == ("cat", "dog")
    assert trickzoo.create(SMALL, weights=file, num_classes=3).weights.classes is None
    model = trickzoo.create(SMALL, weights=file).reset_head(2)
    trickzoo.export(model, other := tmp_path / "other.safetensors")
    assert trickzoo.create(SMALL, weights=other).weights.classes is None
    model = trickzoo.create(SMALL, weights=file)
    model.head.fc = nn.Sequential(nn.Dropout(), nn.Linear(model.num_features, 3))  # as of networks of other libraries
    assert model.num_classes == 3
    with pytest.raises(BadOption, match="has 3 outputs, and its weights name 2 classes for them"):
        trickzoo.class_names(model)
    model.head.fc = model.head.fc[1]
    trickzoo.export(model, str(tmp_path / "replaced.safetensors"))
    assert trickzoo.create(tmp_path / "replaced.safetensors").weights.classes is None


def test_class_lists_have_their_stated_lengths() -> None:
    assert {name: len(class_list(name)) for name in NAMES} == LIST_LENGTHS


@pytest.mark.parametrize("in_chans", [1, 2, 4, 6])
def test_weights_are_adapted_to_other_input_channels_as_in_timm(in_chans: int, tmp_path: Path) -> None:
    file = saved(state(), tmp_path / "weights.safetensors")
    model = trickzoo.create(SMALL, weights=file, in_chans=in_chans)
    torch.testing.assert_close(model.stem.conv.weight, adapt_input_conv(in_chans, network().stem.conv.weight), rtol=0, atol=1e-7)
    assert same(model, network(), "stem.conv.")


@pytest.mark.parametrize("of_file", [False, True])
@pytest.mark.parametrize("of_model", [False, True])
@pytest.mark.parametrize("layout", ["trickzoo", "torchvision"])
def test_auxiliary_head_in_the_file_or_in_the_network(layout: str, of_file: bool, of_model: bool, tmp_path: Path) -> None:
    file = saved(state("inception_v3", layout, aux_head=of_file), tmp_path / "weights.safetensors")
    model = trickzoo.create("inception_v3", weights=file, aux_head=of_model)
    assert (model.aux_head is not None) == of_model
    assert same(model, network("inception_v3", aux_head=of_file), *([] if of_file else ["aux_head."]))
    second = [key for key in model.state_dict() if key.startswith("aux_head.") and not key.endswith("num_batches_tracked")]
    assert list(model.weights.not_loaded) == ([] if of_file else second)


def test_both_inception_heads_follow_the_number_of_classes(tmp_path: Path) -> None:
    file = saved(state("inception_v3", aux_head=True), tmp_path / "weights.safetensors")
    model = trickzoo.create("inception_v3", weights=file, aux_head=True, num_classes=4)
    assert set(model.weights.not_loaded) == {f"{head}.{name}" for head in ("aux_head.fc", "head.fc") for name in ("weight", "bias")}
    assert same(model, network("inception_v3", aux_head=True), "head.", "aux_head.fc.")


def test_files_without_the_step_counter_of_batchnorm(tmp_path: Path) -> None:
    old = {key: tensor for key, tensor in state().items() if not key.endswith("num_batches_tracked")}
    model = trickzoo.create(SMALL, weights=saved(old, tmp_path / "old.safetensors"))
    assert same(model, network())
    assert model.stem.bn.num_batches_tracked.item() == 0


@pytest.mark.parametrize("dtype", [None, torch.float16, torch.bfloat16, torch.float64])
def test_dtype_of_the_network_does_not_depend_on_the_file(dtype: torch.dtype | None, tmp_path: Path) -> None:
    half = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in state().items()}
    model = trickzoo.create(SMALL, weights=saved(half, tmp_path / "half.safetensors"), dtype=dtype, num_classes=5)
    assert {t.dtype for t in model.state_dict().values()} == {dtype or torch.float32, torch.int64}
    assert torch.equal(model.stem.conv.weight, half["stem.conv.weight"].to(dtype or torch.float32))


def test_training_does_not_change_the_file(tmp_path: Path) -> None:
    """The tensors are memory-mapped, but writing to them does not change the file."""
    file = saved(state(), tmp_path / "weights.safetensors")
    before = file.read_bytes()
    model = trickzoo.create(SMALL, weights=file).train()
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in model.parameters())
    assert not same(model, network())
    assert file.read_bytes() == before
    assert same(trickzoo.create(SMALL, weights=file), network())


def test_a_checkpoint_of_trickzoo_states_its_model_and_options(resident: Resident, tmp_path: Path) -> None:
    """An old checkpoint without a header still states its model through its recipe."""
    trickzoo.export(trickzoo.create(SMALL, activation="relu6", num_classes=4), start := tmp_path / "start.safetensors")
    training.run(resident, tmp_path / "run", training.RECIPE.but("test.start", pretrained=str(start)), save_every=1, stop_after=2)
    file = tmp_path / "run" / "last.pt"
    model = trickzoo.create(SMALL, weights=file)
    content = torch.load(file, weights_only=True)
    assert (model_of(file), model.activation, model.num_classes) == (SMALL, "relu6", 4)
    assert all(torch.equal(tensor, content["model"][key]) for key, tensor in model.state_dict().items())
    assert model.weights.training["recipe"]["pretrained"] == str(start)

    del content["metadata"]
    torch.save(content, old := tmp_path / "old.pt")
    assert (model_of(old), trickzoo.create(SMALL, weights=old).num_classes) == (SMALL, 4)
    assert f"{old} holds {SMALL}, not resnet18; create {SMALL} to load it" == complaint(BadCheckpoint, "resnet18", weights=old)


def test_the_average_in_a_checkpoint_of_trickzoo_is_loaded(resident: Resident, tmp_path: Path) -> None:
    """The accuracies in a result file were measured with the average."""
    training.run(resident, tmp_path, training.RECIPE.but("test.ema", ema=0.9), save_every=1, stop_after=2)
    content = torch.load(tmp_path / "last.pt", weights_only=True)
    model = trickzoo.create(SMALL, weights=tmp_path / "last.pt")
    assert all(torch.equal(tensor, content["average"][key]) for key, tensor in model.state_dict().items())
    assert not torch.equal(model.stem.conv.weight, content["model"]["stem.conv.weight"])


def test_a_checkpoint_of_the_trainer_of_timm_loads(tmp_path: Path) -> None:
    """The trainer stores its options beside the weights, in a Namespace of plain values."""
    content = {"epoch": 3, "arch": "resnet18", "state_dict": timm.create_model("resnet18").state_dict(), "version": 2}
    torch.save(content | {"args": argparse.Namespace(lr=0.1, model="resnet18")}, tmp_path / "last.pth.tar")
    (tmp_path / "last.pth.tar").rename(tmp_path / "last.pth")
    assert trickzoo.create("resnet18", weights=tmp_path / "last.pth").weights
