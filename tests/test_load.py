"""`create` and files: what is loaded, what is refused, and in which words."""

from __future__ import annotations

import argparse
import contextlib
import functools
import logging
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from timm.models import adapt_input_conv
from torch import Tensor

import trickzoo
from trickzoo import registry
from trickzoo.backbone import Backbone
from trickzoo.errors import BadCheckpoint, BadOption, NoWeights, TrickzooError, UnknownName
from trickzoo.weights import convert, load, publish, store

SMALL = "mobilenet_v1_025"
State = dict[str, Tensor]


def network(name: str = SMALL, **options: Any) -> Backbone:
    """A network to save, with statistics of its own. Shared, so not to be changed."""
    return _network(name, **options)


@functools.cache
def _network(name: str, **options: Any) -> Backbone:
    model = trickzoo.create(name, **options)
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if key.endswith(("running_mean", "running_var")):
                tensor.uniform_(0.5, 1.5)
    return model.eval()


def state(name: str = SMALL, layout: str = "trickzoo", **options: Any) -> State:
    """Its tensors under the names of a layout."""
    ours = network(name, **options).state_dict()
    return {theirs: ours[own] for theirs, own in convert.key_map(registry.find(name), layout, ours).items()}


def saved(tensors: State, file: Path) -> Path:
    save_file(tensors, file) if file.suffix == ".safetensors" else torch.save(tensors, file)
    return file


def same(model: Backbone, other: Backbone, *but: str) -> bool:
    """Whether all tensors are equal, apart from those under the prefixes `but`."""
    theirs = other.state_dict()
    return all(torch.equal(tensor, theirs[key]) for key, tensor in model.state_dict().items() if not key.startswith((*but,)))


def complaint(kind: type[TrickzooError], *args: Any, **options: Any) -> str:
    """What `create` says as it refuses: one line."""
    with pytest.raises(kind) as error:
        trickzoo.create(*args, **options)
    message = str(error.value)
    assert "\n" not in message
    return message


# ---------------------------------------------------------------------------------------------------------------------
# what is loaded

FORMATS: dict[str, Callable[[State, Path], Any]] = {
    "safetensors": lambda tensors, file: save_file(tensors, file),
    "zip.pth": lambda tensors, file: torch.save(tensors, file),
    "legacy.pth": lambda tensors, file: torch.save(tensors, file, _use_new_zipfile_serialization=False),
    "state_dict.pth": lambda tensors, file: torch.save({"state_dict": tensors, "epoch": 3, "best": 71.5}, file),
    "model.pt": lambda tensors, file: torch.save({"model": tensors, "args": {"lr": 0.1}}, file),
    "module.pth.bin": lambda tensors, file: torch.save({f"module.{key}": t for key, t in tensors.items()}, file),
    "compiled.ckpt": lambda tensors, file: torch.save({"model": {f"_orig_mod.{key}": t for key, t in tensors.items()}}, file),
}
FILES = [(SMALL, layout, form) for layout in ("trickzoo", "timm") for form in FORMATS]
FILES += [("resnet18", "torchvision", form) for form in ("safetensors", "zip.pth", "legacy.pth")]


@contextlib.contextmanager
def no_pickle() -> Any:
    """Every way of the standard library into a pickle raises."""

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


def test_a_file_says_what_it_is(tmp_path: Path) -> None:
    """What trickzoo writes keeps the options that the weights depend on; an explicit one wins."""
    model = trickzoo.create(SMALL, activation="relu6", num_classes=3)
    publish.export(model, file := tmp_path / "own.safetensors")
    again = trickzoo.create(SMALL, weights=file)
    assert (again.activation, again.num_classes, again.options) == ("relu6", 3, {"activation": "relu6"})
    assert same(again, model)
    assert trickzoo.create(SMALL, weights=file, activation="relu").activation == "relu"


def test_timms_mobilenet_means_relu6(tmp_path: Path) -> None:
    file = saved(state(layout="timm"), tmp_path / "timm.safetensors")
    assert trickzoo.create(SMALL, weights=file).activation == "relu6"
    assert trickzoo.create(SMALL, weights=file, activation="relu").activation == "relu"
    assert trickzoo.create(SMALL, weights=saved(state(), tmp_path / "own.safetensors")).activation == "relu"
    assert trickzoo.create(SMALL).activation == "relu"


