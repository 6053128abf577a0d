"""Weight files of other programs, which wrap state dicts in several ways, and malicious files."""

from __future__ import annotations

import io
import json
import os
import struct
import time
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

import trickzoo
from tests.checkpoints import SMALL, complaint, network, same, saved, state
from trickzoo.errors import BadCheckpoint, BadOption
from trickzoo.weights import header as headers
from trickzoo.weights import manifest, pickles, tensors
from trickzoo.weights.record import METADATA_KEY, Preprocessing

STEM, FC = "stem.conv.weight", "head.fc.weight"


def prefixed(prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + key: tensor for key, tensor in state().items()}


def other() -> dict[str, torch.Tensor]:
    """Return the tensors of the same network with other values, such as those of the last step beside an average."""
    return {key: tensor * 0 for key, tensor in state().items()}


VARIANTS: dict[str, tuple[str, Callable[[], Any]]] = {
    "an OrderedDict": ("a.pth", lambda: OrderedDict(state())),
    "model": ("a.pth", lambda: {"model": state(), "epoch": 3}),
    "state_dict": ("a.pth.tar", lambda: {"state_dict": state(), "best": 71.0}),
    "model_ema": ("a.pth", lambda: {"model_ema": state()}),
    "the averaged one of timm's trainer": ("a.pth.tar", lambda: {"state_dict": other(), "state_dict_ema": state()}),
    "the averaged one of torchvision's trainer": ("a.pth", lambda: {"model": other(), "model_ema": prefixed("module.")}),
    "AveragedModel": ("a.pth", lambda: {"model_ema": {"n_averaged": torch.tensor(7), **prefixed("module.")}}),
    "parallel": ("a.safetensors", lambda: prefixed("module.")),
    "compiled": ("a.safetensors", lambda: prefixed("_orig_mod.")),
    "compiled and parallel": ("a.pth", lambda: prefixed("_orig_mod.module.")),
    "parallel and compiled twice": ("a.pth", lambda: prefixed("module._orig_mod.module.")),
    "held by a module": ("a.safetensors", lambda: prefixed("model.")),
    "held by a module in a module": ("a.ckpt", lambda: {"state_dict": prefixed("net.module.model."), "epoch": 1}),
    "held by a module, parallel and compiled": ("a.ckpt", lambda: {"state_dict": prefixed("module.net._orig_mod."), "epoch": 1}),
    "a part compiled": ("a.pth", lambda: {key.replace("stages.2.", "stages.2._orig_mod."): t for key, t in state().items()}),
    "parameters": ("a.pth", lambda: {key: torch.nn.Parameter(t, requires_grad=t.is_floating_point()) for key, t in state().items()}),
    "double": ("a.pth", lambda: {key: t.double() if t.is_floating_point() else t for key, t in state().items()}),
    "strided": ("a.pth", lambda: {key: t.unsqueeze(-1).repeat_interleave(2, -1)[..., 0] for key, t in state().items()}),
}


@pytest.mark.parametrize("what", VARIANTS)
def test_wrapped_state_dicts_load(what: str, tmp_path: Path) -> None:
    name, make = VARIANTS[what]
    model = trickzoo.create(SMALL, weights=saved(make(), tmp_path / name))
    assert same(model, network())
    assert all(tensor.is_contiguous() for tensor in model.state_dict().values())
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in model.parameters())


def test_loading_averaged_weights_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = saved({"state_dict": other(), "state_dict_ema": state()}, tmp_path / "a.pth")
    trickzoo.create(SMALL, weights=file)
    assert [record.getMessage() for record in caplog.records] == [f'{file}: its averaged weights are loaded, those under "state_dict_ema"']


