"""`trickzoo export` writes files that need nothing else, and `trickzoo predict` gives the same results for them as for the model."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

import trickzoo
from tests.commands import Call
from tests.deployment import CLASSES, PREPROCESSING, in_memory, photograph, random_detector, random_segmenter, tiny
from trickzoo import detection, segmentation
from trickzoo.data.classes import IMAGENETTE
from trickzoo.data.transforms import eval_transform
from trickzoo.deployment import export, predict
from trickzoo.deployment.description import Description, Input
from trickzoo.deployment.opened import open_exported
from trickzoo.errors import BadOption
from trickzoo.loading import of_exported

SMALL = "mobilenet_v1_025.tz_imagenette128"


@pytest.fixture(scope="module")
def place(exported_files: Path) -> Path:
    return exported_files


@pytest.mark.parametrize("name", ["image.onnx", "float.xml"])
def test_a_file_computes_the_logits_of_the_network(name: str, place: Path) -> None:
    model, _ = tiny("float")
    file = open_exported(place / name)
    for size in ((80, 60), (47, 61), (400, 20)):
        image = photograph(*size)
        with torch.no_grad():
            expected = model(eval_transform(PREPROCESSING)(image)[None])[0]
        torch.testing.assert_close(of_exported(file).run(image), expected, atol=1e-4, rtol=1e-4)


def test_a_file_takes_batches_and_describes_itself(place: Path) -> None:
    content = (place / "image.onnx").read_bytes()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    images = np.stack([np.array(photograph(47, 61)), np.array(photograph(47, 61))[::-1], np.zeros((61, 47, 3), np.uint8)])
    (logits,) = session.run(None, {"images": images})
    assert logits.shape == (3, 3)
    np.testing.assert_allclose(session.run(None, {"images": images[1:2]})[0], logits[1:2], atol=1e-5)
    stated = session.get_modelmeta().custom_metadata_map
    assert json.loads(stated["classes"]) == list(CLASSES) and json.loads(stated["class_names"]) == ["tench", "a b", "été"]
    assert (stated["model"], stated["weights"], stated["sha256"], stated["licence"]) == ("tiny", "tiny.safetensors", "0" * 64, "unknown")
    assert (stated["task"], stated["input"], stated["trickzoo"]) == ("classification", "image", trickzoo.__version__)
    assert "uint8 (batch, height, width, 3)" in stated["input_in_words"] and "logits: float32 (batch, 3)" in stated["output_in_words"]
    assert json.loads(stated["preprocessing"])["interpolation"] == "bicubic"
    assert b"/somewhere" not in content and str(Path(trickzoo.__file__).parent).encode() not in content


@pytest.mark.parametrize("kind", ["uint8", "float", "normalised", "image"])
def test_every_input_gives_the_logits_of_the_network(kind: Input) -> None:
    model, graph = tiny(kind)
    image = photograph(80, 60)
    exported = in_memory(graph)
    with torch.no_grad():
        expected = model(eval_transform(PREPROCESSING)(image)[None])[0]
        torch.testing.assert_close(of_exported(exported).run(image), expected, atol=1e-4, rtol=1e-4)


def test_the_program_on_the_page_runs(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[1] / "docs" / "deployment.md").read_text(encoding="utf-8")
    (program,) = [each for each in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "InferenceSession" in each]
    assert len([line for line in program.splitlines() if line]) <= 10 and "trickzoo" not in program and "torch" not in program
    (tmp_path / "resnet50_d.onnx").write_bytes((place / "image.onnx").read_bytes())
    (tmp_path / "cat.jpg").write_bytes((place / "a.jpg").read_bytes())
    monkeypatch.chdir(tmp_path)
    exec(program, {})
    with Image.open("cat.jpg") as image:
        logits = of_exported(open_exported(place / "image.onnx")).run(image.convert("RGB"))
    assert capsys.readouterr().out.split("\n")[0] == ("tench", "a b", "été")[int(logits.argmax())]


def test_an_archive_of_torch_runs_without_trickzoo_and_predict_refuses_it(call: Call, place: Path, tmp_path: Path) -> None:
    model, graph = tiny("uint8")
    path = tmp_path / "tiny.pt2"
    export.write(graph, path)
    texts = dict.fromkeys(graph.description.texts(), "")
    program = torch.export.load(path, extra_files=texts)
    assert Description.of(texts) == graph.description
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (PREPROCESSING.mean, PREPROCESSING.std))
    with torch.no_grad():
        torch.testing.assert_close(program.module()(images), model((images / 255 - mean) / std), atol=1e-5, rtol=1e-5)
    assert str(Path(trickzoo.__file__).parent).encode() not in path.read_bytes()
    status, _, err = call("predict", place / "a.jpg", "--model", path)
    assert (status, len(err.splitlines())) == (2, 1)
    assert "does not run archives of torch.export, because torch.export.load executes code that is in a file" in err


@pytest.mark.parametrize(
    ("kind", "suffix"), [("uint8", ".onnx"), ("normalised", ".xml"), pytest.param("image", ".xml", marks=pytest.mark.slow)]
)
def test_a_file_of_8_bit_integers_computes_nearly_the_logits_of_the_network(kind: Input, suffix: str, place: Path, tmp_path: Path) -> None:
    model, path = tiny(kind)[0], tmp_path / f"int8{suffix}"
    graph = export.classifier(model, PREPROCESSING, CLASSES, kind=kind, calibration=[place / "a.jpg", place / "b.jpg"])
    assert graph.note == "int8: 0.00% of the predictions on 2 images differ from those in fp32"
    export.write(graph, path)
    file = open_exported(path)
    assert file.description.precision == "int8"
    for name in ("a.jpg", "b.jpg"):
        with Image.open(place / name) as image, torch.no_grad():
            expected = model(eval_transform(PREPROCESSING)(image)[None])[0]
            found = of_exported(file).run(image.convert("RGB"))
        scale = float(expected.abs().max())
        assert 1e-4 * scale < float((found - expected).abs().max()) < 0.05 * scale  # quantised, and still the same network


def test_the_command_calibrates_a_file_of_8_bit_integers(call: Call, place: Path, tmp_path: Path) -> None:
    path = tmp_path / "small.onnx"
    status, out, err = call("export", path, "--model", SMALL, "--precision", "int8", "--calibration", place)
    assert (status, err) == (0, "") and out.endswith(f"{path}\n") and "of the predictions on 2 images differ" in out
    kinds = {node.op_type for node in onnx.load(path).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    status, out, _ = call("predict", place / "a.jpg", "--model", path, "--json")
    assert status == 0 and json.loads(out)[0]["top"]
    for options, message in (
        (("--precision", "int8"), "--precision int8 and --calibration FOLDER belong together"),
        (("--calibration", place), "--precision int8 and --calibration FOLDER belong together"),
        (("--precision", "int8", "--calibration", tmp_path / "none"), "none"),
    ):
        status, _, err = call("export", tmp_path / "other.onnx", "--model", SMALL, *options)
        assert (status, len(err.splitlines())) == (2, 1) and message in err
    status, _, err = call("export", tmp_path / "other.pt2", "--model", SMALL, "--precision", "int8", "--calibration", place)
    assert status == 2 and "archives of torch.export have no int8" in err


def test_predict_gives_the_same_for_a_model_and_its_exported_file(call: Call, place: Path, tmp_path: Path) -> None:
    path = tmp_path / "small.onnx"
    assert call("export", path, "--model", SMALL) == (0, f"{path}\n", "")
    rows = []
    for model in (SMALL, path):
        status, out, _ = call("predict", place / "a.jpg", place / "b.jpg", "--model", model, "--json", "--top", 10)
        assert status == 0
        rows.append(json.loads(out))
    for of_model, of_file in zip(*rows, strict=True):
        assert of_model["image"] == of_file["image"]
        for expected, found in zip(of_model["top"], of_file["top"], strict=True):
            assert found == expected | {"probability": pytest.approx(expected["probability"], abs=1e-5)}
    stated = {each.key: each.value for each in onnx.load(path).metadata_props}
    record = trickzoo.create(SMALL).weights
    assert record is not None and (stated["weights"], stated["sha256"]) == (SMALL, record.digest())
    assert json.loads(stated["classes"]) == list(IMAGENETTE) and stated["licence"] == "apache-2.0"


@pytest.mark.parametrize("name", ["image.onnx", "float.xml"])
def test_an_exported_classifier_is_loaded_as_its_network_is(name: str, place: Path) -> None:
    model, _ = tiny("float")
    loaded, image = trickzoo.load(place / name, device="cpu"), photograph(47, 61)
    with torch.no_grad():
        expected = model(eval_transform(PREPROCESSING)(image)[None])[0].softmax(0)
    found = loaded.predict(image).found
    assert (loaded.task, loaded.classes) == ("classification", CLASSES) and loaded.network.description.weights == "tiny.safetensors"
    assert [each.label for each in found] == expected.argsort(descending=True).tolist()
    assert {each.label: each.score for each in found} == pytest.approx(dict(enumerate(expected.tolist())), abs=1e-5)
    (logits,) = loaded.network.run(loaded.transform(image)[None])
    torch.testing.assert_close(torch.from_numpy(logits[0]).softmax(0), expected, atol=1e-5, rtol=1e-4)
    with pytest.raises(BadOption, match="cannot run on cuda: exported files run on the CPU"):
        trickzoo.load(place / name, device="cuda")


@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_predict_gives_the_same_boxes_and_masks_for_an_exported_file(
    task: str, call: Call, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the graph of the file, which torch runs; that engines run it alike is the matter of the slow tests."""
    model: Any = random_detector("fpn") if task == "detection" else random_segmenter(64)
    exported = in_memory(export.detector(model) if task == "detection" else export.segmenter(model))
    monkeypatch.setattr("trickzoo.deployment.opened.open_exported", lambda path: exported)
    image, out = photograph(160, 120), tmp_path / "out"
    image.save(tmp_path / "a.png")
    found = detection.predict(model, image) if task == "detection" else None
    threshold = ("--threshold", float(np.median(found.scores))) if found is not None else ()
    status, text, _ = call("predict", tmp_path / "a.png", "--model", "a.onnx", "--out", out, "--json", *threshold)
    assert status == 0 and (out / "a.png").is_file()
    (row,) = json.loads(text)
    if found is not None:
        sure = found.scores >= np.median(found.scores)
        assert sure.any()
        assert [each["score"] for each in row["boxes"]] == pytest.approx(found.scores[sure].tolist(), abs=1e-3)
        assert [each["class"] for each in row["boxes"]] == [name for name, kept in zip(found.names, sure, strict=True) if kept]
    else:
        mask = segmentation.predict(model, image)
        shares = {name: float((mask == number).mean()) for number, name in enumerate(model.classes) if (mask == number).any()}
        assert row["shares"] == pytest.approx(shares, abs=1e-5) and len(shares) > 1
    monkeypatch.setattr("trickzoo.loading.open_exported", lambda path: exported)
    prediction = trickzoo.load("a.onnx").predict(image)
    if found is not None:
        assert [each.label for each in prediction.found] == (found.labels - 1).tolist()
        assert [each.box for each in prediction.found] == pytest.approx([pytest.approx(tuple(box), abs=0.02) for box in found.boxes])
    else:
        assert prediction.mask is not None and (prediction.mask == mask).mean() > 0.999


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("suffix", [".onnx", ".xml", ".pt2"])
@pytest.mark.parametrize("neck", ["fpn", "c4"])
def test_a_detectors_file_finds_its_boxes(neck: Any, suffix: str, tmp_path: Path) -> None:
    model, path = random_detector(neck), tmp_path / f"boxes{suffix}"
    export.write(export.detector(model), path)
    for size in ((61, 47), (160, 120), (500, 200), (33, 33), (1, 1)):
        image = photograph(*size)
        expected = detection.predict(model, image)
        if suffix == ".pt2":
            with torch.inference_mode():
                boxes, scores, labels = (each.numpy() for each in torch.export.load(path).module()(torch.from_numpy(np.array(image))))
            labels = labels + 1
        else:
            boxes, scores, labels = predict.detect(open_exported(path), image)
        np.testing.assert_allclose(boxes, expected.boxes, atol=0.02)
        np.testing.assert_allclose(scores, expected.scores, atol=1e-4)
        np.testing.assert_array_equal(labels, expected.labels)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("suffix", [".onnx", ".xml", ".pt2"])
