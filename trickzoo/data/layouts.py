"""The layouts of images, as tables. Importing them does not import torch.

To add a format, add a reader in `data/readers/` and an entry in `LAYOUTS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trickzoo.addresses import check_local
from trickzoo.errors import BadData, BadOption, UnknownName

SPLIT_NAMES = {"train": ("train", "training"), "val": ("val", "validation", "valid", "dev"), "test": ("test", "testing")}
"""The names that a split may have, in upper or lower case: of its folder, of its list, and in tables and files of tools."""
SPLIT_MEANT = {name: split for split, names in SPLIT_NAMES.items() for name in names}
"""The split that each name means."""
TABLES = (".csv", ".tsv")
"""The suffixes of tables of images."""
ARCHIVES = (".zip", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".7z", ".rar")
"""The suffixes of archives, which are not read. ImageNet's tar and shards are not compressed."""
HUB = "hf:"
"""The beginning of `--data` for a data set of the hub."""
HUB_IN_WORDS = f"{HUB}OWNER/NAME for a data set of the Hugging Face Hub"


@dataclass(frozen=True)
class Reader:
    """The reader of a layout for one task.

    Attributes:
        function: "module:function". It is called with the folder and the name of a split, and with the year if the layout has years.
        recipe: the name of the recipe that is used if the user names none.
        exports: "module:function", which returns the exports (`data.exports.Export`) in a folder; empty if the layout states its splits.
        contents: what a folder must contain to be recognised, for messages; empty if the description of the layout says it.
    """

    function: str
    recipe: str
    exports: str = ""
    contents: str = ""


@dataclass(frozen=True)
class Layout:
    """A layout of annotated images.

    Attributes:
        what: a description of the images, for the command line's help.
        readers: the reader for each task that the layout has annotations for.
        years: examples of the years that each split may belong to, for the command line's help; empty if the layout has no years.
        generated: whether the images are generated. The readers are then called with the `Shapes` to draw.
    """

    what: str
    readers: Mapping[str, Reader] = field(default_factory=dict)
    years: tuple[str, ...] = ()
    generated: bool = False


BOX_CONTENTS = "a file in COCO's format, XML files of VOC, YOLO's text files with data.yaml or classes.txt, or via*.json or via*.csv of VIA"
MASK_CONTENTS = "images/ and masks/ with equal names, or an export of masks"
"""What a folder with boxes, or with masks, must contain to be recognised."""

LAYOUTS = {
    "coco": Layout(
        "COCO's folder, or an export in its format",
        {
            "detection": Reader(
                "trickzoo.data.readers.coco:open_coco", "paper.detection.coco_fpn", "trickzoo.data.readers.coco:coco_exports"
            )
        },
        years=("2014", "2017"),
    ),
    "voc": Layout(
        "VOC, or a folder like it",
        {
            "detection": Reader(
                "trickzoo.data.readers.voc_exports:open_xml", "paper.detection.voc", "trickzoo.data.readers.voc_exports:voc_exports"
            ),
            "segmentation": Reader("trickzoo.data.readers.voc:open_voc_masks", "paper.segmentation.voc"),
        },
        years=("2007", "2012", "07+12"),
    ),
    "ade20k": Layout("ADE20K's folder", {"segmentation": Reader("trickzoo.data.readers.ade20k:open_ade20k", "paper.segmentation.ade20k")}),
    "lists": Layout(
        "images and masks that lists name, as CamVid has them",
        {"segmentation": Reader("trickzoo.data.readers.mask_lists:open_lists", "small.segmentation")},
    ),
    "yolo": Layout(
        "YOLO's text files, with data.yaml, obj.data or classes.txt",
        {"detection": Reader("trickzoo.data.readers.yolo:open_yolo", "small.detection", "trickzoo.data.readers.yolo:yolo_exports")},
    ),
    "via": Layout(
        "VIA's own JSON or CSV",
        {"detection": Reader("trickzoo.data.readers.via:open_via", "small.detection", "trickzoo.data.readers.via:via_exports")},
    ),
    "masks": Layout(
        MASK_CONTENTS,
        {
            "segmentation": Reader(
                "trickzoo.data.readers.mask_folders:open_mask_folders",
                "small.segmentation",
                "trickzoo.data.readers.mask_folders:mask_exports",
            )
        },
    ),
    "own": Layout(
        "an export of an annotation tool",
        {
            "detection": Reader(
                "trickzoo.data.readers.own:open_boxes", "small.detection", "trickzoo.data.readers.own:box_exports", BOX_CONTENTS
            ),
            "segmentation": Reader(
                "trickzoo.data.readers.mask_folders:open_mask_folders",
                "small.segmentation",
                "trickzoo.data.readers.mask_folders:mask_exports",
                MASK_CONTENTS,
            ),
        },
    ),
    "shapes": Layout(
        "generated images",
        {
            "detection": Reader("trickzoo.data.boxes:detection_shapes", "shapes.detection"),
            "segmentation": Reader("trickzoo.data.masks:segmentation_shapes", "shapes.segmentation"),
        },
        generated=True,
    ),
    "easy_shapes": Layout(
        "generated images that a small network learns in a minute",
        {
            "detection": Reader("trickzoo.data.boxes:detection_shapes", "easy_shapes.detection"),
            "segmentation": Reader("trickzoo.data.masks:segmentation_shapes", "easy_shapes.segmentation"),
        },
        generated=True,
    ),
}

