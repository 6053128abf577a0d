"""The reader of VOC's boxes: the files that it accepts, the boxes that it drops and counts, and the files that it refuses."""

from __future__ import annotations

import shutil

import pytest

from tests.annotated import CAT, refused, voc, xml
from tests.images import jpeg
from trickzoo.data.readers.voc import CLASSES as VOC_CLASSES
from trickzoo.data.readers.voc import open_voc, parse
from trickzoo.errors import BadOption


def test_voc_corners_become_zero_based_and_half_open(tmp_path):
    data = open_voc(voc(tmp_path / "VOC2012", {"a": xml([CAT, ("dog", (1, 1, 40, 30))]), "b": xml()}))
    assert data.objects_of(0).boxes.tolist() == [[10, 5, 20, 25], [0, 0, 40, 30]]
    assert data.objects_of(0).areas.tolist() == [200, 1200]
    assert data.objects_of(0).labels.tolist() == [VOC_CLASSES.index("cat") + 1, VOC_CLASSES.index("dog") + 1]
    assert data.faults.notes == ()


@pytest.mark.parametrize("listed", [True, False])
def test_images_may_lie_in_equal_subfolders(tmp_path, listed):
    root = tmp_path / "VOC2012"
    for part in ("", "left", "right/far"):
        for folder in ("Annotations", "JPEGImages"):
            (root / folder / part).mkdir(parents=True, exist_ok=True)
        jpeg(root / "JPEGImages" / part / "0.jpg")
        (root / "Annotations" / part / "0.xml").write_text(xml([("dog" if part == "left" else "cat", (1, 1, 10 + len(part), 30))]))
    stems = ["0", "left/0", "right/far/0"]
    if listed:
        (root / "ImageSets" / "Main").mkdir(parents=True)
        (root / "ImageSets" / "Main" / "all.txt").write_text("".join(f"{stem}\n" for stem in stems))
    data = open_voc(root.rename(tmp_path / "own"), "all")
    assert data.classes == ("cat", "dog")
    assert [(image.name, image.id) for image in data.images] == [(f"JPEGImages/{stem}.jpg", stem) for stem in stems]
    assert data.objects.labels.tolist() == [1, 2, 1]
    assert data.objects.boxes[:, 2].tolist() == [10, 14, 19]


def test_images_without_objects_are_kept(tmp_path):
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


def test_impossible_boxes_are_dropped_and_counted(tmp_path):
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
    refused(lambda: open_voc(tmp_path, year="twelve"), 'VOC has no year "twelve"', BadOption)
    refused(lambda: open_voc(tmp_path, "test", year="07+12"), 'has no split "test"; there are trainval')


def test_an_own_folder_defines_its_classes(tmp_path):
    cell = ("RBC", (1, 1, 9, 9))
    folder = voc(tmp_path / "cells", {"a": xml([cell]), "b": xml([("WBC", (2, 2, 9, 9))]), "c": xml()}, {"train": ["a", "c"]})
    data = open_voc(folder)
    assert data.classes == ("RBC", "WBC")  # of all annotations, so that the splits agree
    assert [image.id for image in data.images] == ["a", "c"]
    assert [image.id for image in open_voc(folder, "all").images] == ["a", "b", "c"]
    assert open_voc(folder, classes=("Platelets", "RBC")).objects.labels.tolist() == [2]
    (folder / "classes.txt").write_text("WBC\nRBC\n")
    assert open_voc(folder).objects.labels.tolist() == [2]
    (folder / "classes.txt").write_text("background\nWBC\nRBC\n")  # as for masks; boxes have no background
    assert (open_voc(folder).classes, open_voc(folder).objects.labels.tolist()) == (("WBC", "RBC"), [2])
    (folder / "classes.txt").unlink()
    shutil.rmtree(folder / "ImageSets")
    assert len(open_voc(folder, "all")) == 3
    refused(lambda: open_voc(folder), 'Main does not exist; write train.txt into it, one name per line, or ask for the split "all"')


