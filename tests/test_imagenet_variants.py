"""Variants of ImageNet, and its reassessed labels, against timm."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from timm.data import RealLabelsImagenet

import trickzoo
from tests.annotated import refused
from tests.commands import Call, caller, evaluate
from tests.images import jpeg
from trickzoo.cli import evaluation
from trickzoo.data.classes import IMAGENETTE, imagenet1k
from trickzoo.data.imagenet_variants import VARIANTS, check_variant, read_real_labels, trained_on
from trickzoo.data.readers.imagenet import open_imagenet

SMALL = ("--size", 32, "--crop", 1.0, "--interpolation", "bilinear")


@pytest.fixture
def thousand(tmp_path: Path) -> Path:
    """A random network of ImageNet's classes."""
    torch.manual_seed(0)
    trickzoo.export(trickzoo.create("mobilenet_v1_025"), tmp_path / "thousand.safetensors")
    return tmp_path / "thousand.safetensors"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs `trickzoo-eval imagenet`; (exit status, stdout, stderr)."""
    return caller(capsys, evaluation, "imagenet")


def logits_of(weights: Path, paths: list[Path]) -> torch.Tensor:
    """The logits of images that need no resizing."""
    transform = trickzoo.eval_transform(trickzoo.weights.record.Preprocessing(size=32, crop=1.0, interpolation="bilinear"))
    images = torch.stack([transform(Image.open(path)) for path in paths])
    with torch.inference_mode():
        return trickzoo.create("mobilenet_v1_025", weights=weights)(images)


def test_imagenet_a_is_judged_among_its_classes(thousand: Path, tmp_path: Path, run: Call) -> None:
    folder = tmp_path / "imagenet-a"
    for i, synset in enumerate(VARIANTS["a"].classes):
        jpeg(folder / synset / f"0.0001_{i}_word _ word_0.9.jpg", i % 50)
    (folder / "README.txt").write_text("about")
    tokens = ("--data", folder, "--model", "mobilenet_v1_025", "--weights", thousand, *SMALL, "--variant", "a")
    result = evaluate(*tokens, out=tmp_path / "out.json")
    assert (result["variant"], result["n"], result["restricted"]["classes"]) == ("ImageNet-A", 200, 200)
    indices = [int(line) for line in (Path(trickzoo_timm()) / "imagenet_a_indices.txt").read_text().split()]
    assert [imagenet1k()[index] for index in indices] == list(VARIANTS["a"].classes)
    paths = sorted(folder.rglob("*.jpg"))
    narrow = logits_of(thousand, paths)[:, indices]  # as timm's validate.py does
    assert result["restricted"]["top1_correct"] == sum(int(row.argmax()) == i for i, row in enumerate(narrow))
    assert result["data"]["named_as_imagenet_training"] == 0

    images = open_imagenet(folder)
    missing = set(VARIANTS["r"].classes) - set(VARIANTS["a"].classes)
    refused(lambda: check_variant(images, "r"), rf"imagenet-a lacks n01443537, and ImageNet-R has 200 classes \({len(missing)} differ\)")
    refused(lambda: check_variant(images, "v2"), "lacks n01440764, and ImageNet-V2 has 1,000 classes")
    assert {name: len(variant.classes) for name, variant in VARIANTS.items()} == {"v2": 1000, "a": 200, "r": 200, "sketch": 1000}
    status, _, err = run(*tokens[:-1], "sketch", "--workers", 0)
    assert status == 2 and "and ImageNet-Sketch has 1,000 classes" in err.splitlines()[-1]


def trickzoo_timm() -> Path:
    """The folder of timm's lists."""
    import timm

    return Path(timm.__file__).parent / "data" / "_info"


def test_reassessed_labels_are_judged_as_by_timm(thousand: Path, tmp_path: Path, run: Call) -> None:
    paths = []
    for i in range(8):
        paths.append(tmp_path / "val" / imagenet1k()[i % 3] / f"ILSVRC2012_val_{i + 1:08d}.JPEG")
        jpeg(paths[-1], i)
    logits = logits_of(thousand, paths)
    top = logits.topk(5).indices.tolist()
    labels = [[], [top[1][0]], [top[2][4], 3], [5, 6, top[3][0]], [7], [], [top[6][1]], [999]]
    real = tmp_path / "real.json"
    real.write_text(json.dumps(labels))
    timm = RealLabelsImagenet([path.name for path in paths], str(real))
    timm.add_result(logits)
    tokens = ("--data", tmp_path / "val", "--model", "mobilenet_v1_025", "--weights", thousand, *SMALL)
    found = evaluate(*tokens, "--labels", real, out=tmp_path / "out.json")["real"]
    assert (found["top1"], found["top5"]) == pytest.approx((timm.get_accuracy(1), timm.get_accuracy(5)), abs=1e-3)
    assert (found["n"], found["without_labels"]) == (6, 2) and found["top5"] > found["top1"] > 0
    low, high = found["top1_interval"]
    assert low < found["top1"] < high
    status, out, _ = run(*tokens, "--labels", "real", "--workers", 0)
    assert status == 0 and "by the reassessed labels of" in out

    wrong = tmp_path / "wrong.json"
    for text, message in (
        ("{}", "is not a list of lists"),
        ("[[1000]]", "image 1 has the label 1000"),
        ("[" * 5000, "is not a list of lists"),
    ):
        wrong.write_text(text)
        refused(lambda: read_real_labels(wrong), message)
    wrong.write_text("[[1]]")
    status, out, err = run(*tokens, "--labels", wrong, "--workers", 0)
    assert (status, out, err.count("\n")) == (
        2,
        "",
        1,
    ) and "has no reassessed labels: they are for ILSVRC2012_val_00000001.JPEG and so on, 1 image;" in err
    refused(lambda: read_real_labels(tmp_path / "gone.json"), "gone.json cannot be read")
    bundled = read_real_labels(None)
    assert len(bundled) == 50_000 and sum(not each for each in bundled) == 3_163
    status, _, err = run(*tokens, "--labels", "real", "--variant", "a")
    assert status == 2 and "leave one of them out" in err


def test_images_of_imagenets_training_are_noticed(thousand: Path, tmp_path: Path, run: Call) -> None:
    for i, synset in enumerate(IMAGENETTE):
        for name in (f"{synset}_{1000 + i}.JPEG", f"ILSVRC2012_val_0000{1000 + i}.JPEG"):
            jpeg(tmp_path / "imagenette2" / "val" / synset / name, i)
    assert trained_on(open_imagenet(tmp_path / "imagenette2")) == 10
    tokens = ("--data", tmp_path / "imagenette2", "--model", "mobilenet_v1_025", "--weights", thousand, *SMALL, "--workers", 0)
    status, out, _ = run(*tokens)
    assert status == 0 and "10 images are named as ImageNet's training images" in out
