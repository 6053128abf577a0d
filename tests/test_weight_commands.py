"""The commands `trickzoo weights` and `trickzoo export` for files of weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

import trickzoo
from tests.commands import Call
from tests.hub import Hub
from trickzoo import files
from trickzoo.files import home
from trickzoo.weights import manifest, pins, store
from trickzoo.weights.loaded import LoadedWeights

OURS = "mobilenet_v1_025.tz_imagenette128"
"""A weight that is a file of the package."""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A hub that has mobilenet_v1_025.mine, and a manifest that records it."""
    path = tmp_path / "mine.safetensors"
    trickzoo.export(trickzoo.create("mobilenet_v1_025", num_classes=10, activation="relu6"), path, layout="timm")
    (tmp_path / "manifest.toml").write_text(
        '[[weights]]\nname = "mobilenet_v1_025.mine"\nlayout = "timm"\nclasses = "imagenette"\nlicence = "mit"\n'
        '[weights.preprocessing]\nsize = 32\n[[weights.source]]\nhub = "me/mine"\nfile = "model.safetensors"\n'
    )
    monkeypatch.setenv("TRICKZOO_MANIFEST", str(tmp_path / "manifest.toml"))
    with Hub() as hub:
        hub.add("me/mine", "model.safetensors", path.read_bytes())
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        yield hub


def test_weights_are_fetched_verified_pinned_and_removed(call: Call, hub: Hub, tmp_path: Path) -> None:
    name = "mobilenet_v1_025.mine"
    assert call("weights", "list", "*.mine", "--cached")[1].split() == ["weight", "top-1", "at", "size", "SHA-256", "licence", "here"]
    status, out, _ = call("weights", "fetch", name)
    assert status == 0
    path = Path(out.strip())
    assert path.read_bytes() == (tmp_path / "mine.safetensors").read_bytes()
    assert call("weights", "path", name)[1].strip() == str(path)
    assert call("weights", "list", "*.mine", "--cached")[1].splitlines()[1].split()[0] == name
    assert call("weights", "verify")[1].startswith(f"{name}  right (stated by the hub)  ")
    status, out, _ = call("weights", "lock")
    assert files.digest(path) in out
    assert json.loads(pins.lock_file().read_text())[name]["sha256"] == files.digest(path)
    assert call("weights", "verify")[1].startswith(f"{name}  right (pinned)  ")

    real = path.resolve()
    real.write_bytes(real.read_bytes()[:-1] + b"x")
    status, out, err = call("weights", "verify", name)
    assert (status, out.split()) == (2, [name, "WRONG"])
    assert f"trickzoo weights rm {name}" in err
    assert call("weights", "rm", name)[0] == 0
    assert not path.exists()
    assert "was not on this machine" in call("weights", "rm", name)[1]
    assert call("weights", "fetch", name)[0] == 0


def test_a_weight_by_hand_is_unverified_and_not_pinned(call: Call, hub: Hub, tmp_path: Path) -> None:
    name = "mobilenet_v1_025.mine"
    path = home() / "files" / name / "model.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"a photograph")
    status, out, err = call("weights", "verify", name)
    assert (status, out.split()) == (2, [name, "WRONG"])
    assert f"`trickzoo weights rm {name}`" in err
    path.write_bytes((tmp_path / "mine.safetensors").read_bytes())
    status, out, _ = call("weights", "verify", name)
    assert (status, out.split()) == (0, [name, "unverified", files.digest(path), str(path)])
    status, out, err = call("weights", "lock", name)
    assert (status, out.split()[:2]) == (2, ["0", "pinned"])
    assert f"{name}: put in place by hand" in err
    assert call("weights", "rm", name)[0] == call("weights", "lock", name)[0] == 0


