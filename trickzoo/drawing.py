"""Boxes and masks drawn over their image.

A class has the colour of its place among the classes, background aside, however many there are. The first seven colours are those of Okabe
and Ito, made for every kind of colour vision; each further one is as far as can be from all before it, with and without deuteranopia.

Small images are enlarged by a whole factor, so that names can be read; coordinates are always those of the image as given.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]

BACKGROUND = "background"
"""The class that is not coloured."""
OKABE_ITO: tuple[Colour, ...] = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167))
SIDE, LONGEST = 480, 1920
"""Pixels: images are enlarged towards this short side, unless the long side would pass the other."""
ALPHA = 0.6
"""How much of a pixel is the colour of its class; the rest is its grey, so that the hue is the class's alone."""

DEUTERANOPIA = np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]])
"""Machado et al. 2009, for linear RGB."""
TO_LMS = np.array(
    [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566], [0.0883024619, 0.2817188376, 0.6299787005]]
)
TO_OKLAB = np.array(
    [[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099], [0.0259040371, 0.7827717662, -0.8086757660]]
)
"""Ottosson's Oklab, in which distances are as they are seen."""


@functools.cache
def colours(n: int) -> tuple[Colour, ...]:
    """As many distinct colours; the first of them are those of any smaller n."""
    levels = np.linspace(0, 255, 9).round()
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3)
    lightness = _seen(grid)[:, 0, 0]
    grid = grid[(lightness > 0.4) & (lightness < 0.95)]  # neither like black nor like white, which photographs are full of
    views, chosen = _seen(grid), list(OKABE_ITO[:n])
    nearest = _distance(views, _seen(np.array(OKABE_ITO))).min(1)
    while len(chosen) < n:
        furthest = int(nearest.argmax())
        chosen.append(_colour(grid[furthest]))
        nearest = np.minimum(nearest, _distance(views, views[furthest : furthest + 1])[:, 0])
    return tuple(chosen)


def _seen(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 3) colours of 0…255 → (n, 2, 3) in Oklab, as they are and as someone with deuteranopia sees them."""
    linear = np.where(rgb <= 10, rgb / 255 / 12.92, ((rgb / 255 + 0.055) / 1.055) ** 2.4)
    both = np.stack([linear, np.clip(linear @ DEUTERANOPIA.T, 0, 1)], 1)
    return np.cbrt(both @ TO_LMS.T) @ TO_OKLAB.T


def _distance(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """(m, 2, 3) and (n, 2, 3) → (m, n): the smaller of the distances that the two kinds of vision see."""
    return np.linalg.norm(first[:, None] - second, axis=-1).min(-1)


def _colour(values: Sequence[float] | NDArray[np.float64]) -> Colour:
    red, green, blue = (int(value) for value in values)
    return red, green, blue


def class_colours(classes: Sequence[str]) -> tuple[Colour, ...]:
    """The colour of each class; the background's is black, and it is not drawn."""
    others = iter(colours(len(classes) - (BACKGROUND in classes)))
    return tuple((0, 0, 0) if name == BACKGROUND else next(others) for name in classes)


def palette(classes: Sequence[str], *, first: int = 0) -> list[int]:
    """For `PIL.Image.putpalette`: black for all that is no class, and the classes' colours from number `first` on."""
    return [0] * (3 * first) + [value for colour in class_colours(classes) for value in colour]


