"""Writers of small sets of masks in the exact form of the exports of annotation tools.

Each writes the same images of 40 × 30 pixels with the same masks, `TRUTH`, into a folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.exports import Form, photograph, write

CLASSES = ("background", "road", "sky")
COLOURS = ((0, 0, 0), (128, 64, 128), (70, 130, 180))
PARTS = {"train": ("a", "b", "c"), "val": ("d", "e"), "test": ("f",)}
STEMS = tuple(stem for stems in PARTS.values() for stem in stems)


def truth(stem: str, classes: int = 3) -> NDArray[np.uint8]:
    """The (30, 40) mask of an image: each class in some block, at places that differ between images."""
    blocks = (np.arange(12).reshape(3, 4) + ord(stem)) % classes
    return blocks.astype(np.uint8).repeat(10, 0).repeat(10, 1)


def grey(path: Path, mask: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)


def coloured(path: Path, mask: NDArray[np.uint8]) -> None:
    grey(path, np.array(COLOURS, np.uint8)[mask])


def palette(path: Path, mask: NDArray[np.uint8]) -> None:
    """Write a mask whose palette has the colours, in another order than the classes."""
    image = Image.fromarray((2 - mask).astype(np.uint8))
    image.putpalette([value for colour in reversed(COLOURS) for value in colour])
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def numbers(folder: Path) -> None:
    """`images/` and `masks/` with numbers, and `classes.txt`."""
    for stem in STEMS:
        photograph(folder / "images", f"{stem}.jpg")
        grey(folder / "masks" / f"{stem}.png", truth(stem))
    write(folder / "classes.txt", "".join(f"{name}\n" for name in CLASSES))


def numbers_in_splits(folder: Path) -> None:
    """`images/SPLIT` and `masks/SPLIT`."""
    for part, stems in PARTS.items():
        for stem in stems:
            photograph(folder / "images" / part, f"{stem}.jpg")
            grey(folder / "masks" / part / f"{stem}.png", truth(stem))
    write(folder / "classes.txt", "".join(f"{name}\n" for name in CLASSES))


def splits_of_colours(folder: Path) -> None:
    """`SPLIT/images` and `SPLIT/masks` with colours."""
    for place, part in (("train", "train"), ("valid", "val"), ("test", "test")):
        for stem in PARTS[part]:
            photograph(folder / place / "images", f"{stem}.jpg")
            coloured(folder / place / "masks" / f"{stem}.png", truth(stem))
    write(folder / "classes.txt", "background 0 0 0\nroad,128,64,128\nsky #4682b4\n")


def palettes(folder: Path) -> None:
    """`images/` and `masks/` with palettes, and a list of colours."""
    for stem in STEMS:
        photograph(folder / "images", f"{stem}.jpg")
        palette(folder / "masks" / f"{stem}.png", truth(stem))
    write(folder / "labelmap.txt", LABEL_MAP)


LABEL_MAP = "# label:color_rgb:parts:actions\nbackground:0,0,0::\nroad:128,64,128::\nsky:70,130,180::\n"


def cvat_masks(folder: Path) -> None:
    """CVAT's "Segmentation mask 1.1" of a task."""
    for stem in STEMS:
        photograph(folder / "JPEGImages", f"{stem}.jpg")
        coloured(folder / "SegmentationClass" / f"{stem}.png", truth(stem))
        coloured(folder / "SegmentationObject" / f"{stem}.png", truth(stem))
    write(folder / "ImageSets" / "Segmentation" / "default.txt", "".join(f"{stem}\n" for stem in STEMS))
    write(folder / "labelmap.txt", LABEL_MAP)


def cvat_camvid(folder: Path) -> None:
    """CVAT's "CamVid 1.0" of a project with two subsets."""
    for place, part in (("Train", "train"), ("Validation", "val")):
        for stem in PARTS[part]:
            photograph(folder / place, f"{stem}.jpg")
            coloured(folder / f"{place}annot" / f"{stem}.png", truth(stem))
        write(folder / f"{place}.txt", "".join(f"/{place}/{stem}.jpg /{place}annot/{stem}.png\n" for stem in PARTS[part]))
    write(folder / "label_colors.txt", "0 0 0 background\n128 64 128 road\n70 130 180 sky\n")


def roboflow_masks(folder: Path) -> None:
    """Roboflow's "Semantic Segmentation Masks"."""
    for place, part in (("train", "train"), ("valid", "val"), ("test", "test")):
        for stem in PARTS[part]:
            photograph(folder / place, f"{stem}.jpg")
            grey(folder / place / f"{stem}_mask.png", truth(stem))
        write(folder / place / "_classes.csv", "Pixel Value, Class\n" + "".join(f"{i}, {name}\n" for i, name in enumerate(CLASSES)))


def black_and_white(folder: Path) -> None:
    """`images/` and `masks/` of 0 and 255, without a list."""
    for stem in STEMS:
        photograph(folder / "images", f"{stem}.jpg")
        grey(folder / "masks" / f"{stem}.png", truth(stem, 2) * 255)


def black_and_white_rgb(folder: Path) -> None:
    """The same with three channels, and with the suffix _mask."""
    for stem in STEMS:
        photograph(folder / "images", f"{stem}.jpg")
        grey(folder / "masks" / f"{stem}_mask.png", np.repeat(truth(stem, 2)[..., None] * 255, 3, 2).astype(np.uint8))
    write(folder / "classes.txt", "ground\ncrack\n")


def zero_and_one(folder: Path) -> None:
    """`images/` and `masks/` of 0 and 1, without a list."""
    for stem in STEMS:
        photograph(folder / "images", f"{stem}.jpg")
        grey(folder / "masks" / f"{stem}.png", truth(stem, 2))


TWO: Mapping[str, Sequence[str]] = {part: PARTS[part] for part in ("train", "val")}
MASKS = {
    "numbers": Form(numbers, "images and masks in images/ and masks/, no splits", "masks"),
    "numbers in splits": Form(numbers_in_splits, "images and masks in images/ and masks/, 3 splits", "masks", PARTS),
    "splits of colours": Form(splits_of_colours, "images and masks in images/ and masks/, 3 splits", "masks", PARTS),
    "palettes": Form(palettes, "images and masks in images/ and masks/, no splits", "masks"),
    "CVAT masks": Form(cvat_masks, "CVAT Segmentation mask export, no splits", "masks"),
    "CVAT CamVid": Form(cvat_camvid, "CVAT CamVid export, 2 splits", "masks", TWO),
    "Roboflow masks": Form(roboflow_masks, "Roboflow mask export, 3 splits", "masks", PARTS),
    "0 and 255": Form(black_and_white, "images and masks in images/ and masks/, no splits", "masks"),
    "black and white": Form(black_and_white_rgb, "images and masks in images/ and masks/, no splits", "masks"),
    "0 and 1": Form(zero_and_one, "images and masks in images/ and masks/, no splits", "masks"),
}
"""The exports with masks, by tool and form."""
CLASSES_OF = {"0 and 255": ("background", "object"), "black and white": ("ground", "crack"), "0 and 1": ("background", "object")}
"""The classes of the forms with two classes."""
