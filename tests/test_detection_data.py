"""Readers of boxes: what they take, what they drop and count, and what they refuse in one line."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.annotated import coco, voc, xml
from tests.images import jpeg
from trickzoo.data.boxes import detection_shapes
from trickzoo.data.readers.coco import open_coco, read_coco
from trickzoo.data.readers.voc import CLASSES as VOC_CLASSES
from trickzoo.data.readers.voc import open_voc, parse
from trickzoo.data.shapes import CLASSES, Shapes
from trickzoo.errors import BadData, BadOption, TrickzooError

CAT = ("cat", (11, 6, 20, 25))


def refused(call: Callable[[], Any], message: str, error: type[TrickzooError] = BadData) -> str:
    with pytest.raises(error, match=message) as caught:
        call()
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


# ---------------------------------------------------------------------------------------------------------------------
# VOC


def test_voc_corners_become_zero_based_and_half_open(tmp_path):
    data = open_voc(voc(tmp_path / "VOC2012", {"a": xml([CAT, ("dog", (1, 1, 40, 30))]), "b": xml()}))
    assert data.objects_of(0).boxes.tolist() == [[10, 5, 20, 25], [0, 0, 40, 30]]
    assert data.objects_of(0).areas.tolist() == [200, 1200]
    assert data.objects_of(0).labels.tolist() == [VOC_CLASSES.index("cat") + 1, VOC_CLASSES.index("dog") + 1]
    assert data.faults.notes == ()


def test_images_without_objects_stay(tmp_path):
    data = open_voc(voc(tmp_path / "VOC2012", {"a": xml(), "b": xml([CAT]), "c": xml()}))
    assert [len(data.objects_of(i)) for i in range(3)] == [0, 1, 0]
    assert data.objects_of(0).boxes.shape == (0, 4)
    assert data.read(2).size == (40, 30)


def test_difficult_objects_are_kept_and_marked(tmp_path):
    content = {
        "a": xml([CAT], extra="<difficult>1</difficult>"),
        "b": xml([CAT], extra="<difficult>0</difficult><part><name>head</name><bndbox><xmin>0</xmin></bndbox></part>"),
        "c": xml([CAT]),
    }
    data = open_voc(voc(tmp_path / "VOC2012", content))
    assert data.objects.difficult.tolist() == [True, False, False]
    assert data.objects.plain.tolist() == [False, True, True]


def test_boxes_that_cannot_be_are_dropped_and_counted(tmp_path):
    boxes = [(5, 5, 5, 9), (5, 9, 8, 9), (9, 9, 3, 12), (41, 3, 50, 9), (-9, 3, 0, 9), (30, 20, 45, 30), (0, 0, 10, 10), (2, 2, 4, 4)]
    data = open_voc(voc(tmp_path / "VOC2012", {"a": xml(), "b": xml([("cat", box) for box in boxes])}))
    assert data.objects.boxes.tolist() == [[29, 19, 45, 30], [-1, -1, 10, 10], [1, 1, 4, 4]]
    assert data.objects.ids.tolist() == [5, 6, 7]
    assert data.faults.notes == (
        "3 boxes without area dropped (the first in JPEGImages/b.jpg)",
        "2 boxes outside the image dropped (the first in JPEGImages/b.jpg)",
        "2 boxes over the image's edge, clipped in training (the first in JPEGImages/b.jpg)",
    )


def test_years_alone_and_together(tmp_path):
    devkit = tmp_path / "VOCdevkit"
    voc(devkit / "VOC2007", {"000001": xml([CAT])}, {"trainval": ["000001"], "test": ["000001"]})
    voc(devkit / "VOC2012", {"2008_1": xml(), "2008_2": xml([CAT])}, {"trainval": ["2008_2", "2008_1"]})
    both = open_voc(tmp_path, "trainval", year="07+12")
    assert [image.name for image in both.images] == [
        f"VOC20{name}.jpg" for name in ("07/JPEGImages/000001", "12/JPEGImages/2008_2", "12/JPEGImages/2008_1")
    ]
    assert both.read(1).size == (40, 30)
    assert both.layout == "VOC2007 trainval + VOC2012 trainval"
    for root in (tmp_path, devkit, devkit / "VOC2007"):
        assert [image.id for image in open_voc(root, "test", year="2007").images] == ["000001"]
    assert len(open_voc(devkit / "VOC2012", "trainval")) == 2
    refused(lambda: open_voc(tmp_path, "trainval"), "has VOC2007, VOC2012; name the year: 2007, or 07.12 for both")
    refused(lambda: open_voc(tmp_path, "trainval", year="2010"), "has no VOC2010, only VOC2007, VOC2012; name the year 2007")
    refused(lambda: open_voc(devkit / "VOC2007", "trainval", year="2012"), "VOC2007 is not VOC2012; leave the year out")
    refused(lambda: open_voc(tmp_path, year="twelve"), 'no year "twelve" of VOC', BadOption)
    refused(lambda: open_voc(tmp_path, "test", year="07+12"), 'has no split "test"; there are trainval')


def test_a_folder_of_its_own_brings_its_classes(tmp_path):
    cell = ("RBC", (1, 1, 9, 9))
    folder = voc(tmp_path / "cells", {"a": xml([cell]), "b": xml([("WBC", (2, 2, 9, 9))]), "c": xml()}, {"train": ["a", "c"]})
    data = open_voc(folder)
    assert data.classes == ("RBC", "WBC")  # all annotations', so that splits agree
    assert [image.id for image in data.images] == ["a", "c"]
    assert [image.id for image in open_voc(folder, "all").images] == ["a", "b", "c"]
    assert open_voc(folder, classes=("Platelets", "RBC")).objects.labels.tolist() == [2]
    (folder / "classes.txt").write_text("WBC\nRBC\n")
    assert open_voc(folder).objects.labels.tolist() == [2]
    (folder / "classes.txt").write_text("background\nWBC\nRBC\n")  # as masks want it; boxes have no background
    assert (open_voc(folder).classes, open_voc(folder).objects.labels.tolist()) == (("WBC", "RBC"), [2])
    (folder / "classes.txt").unlink()
    shutil.rmtree(folder / "ImageSets")
    assert len(open_voc(folder, "all")) == 3
    refused(lambda: open_voc(folder), 'Main is not there; write train.txt into it, one name a line, or ask for the split "all"')


def test_own_classes_in_a_folder_called_as_a_year(tmp_path):
    devkit = tmp_path / "VOCdevkit"
    helmet = xml([("helmet", (1, 1, 9, 9)), ("vest", (2, 2, 9, 9))])
    folder = voc(devkit / "VOC2007", {"a": helmet})
    (folder / "classes.txt").write_text("\ufeff# what is worn\r\nvest\r\nhelmet\r\n")
    assert (open_voc(tmp_path).classes, open_voc(tmp_path).objects.labels.tolist()) == (("vest", "helmet"), [2, 1])
    voc(devkit / "VOC2012", {"b": xml([CAT])})
    refused(lambda: open_voc(tmp_path, year="07+12"), "VOC2007 and .*VOC2012 have other classes; give both the same classes.txt")
    assert open_voc(tmp_path, year="2012").classes == VOC_CLASSES


def test_names_and_corners_as_tools_write_them(tmp_path):
    stems = ["WhatsApp Image 0", "WhatsApp Image 1", "1", "b -1"]
    content = {stem: xml([(" cat\n", ("12.5", " 6 ", 20, "25.0"))], size=("40.0", 30)) for stem in stems}
    folder = voc(tmp_path / "VOC2012", content, {"train": stems})
    (folder / "Annotations" / "1.xml").rename(folder / "Annotations" / "1.XML")
    data = open_voc(folder)
    assert [image.id for image in data.images] == stems
    assert data.objects_of(3).boxes.tolist() == [[11.5, 5, 20, 25]]
    list_of_a_class = "".join(f"{stem}  {flag}\n" for stem, flag in zip(stems, (1, -1, 0, 1), strict=True))
    (folder / "ImageSets" / "Main" / "cat_train.txt").write_text(list_of_a_class)
    refused(lambda: open_voc(folder, "cat_train"), "cat_train.txt does not have one name a line: a list of one class")
    lines = "\ufeff# the first two\r\nWhatsApp Image 0\r\nWhatsApp Image 1  \r\n\r\n"
    (folder / "ImageSets" / "Main" / "two.txt").write_text(lines)
    assert [image.id for image in open_voc(folder, "two").images] == stems[:2]
    jpeg(folder / "JPEGImages" / "1.png.jpeg").rename(folder / "JPEGImages" / "1.png")
    refused(lambda: open_voc(folder), "JPEGImages has 1.jpg and 1.png; lists name files without their suffix, so remove or rename one")


def test_a_size_that_is_left_out_is_read_from_the_image(tmp_path):
    data = open_voc(voc(tmp_path / "VOC2012", {"a": xml([CAT], size=None), "b": xml([CAT], size=(0, 0)), "c": xml([CAT], size=(-1, 30))}))
    assert [(image.width, image.height) for image in data.images] == [(40, 30)] * 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (xml([("", (1, 1, 2, 2))]), "a.xml: object 1 has no name"),
        (xml([CAT, ("cta", (1, 1, 2, 2))]), 'object 2 is a "cta", which is none of the 20 classes.*; did you mean cat'),
        ("<annotation><object><name>cat</name></object></annotation>", "object 1 has no bndbox"),
        ("<annotation><object><name>cat</name><bndbox><xmin>1</xmin></bndbox></object></annotation>", "object 1 has no ymin"),
        (xml([("cat", (1, "?", 2, 2))]), 'a.xml: ymin of object 1 is "."'),
        (xml([("cat", (1, 1, "nan", 2))]), 'xmax of object 1 is "nan", not a number'),
        (xml([("cat", (1, 1, "1e999", 2))]), 'xmax of object 1 is "1e999", not a number'),
        (xml([CAT], extra="<difficult>maybe</difficult>"), 'difficult of object 1 is "maybe"'),
        (xml([("cat", (1, 1, "1e300", 2))]), "object 1 has a box that reaches 1e.300; coordinates are finite numbers up to 1e.09"),
        (xml([("cat", (1, 1, "9" * 5000, 2))]), 'xmax of object 1 is "9{40}", not a number'),
        (xml([CAT], size=("9" * 300, 3)), "size has a side of 1e.300 pixels; sides are whole numbers of pixels up to 1e.09"),
        (xml([CAT], size=(40.5, 30)), "size has a side of 40.5 pixels"),
        (xml([("CAT", (1, 1, 2, 2))]), 'object 1 is a "CAT", which is none of the 20 classes.*; did you mean cat'),
        (xml([("helmet", (1, 1, 2, 2))]), "none of the 20 classes, and there is no .*VOC2012/classes.txt with others"),
        (xml([CAT], size=("x", 3)), 'width of size is "x"'),
        ("<annotation><object>", "a.xml is not well-formed XML"),
        ("", "a.xml is not well-formed XML"),
        ("\x00\xff", "a.xml is not well-formed XML"),
        ('<?xml version="1.0" encoding="martian"?><annotation/>', "a.xml is not well-formed XML"),
        ("<html/>", "a.xml is a <html>, not an <annotation>"),
    ],
)
def test_malformed_annotations(content, message, tmp_path):
    folder = voc(tmp_path / "VOC2012", {"a": content})
    refused(lambda: open_voc(folder), message)


LAUGHS = "".join(f'<!ENTITY l{i} "{("&l" + str(i - 1) + ";") * 10}">' for i in range(1, 10))


@pytest.mark.parametrize(
    "head",
    [
        f'<!DOCTYPE a [<!ENTITY l0 "ha">{LAUGHS}]>',
        f'<!DOCTYPE a [<!ENTITY l9 "{"ha" * 50_000}">]>',
        '<!DOCTYPE a [<!ENTITY l9 SYSTEM "file://SECRET">]>',
        '<!DOCTYPE a [<!ENTITY % l9 SYSTEM "http://127.0.0.1:9/x.dtd"> %l9;]>',
        '<!DOCTYPE a SYSTEM "http://127.0.0.1:9/x.dtd">',
    ],
    ids=["billion laughs", "quadratic", "local file", "parameter entity", "external type"],
)
def test_bombs_and_entities_are_not_expanded(head, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    body = "&l9;" if "l9" in head and "%" not in head else "cat"
    content = '<?xml version="1.0"?>' + head.replace("SECRET", str(secret)) + xml([(body, (1, 1, 9, 9))])
    folder = voc(tmp_path / "VOC2012", {"a": content})
    error = refused(lambda: open_voc(folder), "a.xml declares a document type or entities .*; no annotation needs them, remove it")
    assert "hunter2" not in error


def test_bombs_in_utf_16_too(tmp_path):
    folder = voc(tmp_path / "VOC2012", {"a": xml()})
    content = '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a [<!ENTITY b "c">]>' + xml([CAT])
    (folder / "Annotations" / "a.xml").write_bytes(content.encode("utf-16"))
    refused(lambda: open_voc(folder), "declares a document type or entities")


def test_long_and_deep_annotations(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text("<annotation>" + " " * 17 * 2**20 + "</annotation>")
    refused(lambda: parse(path), "has more than 16,777,216 bytes; no annotation is that long")
    path.write_text("<annotation>" + "<a>" * 50_000 + "</a>" * 50_000 + "</annotation>")
    assert parse(path).findall("object") == []


def test_files_that_are_missing(tmp_path):
    folder = voc(tmp_path / "VOC2012", {"a": xml([CAT]), "b": xml()}, {"train": ["a"], "val": [], "two": ["a", "a"], "cat_train": ["a  1"]})
    refused(lambda: open_voc(folder, "val"), "val.txt is empty")
    refused(lambda: open_voc(folder, "trian"), 'has no split "trian"; did you mean train')
    refused(lambda: open_voc(folder, "two"), "two.txt has a twice")
    refused(lambda: open_voc(folder, "cat_train"), "cat_train.txt does not have one name a line")
    (folder / "Annotations" / "a.xml").unlink()
    refused(lambda: open_voc(folder), "a.xml cannot be read .No such file")
    (folder / "JPEGImages" / "a.jpg").unlink()
    refused(lambda: open_voc(folder), "JPEGImages has no image a, and the split train has it")
    (folder / "ImageSets" / "Main" / "train.txt").write_text("../../secret\n")
    refused(lambda: open_voc(folder), r"JPEGImages has no image \.\./\.\./secret")
    shutil.rmtree(folder / "Annotations")
    refused(lambda: open_voc(folder), "has no Annotations/")
    refused(lambda: open_voc(tmp_path / "nowhere"), "nowhere is not a folder")
    refused(lambda: open_voc(folder / "ImageSets"), "holds neither VOCdevkit/VOC2012 or its like, nor Annotations/ and JPEGImages/")
    empty = voc(tmp_path / "empty", {"a": xml()})
    refused(lambda: open_voc(empty), "names no object; list the classes in")
    (empty / "Annotations" / "a.xml").unlink()
    refused(lambda: open_voc(empty, "all", classes=("cat",)), "empty all has no image")


def test_an_image_of_another_size_than_its_annotation(tmp_path):
    folder = voc(tmp_path / "VOC2012", {"a": xml([CAT], size=(400, 300))})
    refused(lambda: open_voc(folder).read(0), "a.jpg is 40 × 30 pixels and its annotation is for 400 × 300")


# ---------------------------------------------------------------------------------------------------------------------
# COCO


def test_coco_ids_map_to_contiguous_labels_and_back(tmp_path):
    data = open_coco(coco(tmp_path))
    assert [image.id for image in data.images] == [3, 7, 12]
    assert data.classes == ("motorcycle", "toothbrush") and data.class_ids == (4, 90)
    assert [data.objects_of(i).labels.tolist() for i in range(3)] == [[1, 2], [2, 1, 2], []]
    assert data.objects_of(1).boxes.tolist() == [[2, 3, 12, 15], [20.5, 10.25, 28.5, 19.25], [0, 20, 40, 30]]
    assert data.objects_of(1).ids.tolist() == [1, 2, 11]
    assert data.objects_of(1).areas.tolist() == [60, 36, 400]
    assert data.objects_of(1).crowd.tolist() == [False, False, True]
    assert data.objects.plain.tolist() == [True, True, True, True, False]


def test_coco_in_other_folders(tmp_path):
    coco(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "train2017").rename(tmp_path / "images" / "train2017")
    assert open_coco(tmp_path).read(0).size == (40, 30)
    assert len(read_coco(tmp_path / "annotations" / "instances_train2017.json", tmp_path / "images" / "train2017")) == 3
    refused(lambda: open_coco(tmp_path, "val"), "instances_val2017.json is not there; there are instances_train2017.json")
    refused(lambda: open_coco(tmp_path, year="2014"), "instances_train2014.json is not there")
    refused(lambda: open_coco(tmp_path, year="last"), 'no year "last" of COCO', BadOption)
    refused(lambda: open_coco(tmp_path / "images"), "pass the folder that has annotations/")


def annotation(**change: Any) -> dict[str, Any]:
    row = {"id": 1, "image_id": 7, "category_id": 4, "bbox": [1, 2, 3, 4], "area": 5, "iscrowd": 0} | change
    return {"annotations": [{key: value for key, value in row.items() if value is not None}]}


def test_coco_boxes_that_cannot_be_are_dropped_and_counted(tmp_path):
    boxes = [[1, 2, 0, 4], [1, 2, 3, -1], [40, 2, 3, 4], [38, 2, 4, 4], [1, 2, 3, 4]]
    rows = [annotation(id=i, bbox=box)["annotations"][0] for i, box in enumerate(boxes)]
    data = open_coco(coco(tmp_path, {"annotations": rows}))
    assert data.objects.ids.tolist() == [3, 4]
    assert [len(names) for names in (data.faults.degenerate, data.faults.outside, data.faults.overhanging)] == [2, 1, 1]
    assert data.faults.degenerate[0] == "000000000007.jpg"


def test_an_area_that_is_left_out_is_the_boxs(tmp_path):
    assert open_coco(coco(tmp_path, annotation(area=None))).objects.areas.tolist() == [12]


@pytest.mark.parametrize(
    ("change", "ids", "labels"),
    [
        ({"width": 40.0, "height": 30.0}, [3, 7, 12], [1, 2]),
        ({"width": "40", "height": "30"}, [3, 7, 12], [1, 2]),
        ({"width": -1, "height": -1}, [3, 7, 12], [1, 2]),
        ({"width": 0}, [3, 7, 12], [1, 2]),
        ({"width": None, "height": None}, [3, 7, 12], [1, 2]),
    ],
)
def test_coco_sizes_as_tools_write_them(change, ids, labels, tmp_path):
    rows = [{"id": n, "file_name": f"{n:012}.jpg", "width": 40, "height": 30} | change for n in (7, 3, 12)]
    data = open_coco(coco(tmp_path, {"images": [{key: value for key, value in row.items() if value is not None} for row in rows]}))
    assert [(image.id, image.width, image.height) for image in data.images] == [(n, 40, 30) for n in ids]
    assert data.objects_of(0).labels.tolist() == labels


def test_coco_flags_as_tools_write_them(tmp_path):
    flags = [{"iscrowd": False}, {"iscrowd": None}, {"iscrowd": True}, {"iscrowd": 1.0}, {"ignore": 1}, {"ignore": 0, "iscrowd": 0}, {}]
    rows = [{"id": i, "image_id": 7, "category_id": 4, "bbox": [1, 2, 3, 4], **flag} for i, flag in enumerate(flags)]
    objects = open_coco(coco(tmp_path, {"annotations": rows})).objects
    assert objects.crowd.tolist() == [False, False, True, True, False, False, False]
    assert objects.difficult.tolist() == [False, False, False, False, True, False, False]
    assert objects.plain.tolist() == [True, True, False, False, False, True, True]  # as mmdetection leaves out what is to be ignored


@pytest.mark.parametrize(
    ("change", "ids"),
    [
        ({"id": 2**63}, [0, 1]),
        ({"id": 10**100}, [0, 1]),
        ({"id": -(2**63)}, [-(2**63), 9]),
        ({"id": "3b241101-e2bb-4255-8caf-4136c566a962"}, [0, 1]),
        ({"id": None}, [0, 1]),
        ({"id": 5.0}, [5, 9]),
    ],
)
def test_coco_ids_of_annotations_may_be_anything(change, ids, tmp_path):
    rows = [{"id": 1, "image_id": 7, "category_id": 4, "bbox": [1, 2, 3, 4]} | change]
    rows.append({"id": 9, "image_id": 7, "category_id": 90, "bbox": [1, 2, 3, 4]})
    assert open_coco(coco(tmp_path, {"annotations": rows})).objects.ids.tolist() == ids


def test_coco_ids_of_categories_and_images_may_be_anything(tmp_path):
    names = {-7: "minus", 0: "none", 3.0: "three", "12": "twelve", "cat": "cat", 2**70: "much"}
    content = {
        "images": [{"id": each, "file_name": f"{n:012}.jpg"} for n, each in ((7, "seven"), (3, -3), (12, "12"))],
        "categories": [{"id": number, "name": name} for number, name in names.items()],
        "annotations": [
            {"image_id": image, "category_id": number, "bbox": [1, 2, 3, 4], "segmentation": {"counts": "xyz", "size": [30, 40]}}
            for image, number in (("seven", -7), ("seven", "0"), (-3.0, 3), (12, 12), (12, "cat"), (12, 2**70))
        ],
    }
    data = open_coco(coco(tmp_path, content))
    assert data.class_ids == (-7, 0, 3, 12, 2**70, "cat")
    assert data.classes == ("minus", "none", "three", "twelve", "much", "cat")
    assert [image.id for image in data.images] == [-3, 12, "seven"]
    assert [data.objects_of(i).labels.tolist() for i in range(3)] == [[3], [4, 6, 5], [1, 2]]


def test_the_memory_of_a_coco_file_is_bounded_by_its_length(tmp_path):
    """What is not needed of it, such as polygons, costs nothing beyond the bytes themselves."""
    import tracemalloc

    rows = [{"image_id": 7, "category_id": 4, "bbox": [1, 2, 3, 4], "segmentation": [[0] * 20]} for _ in range(2000)]
    rows[0]["segmentation"] = [[[0]] * 50_000]
    path = coco(tmp_path, {"annotations": rows}) / "annotations" / "instances_train2017.json"
    open_coco(tmp_path)
    tracemalloc.start()
    try:
        open_coco(tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10 * path.stat().st_size


def moved(folder: Path, annotations: str, images: str, split: str = "train2017") -> Path:
    """The set of `coco` with its files elsewhere."""
    coco(folder, split=split)
    (folder / annotations).parent.mkdir(parents=True, exist_ok=True)
    (folder / "annotations" / f"instances_{split}.json").rename(folder / annotations)
    for path in sorted((folder / split).iterdir()):
        (folder / images).mkdir(parents=True, exist_ok=True)
        path.rename(folder / images / path.name)
    (folder / split).rmdir()
    return folder


@pytest.mark.parametrize(
    ("split", "annotations", "images"),
    [
        ("default", "annotations/instances_default.json", "images"),
        ("default", "annotations/instances_default.json", "images/default"),
        ("default", "annotations/instances_default.json", "."),
        ("train", "annotations/instances_train.json", "train"),
        ("train", "train/_annotations.coco.json", "train"),
        ("val", "valid/_annotations.coco.json", "valid"),
        ("val", "val/_annotations.coco.json", "val"),
    ],
)
def test_coco_as_tools_export_it(split, annotations, images, tmp_path):
    data = open_coco(moved(tmp_path, annotations, images), split)
    assert len(data) == 3
    assert data.read(0).size == (40, 30)
    with pytest.raises(BadData, match="is not there; there are"):
        open_coco(tmp_path, "test")
    with pytest.raises(BadData, match="is not there; there are"):
        open_coco(tmp_path, split, year="2014")


def test_coco_that_could_be_two_things(tmp_path):
    moved(tmp_path, "annotations/instances_train.json", "train")
    shutil.copy(tmp_path / "annotations" / "instances_train.json", tmp_path / "train" / "_annotations.coco.json")
    refused(lambda: open_coco(tmp_path), "instances_train.json and .*_annotations.coco.json could both be the split train; remove one")


def test_the_byte_order_mark_of_a_json_file(tmp_path):
    path = coco(tmp_path) / "annotations" / "instances_train2017.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(open_coco(tmp_path)) == 3


def test_names_with_accents_are_found_in_either_unicode_form(tmp_path):
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    rows = [{"id": 3, "file_name": f"{composed}/{composed}.jpg", "width": 40, "height": 30}]
    rows.append({"id": 4, "file_name": f"{composed}\\{decomposed} 2.jpg", "width": 40, "height": 30})
    coco(tmp_path, {"images": rows, "annotations": []})
    jpeg(tmp_path / "train2017" / decomposed / f"{decomposed}.jpg")
    jpeg(tmp_path / "train2017" / decomposed / f"{composed} 2.jpg")
    data = open_coco(tmp_path)
    assert [image.name for image in data.images] == [f"{decomposed}/{decomposed}.jpg", f"{decomposed}/{composed} 2.jpg"]
    assert data.read(0).size == data.read(1).size == (40, 30)
    folder = voc(tmp_path / "VOC2012", {decomposed: xml([CAT])}, {"train": [composed]})
    assert [image.name for image in open_voc(folder).images] == [f"JPEGImages/{decomposed}.jpg"]


def test_a_link_out_of_the_folder_is_the_users_own(tmp_path):
    coco(tmp_path)
    (tmp_path / "train2017").rename(tmp_path / "elsewhere")
    (tmp_path / "train2017").symlink_to(tmp_path / "elsewhere")
    assert open_coco(tmp_path).read(0).size == (40, 30)


IMAGE = {"id": 3, "file_name": "000000000003.jpg", "width": 40, "height": 30}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (annotation(image_id=8), "annotation 1 is of image 8, which the file does not have"),
        (annotation(category_id=5), "annotation 1 is of category 5, which the file does not have"),
        (annotation(bbox=None), "not in COCO's format .*missing required field `bbox`"),
        (annotation(bbox=[1, 2, 3]), r"not in COCO's format .*annotations\[0\].bbox"),
        (annotation(bbox=[1, 2, "x", 3]), r"not in COCO's format .*got `str`.*bbox"),
        (annotation(bbox=[1, 2, 1e308, 1e308 * 10]), "not in COCO's format|not finite"),
        (annotation(image_id=None), "missing required field `image_id`"),
        ({"annotations": None}, "not in COCO's format"),
        ({"images": []}, "has no image"),
        ({"categories": [], "annotations": []}, "has no category"),
        ({"images": [IMAGE, IMAGE], "annotations": []}, "two images have the id 3"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}], "annotations": []}, "two categories have the id 1"),
        ({"annotations": annotation()["annotations"] * 2}, "two annotations have the id 1"),
        ({"images": [IMAGE | {"file_name": "x.jpg"}], "annotations": []}, "x.jpg is not there, and instances_train2017.json lists it"),
        ({"images": [IMAGE | {"file_name": "../secret.jpg"}], "annotations": []}, 'names "../secret.jpg"; paths below'),
        ({"images": [IMAGE | {"file_name": "/etc/passwd"}], "annotations": []}, 'names "/etc/passwd"; paths below'),
        ({"images": [IMAGE | {"width": 640.5}], "annotations": []}, "image 3 has a side of 640.5 pixels; sides are whole numbers"),
        ({"images": [IMAGE | {"width": 10**12}], "annotations": []}, "image 3 has a side of 1000000000000 pixels"),
        ({"images": [IMAGE | {"width": 10**4000}], "annotations": []}, "image 3 has a side of 10000000000000000000 pixels"),
        ({"images": [IMAGE | {"width": "wide"}], "annotations": []}, 'image 3 has a side of "wide", not a number of pixels'),
        ({"images": [IMAGE, IMAGE | {"id": 4}], "annotations": []}, "images 3 and 4 are both 000000000003.jpg; give their"),
        ({"images": [IMAGE | {"file_name": "a/../../secret.jpg"}], "annotations": []}, "paths below"),
        ({"images": [IMAGE | {"file_name": "..\\secret.jpg"}], "annotations": []}, "paths below"),
        ({"images": [IMAGE | {"file_name": "x" * 5000}], "annotations": []}, "x… is not there"),
        ({"images": [IMAGE | {"file_name": "a\0b"}], "annotations": []}, "is not there"),
        ({"images": [IMAGE | {"file_name": "."}], "annotations": []}, "is not there"),
        ({"images": [IMAGE | {"id": 1.5}], "annotations": []}, "an image has the id 1.5; whole numbers or words are wanted"),
        ({"images": [IMAGE | {"id": None}], "annotations": []}, "not in COCO's format"),
        ({"images": [IMAGE, IMAGE | {"id": "3"}], "annotations": []}, "two images have the id 3"),
        ({"categories": [{"id": 4, "supercategory": "vehicle"}]}, "missing required field `name`"),
        ({"categories": [{"id": 4, "name": " "}], "annotations": []}, "category 4 has no name"),
        (
            {"categories": [{"id": 4, "name": "a"}, {"id": 90, "name": "b"}, {"id": 5, "name": "a", "supercategory": "c"}]},
            'categories 4 and 5 are both called "a" and have 2 and 0 objects; rename one, or remove the one without objects',
        ),
        (annotation(bbox=["1", "2", "3", "4"]), "not in COCO's format .*got `str`.*bbox"),
        (annotation(bbox=[]), r"not in COCO's format .*bbox"),
        (annotation(bbox=[1e9, 2, 3e9, 4]), "annotation 1 has a box that reaches 4000000000.0; coordinates are finite numbers up to 1e"),
        (annotation(iscrowd="yes"), "not in COCO's format .*iscrowd"),
    ],
)
def test_malformed_coco(change, message, tmp_path):
    folder = coco(tmp_path, change)
    refused(lambda: open_coco(folder), message)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"images": [NaN]}'])
def test_files_that_are_not_coco(content, tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    refused(lambda: read_coco(path, tmp_path), "a.json is not in COCO's format")


# ---------------------------------------------------------------------------------------------------------------------
# shapes, and all of them


def test_shapes_with_boxes():
    shapes = Shapes("val", 5, size=48, objects="several")
    data = detection_shapes(shapes)
    assert len(data) == 5 and data.classes == CLASSES
    for index in range(5):
        drawing = shapes.draw(index)
        assert np.array_equal(np.asarray(data.read(index)), drawing.image)
        assert np.array_equal(data.objects_of(index).boxes, drawing.boxes)
        assert np.array_equal(data.objects_of(index).labels, drawing.labels + 1)
    assert data.faults.notes == ()


def test_the_digest_tells_sets_apart(tmp_path):
    first = open_voc(voc(tmp_path / "a", {"a": xml([CAT])}))
    assert open_voc(tmp_path / "a").digest == first.digest
    others = [
        open_voc(voc(tmp_path / "b", {"a": xml([("cat", (11, 6, 20, 24))])})),
        open_voc(voc(tmp_path / "c", {"a": xml([CAT], extra="<difficult>1</difficult>")})),
        open_voc(voc(tmp_path / "d", {"a": xml([("dog", CAT[1])])})),
        open_voc(voc(tmp_path / "e", {"b": xml([CAT])})),
        detection_shapes(Shapes("val", 1)),
        detection_shapes(Shapes("val", 1, seed=1)),
    ]
    assert len({first.digest, *(other.digest for other in others)}) == 7
    jpeg(tmp_path / "a" / "JPEGImages" / "a.jpg", 7)
    another = open_voc(tmp_path / "a").digest
    assert another != first.digest
    image = tmp_path / "a" / "JPEGImages" / "a.jpg"
    content = bytearray(image.read_bytes())
    content[-9] ^= 1  # as long as it was
    image.write_bytes(content)
    assert open_voc(tmp_path / "a").digest not in (another, first.digest)


def test_the_digest_of_the_shapes_stays():
    """Results of generated images are published, and these are the same everywhere."""
    assert (
        detection_shapes(Shapes("val", 2, 48, objects="several")).digest
        == "81412b946c9d897a6d18ee0d59283c146863cd8b0ff0774106c22009a5cf197c"
    )


def test_grey_images_are_read_as_colour(tmp_path):
    folder = voc(tmp_path / "VOC2012", {"a": xml([CAT])})
    Image.open(jpeg(folder / "JPEGImages" / "a.jpg")).convert("L").save(folder / "JPEGImages" / "a.jpg")
    assert open_voc(folder).read(0).mode == "RGB"


# ---------------------------------------------------------------------------------------------------------------------
# real ones


@pytest.mark.packs
def test_voc_as_torchvision_reads_it(packs):
    from torchvision.datasets import VOCDetection

    data = open_voc(packs / "voc_mini", "trainval")
    assert (len(open_voc(packs / "voc_mini", "train")), len(open_voc(packs / "voc_mini", "val"))) == (525, 323)
    assert data.objects.difficult.sum() == 225 and len(data.objects) == 2178 and data.faults.notes == ()
    theirs = VOCDetection(str(packs / "voc_mini"), "2012", "trainval")
    for index, target in enumerate(theirs.targets):
        stated = theirs.parse_voc_xml(parse(Path(target)))["annotation"].get("object", [])
        boxes = np.array([[float(o["bndbox"][k]) for k in ("xmin", "ymin", "xmax", "ymax")] for o in stated]).reshape(-1, 4)
        assert data.images[index].id == Path(target).stem
        assert np.array_equal(data.objects_of(index).boxes + np.array([1, 1, 0, 0]), boxes)
        assert [data.classes[label - 1] for label in data.objects_of(index).labels] == [o["name"] for o in stated]


@pytest.mark.packs
def test_bccd_has_two_boxes_without_area(packs):
    train, val = open_voc(packs / "bccd", "train"), open_voc(packs / "bccd", "val")
    assert (len(train), len(val)) == (205, 87)
    assert train.classes == val.classes == ("Platelets", "RBC", "WBC")
    assert (train.faults.degenerate, val.faults.degenerate) == (["JPEGImages/BloodImage_00343.jpg"], ["JPEGImages/BloodImage_00338.jpg"])
    assert np.bincount(np.concatenate([train.objects.labels, val.objects.labels])).tolist() == [0, 292, 3348, 301]


@pytest.mark.packs
@pytest.mark.parametrize(("split", "images", "objects", "crowds"), [("train", 229, 2060, 20), ("val", 137, 1213, 15)])
def test_coco_as_pycocotools_reads_it(packs, split, images, objects, crowds):
    from pycocotools.coco import COCO

    data = open_coco(packs / "coco_mini", split)
    assert (len(data), len(data.objects), data.objects.crowd.sum(), len(data.classes)) == (images, objects, crowds, 80)
    assert data.faults.notes == ()
    theirs = COCO(str(packs / "coco_mini" / "annotations" / f"instances_{split}2017.json"))
    for index, image in enumerate(data.images):
        rows = theirs.loadAnns(theirs.getAnnIds(image.id))
        mine = data.objects_of(index)
        assert [data.class_ids[label - 1] for label in mine.labels] == [row["category_id"] for row in rows]
        assert mine.ids.tolist() == [row["id"] for row in rows] and mine.areas.tolist() == [row["area"] for row in rows]
        assert np.allclose(mine.boxes, [[x, y, x + w, y + h] for x, y, w, h in (row["bbox"] for row in rows)] or np.zeros((0, 4)))
    assert split == "val" or sum(len(data.objects_of(i)) == 0 for i in range(images)) == 2
    assert data.class_ids[-1] == 90
