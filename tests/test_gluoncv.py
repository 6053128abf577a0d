"""Files of GluonCV, the authors' implementation: what MXNet's format may hold, which network it is, and that it computes the same."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import nn

import trickzoo
from tests import gluoncv
from tests.test_parity import filled
from trickzoo.errors import BadCheckpoint, BadOption
from trickzoo.gluoncv import import_gluoncv
from trickzoo.training.measures import MEASURES
from trickzoo.weights.header import FileMetadata, of_file
from trickzoo.weights.mxnet import read_params

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet18": lambda: gluoncv.resnet_v1(18),
    "resnet50": lambda: gluoncv.resnet_v1(50),
    "resnet18_d": lambda: timm.create_model("resnet18d"),  # GluonCV's v1b to v1s have the names of timm's layers
    "resnet50_s": lambda: timm.create_model("resnet50s"),
    "mobilenet_v1_025": lambda: gluoncv.mobilenet(0.25),
    "mobilenet_v1_075": lambda: gluoncv.mobilenet(0.75),
    "inception_v3": gluoncv.inception,
}


def import_params(path: Path, out: Path, *, overwrite: bool = False) -> FileMetadata:
    """Import a file, and return the header of the new one."""
    import_gluoncv(path, out, overwrite=overwrite)
    own = of_file(out)
    assert own is not None
    return own


def network(name: str) -> nn.Module:
    with torch.device("meta"):
        made = NETWORKS[name]()
    made = filled(made)
    for block in made.modules():  # as `filled` does for the last norms of other libraries' blocks
        if isinstance(block, gluoncv.Residual):
            block.body[-1].weight.data.mul_(0.2)
    return made


LARGE = ("resnet50_s",)


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] if name in LARGE else []) for name in NETWORKS])
def test_an_imported_network_computes_the_same(name: str, tmp_path: Path) -> None:
    theirs = network(name)
    gluoncv.save(theirs, tmp_path / "net.params")
    own = import_params(tmp_path / "net.params", tmp_path / "net.safetensors")
    (tmp_path / "net.params").unlink()
    assert own.model == name
    ours = trickzoo.create(name, weights=tmp_path / "net.safetensors")
    assert not ours.weights.not_loaded
    assert ours.weights.classes == "imagenet1k"
    x = torch.randn(2, 3, *((107, 131) if name == "inception_v3" else (97, 65)), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = theirs(x)
        assert 0.05 < expected.std() < 20
        torch.testing.assert_close(ours(x), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("version", [0, 1, 2, 3])
def test_arrays_of_every_version_and_type(version: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {f"arg:{kind}": (rng.random((2, 3)) * 9).astype(kind) for kind in gluoncv.TYPES}
    arrays["aux:é.mean"] = rng.random((4, 1, 2), np.float32)
    if version == 3:
        arrays["scalar"] = np.array(7, np.int32)
    (tmp_path / "a.params").write_bytes(gluoncv.params(arrays, version))
    found = read_params(tmp_path / "a.params")
    assert list(found) == [name.split(":")[-1] for name in arrays]
    for tensor, expected in zip(found.values(), arrays.values(), strict=True):
        assert tensor.numpy().dtype == expected.dtype
        np.testing.assert_array_equal(tensor.numpy(), expected)


def test_a_file_that_mxnet_wrote(tmp_path: Path) -> None:
    """Bytes of mxnet.nd.save 1.9.1 for {"features.0.weight": [[0, 1, 2], [3, 4, 5]], "b": int64 [1, 2, 3], "h": float16 [1.5]}."""
    (tmp_path / "a.params").write_bytes(bytes.fromhex(WRITTEN_BY_MXNET))
    found = read_params(tmp_path / "a.params")
    assert {name: (tensor.dtype, tensor.tolist()) for name, tensor in found.items()} == {
        "features.0.weight": (torch.float32, [[0, 1, 2], [3, 4, 5]]),
        "b": (torch.int64, [1, 2, 3]),
        "h": (torch.float16, [1.5]),
    }


WRITTEN_BY_MXNET = (
    "120100000000000000000000000000000300000000000000c9fa93f9000000000200000002000000000000000300000000000000010000000000000000000000"
    "000000000000803f0000004000004040000080400000a040c9fa93f9000000000100000003000000000000000100000000000000060000000100000000000000"
    "02000000000000000300000000000000c9fa93f900000000010000000100000000000000010000000000000002000000003e0300000000000000110000000000"
    "000066656174757265732e302e776569676874010000000000000062010000000000000068"
)

GOOD = gluoncv.params({"a.weight": np.zeros((2, 2), np.float32), "b.bias": np.zeros(3, np.float32)})
FIRST = 24  # the first array begins after three numbers of eight bytes
DAMAGED = {
    "empty": (b"", "it ends too early"),
    "a photograph": (b"\xff\xd8\xff\xe0" * 20, "it begins with 0xe0ffd8ffe0ffd8ff, not 0x112"),
    "too many arrays": (GOOD[:16] + struct.pack("<Q", 1 << 40) + GOOD[24:], "it has 1,099,511,627,776 arrays, which no network"),
    "sparse": (GOOD[: FIRST + 4] + struct.pack("<i", 1) + GOOD[FIRST + 8 :], "array 0 is sparse"),
    "dimensions": (GOOD[: FIRST + 8] + struct.pack("<i", 40) + GOOD[FIRST + 12 :], "array 0 has 40 dimensions"),
    "no dimension": (GOOD[: FIRST + 8] + struct.pack("<i", 0) + GOOD[FIRST + 12 :], "array 0 has 0 dimensions"),
    "negative side": (GOOD[: FIRST + 12] + struct.pack("<q", -2) + GOOD[FIRST + 20 :], "array 0 has the shape (-2, 2)"),
    "huge side": (GOOD[: FIRST + 12] + struct.pack("<q", 1 << 60) + GOOD[FIRST + 20 :], "it ends too early"),
    "type": (GOOD[: FIRST + 36] + struct.pack("<i", 99) + GOOD[FIRST + 40 :], "array 0 has the data type 99"),
    "more": (GOOD + b"x", "1 bytes follow the last name"),
    "one name": (gluoncv.params({"a": np.zeros(1, np.float32), "arg:a": np.zeros(1, np.float32)}), "two arrays have one name"),
    "name": (GOOD[:-1] + b"\xff", "codec can't decode"),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_file_is_refused(what: str, tmp_path: Path) -> None:
    content, words = DAMAGED[what]
    (tmp_path / "a.params").write_bytes(content)
    with pytest.raises(BadCheckpoint, match=r"is not a whole file of MXNet's arrays") as error:
        read_params(tmp_path / "a.params")
    assert words in str(error.value)


@pytest.mark.parametrize("length", range(0, len(GOOD), 7))
def test_a_truncated_file_is_refused(length: int, tmp_path: Path) -> None:
    (tmp_path / "a.params").write_bytes(GOOD[:length])
    with pytest.raises(BadCheckpoint, match="it ends too early"):
        read_params(tmp_path / "a.params")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a small MobileNet."""
    path = tmp_path_factory.mktemp("params") / "mobilenet0.25.params"
    gluoncv.save(network("mobilenet_v1_025"), path)
    return path