@pytest.mark.parametrize(("num_classes", "anew"), [(10, ("head.fc.weight", "head.fc.bias")), (0, ()), (1000, ()), (None, ())])
def test_another_number_of_classes(num_classes: int | None, anew: tuple[str, ...], tmp_path: Path, caplog: Any) -> None:
    """Only the classifier starts anew, and the log names it."""
    file = saved(state(), tmp_path / "weights.safetensors")
    model = trickzoo.create(SMALL, weights=file, num_classes=num_classes)
    assert model(torch.rand(1, 3, 32, 32)).shape == (1, {None: 1000, 0: model.num_features}.get(num_classes, num_classes))
    assert same(model, network(), *anew)
    assert model.weights.not_loaded == anew
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert warnings == ([f"{SMALL}: not loaded from {file}, initialised anew: {', '.join(anew)}"] if anew else [])
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())


def test_classes_belong_to_the_classifier_of_the_file(tmp_path: Path) -> None:
    """A new classifier is not announced, or published, as one of the old classes."""
    model = trickzoo.create(SMALL, num_classes=2)
    model.weights = load.LoadedWeights("animals", tmp_path, classes=("cat", "dog"))
    publish.export(model, file := tmp_path / "animals.safetensors")
    assert trickzoo.create(SMALL, weights=file).weights.classes == ("cat", "dog")
    assert trickzoo.create(SMALL, weights=file, num_classes=3).weights.classes is None
    model = trickzoo.create(SMALL, weights=file).reset_head(2)
    publish.export(model, other := tmp_path / "other.safetensors")
    assert trickzoo.create(SMALL, weights=other).weights.classes is None


@pytest.mark.parametrize("in_chans", [1, 2, 4, 6])
def test_other_input_channels_by_timms_rule(in_chans: int, tmp_path: Path) -> None:
    file = saved(state(), tmp_path / "weights.safetensors")
    model = trickzoo.create(SMALL, weights=file, in_chans=in_chans)
    torch.testing.assert_close(model.stem.conv.weight, adapt_input_conv(in_chans, network().stem.conv.weight), rtol=0, atol=1e-7)
    assert same(model, network(), "stem.conv.")


@pytest.mark.parametrize("of_file", [False, True])
@pytest.mark.parametrize("of_model", [False, True])
@pytest.mark.parametrize("layout", ["trickzoo", "torchvision"])
def test_inceptions_second_head_on_either_side(layout: str, of_file: bool, of_model: bool, tmp_path: Path) -> None:
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


def test_files_older_than_the_step_counter(tmp_path: Path) -> None:
    old = {key: tensor for key, tensor in state().items() if not key.endswith("num_batches_tracked")}
    model = trickzoo.create(SMALL, weights=saved(old, tmp_path / "old.safetensors"))
    assert same(model, network())
    assert model.stem.bn.num_batches_tracked.item() == 0


@pytest.mark.parametrize("dtype", [None, torch.float16, torch.bfloat16, torch.float64])
def test_dtype_is_the_models_not_the_files(dtype: torch.dtype | None, tmp_path: Path) -> None:
    half = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in state().items()}
    model = trickzoo.create(SMALL, weights=saved(half, tmp_path / "half.safetensors"), dtype=dtype, num_classes=5)
    assert {t.dtype for t in model.state_dict().values()} == {dtype or torch.float32, torch.int64}
    assert torch.equal(model.stem.conv.weight, half["stem.conv.weight"].to(dtype or torch.float32))


def test_training_leaves_the_file_alone(tmp_path: Path) -> None:
    """The tensors are mapped from the file, and are the model's own all the same."""
    file = saved(state(), tmp_path / "weights.safetensors")
    before = file.read_bytes()
    model = trickzoo.create(SMALL, weights=file).train()
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in model.parameters())
    assert not same(model, network())
    assert file.read_bytes() == before
    assert same(trickzoo.create(SMALL, weights=file), network())


# ---------------------------------------------------------------------------------------------------------------------
# what is refused


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return open, (str(self.target), "w")


