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
SMALL = 480
"""Pixels of the long side of the pictures in reports, which stand side by side."""
PAD = 2
"""Pixels between a box's name and the edge of its colour."""
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
    """Return n distinct colours as (red, green, blue) in 0…255. They begin with the colours for any smaller n."""
    further = (colorsys.hsv_to_rgb(i * GOLDEN % 1, (0.9, 0.55)[i % 2], (0.95, 0.7)[i // 2 % 2]) for i in range(n - len(OKABE_ITO)))
    return (*OKABE_ITO[:n], *((round(255 * red), round(255 * green), round(255 * blue)) for red, green, blue in further))


def class_colours(classes: Sequence[str]) -> tuple[Colour, ...]:
    """Return the colour of each class as (red, green, blue) in 0…255. That of the background is black, and is not drawn."""
    others = iter(colours(len(classes) - (BACKGROUND in classes)))
    return tuple((0, 0, 0) if name == BACKGROUND else next(others) for name in classes)


def palette(classes: Sequence[str], *, first: int = 0) -> list[int]:
    """Return a palette for `PIL.Image.putpalette`: the classes' colours from number `first` on, and black for the numbers before."""
    return [0] * (3 * first) + [value for colour in class_colours(classes) for value in colour]


def draw_boxes(
    image: Image.Image,
    boxes: ArrayLike,
    labels: ArrayLike,
    classes: Sequence[str],
    scores: ArrayLike | None = None,
    *,
    side: int = LARGEST,
) -> Image.Image:
    """Draw boxes on an image, with the names of their classes and their scores. Those with the highest scores are on top.

    A name stands outside its box if there is room, and never on another name. In a crowd, the names of the boxes with the lowest scores are
    left out if there is no room for them.

    Args:
        image: the image, of any mode.
        boxes: (n, 4) x0, y0, x1, y1 in pixels of `image`.
        labels: (n,) labels of the classes, from 1.
        classes: names of labels 1, 2, ….
        scores: (n,) scores of the boxes, if there are any.
        side: largest long side of the picture in pixels.

    Returns:
        The picture, in RGB.
    """
    picture, factor = _sized(image, side)
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
    highest_first = order[::-1]
    sizes = [(draw.textlength(texts[i], font) + 2 * PAD, sum(font.getmetrics()) + PAD) for i in highest_first]
    for i, size, place in zip(highest_first, sizes, _places(edges[highest_first], sizes, picture.size), strict=True):
        if place is not None:  # after all boxes, so that no line crosses a name
            x, y = place
            draw.rectangle((x, y, x + size[0], y + size[1]), fill=colour_of[names[i]])
            draw.text((x + PAD, y + PAD / 2), texts[i], fill=_ink(colour_of[names[i]]), font=font)
    return picture


def draw_mask(image: Image.Image, mask: ArrayLike, classes: Sequence[str], *, side: int = LARGEST) -> Image.Image:
    """Tint each pixel of an image by its class, and write the names of the classes that occur below it, the most frequent first.

    Args:
        image: the image, of any mode.
        mask: (H, W) of 0 … len(classes) - 1, in the image's size. Other numbers, and the class "background", are not tinted.
        classes: names of classes 0, 1, ….
        side: largest long side of the picture in pixels, without the names.

    Returns:
        The picture, in RGB.

    Raises:
        ValueError: if the mask does not have the image's size.
    """
    picture, _ = _sized(image, side)
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


def _sized(image: Image.Image, side: int) -> tuple[Image.Image, float]:
    """Return a copy in RGB, enlarged by a whole factor if the image is small, reduced to a long side if it is large, and the factor."""
    factor: float = max(1, min(round(SIDE / min(image.size)), LONGEST // max(image.size)))
    factor = min(factor, side / max(image.size))
    width, height = (max(round(side * factor), 1) for side in image.size)
    return rgb(image).resize((width, height), Image.Resampling.BICUBIC), factor


def _counts(mask: NDArray[Any], classes: int) -> NDArray[np.int64]:
    """Count the pixels of each class. They are counted in parts, because a large mask of 64-bit numbers would take much memory."""
    counts = np.zeros(classes, np.int64)
    for part in np.array_split(mask.ravel(), mask.size // 2**22 + 1):
        counts += np.bincount(part[(part >= 0) & (part < classes)].astype(np.int64), minlength=classes)
    return counts


def _font(picture: Image.Image) -> ImageFont.FreeTypeFont:
    import matplotlib  # its font is installed everywhere, and has more letters than Pillow's own

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), max(18, min(picture.size) // 40))


def _places(
    boxes: NDArray[np.float64], sizes: Sequence[tuple[float, float]], picture: tuple[int, int]
) -> Iterator[tuple[float, float] | None]:
    """Yield the left upper corner of each box's name, or None if it would cover the name of an earlier box wherever it stands.

    Args:
        boxes: (n, 4) x0, y0, x1, y1 in pixels of the picture.
        sizes: width and height of each name.
        picture: width and height of the picture.
    """
    taken = np.zeros((len(boxes), 4))
    for n, ((x0, y0, x1, y1), (width, height)) in enumerate(zip(boxes.tolist(), sizes, strict=True)):
        right, bottom = max(picture[0] - width, 0), max(picture[1] - height, 0)
        outside = [(x, y) for y in (y0 - height, y1) for x in (x0, x1 - width) if 0 <= y <= bottom]
        inside = [(x0, min(max(y, 0), bottom)) for y in (y0, y1 - height)]
        found = None
        for x, y in ((min(max(x, 0), right), y) for x, y in (*outside, *inside)):
            left, top, beyond, below = taken[:n].T
            if not ((x <= beyond) & (left <= x + width) & (y <= below) & (top <= y + height)).any():
                found = x, y
                break
        taken[n] = (found[0], found[1], found[0] + width, found[1] + height) if found else (-1, -1, -1, -1)
        yield found


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
