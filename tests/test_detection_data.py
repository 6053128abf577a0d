"""Sets of images with boxes, and the readers on real data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.annotated import CAT, voc, xml
from tests.images import jpeg
from trickzoo.data.boxes import detection_shapes
from trickzoo.data.readers.coco import open_coco
from trickzoo.data.readers.voc import open_voc, parse
from trickzoo.data.shapes import CLASSES, Shapes


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