PICKLES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "code": (lambda target: {"state_dict": state(), "extra": Payload(target)}, "it wants io.open"),
    "whole model": (lambda _: network(), "it wants trickzoo.models.mobilenet.MobileNetV1"),
    "arrays": (lambda _: {key: tensor.numpy() for key, tensor in state().items()}, "_reconstruct"),
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("what", PICKLES)
def test_pickles_that_want_more_than_tensors(what: str, zipped: bool, tmp_path: Path) -> None:
    make, wants = PICKLES[what]
    file, target = tmp_path / "weights.pth", tmp_path / "executed"
    torch.save(make(target), file, _use_new_zipfile_serialization=zipped)
    message = complaint(BadCheckpoint, SMALL, weights=file)
    assert message.startswith(f"{file} is a pickle that trickzoo does not load: it wants ")
    assert wants in message
    assert not target.exists()


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_plain_pickles(protocol: int, tmp_path: Path) -> None:
    file, target = tmp_path / "weights.pth", tmp_path / "executed"
    file.write_bytes(pickle.dumps(Payload(target), protocol))
    assert f"{file} is a" in complaint(BadCheckpoint, SMALL, weights=file)
    assert not target.exists()


def truncated(form: str, share: float) -> Callable[[Path], None]:
    def write(file: Path) -> None:
        FORMATS[form](state(), file)
        content = file.read_bytes()
        file.write_bytes(content[: int(len(content) * share)])

    return write


DAMAGED: list[tuple[str, Callable[[Path], Any], str]] = [
    ("half.safetensors", truncated("safetensors", 0.5), "is not a whole safetensors file"),
    ("stub.safetensors", truncated("safetensors", 0.001), "is not a whole safetensors file"),
    ("half.pth", truncated("zip.pth", 0.5), "is not a PyTorch checkpoint"),
    ("stub.pth", truncated("zip.pth", 0.001), "is not a PyTorch checkpoint"),
    ("half_legacy.pth", truncated("legacy.pth", 0.5), "is not a PyTorch checkpoint"),
    ("stub_legacy.pth", truncated("legacy.pth", 0.001), "is not a PyTorch checkpoint"),
    ("text.pth", lambda file: file.write_text("<html>404</html>"), "is not a PyTorch checkpoint (neither a zip archive nor a pickle)"),
    ("pointer.pth", lambda file: file.write_text("version https://git-lfs.github.com/spec/v1\n"), "is not a PyTorch checkpoint"),
    ("text.safetensors", lambda file: file.write_text("<html>404</html>"), "is not a whole safetensors file"),
    ("empty.pth", lambda file: file.touch(), "is not a PyTorch checkpoint (it ends too early)"),
    ("empty.safetensors", lambda file: file.touch(), "is not a whole safetensors file"),
    ("missing.pth", lambda file: None, "does not exist"),
    ("missing.safetensors", lambda file: None, "does not exist"),
    ("folder.pth", lambda file: file.mkdir(), "cannot be read (Is a directory)"),
    ("list.pth", lambda file: torch.save([1, 2], file), "holds no state dict"),
    ("numbers.pth", lambda file: torch.save({0: torch.ones(1)}, file), "holds no state dict"),
    ("none.pth", lambda file: torch.save({}, file), "holds no state dict"),
]


@pytest.mark.parametrize(("name", "write", "words"), DAMAGED, ids=[name for name, _, _ in DAMAGED])
def test_files_that_are_no_checkpoints(name: str, write: Callable[[Path], Any], words: str, tmp_path: Path) -> None:
    write(tmp_path / name)
    assert complaint(BadCheckpoint, SMALL, weights=tmp_path / name).startswith(f"{tmp_path / name} {words}")


def test_checkpoint_of_another_architecture(tmp_path: Path) -> None:
    file = saved(state("resnet18", "timm"), tmp_path / "weights.safetensors")
    message = complaint(BadCheckpoint, "resnet18_d", weights=file)
    assert message.startswith(f"{file} does not fit resnet18_d: missing conv1.0.weight, conv1.1.weight and ")
    assert "unexpected " in message
    assert message.endswith(". Its tensors are those of resnet18: create that")


def test_checkpoint_of_another_width(tmp_path: Path) -> None:
    file = saved(state(layout="timm"), tmp_path / "weights.safetensors")
    message = complaint(BadCheckpoint, "mobilenet_v1_050", weights=file)
    assert "of another shape conv_stem.weight" in message
    assert message.endswith("Its tensors are those of mobilenet_v1_025: create that")


