"""Reading of image files. All commands open images here, so formats, sizes, modes and EXIF orientations are handled alike."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import IO, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin, WebPImagePlugin  # noqa: F401 -- to know a format is to import its plug-in
from PIL.JpegImagePlugin import JpegImageFile

from trickzoo.data.image_memory import reduction
from trickzoo.data.picture import TURNS, Picture, early_orientation, exif_orientation
from trickzoo.errors import BadData, BadOption
from trickzoo.files import open_regular, read_regular, reading
from trickzoo.wording import count

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

A file is opened as one of these formats, whatever its suffix, or it is refused. Pillow's plug-ins and those of other packages register
more formats. Some of these start programs: EPS, for example, starts Ghostscript.
"""
if "AVIF" not in Image.OPEN:
    del FORMATS["AVIF"]
EXTENSIONS = frozenset(suffix for suffixes in FORMATS.values() for suffix in suffixes)
HEIC = {b"ftyp" + brand for brand in (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1")}
"""The bytes from the fifth on of HEIC images. Pillow cannot read them without a plug-in."""
LOOKED_AT = 2_000
"""The least number of images whose EXIF orientation is read for the notes on a large set."""
MAX_FILE = 2**29
"""Bytes of the longest file that is read."""


@dataclass(frozen=True)
class OpenedImage:
    """An image that is opened, as Pillow does it: only its header has been read."""

    image: Image.Image
    file: io.BytesIO
    name: str

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the stored image in pixels."""
        return self.image.size

    def decode(self) -> Picture:
        """Decode the rest, as the function `decode` does. This can be done once."""
        return _guarded(self.file, self.name, lambda: _decoded(self.image, self.name, self.file.getbuffer().nbytes))


def is_image_name(name: str | Path) -> bool:
    """Return whether a file is named as an image of a format that is read."""
    return PurePath(name).suffix.lower() in EXTENSIONS


def open_image(content: bytes, name: str) -> OpenedImage:
    """Open the image in the bytes of a file, which reads its header. Raises BadData if the bytes are not those of an image."""
    file = io.BytesIO(content)
    return OpenedImage(_guarded(file, name, lambda: _open(file, name)), file, name)


def decode(content: bytes, name: str) -> Picture:
    """Decode the image in the bytes of a file. If the file has several frames or pages, this is the first.

    Transparency is dropped. Grey of 16 bits is reduced to its upper byte, as Pillow does for colours of 16 bits. An image of more than
    `image_memory.MAX_PIXELS` is reduced. Raises BadData, with `name` in the message, if the bytes are not a whole image, if it is too
    large, or if its pixels are 32-bit integers or floating-point numbers, whose range is unknown.
    """
    return _opened(content, name, lambda image: _decoded(image, name, len(content)))


def thumbnail(content: bytes, name: str, side: int) -> NDArray[np.uint8]:
    """Return the image in the bytes of a file, turned upright and reduced to (side, side, 3) pixels whatever its aspect ratio.

    A JPEG is decoded at a fraction of its size. Raises BadData as `decode` does.
    """
    opened = open_image(content, name)
    if isinstance(opened.image, JpegImageFile):
        opened.image.draft(None, (2 * side, 2 * side))
    return np.asarray(opened.decode().upright().image.resize((side, side), Image.Resampling.BOX))


def whole(content: bytes, name: str) -> Image.Image:
    """Decode the image in the bytes of a file in its own mode, turned upright and never reduced. Raises BadData as `decode` does."""

    def take(image: Image.Image) -> Image.Image:
        if reduction(image, len(content)) is None:
            raise _too_large(name, f"{image.width:,} × {image.height:,} pixels")
        image.load()
        turn = TURNS.get(exif_orientation(image))
        return image.copy() if turn is None else image.transpose(turn)

    return _opened(content, name, take)


def depth_notes(read: Callable[[], bytes], name: str) -> tuple[str, ...]:
    """Return a line for the user if an image is grey of 16 bits and has values below 4,096 only, as of cameras of 12 bits, else nothing.

    `decode` takes the upper byte, which leaves 16 levels or fewer of such an image. `read` returns the bytes of its file. An image that
    cannot be read gives no line.
    """
    try:
        found = read()
        highest = int(np.asarray(whole(found, name)).max()) if _is_of_16_bits(open_image(found, name).image) else 0
    except BadData:
        return ()
    if not 0 < highest < 4096:
        return ()
    return (
        f"{name} is grey of 16 bits, and its highest value is {highest:,}: the upper byte, which is used, has only "
        f"{highest // 256 + 1} levels; scale such images to values from 0 to 65,535",
    )


def picture_notes(root: Path, names: Sequence[str]) -> tuple[str, ...]:
    """Return a line for the user if images of an annotated set have an EXIF orientation, and that of `depth_notes` for the first image.

    Of a set of more than twice `LOOKED_AT` images, at least `LOOKED_AT` are looked at, evenly spread.
    """
    first = root / names[0]
    return (*_orientation_notes(root, names), *depth_notes(lambda: content(first), str(first)))


def _orientation_notes(root: Path, names: Sequence[str]) -> tuple[str, ...]:
    looked_at = names[:: max(len(names) // LOOKED_AT, 1)]
    found = [name for name in looked_at if orientation_of(root / name) > 1]
    if not found:
        return ()
    of = "" if len(looked_at) == len(names) else f" of {len(looked_at):,} that were looked at"
    return (
        f"{count(len(found), 'image')}{of} with an EXIF orientation (the first is {found[0]}): turned upright, "
        "unless the annotation is for the stored width and height",
    )


def rgb(image: Image.Image, name: str = "the image") -> Image.Image:
    """Convert an image of any of Pillow's modes to RGB with 8 bits per channel, in the way that `decode` does.

    Raises BadData, with `name` in the message, if its pixels are 32-bit integers or floating-point numbers, whose range is unknown, or if
    it has no pixels, and BadOption if it is not an image of Pillow.
    """
    if not isinstance(image, Image.Image):
        raise BadOption(
            f"expected an image of Pillow, not {type(image).__name__}; Image.open opens a file, Image.fromarray takes an RGB array"
        )
    if 0 in image.size:
        raise BadData(f"{name} has no pixels: it is {image.width} × {image.height}")
    if _is_of_16_bits(image):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        kind = "32-bit integers" if image.mode == "I" else "floating-point numbers"
        raise BadData(f"{name} has {kind} for pixels, of a range that it does not state; save it with 8 or 16 bits per channel")
    if image.mode in ("La", "RGBa"):  # Pillow has no direct way from colours that are multiplied by their opacity
        image = image.convert("LA" if image.mode == "La" else "RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")


def _is_of_16_bits(image: Image.Image) -> bool:
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")


def size_of(path: Path) -> tuple[int, int]:
    """Return width and height of the upright image in a file without decoding it.

    Raises BadData if the file cannot be read or does not begin with an image.
    """
    with reading(path), open_regular(path) as file:
        return _opened(file, str(path), lambda image: Picture(image, image.size, early_orientation(image)).upright_size)


def orientation_of(path: Path) -> int:
    """Return the EXIF orientation of the image in a file without decoding it; 1 if none is stated or the file cannot be read."""
    try:
        with open_regular(path) as file:
            return _opened(file, str(path), early_orientation)
    except (OSError, BadData):
        return 1


def is_of_16_bits(path: Path) -> bool:
    """Return whether the image in a file is grey of 16 bits, by its header alone; False if the file cannot be read."""
    try:
        with open_regular(path) as file:
            return _opened(file, str(path), _is_of_16_bits)
    except (OSError, BadData):
        return False


def content(path: Path) -> bytes:
    """Return the bytes of a file. Raises BadData if it cannot be read."""
    with reading(path):
        return read_regular(path, at_most=MAX_FILE)


def read(path: Path) -> Picture:
    """Decode the image in a file as `decode` does. Raises BadData also if the file cannot be read."""
    return decode(content(path), str(path))


def _opened(content: bytes | IO[bytes], name: str, take: Callable[[Image.Image], T]) -> T:
    """Open the image in bytes or an open file and return what `take` makes of it. Raises BadData for all that Pillow raises."""
    file = io.BytesIO(content) if isinstance(content, bytes) else content
    return _guarded(file, name, lambda: take(_open(file, name)))


def _guarded(file: IO[bytes], name: str, action: Callable[[], T]) -> T:
    """Return what an action on the image in an open file returns. Raises BadData for all that Pillow raises."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of broken EXIF, and of large images, whose size `reduction` checks
            return action()
    except BadData:
        raise
    except (OSError, ValueError, SyntaxError, EOFError, MemoryError, TypeError, IndexError, OverflowError) as error:
        # PIL's decoders raise all of these on damaged files.
        raise BadData(f"{name} is not a readable image ({_reason(error, file)})") from None


def _open(file: IO[bytes], name: str) -> Image.Image:
    try:
        return Image.open(file, formats=tuple(FORMATS))
    except Image.DecompressionBombError:
        file.seek(0)
        if file.read(3) == b"\xff\xd8\xff":  # Pillow's limit is for whole images, but a JPEG can be decoded at a fraction of its size
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
    factor = reduction(image, length)
    if factor is None:
        raise _too_large(name, f"{image.width:,} × {image.height:,} pixels")
    if factor > 1 and isinstance(image, JpegImageFile):
        image.draft(None, (max(image.width // factor, 1), max(image.height // factor, 1)))
    image.load()
    orientation = exif_orientation(image)
    if factor > 1 and not isinstance(image, JpegImageFile):
        # Pillow reduces neither palettes nor grey of 16 bits, so they become RGB first. Grey stays grey, as RGB takes four times as much.
        image = (image if image.mode == "L" else rgb(image, name)).reduce(factor)
    return Picture(rgb(image, name), size, orientation)


def _reason(error: Exception, file: IO[bytes]) -> str:
    text, size = str(error), file.seek(0, io.SEEK_END)
    if not size:
        return "empty file"
    if "cannot identify" in text:
        file.seek(4)
        heic = ": a HEIC image, as phones write them; convert it to JPEG" if file.read(8) in HEIC else ""
        return f"no image format among {', '.join(FORMATS)}{heic}"
    if "truncated" in text:
        return f"truncated, {size:,} bytes are there"
    return text or type(error).__name__
