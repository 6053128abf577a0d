"""Class folders as people have them, with odd names, links and files that are not images, and the messages about them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.images import jpeg
from trickzoo.classification.open import open_data
from trickzoo.data import images as image_files
from trickzoo.data.location import ImageLocation
from trickzoo.data.open import open_set
from trickzoo.data.readers.imagenet import open_imagenet
from trickzoo.errors import BadData
from trickzoo.recipes.recipe import Recipe
from trickzoo.training.machine import Machine


def names(path: Path, split: str = "val") -> list[tuple[str, str]]:
    return [(entry.name, entry.label) for entry in open_imagenet(path, split=split).entries]


def test_unread_files_are_counted_and_named_in_training_and_in_evaluation(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for split in ("train", "val"):
        for name in ("red", "blue"):
            jpeg(tmp_path / split / name / "0.jpg", len(name))
    train = tmp_path / "train"
    for file in ("red/a.heic", "red/b.heic", "blue/notes.txt", "readme.md", "red/.ipynb_checkpoints/0-checkpoint.jpg", ".old/1.jpg"):
        (train / file).parent.mkdir(exist_ok=True)
        (train / file).write_bytes(b"")
    (train / "red" / ".DS_Store").write_bytes(b"")
    (train / "red" / "Thumbs.db").write_bytes(b"")
    jpeg(train / "@eaDir" / "thumbnail.jpg")
    wanted = (
        f"{train}: 7 files are not read as images and left out (3 .jpg, 2 .heic, 1 .txt, 1 .md): .old/1.jpg, @eaDir/thumbnail.jpg, "
        "blue/notes.txt, readme.md, red/.ipynb_checkpoints/0-checkpoint.jpg, red/a.heic, red/b.heic"
    )
    assert len(open_set(tmp_path, split="train").entries) == 2
    assert caplog.messages == [wanted]
    caplog.clear()
    open_data(Recipe("r", "mobilenet_v1_025", "own", size=32), ImageLocation(data=tmp_path), Machine(out=tmp_path / "out", workers=0))
    assert wanted in caplog.messages


@pytest.mark.parametrize("suffix", [".jfif", ".JPG", ".gif"])
def test_every_suffix_of_a_format_that_is_read_is_an_image(suffix: str, tmp_path: Path) -> None:
    jpeg(tmp_path / "a" / f"0{suffix}")
    assert names(tmp_path) == [(f"a/0{suffix}", "a")]
    assert suffix.lower() in image_files.EXTENSIONS


def test_a_class_may_be_called_as_a_split_is(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for name in ("bus", "train", "val"):
            jpeg(tmp_path / split / name / "0.jpg")
    for split in ("train", "val"):
        for path in (tmp_path, tmp_path / split):
            assert [label for _, label in names(path, split)] == ["bus", "train", "val"]
    assert open_imagenet(tmp_path, split="train").root == tmp_path / "train"


def test_folders_that_are_all_named_as_splits_are_no_classes(tmp_path: Path) -> None:
    for name in ("train_images", "TestImages", "val-2"):
        jpeg(tmp_path / name / "0.jpg")
    with pytest.raises(BadData, match="holds TestImages, train_images, val-2, which are named as splits, and hold no class folders"):
        open_imagenet(tmp_path)
    jpeg(tmp_path / "training wheels" / "0.jpg")  # is named as a split too
    with pytest.raises(BadData, match="which are named as splits"):
        open_imagenet(tmp_path)
    jpeg(tmp_path / "cats" / "0.jpg")
    assert len(open_imagenet(tmp_path).classes) == 5
    for name in ("freight train", "passenger train"):  # all mean the same split
        jpeg(tmp_path / "trains" / name / "0.jpg")
    assert open_imagenet(tmp_path / "trains").classes == ("freight train", "passenger train")


def test_names_of_classes_stay_as_they_are(tmp_path: Path) -> None:
    wanted = [" lead", "007", "1 storey", "7", "a.b", "cat ", "n[1]"]
    for name in wanted:
        jpeg(tmp_path / name / "0.jpg")
    assert [label for _, label in names(tmp_path)] == wanted


def test_composed_and_decomposed_accents_are_the_same_name(tmp_path: Path) -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    jpeg(tmp_path / "train" / composed / "0.jpg")
    jpeg(tmp_path / "val" / decomposed / "0.jpg")
    assert open_imagenet(tmp_path, split="train").classes == open_imagenet(tmp_path).classes == (composed,)
    jpeg(tmp_path / "val" / composed / "1.jpg")
    with pytest.raises(BadData, match="has 2 class folders caf\u00e9, which differ only in how the accents are stored; merge them"):
        open_imagenet(tmp_path)


def test_classes_whose_names_differ_only_in_capitals_or_blanks_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("Red", "red ", "blue"):
        jpeg(tmp_path / name / "0.jpg")
    assert open_imagenet(tmp_path).classes == ("Red", "blue", "red ")
    (message,) = caplog.messages
    assert 'the classes "Red", "red " differ in capitals, blanks or leading zeros only; they are different classes' in message


def test_a_name_that_is_not_text_is_refused(tmp_path: Path) -> None:
    jpeg(tmp_path / os.fsdecode(b"caf\xe9") / "0.jpg")
    with pytest.raises(BadData, match=r"the name of the class folder b'caf\\xe9' is not UTF-8; rename it"):
        open_imagenet(tmp_path)


def test_links_are_followed_but_not_back(tmp_path: Path) -> None:
    jpeg(tmp_path / "store" / "deep" / "0.jpg")
    jpeg(tmp_path / "set" / "a" / "1.jpg")
    (tmp_path / "set" / "b").symlink_to(tmp_path / "store")
    (tmp_path / "set" / "a" / "more").symlink_to(tmp_path / "store" / "deep")
    (tmp_path / "set" / "a" / "back").symlink_to(tmp_path / "set")
    (tmp_path / "set" / "a" / "self").symlink_to(tmp_path / "set" / "a" / "self")
    found = open_imagenet(tmp_path / "set")
    assert [entry.name for entry in found.entries] == ["a/1.jpg", "a/more/0.jpg", "b/deep/0.jpg"]
    assert found.unread == ("a/back", "a/self")


def test_pipes_and_deeply_nested_folders_are_refused_or_left_out(tmp_path: Path) -> None:
    jpeg(tmp_path / "a" / "0.jpg")
    os.mkfifo(tmp_path / "a" / "1.jpg")
    assert open_imagenet(tmp_path).unread == ("a/1.jpg",)
    (tmp_path / "a" / Path(*["d"] * 150)).mkdir(parents=True)
    with pytest.raises(BadData, match="is nested more than 100 folders deep"):
        open_imagenet(tmp_path)


def test_classes_that_training_lacks_are_named(tmp_path: Path) -> None:
    for split, labels in (("train", ("red", "blue")), ("val", ("red", "BLUE"))):
        for name in labels:
            for i in range(2):
                jpeg(tmp_path / split / name / f"{i}.jpg", i)
    machine = Machine(out=tmp_path / "out", workers=0)
    recipe = Recipe("r", "mobilenet_v1_025", "own", size=32)
    with pytest.raises(BadData, match="class BLUE is not among the training set's 2 classes; did you mean blue"):
        open_data(recipe, ImageLocation(data=tmp_path), machine)
    jpeg(tmp_path / "val" / "green" / "0.jpg")
    with pytest.raises(BadData, match=r"2 classes \(BLUE, green\) are not among the training set's 2 classes; did you mean blue"):
        open_data(recipe, ImageLocation(data=tmp_path), machine)


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_the_folder_of_validation_images_has_several_names(name: str, tmp_path: Path) -> None:
    for split in ("train", name, "test"):
        jpeg(tmp_path / split / "a" / "0.jpg")
    assert open_imagenet(tmp_path, split="val").root == tmp_path / name
    assert open_imagenet(tmp_path, split="train").root == tmp_path / "train"


@pytest.mark.parametrize(("train", "val"), [("Train", "Val"), ("TRAIN", "Valid"), ("training", "validation"), ("train", "dev")])
def test_split_folders_may_have_other_names_and_capitals(train: str, val: str, tmp_path: Path) -> None:
    jpeg(tmp_path / train / "a" / "0.jpg")
    jpeg(tmp_path / val / "a" / "1.jpg")
    assert names(tmp_path, "train") == [("a/0.jpg", "a")]
    assert names(tmp_path, "val") == [("a/1.jpg", "a")]


def test_two_folders_of_a_split_are_refused(tmp_path: Path) -> None:
    for name in ("train", "valid", "val"):
        jpeg(tmp_path / name / "a" / "0.jpg")
    for split in ("train", "val"):
        with pytest.raises(BadData, match=r"val and valid mean the same split; merge them, or rename or remove one"):
            open_imagenet(tmp_path, split=split)
    (tmp_path / "val").rename(tmp_path / "Valid")
    with pytest.raises(BadData, match=r"Valid and valid mean the same split"):
        open_imagenet(tmp_path)


def test_splits_that_are_taken_for_classes_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            jpeg(tmp_path / "unpacked" / "photos" / split / name / "0.jpg")
            jpeg(tmp_path / "other" / f"photos_{split}" / name / "0.jpg")
    open_imagenet(tmp_path / "unpacked")
    within = tmp_path / "unpacked" / "photos"
    assert caplog.messages == [f"{within.parent}: photos is taken for a class, and contains train, val; if these are splits, name {within}"]
    caplog.clear()
    open_imagenet(tmp_path / "other")
    assert caplog.messages == [
        f"{tmp_path / 'other'}: photos_train, photos_val are taken for the classes, and all of them contain cat, dog; "
        "if these are the classes, call the folders above them train and val"
    ]
    caplog.clear()
    open_imagenet(within)
    jpeg(tmp_path / "tiny" / "cat" / "images" / "0.jpg")
    jpeg(tmp_path / "tiny" / "dog" / "images" / "0.jpg")
    open_imagenet(tmp_path / "tiny")
    assert caplog.messages == []


def test_a_class_may_be_called_valid(tmp_path: Path) -> None:
    for name in ("valid", "invalid"):
        jpeg(tmp_path / name / "0.jpg")
    assert names(tmp_path) == [("invalid/0.jpg", "invalid"), ("valid/0.jpg", "valid")]


def test_empty_class_folders_are_reported_and_are_not_classes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for split in ("train", "val"):
        for name in ("a", "b"):
            for number in range(2):
                jpeg(tmp_path / split / name / f"{number}.jpg", number)
        (tmp_path / split / "c").mkdir()
    (tmp_path / "train" / "d").mkdir()
    location = ImageLocation(data=tmp_path)
    data = open_data(Recipe("r", "mobilenet_v1_025", "own", size=32), location, Machine(out=tmp_path / "out", workers=0))
    assert data.train.classes == data.val.classes == ("a", "b")
    assert f"{tmp_path / 'train'}: 2 class folders are empty and left out: c, d" in caplog.messages
    assert f"{tmp_path / 'val'}: 1 class folder is empty and left out: c" in caplog.messages
