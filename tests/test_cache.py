"""The cache of decoded images: it is read if it is complete, and made again if it is damaged."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from trickzoo.data import cache
from trickzoo.data.cache import PIXELS, SEALS, SIZES, open_or_decode
from trickzoo.data.imageset import ReadImage
from trickzoo.errors import BadOption


class Samples(Dataset[ReadImage]):
    """Six images of noise, and how often one was made."""

    made = 0

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> ReadImage:
        self.made += 1
        pixels = torch.randint(0, 256, (3, 8, 8), generator=torch.Generator().manual_seed(index), dtype=torch.uint8)
        return ReadImage(index, pixels, (10 + index, 20))


def wanted() -> np.ndarray[Any, Any]:
    samples = Samples()
    return np.stack([samples[i].pixels for i in range(6)])  # type: ignore[misc]


def check(place: Path) -> int:
    """Open the cache, compare what it gives, and return how many images were made for it."""
    samples = Samples()
    pixels, sizes = open_or_decode(samples, place, 0)
    np.testing.assert_array_equal(pixels, wanted())
    np.testing.assert_array_equal(sizes, [(10 + i, 20) for i in range(6)])
    return samples.made


@pytest.fixture
def place(tmp_path: Path) -> Path:
    assert check(tmp_path / "kept" / "images") == 6
    return tmp_path / "kept" / "images"


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) * 3 // 4] ^= 1
    path.write_bytes(content)


DAMAGE: list[Callable[[Path], object]] = [
    lambda place: flip(place / PIXELS),
    lambda place: flip(place / SIZES),
    lambda place: (place / PIXELS).write_bytes(b""),
    lambda place: (place / SIZES).write_bytes(b""),
    lambda place: (place / PIXELS).write_bytes((place / PIXELS).read_bytes()[:-9]),
    lambda place: (place / SIZES).write_bytes(b"PK\x03\x04" + bytes(200)),
    lambda place: (place / SIZES).write_bytes((place / SIZES).read_bytes().replace(b"False", b"(((((")),
    lambda place: (place / PIXELS).unlink(),
    lambda place: (place / SEALS).write_bytes(b"[" * 100_000),
    lambda place: (place / SEALS).write_bytes(b""),
    lambda place: np.save(place / PIXELS, np.zeros((5, 3, 8, 8), np.uint8)),
    lambda place: np.save(place / SIZES, np.zeros((6, 2), np.int64)),
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_damaged_is_made_again_and_told(damage: Callable[[Path], object], place: Path, caplog: pytest.LogCaptureFixture) -> None:
    damage(place)
    assert check(place) == 6
    (message,) = caplog.messages
    assert message.startswith(f"{place} is made again, because ")
    assert check(place) == 0


@pytest.mark.parametrize("damage", [lambda place: (place / SIZES).unlink(), lambda place: (place / PIXELS).write_bytes(b"\x93NUMPY")])
def test_a_cache_of_an_older_version_is_used_and_checked_from_then_on(damage: Callable[[Path], object], place: Path) -> None:
    (place / SEALS).unlink()
    assert check(place) == 0
    flip(place / PIXELS)
    assert check(place) == 6
    (place / SEALS).unlink()
    damage(place)
    assert check(place) == 6


def test_contents_are_hashed_only_where_size_or_time_have_changed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []
    digest = cache._digest
    monkeypatch.setattr(cache, "_digest", lambda path, size: hashed.append(path.name) or digest(path, size))  # type: ignore[func-returns-value]
    assert check(place) == 0
    assert hashed == []
    os.utime(place / PIXELS)
    assert (check(place), check(place)) == (0, 0)
    assert hashed == [PIXELS]


def test_the_digest_does_not_depend_on_threads_and_sees_every_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "CHUNK", 10)
    path = tmp_path / "file"
    seen = set()
    for i in range(35):
        content = bytearray(35)
        content[i] = 1
        path.write_bytes(content)
        seen.add(cache._digest(path, 35))
        monkeypatch.setattr(os, "cpu_count", lambda: 1)
        assert cache._digest(path, 35) in seen
        monkeypatch.undo()
        monkeypatch.setattr(cache, "CHUNK", 10)
    assert len(seen) == 35


def test_a_whole_cache_is_only_read(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    (place / SEALS).unlink()
    for name in ("write_atomically", "FileLock", "_decode"):
        monkeypatch.setattr(cache, name, refuse)
    assert check(place) == 0
    shutil.rmtree(place)
    with pytest.raises(BadOption, match=r"cannot keep decoded images \(Permission denied\); name another folder with --cache"):
        check(place)
