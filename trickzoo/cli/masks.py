"""`trickzoo masks`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from trickzoo.cli.printing import say
from trickzoo.data.layouts import check_exists, with_outlines
from trickzoo.errors import BadData, BadOption, NoEffect, shortened
from trickzoo.files import new_folder
from trickzoo.wording import count

if TYPE_CHECKING:
    from trickzoo.data.regions import RegionSet

SHOWN = 5
"""How many classes a message names."""


def masks(
    source: Path,
    out: Path,
    /,
    *,
    images: Annotated[Path | None, Parameter(help="If SOURCE is a file: the folder of its images, by default its own.")] = None,
) -> None:
    """Draw the outlines in SOURCE, an export of an annotation tool or a file in COCO's format, as masks.

    OUT, a new folder, gets masks/ with a PNG for each image, images/ with links to the images, and classes.txt. An export with splits gets
    the two folders for each split. Where regions of several classes overlap, the later one in the file counts. Pixels outside of all
    regions are background, and those of regions called void, ignore or unlabelled are ignored. Train on the masks with
    `trickzoo finetune own --task segmentation --data OUT`.
    """
    from trickzoo.data.listing import CLASS_LIST
    from trickzoo.data.regions import mask_classes

    check_exists(source)
    if out.exists():
        raise BadOption(f"{out} is there already; name a new folder")
    sets = _opened(source, images)
    names = list(dict.fromkeys(label for regions in sets.values() for label in regions.classes))
    classes = mask_classes(names)
    drawn = overlaps = 0
    with new_folder(out) as temporary:
        _write_classes(temporary / CLASS_LIST, classes)
        for split, regions in sets.items():
            folder = temporary / split
            for name in ("images", "masks"):
                (folder / name).mkdir(parents=True)
            taken: dict[str, str] = {}
            for index, image in enumerate(regions.images):
                name = image.name.replace("/", "-")
                if (other := taken.setdefault(Path(name).stem, image.name)) != image.name:
                    raise BadData(f"{regions.root} has {other} and {image.name}, whose masks would have one name; rename one of them")
                drawn += image.width * image.height
                overlaps += _write(regions, index, classes, folder, name)
    total = sum(len(regions.images) for regions in sets.values())
    say(f"{out}: {count(total, 'mask')} of {count(len(classes), 'class')}, {', '.join(classes)}")
    if overlaps:
        share = f"{100 * overlaps / drawn:.2f} % of the pixels"
        say(f"{share} are in regions of several classes; each has the class of the last one in the file")


def _opened(source: Path, images: Path | None) -> dict[str, RegionSet]:
    """Return the regions of each split; those of a source without splits are those of the split ""."""
    from trickzoo.data.exports import only_export
    from trickzoo.data.readers.coco import read_coco_regions
    from trickzoo.data.readers.own import region_exports

    if source.is_file():
        return {"": read_coco_regions(source, images or source.parent)}
    if images is not None:
        raise NoEffect("--images", f"it is for a file in COCO's format, and {source} is a folder")
    export = only_export(source, region_exports(source), " or ".join(reader.contents for reader in with_outlines()))
    return {"" if export.whole else split: opener(export.in_words) for split, opener in export.splits.items()}


def _write_classes(path: Path, classes: tuple[str, ...]) -> None:
    """Write a list of classes. Raises BadData for too many, and if the list would be read as other ones, as for a name with a colour."""
    from trickzoo.data.masks import IGNORE
    from trickzoo.data.readers.mask_classes import read_list

    if len(classes) > IGNORE:
        raise BadData(f"{len(classes)} classes; there can be {IGNORE}, as {IGNORE} is for pixels that do not count")
    path.write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")
    try:
        same = read_list(path).classes == classes
    except BadData:
        same = False
    if not same:
        listed = f"{path.name} cannot list the classes {shortened(classes, SHOWN)}"
        raise BadData(f"{listed}: numbers after a name are its colour; rename such classes")


def _write(regions: RegionSet, index: int, classes: tuple[str, ...], folder: Path, name: str) -> int:
    """Write the mask of an image and a link to the image. Return the number of pixels in regions of several classes."""
    from PIL import Image

    from trickzoo.drawing import palette

    mask, overlaps = regions.draw(index, classes)
    picture = Image.fromarray(mask)
    colours = palette(classes)
    picture.putpalette(colours + [255] * (3 * 256 - len(colours)))  # a shorter palette would be saved with too few bits for `IGNORE`
    picture.save(folder / "masks" / f"{Path(name).stem}.png")
    (folder / "images" / name).symlink_to((regions.root / regions.images[index].name).absolute())
    return overlaps
