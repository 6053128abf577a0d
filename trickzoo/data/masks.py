"""Images with a class for each pixel. The readers are in `data.readers`; generated shapes are opened here.

Whatever numbers a file uses, a mask that has been read contains 0 … K - 1, and 255 for pixels that are neither trained on nor judged.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trickzoo.data import contents, mask_images
from trickzoo.data import images as image_files
from trickzoo.data.annotated import AnnotatedSet, Survey
from trickzoo.data.classes import check_classes, check_names
from trickzoo.data.shapes import CLASSES, Drawing, Shapes, draw_all
from trickzoo.errors import BadData

IGNORE = 255
UNLABELLED = ("unlabelled", "unlabeled", "void", "ignore")
"""Names in a list of classes that are not classes: their pixels do not count."""
STRIP = 2**20
"""Pixels of a mask that are looked up or counted at a time, as that takes up to 30 bytes for each."""


@dataclass(frozen=True)
class SegmentationSet(AnnotatedSet):
    """Images with masks.

    Attributes:
        root: the folder that contains images and masks.
        layout: a description of the layout and the split.
        classes: the names of classes 0 … K - 1.
        pairs: the path of each image and the path of its mask, relative to the root.
        first: the value of class 0 in the files.
        ignored: the values in the files of pixels that do not count, in addition to 255.
        colours: for masks that state classes by colours, the colour of each class as 0xRRGGBB; otherwise empty.
        ignored_colours: the colours of pixels that do not count.
        drawings: the images themselves if they were generated, otherwise empty.
    """

    root: Path
    layout: str
    classes: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    first: int = 0
    ignored: tuple[int, ...] = ()
    colours: tuple[int, ...] = ()
    ignored_colours: tuple[int, ...] = ()
    drawings: tuple[Drawing, ...] = ()

    def __post_init__(self) -> None:
        if not self.pairs:
            raise BadData(f"{self.root}: {self.layout} has no image")
        check_names(self.classes, self.root)
        if len(self.classes) > IGNORE:
            raise BadData(f"{self.root}: {len(self.classes)} classes; there can be {IGNORE}, as {IGNORE} is for pixels that do not count")

    def __len__(self) -> int:
        return len(self.pairs)

    def read(self, index: int) -> tuple[Image.Image, NDArray[np.uint8]]:
        """Read an image and its (H, W) mask of classes and `IGNORE`.

        The image is RGB, in the EXIF orientation of the mask (`picture.Picture.as_annotated`).
        An image of more than `image_memory.MAX_PIXELS` is reduced; its mask is not.
        Raises BadData if either cannot be read, if their sizes differ, or if the mask contains a value that is not a class.
        """
        if self.drawings:
            return Image.fromarray(self.drawings[index].image), self.drawings[index].semantic
        name, mask_name = (self.root / part for part in self.pairs[index])
        picture = image_files.read(name)
        stated = self._stated(image_files.content(mask_name), mask_name)
        height, width = stated.shape
        seen = picture.as_annotated((width, height))
        if seen is None:
            raise BadData(f"{mask_name} is {width} × {height} pixels and its image {picture.sides}; they must be of one size")
        return seen.image, self._classes_in(stated, mask_name)

    def _stated(self, content: bytes, name: Path) -> NDArray[np.integer[Any]]:
        """Return the (H, W) numbers in the content of a mask, or those of its colours. Raises BadData for a colour of no class."""
        if not self.colours:
            return mask_images.decode_mask(content, str(name))
        found = mask_images.decode_colours(content, str(name))
        keys = np.array((*self.colours, *self.ignored_colours))
        numbers = np.array((*range(len(self.colours)), *[IGNORE] * len(self.ignored_colours)), np.uint8)
        order = np.argsort(keys)
        mask = np.empty(found.shape, np.uint8)
        for start in range(0, found.size, STRIP):
            some = found.reshape(-1)[start : start + STRIP]
            place = order[np.minimum(np.searchsorted(keys, some, sorter=order), len(keys) - 1)]
            if (wrong := np.flatnonzero(keys[place] != some)).size:
                at = start + int(wrong[0])
                raise BadData(
                    f"{name} has the colour {in_words(int(some[wrong[0]]))} at x = {at % found.shape[1]}, y = {at // found.shape[1]}, "
                    f"which is none of the {len(keys)} colours of the classes; save masks as PNG, without smooth edges"
                )
            mask.reshape(-1)[start : start + STRIP] = numbers[place]
        return mask

    def _classes_in(self, stated: NDArray[np.integer[Any]], name: Path) -> NDArray[np.uint8]:
        """Return (H, W) classes and `IGNORE` for the numbers in a mask's file. Raises BadData if one of them is not a class."""
        mask = np.empty(stated.shape, np.uint8)
        for place in range(0, stated.size, STRIP):
            some = stated.reshape(-1)[place : place + STRIP]
            classes = self._table[np.clip(some.astype(np.int64), -1, IGNORE + 1)]
            if (classes < 0).any():
                last = self.first + len(self.classes) - 1
                raise BadData(
                    f"{name} has the value {some[classes < 0][0]}; the classes are {self.first} to {last}, "
                    f"and {', '.join(map(str, sorted({*self.ignored, IGNORE})))} is not judged"
                )
            mask.reshape(-1)[place : place + STRIP] = classes
        return mask

    def name(self, index: int) -> str:
        """Return the name of an image, relative to the root."""
        return self.pairs[index][0]

    @property
    def strata(self) -> tuple[str, ...]:
        """An empty text for each image, because images with masks are divided as if all were of one class."""
        return ("",) * len(self)

    def take(self, indices: Sequence[int]) -> SegmentationSet:
        """Return the set of these images."""
        drawings = tuple(self.drawings[index] for index in indices) if self.drawings else ()
        return replace(self, pairs=tuple(self.pairs[index] for index in indices), drawings=drawings)

    def check_readable(self, index: int) -> None:
        """Raise BadData if an image or its mask cannot be decoded."""
        image_files.decode(self.content(index), str(self.root / self.name(index)))
        mask = self.root / self.pairs[index][1]
        (mask_images.decode_colours if self.colours else mask_images.decode_mask)(image_files.content(mask), str(mask))

    def is_annotated(self, index: int) -> bool:
        """Return True: every image has a mask."""
        return True

    def with_classes(self, classes: Sequence[str], *, complete: bool = True, owner: str = "the model") -> SegmentationSet:
        """Return the set itself.

        Raises BadData if its classes are not exactly these in this order; masks contain numbers and not names, so `complete` has no
        effect. The message says that the classes are those of `owner`.
        """
        check_classes(self.root, self.classes, classes, owner=owner)
        for number, (own, wanted) in enumerate(zip(self.classes, classes, strict=True)):
            if own != wanted:
                raise BadData(f'{self.root} has "{own}" as class {number}, and {owner} has "{wanted}"; renumber the masks')
        return self

    @functools.cached_property
    def _table(self) -> NDArray[np.int16]:
        """The class of each value in the files, or -1 for a value that is not a class. Its last element is for values out of range."""
        table = np.full(IGNORE + 2, -1, np.int16)
        table[self.first : self.first + len(self.classes)] = np.arange(len(self.classes))
        table[[*self.ignored, IGNORE]] = IGNORE
        return table

    @functools.cached_property
    def survey(self) -> Survey:
        """The number of judged pixels of each class, and the number of images that contain them.

        Computed once: all masks are decoded, in threads. Raises BadData for a mask that `read` would refuse, for an image whose header
        cannot be read, and for masks whose palettes have one colour for several numbers.
        """
        pixels, images = np.zeros((2, IGNORE + 1), np.int64)
        palettes = Palettes()
        for index, (found, palette) in enumerate(contents.each_image(self._look, len(self))):
            pixels += found
            images += found > 0
            palettes.check(np.flatnonzero(found).tolist(), palette, self.root / self.pairs[index][1])
        counts, occurs = (
            dict(zip(self.classes, of[self.first : self.first + len(self.classes)].tolist(), strict=True)) for of in (pixels, images)
        )
        values = {int(value): int(pixels[value]) for value in np.flatnonzero(pixels)}
        left_out = sum(values.values()) - sum(counts.values())
        return Survey("pixels", counts, occurs, left_out, {} if self.colours else values, self.first)

    def _look(self, index: int) -> tuple[NDArray[np.int64], tuple[int, ...]]:
        """Return (256,) the number of pixels of each value in a mask's file, and the colours of its palette if its numbers are used."""
        if self.drawings:
            return np.bincount(self.drawings[index].semantic.ravel(), minlength=IGNORE + 1), ()
        name, mask_name = (self.root / part for part in self.pairs[index])
        content = image_files.content(mask_name)
        stated = self._stated(content, mask_name)
        found = np.zeros(IGNORE + 2, np.int64)
        for place in range(0, stated.size, STRIP):
            some = stated.reshape(-1)[place : place + STRIP].astype(np.int64)
            found += np.bincount(np.where((some < 0) | (some > IGNORE), IGNORE + 1, some), minlength=IGNORE + 2)
        if found[self._table < 0].any() or image_files.size_of(name) != stated.shape[::-1]:
            self.read(index)  # raises the error, unless the image only has to be rotated
        palette = () if self.colours else mask_images.palette_of(content, str(mask_name))
        return found[:-1], palette

    @functools.cached_property
    def notes(self) -> tuple[str, ...]:
        """Lines for the user about images with an EXIF orientation, and about grey of 16 bits that is too dark."""
        return () if self.drawings else image_files.picture_notes(self.root, [image for image, _ in self.pairs])

    @functools.cached_property
    def digest(self) -> str:
        """The SHA-256 over the names of images, masks and classes and the contents of images and masks, which identifies the set.

        Computed once: every file is read, in threads. Raises BadData for a file that cannot be read.
        """
        what = [self.layout if self.drawings else "", self.classes, self.pairs, self.first, self.ignored]
        if self.colours:
            what += [self.colours, self.ignored_colours]
        whole = hashlib.sha256(json.dumps(what).encode())
        if not self.drawings:
            whole.update(b"".join((*self.contents, *contents.digests(self.root, (mask for _, mask in self.pairs)))))
        return whole.hexdigest()


