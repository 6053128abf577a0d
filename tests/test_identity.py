"""The identity of sets: digests of names, contents and labels, those of older versions, and training images among the validation images."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from tests.images import jpeg
from tests.training import RECIPE, run, same
from trickzoo.classification.open import open_data
from trickzoo.data.identity import contents_digest, same_set
from trickzoo.data.imageset import Entry
from trickzoo.data.loaders import Streamed
from trickzoo.data.location import ImageLocation
from trickzoo.data.open import open_set
from trickzoo.data.readers.cifar_places import ArraySet
from trickzoo.data.readers.imagenet import open_imagenet
from trickzoo.data.resident import Resident, decode_once, squash
from trickzoo.data.selection import seen_exactly
from trickzoo.data.split_comparison import compare
from trickzoo.errors import BadCheckpoint, BadData
from trickzoo.recipes.recipe import Recipe
from trickzoo.training import checkpoint
from trickzoo.training.machine import Machine
from trickzoo.weights.loaded import LoadedWeights


def folders(root: Path, n: int = 4) -> Path:
    for c, name in enumerate(("a", "b")):
        for i in range(n):
            jpeg(root / name / f"{i}.jpg", 10 * c + i)
    return root


def test_images_of_a_training_are_told_from_others_of_the_same_names(tmp_path: Path) -> None:
    """In either case: the training run read the contents of all files before it started, or only their names, sizes and times."""
    first, second = (open_set(folders(tmp_path / name)) for name in ("first", "second"))
    (tmp_path / "second" / "a" / "0.jpg").write_bytes((tmp_path / "second" / "b" / "0.jpg").read_bytes())
    for trained_on in (streamed(tmp_path / "first"), resident(tmp_path / "first", tmp_path / "cache")):
        weights = LoadedWeights("x", Path("x"), training={"data_digest": trained_on})
        assert seen_exactly(contents_digest(first), weights, first)
        assert not seen_exactly(contents_digest(second), weights, second)
    assert not seen_exactly(contents_digest(first), LoadedWeights("x", Path("x")), first)


def streamed(root: Path) -> str:
    return Streamed(open_imagenet(root), workers=0).digest


def resident(root: Path, cache: Path) -> str:
    return decode_once(open_imagenet(root), squash(8), "8", cache, workers=0).digest


def test_digests_cover_labels_and_contents(tmp_path: Path) -> None:
    root = folders(tmp_path / "set")
    first = streamed(root), resident(root, tmp_path / "cache")
    assert (streamed(root), resident(root, tmp_path / "cache")) == first
    (root / "a").rename(root / "c")  # the same files, in the same order, with another label
    (root / "c").rename(root / "a")
    assert streamed(root) == first[0]
    os.utime(root / "a" / "0.jpg", ns=(0, 0))
    assert streamed(root) != first[0]
    assert resident(root, tmp_path / "cache") == first[1]  # it has read the contents, so times do not matter
    jpeg(root / "a" / "0.jpg", 99)
    assert resident(root, tmp_path / "cache") != first[1]


def test_corrected_labels_are_other_data(tmp_path: Path) -> None:
    pixels = np.zeros((2, 4, 4, 3), np.uint8)
    sets = [ArraySet(tmp_path, "", tuple(Entry(str(i), x, i) for i, x in enumerate(labels)), pixels=pixels) for labels in ("ab", "ba")]
    digests = [Streamed(images, workers=0).digest for images in sets]
    assert digests[0] != digests[1]
    kept = [decode_once(images, squash(4), "4", tmp_path / "cache", workers=0) for images in sets]
    assert kept[0].digest != kept[1].digest
    changed = ArraySet(tmp_path, "", sets[0].entries, pixels=pixels + 1)
    assert Streamed(changed, workers=0).digest != digests[0]


def test_images_decoded_to_another_side_are_other_data(tmp_path: Path) -> None:
    root = folders(tmp_path / "train")
    shutil.copytree(root, folders(tmp_path / "val"), dirs_exist_ok=True)
    recipe = replace(RECIPE, size=28)

    def digest(side: int | None) -> str:
        location = ImageLocation(data=tmp_path, decode="once", side=side, cache=tmp_path / "cache")
        return str(open_data(recipe, location, Machine(out=tmp_path, workers=0)).train.digest)

    assert digest(None) == digest(32)  # the usual side, whether it is named or not
    assert digest(None).partition("-")[2] != digest(40).partition("-")[2] != digest(48).partition("-")[2]


def test_digests_of_older_versions_are_the_first_part(tmp_path: Path) -> None:
    root = folders(tmp_path / "set")
    entries = open_imagenet(root).entries
    names, contents = hashlib.sha256(), hashlib.sha256()
    for entry in entries:  # as the versions before computed them
        names.update(entry.name.encode() + b"\0")
        contents.update(entry.name.encode() + b"\0" + hashlib.sha256((root / entry.name).read_bytes()).digest())
    for digest, former in ((streamed(root), names), (resident(root, tmp_path / "cache"), contents)):
        assert digest.startswith(former.hexdigest() + "-")
        assert same_set(digest, former.hexdigest())
        assert same_set(former.hexdigest(), digest)
        assert not same_set(digest, "0" * 64)
        assert not same_set(digest, f"{former.hexdigest()}-{'0' * 32}")


def test_trainings_and_results_of_older_versions_go_on(resident: Resident, tmp_path: Path) -> None:
    straight = run(resident, tmp_path / "straight")
    run(resident, tmp_path / "out", save_every=1, stop_after=5)
    path = tmp_path / "out" / "last.pt"
    content = checkpoint.load(path, RECIPE, seed=0, data_digest=resident.digest)
    content["data_digest"] = content["data_digest"].partition("-")[0]
    state = checkpoint.State(**{field.name: content[field.name] for field in fields(checkpoint.State)})
    checkpoint.save(path, state, content)
    assert same(run(resident, tmp_path / "out"), straight)
    result = {"seed": 0, "data_digest": "1" * 64, "recipe": json.loads(json.dumps(content["recipe"]))}
    (tmp_path / "result.json").write_text(json.dumps(result))
    assert checkpoint.result(tmp_path / "result.json", RECIPE, seed=0, data_digest=f"{'1' * 64}-{'2' * 32}") == result
    with pytest.raises(
        BadCheckpoint, match=r"its data is 1{8}, not 3{8}-2{8}, because the images, the times of their files, .*; name another --out"
    ):
        checkpoint.result(tmp_path / "result.json", RECIPE, seed=0, data_digest=f"{'3' * 64}-{'2' * 32}")


def test_images_of_training_in_validation_and_classes_without_any_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folders(tmp_path / "train")
    jpeg(tmp_path / "val" / "a" / "new.jpg", 50)
    shutil.copy(tmp_path / "train" / "b" / "2.jpg", tmp_path / "val" / "a" / "copy.jpg")
    found = compare(open_set(tmp_path, split="train"), open_set(tmp_path))
    assert found.as_result == {"val_images_in_train": 1, "classes_without_val_images": ["b"], "train_images_in_several_classes": 0}
    assert found.repeated == ("a/copy.jpg",)
    splits = open_data(
        Recipe("r", "mobilenet_v1_025", "own", size=32), ImageLocation(data=tmp_path), Machine(out=tmp_path / "out", workers=0)
    )
    assert splits.val.comparison == found
    assert caplog.messages == [
        f"{tmp_path}: 1 of 2 validation images occurs among the training images too "
        "(a/copy.jpg); accuracy on them says nothing about new images",
        f"{tmp_path}: 1 of 2 classes has no validation image (b) and is not judged",
    ]


def test_training_images_of_several_classes_are_named(tmp_path: Path) -> None:
    folders(tmp_path / "train")
    jpeg(tmp_path / "val" / "a" / "new.jpg", 50)
    for name in ("a/same_class.jpg", "b/other_class.jpg"):
        shutil.copy(tmp_path / "train" / "a" / "0.jpg", tmp_path / "train" / name)
    found = compare(open_set(tmp_path, split="train"), open_set(tmp_path))
    assert found.ambiguous == ("a/0.jpg", "a/same_class.jpg", "b/other_class.jpg")
    assert "3 training images are the same as one of another class (a/0.jpg, a/same_class.jpg, " in found.sentences[-1]


def test_files_of_one_size_and_one_end_are_told_apart(tmp_path: Path) -> None:
    for split, first in (("train", b"a"), ("val", b"b")):
        (tmp_path / split / "c").mkdir(parents=True)
        (tmp_path / split / "c" / "0.jpg").write_bytes(first + bytes(10_000))
    assert compare(open_set(tmp_path, split="train"), open_set(tmp_path)).repeated == ()
    shutil.copytree(tmp_path / "train", tmp_path / "val", dirs_exist_ok=True)
    assert compare(open_set(tmp_path, split="train"), open_set(tmp_path)).repeated == ("c/0.jpg",)
    pixels = np.zeros((2, 4, 4, 3), np.uint8)
    array = ArraySet(tmp_path, "", (Entry("0", "c", 0), Entry("1", "c", 1)), pixels=pixels)
    assert compare(array, array).repeated == ("0", "1")


def test_a_file_that_goes_while_sets_are_opened_is_named(tmp_path: Path) -> None:
    images = open_imagenet(folders(tmp_path))
    (tmp_path / "a" / "0.jpg").unlink()
    for open_again in (lambda: Streamed(images, workers=0), lambda: compare(images, images)):
        with pytest.raises(BadData, match=r"a/0.jpg cannot be read \(No such file or directory\)"):
            open_again()
