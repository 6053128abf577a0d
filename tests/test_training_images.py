"""The images of a classifier's training: from files and decoded once, damaged, changed and restored."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.training import RECIPE, run, same
from trickzoo.data.identity import contents_digest
from trickzoo.data.loaders import Streamed
from trickzoo.data.readers.imagenet import open_imagenet
from trickzoo.data.resident import Resident, decode_once, squash
from trickzoo.data.workers import in_workers
from trickzoo.errors import BadCheckpoint, BadData, BadOption
from trickzoo.training import checkpoint
from trickzoo.training.progress import Progress


def _images(folder: Path, counts: dict[str, int]) -> Streamed:
    for name, n in counts.items():
        for i in range(n):
            path = folder / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 40), (i, i, i)).save(path)
    return Streamed(open_imagenet(folder), workers=0)


@pytest.mark.parametrize(
    ("counts", "batch_size", "message"),
    [
        ({"a": 3, "b": 3}, 8, "batch of 8 is larger than the training set of 6"),
        ({"a": 9, "b": 1}, 4, r"1 of 2 classes has fewer than two training images \(b\); add some, or leave the class out"),
        ({"a": 9, "b": 1, "c": 1}, 4, r"2 of 3 classes have fewer than two training images \(b, c\); add some, or leave these classes out"),
        ({"a": 9}, 4, "there is one class"),
    ],
)
def test_data_that_cannot_be_trained_on(counts: dict[str, int], batch_size: int, message: str, tmp_path: Path) -> None:
    with pytest.raises(BadData, match=message):
        run(_images(tmp_path / "data", counts), tmp_path / "out", RECIPE.but("other", batch_size=batch_size))


def test_a_corrupt_image_is_named_when_it_is_read(tmp_path: Path) -> None:
    data = _images(tmp_path / "data", {"a": 9, "b": 9})
    (tmp_path / "data" / "b" / "7.png").write_bytes(b"broken")
    with pytest.raises(BadData, match=r"data/b/7.png is not a readable image"):
        run(data, tmp_path / "out", RECIPE.but("all of them", batch_size=6))
    with pytest.raises(BadData, match=r"data/b/7.png is not a readable image"):
        decode_once(data.images, squash(32), "x", tmp_path / "resident", workers=0)
    assert [path.name for path in (tmp_path / "resident").iterdir() if path.is_dir()] == []


def test_one_set_of_workers_serves_all_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(*arguments: Any, **options: Any) -> Any:
        calls.append(options)
        return in_workers(*arguments, **options)

    monkeypatch.setattr("trickzoo.data.loaders.in_workers", counted)
    run(_images(tmp_path / "data", {"a": 9, "b": 9}), tmp_path / "out", RECIPE.but("test.workers", batch_size=6))
    assert RECIPE.epochs > 1
    assert calls == [{"trains_on": torch.device("cpu")}]


def test_a_training_resumes_once_a_corrupt_image_is_restored(tmp_path: Path) -> None:
    data = _images(tmp_path / "data", {"a": 9, "b": 9})
    recipe = RECIPE.but("test.corrupt", batch_size=6)
    straight = run(data, tmp_path / "straight", recipe)
    contents = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (tmp_path / "data").rglob("*.png")}

    def damage(progress: Progress) -> None:
        for path in contents if progress.step == 2 else ():
            path.write_bytes(b"broken")

    with pytest.raises(
        BadData, match=r"/data/./\d\.png is not a readable image .*; to resume, restore the file with its old modification time; or"
    ):
        run(data, tmp_path / "out", recipe, report=damage)
    assert checkpoint.load(tmp_path / "out" / "last.pt", recipe, data_digest=data.digest, seed=0)["step"] == 2
    for path, (content, _) in contents.items():
        path.write_bytes(content)
    with pytest.raises(BadCheckpoint, match=r"belongs to another training run: its data is .* \(--decode, .*; name another --out"):
        run(Streamed(open_imagenet(tmp_path / "data"), workers=0), tmp_path / "out", recipe)
    for path, (_, time) in contents.items():
        os.utime(path, ns=(time, time))
    again = Streamed(open_imagenet(tmp_path / "data"), workers=0)
    assert same(run(again, tmp_path / "out", recipe), straight)


def test_images_are_decoded_once_and_again_when_they_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = _images(tmp_path / "data", {"a": 3, "b": 3}).images
    first = decode_once(images, squash(16), "16", tmp_path / "resident", workers=0)
    np.testing.assert_array_equal(first.pixels[:, :, 0, 0], np.repeat([[0], [1], [2]] * 2, 3, axis=1))
    with monkeypatch.context() as patch:
        patch.setattr("trickzoo.data.cache._decode", lambda *_: pytest.fail("decoded twice"))
        decode_once(images, squash(16), "16", tmp_path / "resident", workers=0)
    Image.new("RGB", (40, 40), (99, 99, 99)).save(tmp_path / "data" / "a" / "0.png")
    assert decode_once(images, squash(16), "16", tmp_path / "resident", workers=0).pixels[0, 0, 0, 0] == 99


def test_disk_space_is_allocated_before_images_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = _images(tmp_path / "data", {"a": 3, "b": 3}).images

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(BadOption, match=r"cannot keep decoded images \(No space left on device\); name another folder with --cache"):
            decode_once(images, squash(16), "16", tmp_path / "resident", workers=0)
    assert [path for path in (tmp_path / "resident").iterdir() if path.is_dir()] == []
    with pytest.raises(BadOption, match="cannot keep decoded images"):
        decode_once(images, squash(16), "16", tmp_path / "data" / "a" / "0.png", workers=0)


def test_unfinished_files_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    images = _images(tmp_path / "data", {"a": 3, "b": 3}).images
    left = tmp_path / "resident" / f".{contents_digest(images)[:32]}-16-upright.unfinished"
    left.mkdir(parents=True)
    (left / "pixels.npy").write_bytes(b"half")
    assert len(decode_once(images, squash(16), "16", tmp_path / "resident", workers=0).pixels) == 6
    (kept,) = [path for path in (tmp_path / "resident").iterdir() if path.is_dir()]
    assert kept.stat().st_mode == (tmp_path / "resident").stat().st_mode  # other users of the folder can read it


@pytest.mark.parametrize("index", [-1, 3])
def test_an_image_that_is_not_in_the_set_is_not_another_one(index: int) -> None:
    pixels = np.arange(3, dtype=np.uint8)[:, None, None, None].repeat(3, 1)
    images = Resident(pixels, np.ones((3, 2), np.int64), np.zeros(3, np.int64), ("a",), "")
    assert images.take(torch.tensor([2, 0])).flatten().tolist() == [2, 2, 2, 0, 0, 0]
    with pytest.raises(IndexError, match="of 3"):
        images.take(torch.tensor([0, index]))
