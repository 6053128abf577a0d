"""Files that `create` refuses, and the messages."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

import trickzoo
from tests.checkpoints import FORMATS, SMALL, complaint, network, saved, state
from trickzoo.errors import BadCheckpoint
from trickzoo.weights import header as headers
from trickzoo.weights.record import METADATA_KEY


class Payload:
    """An object that creates a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return open, (str(self.target), "w")


PICKLES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "code": (lambda target: {"state_dict": state(), "extra": Payload(target)}, "it refers to io.open"),
    "whole model": (lambda _: network(), "it refers to trickzoo.models.mobilenet.MobileNetV1"),
    "arrays": (lambda _: {key: tensor.numpy() for key, tensor in state().items()}, "_reconstruct"),
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("what", PICKLES)
def test_pickles_with_more_than_tensors(what: str, zipped: bool, tmp_path: Path) -> None:
    make, wants = PICKLES[what]
    file, target = tmp_path / "weights.pth", tmp_path / "executed"
    torch.save(make(target), file, _use_new_zipfile_serialization=zipped)
    message = complaint(BadCheckpoint, SMALL, weights=file)
    assert message.startswith(f"{file} is a pickle that trickzoo does not load: it refers to ")
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
    ("folder.pth", lambda file: file.mkdir(), "holds no finished training run; name its last.pt"),
    ("list.pth", lambda file: torch.save([1, 2], file), "holds no state dict"),
    ("numbers.pth", lambda file: torch.save({0: torch.ones(1)}, file), "holds no state dict"),
    ("none.pth", lambda file: torch.save({}, file), "holds no state dict"),
]


@pytest.mark.parametrize(("name", "write", "words"), DAMAGED, ids=[name for name, _, _ in DAMAGED])
def test_files_that_are_not_checkpoints(name: str, write: Callable[[Path], Any], words: str, tmp_path: Path) -> None:
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
    assert "wrong shape conv_stem.weight" in message
    assert message.endswith("Its tensors are those of mobilenet_v1_025: create that")


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    file = saved({"blocks.0.weight": torch.ones(1), "blocks.1.weight": torch.ones(1)}, tmp_path / "weights.safetensors")
    message = complaint(BadCheckpoint, "resnet18", weights=file)
    assert "unexpected blocks.0.weight, blocks.1.weight" in message
    assert "create" not in message


@pytest.mark.parametrize("part", ["backbone", "0"])
def test_a_network_that_is_part_of_another_module(part: str, tmp_path: Path) -> None:
    file = saved({f"{part}.{key}": tensor for key, tensor in state(layout="timm").items()}, tmp_path / "weights.safetensors")
    message = complaint(BadCheckpoint, SMALL, weights=file)
    assert message.endswith(f'. All its names begin with "{part}.": save the state dict of this part of the network alone')


@pytest.mark.parametrize("header", [False, True], ids=["found", "said"])
@pytest.mark.parametrize(("change", "key"), [("missing", "stages.2.0.bn1.running_mean"), ("unexpected", "stages.9.weight")])
def test_checkpoint_with_one_key_too_few_or_too_many(change: str, key: str, header: bool, tmp_path: Path) -> None:
    """The layout is found from the keys, or stated by the header."""
    tensors = state()
    if change == "missing":
        del tensors[key]
    else:
        tensors[key] = torch.ones(1)
    save_file(tensors, file := tmp_path / "weights.safetensors", headers.header(network()) if header else None)
    assert complaint(BadCheckpoint, SMALL, weights=file) == f"{file} does not fit {SMALL}: {change} {key}"


def test_resnet50_of_timm_is_resnet50_b(tmp_path: Path) -> None:
    """Its stride is in the 3x3 convolution. All tensors but the missing biases would fit, and compute something else."""
    with torch.device("meta"):
        names = timm.create_model("resnet50").state_dict()
    file = saved({key: torch.zeros(tensor.shape) for key, tensor in names.items()}, tmp_path / "resnet50.safetensors")
    message = complaint(BadCheckpoint, "resnet50", weights=file)
    assert f"{file} does not fit resnet50: " in message
    assert message.endswith("Its tensors are those of resnet50_b: create that")


def test_file_whose_header_names_another_model(tmp_path: Path) -> None:
    trickzoo.export(network("resnet18_c"), file := tmp_path / "own.safetensors")
    words = f"{file} holds resnet18_c, not resnet18_d; create resnet18_c to load it"
    assert complaint(BadCheckpoint, "resnet18_d", weights=file) == words
    tensors = load_file(file)
    save_file(tensors, file, {METADATA_KEY: "{"})
    assert f"{file}: its trickzoo header cannot be read" in complaint(BadCheckpoint, "resnet18_c", weights=file)