YEARS_IN_WORDS = " or ".join(f"{name} ({', '.join(layout.years)})" for name, layout in LAYOUTS.items() if layout.years)


@dataclass(frozen=True)
class ImageFolder:
    """A layout of labelled images in a folder, beside class folders and ImageNet's own files, which `readers.imagenet` knows.

    Attributes:
        what: what the folder is, for the command line's help.
        function: "module:function". It is called with the folder and the name of a split, "train" or "val". It returns the `ImageSet`, or
            None for a folder of another layout.
    """

    what: str
    function: str


IMAGE_FOLDERS = (
    ImageFolder("CIFAR-10", "trickzoo.data.readers.cifar_places:open_cifar10"),
    ImageFolder("Places365", "trickzoo.data.readers.cifar_places:open_places365"),
    ImageFolder("tar shards", "trickzoo.data.readers.shards:open_folder"),
)
"""The first whose function finds its layout in a folder is used."""
FOLDERS_IN_WORDS = ", ".join(folder.what for folder in IMAGE_FOLDERS)


def find_layout(name: str) -> Layout:
    """Return the layout of this name. Raises UnknownName, with the nearest names, if there is none."""
    if name not in LAYOUTS:
        raise UnknownName("layout", name, LAYOUTS)
    return LAYOUTS[name]


def of_task(task: str) -> tuple[str, ...]:
    """Return the names of the layouts that have annotations for a task."""
    return tuple(name for name, layout in LAYOUTS.items() if task in layout.readers)


def find_reader(name: str, task: str) -> Reader:
    """Return the reader of a layout for a task.

    Raises UnknownName for a layout that does not exist, BadOption for one that has no annotations for the task.
    """
    readers = find_layout(name).readers
    if task not in readers:
        raise BadOption(
            f"{name} has no annotations for {task}, only for {' and '.join(readers)}; the layouts that have are {', '.join(of_task(task))}"
        )
    return readers[task]


def split_of(name: str) -> str | None:
    """Return the split that a name means, whatever its capitals: train, val or test; None if it means none of them."""
    return SPLIT_MEANT.get(name.lower())


def is_hub(data: str | Path) -> bool:
    """Return whether `--data` names a data set of the hub."""
    return str(data).startswith(HUB)


def is_table(data: str | Path) -> bool:
    """Return whether `--data` names a table of images, which `readers.table` reads."""
    return not is_hub(data) and Path(data).suffix.lower() in TABLES


def check_exists(data: str | Path) -> None:
    """Raise BadData if `--data` names a file or folder that does not exist, or an archive, and BadOption if it is a URL."""
    check_local(str(data))
    if is_hub(data):
        return
    if not Path(data).exists():
        raise BadData(f"{data} does not exist")
    if str(data).lower().endswith(ARCHIVES) and Path(data).is_file():
        raise BadData(f"{data} is an archive; unpack it, and name the folder that it contains")
