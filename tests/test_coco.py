"""The reader of COCO's boxes: the files that it accepts, the boxes that it drops and counts, and the files that it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.annotated import CAT, coco, refused, voc, xml
from tests.images import jpeg
from trickzoo.data.readers.coco import open_coco, read_coco
from trickzoo.data.readers.voc import open_voc
from trickzoo.errors import BadData, BadOption


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
    refused(lambda: open_coco(tmp_path, "val"), "instances_val2017.json does not exist; there are instances_train2017.json")
    refused(lambda: open_coco(tmp_path, year="2014"), "instances_train2014.json does not exist")
    refused(lambda: open_coco(tmp_path, year="last"), 'COCO has no year "last"', BadOption)
    refused(lambda: open_coco(tmp_path / "images"), "pass the folder that has annotations/")


def annotation(**change: Any) -> dict[str, Any]:
    row = {"id": 1, "image_id": 7, "category_id": 4, "bbox": [1, 2, 3, 4], "area": 5, "iscrowd": 0} | change
    return {"annotations": [{key: value for key, value in row.items() if value is not None}]}


def test_impossible_coco_boxes_are_dropped_and_counted(tmp_path):
    boxes = [[1, 2, 0, 4], [1, 2, 3, -1], [40, 2, 3, 4], [38, 2, 4, 4], [1, 2, 3, 4]]
    rows = [annotation(id=i, bbox=box)["annotations"][0] for i, box in enumerate(boxes)]
    data = open_coco(coco(tmp_path, {"annotations": rows}))
    assert data.objects.ids.tolist() == [3, 4]
    assert [len(names) for names in (data.faults.degenerate, data.faults.outside, data.faults.overhanging)] == [2, 1, 1]
    assert data.faults.degenerate[0] == "000000000007.jpg"


@pytest.mark.parametrize("area", [None, 0])
def test_a_missing_area_is_that_of_the_box(tmp_path, area):
    assert open_coco(coco(tmp_path, annotation(area=area))).objects.areas.tolist() == [12]


def rows(*boxes: list[float], area: Any = lambda box: None) -> dict[str, Any]:
    return {"annotations": [annotation(id=i, bbox=box, area=area(box))["annotations"][0] for i, box in enumerate(boxes)]}


@pytest.mark.parametrize(
    "change",
    [
        rows([2, 3, 12, 15], [20, 10, 28, 19], area=lambda box: (box[2] - box[0]) * (box[3] - box[1])),
        rows([2, 3, 12, 15], [20, 10, 28, 19], [30, 5, 40, 30]),
    ],
    ids=["by their areas", "by the edges"],
)
def test_corners_in_place_of_width_and_height_are_refused(change, tmp_path):
    refused(lambda: open_coco(coco(tmp_path, change)), "the boxes look like corners x0, y0, x1, y1; COCO's bbox is x, y, width, height")


def test_boxes_that_only_could_be_corners_are_taken(tmp_path):
    change = rows([0, 0, 12, 15], [2, 3, 36, 26], area=lambda box: box[2] * box[3])
    assert open_coco(coco(tmp_path, change)).objects.boxes.tolist() == [[0, 0, 12, 15], [2, 3, 38, 29]]


def test_boxes_in_fractions_of_the_image_are_refused(tmp_path):
    change = rows([0.1, 0.2, 0.5, 0.25], [0.0, 0.5, 0.75, 0.5])
    refused(lambda: open_coco(coco(tmp_path, change)), "every box lies within the first pixel of its image; write boxes in pixels")


def test_duplicate_boxes_are_counted(tmp_path):
    data = open_coco(coco(tmp_path, rows([1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 5])))
    assert len(data.objects) == 3
    assert data.notes == ("1 box equal to another of the same class (the first in 000000000007.jpg)",)


def test_names_of_files_may_begin_with_the_folder(tmp_path):
    names = [{"id": n, "file_name": f"train2017/{n:012}.jpg", "width": 40, "height": 30} for n in (7, 3, 12)]
    assert open_coco(coco(tmp_path, {"images": names})).read(0).size == (40, 30)


def test_a_file_in_utf_16(tmp_path):
    path = coco(tmp_path) / "annotations" / "instances_train2017.json"
    path.write_bytes(path.read_text().encode("utf-16"))
    assert len(open_coco(tmp_path)) == 3


def test_a_group_of_roboflow_has_objects_whatever_the_form_of_its_id(tmp_path):
    names = ("pets", "cat")
    categories = [{"id": str(i), "name": name, "supercategory": ("none", "pets")[i]} for i, name in enumerate(names)]
    assert open_coco(coco(tmp_path, annotation(category_id=0) | {"categories": categories})).classes == names


def test_classes_that_differ_only_in_how_accents_are_stored_are_refused(tmp_path):
    categories = [{"id": 4, "name": "caf\u00e9"}, {"id": 90, "name": "cafe\u0301"}]
    refused(
        lambda: open_coco(coco(tmp_path, {"categories": categories})), "2 classes are called caf\u00e9, with accents stored in two ways"
    )


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
    assert objects.plain.tolist() == [True, True, False, False, False, True, True]  # mmdetection, too, leaves out ignored boxes


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
    """Unused parts, such as polygons, need no memory beyond their bytes in the file."""
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
    """Write the set of `coco` with its files in other places."""
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
    message = "has no splits; train with --val-fraction" if split == "default" else f'has no split "test", only {split}'
    with pytest.raises(BadData, match=message):
        open_coco(tmp_path, "test")
    with pytest.raises(BadData, match="does not exist; there are"):
        open_coco(tmp_path, split, year="2014")


def test_ambiguous_coco_folders(tmp_path):
    moved(tmp_path, "annotations/instances_train.json", "train")
    shutil.copy(tmp_path / "annotations" / "instances_train.json", tmp_path / "train" / "_annotations.coco.json")
    refused(
        lambda: open_coco(tmp_path),
        r"layouts, CVAT COCO export \(instances_train\.json\) and Roboflow COCO export .*; name one of the files with",
    )


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


def test_a_link_to_a_file_outside_the_folder_is_followed(tmp_path):
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
        ({"images": [IMAGE | {"file_name": "x.jpg"}], "annotations": []}, "x.jpg does not exist, but instances_train2017.json lists it"),
        ({"images": [IMAGE | {"file_name": "../secret.jpg"}], "annotations": []}, 'names "../secret.jpg"; the path must be below'),
        ({"images": [IMAGE | {"file_name": "/etc/passwd"}], "annotations": []}, 'names "/etc/passwd"; the path must be below'),
        ({"images": [IMAGE | {"width": 640.5}], "annotations": []}, "image 3 has a side of 640.5 pixels; sides are whole numbers"),
        ({"images": [IMAGE | {"width": 10**12}], "annotations": []}, "image 3 has a side of 1000000000000 pixels"),
        ({"images": [IMAGE | {"width": 10**4000}], "annotations": []}, "image 3 has a side of 10000000000000000000 pixels"),
        ({"images": [IMAGE | {"width": "wide"}], "annotations": []}, 'image 3 has a side of "wide", not a number of pixels'),
        ({"images": [IMAGE, IMAGE | {"id": 4}], "annotations": []}, "images 3 and 4 are both 000000000003.jpg; give their"),
        ({"images": [IMAGE | {"file_name": "a/../../secret.jpg"}], "annotations": []}, "the path must be below"),
        ({"images": [IMAGE | {"file_name": "..\\secret.jpg"}], "annotations": []}, "the path must be below"),
        ({"images": [IMAGE | {"file_name": "x" * 5000}], "annotations": []}, "x… does not exist"),
        ({"images": [IMAGE | {"file_name": "a\0b"}], "annotations": []}, "does not exist"),
        ({"images": [IMAGE | {"file_name": "."}], "annotations": []}, "does not exist"),
        ({"images": [IMAGE | {"id": 1.5}], "annotations": []}, "an image has the id 1.5; an id must be a whole number or a text"),
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


def test_images_that_are_not_in_the_folder_that_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for name, fault in (("images/a.jpg", "does not exist, but a.json lists it"), ("/data/a.jpg", "the path must be below")):
        path.write_text(json.dumps({"images": [IMAGE | {"file_name": name}], "annotations": [], "categories": [{"id": 4, "name": "a"}]}))
        refused(lambda: read_coco(path, tmp_path), f"{fault}.*; --images names the folder that these names are relative to$")