def test_checkpoint_of_no_network_of_the_zoo(tmp_path: Path) -> None:
    file = saved({"blocks.0.weight": torch.ones(1), "blocks.1.weight": torch.ones(1)}, tmp_path / "weights.safetensors")
    message = complaint(BadCheckpoint, "resnet18", weights=file)
    assert "unexpected blocks.0.weight, blocks.1.weight" in message
    assert "create" not in message


@pytest.mark.parametrize("header", [False, True], ids=["found", "said"])
@pytest.mark.parametrize(("change", "key"), [("missing", "stages.2.0.bn1.running_mean"), ("unexpected", "stages.9.weight")])
def test_checkpoint_with_one_key_too_few_or_too_many(change: str, key: str, header: bool, tmp_path: Path) -> None:
    """Whether the layout is found from the keys or the file says it."""
    tensors = state()
    if change == "missing":
        del tensors[key]
    else:
        tensors[key] = torch.ones(1)
    save_file(tensors, file := tmp_path / "weights.safetensors", load.header(network()) if header else None)
    assert complaint(BadCheckpoint, SMALL, weights=file) == f"{file} does not fit {SMALL}: {change} {key}"


def test_timms_resnet50_is_not_ours(tmp_path: Path) -> None:
    """Its stride is in the 3x3. The tensors would fit but for the biases, and compute something else."""
    with torch.device("meta"):
        names = timm.create_model("resnet50").state_dict()
    file = saved({key: torch.zeros(tensor.shape) for key, tensor in names.items()}, tmp_path / "resnet50.safetensors")
    message = complaint(BadCheckpoint, "resnet50", weights=file)
    assert f"{file} does not fit resnet50: " in message
    assert message.endswith("Its tensors are those of resnet50_b: create that")


def test_file_that_says_it_is_of_another_model(tmp_path: Path) -> None:
    publish.export(network("resnet18_c"), file := tmp_path / "own.safetensors")
    words = f"{file} holds resnet18_c, not resnet18_d; create resnet18_c to load it"
    assert complaint(BadCheckpoint, "resnet18_d", weights=file) == words
    tensors = load_file(file)
    save_file(tensors, file, {load.METADATA_KEY: "{"})
    assert f"{file}: its trickzoo header cannot be read" in complaint(BadCheckpoint, "resnet18_c", weights=file)


# ---------------------------------------------------------------------------------------------------------------------
# names

NAMES: list[tuple[type[TrickzooError], str, dict[str, Any], str]] = [
    (UnknownName, "resnet50d", {}, 'no model "resnet50d"; did you mean resnet50_d, resnet50, resnet50_c?'),
    (UnknownName, "vgg", {}, 'no model "vgg"'),
    (UnknownName, "vgg.tv_in1k", {}, 'no weight "vgg.tv_in1k"'),
    (UnknownName, "resnet50.a1_in1k", {}, 'no weight "resnet50.a1_in1k"; did you mean resnet50_b.a1_in1k?'),
    (UnknownName, "resnet50_d", {"pretrained": "glon_in1k"}, 'no weight "resnet50_d.glon_in1k"; did you mean resnet50_d.gluon_in1k'),
    (UnknownName, "resnet50_d.glon_in1k", {}, 'no weight "resnet50_d.glon_in1k"; did you mean resnet50_d.gluon_in1k'),
    (NoWeights, "resnet50", {"pretrained": True}, "no weights are published for resnet50; resnet50_b, resnet50_c, resnet50_d have them"),
    (NoWeights, "resnet18_c", {"weights": "gluon_in1k"}, "no weights are published for resnet18_c; resnet18, resnet18_d have them"),
    (NoWeights, SMALL, {"pretrained": True}, f"no weights are published for {SMALL}; mobilenet_v1_100 has them"),
    (BadOption, "resnet18", {"pretrained": True, "weights": "a1_in1k"}, "give either pretrained or weights, not both"),
    (BadOption, "resnet18", {"pretrained": "a1_in1k", "weights": "a1_in1k"}, "give either pretrained or weights, not both"),
    (BadOption, "resnet18.a1_in1k", {"pretrained": "a2_in1k"}, "resnet18.a1_in1k names a weight already; to load a2_in1k, create resnet18"),
    (BadOption, "resnet18.a1_in1k", {"weights": "x.pth"}, "resnet18.a1_in1k names a weight already; to load x.pth, create resnet18"),
]


