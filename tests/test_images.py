"""The one place where images are opened: which files, which formats, which modes, how large."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.images import jpeg
from trickzoo.data import images, listing
from trickzoo.errors import BadData
from trickzoo.files import read_regular


def test_only_the_listed_formats_are_opened_whatever_a_file_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    Image.init()
    factory, accept = Image.OPEN["EPS"]

    def record(*args: Any) -> Any:
        opened.append(args)
        return factory(*args)

    monkeypatch.setitem(Image.OPEN, "EPS", (record, accept))
    for name, kind in (("a.jpg", "EPS"), ("b.png", "TGA"), ("c.tif", "PCX")):
        Image.new("RGB", (20, 10)).save(tmp_path / name, format=kind)
        with pytest.raises(BadData, match=f"{name} is not a readable image \\(no image format among JPEG, PNG"):
            images.read(tmp_path / name)
    assert not opened


@pytest.mark.parametrize("kind", images.FORMATS)
def test_each_listed_format_is_read_under_each_of_its_suffixes(tmp_path: Path, kind: str) -> None:
    for suffix in images.FORMATS[kind]:
        Image.new("RGB", (20, 10), "red").save(tmp_path / f"whole{suffix}", format=kind)
        assert images.read(tmp_path / f"whole{suffix}").size == (20, 10)
        assert suffix in images.EXTENSIONS


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no FIFO")
@pytest.mark.timeout(20)
def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.jpg")
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "folder.jpg").mkdir()
    jpeg(tmp_path / "whole.jpg")
    (tmp_path / "link.jpg").symlink_to("whole.jpg")
    wrong = {"fifo": "not a regular file", "device": "not a regular file", "loop": "symbolic links", "folder": "directory"}
    for name, reason in wrong.items():
        for use in (images.read, images.size_of, images.content, listing.read_lines):
            with pytest.raises(BadData, match=f"{name}.jpg cannot be read \\(.*{reason}"):
                use(tmp_path / f"{name}.jpg")  # type: ignore[operator]
    assert images.read(tmp_path / "link.jpg").size == (40, 30)


def test_a_file_of_more_bytes_than_asked_for_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ten").write_bytes(b"0123456789")
    assert read_regular(tmp_path / "ten", at_most=10) == b"0123456789"
    with pytest.raises(OSError, match="more than 9 bytes"):
        read_regular(tmp_path / "ten", at_most=9)
