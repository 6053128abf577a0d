"""Reading images that nobody has checked."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

from PIL import Image

from trickzoo.errors import BadData

EXTENSIONS = {".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"}
MAX_PIXELS = 100_000_000
"""An image of more is refused before it is decoded: a small file can unpack to any size."""


def decode(content: bytes, name: str) -> Image.Image:
    """The RGB image in the bytes of a file. Raises BadData with `name` if it is not a whole image, or too large to be one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of broken EXIF and of large images: the size is checked below
            image = Image.open(io.BytesIO(content))
            if image.width * image.height > MAX_PIXELS:
                raise BadData(
                    f"{name} would unpack to {image.width} × {image.height} pixels, more than {MAX_PIXELS:,}: a decompression bomb?"
                )
            return image.convert("RGB")
    except BadData:
        raise
    except Image.DecompressionBombError:
        raise BadData(f"{name} would unpack to more than {MAX_PIXELS:,} pixels: a decompression bomb?") from None
    except (OSError, ValueError, SyntaxError, EOFError, MemoryError, TypeError, IndexError, OverflowError) as error:
        # PIL's decoders raise all of these on damaged files.
        reason = "empty file" if not content else _reason(error, len(content))
        raise BadData(f"{name} is not a readable image ({reason})") from None


def read(path: Path) -> Image.Image:
    """The RGB image in a file. Raises BadData as `decode` does, or if the file cannot be read."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadData(f"{path} cannot be read ({error.strerror})") from None
    return decode(content, str(path))


def _reason(error: Exception, size: int) -> str:
    text = str(error)
    if "cannot identify" in text:
        return "no image format that PIL knows"
    if "truncated" in text:
        return f"truncated, {size:,} bytes are there"
    return text or type(error).__name__
