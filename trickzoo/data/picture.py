"""An image as it is read from a file, and its EXIF orientation."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The transposition that turns an image of each EXIF orientation upright."""
SIDEWAYS = (5, 6, 7, 8)
"""The EXIF orientations that exchange width and height."""


@dataclass(frozen=True)
class Picture:
    """An image as it is read.

    Attributes:
        image: RGB, 8 bits per channel, with the pixels as they are stored. It is smaller than `size` if that is too large
            (`image_memory.MAX_PIXELS`).
        size: width and height in the file.
        orientation: the EXIF orientation, 1 to 8; 1 is upright. It is 1 if the file states none, and for TIFF, which Pillow turns upright.
    """

    image: Image.Image
    size: tuple[int, int]
    orientation: int = 1

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return the pixels as (height, width, 3) uint8, for `numpy.asarray`."""
        return np.array(self.image, dtype)

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height of the file's image after it is turned upright."""
        return self.size[::-1] if self.orientation in SIDEWAYS else self.size

    @property
    def scale(self) -> tuple[float, float]:
        """Factors from columns and rows of `image` to those of `size`; 1 unless the image was reduced when it was decoded."""
        return self.size[0] / self.image.width, self.size[1] / self.image.height

    @property
    def sides(self) -> str:
        """The size in the file, and the upright size if there is an orientation, in words for a message."""
        turned = f" ({'{} × {}'.format(*self.upright_size)} upright, by its EXIF orientation {self.orientation})"
        return f"{self.size[0]} × {self.size[1]}{turned if self.orientation > 1 else ''}"

    def upright(self) -> Picture:
        """Return the picture turned and mirrored by its orientation, as viewers show it. Its `orientation` keeps the file's value."""
        if self.orientation not in TURNS:
            return self
        return Picture(self.image.transpose(TURNS[self.orientation]), self.upright_size, self.orientation)

    def as_annotated(self, stated: tuple[int, int]) -> Picture | None:
        """Return the picture that an annotation for an image of the `stated` width and height was made on, stored or upright.

        If the image has an EXIF orientation, the stated size tells whether the annotation is for the stored or for the upright image. If
        both have that size, the upright image is returned, because browsers and annotation tools show it. If neither has it, the result
        is None.
        """
        if stated == self.upright_size:
            return self.upright()
        return self if stated == self.size else None


def early_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of an image that is not decoded yet."""
    if image.format == "TIFF":  # Pillow turns it upright when it decodes it, and already states the upright size
        return 1
    if image.format == "PNG" and "exif" not in image.info:  # Pillow would decode the whole image to look for EXIF after the pixels
        return 1
    return exif_orientation(image)


def exif_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of an image, 1 to 8; 1 if none is stated or it is damaged."""
    try:
        stated = image.getexif().get(ExifTags.Base.Orientation)
    except (OSError, ValueError, SyntaxError, EOFError, KeyError, TypeError, IndexError, OverflowError, struct.error):
        return 1  # damaged EXIF is no reason to refuse an image
    return stated if isinstance(stated, int) and stated in TURNS else 1