def test_a_file_that_is_not_what_its_name_says_is_refused(small: Path, tmp_path: Path) -> None:
    sha1 = hashlib.sha1(small.read_bytes()).hexdigest()
    right, wrong = tmp_path / f"net-{sha1[:8]}.params", tmp_path / "mobilenet0.25-f0046a3d.params"
    for path in (right, wrong):
        path.write_bytes(small.read_bytes())
    own = import_params(right, tmp_path / "right.safetensors")
    assert own.training == {"origin": "GluonCV", "file": right.name, "sha1": sha1}
    with pytest.raises(BadCheckpoint, match=f"is damaged: its SHA-1 is {sha1}, and its name says f0046a3d"):
        import_params(wrong, tmp_path / "wrong.safetensors")
    assert not (tmp_path / "wrong.safetensors").exists()


def test_published_figures_have_names_for_readers() -> None:
    assert {name for published in trickzoo.weights.gluoncv.PUBLISHED.values() for name in published.metrics} <= MEASURES.keys()


def test_a_published_file_is_recognised_by_its_digest(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sha1 = hashlib.sha1(small.read_bytes()).hexdigest()
    monkeypatch.setitem(trickzoo.weights.gluoncv.PUBLISHED, sha1[:8], trickzoo.weights.gluoncv.PUBLISHED["f0046a3d"])
    own = import_params(small, tmp_path / "net.safetensors")
    assert own.training["name"] == "mobilenet0.25"
    assert own.training["imagenet1k-val"] == {"top1": 52.91, "top5": 76.94}
    assert trickzoo.create("mobilenet_v1_025", weights=tmp_path / "net.safetensors").weights.training == own.training


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"features.0.weight": (32, 3, 3, 3)}, r"is not a classifier of GluonCV that trickzoo has; the nearest is "),
        ({"mobilenet0_conv0_weight": (32, 3, 3, 3)}, r"has the names of save_params"),
    ],
)
def test_a_file_of_another_network_is_refused(arrays: dict[str, tuple[int, ...]], words: str, tmp_path: Path) -> None:
    (tmp_path / "a.params").write_bytes(gluoncv.params({name: np.zeros(shape, np.float32) for name, shape in arrays.items()}))
    with pytest.raises(BadCheckpoint, match=words):
        import_params(tmp_path / "a.params", tmp_path / "a.safetensors")


def test_files_are_not_overwritten_by_accident(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "net.safetensors"
    out.write_bytes(b"precious")
    with pytest.raises(BadOption, match="overwrite it with --overwrite"):
        import_params(small, out)
    assert out.read_bytes() == b"precious"
    import_params(small, out, overwrite=True)
    with pytest.raises(BadOption, match=r"must end in \.safetensors"):
        import_params(small, tmp_path / "net.pth")
