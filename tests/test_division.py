"""Dividing a set without splits: near duplicates, the share of each class, and that an evaluation finds the division of a training."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.sparse.csgraph import connected_components

from tests.annotated import refused
from tests.commands import Call, caller, evaluate
from tests.images import jpeg
from tests.training import COSINE, SMALL
from trickzoo.classification.open import open_files
from trickzoo.cli import zoo
from trickzoo.cli.train import app
from trickzoo.data.division import ALIKE, ROUNDING, divide, joined, near_duplicates, thumbnails
from trickzoo.data.location import ImageLocation
from trickzoo.data.open import open_part, open_set, open_undivided
from trickzoo.data.selection import Selection, divided, listed, readable, select
from trickzoo.errors import BadData, BadOption, NoEffect
from trickzoo.training.folder import LOCK


def classes(root: Path, n: int = 6, labels: tuple[str, ...] = ("blue", "red")) -> Path:
    """Write a folder of classes without splits. No two images are alike."""
    for c, label in enumerate(labels):
        for i in range(n):
            jpeg(root / label / f"{i}.jpg", 100 * c + i)
    return root


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def test_copies_in_another_size_format_or_quality_are_near_duplicates(tmp_path: Path) -> None:
    first, other = (Image.open(jpeg(tmp_path / f"{seed}.jpg", seed)).resize((400, 300)) for seed in (1, 2))
    files = [
        saved(first, "PNG"),
        saved(other, "PNG"),
        saved(first.resize((200, 150)), "JPEG", quality=50),
        saved(first.crop((3, 3, 397, 297)), "WEBP"),
        saved(Image.new("RGB", (40, 30), (200, 0, 0)), "PNG"),
        saved(Image.new("RGB", (40, 30), (0, 102, 0)), "PNG"),
    ]
    found = near_duplicates(thumbnails(files.__getitem__, [str(i) for i in range(len(files))]))
    assert found.tolist() == [0, 1, 0, 0, 4, 5]


def test_groups_are_those_of_all_pairs_that_are_alike() -> None:
    random = np.random.default_rng(0)
    centres = random.uniform(0, 255, (60, 48))
    values = (centres[random.integers(0, 60, 700)] + random.normal(0, 3.0, (700, 48))).clip(0, 255).astype(np.float32)
    values[-5:] = np.float32(40)
    distance = np.sqrt(((values[:, None].astype(np.float64) - values[None]) ** 2).mean(2))
    limit = np.maximum(ALIKE * values.std(1), ROUNDING)
    number, component = connected_components(distance <= np.minimum(limit[:, None], limit[None]))
    found = near_duplicates(values)
    assert len(set(found.tolist())) == number < 700
    assert len(set(zip(found.tolist(), component.tolist(), strict=True))) == number
    assert all(found[group] == group <= index for index, group in enumerate(found))


def test_each_class_gives_its_share_and_a_group_is_never_separated() -> None:
    labels = ["a"] * 50 + ["b"] * 11 + ["c"] * 3 + ["d"] * 2
    names = [f"{label}/{i}.jpg" for i, label in enumerate(labels)]
    groups = [*[i // 2 for i in range(50)], *range(50, 66)]
    val = divide(names, labels, groups, 0.2, 0)
    assert Counter(label for label, is_val in zip(labels, val, strict=True) if is_val) == {"a": 10, "b": 2, "c": 1}
    assert all(len({bool(val[i]) for i in range(66) if groups[i] == group}) == 1 for group in set(groups))
    assert (divide(names, labels, groups, 0.2, 1) != val).any()
    order = np.random.default_rng(0).permutation(66)
    again = divide([names[i] for i in order], [labels[i] for i in order], [groups[i] for i in order], 0.2, 0)
    assert (again == val[order]).all()
    more = divide([*names, "a/new.jpg"], [*labels, "a"], [*groups, 99], 0.2, 0)
    assert (more[:-1] != val).sum() <= 2


def test_a_class_whose_groups_are_all_large_gives_the_smallest() -> None:
    groups = [0] * 5 + [1] * 4 + [2] * 3
    assert divide([str(i) for i in range(12)], ["a"] * 12, groups, 0.1, 0).nonzero()[0].tolist() == [9, 10, 11]
    assert not divide([str(i) for i in range(12)], ["a"] * 12, [0] * 12, 0.1, 0).any()


def test_groups_of_several_classes_come_near_the_fraction() -> None:
    """Every group, such as a patient, has images of both classes and is larger than a fifth of them, so the smallest is for validation."""
    groups = [0] * 40 + [1] * 30 + [2] * 26
    labels = ["a", "b"] * 48
    names = [str(i) for i in range(96)]
    for seed in range(5):
        assert set(np.asarray(groups)[divide(names, labels, groups, 0.2, seed)]) == {2}
    assert not divide(names, labels, [0] * 95 + [1], 0.001, 0)[:95].any()
    assert not divide(names, ["a"] * 95 + ["b"], [0] * 95 + [1], 0.2, 0).any()  # one group has the whole class


def test_joined_groups_are_the_connected_images() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        alike, keys = (random.integers(0, 25, 60) for _ in range(2))
        groups = np.array([int(np.flatnonzero(alike == each)[0]) for each in alike])
        together = (groups[:, None] == groups) | (keys[:, None] == keys)
        _, component = connected_components(together)
        expected = [int(np.flatnonzero(component == each)[0]) for each in component]
        assert joined(groups, keys.tolist()).tolist() == expected


def test_images_of_a_group_are_on_one_side(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data = tmp_path / "set"
    for label, shift in (("ill", 0), ("well", 500)):
        for patient in range(10):
            for shot in range(3):
                jpeg(data / label / f"p{patient:02}_{shot}.jpg", shift + 10 * patient + shot)
    jpeg(data / "ill" / "other.jpg", 1000)
    call = caller(capsys, zoo, "split", data, tmp_path / "split.csv")
    status, text, error = call("--group-by", "p[0-9]+", "--split-seed", 3)
    assert status == 0, error
    assert (
        f'{data}: 49 training and 12 validation images, divided by --val-fraction 0.2 --split-seed 3; 10 groups by --group-by "p[0-9]+"; '
        "1 image whose name has no match, such as ill/other.jpg, is divided alone\n"
    ) in text
    sides: dict[str, set[str]] = {}
    for row in csv.DictReader((tmp_path / "split.csv").open()):
        sides.setdefault(Path(row["path"]).name.split("_")[0], set()).add(row["split"])
    assert {len(side) for side in sides.values()} == {1}
    assert list(sides.values()).count({"val"}) == 2
    whole = open_undivided(data)
    by_class = divided(whole, Selection(val_fraction=0.2, group_by=r"^(\w+)/(p\d+)"))[2].facts["split"]
    assert (by_class["group_by"], by_class["groups"]) == (r"^(\w+)/(p\d+)", 20)
    assert [call("--group-by", wrong)[0::2] for wrong in ("p[", "doctor")] == [
        (2, 'trickzoo: --group-by: "p[" is not a regular expression: unterminated character set at position 1\n'),
        (2, f'trickzoo: {data}: --group-by "doctor" matches no name of an image, such as ill/other.jpg\n'),
    ]
    with pytest.raises(NoEffect, match=r"--group-by .* --val-fraction"):
        ImageLocation(data=data, selection=Selection(group_by="p"))


def test_a_minival_keeps_groups_together(tmp_path: Path) -> None:
    for patient in range(10):
        for shot in range(4):
            jpeg(tmp_path / "train" / "a" / f"p{patient}_{shot}.jpg", 10 * patient + shot)
            jpeg(tmp_path / "train" / "b" / f"p{patient}_{shot}.jpg", 300 + 10 * patient + shot)
    for label, seed in (("a", 900), ("b", 901)):
        jpeg(tmp_path / "val" / label / "1.jpg", seed)
    train, minival, selected, _ = open_files(ImageLocation(data=tmp_path, selection=Selection(group_by=r"p\d+"), minival=0.2))
    of = [{entry.name.rsplit("/")[-1].split("_")[0] for entry in part.entries} for part in (train, minival)]
    assert (len(of[0]), len(of[1]), of[0] & of[1]) == (8, 2, set())
    assert selected.facts["minival"]["groups"] == 10


def test_a_training_keeps_its_division_and_an_evaluation_finds_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    call, out = caller(capsys, app, "--recipe", COSINE), tmp_path / "run"
    data = classes(tmp_path / "set", 10)
    (data / "red" / "again.jpg").write_bytes((data / "red" / "3.jpg").read_bytes())
    options = (*SMALL, "--data", data, "--out", out, "--workers", 0, "--val-fraction", 0.2)
    status, text, _ = call(*options)
    assert status == 0
    assert (
        f"{data}: 17 training and 4 validation images, divided by --val-fraction 0.2 --split-seed 0; "
        "1 near duplicate not separated from the original image\n"
    ) in text
    result = json.loads((out / "result.json").read_text())
    assert result["split"] == {"val_fraction": 0.2, "seed": 0, "near_duplicates": 1}
    rows = list(csv.DictReader((out / "split.csv").open()))
    assert Counter((row["label"], row["split"]) for row in rows) == {
        ("red", "train"): 9,
        ("red", "val"): 2,
        ("blue", "train"): 8,
        ("blue", "val"): 2,
    }
    (side,) = {row["split"] for row in rows if row["path"] in ("red/3.jpg", "red/again.jpg")}
    assert side in ("train", "val")
    assert call(*options)[0] == 0  # finished: the same training
    status, _, error = call(*options, "--split-seed", 1)
    assert (status, "belongs to another training run: its data is" in error) == (2, True)
    begun = shutil.copytree(out, tmp_path / "begun")  # as if it was killed after its last checkpoint
    for name in ("result.json", "model.safetensors"):
        (begun / name).unlink()
    status, _, error = call(*(begun if each == out else each for each in options), "--split-seed", 1)
    assert (status, "belongs to another training run" in error) == (2, True), error
    assert (begun / "split.csv").read_bytes() == (out / "split.csv").read_bytes()
    status, text, _ = call(*SMALL, "--data", data, "--out", tmp_path / "again", "--workers", 0, "--split-file", out / "split.csv")
    assert status == 0
    again = json.loads((tmp_path / "again" / "result.json").read_text())
    assert [again[key] for key in ("data_digest", "val_digest", "top1")] == [result[key] for key in ("data_digest", "val_digest", "top1")]

    evaluation = ("--data", data, "--split-file", out / "split.csv", "--model", out / "model.safetensors")
    caplog.clear()
    found = evaluate(*evaluation, out=tmp_path / "e.json")
    assert caplog.messages == []
    assert (found["n"], found["top1"]) == (4, result["top1"])
    as_data = ("--data", out / "split.csv", "--images", data, "--model", out / "model.safetensors")
    assert evaluate(*as_data, out=tmp_path / "f.json")["data"]["digest"] == found["data"]["digest"]
    assert evaluate("--data", data, "--model", out, out=tmp_path / "g.json")["n"] == 21
    (seen,) = caplog.messages
    assert f"17 of 21 images have the names of training images of {out / 'model.safetensors'}; " in seen
    assert seen.endswith(f"leave them out with --split val --split-file {out / 'split.csv'}")
    caplog.clear()
    alone = shutil.copyfile(out / "model.safetensors", tmp_path / "alone.safetensors")  # without its list
    trained_on = (*evaluation[:4], "--split", "train", "--model", alone)
    assert evaluate(*trained_on, out=tmp_path / "h.json")["n"] == 17
    assert caplog.messages == ["the model was trained on these very images: the figures say little about other images"]
    caplog.clear()
    calibrate = caller(capsys, zoo, "calibrate", out, "--data", data, "--workers", 0)
    calibrate()
    assert caplog.messages == [seen]
    calibrate("--split-file", out / "split.csv")
    assert caplog.messages == [seen]

    caplog.clear()
    options = (*SMALL, "--data", data, "--workers", 0, "--val-fraction", 0.2, "--pretrained", out, "--dry-run")
    assert call(*options)[0] == 0
    assert not [message for message in caplog.messages if "training images of" in message]
    assert call(*options, "--split-seed", 1)[0] == 0
    (seen,) = [message for message in caplog.messages if "training images of" in message]
    assert seen.startswith("validation: ")
    assert seen.endswith(f"divide them as that training run did, with --split-file {out / 'split.csv'}")


@pytest.mark.parametrize("name", ["split.csv", "model.safetensors", "best.pt", "log.csv", "predictions.csv", "report.html"])
def test_a_training_replaces_no_file_of_the_user(name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    call, out = caller(capsys, app, "--recipe", COSINE), tmp_path / "run"
    data = classes(tmp_path / "set", 10)
    options = (*SMALL, "--data", data, "--out", out, "--workers", 0)
    out.mkdir()
    parts = {
        str(file.relative_to(data)): "val" if file.stem == "0" else "test" if file.stem == "1" else "train" for file in data.rglob("*.jpg")
    }
    (tmp_path / "split.csv").write_text("path,split,drawn_by\n" + "".join(f"{path},{part},Anna\n" for path, part in parts.items()))
    shutil.copyfile(tmp_path / "split.csv", out / name)
    before = (out / name).read_bytes()
    status, _, error = call(*options, "--split-file", out / name if name == "split.csv" else tmp_path / "split.csv")
    assert (status, error) == (
        2,
        f"trickzoo: {out / name} is not of this training run, which would replace it; name another --out, or move it away\n",
    )
    assert (out / name).read_bytes() == before
    (out / name).unlink()
    assert [path.name for path in out.iterdir()] == [LOCK]


def test_a_training_replaces_no_result_of_another_recipe(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    call, out = caller(capsys, app, "--recipe", COSINE), tmp_path / "run"
    options = (*SMALL, "--data", classes(tmp_path / "set", 10), "--val-fraction", 0.2, "--out", out, "--workers", 0)
    out.mkdir()
    assert call(*options)[0] == 0
    (out / "model.safetensors").unlink()
    (out / "last.pt").unlink()
    result = (out / "result.json").read_bytes()
    status, _, error = call(*options, "--lr", 0.5)
    assert (status, "result.json has another recipe: lr is" in error) == (2, True), error
    assert (out / "result.json").read_bytes() == result


def test_a_training_that_was_killed_before_its_first_last_checkpoint_begins_again(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    call, out = caller(capsys, app, "--recipe", COSINE), tmp_path / "run"
    options = (*SMALL, "--data", classes(tmp_path / "set", 10), "--val-fraction", 0.3, "--out", out, "--workers", 0)
    assert call(*options)[0] == 0
    for path in out.iterdir():
        if path.name != "best.pt":
            path.unlink()
    status, _, error = call(*options, "--lr", 0.5)
    assert (status, "best.pt is not of this training run, which would replace it" in error) == (2, True), error
    assert call(*options)[0] == 0


def test_a_folder_of_training_images_alone_is_divided_and_its_test_images_are_left_alone(tmp_path: Path) -> None:
    classes(tmp_path / "train")
    classes(tmp_path / "test", 2)
    train, val, _ = divided(open_undivided(tmp_path), Selection(val_fraction=0.3))
    assert (len(train.names), len(val.names)) == (8, 4)
    assert len(open_set(tmp_path, split="test").entries) == 4
    refused(
        lambda: open_set(tmp_path, split="val"),
        r"has train/ but no val/; put images in val/, take some of train/ for it with --val-fraction 0\.2, or evaluate",
    )
    (tmp_path / "valid" / "a").mkdir(parents=True)
    assert len(open_undivided(tmp_path).entries) == 12  # folders that were made and not filled hold no images
    classes(tmp_path / "valid", 1)
    refused(lambda: open_undivided(tmp_path), "has validation images and cannot be divided; use it without", BadOption)


@pytest.mark.parametrize("n", [1, 2])
def test_classes_too_small_to_divide_are_refused_and_none_is_lost(tmp_path: Path, n: int) -> None:
    data = open_undivided(classes(tmp_path, n, tuple("abcde")))
    refused(
        lambda: divided(data, Selection(val_fraction=0.2)),
        rf"leaves no validation image of {5 * n}, because no class has three images; add images, or divide them by a list",
    )


def test_a_folder_without_splits_asks_for_the_fraction(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, _, error = caller(capsys, app)("--recipe", COSINE, *SMALL, "--data", classes(tmp_path / "s"), "--out", tmp_path / "o")
    assert status == 2
    assert error.endswith("put them in train/ and val/, or take some of them for validation with --val-fraction 0.2\n")


def test_a_list_that_does_not_fit_the_images(tmp_path: Path) -> None:
    images = open_set(classes(tmp_path / "set", 2), split="train")
    table = tmp_path / "split.csv"
    rows = {"blue/0.jpg": "train", "blue/1.jpg": "val", "red/0.jpg": "train", "red/1.jpg": "train"}

    def write(rows: dict[str, str], more: str = "") -> None:
        table.write_text("path,split\n" + "".join(f"{name},{split}\n" for name, split in rows.items()) + more)

    write(rows)
    assert listed(images, table, "val").names == ("blue/1.jpg",)
    refused(lambda: listed(images, table, "test"), 'has no image of the split "test", only of train, val')
    write(rows | {"red/9.jpg": "val"})
    refused(lambda: listed(images, table, "val"), r"split\.csv, line 6: .*set has no image red/9\.jpg")
    write(rows, "blue/0.jpg,val\n")
    refused(lambda: listed(images, table, "val"), r"line 6: blue/0\.jpg is listed twice, as train and as val")
    write({"blue/0.jpg": "train"})
    refused(lambda: listed(images, table, "train"), r"does not name 3 images of .*, such as blue/1\.jpg; add them, or divide anew")


def test_options_that_exclude_each_other() -> None:
    refused(lambda: Selection(val_fraction=0.1, split_file=Path("s.csv")), "both divide the images", BadOption)
    refused(lambda: Selection(split_seed=1), "--split-seed has no effect", NoEffect)
    refused(lambda: Selection(val_fraction=1.0), "val_fraction must be above 0 and below 1, not 1", BadOption)


def test_images_that_cannot_be_read_are_left_out_counted_and_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data = classes(tmp_path / "set", 10)
    whole = (data / "red" / "0.jpg").read_bytes()
    (data / "red" / "half.jpg").write_bytes(whole[: len(whole) // 2])
    (data / "blue" / "empty.jpg").write_bytes(b"")
    call = caller(capsys, app, "--recipe", COSINE, *SMALL, "--data", data, "--workers", 0, "--val-fraction", 0.2)
    status, _, error = call("--out", tmp_path / "a")
    assert (status, "blue/empty.jpg is not a readable image (empty file)" in error) == (2, True)
    status, text, _ = call("--out", tmp_path / "b", "--skip-corrupt")
    assert status == 0
    assert f"{data}: 2 images cannot be read and are left out: blue/empty.jpg, red/half.jpg\n" in text
    result = json.loads((tmp_path / "b" / "result.json").read_text())
    assert [each["image"] for each in result["corrupt_left_out"]["all"]] == ["blue/empty.jpg", "red/half.jpg"]
    assert result["corrupt_left_out"]["all"][0]["reason"].endswith("is not a readable image (empty file)")
    assert (result["n_train"], result["n"]) == (16, 4)
    assert call("--out", tmp_path / "b", "--skip-corrupt")[0] == 0  # finished: the same training
    table = tmp_path / "b" / "split.csv"
    judged = caller(capsys, zoo, "eval", "imagenet", "--data", data, "--model", tmp_path / "b", "--workers", 0, "--json")
    status, text, _ = judged("--split-file", table)
    assert (status, json.loads(text)["results"][0]["top1"]) == (0, result["top1"])
    (data / "blue" / "new.jpg").write_bytes(whole)
    status, _, error = judged("--split-file", table)
    assert (status, f"{table} does not name 3 images of {data}, such as blue/new.jpg; add them" in error) == (2, True), error
    (data / "blue" / "new.jpg").unlink()
    for path in data.rglob("*.jpg"):
        path.write_bytes(b"")
    refused(lambda: readable(open_set(data)), "not one of 22 images can be read; the first: .*empty file", BadData)


def test_images_of_each_split_that_cannot_be_read_are_named_with_its_folder(tmp_path: Path) -> None:
    for split in ("train", "val"):
        (classes(tmp_path / split, 5) / "red" / f"of_{split}.jpg").write_bytes(b"")
    openers = (lambda: open_set(tmp_path), lambda split: open_set(tmp_path, split=split))
    _, _, selected = select(Selection(skip_corrupt=True), *openers)
    assert selected.notes == tuple(
        f"{tmp_path / split}: 1 image cannot be read and is left out: red/of_{split}.jpg" for split in ("train", "val")
    )


@pytest.fixture
def split(capsys: pytest.CaptureFixture[str]) -> Call:
    return caller(capsys, zoo, "split")


def test_split_writes_a_list_or_a_folder_of_links(split: Call, tmp_path: Path) -> None:
    data = classes(tmp_path / "set", 5)
    status, text, _ = split(data, tmp_path / "split.csv")
    assert (status, text.splitlines()[-1]) == (0, str(tmp_path / "split.csv"))
    rows = list(csv.DictReader((tmp_path / "split.csv").open()))
    assert split(data, tmp_path / "links")[0] == 0
    for row in rows:
        link = tmp_path / "links" / row["split"] / row["path"]
        assert link.read_bytes() == (data / row["path"]).read_bytes()
    for part in ("train", "val"):
        mine = [row["label"] for row in rows if row["split"] == part]
        assert sorted(entry.label for entry in open_set(tmp_path / "links", split=part).entries) == sorted(mine)
    assert split(data, tmp_path / "links")[::2] == (
        2,
        f"trickzoo: {tmp_path / 'links'} is there already; name a new folder, or a list that ends in .csv\n",
    )
    assert split(data, tmp_path / "split.csv")[0] == 0  # the same division
    status, _, error = split(data, tmp_path / "split.csv", "--val-fraction", 0.4)
    assert (status, "split.csv exists already, with another split; name another list" in error) == (2, True)
    assert list(csv.DictReader((tmp_path / "split.csv").open())) == rows
    table = tmp_path / "set" / "labels.csv"
    table.write_text("".join(f"red/{i}.jpg,../up\n" for i in range(4)))
    status, _, error = split(table, tmp_path / "up")
    assert (status, 'the class "../up" cannot be the name of a folder' in error) == (2, True)
    assert not (tmp_path / "up").exists()


def test_a_list_of_another_kind_and_a_folder_among_the_images_are_refused(split: Call, tmp_path: Path) -> None:
    data = classes(tmp_path / "set", 5)
    for out, message in (("list.txt", "ends in .txt; name a list that ends in .csv"), ("set/out", "would then be there twice")):
        status, _, error = split(data, tmp_path / out)
        assert (status, message in error, (tmp_path / out).exists()) == (2, True, False), error


def test_classes_that_look_like_formulas_keep_their_names(split: Call, tmp_path: Path) -> None:
    labels = ("'=quoted", "+1", "-1", "=sum", "@x")
    data = classes(tmp_path / "set", 4, labels)
    assert split(data, tmp_path / "split.csv")[0] == 0
    assert "'=sum" in (tmp_path / "split.csv").read_text()
    assert open_set(tmp_path / "split.csv", folder=data, split="train").classes == open_undivided(data).classes == labels


def test_a_list_names_paths_that_begin_with_blanks(split: Call, tmp_path: Path) -> None:
    data = classes(tmp_path / "set", 4, (" red", "blue"))
    assert split(data, tmp_path / "split.csv")[0] == 0
    names = {part: open_part(data, part, tmp_path / "split.csv").names for part in ("train", "val")}
    assert sorted(names["train"] + names["val"]) == sorted(open_undivided(data).names)


def test_a_list_is_not_written_over_the_one_that_is_read(split: Call, tmp_path: Path) -> None:
    classes(tmp_path, 4)
    table = tmp_path / "labels.csv"
    table.write_text("path,label,patient\n" + "".join(f"{c}/{i}.jpg,{c},{i}\n" for c in ("blue", "red") for i in range(4)))
    before = table.read_bytes()
    status, _, error = split(table, table)
    assert (status, "would replace a file that the command reads; name another file" in error) == (2, True)
    assert table.read_bytes() == before


def test_split_leaves_out_images_that_cannot_be_read(split: Call, tmp_path: Path) -> None:
    data = classes(tmp_path / "set", 4)
    (data / "red/broken.jpg").symlink_to(tmp_path / "nowhere.jpg")
    status, _, error = split(data, tmp_path / "list.csv")
    assert status == 2 and "--skip-corrupt leaves out images" in error
    status, text, _ = split(data, tmp_path / "list.csv", "--skip-corrupt")
    assert status == 0 and "1 image cannot be read and is left out: red/broken.jpg" in text
    assert "broken" not in (tmp_path / "list.csv").read_text()
    assert split(data, tmp_path / "links", "--skip-corrupt")[0] == 0
    assert sorted(path.name for path in (tmp_path / "links").rglob("*.jpg")) == sorted(f"{i}.jpg" for i in range(4) for _ in "ab")
