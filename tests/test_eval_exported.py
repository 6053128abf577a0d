"""`trickzoo eval` measures exported files as the networks that they were made of."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from msgspec import structs
from PIL import Image

import trickzoo
from tests import annotated
from tests.annotated import detector, segmenter
from tests.commands import Call, caller
from tests.deployment import CLASSES, PREPROCESSING, in_memory, photograph, random_detector, tiny
from tests.images import jpeg
from trickzoo import detection, files, segmentation
from trickzoo.cli import evaluation
from trickzoo.data import image_memory
from trickzoo.data.transforms import eval_transform
from trickzoo.deployment import export
from trickzoo.deployment.description import Input

ANIMALS = ("cat", "dog", "owl")


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs `trickzoo-eval`; (exit status, stdout, stderr)."""
    return caller(capsys, evaluation)


@pytest.fixture(scope="module")
def place(exported_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with exported classifiers and photographs of their classes, of several sizes; nobody is to write there."""
    folder = tmp_path_factory.mktemp("place")
    for i, name in enumerate(CLASSES):
        (folder / "photos" / name).mkdir(parents=True)
        for j, size in enumerate(((80, 60), (47, 61), (60, 90), (35, 35))):
            photograph(size[0] + i, size[1]).save(folder / "photos" / name / f"{j}.png")
    jpeg(folder / "photos" / CLASSES[0] / "9.jpg", 1, (80, 60))
    for name in ("image.onnx", "float.xml", "float.bin"):
        shutil.copy(exported_files / name, folder)
    calibration = sorted((folder / "photos").glob("*/*"))
    export.write(export.classifier(tiny("uint8")[0], PREPROCESSING, CLASSES, calibration=calibration), folder / "int8.onnx")
    return folder


def open_in_memory(graph: export.Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command find this graph, which torch runs, in a file of any name."""
    monkeypatch.setattr("trickzoo.deployment.opened.open_exported", lambda path: in_memory(graph))


def rows_of(path: Path) -> dict[str, dict[str, str]]:
    """The rows of a CSV file of predictions, by the image."""
    with path.open(newline="", encoding="utf-8") as file:
        return {row["image"]: row for row in csv.DictReader(file)}


@pytest.mark.parametrize(
    ("name", "workers", "options"), [("float.xml", 2, ()), ("image.onnx", 2, ()), ("int8.onnx", 0, ("--batch-size", 4))]
)
def test_a_classifiers_file_has_the_predictions_of_the_network(
    name: str, workers: int, options: tuple[Any, ...], call: Call, place: Path, tmp_path: Path
) -> None:
    path, out, table = place / name, tmp_path / "result.json", tmp_path / "predictions.csv"
    tokens = ("--data", place / "photos", "--model", path, "--workers", workers, "--out", out, "--predictions", table, *options)
    status, text, err = call("imagenet", *tokens)
    assert (status, err) == (0, "")
    model, _ = tiny("uint8")
    right, found, exact = 0, rows_of(table), name != "int8.onnx"
    for image, row in found.items():
        with Image.open(place / "photos" / image) as photo, torch.no_grad():
            probability, top = model(eval_transform(PREPROCESSING)(photo)[None])[0].softmax(0).topk(3)
        right += CLASSES[top[0]] == row["class"]
        assert not exact or [row[f"top{k}"] for k in (1, 2, 3)] == [CLASSES[k] for k in top]
        assert [float(row[f"p{k}"]) for k in (1, 2, 3)] == pytest.approx(probability.tolist(), abs=1e-4 if exact else 0.05)
    (result,) = json.loads(out.read_text())["results"]
    assert (result["n"], len(found), result["top1_correct"]) == (13, 13, right)
    engine, precision = "openvino" if path.suffix == ".xml" else "onnxruntime", "fp32" if exact else "int8"
    content = path.read_bytes() + (path.with_suffix(".bin").read_bytes() if path.suffix == ".xml" else b"")
    assert (result["weights"], result["weights_sha256"]) == (str(path), hashlib.sha256(content).hexdigest())
    assert (result["backend"], result["precision"], result["device"]) == ({"name": engine}, precision, "cpu")
    assert result["exported_from"] == {"weights": "tiny.safetensors", "sha256": "0" * 64}
    assert f"tiny, exported from tiny.safetensors; {precision} in {engine}" in text


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["uint8", "normalised", "image"])
def test_a_file_takes_what_it_states(
    kind: Input, channels: int, call: Call, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, graph = tiny(kind, channels)
    open_in_memory(graph, monkeypatch)
    table, transform = tmp_path / "predictions.csv", eval_transform(PREPROCESSING, channels=channels)
    tokens = ("--data", place / "photos", "--model", "memory.onnx", "--workers", 0, "--predictions", table)
    assert call("imagenet", *tokens)[0] == 0
    for image, row in rows_of(table).items():
        with Image.open(place / "photos" / image) as photo, torch.no_grad():
            probability, top = model(transform(photo)[None])[0].softmax(0).topk(3)
        assert [row[f"top{k}"] for k in (1, 2, 3)] == [CLASSES[k] for k in top]
        assert [float(row[f"p{k}"]) for k in (1, 2, 3)] == pytest.approx(probability.tolist(), abs=1e-4)


def test_networks_and_files_are_compared_in_one_run(call: Call, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A corrupted copy is of the pixels that the file takes, so that the network and its file get the same."""
    network = trickzoo.create("mobilenet_v1_025", num_classes=3).eval()
    path, out = tmp_path / "network.safetensors", tmp_path / "result.json"
    trickzoo.export(network, path, classes=CLASSES, preprocessing=PREPROCESSING)
    loaded = trickzoo.create("mobilenet_v1_025", weights=path)
    open_in_memory(export.classifier(loaded, PREPROCESSING, CLASSES), monkeypatch)
    tokens = ("--model", path, "--model", "memory.onnx", "--corruptions", "contrast", "--severities", 3)
    assert call("imagenet", "--data", place / "photos", *tokens, "--out", out)[0] == 0
    of_network, of_file = json.loads(out.read_text())["results"]
    same = ("model", "n", "top1", "top1_interval", "top5", "preprocessing", "data", "robustness", "precision", "published")
    assert {key: of_file[key] for key in same} == {key: of_network[key] for key in same}
    assert of_file["ece"] == pytest.approx(of_network["ece"], abs=1e-3)
    assert of_file["exported_from"] == {"weights": "network.safetensors", "sha256": files.digest(path)}


@pytest.mark.parametrize(
    ("name", "tokens", "message"),
    [
        ("image.onnx", ("--size", 64), "--size is decided in image.onnx; leave it out, or export the network again with it"),
        ("image.onnx", ("--weights", "x"), "--weights is decided in image.onnx"),
        ("image.onnx", ("--classes", "folders"), "--classes is decided in image.onnx"),
        ("int8.onnx", ("--backend", "openvino"), "--backend openvino: the format of int8.onnx decides the engine; leave it out"),
        ("int8.onnx", ("--precision", "bf16"), "--precision bf16: int8.onnx has its own precision; leave it out"),
        ("int8.onnx", ("--device", "cuda"), "--device cuda: exported files run on the CPU; leave it out"),
        (
            "image.onnx",
            ("--batch-size", 4),
            "--batch-size has no effect: image.onnx takes whole images, which are given to it one at a time",
        ),
        (
            "image.onnx",
            ("--corruptions", "fog"),
            "--corruptions is for images after their resizing, and image.onnx takes whole images",
        ),
        ("none.onnx", (), "none.onnx cannot be read (No such file or directory)"),
        ("none.pt2", (), "none.pt2: trickzoo does not run archives of torch.export"),
        ("int8.onnx", ("--data", "others"), "not one of 1 class folder (dog) is among the model's 3 classes"),
    ],
    ids=str,
)
def test_options_and_images_that_do_not_fit_a_classifiers_file(
    name: str, tokens: tuple[Any, ...], message: str, call: Call, place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(place)
    jpeg(tmp_path / "others" / "dog" / "0.jpg", 1)
    data = () if "--data" in tokens else ("--data", "photos")
    tokens = tuple(tmp_path / token if token == "others" else token for token in tokens)
    status, out, err = call("imagenet", *data, "--model", name, "--out", tmp_path / "r.json", *tokens)
    assert (status, out, len(err.splitlines())) == (2, "", 1) and message in err
    assert not (tmp_path / "r.json").exists()


# ---------------------------------------------------------------------------------------------------------------------
# detectors and segmenters, by the graph of the file, which torch runs; that engines run it alike is the matter of tests/test_export.py


def boxes_and_masks(folder: Path, task: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, tuple[Any, ...], export.Graph]:
    """A network's file, the tokens that name a set for it, annotated with some of what it finds, and its graph.

    The detector is loaded in place of that in the file, whose boxes have nearly equal scores, so that rounding changes their order.
    """
    path = folder / "model.safetensors"
    if task == "detection":
        detector(path, ANIMALS)
        model = random_detector("fpn")
        monkeypatch.setattr(detection, "load", lambda path: model)
        stems = [f"{i}" for i in range(3)]
        annotated.voc(folder / "voc", dict.fromkeys(stems, annotated.xml()), {"val": stems})
        (folder / "voc" / "classes.txt").write_text("\n".join(ANIMALS))
        for stem in stems:
            found = detection.predict(model, Image.open(folder / "voc" / "JPEGImages" / f"{stem}.jpg"))
            some = zip(found.boxes[3:40:4].tolist(), found.names[3:40:4], strict=True)
            boxes = [(name, (x0 + 1, y0 + 1, x1, y1)) for (x0, y0, x1, y1), name in some]
            (folder / "voc" / "Annotations" / f"{stem}.xml").write_text(annotated.xml(boxes))
        return path, ("voc", "--data", folder / "voc"), export.detector(model)
    segments = segmenter(path, ("sky", "road", "tree"))
    annotated.lists(folder / "lists", [0] * 3, "0 sky\n1 road\n2 tree\n3 unlabelled\n")
    (folder / "lists" / "train.txt").rename(folder / "lists" / "val.txt")
    for i in range(3):
        mask = segmentation.predict(segments, Image.open(folder / "lists" / "train" / f"{i}.jpg"))
        mask[:8], mask[-3:] = (mask[:8] + 1) % 3, 3
        annotated.mask(folder / "lists" / "trainannot" / f"{i}.png", mask)
    return path, ("lists", "--data", folder / "lists"), export.segmenter(segments)


def numbers(content: Any) -> list[float]:
    """Every figure in a part of a result file."""
    if isinstance(content, dict):
        return [number for value in content.values() for number in numbers(value)]
    return [] if content is None else [float(content)]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_a_file_has_the_figures_of_its_detector_or_segmenter(
    task: str, workers: int, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, tokens, graph = boxes_and_masks(tmp_path, task, monkeypatch)
    open_in_memory(graph, monkeypatch)
    results, predictions = [], []
    for name in (path, "memory.onnx"):
        out = tmp_path / Path(name).stem
        files = ("--out", f"{out}.json", "--report", f"{out}.html", "--pictures", 1, "--per-class", f"{out}.csv")
        files = (*files, "--predictions", f"{out}.boxes.json" if task == "detection" else out)
        status, text, err = call(*tokens, "--model", name, "--device", "cpu", "--workers", workers, *files)
        assert (status, err) == (0, "")
        results.append(json.loads(Path(f"{out}.json").read_text()))
        predictions.append(
            np.array([row["bbox"] for row in json.loads(Path(f"{out}.boxes.json").read_text())])
            if task == "detection"
            else np.stack([np.asarray(Image.open(out / f"{i}.png")) for i in range(3)])
        )
    of_network, of_file = results
    parts = ("voc", "coco", "per_class") if task == "detection" else ("pixels", "miou", "pixel_accuracy", "per_class")
    assert 5 < (of_network["coco"]["AP"] if task == "detection" else of_network["miou"]) < 95
    for part in parts:
        assert numbers(of_file[part]) == pytest.approx(numbers(of_network[part]), abs=0.2), part
    if task == "detection":
        np.testing.assert_allclose(*predictions, atol=0.02)
    else:
        assert (predictions[0] != predictions[1]).mean() < 0.001
    assert (of_file["weights"], of_file["weights_sha256"], of_file["backend"]) == ("memory.onnx", "1" * 64, {"name": "torch"})
    assert of_file["exported_from"] == {"weights": graph.description.weights, "sha256": of_network["weights_sha256"]}
    assert of_file["data"] == of_network["data"] and of_file["model"] == graph.description.model
    assert f"memory.onnx: {of_file['model']}, exported from {graph.description.weights}; fp32 in torch" in text
    if task == "segmentation" and not workers:
        assert graph.description.data_digest == "none"  # as the weights' file states it
        trained_on = structs.replace(graph.description, data_digest=of_file["data"]["digest"])
        open_in_memory(graph._replace(description=trained_on), monkeypatch)
        assert "the model was trained on these very images" in call(*tokens, "--model", "memory.onnx", "--device", "cpu", "--workers", 0)[1]


def test_the_boxes_and_masks_of_a_large_image_are_in_pixels_of_the_file(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image that was reduced when it was decoded."""
    for task in ("detection", "segmentation"):
        (folder := tmp_path / task).mkdir()
        path, tokens, graph = boxes_and_masks(folder, task, monkeypatch)
        with monkeypatch.context() as reduced:
            reduced.setattr(image_memory, "MAX_PIXELS", 1500)
            open_in_memory(graph, reduced)
            results = []
            for name in (path, "memory.onnx"):
                status, _, err = call(*tokens, "--model", name, "--device", "cpu", "--workers", 0, "--out", folder / "out.json")
                assert (status, err) == (0, "")
                results.append(json.loads((folder / "out.json").read_text()))
        of_network, of_file = (result["coco"]["AP50"] if task == "detection" else result["miou"] for result in results)
        assert of_file == pytest.approx(of_network, abs=3) and of_file > 5


@pytest.mark.parametrize(
    ("task", "layout", "tokens", "message"),
    [
        ("detection", "voc", ("--short", 64), "--short: images are resized inside memory.onnx; leave it out"),
        ("segmentation", "lists", ("--backend", "onnxruntime"), "--backend onnxruntime: the format of memory.onnx decides the engine"),
        ("detection", "voc", ("--precision", "bf16"), "--precision bf16: memory.onnx has its own precision; leave it out"),
        ("detection", "voc", ("--device", "cuda"), "--device cuda: exported files run on the CPU; leave it out"),
        ("segmentation", "coco", (), "memory.onnx is for segmentation, and coco has annotations for detection"),
        ("detection", "imagenet", (), "memory.onnx is for detection; evaluate it by the layout of its images"),
        ("detection", "shapes", (), "shapes"),
    ],
)
def test_options_and_sets_that_do_not_fit_a_file(
    task: str, layout: str, tokens: tuple[Any, ...], message: str, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, named, graph = boxes_and_masks(tmp_path, task, monkeypatch)
    open_in_memory(graph, monkeypatch)
    data = () if layout == "shapes" else named[1:]
    before = sorted(tmp_path.rglob("*"))
    status, out, err = call(layout, *data, "--model", "memory.onnx", *tokens)
    assert (status, out, len(err.splitlines())) == (2, "", 1) and message in err
    assert sorted(tmp_path.rglob("*")) == before
