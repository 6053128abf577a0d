"""Boxes in the exports of annotation tools: every form gives the same images and boxes, and the usual damage has a message."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.annotated import refused, xml
from tests.exports import BOXES, CLASSES, PARTS, TRUTH, coco, labelimg_yolo, photograph, roboflow_coco, roboflow_yolo, write
from trickzoo.data.boxes import DetectionSet, collect
from trickzoo.data.exports import ALL, Export
from trickzoo.data.layouts import LAYOUTS, Layout, Reader
from trickzoo.data.location import AnnotatedLocation, open_splits
from trickzoo.data.objects import Annotation, DetectionImage
from trickzoo.data.selection import Selection
from trickzoo.errors import BadOption, NoEffect


def boxes(data: DetectionSet) -> dict[str, list[tuple[str, tuple[float, ...]]]]:
    """The objects of each image, by the name of its file."""
    found = {}
    for index, name in enumerate(data.names):
        assert data.read(index).size == (40, 30)
        of = data.objects_of(index)
        rows = [tuple(round(value, 3) for value in box) for box in of.boxes.tolist()]
        found[Path(name).name] = [(data.classes[label - 1], row) for label, row in zip(of.labels.tolist(), rows, strict=True)]
    return found


@pytest.mark.parametrize("layout", ["own", "named"])
@pytest.mark.parametrize("name", BOXES)
def test_every_export_gives_the_same_images_and_boxes(name: str, layout: str, tmp_path: Path) -> None:
    form = BOXES[name]
    form.write(tmp_path)
    location = AnnotatedLocation("own" if layout == "own" else form.layout, tmp_path)
    if form.parts is None:
        data = location.open_undivided("detection")
        assert (data.layout, data.classes) == (form.said, CLASSES)
        assert boxes(data) == TRUTH
        message = "has no splits; train with --val-fraction 0.2, or evaluate with --split all, or with --split-file and the split.csv of"
        if location.layout == "voc" and (tmp_path / "JPEGImages").is_dir():  # as for VOC itself, whose lists have any names
            message = "there are default|does not exist; write train.txt into it"
        refused(lambda: location.open("detection", "train"), message)
        return
    for split, names in form.parts.items():
        data = AnnotatedLocation(location.layout, tmp_path, val=split).open("detection", "val")
        assert (data.layout, data.classes) == (form.said, CLASSES)
        assert boxes(data) == {name: TRUTH[name] for name in names}
    refused(lambda: location.open_undivided("detection"), "has validation images and cannot be divided; use it without", BadOption)


def test_the_form_is_said_and_a_set_without_splits_is_divided(tmp_path: Path) -> None:
    BOXES["Label Studio YOLO"].write(tmp_path)
    location = AnnotatedLocation("own", tmp_path, selection=Selection(val_fraction=0.34))
    splits = open_splits(location, "detection")
    assert splits.selected.notes[0] == f"{tmp_path}: Label Studio YOLO export, no splits, 2 classes"
    assert splits.selected.notes[1].startswith(f"{tmp_path}: 5 training and 1 validation image, divided by --val-fraction 0.34")
    both = boxes(splits.train) | boxes(splits.val)
    assert both == TRUTH and not boxes(splits.train).keys() & boxes(splits.val).keys()
    assert [row[0] for row in splits.selected.rows] == [f"images/{name}" for name in TRUTH]
    table = tmp_path / "split.csv"
    table.write_bytes(splits.selected.table)
    listed = open_splits(AnnotatedLocation("own", tmp_path, selection=Selection(split_file=table)), "detection")
    assert (listed.train.digest, listed.val.digest) == (splits.train.digest, splits.val.digest)
    again = open_splits(location, "detection")
    assert (again.train.digest, again.val.digest) == (splits.train.digest, splits.val.digest)
    other = AnnotatedLocation("own", tmp_path, selection=Selection(val_fraction=0.34, split_seed=2))
    assert open_splits(other, "detection").val.digest != splits.val.digest


def test_a_set_with_training_images_alone_is_divided(tmp_path: Path) -> None:
    for name in PARTS["train"] + PARTS["val"]:
        photograph(tmp_path / "train", name)
    write(tmp_path / "train" / "_annotations.coco.json", coco(PARTS["train"] + PARTS["val"], first=0, roboflow=True))
    refused(
        lambda: open_splits(AnnotatedLocation("own", tmp_path), "detection"), 'has no split "val", only train; take some of train for it'
    )
    splits = open_splits(AnnotatedLocation("own", tmp_path, selection=Selection(val_fraction=0.4)), "detection")
    assert len(splits.train) + len(splits.val) == 5


def test_a_file_in_cocos_format_wherever_it_lies(tmp_path: Path) -> None:
    for name in TRUTH:
        photograph(tmp_path / "photos", name)
    write(tmp_path / "x" / "y.json", coco(list(TRUTH)))
    write(tmp_path / "x" / "val.json", coco(PARTS["val"]))
    files = {"annotations": tmp_path / "x" / "y.json", "folder": tmp_path / "photos"}
    for layout in ("own", "coco"):
        assert boxes(AnnotatedLocation(layout, **files).open("detection", "train")) == TRUTH
        both = AnnotatedLocation(layout, **files, val_annotations=tmp_path / "x" / "val.json")
        assert sorted(boxes(both.open("detection", "val"))) == ["d.jpg", "e.jpg"]
        divided = AnnotatedLocation(layout, **files, selection=Selection(val_fraction=0.4))
        assert len(open_splits(divided, "detection").val) in (1, 2)
    refused(lambda: open_splits(AnnotatedLocation("coco", **files), "detection"), "name their file with --val-annotations, or add --val-fr")
    refused(lambda: AnnotatedLocation("voc", **files), "--annotations has no effect: only coco and own can be read from one file", NoEffect)
    refused(lambda: AnnotatedLocation("coco", folder=tmp_path), "--images has no effect: it belongs to --annotations", NoEffect)
    refused(
        lambda: AnnotatedLocation("coco", **files, val_annotations=tmp_path, selection=Selection(val_fraction=0.1)), "exclude", BadOption
    )


def test_two_possible_forms_are_named_with_the_option_that_decides(tmp_path: Path) -> None:
    roboflow_coco(tmp_path)
    write(tmp_path / "data.yaml", "train: train\nval: valid\nnames: [cat, dog]\n")
    location = AnnotatedLocation("own", tmp_path)
    refused(
        lambda: location.open("detection", "train"),
        r"has two possible layouts, Roboflow COCO export \(_annotations\.coco\.json\) and Ultralytics YOLO export \(data\.yaml\); "
        "name the layout, coco or yolo, in place of own",
    )
    (tmp_path / "data.yaml").unlink()
    write(tmp_path / "annotations" / "instances_default.json", coco(list(TRUTH)))
    refused(lambda: location.open("detection", "train"), "and Roboflow COCO export .*; name one of the files with --annotations")
    refused(lambda: AnnotatedLocation("own", tmp_path / "train" / "x").open("detection", "train"), "is not a folder")
    (tmp_path / "empty").mkdir()
    refused(
        lambda: AnnotatedLocation("own", tmp_path / "empty").open("detection", "train"),
        "no layout that is recognised; it must contain a file in COCO",
    )
    divided = AnnotatedLocation("own", tmp_path / "empty", selection=Selection(val_fraction=0.2))
    refused(lambda: divided.open_undivided("detection"), r"no layout that is recognised; it must contain a file in COCO's .* of VIA$")
    refused(
        lambda: divided.open_undivided("segmentation"), "no layout that is recognised; it must contain images/ and masks/ with equal names"
    )
    (tmp_path / "empty" / "labels.json").write_text('{"images": [], "annotations": [], "categories": [NaN')
    refused(
        lambda: AnnotatedLocation("own", tmp_path / "empty").open("detection", "train"),
        r"; labels\.json is not JSON \(.*; it must contain a file in COCO",
    )


def open_tiny(root: Path, layout: str) -> DetectionSet:
    return collect(root, layout, ["cat"], [(DetectionImage("a.jpg", 0, 40, 30), [Annotation((2, 3, 12, 15), 1)])])


def tiny_exports(root: Path) -> list[Export]:
    """The exports in a format that only this test knows."""
    place = root / "tiny.txt"
    return [Export("Tiny export", "tiny", place, {"train": functools.partial(open_tiny, root)})] if place.is_file() else []


def test_own_finds_the_exports_of_a_new_line_in_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Reader("small.detection", exports="tests.test_exports:tiny_exports", contents="tiny.txt")
    monkeypatch.setitem(LAYOUTS, "tiny", Layout("tiny files", {"detection": reader}))
    photograph(tmp_path, "a.jpg")
    for layout, contents in (("own", r"a file in COCO's format, .* of VIA, or tiny\.txt$"), ("tiny", r"it must contain tiny\.txt$")):
        location = AnnotatedLocation(layout, tmp_path)
        refused(lambda location=location: location.open("detection", "train"), contents)
    write(tmp_path / "tiny.txt", "")
    for layout in ("own", "tiny"):
        data = AnnotatedLocation(layout, tmp_path).open("detection", "train")
        assert data.layout == "Tiny export, 1 split"
        assert boxes(data) == {"a.jpg": [("cat", (2, 3, 12, 15))]}


@pytest.mark.parametrize("export", [roboflow_coco, roboflow_yolo])
def test_boxes_in_place_of_masks_are_said(export: Callable[[Path], None], tmp_path: Path) -> None:
    """COCO's files and YOLO's may have polygons, but a segmenter is trained on masks."""
    export(tmp_path)
    location = AnnotatedLocation("own", tmp_path)
    refused(
        lambda: location.open("segmentation", "train"),
        "export, which has no masks; draw its outlines with `trickzoo masks .* FOLDER`, or export masks as images, in images/ and masks/",
    )
    refused(lambda: location.open_undivided("segmentation"), "export, which has no masks")


def change(path: str, edit: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def do(root: Path) -> None:
        content = json.loads((root / path).read_text())
        edit(content)
        (root / path).write_text(json.dumps(content))

    return do


def text(path: str, old: str, new: str) -> Callable[[Path], None]:
    def do(root: Path) -> None:
        content = (root / path).read_text()
        assert old in content
        (root / path).write_text(content.replace(old, new, 1))

    return do


def gone(path: str) -> Callable[[Path], None]:
    return lambda root: (root / path).unlink()


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("CVAT COCO", gone("images/default/a.jpg"), r"a\.jpg does not exist, but instances_default\.json lists it"),
        (
            "CVAT COCO",
            change("annotations/instances_default.json", lambda c: c["annotations"][0].update(category_id=9)),
            "of category 9, which",
        ),
        (
            "CVAT COCO, project",
            change("annotations/instances_Train.json", lambda c: c["images"].pop(0)),
            "is of image 1, which the file does",
        ),
        ("Roboflow COCO", change("train/_annotations.coco.json", lambda c: c["annotations"][0].update(bbox=[1])), "not in COCO's format"),
        (
            "Label Studio COCO",
            change("result.json", lambda c: c["images"][0].update(width=41)),
            "its annotation is for 41 × 30",
        ),
        ("VIA COCO", change("via_project_coco.json", lambda c: c["categories"].clear()), "has no category"),
        (
            "VIA JSON",
            text("via_export_json.json", '"animal": "cat"', '"kind": "cat"'),
            "have the attributes animal, kind; keep one",
        ),
        ("VIA JSON", text("via_export_json.json", '"rect"', '"point"'), 'region 1 of a.jpg is a "point"; only rectangles'),
        ("VIA JSON", text("via_export_json.json", '"x": 2', '"x": "left"'), "region 1 of a.jpg is a rect whose coordinates are missing"),
        ("VIA JSON", text("via_export_json.json", '"animal": "cat"', '"animal": ""'), "region 1 of a.jpg has no class, or several"),
        ("VIA CSV", gone("images/a.jpg"), r"a\.jpg does not exist, but via_export_csv\.csv lists it"),
        ("VIA CSV", text("via_export_csv.csv", "region_attributes", "attributes"), r"is not a file of VIA \(a row has no filename"),
        ("LabelImg VOC", gone("b.jpg"), r"has no image b, and .*b\.xml annotates it"),
        ("LabelImg VOC", text("a.xml", "<xmin>3</xmin>", "<xmin>left</xmin>"), r'a\.xml: xmin of object 1 is "left", not a number'),
        ("VOC in two folders", text("annotations/a.xml", "</annotation>", ""), r"a\.xml is not well-formed XML"),
        ("Roboflow VOC", text("train/a.xml", "<name>cat</name>", "<name></name>"), r"a\.xml: object 1 has no name"),
        ("CVAT VOC", gone("JPEGImages/a.jpg"), "has no image a, and the split default has it"),
        ("VOC without lists", gone("JPEGImages/a.jpg"), "has no image a, and the split all has it"),
        ("Ultralytics YOLO", text("labels/train/a.txt", "1 0.7", "2 0.7"), r'a\.txt, line 2, has the class "2"; the classes are 0 to 1'),
        ("Ultralytics YOLO", text("data.yaml", "1: dog", "2: dog"), r"data\.yaml: the numbers of names are not 0 to 1"),
        ("Ultralytics YOLO", text("data.yaml", "images/train", "images/trian"), r"images/trian does not exist, but data\.yaml names it"),
        ("Roboflow YOLO", text("data.yaml", "nc: 2", "nc: 3"), r"data\.yaml states nc: 3 and 2 names"),
        ("Roboflow YOLO", text("data.yaml", "'dog'", "no"), "names is not a list of class names; write"),
        ("Roboflow YOLO", text("data.yaml", "names: [", "names: [["), r"data\.yaml is not YAML"),
        ("Roboflow YOLO", text("data.yaml", "nc: 2", "nc: &a 2\nb: *a"), r"data\.yaml is not YAML \(it has an alias"),
        ("Roboflow YOLO", gone("train/images/a.jpg"), r"labels/a\.txt has no image; add it, or remove the text file"),
        ("CVAT YOLO 1.1", gone("obj_train_data/a.jpg"), r"a\.jpg does not exist, but train\.txt lists it"),
        ("CVAT YOLO 1.1", text("obj.data", "names", "nomes"), r"obj\.data has no train or no names"),
        ("CVAT Ultralytics YOLO", text("labels/train/a.txt", "0 0.175000", "0 7"), r"a\.txt, line 1, has a value that is not from 0 to 1"),
        ("Label Studio YOLO", text("labels/a.txt", "0 0.175000", "0"), r"a\.txt, line 1, has 4 values; a box has 5"),
        ("Label Studio YOLO", text("labels/a.txt", "0 0.175000", "0 x"), r'line 1, has a value that is not a number: "0 x'),
        (
            "LabelImg YOLO",
            text("a.txt", "0 0.175000", "0 0.075000"),
            r"a\.txt, line 1, has a box that extends beyond the image",
        ),
        ("LabelImg YOLO", text("classes.txt", "dog\n", "cat\n"), r"classes\.txt has cat twice"),
        ("LabelImg YOLO", lambda folder: photograph(folder, "a.png"), r"has a\.txt twice"),
        ("Ultralytics YOLO", text("data.yaml", "names:", "kpt_shape: [2, 2]\nnames:"), "has keypoints .kpt_shape., which are not boxes"),
    ],
)
def test_usual_damage_has_a_message(name: str, damage: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    form = BOXES[name]
    form.write(tmp_path)
    damage(tmp_path)
    location = AnnotatedLocation("own" if name != "VIA COCO" else "coco", tmp_path)

    def opened() -> None:
        data = location.open_undivided("detection") if form.parts is None else location.open("detection", "train")
        _ = data.survey

    refused(opened, message)


@pytest.mark.parametrize("name", BOXES)
def test_files_added_by_operating_systems_are_ignored(name: str, tmp_path: Path) -> None:
    form = BOXES[name]
    form.write(tmp_path)
    for path in [path for path in tmp_path.rglob("*") if path.is_file()]:
        (path.parent / f"._{path.name}").write_bytes(b"\0\5\x16\7")  # as macOS writes them on other file systems
        if path.suffix == ".jpg":
            photograph(path.parent / "@eaDir", path.name)
    location = AnnotatedLocation("own", tmp_path)
    data = location.open_undivided("detection") if form.parts is None else location.open("detection", "train")
    assert boxes(data) == {name: TRUTH[name] for name in (TRUTH if form.parts is None else form.parts["train"])}


def test_numbers_of_yolo_may_be_text_in_the_configuration_and_floats_in_the_files(tmp_path: Path) -> None:
    BOXES["Ultralytics YOLO"].write(tmp_path)
    text("data.yaml", "0: cat\n  1: dog", '"0": cat\n  "1": dog\nnc: "2"')(tmp_path)
    for path in tmp_path.rglob("*.txt"):
        path.write_text("".join(f"{line[0]}.0{line[1:]}\n" for line in path.read_text().splitlines()))
    assert boxes(AnnotatedLocation("yolo", tmp_path).open("detection", "val")) == {name: TRUTH[name] for name in PARTS["val"]}


def test_a_polygon_of_yolo_gives_the_box_around_it(tmp_path: Path) -> None:
    labelimg_yolo(tmp_path)
    write(tmp_path / "c.txt", "1 0.1 0.2 0.5 0.2 0.3 0.6\n")
    data = AnnotatedLocation("yolo", tmp_path).open_undivided("detection")
    assert boxes(data)["c.jpg"] == [("dog", (4, 6, 20, 18))]


def test_shapes_and_checkboxes_of_via(tmp_path: Path) -> None:
    photograph(tmp_path, "a.jpg")
    shapes = [
        {"name": "polygon", "all_points_x": [4, 20, 12], "all_points_y": [6, 6, 18]},
        {"name": "circle", "cx": 10, "cy": 12, "r": 4},
        {"name": "ellipse", "cx": 10, "cy": 12, "rx": 4, "ry": 6},
        {"name": "ellipse", "cx": 20, "cy": 15, "rx": 9, "ry": 3, "theta": 0.7},
    ]
    regions = {
        str(i): {"shape_attributes": shape, "region_attributes": {"kind": {"cat": True, "dog": False}}} for i, shape in enumerate(shapes)
    }
    write(tmp_path / "via_project.json", json.dumps({"_via_img_metadata": {"a.jpg1": {"filename": "a.jpg", "regions": regions}}}))
    data = AnnotatedLocation("via", tmp_path).open_undivided("detection")
    turns = np.linspace(0, 2 * np.pi, 100_000)
    outline = 20 + 15j + np.exp(0.7j) * (9 * np.cos(turns) + 3j * np.sin(turns))  # as VIA draws an ellipse: theta is in radians
    around = tuple(round(float(edge), 3) for edge in (outline.real.min(), outline.imag.min(), outline.real.max(), outline.imag.max()))
    assert boxes(data) == {"a.jpg": [("cat", (4, 6, 20, 18)), ("cat", (6, 8, 14, 16)), ("cat", (6, 6, 14, 18)), ("cat", around)]}


@pytest.mark.parametrize("form", ["COCO", "VOC"])
def test_a_rectangle_that_is_turned_in_cvat_gives_the_box_around_it(form: str, tmp_path: Path) -> None:
    """CVAT writes the box before the turn, and the angle in degrees as an attribute."""
    stated = [30, "125.5", 90.0, -30, 0.0, 180, "left", "nan", None, [1]]
    photograph(tmp_path / ("images" if form == "COCO" else "JPEGImages"), "a.jpg")
    if form == "COCO":
        content = json.loads(coco(["a.jpg"]))
        one = {**content["annotations"][0], "bbox": [12, 10, 16, 6]}
        rows = [{**one, "id": i, "attributes": {"occluded": False, "rotation": angle}} for i, angle in enumerate(stated)]
        rows += [{**one, "id": 20, "attributes": []}, {**one, "id": 21}]
        write(tmp_path / "annotations" / "instances_default.json", json.dumps({**content, "annotations": rows}))
    else:
        box = "<name>cat</name><bndbox><xmin>13</xmin><ymin>11</ymin><xmax>28</xmax><ymax>16</ymax></bndbox>"
        attribute = "<attribute><name>{}</name><value>{}</value></attribute>".format
        attributes = [f"<attributes>{attribute('keyframe', 7)}{attribute('rotation', angle)}</attributes>" for angle in stated]
        objects = "".join(f"<object>{box}{each}</object>" for each in (*attributes, "", "<attributes/>"))
        write(tmp_path / "Annotations" / "a.xml", f"<annotation>{objects}</annotation>")
        write(tmp_path / "ImageSets" / "Main" / "default.txt", "a\n")
        write(tmp_path / "labelmap.txt", "background:0,0,0::\ncat:128,0,0::\n")
    expected = []
    for angle in (30, 125.5, 90, -30, *[0] * 8):
        corner = 20 + 13j + np.exp(1j * np.radians(angle)) * np.array([-8 - 3j, 8 - 3j, 8 + 3j, -8 + 3j])
        expected.append((corner.real.min(), corner.imag.min(), corner.real.max(), corner.imag.max()))
    data = AnnotatedLocation("own", tmp_path).open_undivided("detection")
    assert [box for _, box in boxes(data)["a.jpg"]] == pytest.approx(np.round(expected, 3), abs=1e-9)


@pytest.mark.parametrize("places", [(".", "."), ("images", "annotations")])
def test_annotations_in_subfolders_are_counted(places: tuple[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    images, annotations = (tmp_path / place for place in places)
    for name in ("a", "left/b", "left/c"):
        photograph(images, f"{name}.jpg")
        write(annotations / f"{name}.xml", xml([("cat", (1, 1, 10, 10))]))
    assert len(AnnotatedLocation("own", tmp_path).open_undivided("detection")) == 1
    found = f"{annotations}: 2 files of annotations in subfolders are left out, such as left/b.xml; move them up, with the images"
    assert found in caplog.messages


def test_images_without_a_file_of_labels_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    labelimg_yolo(tmp_path)
    AnnotatedLocation("yolo", tmp_path).open_undivided("detection")
    assert f"{tmp_path}: 1 image without a text file taken as without objects, such as c.jpg" in caplog.messages
    for path in tmp_path.glob("?.txt"):
        path.unlink()
    write(tmp_path / "x.txt", "")
    refused(lambda: AnnotatedLocation("yolo", tmp_path).open_undivided("detection"), "x.txt has no image|not one of 6 images has a text")


def test_roboflows_supercategory_is_a_class_only_if_it_has_objects(tmp_path: Path) -> None:
    roboflow_coco(tmp_path)
    path = tmp_path / "train" / "_annotations.coco.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["category_id"] = 0
    path.write_text(json.dumps(content))
    assert AnnotatedLocation("coco", tmp_path).open("detection", "train").classes == ("pets", *CLASSES)


@pytest.mark.parametrize("name", ["Roboflow VOC", "Roboflow COCO"])
def test_folders_of_splits_may_have_capitals(name: str, tmp_path: Path) -> None:
    BOXES[name].write(tmp_path)
    for folder in ("train", "valid"):
        (tmp_path / folder).rename(tmp_path / folder.title())
    for split in ("train", "val", "test"):
        found = AnnotatedLocation("own", tmp_path, val=split).open("detection", "val")
        assert boxes(found) == {image: TRUTH[image] for image in PARTS[split]}


def test_xml_and_images_may_have_folders_in_those_of_splits(tmp_path: Path) -> None:
    BOXES["Roboflow VOC"].write(tmp_path)
    for folder in ("train", "valid", "test"):
        for pattern, below in (("*.xml", "Annotations"), ("*.jpg", "JPEGImages")):
            (tmp_path / folder / below).mkdir()
            for path in (tmp_path / folder).glob(pattern):
                path.rename(path.parent / below / path.name)
    found = AnnotatedLocation("own", tmp_path).open("detection", "val")
    assert boxes(found) == {image: TRUTH[image] for image in PARTS["val"]}


def test_images_and_labels_with_a_list_of_classes_may_have_folders_of_splits(tmp_path: Path) -> None:
    BOXES["Ultralytics YOLO"].write(tmp_path)
    (tmp_path / "data.yaml").unlink()
    write(tmp_path / "classes.txt", "".join(f"{name}\n" for name in CLASSES))
    for split in ("train", "val"):
        assert boxes(AnnotatedLocation("own", tmp_path, val=split).open("detection", "val")) == {name: TRUTH[name] for name in PARTS[split]}


def test_the_images_of_one_split_are_never_those_of_all(tmp_path: Path) -> None:
    BOXES["Ultralytics YOLO"].write(tmp_path)
    (tmp_path / "data.yaml").write_text("train: images/train\nval: ../valid/images\nnames: [cat, dog]\n")
    refused(lambda: AnnotatedLocation("own", tmp_path).open("detection", "val"), "valid/images does not exist, but data.yaml names it")


def test_splits_have_the_names_of_tools(tmp_path: Path) -> None:
    roboflow_yolo(tmp_path)
    for name in ("val", "valid", "Validation"):
        assert len(AnnotatedLocation("own", tmp_path, val=name).open("detection", "val")) == 2
    refused(lambda: AnnotatedLocation("own", tmp_path, val="holdout").open("detection", "val"), 'no split "holdout", only train, val, test')
    assert ALL not in TRUTH
