"""Boxes and masks: COCO's json, VOC's XML and lists, ADE20K's class list, lists of masks."""

from __future__ import annotations

import base64
import io
import json
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from PIL import Image

from tests.annotated import coco, lists, mask, voc, xml
from tests.exports import cvat_yolo, labelme, roboflow_yolo, via_csv, via_json, yolo
from tests.fuzz.check import Target
from tests.fuzz.inputs import NUMBERS, WORDS, documents, images, texts
from tests.fuzz.targets.images import picture
from tests.images import jpeg
from tests.mask_exports import LABEL_MAP, cvat_camvid, palettes, roboflow_masks
from trickzoo.data import regions
from trickzoo.data.boxes import DetectionSet
from trickzoo.data.location import AnnotatedLocation
from trickzoo.data.masks import SegmentationSet
from trickzoo.data.readers.ade20k import open_ade20k
from trickzoo.data.readers.coco import open_coco
from trickzoo.data.readers.mask_lists import open_lists
from trickzoo.data.readers.own import region_exports
from trickzoo.data.readers.voc import open_voc, open_voc_masks
from trickzoo.errors import TrickzooError


def take(found: DetectionSet | SegmentationSet) -> None:
    """Use a set as the product does."""
    _ = found.digest
    if isinstance(found, DetectionSet):
        _ = found.faults.notes
    for index in range(min(3, len(found))):
        found.read(index)
        if isinstance(found, DetectionSet):
            found.objects_of(index)


def exported(folder: Path, task: str, split: str = "train") -> Any:
    """Open a split of an export as `trickzoo finetune own` does."""
    return AnnotatedLocation("own", folder, train=split).open(task, "train")


def coco_json(content: bytes, folder: Path) -> None:
    """The annotations of COCO."""
    (folder / "annotations" / "instances_train2017.json").write_bytes(content)
    take(open_coco(folder))


def _coco() -> Any:
    with tempfile.TemporaryDirectory() as folder:
        return json.loads((coco(Path(folder)) / "annotations" / "instances_train2017.json").read_text())


OBJECTS = (("dog", (1, 2, 20, 25)), ("cat", (5, 5, 40, 30)))
EXTRA = "<difficult>1</difficult><pose>Left</pose><truncated>0</truncated>"


def prepare_voc(folder: Path) -> None:
    """Write a folder in the layout of VOC, with masks."""
    voc(folder, {"a": xml(OBJECTS), "b": xml(OBJECTS, None, EXTRA)})
    for stem in ("a", "b"):
        mask(folder / "SegmentationClass" / f"{stem}.png", 1, "P")
    (folder / "ImageSets" / "Segmentation").mkdir()
    (folder / "ImageSets" / "Segmentation" / "train.txt").write_text("a\nb\n")


def voc_xml(content: bytes, folder: Path) -> None:
    """An annotation of VOC."""
    (folder / "Annotations" / "a.xml").write_bytes(content)
    take(open_voc(folder))


def voc_list(content: bytes, folder: Path) -> None:
    """The list of a split of VOC, for boxes and for masks."""
    (folder / "classes.txt").write_text("background\ndog\ncat\n")
    for kind, read in (("Main", open_voc), ("Segmentation", open_voc_masks)):
        (folder / "ImageSets" / kind / "train.txt").write_bytes(content)
        _refusing(read, folder)


def voc_classes(content: bytes, folder: Path) -> None:
    """The class list of a folder in the layout of VOC."""
    (folder / "classes.txt").write_bytes(content)
    for read in (open_voc, open_voc_masks):
        _refusing(read, folder)


def _refusing(read: Any, folder: Path) -> None:
    with suppress(TrickzooError):  # the other reader may accept it
        take(read(folder))


def prepare_lists(folder: Path) -> None:
    lists(folder, [0, 1])


def mask_list(content: bytes, folder: Path) -> None:
    """A list of images and masks."""
    (folder / "train.txt").write_bytes(content)
    take(open_lists(folder))


def mask_classes(content: bytes, folder: Path) -> None:
    """The class list of masks."""
    (folder / "classes.txt").write_bytes(content)
    take(open_lists(folder))


def mask_of_set(content: bytes, folder: Path) -> None:
    """A mask that belongs to an image."""
    (folder / "trainannot" / "0.png").write_bytes(content)
    take(open_lists(folder))


ADE20K = "Idx\tRatio\tTrain\tVal\tName\n" + "".join(f"{number}\t0.1\t10\t1\tclass {number}, word\n" for number in range(1, 151))


def prepare_ade20k(folder: Path) -> None:
    jpeg(folder / "images" / "training" / "a.jpg")
    mask(folder / "annotations" / "training" / "a.png", 1)


def ade20k_classes(content: bytes, folder: Path) -> None:
    """The class list of ADE20K."""
    (folder / "objectInfo150.txt").write_bytes(content)
    take(open_ade20k(folder))


