"""The files that `trickzoo predict` writes, and its error messages."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

import trickzoo
from tests.commands import Call, caller
from tests.deployment import NO_BF16, openvino_has_bf16
from trickzoo.cli import predict, predict_rows, zoo
from trickzoo.data import image_memory
from trickzoo.data.boxes import DetectionSet
from trickzoo.data.readers.coco import read_coco
from trickzoo.drawing import palette
from trickzoo.training.processes import default_workers


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs `trickzoo predict`; (exit status, stdout, stderr)."""
    return caller(capsys, zoo, "predict")


def test_predictions_are_written_as_csv(call: Call, trained: Path, tmp_path: Path) -> None:
    table = tmp_path / "found.csv"
    for task, columns, key in (("classes", 5, "top"), ("boxes", 7, "boxes"), ("masks", 3, "shares")):
        pictures = () if task == "classes" else ("--out", tmp_path / task)
        threshold = ("--threshold", 0.3) if task == "boxes" else ()
        status, text, _ = call(
            trained / "*.jpg",
            "--weights",
            trained / task,
            "--csv",
            table,
            "--json",
            *pictures,
            *threshold,
        )
        assert status == 0
        header, *rows = csv.reader(table.open())
        found = json.loads(text)
        assert [Path(row["image"]).name for row in found] == ["a.jpg", "b.jpg"]
        assert len(header) == columns and len(rows) == sum(len(row[key]) for row in found) > 0
        assert {row[0] for row in rows} == {row["image"] for row in found}
    assert float(rows[0][2]) == next(iter(found[0]["shares"].values()))


def test_boxes_are_written_as_coco_reads_them(call: Call, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)
    file = tmp_path / "coco.json"
    tokens = ("--model", trained / "boxes", "--threshold", 0.3, "--out", tmp_path / "drawn", "--coco", file)
    status, text, _ = call("a.jpg", "b.jpg", *tokens, "--json")
    assert status == 0
    data: DetectionSet = read_coco(file, trained)
    assert data.classes == ("cat", "dog")
    for index, row in enumerate(json.loads(text)):
        assert (data.images[index].width, data.images[index].height) == tuple(row["size"]) == ((160, 120), (120, 160))[index]
        objects = data.objects_of(index)
        assert [data.classes[label - 1] for label in objects.labels] == [box["class"] for box in row["boxes"]]
        np.testing.assert_allclose(objects.boxes, [box["box"] for box in row["boxes"]], atol=0.11)


@pytest.mark.parametrize("task", ["classes", "boxes", "masks"])
def test_workers_predict_the_same_in_the_same_order(call: Call, trained: Path, tmp_path: Path, task: str) -> None:
    images = [shutil.copy(trained / f"{'ab'[number % 2]}.jpg", tmp_path / f"{number}.jpg") for number in range(5)]
    drawn = () if task == "classes" else ("--out", tmp_path / "drawn", "--overwrite")
    alone, together = (call(*images, "--model", trained / task, "--json", *drawn, "--workers", n) for n in (0, 2))
    assert alone[0] == together[0] == 0
    found, wanted = json.loads(together[1]), json.loads(alone[1])
    assert [row["image"] for row in found] == [row["image"] for row in wanted] == [str(image) for image in images]
    for row, other in zip(found, wanted, strict=True):
        if task == "classes":
            assert [each["probability"] for each in row["top"]] == pytest.approx([each["probability"] for each in other["top"]], abs=1e-5)
        else:
            assert row == other and Path(row["picture"]).is_file()


