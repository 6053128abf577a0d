"""Reading of masks: images whose pixels are class indices or colours."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trickzoo.data.images import open_image, rgb, whole
from trickzoo.errors import BadData

INDEXED = ("P", "L", "1", "I", "I;16")
"""Pillow's modes of images whose pixels can be class indices."""


def decode_mask(content: bytes, name: str) -> NDArray[np.integer[Any]]:
    """Decode a mask in the bytes of a file of one channel to (H, W) class indices. Of a palette these are the numbers, not the colours.

    A mask with an EXIF orientation is turned upright; none is reduced. Raises BadData, with `name` in the message, if the bytes are not
    a whole image, if it is too large, or if it has colours.
    """
    return numbers_in(whole(content, name), name)


def decode_colours(content: bytes, name: str) -> NDArray[np.int32]:
    """Decode a mask in the bytes of a file to (H, W) colours, each as the number 0xRRGGBB. Of a palette these are its colours.

    Grey and black-and-white images have the colours of equal red, green and blue. A mask with an EXIF orientation is turned upright; none
    is reduced. Raises BadData, with `name` in the message, if the bytes are not a whole image, or if it is too large.
    """
    return colours_in(whole(content, name), name)


def numbers_in(image: Image.Image, name: str) -> NDArray[np.integer[Any]]:
    """Return the class indices in a decoded mask, as `decode_mask` does."""
    if image.mode not in INDEXED:
        raise BadData(
            f"{name} is of mode {image.mode}; a mask has one channel of class indices ({', '.join(INDEXED)}), so write the number of each "
            "pixel's class in place of its colour"
        )
    mask: NDArray[np.integer[Any]] = np.asarray(image)
    return mask.astype(np.uint8) if image.mode == "1" else mask


def colours_in(image: Image.Image, name: str) -> NDArray[np.int32]:
    """Return the colours in a decoded mask, as `decode_colours` does."""
    pixels = np.asarray(rgb(image, name)).astype(np.int32)
    return pixels[..., 0] << 16 | pixels[..., 1] << 8 | pixels[..., 2]


def mode_of(content: bytes, name: str) -> str:
    """Return Pillow's mode of the image in the bytes of a file, from its header. Raises BadData if they are not an image."""
    return open_image(content, name).image.mode


def palette_of(content: bytes, name: str) -> tuple[int, ...]:
    """Return the colours of an image's palette as 0xRRGGBB, by number, from its header; empty for an image without a palette.

    Raises BadData, with `name` in the message, if the bytes are not an image.
    """
    image = open_image(content, name).image
    values = image.getpalette("RGB") if image.mode == "P" else None
    return tuple(red << 16 | green << 8 | blue for red, green, blue in zip(*[iter(values or ())] * 3, strict=True))