@pytest.mark.parametrize(("short", "align_corners"), [(64, False), (None, False), (64, True)])
def test_a_segmenters_file_finds_its_classes(short: int | None, align_corners: bool, suffix: str, tmp_path: Path) -> None:
    model, path = random_segmenter(short, align_corners), tmp_path / f"masks{suffix}"
    export.write(export.segmenter(model), path)
    for size in ((61, 47), (160, 120), (500, 200), (33, 33), (1, 1)):
        image = photograph(*size)
        expected = segmentation.predict(model, image)
        if suffix == ".pt2":
            found = torch.export.load(path).module()(torch.from_numpy(np.array(image))).numpy()
        else:
            found = predict.segment(open_exported(path), image)
        assert found.shape == expected.shape and (found != expected).mean() < 0.002


@pytest.mark.packs
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("suffix", "kind"), [(".onnx", "uint8"), (".onnx", "image"), (".xml", "image")])
def test_top1_on_real_images_is_that_of_the_model(suffix: str, kind: Input, packs: Path, tmp_path: Path) -> None:
    model = trickzoo.create(SMALL)
    assert model.weights is not None and model.weights.preprocessing is not None
    path = tmp_path / f"small{suffix}"
    export.write(export.classifier(model, model.weights.preprocessing, IMAGENETTE, kind=kind), path)
    file, transform = open_exported(path), eval_transform(model)
    right = np.zeros(2, int)
    images = sorted((packs / "imagenette128" / "val").glob("*/*"))[::3]
    for each in images:
        with Image.open(each) as image, torch.inference_mode():
            pixels = image.convert("RGB")
            logits = model(transform(pixels)[None])[0], of_exported(file).run(pixels)
        torch.testing.assert_close(*logits, atol=0.05, rtol=0.01)
        right += [int(IMAGENETTE[int(each_of.argmax())] == each.parent.name) for each_of in logits]
    assert len(images) > 1000 and abs(100 * (right[0] - right[1]) / len(images)) <= 0.1
    assert right[0] / len(images) > 0.7
