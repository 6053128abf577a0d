"""ADE20K in the folder layout of its scene parsing benchmark."""

from __future__ import annotations

from pathlib import Path

from trickzoo.data.listing import images_by_stem, read_lines
from trickzoo.data.masks import SegmentationSet
from trickzoo.errors import BadData, nearest

ADE20K_SPLITS = {"train": "training", "val": "validation"}
CLASSES = (
    *("wall", "building", "sky", "floor", "tree", "ceiling", "road", "bed", "windowpane", "grass", "cabinet", "sidewalk", "person"),
    *("earth", "door", "table", "mountain", "plant", "curtain", "chair", "car", "water", "painting", "sofa", "shelf", "house", "sea"),
    *("mirror", "rug", "field", "armchair", "seat", "fence", "desk", "rock", "wardrobe", "lamp", "bathtub", "railing", "cushion", "base"),
    *("box", "column", "signboard", "chest of drawers", "counter", "sand", "sink", "skyscraper", "fireplace", "refrigerator"),
    *("grandstand", "path", "stairs", "runway", "case", "pool table", "pillow", "screen door", "stairway", "river", "bridge", "bookcase"),
    *("blind", "coffee table", "toilet", "flower", "book", "hill", "bench", "countertop", "stove", "palm", "kitchen island", "computer"),
    *("swivel chair", "boat", "bar", "arcade machine", "hovel", "bus", "towel", "light", "truck", "tower", "chandelier", "awning"),
    *("streetlight", "booth", "television receiver", "airplane", "dirt track", "apparel", "pole", "land", "bannister", "escalator"),
    *("ottoman", "bottle", "buffet", "poster", "stage", "van", "ship", "fountain", "conveyer belt", "canopy", "washer", "plaything"),
    *("swimming pool", "stool", "barrel", "basket", "waterfall", "tent", "bag", "minibike", "cradle", "oven", "ball", "food", "step"),
    *("tank", "trade name", "microwave", "pot", "animal", "bicycle", "lake", "dishwasher", "screen", "blanket", "sculpture", "hood"),
    *("sconce", "vase", "traffic light", "tray", "ashcan", "fan", "pier", "crt screen", "plate", "monitor", "bulletin board", "shower"),
    *("radiator", "glass", "clock", "flag"),
)
"""The 150 classes in order, each by the first of the names that `objectInfo150.txt` gives it."""


def open_ade20k(root: Path, split: str = "train") -> SegmentationSet:
    """Open ADE20K in the layout of its scene parsing benchmark: `images/training` and `annotations/training`, and the same for validation.

    In the files, 0 is "other", which is ignored, and 1 … 150 become classes 0 … 149. Their names come from `objectInfo150.txt`; without
    that file they are "class 1" to "class 150". Raises BadData if a folder is missing, or if an image or a mask has no counterpart.
    """
    if not (root / "annotations").is_dir() and (root / "ADEChallengeData2016").is_dir():
        root = root / "ADEChallengeData2016"
    folder = ADE20K_SPLITS.get(split, split)
    if folder not in ADE20K_SPLITS.values():
        raise BadData(f'ADE20K has no split "{split}"{nearest(split, ADE20K_SPLITS)}; there are {", ".join(ADE20K_SPLITS)}')
    photographs, masks = (images_by_stem(root / kind / folder) for kind in ("images", "annotations"))
    for kind, stems, other in (("mask", photographs, masks), ("image", masks, photographs)):
        alone = sorted(stems.keys() - other.keys())
        if alone:
            raise BadData(f"{root}: {len(alone)} of {len(stems)} in {folder} have no {kind}, the first {alone[0]}")
    pairs = tuple((f"images/{folder}/{photographs[stem]}", f"annotations/{folder}/{masks[stem]}") for stem in sorted(photographs))
    return SegmentationSet(root, f"ADE20K {folder}", _ade20k_classes(root / "objectInfo150.txt"), pairs, first=1, ignored=(0,))


def _ade20k_classes(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        return tuple(f"class {number}" for number in range(1, len(CLASSES) + 1))
    rows = [line.split("\t") for line in read_lines(path)[1:]]
    names = tuple(row[-1].split(",")[0].strip() for row in rows)
    if [row[0].strip() for row in rows] != [str(number) for number in range(1, len(CLASSES) + 1)]:
        raise BadData(f"{path} does not list classes 1 to {len(CLASSES)}, one per line; take the file that ADE20K distributes")
    return names