XML_WORDS = (
    "<object>",
    "</object>",
    "<name>",
    "<bndbox>",
    '<?xml version="1.0" encoding="utf-16"?>',
    "<!ENTITY a 'b'>",
    "&#0;",
    "<![CDATA[",
    "nan",
)

MASK = picture("PNG", "1", (40, 30))
LIST = "train/0.jpg trainannot/0.png\ntrain/1.jpg trainannot/1.png\n"
MASK_CLASSES = ("0 sky\n1 road\n2 unlabelled\n", "sky\nroad\nvoid\n")

YAML = "path: ../d\ntrain: ../train/images\nval: [../valid/images, train.txt]\nnc: 2\nnames: ['cat', 'dog']\n"
NUMBERED = "train: train/images\nval: valid/images\nnames:\n  0: cat\n  1: dog\n"
DARKNET = "classes = 2\ntrain = data/train.txt\nvalid = data/valid.txt\nnames = data/obj.names\nbackup = backup/\n"
SIGNS = (
    "&a",
    "*a",
    "<<: *a",
    "!!python/object:os.system",
    "!!binary",
    "? a",
    "- - - -",
    "{{{{",
    "yes",
    "2026-01-01",
    "|",
    ">",
    "%TAG",
    "---",
)


def yolo_yaml(content: bytes, folder: Path) -> None:
    """The data.yaml of YOLO."""
    (folder / "data.yaml").write_bytes(content)
    take(exported(folder, "detection"))


def yolo_labels(content: bytes, folder: Path) -> None:
    """A text file of YOLO."""
    (folder / "train" / "labels" / "a.txt").write_bytes(content)
    take(exported(folder, "detection"))


def yolo_data(content: bytes, folder: Path) -> None:
    """The obj.data of YOLO."""
    (folder / "obj.data").write_bytes(content)
    take(exported(folder, "detection"))


def yolo_list(content: bytes, folder: Path) -> None:
    """A list of images of YOLO."""
    (folder / "train.txt").write_bytes(content)
    take(exported(folder, "detection"))


CAMVID = "0 0 0 background\n128 64 128 road\n70 130 180 sky\n"
CAMVID_LIST = "/Train/a.jpg /Trainannot/a.png\n/Train/b.jpg /Trainannot/b.png\n"
VALUES = "Pixel Value, Class\n0, background\n1, road\n2, sky\n"
COLOURED = "background 0 0 0\nroad,128,64,128\nsky #4682b4\n"


def label_map(content: bytes, folder: Path) -> None:
    """A list of classes with colours."""
    (folder / "labelmap.txt").write_bytes(content)
    take(exported(folder, "segmentation", "all"))


def label_colors(content: bytes, folder: Path) -> None:
    """The list of classes of CamVid."""
    (folder / "label_colors.txt").write_bytes(content)
    take(exported(folder, "segmentation"))


def camvid_list(content: bytes, folder: Path) -> None:
    """The list of images of CamVid."""
    (folder / "Train.txt").write_bytes(content)
    take(exported(folder, "segmentation"))


def values(content: bytes, folder: Path) -> None:
    """The list of values of Roboflow."""
    (folder / "train" / "_classes.csv").write_bytes(content)
    take(exported(folder, "segmentation"))


def coloured_mask(content: bytes, folder: Path) -> None:
    """A mask of colours."""
    (folder / "masks" / "a.png").write_bytes(content)
    take(exported(folder, "segmentation", "all"))


def _a_palette() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        palettes(Path(folder))
        return (Path(folder) / "masks" / "a.png").read_bytes()


OUTLINES = [
    [[1, 2, 20, 2, 20, 25]],
    [1.5, 2, 20, 2, 20, 25],
    {"size": [30, 40], "counts": [600, 600]},
    {"size": [30, 40], "counts": "a94j00Sj0"},
]


def _outlined() -> Any:
    content = _coco()
    for number, one in enumerate(content["annotations"]):
        one["segmentation"] = OUTLINES[number % len(OUTLINES)]
    return content


def coco_outlines(content: bytes, folder: Path) -> None:
    """The annotations of COCO, whose outlines are drawn."""
    (folder / "annotations" / "instances_train2017.json").write_bytes(content)
    draw_all(folder)


def draw_all(folder: Path) -> None:
    """Draw the outlines of a folder as `trickzoo masks` does."""
    for export in region_exports(folder):
        found = export.open(folder, next(iter(export.splits)))
        for index in range(len(found.images)):
            found.draw(index, regions.mask_classes(found.classes))


SHAPES = (
    ("polygon", [[1, 2], [20.5, 2], [3, 9]]),
    ("rectangle", [[1, 2], [3, 9]]),
    ("circle", [[9, 9], [9, 12]]),
    ("mask", [[1, 2], [3, 9]]),
)


