"""The command `trickzoo-finetune`, and the images and options that it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.annotated import coco, voc, xml
from tests.commands import Call, caller
from tests.small_recipes import BOXES, run
from trickzoo.cli.finetune import app
from trickzoo.data.location import AnnotatedLocation
from trickzoo.errors import BadData
from trickzoo.recipes.finetune import SMALL_MASKS
from trickzoo.tricks import low_precision


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """A function that runs `trickzoo-finetune` and returns (exit status, stdout, stderr)."""
    return caller(capsys, app)


def test_the_command(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = ("--task", "segmentation", "--images", 10, "--weights", "none", "--epochs", 1, "--base", 32, "--crop", 32, "--short", 32)
    common = (*small, "--workers", 0, "--device", "cpu", "--out", tmp_path / "out")
    status, text, _ = call("shapes", *common, "--batch-size", 4)
    assert status == 0
    assert "learning rate 0.01 for a batch of 4" in text
    assert "generated" in text
    assert "mean IoU" in text
    assert "pixel accuracy" in text
    status, text, _ = call("voc", "--task", "detection", "--print-recipe")
    assert (json.loads(text)["neck"], json.loads(text)["name"]) == ("c4", "paper.detection.voc")
    for emulated in (False, True):
        monkeypatch.setattr(low_precision, "emulates_bf16", lambda emulated=emulated: emulated)
        status, text, _ = call("shapes", *common[:-1], tmp_path / "dry", "--dry-run")
        assert status == 0
        assert "peak memory" in text
        compared = re.search(r"\nin bf16 a step takes \d+\.\d\d s(, \d+\.\d × as fast; choose it with --precision bf16)?\n$", text)
        assert bool(compared) is not emulated, "bf16 is not tried where it is emulated"
    assert not (tmp_path / "dry").exists()


def test_a_recipe_names_the_task(call: Call, tmp_path: Path) -> None:
    def printed(layout: str, recipe: object) -> dict[str, Any]:
        status, text, error = call(layout, "--recipe", recipe, "--print-recipe")
        assert status == 0, error
        found: dict[str, Any] = json.loads(text)
        return found

    assert printed("voc", "small.segmentation")["crop"] == SMALL_MASKS.crop
    assert printed("own", "paper.detection.voc")["neck"] == "c4"
    detector = printed("voc", "faster_rcnn_mobilenet_v1_025.tz_bccd")
    assert (detector["short"], detector["epochs"]) == (240, 30)
    (tmp_path / "mine.json").write_text(json.dumps(detector))
    assert printed("own", tmp_path / "mine.json") == {**detector, "data": "own"}
    (tmp_path / "short.json").write_text(json.dumps({key: detector[key] for key in ("name", "model", "data", "lr")}))
    for recipe, message in (
        ("small.detektion", 'no recipe "small.detektion"; did you mean small.detection'),
        ("own.finetune", "the recipe own.finetune is for classification, not for detection or segmentation; use it with `trickzoo train`"),
        (tmp_path / "none.json", "none.json does not exist"),
        (tmp_path / "short.json", "name the task with --task detection or --task segmentation"),
    ):
        status, _, error = call("voc", "--recipe", recipe)
        assert (status, message in error, len(error.splitlines())) == (2, True, 1), error
    assert "small.segmentation is for segmentation, not for detection" in call("coco", "--recipe", "small.segmentation")[2]


def test_bad_input_is_refused_in_one_line(call: Call, tmp_path: Path) -> None:
    common = (
        "--weights",
        "none",
        "--model",
        "mobilenet_v1_025",
        "--recipe",
        "small.detection",
        "--workers",
        0,
        "--device",
        "cpu",
        "--out",
        tmp_path / "out",
    )
    year = voc(
        tmp_path / "VOCdevkit" / "VOC2007", {stem: xml([("cat", (1, 1, 9, 9))]) for stem in "ab"}, {"train": ["a"], "val": ["b"]}
    ).parent.parent
    (tmp_path / "coco").mkdir()
    cases = [
        (("voc", "--data", year), "name the task with --task detection or --task segmentation"),
        (("coco", "--task", "segmentation", "--data", year), "coco has no annotations for segmentation"),
        (("voc", "--task", "detection"), "name the folder of images with --data"),
        (("shapes", "--task", "detection", "--data", year), "leave --data out"),
        (("shapes", "--task", "detection", "--val-images", 8), "--val-images has no effect: generated shapes have a fifth as many"),
        (("voc", "--task", "detection", "--data", year, *common), "larger than the training set of 1"),
        (("voc", "--task", "detection", "--data", year, "--val", "train", "--batch-size", 1, *common), "are the same; name the splits"),
        (("voc", "--task", "detection", "--data", year, "--year", "1999", *common), "1999"),
        (("voc", "--task", "detection", "--data", year, "--train", "trian", *common), "trian"),
        (("coco", "--annotations", year / "a.json", "--train", "test", *common), "--train or --val has no effect: --annotations and"),
        (("coco", "--data", coco(tmp_path / "coco"), *common), "instances_val2017.json does not exist"),
        (("voc", "--task", "detection", "--data", year, *common, "--shrt", 5), "there is no option --shrt; did you mean --short?"),
        (("voc", "--task", "detection", "--data", year, *common, "--short", "tall"), "short"),
        (
            (
                "voc",
                "--task",
                "detection",
                "--data",
                year,
                *common,
                "--batch-size",
                1,
                "--warmup-steps",
                0,
                "--schedule",
                "step",
                "--milestones",
                "200",
            ),
            "step decay has no effect: no milestone of 200 is within 20 epochs",
        ),
        (
            ("voc", "--task", "detection", "--data", year, *common, "--anchors", "8,16"),
            "anchor_sizes must have a size for each of the strides",
        ),
        (("voc", "--task", "detection", "--data", year, *common, "--neck", "c4"), 'neck="c4" is for ResNets'),
    ]
    for tokens, message in cases:
        status, _, error = call(*tokens)
        assert (status, message in error, len(error.splitlines())) == (2, True, 1), (tokens, error)
        assert not (tmp_path / "out").exists()


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    root = voc(tmp_path / "own", {name: xml([("cat", (1, 1, 9, 9))]) for name in "abcdef"}, {"train": list("abcd"), "val": list("ef")})
    (root / "JPEGImages" / "c.jpg").write_bytes((root / "JPEGImages" / "c.jpg").read_bytes()[:200])
    with pytest.raises(BadData, match=r"c\.jpg.*repair it, or take it out of the split"):
        run(BOXES.but("own", data="voc", warmup_steps=0), tmp_path / "out", AnnotatedLocation("voc", root))
    assert not (tmp_path / "out" / "result.json").exists()