@pytest.mark.parametrize(
    ("task", "backend", "workers"),
    [
        ("classes", "openvino", 2),
        ("masks", "onnxruntime", 0),
        *(
            pytest.param(*each, marks=pytest.mark.slow)
            for each in [("classes", "onnxruntime", 0), ("classes", "openvino", 0), ("masks", "openvino", 0), ("masks", "openvino", 2)]
        ),
    ],
)
def test_engines_predict_the_same(call: Call, trained: Path, tmp_path: Path, task: str, backend: str, workers: int) -> None:
    images = (trained / "a.jpg", trained / "b.jpg")
    tokens = (*images, "--model", trained / task, "--json", "--workers", workers)
    drawn = () if task == "classes" else ("--out", tmp_path / "drawn", "--overwrite")
    found, wanted = (json.loads(call(*tokens, *drawn, "--backend", name)[1]) for name in (backend, "eager"))
    for row, other in zip(found, wanted, strict=True):
        if task == "classes":
            assert [each["probability"] for each in row["top"]] == pytest.approx([each["probability"] for each in other["top"]], abs=1e-4)
        else:
            assert row["shares"] == pytest.approx(other["shares"], abs=1e-3) and Path(row["picture"]).is_file()
    status, text, _ = call(images[0], "--model", trained / task, *drawn, "--backend", backend)
    assert status == 0 and text.startswith(f"{backend} was asked for; fp32, logits within ")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_classifier_predicts_in_low_precision(call: Call, trained: Path, workers: int) -> None:
    """As torch.autocast makes its convolutions compute."""
    tokens = (trained / "a.jpg", "--model", trained / "classes", "--json", "--workers", workers)
    network = trickzoo.create(trained / "classes" / "model.safetensors").eval()
    with Image.open(trained / "a.jpg") as image, torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        expected = network(trickzoo.eval_transform(network)(image)[None])[0].float().softmax(0)
    (found,), (exact,) = (json.loads(call(*tokens, "--precision", precision)[1]) for precision in ("bf16", "fp32"))
    assert [each["probability"] for each in found["top"]] == pytest.approx(sorted(expected.tolist(), reverse=True)[: len(found["top"])])
    assert found != exact


def test_detectors_and_engines_predict_in_low_precision(call: Call, trained: Path, tmp_path: Path) -> None:
    tokens = (trained / "a.jpg", "--model", trained / "boxes", "--out", tmp_path, "--overwrite", "--threshold", 0, "--json")
    (found,), (exact,) = (json.loads(call(*tokens, "--precision", precision)[1]) for precision in ("bf16", "fp32"))
    scores = [[each["score"] for each in row["boxes"][:5]] for row in (found, exact)]
    assert scores[0] == pytest.approx(scores[1], abs=0.02) and found["boxes"] != exact["boxes"]
    status, text, error = call(*tokens[:1], "--model", trained / "masks", *tokens[3:6], "--backend", "openvino", "--precision", "bf16")
    if openvino_has_bf16():
        assert status == 0 and text.startswith("openvino was asked for; bf16, logits within ")
    else:
        assert (status, error) == (2, f"trickzoo: {NO_BF16}\n")


