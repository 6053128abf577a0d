"""Writers of small sets of boxes in the exact form of the exports of annotation tools.

Each writes the same images of 40 × 30 pixels with the same boxes, `TRUTH`, into a folder.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.images import jpeg

Boxes = Sequence[tuple[str, tuple[float, float, float, float]]]

TRUTH: Mapping[str, Boxes] = {
    "a.jpg": [("cat", (2, 3, 12, 15)), ("dog", (20, 6, 36, 24))],
    "b.jpg": [("dog", (0, 0, 40, 30))],
    "c.jpg": [],
    "d.jpg": [("cat", (8, 9, 16, 18))],
    "e.jpg": [("cat", (4, 6, 24, 21)), ("cat", (28, 3, 36, 9))],
    "f.jpg": [("dog", (12, 12, 20, 27))],
}
"""The objects of each image: class, and x0, y0, x1, y1 in pixels from 0."""
CLASSES = ("cat", "dog")
PARTS = {"train": ("a.jpg", "b.jpg", "c.jpg"), "val": ("d.jpg", "e.jpg"), "test": ("f.jpg",)}


@dataclass(frozen=True)
class Form:
    """The export of a tool.

    Attributes:
        write: writes it into a folder.
        said: what the reader says of it.
        layout: the layout that reads it.
        parts: the images of each split; None if it has no splits.
        objects: whether the form has images without objects.
    """

    write: Callable[[Path], Any]
    said: str
    layout: str
    parts: Mapping[str, Sequence[str]] | None = None
    without_objects: bool = True


def photograph(folder: Path, name: str) -> Path:
    """Write an image of the set."""
    return jpeg(folder / name, ord(name[0]))


def write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def coco(names: Sequence[str], *, first: int = 1, prefix: str = "", roboflow: bool = False, via: bool = False) -> str:
    """A file in COCO's format with these images. Ids begin at `first`."""
    shift = 1 if roboflow else 0
    categories = [{"id": first + shift + i, "name": name, "supercategory": "pets" if roboflow else ""} for i, name in enumerate(CLASSES)]
    if roboflow:
        categories.insert(0, {"id": 0, "name": "pets", "supercategory": "none"})
    images, annotations = [], []
    for number, name in enumerate(names, first):
        images.append({"id": number, "license": 1, "file_name": prefix + name, "height": 30, "width": 40, "date_captured": ""})
        for label, (x0, y0, x1, y1) in TRUTH[name]:
            sides = [x1 - x0, y1 - y0]
            annotations.append(
                {
                    "id": len(annotations) + first,
                    "image_id": str(number) if via else number,
                    "category_id": first + shift + CLASSES.index(label),
                    "segmentation": [],
                    "area": sides[0] * sides[1],
                    "bbox": [x0, y0, *sides],
                    "iscrowd": 0,
                }
            )
    return json.dumps({"info": {}, "licenses": [], "categories": categories, "images": images, "annotations": annotations})


def cvat_coco(folder: Path) -> None:
    """CVAT's "COCO 1.0" of a task."""
    for name in TRUTH:
        photograph(folder / "images" / "default", name)
    write(folder / "annotations" / "instances_default.json", coco(list(TRUTH)))


def cvat_coco_project(folder: Path) -> None:
    """CVAT's "COCO 1.0" of a project with subsets."""
    for subset, part in (("Train", "train"), ("Validation", "val"), ("Test", "test")):
        for name in PARTS[part]:
            photograph(folder / "images" / subset, name)
        write(folder / "annotations" / f"instances_{subset}.json", coco(PARTS[part]))


def roboflow_coco(folder: Path) -> None:
    """Roboflow's "COCO"."""
    for place, part in (("train", "train"), ("valid", "val"), ("test", "test")):
        for name in PARTS[part]:
            photograph(folder / place, name)
        write(folder / place / "_annotations.coco.json", coco(PARTS[part], first=0, roboflow=True))
    write(folder / "README.roboflow.txt", "pets\n")


def label_studio_coco(folder: Path) -> None:
    """Label Studio's "COCO"."""
    for name in TRUTH:
        photograph(folder / "images", name)
    write(folder / "result.json", coco(list(TRUTH), first=0, prefix="images\\/".replace("\\/", "\\")))


def via_coco(folder: Path) -> None:
    """VIA's "Export annotations (COCO format)", saved beside the images."""
    for name in TRUTH:
        photograph(folder, name)
    write(folder / "via_project_coco.json", coco(list(TRUTH), via=True))


