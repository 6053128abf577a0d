"""Masks in the exports of annotation tools: every form gives the same masks, and the usual damage has a message."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.annotated import lists, refused, voc, xml
from tests.exports import photograph, write
from tests.mask_exports import (
    CLASSES,
    CLASSES_OF,
    COLOURS,
    MASKS,
    black_and_white,
    coloured,
    cvat_masks,
    grey,
    numbers,
    roboflow_masks,
    truth,
    zero_and_one,
)
from trickzoo.data.location import AnnotatedLocation, open_splits
from trickzoo.data.masks import IGNORE, SegmentationSet
from trickzoo.data.readers.mask_classes import MaskClasses, read_list
from trickzoo.data.selection import Selection, readable
from trickzoo.errors import BadOption


def check(data: SegmentationSet, name: str, stems: tuple[str, ...] | list[str]) -> None:
    """Assert that the set has the masks of these images, and counts what is in them."""
    assert [Path(image).stem for image in data.names] == sorted(stems)
    wanted = [truth(stem, len(data.classes)) for stem in sorted(stems)]
    for index, mask in enumerate(wanted):
        image, found = data.read(index)
        assert image.size == (40, 30)
        np.testing.assert_array_equal(found, mask)
    counts = np.bincount(np.concatenate(wanted).ravel(), minlength=len(data.classes))
    assert data.survey.counts == dict(zip(CLASSES_OF.get(name, CLASSES), counts.tolist(), strict=True))
    assert data.survey.left_out == 0


def test_folders_may_have_capitals(tmp_path: Path) -> None:
    numbers(tmp_path)
    for folder in ("images", "masks"):
        (tmp_path / folder).rename(tmp_path / folder.title())
    assert len(AnnotatedLocation("own", tmp_path).open_undivided("segmentation").names) > 1


@pytest.mark.parametrize("place", ["images", "images/train", "train/images"])
def test_images_and_masks_may_have_equal_subfolders(place: str, tmp_path: Path) -> None:
    stems = {"0": "a", "left/0": "b", "left/1": "c", "right/0": "d", "right/far/0": "e", "right/far/1": "f"}
    for name, stem in stems.items():
        photograph(tmp_path / place, f"{name}.jpg")
        grey(tmp_path / place.replace("images", "masks") / f"{name}.png", truth(stem))
    write(tmp_path / "classes.txt", "".join(f"{name}\n" for name in CLASSES))
    location = AnnotatedLocation("own", tmp_path)
    data = location.open("segmentation", "train") if "train" in place else location.open_undivided("segmentation")
    assert sorted(data.names) == [f"{place}/{name}.jpg" for name in stems]
    for index, name in enumerate(data.names):
        stem = stems[name.removeprefix(f"{place}/").removesuffix(".jpg")]
        np.testing.assert_array_equal(data.read(index)[1], truth(stem))


def test_subfolders_of_cvat(tmp_path: Path) -> None:
    cvat_masks(tmp_path)
    for folder, suffix in (("JPEGImages", "jpg"), ("SegmentationClass", "png")):
        (tmp_path / folder / "night").mkdir()
        (tmp_path / folder / f"b.{suffix}").rename(tmp_path / folder / "night" / f"b.{suffix}")
    write(tmp_path / "ImageSets" / "Segmentation" / "default.txt", "a\nnight/b\n")
    data = AnnotatedLocation("own", tmp_path).open_undivided("segmentation")
    assert data.names == ("JPEGImages/a.jpg", "JPEGImages/night/b.jpg")
    for index, stem in enumerate("ab"):
        np.testing.assert_array_equal(data.read(index)[1], truth(stem))


def test_an_image_in_a_subfolder_needs_a_mask_in_the_same(tmp_path: Path) -> None:
    numbers(tmp_path)
    photograph(tmp_path / "images" / "more", "g.jpg")
    grey(tmp_path / "masks" / "g.png", truth("g"))
    refused(lambda: AnnotatedLocation("own", tmp_path).open_undivided("segmentation"), "1 image of 7 without a mask, such as more/g.jpg")


@pytest.mark.parametrize("layout", ["own", "masks"])
@pytest.mark.parametrize("name", MASKS)
def test_every_export_gives_the_same_masks(name: str, layout: str, tmp_path: Path) -> None:
    form = MASKS[name]
    form.write(tmp_path)
    location = AnnotatedLocation(layout, tmp_path)
    if form.parts is None:
        data = location.open_undivided("segmentation")
        assert data.layout == form.said
        check(data, name, list("abcdef"))
        refused(
            lambda: location.open("segmentation", "train"), "has no splits; train with --val-fraction 0.2, or evaluate with --split all"
        )
        return
    for split, stems in form.parts.items():
        data = AnnotatedLocation(layout, tmp_path, val=split).open("segmentation", "val")
        assert data.layout == form.said
        check(data, name, list(stems))
    refused(lambda: location.open_undivided("segmentation"), "has validation images and cannot be divided; use it without", BadOption)


@pytest.mark.parametrize("name", MASKS)
def test_files_added_by_operating_systems_are_ignored(name: str, tmp_path: Path) -> None:
    form = MASKS[name]
    form.write(tmp_path)
    for path in [path for path in tmp_path.rglob("*") if path.is_file()]:
        (path.parent / f"._{path.name}").write_bytes(b"\0\5\x16\7")
    location = AnnotatedLocation("own", tmp_path)
    if form.parts is None:
        check(location.open_undivided("segmentation"), name, list("abcdef"))
    else:
        check(location.open("segmentation", "train"), name, list(form.parts["train"]))


def test_a_palette_of_black_and_white_is_read_by_its_colours(tmp_path: Path) -> None:
    black_and_white(tmp_path)
    wanted = [AnnotatedLocation("own", tmp_path).open_undivided("segmentation").read(i)[1] for i in range(6)]
    for path in (tmp_path / "masks").iterdir():
        inverted = Image.fromarray((np.asarray(Image.open(path)) == 0).astype(np.uint8)).convert("P")
        inverted.putpalette([255, 255, 255, 0, 0, 0])
        inverted.save(path)
    data = AnnotatedLocation("own", tmp_path).open_undivided("segmentation")
    assert all(np.array_equal(data.read(i)[1], mask) for i, mask in enumerate(wanted))


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("one_bit", ["b", "abcdef"], ids=["one of them", "all"])
def test_the_white_of_masks_of_one_bit_is_that_of_the_others(one_bit: str, listed: bool, tmp_path: Path) -> None:
    """Pillow and ImageMagick write black-and-white images with one bit a pixel, OpenCV with eight."""
    black_and_white(tmp_path)
    if listed:
        write(tmp_path / "classes.txt", "ground\nobject\n")
    wanted = [AnnotatedLocation("own", tmp_path).open_undivided("segmentation").read(i)[1] for i in range(6)]
    for stem in one_bit:
        path = tmp_path / "masks" / f"{stem}.png"
        Image.fromarray(np.asarray(Image.open(path)) > 0).save(path)
        assert Image.open(path).mode == "1"
    data = AnnotatedLocation("own", tmp_path).open_undivided("segmentation")
    assert all(np.array_equal(data.read(i)[1], mask) for i, mask in enumerate(wanted))
    assert len(data.classes) == 2 and sum(data.survey.counts.values()) == 6 * 30 * 40


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_a_colour_has_one_number_in_the_palettes_of_all_masks(order: tuple[int, ...], tmp_path: Path) -> None:
    """Colours are the same in all masks, but the numbers of one mask are in another order."""
    numbers(tmp_path)
    for path in (tmp_path / "masks").iterdir():
        colours = order if path.stem == "d" else (0, 1, 2)
        image = Image.fromarray(np.argsort(colours).astype(np.uint8)[np.asarray(Image.open(path))]).convert("P")
        image.putpalette([value for number in colours for value in COLOURS[number]])
        image.save(path)
    data = AnnotatedLocation("own", tmp_path).open_undivided("segmentation")
    if order == (0, 1, 2):
        assert sum(data.survey.counts.values()) == 6 * 30 * 40
    else:
        refused(lambda: data.survey, r"d\.png has the colour \(70, 130, 180\) for the number 0, and .*\.png for 2; save all masks with")


def test_masks_of_0_and_255_are_said_divided_and_identified(tmp_path: Path) -> None:
    black_and_white(tmp_path)
    splits = open_splits(AnnotatedLocation("own", tmp_path, selection=Selection(val_fraction=0.34)), "segmentation")
    assert splits.selected.notes[0] == f"{tmp_path}: images and masks in images/ and masks/, no splits, 2 classes"
    assert (len(splits.train), len(splits.val)) == (4, 2)
    assert splits.train.classes == ("background", "object")
    digest = splits.val.digest
    write(tmp_path / "classes.txt", "ground\nobject\n")
    splits = open_splits(AnnotatedLocation("own", tmp_path, selection=Selection(val_fraction=0.34)), "segmentation")
    assert splits.val.digest != digest


def test_255_is_not_white_in_a_split_without_a_pixel_of_1(tmp_path: Path) -> None:
    for split, last in (("train", 1), ("val", 0)):
        mask = np.zeros((20, 20), np.uint8)
        mask[5:9, 5:9], mask[0] = last, 255
        for stem in "ab":
            image = Image.fromarray(np.full((20, 20, 3), ord(stem) + last, np.uint8))
            for folder, content in (("images", image), ("masks", Image.fromarray(mask))):
                (tmp_path / split / folder).mkdir(parents=True, exist_ok=True)
                content.save(tmp_path / split / folder / f"{stem}.png")
    judged = open_splits(AnnotatedLocation("masks", tmp_path), "segmentation").val.survey
    assert (judged.counts, judged.left_out) == ({"background": 760, "object": 0}, 40)


def test_colours_that_are_not_judged(tmp_path: Path) -> None:
    for stem in "abc":
        photograph(tmp_path / "images", f"{stem}.jpg")
        coloured(tmp_path / "masks" / f"{stem}.png", truth(stem))
    write(tmp_path / "classes.txt", "void 0 0 0\nroad 128 64 128\nsky 70 130 180\n")
    data = AnnotatedLocation("masks", tmp_path).open_undivided("segmentation")
    wanted = np.array([IGNORE, 0, 1], np.uint8)[truth("a")]
    np.testing.assert_array_equal(data.read(0)[1], wanted)
    assert data.survey.left_out == sum(int((truth(stem) == 0).sum()) for stem in "abc")


@pytest.mark.parametrize("form", [numbers, zero_and_one, black_and_white])
def test_masks_that_cannot_be_read_are_left_out(form: Callable[[Path], None], tmp_path: Path) -> None:
    form(tmp_path)
    (tmp_path / "masks" / "b.png").write_bytes(b"no mask")
    found, bad = readable(AnnotatedLocation("masks", tmp_path).open_undivided("segmentation"))
    assert (len(found), [each["image"] for each in bad]) == (5, ["images/b.jpg"])


def text(path: str, content: str) -> Callable[[Path], None]:
    return lambda root: write(root / path, content)


def gone(path: str) -> Callable[[Path], None]:
    return lambda root: (root / path).unlink()


def repaint(path: str, colour: tuple[int, int, int]) -> Callable[[Path], None]:
    def do(root: Path) -> None:
        with Image.open(root / path) as image:
            image.load()
        image.putpixel((7, 3), colour)
        image.save(root / path)

    return do


def as_jpeg(root: Path) -> None:
    for path in (root / "masks").iterdir():
        Image.open(path).save(path.with_suffix(".jpg"))
        path.unlink()


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("numbers", gone("images/a.jpg"), r"images: 1 mask without an image, such as a\.png; add images, or move such masks away"),
        ("numbers", gone("masks/a.png"), r"masks: 1 image of 6 without a mask, such as a\.jpg; add masks, or move such images away"),
        ("numbers", gone("classes.txt"), "the masks have the values 0, 1, 2, and no list names them; write classes.txt, one name per line"),
        ("numbers", text("classes.txt", "background\nroad\nsky\nvoid\n"), ""),
        ("numbers", text("classes.txt", "background\nroad\n"), r"has the value 2; the classes are 0 to 1"),
        ("numbers", lambda root: grey(root / "masks" / "a.png", truth("a")[:20]), r"a\.png is 40 × 20 pixels and its image 40 × 30"),
        ("numbers", text("labelmap.txt", "a:0,0,0::\n"), r"two lists of classes, labelmap\.txt and classes\.txt; remove one"),
        ("splits of colours", text("classes.txt", "background 0 0 0\nroad\nsky 1 2 3\n"), '"road" is not a class with its colour'),
        (
            "splits of colours",
            text("classes.txt", "background 0 0 0\nroad 0 0 0\n"),
            "background and road have the same colour",
        ),
        (
            "splits of colours",
            text("classes.txt", "background\nroad\nsky\n"),
            "has colours, and .*txt states none; add",
        ),
        ("splits of colours", gone("classes.txt"), r"the colours \(0, 0, 0\), \(70, 130, 180\), \(128, 64, 128\), and no list names them"),
        (
            "splits of colours",
            repaint("train/masks/a.png", (1, 2, 3)),
            r"has the colour \(1, 2, 3\) at x = 7, y = 3, which",
        ),
        (
            "palettes",
            text("labelmap.txt", "background:0,0,0::\nroad:128,64,127::\n"),
            r"a\.png has the colour \(128, 64, 128\) at x = 0, y = 0",
        ),
        ("palettes", text("labelmap.txt", "background:0,0,0::\nroad:128,64,300::\n"), '"road:128,64,300::" is not a class with its colour'),
        ("CVAT masks", gone("SegmentationClass/a.png"), "SegmentationClass has no mask a, but ImageSets/Segmentation/default.txt lists it"),
        ("CVAT masks", gone("JPEGImages/a.jpg"), "JPEGImages has no image a, but ImageSets/Segmentation/default.txt lists it"),
        ("CVAT CamVid", gone("Trainannot/a.png"), r"Trainannot/a\.png does not exist, but Train\.txt, line 1, lists it"),
        ("CVAT CamVid", text("Train.txt", "Train/a.jpg\n"), "Train.txt, line 1, does not name an image and a mask in Trainannot/"),
        ("Roboflow masks", gone("train/a_mask.png"), r"train: 1 image of 3 without a mask, such as a\.jpg"),
        ("Roboflow masks", gone("train/a.jpg"), r"train: 1 mask without an image, such as a_mask\.png"),
        (
            "Roboflow masks",
            text("train/_classes.csv", "Pixel Value, Class\n0, background\n2, road\n"),
            "does not list the classes of 0, 1",
        ),
        ("0 and 255", as_jpeg, "the masks have the values .*, …, and no list names them"),
    ],
)
def test_usual_damage_has_a_message(name: str, damage: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    form = MASKS[name]
    form.write(tmp_path)
    damage(tmp_path)
    location = AnnotatedLocation("own", tmp_path)

    def opened() -> None:
        data = location.open_undivided("segmentation") if form.parts is None else location.open("segmentation", "train")
        _ = data.survey

    if message:
        refused(opened, message)
    else:
        opened()


@pytest.mark.parametrize(("layout", "part"), [("lists", "."), ("voc", "VOC2012"), ("voc", ".")])
def test_masks_in_another_layout_are_said(layout: str, part: str, tmp_path: Path) -> None:
    if layout == "lists":
        lists(tmp_path, [0, 1])
    else:
        write(tmp_path / part / "ImageSets" / "Segmentation" / "train.txt", "a\n")
        (tmp_path / part / "SegmentationClass").mkdir()
        voc(tmp_path / part, {"a": xml()})
    location = AnnotatedLocation("own", tmp_path)
    message = f"has masks in the layout {layout}, not as annotation tools export them; name it, as in `trickzoo finetune {layout}`"
    refused(lambda: location.open("segmentation", "train"), message)
    refused(lambda: location.open_undivided("segmentation"), message)


def test_lists_of_classes(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    for content in (
        "cat 1 2 3\nbig dog 4 5 6\n",
        "cat,1,2,3\nbig dog,4,5,6\n",
        "1 2 3 cat\n4,5,6,big dog\n",
        "cat: (1, 2, 3)\nbig dog: (4, 5, 6)\n",
    ):
        write(path, content)
        assert read_list(path) == MaskClasses(("cat", "big dog"), colours=(0x010203, 0x040506))
    write(path, "0 cat\n1 building facade\n2 void\n")
    assert read_list(path) == MaskClasses(("cat", "building facade"), ignored=(2,))
    write(path, "void 0 0 0\n")
    refused(lambda: read_list(path), "has no class that is judged")


def test_the_lists_of_roboflow_are_found_in_each_split(tmp_path: Path) -> None:
    roboflow_masks(tmp_path)
    (tmp_path / "valid" / "_classes.csv").unlink()
    refused(lambda: AnnotatedLocation("masks", tmp_path).open("segmentation", "val"), 'has no split "val", only train, test')
