"""The layouts of images, as tables. Importing them does not import torch.

To add a format, add a reader in `data/readers/` and an entry in `LAYOUTS` or `IMAGE_FOLDERS`.
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
    """The reader of a layout for one task: a function, the exports of tools, or both.

    Attributes:
        recipe: the name of the recipe that is used if the user names none.
        function: "module:function". It is called with the folder and the name of a split, and with the year if the layout has years. If it
            is empty, the splits are those of the only one of the `exports`.
        exports: "module:function", which returns the exports (`data.exports.Export`) in a folder; empty if the layout states its splits.
        contents: what a folder must contain to be recognised as one of the `exports`, for messages.
        outlines: "module:function", which returns the same exports, but those open the outlines of the objects (`data.regions.RegionSet`);
            empty if the layout has none.
    """

    recipe: str
    function: str = ""
    exports: str = ""
    contents: str = ""
    outlines: str = ""


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


MASK_FOLDERS = "images/ and masks/ with equal names, or an export of masks"
OWN = "own"
"""The layout that is one of the others, whose exports are recognised."""

LAYOUTS = {
    "coco": Layout(
        "COCO's folder, or an export in its format",
        {
            "detection": Reader(
                "paper.detection.coco_fpn",
                function="trickzoo.data.readers.coco:open_coco",
                exports="trickzoo.data.readers.coco:coco_exports",
                contents="a file in COCO's format",
                outlines="trickzoo.data.readers.coco:coco_regions",
            )
        },
        years=("2014", "2017"),
    ),
    "voc": Layout(
        "VOC, or a folder like it",
        {
            "detection": Reader(
                "paper.detection.voc",
                function="trickzoo.data.readers.voc_exports:open_xml",
                exports="trickzoo.data.readers.voc_exports:voc_exports",
                contents="XML files of VOC",
            ),
            "segmentation": Reader("paper.segmentation.voc", "trickzoo.data.readers.voc:open_voc_masks"),
        },
        years=("2007", "2012", "07+12"),
    ),
    "ade20k": Layout("ADE20K's folder", {"segmentation": Reader("paper.segmentation.ade20k", "trickzoo.data.readers.ade20k:open_ade20k")}),
    "lists": Layout(
        "images and masks that lists name, as CamVid has them",
        {"segmentation": Reader("small.segmentation", "trickzoo.data.readers.mask_lists:open_lists")},
    ),
    "yolo": Layout(
        "YOLO's text files, with data.yaml, obj.data or classes.txt",
        {
            "detection": Reader(
                "small.detection",
                exports="trickzoo.data.readers.yolo:yolo_exports",
                contents="YOLO's text files with data.yaml or classes.txt",
                outlines="trickzoo.data.readers.yolo:yolo_regions",
            )
        },
    ),
    "labelme": Layout(
        "Labelme's JSON, a file for each image",
        {
            "detection": Reader(
                "small.detection",
                exports="trickzoo.data.readers.labelme:labelme_exports",
                contents="JSON files of Labelme",
                outlines="trickzoo.data.readers.labelme:labelme_regions",
            )
        },
    ),
    "via": Layout(
        "VIA's own JSON or CSV",
        {
            "detection": Reader(
                "small.detection",
                exports="trickzoo.data.readers.via:via_exports",
                contents="via*.json or via*.csv of VIA",
                outlines="trickzoo.data.readers.via:via_regions",
            )
        },
    ),
    "masks": Layout(
        MASK_FOLDERS,
        {"segmentation": Reader("small.segmentation", exports="trickzoo.data.readers.mask_folders:mask_exports", contents=MASK_FOLDERS)},
    ),
    OWN: Layout(
        "an export of an annotation tool",
        {
            "detection": Reader("small.detection", exports="trickzoo.data.readers.own:box_exports"),
            "segmentation": Reader("small.segmentation", exports="trickzoo.data.readers.mask_folders:mask_exports"),
        },
    ),
    "shapes": Layout(
        "generated images",
        {
            "detection": Reader("shapes.detection", "trickzoo.data.boxes:detection_shapes"),
            "segmentation": Reader("shapes.segmentation", "trickzoo.data.masks:segmentation_shapes"),
        },
        generated=True,
    ),
    "easy_shapes": Layout(
        "generated images that a small network learns in a minute",
        {
            "detection": Reader("easy_shapes.detection", "trickzoo.data.boxes:detection_shapes"),
            "segmentation": Reader("easy_shapes.segmentation", "trickzoo.data.masks:segmentation_shapes"),
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


def with_exports(task: str) -> list[Reader]:
    """Return the readers of a task that find the exports of tools, one for each layout but `OWN`, which uses them all."""
    return [
        layout.readers[task] for name, layout in LAYOUTS.items() if name != OWN and task in layout.readers and layout.readers[task].exports
    ]


def with_outlines() -> list[Reader]:
    """Return the readers whose exports can have outlines of the objects."""
    return [reader for reader in with_exports("detection") if reader.outlines]


def contents_of(name: str, task: str) -> str:
    """Return what a folder must contain to be recognised as an export in a layout, for messages."""
    *others, last = (each.contents for each in (with_exports(task) if name == OWN else [find_reader(name, task)]))
    return ", or ".join([", ".join(others), last] if others else [last])


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
