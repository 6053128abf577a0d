"""CIFAR-10 and Places365: generated images in the files that torchvision's readers take."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10, Places365

from tests.commands import Call, caller, evaluate
from tests.images import jpeg
from tests.training import COSINE, SMALL, run
from trickzoo.cli.train import app
from trickzoo.data.loaders import Streamed
from trickzoo.data.open import open_set
from trickzoo.data.resident import decode_once, squash
from trickzoo.errors import BadData
from trickzoo.recipes.recipe import Recipe

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs `trickzoo-train`; (exit status, stdout, stderr)."""
    return caller(capsys, app)


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twenty images in each of the six batches, in the original's format; the digests that torchvision wants are these files'."""
    folder = tmp_path / "sets" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    noise = np.random.default_rng(0)
    for name in [name for name, _ in CIFAR10.train_list + CIFAR10.test_list]:
        labels = noise.permutation(20) % 10
        pixels = np.clip(noise.normal(0, 20, (20, 3, 1024)) + 25 * labels[:, None, None], 0, 255).astype(np.uint8)
        with (folder / name).open("wb") as file:
            pickle.dump({"data": pixels.reshape(20, 3072), "labels": labels.tolist(), "batch_label": name, "filenames": []}, file)
    with (folder / "batches.meta").open("wb") as file:
        pickle.dump({"label_names": NAMES, "num_cases_per_batch": 20, "num_vis": 3072}, file)
    for which in ("train_list", "test_list"):
        monkeypatch.setattr(CIFAR10, which, [[name, md5(folder / name)] for name, _ in getattr(CIFAR10, which)])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": md5(folder / "batches.meta")})
    return folder.parent


@pytest.mark.parametrize("split", ["train", "val"])
def test_cifar10_is_what_torchvision_reads(split: str, cifar: Path) -> None:
    theirs = CIFAR10(cifar, train=split == "train")
    for path in (cifar, cifar / "cifar-10-batches-py"):
        found = open_set(path, split=split)
        assert found.classes == tuple(NAMES)
        assert [entry.label for entry in found.entries] == [NAMES[label] for label in theirs.targets]
    resident = decode_once(found, squash(32), "32", cifar / "resident", workers=0)
    np.testing.assert_array_equal(resident.pixels.transpose(0, 2, 3, 1), theirs.data)
    assert resident.labels.tolist() == theirs.targets


def test_training_on_cifar10_goes_on_bit_for_bit(cifar: Path, tmp_path: Path) -> None:
    data = Streamed(open_set(cifar, split="train"), workers=0)
    recipe = Recipe("c", "mobilenet_v1_025", "cifar10", size=32, epochs=1, batch_size=10, lr=0.01, schedule="cosine")
    straight = run(data, tmp_path / "straight", recipe)
    run(data, tmp_path / "stopped", recipe, save_every=1, stop_after=4)
    assert all(torch.equal(a, b) for a, b in zip(straight.values(), run(data, tmp_path / "stopped", recipe).values(), strict=True))


def test_cifar10_trains_and_is_evaluated(call: Call, cifar: Path, tmp_path: Path) -> None:
    tokens = ("--recipe", COSINE, "--data", cifar, "--out", tmp_path / "run", *SMALL, "--workers", 0, "--decode", "once")
    status, text, error = call(*tokens)
    assert status == 0, error
    assert "mobilenet_v1_025 (no weights), 100 images of 10 classes" in text
    weights = ("--model", "mobilenet_v1_025", "--weights", tmp_path / "run" / "model.safetensors")
    result = evaluate("--data", cifar, *weights, "--batch-size", 5, out=tmp_path / "result.json")
    assert (result["n"], result["data"]["layout"]) == (20, "CIFAR-10, test images")
    assert "restricted" not in result


def test_damaged_cifar10(cifar: Path) -> None:
    (cifar / "cifar-10-batches-py" / "data_batch_3").write_bytes(b"another")
    with pytest.raises(BadData, match=r"cifar-10-batches-py is incomplete or damaged; unpack cifar-10-python.tar.gz"):
        open_set(cifar)


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three classes in the layout of Places365, small images; the digests that torchvision wants are these files'."""
    root = tmp_path / "places"
    classes = ["/a/airfield", "/a/apartment_building/outdoor", "/b/zoo"]
    train = [(f"{name}/{i:08d}.jpg", label) for label, name in enumerate(classes) for i in range(4)]
    val = [(f"Places365_val_{i:08d}.jpg", i % 3) for i in range(6)]
    for folder, images in (("data_256_standard", train), ("val_256", val)):
        for i, (name, _) in enumerate(images):
            jpeg(root / folder / name.lstrip("/"), i)
    (root / "categories_places365.txt").write_text("".join(f"{name} {i}\n" for i, name in enumerate(classes)))
    (root / "places365_train_standard.txt").write_text("".join(f"{name} {label}\n" for name, label in train))
    (root / "places365_val.txt").write_text("".join(f"{name} {label}\n" for name, label in val))
    monkeypatch.setattr(Places365, "_CATEGORIES_META", ("categories_places365.txt", md5(root / "categories_places365.txt")))
    lists = {"train-standard": "places365_train_standard.txt", "val": "places365_val.txt"}
    monkeypatch.setattr(Places365, "_FILE_LIST_META", {split: (name, md5(root / name)) for split, name in lists.items()})
    return root


@pytest.mark.parametrize("small", [True, False])
@pytest.mark.parametrize("split", ["train", "val"])
def test_places365_is_what_torchvision_reads(split: str, small: bool, places: Path) -> None:
    if not small:
        (places / "data_256_standard").rename(places / "data_large_standard")
        (places / "val_256").rename(places / "val_large")
    theirs = Places365(places, "train-standard" if split == "train" else "val", small=small)
    found = open_set(places, split=split)
    assert found.layout.startswith("Places365, data_" if split == "train" else "Places365, val_")
    assert found.classes == tuple(theirs.classes)
    assert [str(found.root / entry.name) for entry in found.entries] == [name for name, _ in theirs.imgs]
    assert [found.classes.index(entry.label) for entry in found.entries] == theirs.targets
    assert all(found.read(entry) == Path(name).read_bytes() for entry, (name, _) in zip(found.entries, theirs.imgs, strict=True))


def test_bad_places365(places: Path) -> None:
    (places / "val_256" / "Places365_val_00000001.jpg").write_bytes(b"broken")
    with pytest.raises(BadData, match=r"places/val_256/Places365_val_00000001.jpg is not a readable"):
        decode_once(open_set(places), squash(8), "8", places / "resident", workers=0)
    (places / "places365_val.txt").write_text("another")
    with pytest.raises(BadData, match=r"places365_val.txt does not exist or is corrupted; unpack filelist_places365-standard.tar"):
        open_set(places)
    (places / "val_256").rename(places / "else")
    with pytest.raises(BadData, match=r"has neither val_256/ nor val_large/; unpack"):
        open_set(places)
