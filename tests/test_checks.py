"""Annotated sets are counted and described before a training, and refused if a training on them would be pointless."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.annotated import coco, lists, mask, refused, voc, xml
from tests.images import jpeg
from tests.small_recipes import BOXES, MASKS, SHAPES
from trickzoo import tasks
from trickzoo.data.boxes import detection_shapes
from trickzoo.data.checks import check, summary_of, summary_of_both
from trickzoo.data.location import AnnotatedLocation, open_splits
from trickzoo.data.masks import SegmentationSet, segmentation_shapes
from trickzoo.data.readers.coco import open_coco
from trickzoo.data.readers.mask_lists import open_lists
from trickzoo.data.readers.voc import open_voc
from trickzoo.data.shapes import Shapes
from trickzoo.training.machine import Machine

CAT, DOG = ("cat", (11, 6, 20, 25)), ("dog", (1, 1, 9, 9))


def rows(*numbers: int) -> np.ndarray:
    """A mask of 40 × 30 pixels with bands of these values, as high as each other."""
    return np.repeat(np.resize(numbers, 30)[:, None], 40, 1)


def masks(folder: Path, values: Sequence[Any], classes: str = "background\nblock\n") -> SegmentationSet:
    """A set of lists whose images are those of no other folder."""
    lists(folder, values, classes)
    for i in range(len(values)):
        jpeg(folder / "train" / f"{i}.jpg", seed=sum(folder.name.encode()) + 1000 * i)
    return open_lists(folder)


# ---------------------------------------------------------------------------------------------------------------------
# boxes


def test_boxes_are_counted_by_class(tmp_path):
    difficult = xml([CAT], extra="<difficult>1</difficult>")
    content = {"a": xml([CAT, CAT, DOG]), "b": xml(), "c": xml([CAT]), "d": difficult, "e": xml([CAT])}
    folder = voc(tmp_path / "own", content, {"train": ["a", "b", "c", "d"], "val": ["e"]})
    (folder / "classes.txt").write_text("dog\ncat\ncow\n")
    found = summary_of_both(open_voc(folder), open_voc(folder, "val"))
    assert found.notes == (
        "training: 4 images, 4 objects: cat 3, dog 1; 1 crowd or difficult",
        "training: 1 of 3 classes never occurs: cow",
        "validation: 1 image, 1 object: cat 1",
        "validation: 2 of 3 classes never occur: dog, cow",
    )
    assert found.content["train"] == {
        "images": 4,
        "copies": 0,
        "objects": 4,
        "objects_left_out": 1,
        "classes": {"dog": {"objects": 1, "images": 1}, "cat": {"objects": 3, "images": 2}, "cow": {"objects": 0, "images": 0}},
        "classes_absent": ["cow"],
    }
    assert found.content["val"]["classes_absent"] == ["dog", "cow"]
    assert found.content["val_images_in_train"] == 0


def test_duplicate_images_are_found_by_their_content(tmp_path):
    content = {stem: xml([CAT]) for stem in "abcdef"}
    folder = voc(tmp_path / "VOC2012", content, {"train": list("abcd"), "val": list("ef")})
    for source, copy in (("a", "c"), ("a", "d"), ("b", "f")):
        shutil.copy(folder / "JPEGImages" / f"{source}.jpg", folder / "JPEGImages" / f"{copy}.jpg")
    found = summary_of_both(open_voc(folder), open_voc(folder, "val"))
    assert found.odd[0] == "training: 2 images are the same as an earlier one (JPEGImages/c.jpg is JPEGImages/a.jpg)"
    assert found.notes[-1] == (
        "1 of 2 validation images occurs among the training images too "
        "(JPEGImages/f.jpg is JPEGImages/b.jpg): their figures say little about new images"
    )
    assert (found.content["train"]["copies"], found.content["val"]["copies"], found.content["val_images_in_train"]) == (2, 0, 1)


def test_boxes_without_anything_to_learn_or_to_judge(tmp_path):
    crowd = {"annotations": [{"id": 1, "image_id": 7, "category_id": 4, "bbox": [1, 2, 3, 4], "iscrowd": 1}]}
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir(), (tmp_path / "c").mkdir()
    crowded, empty = open_coco(coco(tmp_path / "a", crowd)), open_coco(coco(tmp_path / "b", {"annotations": []}))
    full = open_coco(coco(tmp_path / "c"))
    refused(lambda: check(crowded, full), "every object is crowd or difficult in the training images, so there is nothing to learn")
    refused(lambda: check(empty, full), "there is no object in the training images, so there is nothing to learn; .* --train")
    refused(lambda: check(full, crowded), "every object is crowd or difficult in the validation images, so nothing can be judged; .* --val")
    refused(lambda: check(full, empty), "there is no object in the validation images, so nothing can be judged")
    check(full, full)
    assert summary_of(empty).notes[1] == "images: there is no object, so no figure can be computed"


def test_many_classes_take_one_line(tmp_path):
    folder = voc(tmp_path / "own", {"a": xml([(f"class {i:02}", (1, 1, 9, 9)) for i in range(30)])})
    (folder / "classes.txt").write_text("\n".join(f"class {i:02}" for i in range(60)))
    described, absent = summary_of(open_voc(folder)).notes
    assert described.endswith("class 08 1, class 09 1, 20 more classes")
    assert absent.startswith("images: 30 of 60 classes never occur: class 30,") and absent.endswith("class 39 and 20 more")


def test_images_of_another_size_or_unreadable_are_found_before_training(tmp_path):
    folder = voc(tmp_path / "VOC2012", {"a": xml([CAT]), "b": xml([CAT])})
    jpeg(folder / "JPEGImages" / "b.jpg", size=(80, 60))
    refused(lambda: summary_of(open_voc(folder)), "b.jpg is 80 × 60 pixels .*; repair it, or take it out of the split")
    (folder / "JPEGImages" / "b.jpg").write_bytes(b"none")
    refused(lambda: summary_of(open_voc(folder)), "b.jpg is not a readable image .*; repair it, or take it out of the split")


# ---------------------------------------------------------------------------------------------------------------------
# masks


def test_pixels_are_counted_by_class(tmp_path):
    train = masks(tmp_path / "a", [rows(0, 0, 1, 1, 255), rows(0, 1, 1, 1, 3)], "sky\nroad\ntree\nvoid\n")
    val = masks(tmp_path / "b", [rows(0, 2)], "sky\nroad\ntree\nvoid\n")
    found = summary_of_both(train, val)
    assert found.notes == (
        "training: 2 images, 1,920 pixels: road 62.5 %, sky 37.5 %; 480 not judged; mask values 0, 1, 3, 255",
        "training: 1 of 3 classes never occurs: tree",
        "validation: 1 image, 1,200 pixels: sky 50.0 %, tree 50.0 %; mask values 0, 2",
        "validation: 1 of 3 classes never occurs: road",
    )
    assert found.content["train"]["classes"]["road"] == {"pixels": 1200, "images": 2}
    assert found.content["train"]["mask_values"] == {"0": 720, "1": 1200, "3": 240, "255": 240}
    assert found.content["train"]["pixels_left_out"] == 480


def test_masks_of_0_and_255_do_not_train(tmp_path):
    good, wrong = masks(tmp_path / "a", [rows(0, 1)]), masks(tmp_path / "b", [rows(0, 255), 0])
    refused(
        lambda: check(wrong, good),
        "b: every judged pixel of the training masks is background; block never occurs, and the only other value is 255, "
        "which is not judged: did you mean 1",
    )
    assert (
        "validation: every judged pixel is background; block never occurs, and the only other value is 255"
        in summary_of_both(good, wrong).notes[-1]
    )


@pytest.mark.parametrize(
    ("values", "classes", "message"),
    [
        (0, "background\nblock\n", "is background; block never occurs, and the values in the files are 0$"),
        (rows(1, 2), "a\nb\nvoid\n", "is b; a never occurs, and the values in the files are 1, 2$"),
        (rows(0, 255), "a\nb\nc\n", "is a; b, c never occur, and the values in the files are 0, 255$"),
        (255, "a\nb\n", "every pixel is of a value that is not judged in the training images, so there is nothing to learn"),
        (rows(1, 255), "a\nb\n", "is b; a never occurs, and the only other value is 255, which is not judged: did you mean 0"),
    ],
)
def test_masks_with_nothing_to_learn(values, classes, message, tmp_path):
    refused(lambda: check(masks(tmp_path / "a", [values, values], classes), masks(tmp_path / "b", [rows(0, 1)], classes)), message)


def test_masks_in_which_nothing_can_be_judged(tmp_path):
    good, empty = masks(tmp_path / "a", [rows(0, 1)]), masks(tmp_path / "b", [255])
    refused(lambda: check(good, empty), "every pixel is of a value that is not judged in the validation images, so nothing can be judged")


def test_masks_that_do_not_fit_are_found_before_training(tmp_path):
    data = masks(tmp_path / "a", [rows(0, 1), rows(0, 2)])
    refused(lambda: data.survey, "1.png has the value 2; the classes are 0 to 1, .*; repair it, or take it out of the split")
    Image.fromarray(np.full((30, 40), 7_000, np.uint16)).save(tmp_path / "a" / "trainannot" / "1.png")
    refused(lambda: open_lists(tmp_path / "a").survey, "1.png has the value 7000")
    refused(lambda: masks(tmp_path / "c", [np.zeros((40, 30))]).survey, "0.png is 30 × 40 pixels and its image 40 × 30")
    other = masks(tmp_path / "b", [rows(0, 1), np.zeros((60, 80))])
    refused(lambda: other.survey, "1.png is 80 × 60 pixels and its image 40 × 30")


def test_pixels_are_counted_in_strips(tmp_path, monkeypatch):
    monkeypatch.setattr("trickzoo.data.masks.STRIP", 7)
    assert masks(tmp_path / "a", [rows(0, 1)]).survey.counts == {"background": 600, "block": 600}


# ---------------------------------------------------------------------------------------------------------------------
# both splits


def coco_splits(folder: Path, categories: Sequence[tuple[int, str]], used: int) -> AnnotatedLocation:
    """Training images whose category 4 is a motorcycle and 90 a toothbrush, and validation images with these categories."""
    coco(folder)
    objects = [{"id": 1, "image_id": 7, "category_id": used, "bbox": [1, 2, 3, 4], "iscrowd": 0}]
    change = {"categories": [{"id": number, "name": name} for number, name in categories], "annotations": objects}
    (folder / "annotations").rename(folder / "kept")
    coco(folder, change, "val2017")
    (folder / "kept" / "instances_train2017.json").rename(folder / "annotations" / "instances_train2017.json")
    return AnnotatedLocation("coco", folder)


def test_classes_are_known_by_name_in_both_splits(tmp_path):
    splits = open_splits(coco_splits(tmp_path, [(4, "toothbrush"), (90, "motorcycle")], used=90), "detection")
    assert splits.train.classes == splits.val.classes == ("motorcycle", "toothbrush")
    assert splits.val.objects.labels.tolist() == [1]
    assert splits.val.class_ids == (90, 4)  # as its own file has them
    assert splits.val.survey.counts == {"motorcycle": 1, "toothbrush": 0}


def test_validation_images_may_lack_a_class_and_may_not_have_another(tmp_path):
    splits = open_splits(coco_splits(tmp_path / "a", [(7, "toothbrush")], used=7), "detection")
    assert splits.val.objects.labels.tolist() == [2] and splits.val.class_ids == (8, 7)
    assert "validation: 1 of 2 classes never occurs: motorcycle" in summary_of_both(splits.train, splits.val).notes
    other = coco_splits(tmp_path / "b", [(4, "motorcycles"), (90, "toothbrush")], used=90)
    message = 'the validation images have a class "motorcycles", and the training images have none of it; did you mean motorcycle'
    refused(lambda: open_splits(other, "detection"), message)


def test_masks_have_their_classes_in_the_order_of_the_training_split(tmp_path):
    for year, split in (("VOC2007", "train"), ("VOC2012", "val")):
        jpeg(tmp_path / year / "JPEGImages" / "a.jpg")
        mask(tmp_path / year / "SegmentationClass" / "a.png", rows(0, 1, 2))
        (tmp_path / year / "ImageSets" / "Segmentation").mkdir(parents=True)
        (tmp_path / year / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("a\n")
        (tmp_path / year / "classes.txt").write_text("background\nsky\nroad\n")
    location = AnnotatedLocation("voc", tmp_path, year="2007", val_year="2012")
    (tmp_path / "VOC2012" / "classes.txt").write_text("background\nroad\nsky\n")
    message = 'VOC2012 has "road" as class 1, and the training split has "sky"; renumber the masks'
    refused(lambda: open_splits(location, "segmentation"), message)
    (tmp_path / "VOC2012" / "classes.txt").write_text("background\nsky\n")
    message = 'VOC2012 has no class "road", which the training split has; take a set with the classes of the training split'
    refused(lambda: open_splits(location, "segmentation"), message)


def test_a_pointless_training_is_refused_before_it_starts(tmp_path):
    lists(tmp_path / "set", [rows(0, 255), rows(0, 255)], "background\nblock\n")
    for split, index in (("train", 0), ("val", 1)):
        (tmp_path / "set" / f"{split}.txt").write_text(f"train/{index}.jpg trainannot/{index}.png\n")
    location = AnnotatedLocation("lists", tmp_path / "set")
    refused(lambda: tasks.prepare(MASKS, location, Machine(out=tmp_path / "out", device="cpu")), "block never occurs, .* did you mean 1")
    assert not (tmp_path / "out").exists()


def test_a_training_prints_and_stores_the_summary_of_its_images(tmp_path):
    job = tasks.prepare(BOXES, SHAPES, Machine(out=tmp_path / "out", device="cpu", workers=0))
    summary = summary_of_both(job.task.data, job.task.val)
    assert job.task.notes[: len(summary.notes)] == summary.notes
    assert job.task.facts()["data_summary"] == summary.content
    assert summary.content["train"]["images"] == 12


# ---------------------------------------------------------------------------------------------------------------------
# generated images, and real ones


def test_generated_images():
    shapes = Shapes("val", 3, size=48, objects="several")
    boxes, pixels = detection_shapes(shapes), segmentation_shapes(shapes)
    assert boxes.survey.total == sum(len(shapes.draw(i).labels) for i in range(3))
    wanted = np.bincount(np.concatenate([shapes.draw(i).semantic.ravel() for i in range(3)]), minlength=11)
    assert list(pixels.survey.counts.values()) == wanted.tolist()
    assert boxes.contents == pixels.contents == ()
    assert summary_of_both(boxes, boxes).content["val_images_in_train"] == 0


@pytest.mark.packs
def test_real_sets(packs):
    cells = summary_of_both(open_voc(packs / "bccd", "train"), open_voc(packs / "bccd", "val"))
    assert cells.content["train"]["objects"] + cells.content["val"]["objects"] == 292 + 3348 + 301
    assert cells.content["val_images_in_train"] == 0
    streets = summary_of_both(open_lists(packs / "camvid"), open_lists(packs / "camvid", "val"))
    assert len(streets.content["train"]["classes"]) == 11
    assert streets.content["train"]["classes_absent"] == []
    assert set(streets.content["train"]["mask_values"]) == {str(value) for value in range(12)}
