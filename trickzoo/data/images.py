"""The one place where image files are opened: which formats, how large, and what becomes of their modes and orientations."""

from __future__ import annotations

import contextlib
import io
import math
import struct
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, TiffImagePlugin, WebPImagePlugin  # noqa: F401 -- to know a format is to import its plug-in
from PIL.JpegImagePlugin import JpegImageFile

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
"""A decoded image has no more; a file that has more is decoded at a whole fraction of its size."""
MAX_MEMORY = 900_000_000
"""Bytes that decoding an image may take, its file among them. One that would take more is refused before it is decoded.

A small file can unpack to any size.
"""
LOOKED_AT = 2_000
"""Images whose EXIF is read to tell the user of orientations, before any is decoded."""
MAX_FILE = 2**29
"""Bytes; a longer file is not read."""
BYTES = {"L": 2, "RGB": 5}
"""What a pixel of a mode takes while it is decoded and brought to RGB; 8 in the other modes."""
FRAMES = {"WEBP": 16, "AVIF": 12}
"""The same for formats whose decoders hold several copies, whatever the mode."""

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What brings an image of each EXIF orientation upright."""
SIDEWAYS = (5, 6, 7, 8)
"""The orientations that exchange width and height."""


@dataclass(frozen=True)
class Picture:
    """An image as it is read.

    Attributes:
        image: RGB, 8 bits a channel, with the pixels as they are stored. It is smaller than `size` where that is more than `MAX_PIXELS`.
        size: width and height in the file.
        orientation: of EXIF, 1 to 8; 1 is upright, and what a file has that states none. TIFF is turned upright by Pillow itself.
    """

    image: Image.Image
    size: tuple[int, int]
    orientation: int = 1

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """(height, width, 3) uint8, for `numpy.asarray`."""
        return np.array(self.image, dtype)

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height of the file's image when it is upright."""
        return self.size[::-1] if self.orientation in SIDEWAYS else self.size

    @property
    def sides(self) -> str:
        """The size in words, for a message."""
        turned = f" ({'{} × {}'.format(*self.upright_size)} upright, by its EXIF orientation {self.orientation})"
        return f"{self.size[0]} × {self.size[1]}{turned if self.orientation > 1 else ''}"

    def upright(self) -> Picture:
        """The picture as viewers show it: turned and mirrored as its orientation says. `orientation` stays, to tell what was done."""
        if self.orientation not in TURNS:
            return self
        return Picture(self.image.transpose(TURNS[self.orientation]), self.upright_size, self.orientation)

    def as_annotated(self, stated: tuple[int, int]) -> Picture | None:
        """The picture as its annotation, which is for an image of the `stated` width and height, has seen it; None if neither way fits.

        If the image has an EXIF orientation, the stated size tells whether the annotation is for the stored or for the upright image. Where
        both have that size it is taken for the upright one, as browsers and annotation tools show it.
        """
        if stated == self.upright_size:
            return self.upright()
        return self if stated == self.size else None


def decode(content: bytes, name: str) -> Picture:
    """The image in the bytes of a file: the first of several frames or pages.

    Transparency is dropped. Of grey of 16 bits the upper byte is taken, as Pillow does it for colours of 16 bits. Raises BadData with
    `name` if it is not a whole image, too large, or has numbers of unknown range for pixels (32-bit integers, floating point).
    """
    return _opened(content, name, lambda image: _decoded(image, name, len(content)))


def decode_mask(content: bytes, name: str) -> NDArray[np.integer[Any]]:
    """(H, W) indices in the bytes of a file of one channel; of a palette the numbers, not the colours. Raises BadData as `decode` does.

    A mask that has an EXIF orientation of its own is turned upright.
    """

    def take(image: Image.Image) -> tuple[str, NDArray[np.integer[Any]]]:
        if _factor(image, len(content)) is None:
            raise _too_large(name, f"{image.width:,} × {image.height:,} pixels")
        image.load()
        turn = TURNS.get(_orientation(image))
        return image.mode, np.asarray(image if turn is None else image.transpose(turn))

    mode, mask = _opened(content, name, take)
    if mode not in INDEXED:
        raise BadData(
            f"{name} is of mode {mode}; a mask has one channel of class indices ({', '.join(INDEXED)}), so write the number of each "
            "pixel's class in place of its colour"
        )
    return mask.astype(np.uint8) if mode == "1" else mask