@pytest.mark.parametrize(
    ("layers", "loads"),
    [
        ((nn.Dropout(0.5), nn.Linear(512, 7)), True),
        ((nn.Linear(512, 7), nn.LogSoftmax(1)), True),
        ((nn.Linear(512, 8), nn.ReLU(), nn.Linear(8, 7)), False),
        ((nn.BatchNorm1d(512), nn.Linear(512, 7)), False),
    ],
)
def test_a_linear_layer_in_a_sequential_is_the_classifier(
    layers: tuple[nn.Module, ...], loads: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = torchvision.models.resnet18().eval()
    theirs.fc = nn.Sequential(*layers).eval()
    file = saved(theirs.state_dict(), tmp_path / "theirs.pth")
    if not loads:
        assert "fc." in complaint(BadCheckpoint, "resnet18", weights=file, num_classes=7)
        return
    images = torch.rand(2, 3, 64, 64)
    ours = trickzoo.create("resnet18", weights=file, num_classes=7).eval()
    torch.testing.assert_close(ours(images).softmax(1), theirs(images).softmax(1))
    (message,) = caplog.messages
    assert f"{file}: fc." in message and "without the other layers of its Sequential" in message


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2])
def test_rounded_weights(dtype: torch.dtype, tmp_path: Path) -> None:
    rounded = {key: t.to(dtype) if t.is_floating_point() else t for key, t in state().items()}
    for name in ("a.pth", "a.safetensors"):
        for in_chans in (3, 1):
            model = trickzoo.create(SMALL, weights=saved(rounded, tmp_path / name), in_chans=in_chans)
            expected = rounded[STEM].float() if in_chans == 3 else rounded[STEM].float().sum(1, keepdim=True)
            torch.testing.assert_close(model.stem.conv.weight.detach(), expected)
            assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_safetensors_under_another_name(tmp_path: Path) -> None:
    save_file(state(), file := tmp_path / "pytorch_model.bin")
    assert same(trickzoo.create(SMALL, weights=file), network())


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth"])
def test_a_path_that_is_not_utf8(name: str, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    file = folder / name
    trickzoo.export(network(), file)
    assert same(trickzoo.create(SMALL, weights=file), network())
    file.write_bytes(file.read_bytes()[:-100])
    wanted = {"a.safetensors": "is not a whole safetensors file", "a.pth": "is not a PyTorch checkpoint"}[name]
    assert wanted in complaint(BadCheckpoint, SMALL, weights=file)


def test_tensors_that_share_memory_in_the_file_are_trained_separately(tmp_path: Path) -> None:
    """Several BatchNorm layers have the same tensor as their scale in the file."""
    content = dict(state())
    names = [key for key in content if key.endswith(("bn1.weight", "bn2.weight"))]
    first, second = next((a, b) for a in names for b in names if a < b and content[a].shape == content[b].shape)
    content[second] = content[first]
    model = trickzoo.create(SMALL, weights=saved(content, tmp_path / "a.pth"))
    with torch.no_grad():
        model.get_parameter(first).zero_()
    assert torch.equal(model.get_parameter(second), content[second])


# ---------------------------------------------------------------------------------------------------------------------
# input channels


@pytest.mark.parametrize("name", ["four.safetensors", "four.pth"])
def test_weights_for_another_number_of_channels(name: str, tmp_path: Path) -> None:
    model = trickzoo.create(SMALL, in_chans=4)
    trickzoo.export(model, file := tmp_path / name)
    assert (
        complaint(BadCheckpoint, SMALL, weights=file) == f"{file} is for images of 4 channels, the network for 3; create it with in_chans=4"
    )
    assert "of 4 channels, the network for 1;" in complaint(BadCheckpoint, SMALL, weights=file, in_chans=1)
    assert same(trickzoo.create(SMALL, weights=file, in_chans=4), model)
    if file.suffix == ".safetensors":
        assert headers.of_file(file).in_chans == 4


def test_weights_for_one_channel_are_not_adapted_to_three(tmp_path: Path) -> None:
    trickzoo.export(trickzoo.create(SMALL, in_chans=1), file := tmp_path / "one.safetensors")
    assert "of 1 channel, the network for 3; create it with in_chans=1" in complaint(BadCheckpoint, SMALL, weights=file)


# ---------------------------------------------------------------------------------------------------------------------
# the header


def with_header(file: Path, content: Any) -> Path:
    text = content if isinstance(content, str) else json.dumps({"model": SMALL, **content})
    save_file(state(), file, {METADATA_KEY: text})
    return file


@pytest.mark.parametrize("classes", ["/etc/passwd", "folders", "none", "classes.txt", "", 7, [1, 2], ["a", ["b"]]])
def test_a_headers_classes_are_names_or_a_list_of_the_package(classes: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("classes.txt").write_text("a secret\n")
    message = complaint(BadCheckpoint, SMALL, weights=with_header(tmp_path / "a.safetensors", {"classes": classes}))
    assert "its trickzoo header cannot be read" in message
    assert "secret" not in message


PREPROCESSINGS: list[dict[str, Any]] = [
    {"size": 30_000},
    {"size": 0},
    {"crop": 1e-5},
    {"crop": 1e-300},
    {"crop": 0},
    {"size": 224, "resize": 100_000},
    {"size": 224, "resize": 0},
    {"size": 224, "resize": 100},
    {"std": [0, 1, 1]},
    {"std": [1e-30, 1, 1]},
    {"std": [-1, 1, 1]},
    {"mean": [1e30, 0, 0]},
    {"mean": [0, 0]},
]


@pytest.mark.parametrize("preprocessing", PREPROCESSINGS, ids=str)
def test_a_preprocessing_out_of_range_is_refused(preprocessing: dict[str, Any], tmp_path: Path) -> None:
    file = with_header(tmp_path / "a.safetensors", {"preprocessing": preprocessing})
    assert "its trickzoo header cannot be read" in complaint(BadCheckpoint, SMALL, weights=file)


def test_a_misspelt_interpolation_is_refused() -> None:
    with pytest.raises(ValueError, match='interpolation must be bilinear or bicubic, not "nearest"'):
        Preprocessing(interpolation="nearest")  # type: ignore[arg-type]


def test_every_preprocessing_of_the_zoo_is_allowed() -> None:
    assert all(record.preprocessing.short_side <= 512 for record in manifest.records().values())
    assert Preprocessing(size=4096, crop=0.5).short_side == 8192


@pytest.mark.parametrize("text", ["{", "[" * 100_000, '{"model":' + "[" * 100_000, '{"model": 1}', "\\ud800"], ids=lambda text: text[:12])
def test_a_header_that_cannot_be_read(text: str, tmp_path: Path) -> None:
    assert "its trickzoo header cannot be read" in complaint(BadCheckpoint, SMALL, weights=with_header(tmp_path / "a.safetensors", text))


# ---------------------------------------------------------------------------------------------------------------------
# tensors that do not fit


def changed(**changes: Any) -> dict[str, torch.Tensor]:
    content = {**state(), **{key: value for key, value in changes.items() if value is not None}}
    return {key: tensor for key, tensor in content.items() if key not in changes or changes[key] is not None}


MISFITS: dict[str, tuple[Callable[[], Any], str]] = {
    "no features": (lambda: changed(**{FC: torch.zeros(4_000_000, 0)}), "its classifier has the shape (4000000, 0)"),
    "no classes": (lambda: changed(**{FC: torch.zeros(0, 256), "head.fc.bias": torch.zeros(0)}), "its classifier has the shape (0, 256)"),
    "other features": (lambda: changed(**{FC: torch.zeros(1000, 7)}), "wrong shape head.fc.weight"),
    "scalar classifier": (lambda: changed(**{FC: torch.tensor(1.0)}), "its classifier has the shape ()"),
    "scalar stem": (lambda: changed(**{STEM: torch.tensor(1.0)}), "wrong shape stem.conv.weight"),
    "long bias": (lambda: changed(**{"head.fc.bias": torch.zeros(4_000_000)}), "wrong shape head.fc.bias"),
    "no bias": (lambda: changed(**{"head.fc.bias": None}), "missing head.fc.bias"),
    "no weight": (lambda: changed(**{FC: None}), "missing head.fc.weight"),
    "integers": (lambda: {key: tensor.long() for key, tensor in state().items()}, "wrong type "),
    "a counter that is a fraction": (lambda: changed(**{"stem.bn.num_batches_tracked": torch.tensor(0.5)}), "wrong type stem.bn"),
    "a long name": (lambda: changed(**{"x" * 100_000: torch.zeros(1)}), "unexpected " + "x" * 79 + "…"),
    "escapes": (lambda: changed(**{"\x1b[31m\0red": torch.zeros(1)}), r"unexpected \x1b[31m\x00red"),
}


@pytest.mark.parametrize("form", ["safetensors", "pth"])
@pytest.mark.parametrize("what", MISFITS)
def test_tensors_that_do_not_fit(what: str, form: str, tmp_path: Path) -> None:
    make, words = MISFITS[what]
    message = complaint(BadCheckpoint, SMALL, weights=saved(make(), tmp_path / f"a.{form}"))
    assert words in message
    assert len(message) < 1000


def test_a_classifier_without_its_bias_is_refused_for_any_number_of_classes(tmp_path: Path) -> None:
    """Its weight would otherwise be initialised anew together with the missing bias."""
    file = saved(changed(**{"head.fc.bias": None}), tmp_path / "a.pth")
    assert "missing head.fc.bias" in complaint(BadCheckpoint, SMALL, weights=file, num_classes=1000)
    assert trickzoo.create(SMALL, weights=file, num_classes=0).num_classes == 0


def expanded_tensor() -> torch.Tensor:
    return torch.zeros(1).expand(1 << 40)


ODD: dict[str, tuple[Callable[[], torch.Tensor], str]] = {
    "sparse": (lambda: torch.eye(3).to_sparse(), "sparse"),
    "compressed rows": (lambda: torch.eye(3).to_sparse_csr(), "sparse"),
    "meta": (lambda: torch.empty(1 << 50, device="meta"), "empty (meta)"),
    "quantised": (lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), "qint8"),
    "complex": (lambda: torch.ones(3, dtype=torch.complex64), "complex64"),
    "a terabyte of one zero": (expanded_tensor, "repeated"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("what", ODD)
def test_tensors_that_are_not_plain_numbers(what: str, zipped: bool, tmp_path: Path) -> None:
    make, kind = ODD[what]
    file = tmp_path / "a.pth"
    torch.save({**state(), "extra": make()}, file, _use_new_zipfile_serialization=zipped)
    message = complaint(BadCheckpoint, SMALL, weights=file)
    assert f"extra is a {kind} tensor" in message or "is a pickle that trickzoo does not load" in message


# ---------------------------------------------------------------------------------------------------------------------
# malicious files


def refused_soon(file: Path, words: str) -> None:
    start = time.process_time()
    assert words in complaint(BadCheckpoint, SMALL, weights=file)
    assert time.process_time() - start < 10


def test_an_archive_that_unpacks_to_more_bytes_than_it_has(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"zeros": torch.zeros(25_000_000)}, buffer)
    with zipfile.ZipFile(buffer) as plain, zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb:
        for entry in plain.infolist():
            bomb.writestr(entry.filename, plain.read(entry))
    assert (tmp_path / "bomb.pth").stat().st_size < 200_000
    refused_soon(tmp_path / "bomb.pth", "it unpacks to more bytes than it has")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_of_very_many_parts(zipped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "MOST_OPCODES", 10_000)
    torch.save({f"{i}": 0 for i in range(10_000)}, file := tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    refused_soon(file, "is a pickle of more than 10,000 parts")


def safetensors_file(path: Path, header: bytes, data: bytes = b"") -> Path:
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return path


def test_a_file_of_very_many_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensors, "MOST_TENSORS", 1000)
    names = {f"{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(1001)}
    file = safetensors_file(tmp_path / "a.safetensors", json.dumps(names).encode())
    refused_soon(file, f"{file} holds 1,002 tensors or more")


def test_a_pickle_of_very_many_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensors, "MOST_TENSORS", 1000)
    one = torch.zeros(1)
    file = saved({f"{i}": one for i in range(1001)}, tmp_path / "a.pth")
    refused_soon(file, f"{file} holds 1,001 tensors or more")


def entry(shape: list[int], start: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


HEADERS: dict[str, bytes] = {
    "overlap": json.dumps({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}).encode(),
    "hole": json.dumps({"a": entry([1], 0, 4), "b": entry([1], 8, 12)}).encode(),
    "negative": json.dumps({"a": entry([-1], 0, 4)}).encode(),
    "backwards": json.dumps({"a": entry([1], 8, 4)}).encode(),
    "huge": json.dumps({"a": entry([1 << 62, 1 << 62], 0, 12)}).encode(),
    "beyond the end": json.dumps({"a": entry([300], 0, 1200)}).encode(),
    "unknown type": json.dumps({"a": entry([3], 0, 12, "F999")}).encode(),
    "nested": b'{"a":' + b"[" * 100_000,
    "no object": b"[1, 2]",
    "twice": b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}',
}


@pytest.mark.parametrize("what", HEADERS)
def test_safetensors_whose_header_is_wrong(what: str, tmp_path: Path) -> None:
    refused_soon(safetensors_file(tmp_path / "a.safetensors", HEADERS[what], bytes(12)), "is not a whole safetensors file")


def test_safetensors_whose_header_is_longer_than_the_file(tmp_path: Path) -> None:
    for length in (100, 100_000_001, 1 << 63):
        (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", length) + b"{}")
        refused_soon(tmp_path / "a.safetensors", "is not a whole safetensors file")


def test_a_legacy_file_that_claims_terabytes(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(77)}, buffer, _use_new_zipfile_serialization=False)
    content = buffer.getvalue()
    assert content.count(b"K\x4d") >= 2
    (tmp_path / "a.pth").write_bytes(content.replace(b"K\x4d", b"\x8a\x06\xff\xff\xff\xff\xff\x7f"))
    refused_soon(tmp_path / "a.pth", "is not a PyTorch checkpoint")


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors", "a"])
def test_reading_does_not_wait_for_a_file_that_is_not_regular(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    refused_soon(tmp_path / name, "cannot be read (not a regular file)")


HINTS = {
    "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n": "it is a pointer of git-lfs; `git lfs pull` fetches",
    "<!DOCTYPE html><html>": "it is a web page that was saved in place of the file",
    "\n<html>": "it is a web page",
}


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
@pytest.mark.parametrize("text", HINTS)
def test_a_web_page_or_pointer_saved_as_a_weight_file(text: str, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    assert HINTS[text] in complaint(BadCheckpoint, SMALL, weights=tmp_path / name)


def test_text_that_begins_like_an_opcode(tmp_path: Path) -> None:
    (tmp_path / "hi.pth").write_text("hi there\n")
    words = f"{tmp_path / 'hi.pth'} is not a PyTorch checkpoint (neither a zip archive nor a pickle)"
    assert complaint(BadCheckpoint, SMALL, weights=tmp_path / "hi.pth") == words


def test_a_pickle_called_safetensors_is_not_unpickled(tmp_path: Path) -> None:
    torch.save(state(), file := tmp_path / "a.safetensors")
    assert "it is a PyTorch file; rename it to .pth" in complaint(BadCheckpoint, SMALL, weights=file)


def test_the_same_network_twice_in_one_file(tmp_path: Path) -> None:
    assert "holds the same network twice" in complaint(
        BadCheckpoint, SMALL, weights=saved({**state(), **prefixed("module.")}, tmp_path / "a.pth")
    )


@pytest.mark.parametrize("change", ["recipe", "metadata", "model"])
def test_a_checkpoint_of_ours_that_is_damaged(change: str, tmp_path: Path) -> None:
    content = {"model": state(), "optimiser": {}, "recipe": {"model": SMALL}, "seed": 0}
    content[change] = {"recipe": [7], "metadata": 7, "model": "x"}[change]
    complaint(BadCheckpoint, SMALL, weights=saved(content, tmp_path / "last.pt"))


# ---------------------------------------------------------------------------------------------------------------------
# names of files


def test_a_file_with_the_name_of_a_weight_needs_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("tz_imagenette128", f"{SMALL}.tz_imagenette128"):
        Path(name).write_text("notes")
        assert trickzoo.create(SMALL, weights=name).weights.record is not None
        assert "is not a PyTorch checkpoint" in complaint(BadCheckpoint, SMALL, weights=f"./{name}")
    saved(state(), tmp_path / "a.pth").rename("unnamed")
    assert same(trickzoo.create(SMALL, weights="unnamed"), network())


def test_an_unknown_home_folder(tmp_path: Path) -> None:
    assert complaint(BadOption, SMALL, weights="~nobody-is-called-so/a.pth").startswith("~nobody-is-called-so/a.pth: the home folder")


def test_the_digest_is_that_of_the_file_that_was_loaded(tmp_path: Path) -> None:
    file = saved(state(), tmp_path / "a.safetensors")
    model = trickzoo.create(SMALL, weights=file)
    assert len(model.weights.digest()) == 64
    saved(other(), tmp_path / "b.safetensors").rename(file)
    with pytest.raises(BadCheckpoint, match="has changed since it was loaded"):
        model.weights.digest()
