"""Reading images that nobody has checked."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin, WebPImagePlugin  # noqa: F401 -- to know a format is to import its plug-in

from trickzoo.errors import BadData
from trickzoo.files import open_regular, read_regular

with contextlib.suppress(ImportError):  # Pillow has it from 11.3 on
    from PIL import AvifImagePlugin  # noqa: F401

T = TypeVar("T")

FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "AVIF": (".avif",),
}
"""The formats that are read, by Pillow's names for them, and the suffixes of their files.

Pillow knows many more, which its own plug-ins and those of other packages register; some start programs, as EPS starts Ghostscript.
Whatever a file is called, it is opened as one of these or not at all.
"""
if "AVIF" not in Image.OPEN:
    del FORMATS["AVIF"]
EXTENSIONS = frozenset(suffix for suffixes in FORMATS.values() for suffix in suffixes)
INDEXED = ("P", "L", "1", "I", "I;16")
"""Modes of PIL that hold indices."""
MAX_PIXELS = 100_000_000
"""An image of more is refused before it is decoded: a small file can unpack to any size."""


def decode(content: bytes, name: str) -> Image.Image:
    """The RGB image in the bytes of a file. Raises BadData with `name` if it is not a whole image, or too large to be one."""
    return _opened(content, name, lambda image: image.convert("RGB"))


def decode_mask(content: bytes, name: str) -> NDArray[np.integer[Any]]:
    """(H, W) indices in the bytes of a file of one channel; of a palette the numbers, not the colours. Raises BadData as `decode` does."""
    mode, mask = _opened(content, name, lambda image: (image.mode, np.asarray(image)))
    if mode not in INDEXED:
        raise BadData(
            f"{name} is of mode {mode}; a mask has one channel of class indices ({', '.join(INDEXED)}), so write the number of each "
            "pixel's class in place of its colour"
        )
    return mask.astype(np.uint8) if mode == "1" else mask


def size_of(path: Path) -> tuple[int, int]:
    """Width and height of the image in a file, from its first bytes. Raises BadData as `decode` does."""
    try:
        with open_regular(path) as file:
            return _opened(file, str(path), lambda image: image.size)
    except OSError as error:
        raise BadData(f"{path} cannot be read ({error.strerror})") from None


def size_in(content: bytes, name: str) -> tuple[int, int]:
    """Width and height of the image in the bytes of a file, from the first of them. Raises BadData as `decode` does."""
    return _opened(content, name, lambda image: image.size)


def content(path: Path) -> bytes:
    """The bytes of a file. Raises BadData if it cannot be read."""
    try:
        return read_regular(path)
    except OSError as error:
        raise BadData(f"{path} cannot be read ({error.strerror})") from None


def _opened(content: bytes | IO[bytes], name: str, take: Callable[[Image.Image], T]) -> T:
    """What `take` makes of the image in the bytes or the open file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of broken EXIF and of large images: the size is checked below
            image = Image.open(io.BytesIO(content) if isinstance(content, bytes) else content, formats=tuple(FORMATS))
            if image.width * image.height > MAX_PIXELS:
                raise BadData(
                    f"{name} would unpack to {image.width} × {image.height} pixels, more than {MAX_PIXELS:,}: a decompression bomb?"
                )
            return take(image)
    except BadData:
        raise
    except Image.DecompressionBombError:
        raise BadData(f"{name} would unpack to more than {MAX_PIXELS:,} pixels: a decompression bomb?") from None
    except (OSError, ValueError, SyntaxError, EOFError, MemoryError, TypeError, IndexError, OverflowError) as error:
        # PIL's decoders raise all of these on damaged files.
        size = len(content) if isinstance(content, bytes) else content.seek(0, io.SEEK_END)
        raise BadData(f"{name} is not a readable image ({_reason(error, size) if size else 'empty file'})") from None


def read(path: Path) -> Image.Image:
    """The RGB image in a file. Raises BadData as `decode` does, or if the file cannot be read."""
    return decode(content(path), str(path))


def _reason(error: Exception, size: int) -> str:
    text = str(error)
    if "cannot identify" in text:
        return f"no image format among {', '.join(FORMATS)}"
    if "truncated" in text:
        return f"truncated, {size:,} bytes are there"
    return text or type(error).__name__