def test_workers_are_the_default_for_many_images(call: Call, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(predict_rows, "each", lambda predicted, items, workers: asked.append(workers) or map(predicted, items))
    for number in range(predict.MANY):
        shutil.copy(trained / "a.jpg", tmp_path / f"{number}.jpg")
    for images in (tmp_path, tmp_path / "0.jpg"):
        assert call(images, "--model", trained / "classes")[0] == 0
    assert asked == [default_workers(), 0]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_image_is_one_line_from_workers_too(call: Call, trained: Path, tmp_path: Path, workers: int) -> None:
    image = tmp_path / "cut.jpg"
    image.write_bytes((trained / "a.jpg").read_bytes()[:700])
    status, _, err = call(trained / "a.jpg", image, "--model", trained / "classes", "--workers", workers)
    assert (status, err.count("\n")) == (2, 1)
    assert f"{image} is not a readable image" in err and err.endswith("; --skip-corrupt leaves out images that cannot be read\n")


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("task", ["classes", "boxes", "masks"])
def test_damaged_images_are_left_out_and_named(
    call: Call, trained: Path, tmp_path: Path, task: str, workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    whole = [Path(shutil.copy(trained / "a.jpg", folder / f"{number}.jpg")) for number in range(3)]
    cut, empty = folder / "0-cut.jpg", folder / "1-empty.jpg"
    cut.write_bytes((trained / "a.jpg").read_bytes()[:700])
    empty.write_bytes(b"")
    table = tmp_path / "found.csv"
    drawn = () if task == "classes" else ("--out", tmp_path / "drawn")
    status, text, _ = call(folder, "--model", trained / task, "--workers", workers, "--skip-corrupt", "--csv", table, "--json", *drawn)
    assert status == 0 and [Path(row["image"]) for row in json.loads(text)] == whole
    assert caplog.messages == [f"2 images cannot be read and are left out: {cut}, {empty}"]
    assert not drawn or sorted(file.stem for file in drawn[1].iterdir()) == ["0", "1", "2"]
    status, _, err = call(cut, empty, "--model", trained / task, "--skip-corrupt", *drawn)
    assert status == 2 and err.startswith(f"trickzoo: no image can be read: {cut} is not a readable image")


@pytest.mark.parametrize("workers", [0, 2])
def test_masks_are_written_in_the_numbers_of_the_classes(call: Call, trained: Path, tmp_path: Path, workers: int) -> None:
    masks = tmp_path / "masks"
    tokens = (trained / "a.jpg", trained / "b.jpg", "--model", trained / "masks", "--out", tmp_path / "drawn", "--workers", workers)
    status, text, _ = call(*tokens, "--masks", masks, "--json")
    assert status == 0
    network = trickzoo.load(trained / "masks")
    for row, name, size in zip(json.loads(text), "ab", ((160, 120), (120, 160)), strict=True):  # b.jpg is turned upright
        assert row["mask"] == str(masks / f"{name}.png")
        with Image.open(masks / f"{name}.png") as written:
            assert (written.mode, written.size, written.format) == ("P", size, "PNG")
            assert written.getpalette()[:9] == palette(network.classes)
            numbers = np.asarray(written)
        with Image.open(trained / f"{name}.jpg") as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
        np.testing.assert_array_equal(numbers, trickzoo.segmentation.predict(network.network, upright))
        assert {network.classes[label]: pytest.approx((numbers == label).mean(), abs=1e-6) for label in np.unique(numbers)} == row["shares"]
    images = tokens[:4]
    status, _, err = call(*images, "--out", tmp_path / "new", "--masks", masks)
    assert status == 2 and f"{masks / 'a.png'} exists already; replace it with --overwrite, or name another folder with --masks" in err
    status, _, err = call(*images, "--out", masks, "--masks", f"{tmp_path}/./masks", "--overwrite")
    assert status == 2 and f"--out and --masks are both {masks}; name two folders" in err
    assert not (tmp_path / "new").exists()


def test_the_mask_of_a_reduced_image_has_the_files_size(call: Call, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_memory, "MAX_PIXELS", 9_000)
    assert call(trained / "b.jpg", "--model", trained / "masks", "--out", tmp_path / "drawn", "--masks", tmp_path)[0] == 0
    with Image.open(tmp_path / "b.png") as written:
        assert written.size == (120, 160)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (("gone*.jpg", "--weights", "classes"), "gone*.jpg matches no file"),
        (
            ("a.jpg", "--weights", "classes", "--coco", "x.json"),
            "--coco is for detection, and classes/model.safetensors is for",
        ),
        (("a.jpg", "--weights", "boxes", "--masks", "x"), "--masks is for segmentation, and boxes/model.safetensors is for detection"),
        (("a.jpg", "--weights", "boxes", "--coco", "x", "--csv", "x"), "--csv and --coco are both x"),
        (("a.jpg", "--weights", "boxes", "--csv", "masks"), "masks is a folder; name a file"),
        (("a.jpg", "--weights", "classes", "--device", "cpu", "--precision", "fp16"), "--precision fp16 needs an accelerator; take"),
        (("a.jpg", "--weights", "classes", "--backend", "onnxruntime", "--precision", "bf16"), "onnxruntime has no bf16, which eager"),
        *((("a.jpg", "--weights", each, "--device", "mps"), "PyTorch finds no such device") for each in ("classes", "boxes", "masks")),
    ],
)
def test_mistakes(call: Call, trained: Path, monkeypatch: pytest.MonkeyPatch, tokens: tuple[str, ...], message: str) -> None:
    monkeypatch.chdir(trained)
    status, _, err = call(*tokens)
    assert (status, message in err, err.count("\n")) == (2, True, 1), err
    assert not (trained / "predictions").exists()


def test_predictions_have_no_class_folders(call: Call, trained: Path) -> None:
    torch.save(trickzoo.create("mobilenet_v1_025", num_classes=2).state_dict(), trained / "bare.pth")
    tokens = (trained / "a.jpg", "--model", "mobilenet_v1_025", "--weights", trained / "bare.pth")
    for given, fault in (((), "does not state its classes"), (("--classes", "folders"), "there are no class folders here")):
        status, _, err = call(*tokens, *given)
        assert status == 2
        assert f"has 2 outputs and {fault}; pass --classes imagenette, imagenet1k or a text file with one class per line" in err