def _labelme() -> Any:
    file = io.BytesIO()
    Image.new("1", (3, 8), 1).save(file, "PNG")
    pixels = base64.b64encode(file.getvalue()).decode()
    shapes = [{"label": "cat", "shape_type": kind, "points": points, "mask": pixels} for kind, points in SHAPES]
    return {"shapes": shapes, "imagePath": "a.jpg", "imageHeight": 30, "imageWidth": 40}


def labelme_json(content: bytes, folder: Path) -> None:
    """A file of Labelme, for boxes and for masks."""
    (folder / "a.json").write_bytes(content)
    with suppress(TrickzooError):
        take(exported(folder, "detection", "all"))
    draw_all(folder)


def prepare_via(folder: Path) -> None:
    """Write the images that the files of VIA name, and the files."""
    for part, write_form in (("json", via_json), ("csv", via_csv)):
        write_form(folder / part)


def via(content: bytes, folder: Path) -> None:
    """A JSON file of VIA."""
    (folder / "json" / "via_export_json.json").write_bytes(content)
    take(exported(folder / "json", "detection", "all"))


def via_table(content: bytes, folder: Path) -> None:
    """A CSV file of VIA."""
    (folder / "csv" / "via_export_csv.csv").write_bytes(content)
    take(exported(folder / "csv", "detection", "all"))


def _via_file(name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        prepare_via(Path(folder))
        return (Path(folder) / name).read_bytes()


_VIA_JSON, _VIA_CSV = "json/via_export_json.json", "csv/via_export_csv.csv"

TARGETS = (
    Target("via json", st.deferred(lambda: documents(json.loads(_via_file(_VIA_JSON)))), via, lambda: _via_file(_VIA_JSON), prepare_via),
    Target(
        "via csv",
        st.deferred(lambda: texts(_via_file(_VIA_CSV).decode(), words=WORDS)),
        via_table,
        lambda: _via_file(_VIA_CSV),
        prepare_via,
    ),
    Target("labelme json", documents(_labelme()), labelme_json, lambda: json.dumps(_labelme()).encode(), labelme),
    Target("coco outlines", documents(_outlined()), coco_outlines, lambda: json.dumps(_outlined()).encode(), coco),
    Target("label map", texts(LABEL_MAP, COLOURED, words=WORDS), label_map, LABEL_MAP.encode, palettes),
    Target("label colours", texts(CAMVID, COLOURED, words=WORDS), label_colors, CAMVID.encode, cvat_camvid),
    Target("camvid list", texts(CAMVID_LIST, words=WORDS), camvid_list, CAMVID_LIST.encode, cvat_camvid),
    Target("mask values", texts(VALUES, words=WORDS), values, VALUES.encode, roboflow_masks),
    Target("coloured mask", st.deferred(lambda: images([_a_palette(), picture("BMP")])), coloured_mask, _a_palette, palettes),
    Target("yolo yaml", texts(YAML, NUMBERED, words=(*WORDS, *SIGNS)), yolo_yaml, NUMBERED.encode, roboflow_yolo),
    Target("yolo labels", texts(yolo("a.jpg"), words=(*WORDS, *NUMBERS)), yolo_labels, yolo("a.jpg").encode, roboflow_yolo),
    Target("yolo obj.data", texts(DARKNET, words=WORDS), yolo_data, DARKNET.encode, cvat_yolo),
    Target("yolo list", texts("data/obj_train_data/a.jpg\n", words=WORDS), yolo_list, b"data/obj_train_data/a.jpg\n".strip, cvat_yolo),
    Target("coco json", documents(_coco()), coco_json, lambda: json.dumps(_coco()).encode(), coco),
    Target("voc xml", texts(xml(OBJECTS), xml(OBJECTS, None, EXTRA), words=XML_WORDS), voc_xml, xml(OBJECTS).encode, prepare_voc),
    Target("voc list", texts("a\nb\n", "a 1\nb -1\n"), voc_list, lambda: b"a\nb\n", prepare_voc),
    Target("voc classes", texts("dog\ncat\n", "0 background\n1 dog\n2 cat\n"), voc_classes, lambda: b"background\ndog\ncat\n", prepare_voc),
    Target("mask list", texts(LIST, words=WORDS), mask_list, LIST.encode, prepare_lists),
    Target("mask classes", texts(*MASK_CLASSES, words=(*WORDS, *NUMBERS)), mask_classes, MASK_CLASSES[0].encode, prepare_lists),
    Target("mask of a set", images([MASK, picture("PNG", "P", (40, 30))]), mask_of_set, lambda: MASK, prepare_lists),
    Target("ade20k classes", texts(ADE20K), ade20k_classes, ADE20K.encode, prepare_ade20k),
)
