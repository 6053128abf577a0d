"""Images and masks in folders, as annotation tools write them.

- `images/` and `masks/` with files of equal stems, in equal subfolders if there are any, or those folders below `train/`, `val/` and
  `test/`, or folders of splits below those;
- CVAT's "Segmentation mask 1.1": `JPEGImages/`, `SegmentationClass/`, lists in `ImageSets/Segmentation` and `labelmap.txt`;
- CVAT's "CamVid 1.0": `default/`, `defaultannot/`, `default.txt` and `label_colors.txt`, and the same for other subsets;
- Roboflow's masks: `train/` and so on with `a.jpg`, `a_mask.png` and `_classes.csv`.

Masks contain numbers of classes, colours of a list (`readers.mask_classes`), or black and white for two classes.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from trickzoo.data import images as image_files
from trickzoo.data import mask_images
from trickzoo.data.contents import in_threads
from trickzoo.data.exports import ALL, Export, Pair, by_split, folders_of_splits
from trickzoo.data.layouts import find_reader, split_of
from trickzoo.data.listing import CLASS_LIST, EVERY, Files, check_unique, folder_called, images_by_stem, read_lines, read_split, visible
from trickzoo.data.masks import IGNORE, SegmentationSet, in_words
from trickzoo.data.readers.mask_classes import CAMVID, LABEL_MAP, ROBOFLOW, MaskClasses, find_classes, read_list
from trickzoo.data.readers.own import box_exports
from trickzoo.errors import BadData, shortened
from trickzoo.files import Identity
from trickzoo.wording import count

IMAGES, MASKS = ("images", "imgs", "JPEGImages"), ("masks", "mask", "annotations", "labels", "SegmentationClass")
"""Names of the folders of images and of masks, in this order and in upper or lower case."""
SUFFIX = "_mask"
"""The suffix that the name of a mask may have after the name of its image."""
BLACK, WHITE = 0, 0xFFFFFF
GREY = 0x10101
"""A grey value times this number is its colour."""
TWO = ("background", "object")
"""The names of two classes that no list names."""


def mask_exports(root: Path) -> list[Export]:
    """Return the sets of images and masks that a folder contains, in any form. Only the names of files are read.

    Raises BadData for a folder that holds masks in another layout, or an export with boxes instead.
    """
    found = [*_cvat_masks(root), *_cvat_camvid(root), *_roboflow(root), *_folders(root)]
    if found:
        return found
    boxes = box_exports(root)
    if other := _other_layout(root, boxes):
        raise BadData(
            f"{root} has masks in the layout {other}, not as annotation tools export them; name it, as in `trickzoo finetune {other}`"
        )
    if boxes:
        drawn = f"draw its outlines with `trickzoo masks {root} FOLDER`, or " if find_reader(boxes[0].layout, "detection").outlines else ""
        raise BadData(f"{root} is a {boxes[0].what}, which has no masks; {drawn}export masks as images, in images/ and masks/")
    return []


def _other_layout(root: Path, boxes: Sequence[Export]) -> str | None:
    """Return the layout of `layouts.LAYOUTS` in which a folder holds masks, None if there is none. `boxes` are its exports with boxes."""
    years = (root, *visible(root, "VOC*"))
    if any((year / "SegmentationClass").is_dir() and (year / "ImageSets" / "Segmentation").is_dir() for year in years):
        return "voc"
    lists = any(split_of(path.stem) for path in visible(root, "*.txt"))
    return "lists" if lists and not boxes and (root / CLASS_LIST).is_file() else None


def _cvat_masks(root: Path) -> Iterator[Export]:
    lists = visible(root / "ImageSets" / "Segmentation", "*.txt")
    if not lists or not (root / LABEL_MAP).is_file() or not (root / "SegmentationClass").is_dir():
        return
    openers = {
        split: functools.partial(_open_cvat_masks, root, path.stem)
        for split, path in by_split(root, ((path.stem, path) for path in lists)).items()
    }
    yield Export("CVAT Segmentation mask export", "masks", root / LABEL_MAP, openers)


def _open_cvat_masks(root: Path, split: str, layout: str) -> SegmentationSet:
    images, masks = (images_by_stem(root / folder, pattern=EVERY) for folder in ("JPEGImages", "SegmentationClass"))
    stems = read_split(root / "ImageSets" / "Segmentation", split, images)
    for kind, there, folder in (("image", images, "JPEGImages"), ("mask", masks, "SegmentationClass")):
        if missing := next((stem for stem in stems if stem not in there), None):
            raise BadData(f"{root / folder} has no {kind} {missing}, but ImageSets/Segmentation/{split}.txt lists it")
    pairs = tuple((f"JPEGImages/{images[stem]}", f"SegmentationClass/{masks[stem]}") for stem in stems)
    return _set(root, layout, pairs, read_list(root / LABEL_MAP))


def _cvat_camvid(root: Path) -> Iterator[Export]:
    lists = [path for path in visible(root, "*.txt") if (root / f"{path.stem}annot").is_dir()]
    if not lists or not (root / CAMVID).is_file():
        return
    openers = {
        split: functools.partial(_open_camvid, root, path) for split, path in by_split(root, ((path.stem, path) for path in lists)).items()
    }
    yield Export("CVAT CamVid export", "masks", root / CAMVID, openers)


def _open_camvid(root: Path, path: Path, layout: str) -> SegmentationSet:
    """Open a list with lines such as "/default/a.jpg /defaultannot/a.png". Names with spaces are in quotes."""
    files, pairs = Files(root), []
    for number, line in enumerate(read_lines(path), 1):
        image, gap, mask = line.rpartition(f" /{path.stem}annot/" if f" /{path.stem}annot/" in line else f" {path.stem}annot/")
        if not gap:
            raise BadData(f"{path}, line {number}, does not name an image and a mask in {path.stem}annot/")
        names = (part.strip().strip('"').lstrip("/") for part in (image, f"{path.stem}annot/{mask}"))
        first, second = (files.require(name, f"{path.name}, line {number},") for name in names)
        pairs.append((first, second))
    return _set(root, layout, tuple(pairs), read_list(root / CAMVID))


def _roboflow(root: Path) -> Iterator[Export]:
    folders = [path.parent for path in (root / ROBOFLOW, *visible(root, f"*/{ROBOFLOW}")) if path.is_file()]
    folders = [folder for folder in folders if any(path.stem.endswith(SUFFIX) for path in visible(folder, "*.png"))]
    if folders:
        named = by_split(root, ((folder.name if folder != root else ALL, folder) for folder in folders))
        both = tuple((folder, folder) for folder in folders)
        openers = {split: functools.partial(_open_folders, root, (folder, folder), both) for split, folder in named.items()}
        yield Export("Roboflow mask export", "masks", folders[0] / ROBOFLOW, openers)


def _folders(root: Path) -> Iterator[Export]:
    """Yield folders of images and of masks: beside each other, in the folder of a split, or with folders of splits in them."""
    if whole := _pair(root):
        names = [path.name for path in visible(whole[0]) if split_of(path.name)]
        parts = [name for name in names if (whole[0] / name).is_dir() and (whole[1] / name).is_dir()]
        found = by_split(whole[0], ((name, (whole[0] / name, whole[1] / name)) for name in parts)) or {ALL: whole}
    else:
        found = {split: pair for split, folder in folders_of_splits(root).items() if (pair := _pair(folder))}
    if any(_masks_in(pair) for pair in found.values()):
        images, masks = whole or next(iter(found.values()))
        every = tuple(found.values())
        openers = {split: functools.partial(_open_folders, root, each, every) for split, each in found.items()}
        yield Export(f"images and masks in {images.name}/ and {masks.name}/", "masks", masks, openers)


def _pair(root: Path) -> Pair | None:
    """Return the folders of images and of masks in a folder, if it has both."""
    images, masks = (folder_called(root, names) for names in (IMAGES, MASKS))
    return (images, masks) if images and masks and not (root / "ImageSets").is_dir() else None


def _pattern(folders: Pair) -> str:
    """Return the pattern of the files in a folder of images and one of masks: those in subfolders too, if they are two folders."""
    return "*" if folders[0] == folders[1] else EVERY


def _open_folders(root: Path, folders: Pair, every: Sequence[Pair], layout: str) -> SegmentationSet:
    """Open images and masks of equal stems, in two folders or in one. `every` are the folders of all splits."""
    images, masks = (images_by_stem(folder, pattern=_pattern(folders)) for folder in folders)
    images = {stem: name for stem, name in images.items() if folders[0] != folders[1] or not stem.endswith(SUFFIX)}
    mask_of = {stem: masks.get(f"{stem}{SUFFIX}") or (masks.get(stem) if folders[0] != folders[1] else None) for stem in images}
    if alone := [stem for stem, mask in mask_of.items() if mask is None]:
        without = f"{count(len(alone), 'image')} of {len(images):,} without a mask, such as {images[alone[0]]}"
        raise BadData(f"{folders[1]}: {without}; add masks, or move such images away")
    used = {*mask_of.values(), *(images.values() if folders[0] == folders[1] else ())}
    if alone := [name for name in masks.values() if name not in used]:
        without = f"{count(len(alone), 'mask')} without an image, such as {alone[0]}"
        raise BadData(f"{folders[0]}: {without}; add images, or move such masks away")
    below = [folder.relative_to(root) for folder in folders]
    pairs = tuple(((below[0] / images[stem]).as_posix(), (below[1] / mask).as_posix()) for stem, mask in mask_of.items() if mask)
    check_unique([mask for _, mask in pairs], folders[1])
    if not pairs:
        raise BadData(f"{folders[0]} has no image")
    listed = find_classes(list(dict.fromkeys((folders[1], folders[1].parent, folders[0], root))))
    return _set(root, layout, pairs, _classes(root, root / pairs[0][1], every, *listed or (None, None)))


def _classes(root: Path, first: Path, every: Sequence[Pair], path: Path | None, listed: MaskClasses | None) -> MaskClasses:
    """Return the classes of a list, or those of black-and-white masks. `first` is the first mask of the split.

    Unless the list names more than two classes, the masks of all splits are read: a split may happen to have no pixel of 1, and its 255
    would then be white. Raises BadData if there is no list, and the masks have other values than two.
    """
    if listed is not None and (listed.colours or len(listed.classes) != 2):
        _check_mode(first, path, listed)
        return listed
    names = listed.classes if listed is not None else TWO
    masks = [mask for folders in every for mask in _masks_in(folders)]
    by_number, values, colours = _values(tuple((mask, Identity.of(mask.lstat())) for mask in masks))
    if colours == {BLACK, WHITE}:
        return MaskClasses(names, colours=(BLACK, WHITE))
    if listed is not None:
        _check_mode(first, path, listed)
        return listed
    if by_number and values <= {0, 1, IGNORE} and {0, 1} <= values:
        return MaskClasses(names)
    shown = [str(value) if by_number else in_words(value) for value in sorted(values)]
    what = shortened(shown, 5)
    example = "one name per line, in the order of the numbers" if by_number else 'one name and its colour per line, such as "cat 255 0 0"'
    kind = "values" if by_number else "colours"
    raise BadData(f"{root}: the masks have the {kind} {what}, and no list names them; write {CLASS_LIST}, {example}")


def _check_mode(mask: Path, path: Path | None, listed: MaskClasses) -> None:
    """Raise BadData if the first mask has colours, and the list has none."""
    if not listed.colours and mask_images.mode_of(image_files.content(mask), str(mask)) not in mask_images.INDEXED:
        raise BadData(f'{mask} has colours, and {path} states none; add the colour to each name, such as "cat 255 0 0"')


def _masks_in(folders: Pair) -> list[Path]:
    """Return the masks in the folders of a split."""
    there = [path for path in visible(folders[1], _pattern(folders)) if image_files.is_image_name(path)]
    return there if folders[0] != folders[1] else [path for path in there if path.stem.endswith(SUFFIX)]


@functools.lru_cache(maxsize=2)  # the splits of a set are opened one after the other
def _values(masks: tuple[tuple[Path, Identity], ...]) -> tuple[bool, set[int], set[int]]:
    """Return whether all masks have numbers, the numbers in them or otherwise their colours, and the colours that viewers show.

    The identities of the files are given so that a changed mask is read again.
    Masks that cannot be read are left out here, because a set may leave them out too. Raises BadData if all of them are.
    """

    def look(mask: Path) -> tuple[set[int] | None, set[int]] | BadData:
        name = str(mask)
        try:
            image = image_files.whole(image_files.content(mask), name)
        except BadData as error:
            return error
        numbers = set(np.unique(mask_images.numbers_in(image, name)).tolist()) if image.mode in mask_images.INDEXED else None
        if numbers is not None and image.mode != "P":
            return numbers, {number * (WHITE if image.mode == "1" else GREY) for number in numbers}
        return numbers, set(np.unique(mask_images.colours_in(image, name)).tolist())

    looked = list(in_threads(look, (mask for mask, _ in masks)))
    found = [each for each in looked if not isinstance(each, BadData)]
    if not found and isinstance(looked[0], BadData):
        raise looked[0]
    colours: set[int] = set().union(*(shown for _, shown in found))
    numbers = [stated for stated, _ in found if stated is not None]
    by_number = len(numbers) == len(found)
    return by_number, set().union(*numbers) if by_number else colours, colours


def _set(root: Path, layout: str, pairs: tuple[tuple[str, str], ...], of: MaskClasses) -> SegmentationSet:
    return SegmentationSet(root, layout, of.classes, pairs, ignored=of.ignored, colours=of.colours, ignored_colours=of.ignored_colours)