def orientation_notes(root: Path, names: Sequence[str]) -> tuple[str, ...]:
    """A line for the user if images of an annotated set have an EXIF orientation.

    Of a large set between `LOOKED_AT` and twice as many images are looked at, evenly spread.
    """
    looked_at = names[:: max(len(names) // LOOKED_AT, 1)]
    found = [name for name in looked_at if orientation_of(root / name) > 1]
    if not found:
        return ()
    of = "" if len(looked_at) == len(names) else f" of {len(looked_at):,} that were looked at"
    return (
        f"{len(found):,} image{'s' * (len(found) > 1)}{of} with an EXIF orientation (the first is {found[0]}): turned upright, "
        "unless the annotation is for the stored width and height",
    )


def rgb(image: Image.Image, name: str = "the image") -> Image.Image:
    """An image of any of Pillow's modes in RGB, 8 bits a channel, as `decode` makes it. Raises BadData as `decode` does."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):  # both are of 16 bits
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        kind = "32-bit integers" if image.mode == "I" else "floating-point numbers"
        raise BadData(f"{name} has {kind} for pixels, of a range that it does not state; save it with 8 or 16 bits a channel")
    if image.mode in ("La", "RGBa"):  # Pillow has no direct way from colours that are multiplied by their opacity
        image = image.convert("LA" if image.mode == "La" else "RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")


def size_of(path: Path) -> tuple[int, int]:
    """Width and height of the upright image in a file, from its first bytes. Raises BadData as `decode` does."""
    try:
        with open_regular(path) as file:
            return _opened(file, str(path), lambda image: Picture(image, image.size, _early_orientation(image)).upright_size)
    except OSError as error:
        raise BadData(f"{path} cannot be read ({error.strerror})") from None


def size_in(content: bytes, name: str) -> tuple[int, int]:
    """Width and height of the stored image in the bytes of a file, from the first of them. Raises BadData as `decode` does."""
    return _opened(content, name, lambda image: image.size)


def orientation_of(path: Path) -> int:
    """EXIF's orientation of the image in a file, from its first bytes; 1 where they state none, or cannot be read."""
    try:
        with open_regular(path) as file:
            return _opened(file, str(path), _early_orientation)
    except (OSError, BadData):
        return 1


def content(path: Path) -> bytes:
    """The bytes of a file. Raises BadData if it cannot be read."""
    try:
        return read_regular(path, at_most=MAX_FILE)
    except OSError as error:
        raise BadData(f"{path} cannot be read ({error.strerror})") from None


def read(path: Path) -> Picture:
    """The image in a file. Raises BadData as `decode` does, or if the file cannot be read."""
    return decode(content(path), str(path))


def _opened(content: bytes | IO[bytes], name: str, take: Callable[[Image.Image], T]) -> T:
    """What `take` makes of the image in the bytes or the open file."""
    file = io.BytesIO(content) if isinstance(content, bytes) else content
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of broken EXIF and of large images: the size is checked in `take`
            return take(_open(file, name))
    except BadData:
        raise
    except (OSError, ValueError, SyntaxError, EOFError, MemoryError, TypeError, IndexError, OverflowError) as error:
        # PIL's decoders raise all of these on damaged files.
        size = file.seek(0, io.SEEK_END)
        raise BadData(f"{name} is not a readable image ({_reason(error, size) if size else 'empty file'})") from None


def _open(file: IO[bytes], name: str) -> Image.Image:
    try:
        return Image.open(file, formats=tuple(FORMATS))
    except Image.DecompressionBombError:
        file.seek(0)
        if file.read(3) == b"\xff\xd8\xff":  # Pillow's limit is for whole images, and a JPEG can be decoded at a fraction of its size
            file.seek(0)
            return JpegImageFile(file)
        raise _too_large(name, f"more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels") from None


def _too_large(name: str, what: str) -> BadData:
    return BadData(
        f"{name} would unpack to {what}, more than can be read at once: a decompression bomb? "
        "If not, make it smaller, or save it as baseline JPEG, which is decoded at a fraction of its size"
    )


def _decoded(image: Image.Image, name: str, length: int) -> Picture:
    size = image.size
    factor = _factor(image, length)
    if factor is None:
        raise _too_large(name, f"{image.width:,} × {image.height:,} pixels")
    if factor > 1 and isinstance(image, JpegImageFile):
        image.draft(None, (max(image.width // factor, 1), max(image.height // factor, 1)))
    image.load()
    if factor > 1 and not isinstance(image, JpegImageFile):
        image = image.reduce(factor)
    return Picture(rgb(image, name), size, _orientation(image))


def _factor(image: Image.Image, length: int) -> int | None:
    """By how much the sides of an image are divided as it is decoded, 1 for most; None if it cannot be decoded within `MAX_MEMORY`.

    `length` is of its file in bytes.
    """
    pixels = image.width * image.height
    needed = pixels * (FRAMES.get(image.format or "") or BYTES.get(image.mode, 8))
    if not isinstance(image, JpegImageFile):
        return math.ceil(math.sqrt(pixels / MAX_PIXELS)) if needed + length <= MAX_MEMORY else None
    held = length + _coefficients(image)
    return next((k for k in (1, 2, 4, 8) if pixels <= MAX_PIXELS * k**2 and needed / k**2 + held <= MAX_MEMORY), None)


def _coefficients(image: JpegImageFile) -> int:
    """Bytes that libjpeg holds of a JPEG in several scans, which it must read to the end before it has a pixel."""
    assert image.fp is not None
    place, length = image.fp.tell(), 8 + 2 * image.layers
    image.fp.seek(max(place - length, 0))
    of_all_layers = image.fp.read(2) == b"\xff\xda"  # the header of the first scan, which Pillow has just read
    image.fp.seek(place)
    if of_all_layers and "progressive" not in image.info:
        return 0
    sampling = [(across, down) for _, across, down, _ in image.layer]
    widest, highest = (max((each[axis] for each in sampling), default=1) for axis in (0, 1))
    return 2 * image.width * image.height * sum(across * down for across, down in sampling) // max(widest * highest, 1)


def _early_orientation(image: Image.Image) -> int:
    """The orientation of an image that is not decoded yet."""
    if image.format == "TIFF":  # Pillow turns it as it decodes it, and states the size that it will have
        return 1
    if image.format == "PNG" and "exif" not in image.info:  # Pillow would decode all of it to look for EXIF behind the pixels
        return 1
    return _orientation(image)


def _orientation(image: Image.Image) -> int:
    try:
        stated = image.getexif().get(ExifTags.Base.Orientation)
    except (OSError, ValueError, SyntaxError, EOFError, KeyError, TypeError, IndexError, OverflowError, struct.error):
        return 1  # damaged EXIF is no reason to refuse an image
    return stated if isinstance(stated, int) and stated in TURNS else 1


def _reason(error: Exception, size: int) -> str:
    text = str(error)
    if "cannot identify" in text:
        return f"no image format among {', '.join(FORMATS)}"
    if "truncated" in text:
        return f"truncated, {size:,} bytes are there"
    return text or type(error).__name__