@pytest.mark.parametrize(("kind", "name", "options", "words"), NAMES)
def test_names_that_name_nothing(kind: type[TrickzooError], name: str, options: dict[str, Any], words: str) -> None:
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


def test_a_folder_named_like_a_tag_hides_no_weight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gluon_in1k").mkdir()
    monkeypatch.chdir(tmp_path)
    assert not load.is_file("gluon_in1k")
    assert load.is_file("folder/gluon_in1k")
    assert load.is_file("x.pth")


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


# ---------------------------------------------------------------------------------------------------------------------
# names of tensors

PLACES = [(a.name, layout) for a in registry.ARCHITECTURES.values() for layout in ("trickzoo", *convert.layouts(a))]


@functools.cache
def our_keys(name: str) -> list[str]:
    options = {"aux_head": True} if name == "inception_v3" else {}
    return list(trickzoo.create(name, device="meta", **options).state_dict())


@settings(deadline=None, derandomize=True, max_examples=50)
@given(st.data())
def test_key_maps_are_bijections(data: st.DataObject) -> None:
    """Whichever of our keys are mapped, in whichever order: each has a name of its own, the same as in the whole map."""
    name, layout = data.draw(st.sampled_from(PLACES))
    architecture, keys = registry.find(name), our_keys(name)
    whole = convert.key_map(architecture, layout, keys)
    assert sorted(whole.values()) == sorted(keys)
    some = data.draw(st.lists(st.sampled_from(keys), unique=True, max_size=20))
    assert list(convert.key_map(architecture, layout, some).values()) == some
    assert convert.key_map(architecture, layout, some).items() <= whole.items()
    for other in registry.ARCHITECTURES.values() if layout != "trickzoo" else ():
        assert (
            other is architecture or layout in convert.layouts(other) or convert.detect_layout(other, whole, our_keys(other.name)) is None
        )


@pytest.mark.parametrize(("name", "layout"), PLACES)
def test_layout_is_detected(name: str, layout: str) -> None:
    """Where both have a network, timm's and torchvision's names are the same and mean the same."""
    architecture, keys = registry.find(name), our_keys(name)
    theirs = convert.key_map(architecture, layout, keys)
    assert convert.detect_layout(architecture, theirs, keys) == ("timm" if layout == "torchvision" else layout)


def test_layout_that_does_not_exist() -> None:
    with pytest.raises(BadOption, match=r"resnet50 strides in the first 1x1; .* which is resnet50_b"):
        convert.key_map(registry.find("resnet50"), "timm", our_keys("resnet50"))
    with pytest.raises(BadOption, match="resnet50_d does not exist in torchvision; its layouts are trickzoo, timm"):
        convert.key_map(registry.find("resnet50_d"), "torchvision", our_keys("resnet50_d"))


def test_a_checkpoint_of_timms_trainer_loads(tmp_path: Path) -> None:
    """Beside the weights it stores its options, a Namespace of plain values."""
    content = {"epoch": 3, "arch": "resnet18", "state_dict": timm.create_model("resnet18").state_dict(), "version": 2}
    torch.save(content | {"args": argparse.Namespace(lr=0.1, model="resnet18")}, tmp_path / "last.pth.tar")
    (tmp_path / "last.pth.tar").rename(tmp_path / "last.pth")
    assert trickzoo.create("resnet18", weights=tmp_path / "last.pth").weights


def test_networks_that_differ_have_keys_that_differ() -> None:
    """So that a bare state dict of ours cannot be taken for that of another network; activations alone leave no trace."""
    shapes = {}
    for name in trickzoo.list_models():
        state = trickzoo.create(name, device="meta").state_dict()
        shapes[name] = frozenset((key, tensor.shape) for key, tensor in state.items())
    assert len(set(shapes.values())) == len(shapes)


def test_a_weight_of_another_network_is_refused_by_name() -> None:
    with pytest.raises(BadOption, match=r"resnet50_d.a1_in1k is a weight of resnet50_d, not of resnet50_b; create resnet50_d"):
        trickzoo.create("resnet50_b", weights="resnet50_d.a1_in1k")
    with pytest.raises(UnknownName, match=r"did you mean resnet50_d\.ra2_in1k"):
        trickzoo.create("resnet50d.ra2_in1k")