class Palettes:
    """The palettes of the masks of a set, whose numbers are the classes: each colour must have one number in all of them."""

    def __init__(self) -> None:
        self.numbers: dict[int, tuple[int, Path]] = {}

    def check(self, occurring: Sequence[int], palette: Sequence[int], mask: Path) -> None:
        """Raise BadData if a number that occurs in a mask has a colour that another mask has for another number.

        A palette with one colour for several of these numbers says nothing and is not compared.
        """
        colours = {palette[number]: number for number in occurring if number < len(palette)}
        if len(colours) < len(occurring):
            return
        for colour, number in colours.items():
            other, where = self.numbers.setdefault(colour, (number, mask))
            if other != number:
                raise BadData(
                    f"{mask} has the colour {in_words(colour)} for the number {number}, and {where} for {other}; save all masks with one "
                    'palette, or add the colour to each name in the list of classes, such as "cat 255 0 0"'
                )


def in_words(colour: int) -> str:
    """Return a colour 0xRRGGBB as its three values, such as "(255, 0, 128)"."""
    return f"({colour >> 16}, {colour >> 8 & 255}, {colour & 255})"


def segmentation_shapes(shapes: Shapes) -> SegmentationSet:
    """Return generated shapes with masks. Class 0 is the background, which includes distractors.

    All images are drawn at once and kept in memory.
    """
    drawings = draw_all(shapes)
    pairs = tuple((f"{shapes.split}/{index}", f"{shapes.split}/{index}") for index in range(len(drawings)))
    return SegmentationSet(Path("shapes"), shapes.description, ("background", *CLASSES), pairs, drawings=drawings)
