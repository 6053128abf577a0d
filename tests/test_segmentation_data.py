"""Readers of masks: 255 marks the pixels that do not count in every layout, and files that do not fit are refused in one line."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.annotated import lists, mask, refused
from tests.images import bomb, jpeg
from trickzoo.data import masks
from trickzoo.data.masks import SegmentationSet, segmentation_shapes
from trickzoo.data.readers.ade20k import open_ade20k
from trickzoo.data.readers.mask_lists import open_lists
from trickzoo.data.readers.voc import CLASSES as VOC_CLASSES
from trickzoo.data.readers.voc import open_voc_masks
from trickzoo.data.shapes import CLASSES, Shapes


def values(data: SegmentationSet, index: int = 0) -> list[int]:
    return np.unique(data.read(index)[1]).tolist()


def rows(*numbers: int) -> np.ndarray:
    """A mask of 40 × 30 pixels with bands of these values."""
    return np.repeat(np.resize(numbers, 30)[:, None], 40, 1)


def voc_masks(folder: Path, split: str = "train\n") -> Path:
    jpeg(folder / "JPEGImages" / "train.jpg")
    mask(folder / "SegmentationClass" / "train.png", rows(0, 20, 255), "P")
    (folder / "ImageSets" / "Segmentation").mkdir(parents=True)
    (folder / "ImageSets" / "Segmentation" / "train.txt").write_text(split)
    return folder


def ade20k(folder: Path, values: Any = 150) -> Path:
    for split in ("training", "validation"):
        jpeg(folder / "images" / split / "a.jpg")
        mask(folder / "annotations" / split / "a.png", values)
    return folder


# ---------------------------------------------------------------------------------------------------------------------
# layouts


def test_voc_masks_are_palette_numbers(tmp_path):
    data = open_voc_masks(voc_masks(tmp_path / "VOC2012"))
    assert data.classes == ("background", *VOC_CLASSES)
    assert values(data) == [0, 20, 255]
    image, classes = data.read(0)
    assert image.mode == "RGB" and classes.shape == (30, 40) and classes.dtype == np.uint8


def test_coarser_voc_masks_serve_where_there_are_no_others(tmp_path):
    folder = voc_masks(tmp_path / "VOCdevkit" / "VOC2012", "train\nmore\n")
    refused(lambda: open_voc_masks(tmp_path), "JPEGImages has no image more, but ImageSets/Segmentation/train.txt lists it")
    jpeg(folder / "JPEGImages" / "more.jpg")
    refused(lambda: open_voc_masks(tmp_path), "SegmentationClass has no mask more, but ImageSets/Segmentation/train.txt lists it")
    for stem in ("train", "more"):
        mask(folder / "SegmentationClassAug" / f"{stem}.png", 3, "P")
    data = open_voc_masks(tmp_path, year="2012")
    assert [values(data, i) for i in range(2)] == [[0, 20, 255], [3]]
    refused(lambda: open_voc_masks(tmp_path, "val"), 'has no split "val"; there are train')
    refused(lambda: open_voc_masks(tmp_path, year="2007"), "has no VOC2007, only VOC2012")


def test_voc_masks_of_a_folder_of_its_own_bring_their_classes(tmp_path):
    folder = voc_masks(tmp_path / "cells")
    own = "cells is not a folder of VOC; list the classes of its masks in .*classes.txt, one per line, background first"
    refused(lambda: open_voc_masks(folder), own)
    for content in ("RBC\nWBC\n", "RBC\nbackground\n", "void\n"):
        (folder / "classes.txt").write_text(content)
        refused(lambda: open_voc_masks(folder), "classes.txt does not begin with background, which is 0 in VOC's masks; put it first")
    (folder / "classes.txt").write_text("0 background\n1 RBC\n2 WBC\n3 void\n")
    mask(folder / "SegmentationClass" / "train.png", rows(0, 1, 2, 3, 255), "P")
    data = open_voc_masks(folder)
    assert data.classes == ("background", "RBC", "WBC")
    assert values(data) == [0, 1, 2, 255]
    mask(folder / "SegmentationClass" / "train.png", rows(0, 4), "P")
    refused(lambda: data.read(0), "train.png has the value 4; the classes are 0 to 2, and 3, 255 is not judged")


def test_large_masks_are_looked_up_in_strips(tmp_path, monkeypatch):
    folder = voc_masks(tmp_path / "cells")
    (folder / "classes.txt").write_text("background\nRBC\nWBC\n")
    numbers = np.random.default_rng(0).choice([0, 1, 2, 255], (30, 40)).astype(np.uint8)
    mask(folder / "SegmentationClass" / "train.png", numbers, "P")
    monkeypatch.setattr(masks, "STRIP", 7)
    assert np.array_equal(open_voc_masks(folder).read(0)[1], numbers)
    numbers[29, 39] = 9
    mask(folder / "SegmentationClass" / "train.png", numbers, "P")
    refused(lambda: open_voc_masks(folder).read(0), "train.png has the value 9; the classes are 0 to 2")


def test_voc_masks_of_a_years_folder_that_is_the_current_one(tmp_path, monkeypatch):
    monkeypatch.chdir(voc_masks(tmp_path / "VOC2012"))
    assert open_voc_masks(Path()).classes == ("background", *VOC_CLASSES)


def test_ade20ks_other_is_ignored_and_classes_move_down(tmp_path):
    data = open_ade20k(ade20k(tmp_path, rows(0, 1, 150, 255)))
    assert values(data) == [0, 149, 255]
    assert len(data.classes) == 150 and data.classes[0] == "class 1"
    assert data.layout == "ADE20K training" and open_ade20k(tmp_path, "val").layout == "ADE20K validation"
    names = [f"{i}\t0.1\t1\t1\t0\tname {i}, other name" for i in range(1, 151)]
    (tmp_path / "objectInfo150.txt").write_text("\n".join(["Idx\tRatio\tTrain\tVal\tStuff\tName", *names]))
    assert open_ade20k(tmp_path).classes[149] == "name 150"
    (tmp_path / "objectInfo150.txt").write_text("\n".join(names))
    refused(lambda: open_ade20k(tmp_path), "objectInfo150.txt does not list classes 1 to 150")


def test_ade20k_in_its_own_folder_and_wrong(tmp_path):
    folder = ade20k(tmp_path / "ADEChallengeData2016")
    assert values(open_ade20k(tmp_path)) == [149]
    refused(lambda: open_ade20k(tmp_path, "tests"), 'ADE20K has no split "tests"; .*there are train, val')
    mask(folder / "annotations" / "training" / "b.png", 1)
    refused(lambda: open_ade20k(tmp_path), "1 of 2 in training have no image, the first b")
    jpeg(folder / "images" / "training" / "b.jpg"), jpeg(folder / "images" / "training" / "c.jpg")
    refused(lambda: open_ade20k(tmp_path), "1 of 3 in training have no mask, the first c")
    shutil.rmtree(folder / "images" / "training")
    refused(lambda: open_ade20k(tmp_path), "images/training does not exist")
    (folder / "images" / "training").mkdir()
    shutil.rmtree(folder / "annotations" / "training")
    (folder / "annotations" / "training").mkdir()
    refused(lambda: open_ade20k(tmp_path), "ADE20K training has no image")


def test_lists_of_images_and_masks(tmp_path):
    data = open_lists(lists(tmp_path, [rows(0, 1, 2), 1, 255]))
    assert data.classes == ("sky", "road") and data.ignored == (2,)
    assert [values(data, i) for i in range(3)] == [[0, 1, 255], [1], [255]]


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        ("sky\nroad\n", ("sky", "road")),
        ("9" * 5000 + " sky\n", ("9" * 5000 + " sky",)),
        ("1\tsky\n2\ttall tree\n", ("sky", "tall tree")),
        ("0 sky\n1 tall tree\n", ("sky", "tall tree")),
        ("0: sky\n1: void\n", ("sky",)),
        ("1: 1 storey\n2: 2 storeys\n", ("1 storey", "2 storeys")),
        ("1 storey\n2 storeys\nhouse\n", ("1 storey", "2 storeys", "house")),
        ("2 storeys\n3 storeys\n", ("2 storeys", "3 storeys")),
    ],
)
def test_class_lists_with_numbers_or_without(classes, names, tmp_path):
    assert open_lists(lists(tmp_path, [0], classes)).classes == names


def test_numbers_that_are_taken_as_indices_are_said_once(tmp_path, caplog):
    lists(tmp_path, [0], "1: storey\n2: storeys\n3: towers\n4: barns\n")
    for _ in range(2):
        open_lists(tmp_path)
    said = "the numbers before the names count up from 1 and are taken as indices; the classes are storey, storeys, towers, …"
    assert caplog.messages == [f"{tmp_path / 'classes.txt'}: {said}"]


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("", "classes.txt is empty"),
        ("sky\nsky\n", "classes.txt has sky twice"),
        (
            "1 storey\n2 storeys\n",
            'could be indices or parts of the names; write "1: storey" if they are indices, "1: 1 storey" if they are',
        ),
        ("void\nsky\n", '"void" is not a class and must come after the classes; renumber the masks, or give it 255'),
        ("\n".join(f"class {i}" for i in range(256)), "256 classes; there can be 255"),
    ],
)
def test_bad_class_lists(classes, message, tmp_path):
    lists(tmp_path, [0], classes)
    refused(lambda: open_lists(tmp_path), message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "train.txt is empty"),
        ("train/0.jpg\n", "train.txt, line 1, does not name an image and a mask, separated by a space"),
        ("/a/0.jpg train/0.png\n", 'train.txt, line 1, names "/a/0.jpg"; the path must be below'),
        ("train/0.jpg ../0.png\n", 'names "../0.png"; the path must be below'),
        ("train/0.jpg trainannot/0.png\ntrain/1.jpg trainannot/0.png\n", "1.jpg does not exist, but train.txt, line 2, lists it"),
        (b"\xff\xfe\x00", "train.txt is not a text file in UTF-8"),
    ],
)
def test_bad_lists(content, message, tmp_path):
    lists(tmp_path, [0])
    (tmp_path / "train.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(lambda: open_lists(tmp_path), message)
    refused(lambda: open_lists(tmp_path, "val"), 'has no split "val"; there are train')
    refused(lambda: open_lists(tmp_path / "nowhere"), "nowhere is not a folder")


def test_masks_of_one_bit_a_pixel(tmp_path):
    data = open_lists(lists(tmp_path, [rows(0, 1)]))
    Image.fromarray(rows(0, 1).astype(bool)).save(tmp_path / "trainannot" / "0.png")
    assert Image.open(tmp_path / "trainannot" / "0.png").mode == "1"
    assert np.array_equal(data.read(0)[1], rows(0, 1))


def test_lists_of_names_with_spaces_and_accents(tmp_path):
    lists(tmp_path, [0, 1, 1])
    names = [("my image 1.jpg", "my mask 1.png"), ("caf\u00e9.jpg", "caf\u00e9 m.png"), ("a.jpg", "b.png")]
    for i, pair in enumerate(names):
        for old, new in zip((f"train/{i}.jpg", f"trainannot/{i}.png"), pair, strict=True):
            (tmp_path / old).rename(tmp_path / "train" / new.replace("\u00e9", "e\u0301"))
    lines = [f"train/{image}{gap}train/{found}" for (image, found), gap in zip(names, (" ", "\t", "   "), strict=True)]
    (tmp_path / "train.txt").write_bytes(("\ufeff# images and masks\r\n" + "\r\n".join(lines)).encode())
    data = open_lists(tmp_path)
    assert data.pairs[0] == ("train/my image 1.jpg", "train/my mask 1.png")
    assert [values(data, i) for i in range(3)] == [[0], [1], [1]]
    (tmp_path / "train.txt").write_text("train/my image 1.jpg train/my mask 2.png\n")
    wanted = "train.txt, line 1, does not name an existing image and an existing mask; separate the two by a tab"
    refused(lambda: open_lists(tmp_path), wanted)
    for name in ("a", "a b", "b c", "c"):
        (tmp_path / name).touch()
    (tmp_path / "train.txt").write_text("a b c\n")
    refused(lambda: open_lists(tmp_path), "line 1, could be read as several pairs; separate the two by a tab")
    (tmp_path / "train.txt").write_text("a b\tc\na b\tb c\n")
    refused(lambda: open_lists(tmp_path), "train.txt has a b twice")
    (tmp_path / "train.txt").write_text("a " * 500_000 + "b\n")
    refused(lambda: open_lists(tmp_path), "line 1, does not name an image and a mask, separated by a space")


def test_own_mask_classes_in_a_folder_called_as_a_year(tmp_path):
    folder = voc_masks(tmp_path / "VOC2012")
    mask(folder / "SegmentationClass" / "train.png", rows(0, 1, 2, 255), "P")
    (folder / "classes.txt").write_text("background\nhelmet\nvest\n")
    assert open_voc_masks(folder).classes == ("background", "helmet", "vest")
    (folder / "classes.txt").write_text("\n".join(VOC_CLASSES))  # as boxes want them
    assert open_voc_masks(folder).classes == ("background", *VOC_CLASSES)


def test_shapes_with_masks():
    shapes = Shapes("val", 3, size=48, objects="several")
    data = segmentation_shapes(shapes)
    assert data.classes == ("background", *CLASSES) and len(data) == 3
    for index in range(3):
        image, classes = data.read(index)
        assert np.array_equal(np.asarray(image), shapes.draw(index).image)
        assert np.array_equal(classes, shapes.draw(index).semantic)


def test_the_digest_tells_sets_apart(tmp_path):
    sets = [
        open_lists(lists(tmp_path / "a", [0])),
        open_lists(lists(tmp_path / "b", [0, 0])),
        open_lists(lists(tmp_path / "c", [0], "sky\nroad\n")),
        segmentation_shapes(Shapes("val", 1)),
        segmentation_shapes(Shapes("val", 1, seed=1)),
    ]
    assert len({data.digest for data in sets}) == 5
    assert open_lists(tmp_path / "a").digest == sets[0].digest


def test_the_digest_tells_masks_and_images_of_the_same_names_apart(tmp_path):
    found = {open_lists(lists(tmp_path, [0, 1])).digest}
    mask(tmp_path / "trainannot" / "1.png", rows(0, 1))
    found.add(open_lists(tmp_path).digest)
    jpeg(tmp_path / "train" / "1.jpg", 7)
    found.add(open_lists(tmp_path).digest)
    content = bytearray((tmp_path / "train" / "1.jpg").read_bytes())
    content[-9] ^= 1  # as long as it was
    (tmp_path / "train" / "1.jpg").write_bytes(content)
    found.add(open_lists(tmp_path).digest)
    assert len(found) == 4
    data = open_lists(tmp_path)
    (tmp_path / "trainannot" / "1.png").unlink()
    refused(lambda: data.digest, r"1\.png cannot be read")


def test_the_digest_of_the_shapes_stays():
    """Results of generated images are published, and these are the same everywhere."""
    assert (
        segmentation_shapes(Shapes("val", 2, 48, objects="several")).digest
        == "18e7bf9e1de8d82c4fa276f20c62fd0b09e83826ab0b3af4819a5eab5d935d3d"
    )


# ---------------------------------------------------------------------------------------------------------------------
# masks that do not fit


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (rows(0, 3), "0.png has the value 3; the classes are 0 to 1, and 2, 255 is not judged"),
        (254, "0.png has the value 254"),
        (np.zeros((40, 30)), "0.png is 30 × 40 pixels and its image 40 × 30; they must be of one size"),
    ],
)
def test_masks_that_do_not_fit(content, message, tmp_path):
    data = open_lists(lists(tmp_path, [content]))
    refused(lambda: data.read(0), message)


def test_values_outside_ade20ks_classes(tmp_path):
    data = open_ade20k(ade20k(tmp_path, 151))
    refused(lambda: data.read(0), "a.png has the value 151; the classes are 1 to 150, and 0, 255 is not judged")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: mask(path, 1, "RGB"), "0.png is of mode RGB; a mask has one channel of class indices .*, so write the number of"),
        (lambda path: mask(path, 1, "LA"), "is of mode LA"),
        (lambda path: Image.fromarray(np.full((30, 40), 300, np.uint16)).save(path), "has the value 300"),
        (lambda path: Image.fromarray(np.full((30, 40), -1, np.int32)).save(path.with_suffix(".tif")), None),
        (lambda path: path.write_bytes(b"no image"), "0.png is not a readable image"),
        (lambda path: path.write_bytes(b""), "empty file"),
        (lambda path: path.write_bytes(path.read_bytes()[:60]), "0.png is not a readable image"),
        (bomb, "0.png would unpack to more than [0-9,]+ pixels, more than can be read at once: a decompression bomb"),
        (lambda path: path.unlink(), "0.png cannot be read .No such file"),
    ],
)
def test_masks_that_are_none(write, message, tmp_path):
    data = open_lists(lists(tmp_path, [rows(*np.arange(30) % 2)]))
    write(tmp_path / "trainannot" / "0.png")
    if message is None:
        (tmp_path / "train.txt").write_text("train/0.jpg trainannot/0.tif\n")
        data, message = open_lists(tmp_path), "0.tif has the value -1"
    refused(lambda: data.read(0), message)


# ---------------------------------------------------------------------------------------------------------------------
# real ones


@pytest.mark.packs
def test_real_masks(packs):
    for split, n in (("train", 309), ("val", 323), ("aug_only", 216)):
        assert len(open_voc_masks(packs / "voc_mini", split)) == n
    camvid = open_lists(packs / "camvid", "val")
    assert len(open_lists(packs / "camvid")) == 367 and len(camvid) == 101
    assert len(camvid.classes) == 11 and camvid.ignored == (11,)
    found = {value for data in (open_voc_masks(packs / "voc_mini", "val"), camvid) for i in range(0, 60, 4) for value in values(data, i)}
    assert 255 in found and max(found - {255}) <= 20


@pytest.mark.packs
def test_boxes_lie_around_masks(packs):
    """Against a shift by one: the border that masks have inside a box is as wide on the left as on the right, and above as below."""
    from trickzoo.data.readers.voc import open_voc

    boxes, masks = open_voc(packs / "voc_mini", "val"), open_voc_masks(packs / "voc_mini", "val")
    index_of = {Path(name).stem: i for i, (name, _) in enumerate(masks.pairs)}
    borders = []
    for index, image in enumerate(boxes.images):
        objects = boxes.objects_of(index)
        if len(objects) == 1 and image.id in index_of:
            y, x = np.nonzero(masks.read(index_of[str(image.id)])[1] == objects.labels[0])
            x0, y0, x1, y1 = objects.boxes[0]
            borders.append((x.min() - x0, y.min() - y0, x1 - 1 - x.max(), y1 - 1 - y.max()))
    left, top, right, bottom = np.clip(borders, -5, 10).mean(0)
    assert len(borders) > 50
    assert abs(left - right) < 0.5 and abs(top - bottom) < 0.5