@pytest.mark.parametrize("variable", ["TRICKZOO_HOME", "TRICKZOO_LOCK"])
def test_a_lock_file_that_cannot_be_written_is_named(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(variable, str(tmp_path / "file" if variable == "TRICKZOO_HOME" else tmp_path / "file" / "x.json"))
    status, _, err = call("weights", "lock", OURS)
    assert status == 2
    assert f"{pins.lock_file()} cannot be written (" in err
    assert err.count("\n") == 1


def test_rm_says_what_goes_and_what_stays(call: Call) -> None:
    path = Path(call("weights", "path", OURS)[1].strip())
    assert call("weights", "rm", OURS)[:2] == (0, f"{OURS}: part of the trickzoo installation, not deleted\n")
    assert path.exists()
    other = home() / "files" / "resnet18.tv_in1k" / "model.safetensors"
    other.parent.mkdir(parents=True)
    other.touch()
    assert call("weights", "rm", "resnet18.tv_in1k")[1] == "resnet18.tv_in1k: 1 file deleted\n"


def test_the_size_listed_is_the_files_else_the_records_else_that_of_float32(
    call: Call, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def listed(name: str) -> int:
        (line,) = call("weights", "list", name)[1].splitlines()[1:]
        return int(line.partition(" MB")[0].split()[-1])

    name = "mobilenet_v1_025.mine"
    assert listed(name) == 2
    assert listed(OURS) == 1  # float16
    sized = tmp_path / "sized.toml"
    sized.write_text((tmp_path / "manifest.toml").read_text() + "size = 7_000_000\n")
    monkeypatch.setenv("TRICKZOO_MANIFEST", str(sized))
    assert listed(name) == 7
    by_hand = home() / "files" / name / "model.safetensors"
    by_hand.parent.mkdir(parents=True)
    by_hand.write_bytes(bytes(5_000_000))
    assert listed(name) == 5


def test_export_writes_what_upstream_reads(call: Call, tmp_path: Path) -> None:
    model = timm.create_model("resnet18", num_classes=7).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)  # type: ignore[arg-type]
    state = model.state_dict()
    save_file(state, tmp_path / "timm.safetensors")
    source = ("--model", "resnet18", "--weights", tmp_path / "timm.safetensors")
    ours, back, pickled = tmp_path / "ours.safetensors", tmp_path / "back.safetensors", tmp_path / "back.pth"
    assert call("export", ours, *source)[0] == 0
    assert call("export", back, "--model", "resnet18", "--weights", ours, "--layout", "timm")[0] == 0
    assert call("export", pickled, "--model", "resnet18", "--weights", ours, "--layout", "torchvision")[0] == 0
    for found in (load_file(back), torch.load(pickled, weights_only=True)):
        assert found.keys() == state.keys()
        assert all(torch.equal(found[key], state[key]) for key in state)
    half = tmp_path / "half.safetensors"
    assert call("export", half, "--model", "resnet18", "--weights", ours, "--dtype", "float16")[0] == 0
    assert half.stat().st_size < 0.51 * ours.stat().st_size
    rounded, whole = (trickzoo.create("resnet18", weights=path).state_dict() for path in (half, ours))
    assert all(torch.equal(rounded[key], whole[key].half().to(whole[key])) for key in whole)
    status, _, err = call("export", back, *source)
    assert (status, "exists; name another file, or overwrite it with --overwrite" in err) == (2, True)
    assert call("export", back, *source, "--overwrite")[0] == 0
    assert "must end in .safetensors or .pth" in call("export", tmp_path / "a.bin", *source)[2]
    files = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert files == {"back.pth", "back.safetensors", "half.safetensors", "ours.safetensors", "timm.safetensors"}


@pytest.mark.parametrize(
    ("model", "layout", "message"),
    [
        ("resnet50", "timm", "resnet50 has its stride in the first 1x1; timm's network of that depth has it in the 3x3: name resnet50_b"),
        ("resnet50_d", "torchvision", "does not exist in torchvision; name one of its layouts, trickzoo, timm"),
        ("mobilenet_v1_025", "timm", "this mobilenet_v1_025 has relu, but timm's has relu6"),
    ],
)
def test_export_refuses_what_would_compute_something_else(call: Call, model: str, layout: str, message: str, tmp_path: Path) -> None:
    ours, out = tmp_path / "ours.safetensors", tmp_path / "out.safetensors"
    trickzoo.export(trickzoo.create(model), ours)
    status, _, err = call("export", out, "--model", model, "--weights", ours, "--layout", layout)
    assert status == 2
    assert message in err
    assert not out.exists()


def test_our_own_files_say_what_they_are(tmp_path: Path) -> None:
    record = manifest.find("resnet18.tv_in1k")
    model = trickzoo.create("resnet18")
    model.weights = LoadedWeights("resnet18.tv_in1k", tmp_path, "0" * 64, "imagenet1k", record.preprocessing, record)
    trickzoo.export(model, tmp_path / "ours.safetensors")
    again = trickzoo.create("resnet18", weights=tmp_path / "ours.safetensors").weights
    assert again is not None
    assert (again.preprocessing, again.classes) == (record.preprocessing, "imagenet1k")


def test_weights_are_listed_as_json(call: Call) -> None:
    found = json.loads(call("weights", "list", "mobilenet_v1_025*", "--json")[1])
    assert {(row["name"], row["here"]) for row in found} >= {(OURS, True)}
    assert set(trickzoo.list_weights("mobilenet_v1_025*")) == {row["name"] for row in found}


def test_a_weight_that_is_not_installed_names_those_that_are(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store.local, "_packaged", lambda source: source.path if str(source.path).startswith("weights_manifest/") else None)
    status, _, err = call("weights", "path", "resnet18_d.tz_imagenette128")
    assert status == 2
    assert "a checkout of the repository has weights/resnet18_d.tz_imagenette128.safetensors: copy it" in err
    assert err.rstrip().endswith("This installation contains mobilenet_v1_025.tz_imagenette128.")
    published = store.advice(manifest.find("resnet18.tv_in1k"), "the hub cannot be reached")
    assert published.endswith(
        "or pass weights=PATH (--weights PATH on the command line). This installation contains mobilenet_v1_025.tz_imagenette128."
    )
