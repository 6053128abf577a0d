"""Generated shapes as images to train on, and to look at."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.commands import Call
from trickzoo.data import cache
from trickzoo.data.resident import Resident, draw_once, squash
from trickzoo.data.shapes import CLASSES, Difficulty, Objects, Shapes


def test_shapes_are_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = Shapes("train", 12, size=32)

    def draw(these: Shapes) -> Resident:
        return draw_once(these, squash(32), "squash32", tmp_path, workers=0)

    first = draw(shapes)
    images, labels = shapes.arrays()
    np.testing.assert_array_equal(first.pixels, images.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(first.labels, labels)
    assert "not photographs" in first.description
    digests = {
        draw(Shapes(split, n, size, seed)).digest for split in ("train", "val") for n, size, seed in ((12, 32, 0), (4, 32, 0), (12, 32, 1))
    }
    assert len(digests) == 6
    monkeypatch.setattr(cache, "_decode", lambda *_: pytest.fail("drawn twice"))
    assert draw(shapes).digest == first.digest


@pytest.mark.parametrize(("name", "called"), [("shapes", "generated shapes"), ("easy_shapes", "generated easy shapes")])
def test_results_on_shapes_say_that_they_are_generated(call: Call, tmp_path: Path, name: str, called: str) -> None:
    small = ("--images", 60, "--seeds", 1, "--rungs", "baseline,mixup", "--epochs", 2, "--batch-size", 16, "--size", 32)
    status, text, _ = call(
        "ladder", "--model", "mobilenet_v1_025", "--set", name, *small, "--workers", 0, "--device", "cpu", "--out", tmp_path
    )
    assert status == 0
    assert "generated, not photographs" in text
    found = json.loads((tmp_path / "mixup-0" / "result.json").read_text())
    assert found["recipe"]["data"] == name
    assert (found["n_train"], found["n"]) == (60, 12)
    assert "60 train images of 32 pixels" in found["data"]
    assert "12 val images of 32 pixels" in found["data"]
    assert "generated" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert called.encode() in (tmp_path / "mixup-0" / "model.safetensors").read_bytes()[:20_000]


@pytest.mark.parametrize(("difficulty", "objects"), [("hard", "one"), ("easy", "several")])
def test_shapes_are_written_by_what_they_show(call: Call, tmp_path: Path, difficulty: Difficulty, objects: Objects) -> None:
    options = ("--n", 2, "--first", 3, "--size", 32, "--difficulty", difficulty, "--objects", objects)
    status, text, _ = call("shapes", tmp_path / "images", *options)
    assert status == 0
    drawn = Shapes("val", 5, size=32, difficulty=difficulty, objects=objects)
    names = [f"{CLASSES[drawn.label(index)]}-{index}.png" for index in (3, 4)]
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == sorted(names)
    assert text == f"2 images in {tmp_path / 'images'}\n"
    with Image.open(tmp_path / "images" / names[1]) as image:
        np.testing.assert_array_equal(np.asarray(image), drawn.draw(4).image)