def _via_regions(name: str) -> list[dict[str, Any]]:
    return [
        {
            "shape_attributes": {"name": "rect", "x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0},
            "region_attributes": {"animal": label},
        }
        for label, (x0, y0, x1, y1) in TRUTH[name]
    ]


def labelme(folder: Path) -> None:
    """Files of Labelme beside the images."""
    for name, boxes in TRUTH.items():
        photograph(folder, name)
        shapes = [{"label": label, "shape_type": "rectangle", "points": [box[:2], box[2:]], "group_id": None} for label, box in boxes]
        sides = {"imageHeight": 30, "imageWidth": 40}
        content = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": name, "imageData": None, **sides}
        write(folder / f"{Path(name).stem}.json", json.dumps(content))


def via_json(folder: Path) -> None:
    """VIA's "Export annotations (as JSON)", saved beside the images."""
    content = {}
    for name in TRUTH:
        size = photograph(folder, name).stat().st_size
        content[f"{name}{size}"] = {"filename": name, "size": size, "regions": _via_regions(name), "file_attributes": {}}
    write(folder / "via_export_json.json", json.dumps(content))


def via_csv(folder: Path) -> None:
    """VIA's "Export annotations (as CSV)", saved above the images."""
    text = io.StringIO()
    rows = csv.writer(text)
    columns = ("file_size", "file_attributes", "region_count", "region_id", "region_shape_attributes", "region_attributes")
    rows.writerow(("filename", *columns))
    for name in TRUTH:
        size = photograph(folder / "images", name).stat().st_size
        regions = _via_regions(name) or [{"shape_attributes": {}, "region_attributes": {}}]
        for number, region in enumerate(regions):
            parts = (json.dumps(region[key]) for key in ("shape_attributes", "region_attributes"))
            rows.writerow((name, size, "{}", len(TRUTH[name]), number, *parts))
    write(folder / "via_export_csv.csv", text.getvalue())


def xml(name: str, *, first: int = 1, tool: str = "LabelImg") -> str:
    """An annotation in VOC's XML as these tools write it."""
    rows = []
    for label, (x0, y0, x1, y1) in TRUTH[name]:
        corners = {"xmin": x0 + first, "ymin": y0 + first, "xmax": x1, "ymax": y1}
        bounds = "".join(f"<{key}>{value}</{key}>" for key, value in corners.items())
        rows.append(f"<object><name>{label}</name><pose>Unspecified</pose><difficult>0</difficult><bndbox>{bounds}</bndbox></object>")
    head = f"<folder></folder><filename>{name}</filename><path>{name}</path><source><database>{tool}</database></source>"
    size = "<size><width>40</width><height>30</height><depth>3</depth></size><segmented>0</segmented>"
    return f"<annotation>{head}{size}{''.join(rows)}</annotation>"


def labelimg_voc(folder: Path) -> None:
    """LabelImg's "PascalVOC", saved beside the images."""
    for name in TRUTH:
        photograph(folder, name)
        write((folder / name).with_suffix(".xml"), xml(name))


def two_folders_voc(folder: Path) -> None:
    """The same, saved in another folder."""
    for name in TRUTH:
        photograph(folder / "images", name)
        write((folder / "annotations" / name).with_suffix(".xml"), xml(name))


def roboflow_voc(folder: Path) -> None:
    """Roboflow's "Pascal VOC"."""
    for place, part in (("train", "train"), ("valid", "val"), ("test", "test")):
        for name in PARTS[part]:
            photograph(folder / place, name)
            write((folder / place / name).with_suffix(".xml"), xml(name, tool="roboflow.com"))


def cvat_voc(folder: Path) -> None:
    """CVAT's "PASCAL VOC 1.1" of a task."""
    for name in TRUTH:
        photograph(folder / "JPEGImages", name)
        write((folder / "Annotations" / name).with_suffix(".xml"), xml(name, tool="Unknown"))
    write(folder / "ImageSets" / "Main" / "default.txt", "".join(f"{Path(name).stem}\n" for name in TRUTH))
    write(folder / "labelmap.txt", "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:128,0,0::\ndog:0,128,0::\n")


def plain_voc(folder: Path) -> None:
    """`Annotations/` and `JPEGImages/` without lists."""
    for name in TRUTH:
        photograph(folder / "JPEGImages", name)
        write((folder / "Annotations" / name).with_suffix(".xml"), xml(name))


def yolo(name: str) -> str:
    """A text file of YOLO."""
    rows = []
    for label, (x0, y0, x1, y1) in TRUTH[name]:
        fractions = ((x0 + x1) / 80, (y0 + y1) / 60, (x1 - x0) / 40, (y1 - y0) / 30)
        rows.append(f"{CLASSES.index(label)} {' '.join(f'{value:.6f}' for value in fractions)}\n")
    return "".join(rows)


def ultralytics_yolo(folder: Path) -> None:
    """A set for Ultralytics: `images/SPLIT`, `labels/SPLIT`, and no text file for an image without objects."""
    for part in ("train", "val"):
        for name in PARTS[part]:
            photograph(folder / "images" / part, name)
            if TRUTH[name]:
                write((folder / "labels" / part / name).with_suffix(".txt"), yolo(name))
    write(
        folder / "data.yaml",
        "path: ../datasets/pets # dataset root dir\ntrain: images/train\nval: images/val\n\nnames:\n  0: cat\n  1: dog\n",
    )


def roboflow_yolo(folder: Path) -> None:
    """Roboflow's "YOLOv8"."""
    for place, part in (("train", "train"), ("valid", "val"), ("test", "test")):
        for name in PARTS[part]:
            photograph(folder / place / "images", name)
            write((folder / place / "labels" / name).with_suffix(".txt"), yolo(name))
    splits = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n"
    write(folder / "data.yaml", f"{splits}\nnc: 2\nnames: ['cat', 'dog']\n\nroboflow:\n  workspace: w\n  version: 1\n")


def cvat_yolo(folder: Path) -> None:
    """CVAT's "YOLO 1.1" of a project with two subsets."""
    for place, part in (("train", "train"), ("valid", "val")):
        for name in PARTS[part]:
            photograph(folder / f"obj_{place}_data", name)
            write((folder / f"obj_{place}_data" / name).with_suffix(".txt"), yolo(name))
        write(folder / f"{place}.txt", "".join(f"data/obj_{place}_data/{name}\n" for name in PARTS[part]))
    write(folder / "obj.names", "cat\ndog\n")
    write(folder / "obj.data", "classes = 2\ntrain = data/train.txt\nvalid = data/valid.txt\nnames = data/obj.names\nbackup = backup/\n")


def cvat_ultralytics_yolo(folder: Path) -> None:
    """CVAT's "Ultralytics YOLO Detection 1.0"."""
    for place, part in (("train", "train"), ("val", "val")):
        for name in PARTS[part]:
            photograph(folder / "images" / place, name)
            write((folder / "labels" / place / name).with_suffix(".txt"), yolo(name))
        write(folder / f"{place}.txt", "".join(f"data/images/{place}/{name}\n" for name in PARTS[part]))
    write(folder / "data.yaml", "names:\n  0: cat\n  1: dog\npath: .\ntrain: train.txt\nval: val.txt\n")


def label_studio_yolo(folder: Path) -> None:
    """Label Studio's "YOLO"."""
    for name in TRUTH:
        photograph(folder / "images", name)
        write((folder / "labels" / name).with_suffix(".txt"), yolo(name))
    write(folder / "classes.txt", "cat\ndog\n")
    write(folder / "notes.json", '{"categories": [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}], "info": {"year": 2026}}')


def labelimg_yolo(folder: Path) -> None:
    """LabelImg's "YOLO", saved beside the images."""
    for name in TRUTH:
        photograph(folder, name)
        if TRUTH[name]:
            write((folder / name).with_suffix(".txt"), yolo(name))
    write(folder / "classes.txt", "cat\ndog\n")


TWO = {part: PARTS[part] for part in ("train", "val")}
BOXES = {
    "CVAT COCO": Form(cvat_coco, "CVAT COCO export, no splits", "coco"),
    "CVAT COCO, project": Form(cvat_coco_project, "CVAT COCO export, 3 splits", "coco", PARTS),
    "Roboflow COCO": Form(roboflow_coco, "Roboflow COCO export, 3 splits", "coco", PARTS),
    "Label Studio COCO": Form(label_studio_coco, "Label Studio COCO export, no splits", "coco"),
    "VIA COCO": Form(via_coco, "COCO export, no splits", "coco"),
    "Labelme": Form(labelme, "Labelme export, no splits", "labelme"),
    "VIA JSON": Form(via_json, "VIA export, no splits", "via"),
    "VIA CSV": Form(via_csv, "VIA export, no splits", "via"),
    "LabelImg VOC": Form(labelimg_voc, "VOC XML export, no splits", "voc"),
    "VOC in two folders": Form(two_folders_voc, "VOC XML export, no splits", "voc"),
    "Roboflow VOC": Form(roboflow_voc, "VOC XML export, 3 splits", "voc", PARTS),
    "CVAT VOC": Form(cvat_voc, "CVAT VOC export, no splits", "voc"),
    "VOC without lists": Form(plain_voc, "Pascal VOC export, no splits", "voc"),
    "Ultralytics YOLO": Form(ultralytics_yolo, "Ultralytics YOLO export, 2 splits", "yolo", TWO),
    "Roboflow YOLO": Form(roboflow_yolo, "Roboflow YOLO export, 3 splits", "yolo", PARTS),
    "CVAT YOLO 1.1": Form(cvat_yolo, "CVAT YOLO 1.1 export, 2 splits", "yolo", TWO),
    "CVAT Ultralytics YOLO": Form(cvat_ultralytics_yolo, "Ultralytics YOLO export, 2 splits", "yolo", TWO),
    "Label Studio YOLO": Form(label_studio_yolo, "Label Studio YOLO export, no splits", "yolo"),
    "LabelImg YOLO": Form(labelimg_yolo, "LabelImg YOLO export, no splits", "yolo"),
}
"""The exports with boxes, by tool and format."""
