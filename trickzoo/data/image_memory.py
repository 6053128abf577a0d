"""The memory that decoding an image takes, and by how much a large image is reduced when it is decoded."""

from __future__ import annotations

import math

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

MAX_PIXELS = 36_000_000
"""The largest number of pixels of a decoded image. The sides of a larger image are divided by a whole number when it is decoded.

Resizing takes several times the memory of an image, and a segmenter of 21 classes needs about a second to classify 6 million pixels.
"""
MAX_MEMORY = 900_000_000
"""Bytes that decoding an image may take, including its file. An image that would take more is refused before it is decoded.

The size of a file is not a bound, because a small file can unpack to an image of any size.
"""
BYTES = {"L": 3, "RGB": 5, "I": 14}
"""Bytes that a pixel takes while an image is decoded, brought to RGB and reduced, by the image's mode."""
OTHER_BYTES = 9
"""The same for all other modes: four bytes as stored, four in RGB, and one of the reduced image."""
FRAMES = {"WEBP": 16, "AVIF": 12}
"""The same for formats whose decoders hold several copies of the image, whatever its mode."""


def reduction(image: Image.Image, length: int) -> int | None:
    """Return the number that the sides of an image are divided by, 1 for most images; None if decoding takes more than `MAX_MEMORY`.

    `length` is the length of the image's file in bytes.
    """
    pixels = image.width * image.height
    needed = pixels * (FRAMES.get(image.format or "") or BYTES.get(image.mode, OTHER_BYTES))
    if not isinstance(image, JpegImageFile):
        return math.ceil(math.sqrt(pixels / MAX_PIXELS)) if needed + length <= MAX_MEMORY else None
    held = length + _coefficients(image)
    return next((k for k in (1, 2, 4, 8) if pixels <= MAX_PIXELS * k**2 and needed / k**2 + held <= MAX_MEMORY), None)


def _coefficients(image: JpegImageFile) -> int:
    """Return the bytes of coefficients that libjpeg keeps in memory: 0, unless a JPEG has several scans, which are all read first."""
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