def test_own_classes_in_a_folder_named_like_a_year(tmp_path):
    devkit = tmp_path / "VOCdevkit"
    helmet = xml([("helmet", (1, 1, 9, 9)), ("vest", (2, 2, 9, 9))])
    folder = voc(devkit / "VOC2007", {"a": helmet})
    (folder / "classes.txt").write_text("\ufeff# what is worn\r\nvest\r\nhelmet\r\n")
    assert (open_voc(tmp_path).classes, open_voc(tmp_path).objects.labels.tolist()) == (("vest", "helmet"), [2, 1])
    voc(devkit / "VOC2012", {"b": xml([CAT])})
    refused(lambda: open_voc(tmp_path, year="07+12"), "VOC2007 and .*VOC2012 have different classes; give both the same classes.txt")
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
    refused(lambda: open_voc(folder, "cat_train"), "cat_train.txt does not have one name per line: a list of one class")
    lines = "\ufeff# the first two\r\nWhatsApp Image 0\r\nWhatsApp Image 1  \r\n\r\n"
    (folder / "ImageSets" / "Main" / "two.txt").write_text(lines)
    assert [image.id for image in open_voc(folder, "two").images] == stems[:2]
    jpeg(folder / "JPEGImages" / "1.png.jpeg").rename(folder / "JPEGImages" / "1.png")
    refused(lambda: open_voc(folder), "JPEGImages has 1.jpg and 1.png; lists name files without their suffix, so remove or rename one")


def test_a_missing_size_is_read_from_the_image(tmp_path):
    data = open_voc(voc(tmp_path / "VOC2012", {"a": xml([CAT], size=None), "b": xml([CAT], size=(0, 0)), "c": xml([CAT], size=(-1, 30))}))
    assert [(image.width, image.height) for image in data.images] == [(40, 30)] * 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (xml([("", (1, 1, 2, 2))]), "a.xml: object 1 has no name"),
        (xml([CAT, ("cta", (1, 1, 2, 2))]), 'object 2 is a "cta", which is not among the 20 classes.*; did you mean cat'),
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
        (xml([("CAT", (1, 1, 2, 2))]), 'object 1 is a "CAT", which is not among the 20 classes.*; did you mean cat'),
        (xml([("helmet", (1, 1, 2, 2))]), "not among the 20 classes, and there is no .*VOC2012/classes.txt with others"),
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
    refused(lambda: open_voc(folder, "cat_train"), "cat_train.txt does not have one name per line")
    (folder / "Annotations" / "a.xml").unlink()
    refused(lambda: open_voc(folder), "a.xml cannot be read .No such file")
    (folder / "JPEGImages" / "a.jpg").unlink()
    refused(lambda: open_voc(folder), "JPEGImages has no image a, and the split train has it")
    (folder / "ImageSets" / "Main" / "train.txt").write_text("../../secret\n")
    refused(lambda: open_voc(folder), r"JPEGImages has no image \.\./\.\./secret")
    shutil.rmtree(folder / "Annotations")
    refused(lambda: open_voc(folder), "has no Annotations/")
    refused(lambda: open_voc(tmp_path / "nowhere"), "nowhere is not a folder")
    refused(lambda: open_voc(folder / "ImageSets"), "is not a folder of VOC; it must contain VOCdevkit/VOC2012")
    empty = voc(tmp_path / "empty", {"a": xml()})
    refused(lambda: open_voc(empty), "annotate no object; list the classes in")
    (empty / "Annotations" / "a.xml").unlink()
    refused(lambda: open_voc(empty, "all", classes=("cat",)), "empty all has no image")


def test_an_image_of_another_size_than_its_annotation(tmp_path):
    folder = voc(tmp_path / "VOC2012", {"a": xml([CAT], size=(400, 300))})
    refused(lambda: open_voc(folder).read(0), "a.jpg is 40 × 30 pixels and its annotation is for 400 × 300")
