"""Drawing of boxes and masks over their image.

The colour of a class depends only on its place among the classes without the background. The first seven colours are those of Okabe and
Ito, which people with any kind of colour vision can tell apart.

Small images are enlarged by a whole factor, so that names can be read, and large images are drawn smaller. Coordinates are always those of
the image that is passed.
"""

from __future__ import annotations

import colorsys
import contextlib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

from trickzoo.data.images import rgb
from trickzoo.errors import printable

Colour = tuple[int, int, int]

BACKGROUND = "background"
"""The class that is not coloured."""
OKABE_ITO: tuple[Colour, ...] = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167))
SIDE, LONGEST = 480, 1920
"""Pixels: images are enlarged towards this short side, unless the long side would pass the other."""
LARGEST = 4096
"""Pixels of the long side of a picture at most."""
ALPHA = 0.6
"""The weight of the class's colour in a tinted pixel. The rest is the pixel's grey, so that the hue is that of the class."""

GOLDEN = 0.618034
"""The step between hues, as a part of their circle: the golden ratio's fraction, which keeps any number of hues apart."""


@contextlib.contextmanager
def literal_text() -> Iterator[None]:
    """Let matplotlib draw any text as it is within the block.

    A dollar sign does not begin a formula, and a character that the font lacks is drawn as an empty box without a warning.
    """
    import matplotlib

    with matplotlib.rc_context({"text.parse_math": False, "text.usetex": False}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from (current )?font", category=UserWarning)
        yield


def colours(n: int) -> tuple[Colour, ...]:
    """Return n distinct colours, which begin with those of any smaller n."""
    further = (colorsys.hsv_to_rgb(i * GOLDEN % 1, (0.9, 0.55)[i % 2], (0.95, 0.7)[i // 2 % 2]) for i in range(n - len(OKABE_ITO)))
    return (*OKABE_ITO[:n], *((round(255 * red), round(255 * green), round(255 * blue)) for red, green, blue in further))


def class_colours(classes: Sequence[str]) -> tuple[Colour, ...]:
    """Return the colour of each class. The background's is black, and it is not drawn."""
    others = iter(colours(len(classes) - (BACKGROUND in classes)))
    return tuple((0, 0, 0) if name == BACKGROUND else next(others) for name in classes)


def palette(classes: Sequence[str], *, first: int = 0) -> list[int]:
    """Return a palette for `PIL.Image.putpalette`: the classes' colours from number `first` on, and black for the numbers before."""
    return [0] * (3 * first) + [value for colour in class_colours(classes) for value in colour]


def draw_boxes(
    image: Image.Image, boxes: ArrayLike, labels: ArrayLike, classes: Sequence[str], scores: ArrayLike | None = None
) -> Image.Image:
    """Draw boxes on an image, with the names of their classes and their scores. Those with the highest scores are on top.

    Args:
        image: of any mode.
        boxes: (n, 4) x0, y0, x1, y1 in pixels of `image`.
        labels: (n,) from 1.
        classes: names of labels 1, 2, ….
        scores: (n,).
    """
    picture, factor = _sized(image)
    draw, font, width = ImageDraw.Draw(picture), _font(picture), max(2, min(picture.size) // 240)
    edges = np.asarray(boxes, np.float64).reshape(-1, 4) * factor
    names = [classes[label - 1] for label in np.asarray(labels, np.int64).tolist()]
    colour_of = dict(zip(classes, class_colours(classes), strict=True))
    order = range(len(names))
    texts = list(map(printable, names))
    if scores is not None:
        certain = np.asarray(scores, np.float64)
        texts = [f"{text} {score:.2f}" for text, score in zip(texts, certain.tolist(), strict=True)]
        order = np.argsort(certain, kind="stable").tolist()
    for i in order:
        x0, y0, x1, y1 = edges[i].tolist()
        draw.rectangle((x0, y0, max(x1 - 1, x0), max(y1 - 1, y0)), outline=colour_of[names[i]], width=width)
    for i in order:  # after all boxes, so that no line crosses a name
        _label(draw, font, (edges[i][0], edges[i][1]), texts[i], colour_of[names[i]], picture.size)
    return picture


def draw_mask(image: Image.Image, mask: ArrayLike, classes: Sequence[str]) -> Image.Image:
    """Tint each pixel of an image by its class, and write the names of the classes that occur below it, the most frequent first.

    Args:
        image: of any mode.
        mask: (H, W) of 0 … len(classes) - 1, in the image's size. Other numbers, and the class "background", are not tinted.
        classes: names of 0, 1, ….
    """
    picture, _ = _sized(image)
    whole = np.asarray(mask)
    if whole.shape != (image.height, image.width):
        raise ValueError(f"a mask of {whole.shape} for an image of {image.width} × {image.height} pixels")
    coloured = np.array([name != BACKGROUND for name in classes])
    counts = _counts(whole, len(classes))
    rows, columns = (np.arange(drawn) * given // drawn for drawn, given in zip(picture.size[::-1], whole.shape, strict=True))
    colour_of = class_colours(classes)
    tinted = np.rint((1 - ALPHA) * np.arange(256)[:, None] + ALPHA * np.array(colour_of)[:, None]).astype(np.uint8)  # (K, 256 greys, 3)
    pixels, grey = np.array(picture), np.asarray(picture.convert("L"))
    for row, place in enumerate(rows):  # one row at a time, as all indices at once would take a gigabyte
        numbers = whole[place, columns].astype(np.int64)
        known = (numbers >= 0) & (numbers < len(classes))
        numbers = np.where(known, numbers, 0)
        where = known & coloured[numbers]
        pixels[row, where] = tinted[numbers[where], grey[row, where]]
    picture = Image.fromarray(pixels)
    shown = [i for i in np.argsort(-counts, kind="stable").tolist() if counts[i] and coloured[i]]
    return _with_legend(picture, [(printable(classes[i]), colour_of[i]) for i in shown])


def _sized(image: Image.Image) -> tuple[Image.Image, float]:
    """Return a copy in RGB, enlarged by a whole factor if the image is small, reduced if it is large, and the factor."""
    factor: float = max(1, min(round(SIDE / min(image.size)), LONGEST // max(image.size)))
    factor = min(factor, LARGEST / max(image.size))
    width, height = (max(round(side * factor), 1) for side in image.size)
    return rgb(image).resize((width, height), Image.Resampling.BICUBIC), factor


def _counts(mask: NDArray[Any], classes: int) -> NDArray[np.int64]:
    """Count the pixels of each class. They are counted in parts, because a large mask of 64-bit numbers would take much memory."""
    counts = np.zeros(classes, np.int64)
    for part in np.array_split(mask.ravel(), mask.size // 2**22 + 1):
        counts += np.bincount(part[(part >= 0) & (part < classes)].astype(np.int64), minlength=classes)
    return counts


def _font(picture: Image.Image) -> ImageFont.FreeTypeFont:
    import matplotlib  # whose font is installed everywhere, and has more letters than Pillow's own

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), max(18, min(picture.size) // 40))


def _label(
    draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont, corner: tuple[float, float], text: str, colour: Colour, size: tuple[int, int]
) -> None:
    """Write a name on its colour above the corner of its box, or as near to it as the picture allows."""
    pad = 2
    width, height = draw.textlength(text, font) + 2 * pad, sum(font.getmetrics()) + pad
    x = max(min(corner[0], size[0] - width), 0)
    y = corner[1] - height if corner[1] >= height else max(corner[1], 0)
    draw.rectangle((x, y, x + width, y + height), fill=colour)
    draw.text((x + pad, y + pad / 2), text, fill=_ink(colour), font=font)


def _ink(colour: Colour) -> str:
    """Return black or white, whichever has more contrast on a colour."""
    return "black" if np.dot(colour, (0.299, 0.587, 0.114)) > 120 else "white"


def _with_legend(picture: Image.Image, entries: Sequence[tuple[str, Colour]]) -> Image.Image:
    """Return the picture with rows of names on their colours below it."""
    font = _font(picture)
    height, gap, pad = sum(font.getmetrics()) + 8, 6, 6
    places, x, row = [], gap, 0
    for name, _ in entries:
        width = int(font.getlength(name)) + 2 * pad
        if x > gap and x + width + gap > picture.width:
            x, row = gap, row + 1
        places.append((x, picture.height + gap + row * (height + gap), width))
        x += width + gap
    if not places:
        return picture
    whole = Image.new("RGB", (picture.width, picture.height + gap + (row + 1) * (height + gap)), "white")
    whole.paste(picture)
    draw = ImageDraw.Draw(whole)
    for (name, colour), (left, top, width) in zip(entries, places, strict=True):
        draw.rectangle((left, top, left + width, top + height), fill=colour)
        draw.text((left + pad, top + 4), name, fill=_ink(colour), font=font)
    return whole