def draw_boxes(
    image: Image.Image, boxes: ArrayLike, labels: ArrayLike, classes: Sequence[str], scores: ArrayLike | None = None
) -> Image.Image:
    """The image with boxes, the names of their classes and their scores, the surest on top.

    Args:
        image: of any mode.
        boxes: (n, 4) x0, y0, x1, y1 in pixels of `image`.
        labels: (n,) from 1.
        classes: names of labels 1, 2, ….
        scores: (n,).
    """
    picture, factor = _enlarged(image)
    draw, font, width = ImageDraw.Draw(picture), _font(picture), max(2, min(picture.size) // 240)
    edges = np.asarray(boxes, np.float64).reshape(-1, 4) * factor
    names = [classes[label - 1] for label in np.asarray(labels, np.int64).tolist()]
    colour_of = dict(zip(classes, class_colours(classes), strict=True))
    order = range(len(names))
    texts = names
    if scores is not None:
        certain = np.asarray(scores, np.float64)
        texts = [f"{name} {score:.2f}" for name, score in zip(names, certain.tolist(), strict=True)]
        order = np.argsort(certain, kind="stable").tolist()
    for i in order:
        x0, y0, x1, y1 = edges[i].tolist()
        draw.rectangle((x0, y0, max(x1 - 1, x0), max(y1 - 1, y0)), outline=colour_of[names[i]], width=width)
    for i in order:  # after all boxes, so that no line crosses a name
        _label(draw, font, (edges[i][0], edges[i][1]), texts[i], colour_of[names[i]], picture.size)
    return picture


def draw_mask(image: Image.Image, mask: ArrayLike, classes: Sequence[str]) -> Image.Image:
    """The image with each pixel tinted by its class, and below it the names of the classes that occur, the most frequent first.

    Args:
        image: of any mode.
        mask: (H, W) of 0 … len(classes) - 1, in the image's size. Other numbers, and the class "background", are not tinted.
        classes: names of 0, 1, ….
    """
    picture, factor = _enlarged(image)
    numbers = np.asarray(mask).astype(np.int64)
    if numbers.shape != (image.height, image.width):
        raise ValueError(f"a mask of {numbers.shape} for an image of {image.width} × {image.height} pixels")
    coloured = np.array([name != BACKGROUND for name in classes])
    known = (numbers >= 0) & (numbers < len(classes))
    numbers = np.where(known, numbers, 0)
    counts = np.bincount(numbers[known], minlength=len(classes))
    colour_of = class_colours(classes)
    where, tint = (each.repeat(factor, 0).repeat(factor, 1) for each in (known & coloured[numbers], np.array(colour_of)[numbers]))
    grey = np.asarray(picture.convert("L"))[..., None]
    over = np.rint((1 - ALPHA) * grey + ALPHA * tint).astype(np.uint8)
    picture = Image.fromarray(np.where(where[..., None], over, np.asarray(picture)))
    shown = [i for i in np.argsort(-counts, kind="stable").tolist() if counts[i] and coloured[i]]
    return _with_legend(picture, [(classes[i], colour_of[i]) for i in shown])


def _enlarged(image: Image.Image) -> tuple[Image.Image, int]:
    """A copy in RGB, larger by a whole factor if the image is small, and the factor."""
    factor = max(1, min(round(SIDE / min(image.size)), LONGEST // max(image.size)))
    return image.convert("RGB").resize((image.width * factor, image.height * factor), Image.Resampling.BICUBIC), factor


def _font(picture: Image.Image) -> ImageFont.FreeTypeFont:
    import matplotlib  # whose font is installed everywhere, and has more letters than Pillow's own

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), max(12, min(picture.size) // 40))


def _label(
    draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont, corner: tuple[float, float], text: str, colour: Colour, size: tuple[int, int]
) -> None:
    """A name on its colour, above the corner of its box, or wherever near it is inside the picture."""
    pad = 2
    width, height = draw.textlength(text, font) + 2 * pad, sum(font.getmetrics()) + pad
    x = max(min(corner[0], size[0] - width), 0)
    y = corner[1] - height if corner[1] >= height else max(corner[1], 0)
    draw.rectangle((x, y, x + width, y + height), fill=colour)
    draw.text((x + pad, y + pad / 2), text, fill=_ink(colour), font=font)


def _ink(colour: Colour) -> str:
    """Black or white, whichever is seen better on a colour."""
    return "black" if _seen(np.array([colour], np.float64))[0, 0, 0] > 0.6 else "white"


def _with_legend(picture: Image.Image, entries: Sequence[tuple[str, Colour]]) -> Image.Image:
    """The picture with a row or more of names on their colours below."""
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
