"""The fixtures that several test files use. Every test runs in a cache of its own and without the network."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from filelock import FileLock
from hypothesis import settings
from PIL import Image
from torch import fx

import trickzoo
from tests import training
from tests.annotated import detector, segmenter
from tests.commands import Call, caller
from tests.deployment import exported
from tests.hub import Hub
from tests.images import jpeg
from trickzoo.cli import zoo
from trickzoo.data.classes import IMAGENETTE
from trickzoo.data.readers.imagenet import open_imagenet
from trickzoo.data.resident import Resident, decode_once, squash
from trickzoo.deployment import onnx_file
from trickzoo.weights.loaded import LoadedWeights
from trickzoo.weights.record import Preprocessing

settings.register_profile("suite", derandomize=True)  # the same examples in every run
settings.load_profile("suite")
torch.set_num_threads(1)  # the networks here are small, and threads that wait for a busy core slow everything down


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs `trickzoo`; (exit status, stdout, stderr)."""
    return caller(capsys, zoo)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the user's cache, manifest, lock file or hub; the default endpoint refuses connections."""
    for name in ("TRICKZOO_MANIFEST", "TRICKZOO_LOCK", "HF_HUB_OFFLINE", "HF_TOKEN", "HF_HUB_ETAG_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TRICKZOO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def no_precision_is_left() -> None:
    """Accelerate keeps the first precision that a process asks for."""
    AcceleratorState._reset_state()


@pytest.fixture(autouse=True, scope="session")
def each_network_is_converted_once() -> Iterator[None]:
    """The conversion to ONNX takes seconds, and many tests deploy the same network."""
    files: dict[tuple[str, str], bytes] = {}

    def to_onnx(network: fx.GraphModule, example: tuple[torch.Tensor, ...], path: Path, **options: Any) -> None:
        values = b"".join(tensor.detach().contiguous().numpy().tobytes() for tensor in network.state_dict().values())
        key = (network.code, hashlib.sha256(values).hexdigest())
        if key not in files:
            onnx_file.to_onnx(network, example, path, **options)
            files[key] = path.read_bytes()
        path.write_bytes(files[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trickzoo.deployment.forms.to_onnx", to_onnx)
        yield


@pytest.fixture(scope="session")
def packs() -> Path:
    """Folder of the unpacked image packs, for tests marked `packs`."""
    return Path(os.environ["TRICKZOO_PACKS"])


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """An empty hub, in place of huggingface.co."""
    with Hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        yield hub


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three images of each of Imagenette's classes."""
    for i, synset in enumerate(IMAGENETTE):
        for j in range(3):
            jpeg(tmp_path / "photos" / "val" / synset / f"{j}.JPEG", 10 * i + j)
    return tmp_path / "photos"


@pytest.fixture(scope="session")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four classes told apart by colour, 14 noisy training images each: learnt within a few steps."""
    folder = tmp_path_factory.mktemp("colours")
    noise = np.random.default_rng(0)
    for split, n in (("train", 14), ("val", 5)):
        for c, colour in enumerate([(200, 40, 40), (40, 200, 40), (40, 40, 200), (200, 200, 40)]):
            for i in range(n):
                pixels = np.clip(np.array(colour) + noise.normal(0, 40, (36, 30 + 8 * (i % 2), 3)), 0, 255).astype(np.uint8)
                path = folder / split / f"c{c}" / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    return folder


@pytest.fixture(scope="session")
def resident(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Resident:
    return decode_once(open_imagenet(colours, split="train"), squash(40), "40", tmp_path_factory.mktemp("resident"), workers=0)


@pytest.fixture(scope="session")
def val(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Resident:
    return decode_once(open_imagenet(colours), squash(32), "val", tmp_path_factory.mktemp("val"), workers=0)


@pytest.fixture(scope="session")
def undisturbed(resident: Resident, val: Resident, tmp_path_factory: pytest.TempPathFactory) -> training.Finished:
    """The training of `training.RECIPE` without a stop."""
    return training.finished(resident, val, tmp_path_factory.mktemp("undisturbed"))


@pytest.fixture(scope="session")
def exported_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with exported classifiers and images; nobody is to write there.

    The export takes seconds, so the processes of pytest-xdist share it: the first that needs the folder makes it.
    """
    root = tmp_path_factory.getbasetemp()
    folder = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "exported"
    with FileLock(folder.with_suffix(".lock")):
        if not folder.exists():
            exported(made := tmp_path_factory.mktemp("exported"))
            made.rename(folder)
    return folder


@pytest.fixture
def disk() -> Iterator[Callable[[int], None]]:
    """Says how many bytes a file may have from now on; what writes more is refused by the operating system, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Make a folder read-only, for root too: opening a file below it for writing, and renaming to it, fail with EROFS."""

    def refuse(call: Callable[..., Any], folder: Path, place: int, writes: Callable[..., bool]) -> Callable[..., Any]:
        def checked(*arguments: Any, **options: Any) -> Any:
            path = arguments[place]
            if writes(*arguments[1:], **options) and isinstance(path, str | os.PathLike) and Path(path).is_relative_to(folder):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
            return call(*arguments, **options)

        return checked

    def read_only(folder: Path) -> None:
        for_writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT
        monkeypatch.setattr(os, "open", refuse(os.open, folder, 0, lambda flags, *_, **__: bool(flags & for_writing)))
        monkeypatch.setattr(io, "open", refuse(io.open, folder, 0, lambda mode="r", *_, **__: not set("wax+").isdisjoint(mode)))
        monkeypatch.setattr(os, "replace", refuse(os.replace, folder, 1, lambda *_, **__: True))

    return read_only


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A random network of Imagenette's ten classes, in a file that says how to feed it."""
    model = trickzoo.create("mobilenet_v1_025", num_classes=10).eval()
    path = tmp_path / "tiny.safetensors"
    model.weights = LoadedWeights("tiny", path, classes=IMAGENETTE, preprocessing=Preprocessing(size=32, crop=1.0))
    trickzoo.export(model, path)
    return path


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders as of trainings of a detector, a segmenter and a classifier (boxes, masks, classes), and two photographs.

    The networks are random, and one of the photographs, b.jpg, is turned by its EXIF orientation. Nobody is to write there.
    """
    folder = tmp_path_factory.mktemp("trained")
    detector(folder / "boxes" / "model.safetensors", ("cat", "dog"))
    segmenter(folder / "masks" / "model.safetensors", ("background", "cat", "dog"))
    torch.manual_seed(0)
    network = trickzoo.create("mobilenet_v1_025", num_classes=3)
    prepared = Preprocessing(size=32, crop=1.0)
    trickzoo.export(network, folder / "classes" / "model.safetensors", classes=("cat", "n01440764", "cow"), preprocessing=prepared)
    image = Image.open(jpeg(folder / "a.jpg", 1, (160, 120)))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(folder / "b.jpg", exif=exif, quality=95)
    return folder
