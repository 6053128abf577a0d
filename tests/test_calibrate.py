"""Temperature scaling, against scipy's minimiser, and the command that writes calibrated files."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.optimize import minimize
from scipy.special import log_softmax
from torch import nn

import trickzoo
from tests.annotated import refused
from tests.commands import Call, caller
from tests.images import jpeg
from trickzoo.classification import temperature
from trickzoo.cli import zoo
from trickzoo.data.classes import IMAGENETTE
from trickzoo.errors import BadCheckpoint, BadOption
from trickzoo.weights.header import of_file


def drawn(n: int = 400, sharpness: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn from the probabilities of the logits over their sharpness, which is thus the temperature."""
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (n, 5))
    labels = np.array([random.choice(5, p=np.exp(row)) for row in log_softmax(logits, axis=1)])
    return sharpness * logits, labels


def test_the_temperature_is_that_of_scipys_minimiser() -> None:
    logits, labels = drawn()
    rows = np.arange(len(labels))
    found = minimize(lambda t: -log_softmax(logits / np.exp(t[0]), axis=1)[rows, labels].mean(), [0.0], method="BFGS", tol=1e-10)
    assert temperature.fit(logits, labels) == pytest.approx(float(np.exp(found.x[0])), rel=1e-4)
    assert temperature.fit(logits, labels) == pytest.approx(3, rel=0.15)
    assert temperature.fit(10 * logits + 7, labels) == pytest.approx(10 * temperature.fit(logits, labels), rel=1e-6)
    calibrated = temperature.calibrate(logits, labels)
    assert calibrated.nll[0] == pytest.approx(-log_softmax(logits, axis=1)[rows, labels].mean(), rel=1e-6)
    assert calibrated.ece[1] < calibrated.ece[0] / 2 and calibrated.top1 == 100 * (logits.argmax(1) == labels).mean()


def test_the_likelihood_with_a_temperature_is_of_images_that_it_was_not_fitted_on() -> None:
    """It is lower than with the temperature of all images, which is fitted on the images themselves."""
    logits, labels = drawn(40)
    halves, rows = np.random.default_rng(0).permutation(40) % 2, np.arange(40)
    terms = np.zeros(40)
    for half in (0, 1):
        of_other = temperature.fit(logits[halves != half], labels[halves != half])
        terms[halves == half] = -log_softmax(logits / of_other, axis=1)[rows, labels][halves == half]
    calibrated = temperature.calibrate(logits, labels)
    assert calibrated.nll[1] == pytest.approx(terms.mean(), rel=1e-9)
    assert calibrated.nll[1] > -log_softmax(logits / calibrated.temperature, axis=1)[rows, labels].mean()


def test_images_that_no_temperature_fits() -> None:
    logits, _ = drawn()
    refused(lambda: temperature.fit(logits, logits.argmax(1)), "all images are classified correctly")
    refused(lambda: temperature.fit(logits, logits.argmin(1)), "the logits are no better than chance")


def test_a_calibrated_file_gives_calibrated_probabilities(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call: Call = caller(capsys, zoo, "calibrate")
    for i, synset in enumerate(IMAGENETTE):
        for j in range(4):
            jpeg(tmp_path / "photos" / "val" / synset / f"{j}.jpg", 10 * i + j)
    model = trickzoo.create("mobilenet_v1_025", weights=tiny)
    transform, files = trickzoo.eval_transform(model), sorted((tmp_path / "photos").rglob("*.jpg"))
    images = torch.stack([transform(Image.open(file)) for file in files])
    with torch.inference_mode():
        before = model(images)
    labels = before.argmax(1).numpy()
    for file, label in zip(files[:25], labels, strict=False):  # most images are classified correctly, so that a temperature fits
        (tmp_path / "labelled" / "val" / IMAGENETTE[label]).mkdir(parents=True, exist_ok=True)
        file.rename(tmp_path / "labelled" / "val" / IMAGENETTE[label] / f"{file.parent.name}-{file.name}")
    for file in files[25:]:
        (tmp_path / "labelled" / "val" / file.parent.name).mkdir(parents=True, exist_ok=True)
        file.rename(tmp_path / "labelled" / "val" / file.parent.name / f"{file.parent.name}-{file.name}")
    out = tmp_path / "calibrated.safetensors"
    tokens = (tiny, "--data", tmp_path / "labelled", "--workers", 0)
    status, text, _ = call(*tokens, "--out", out)
    assert status == 0 and text.splitlines()[-1] == str(out) and "ECE" in text
    found = json.loads(call(*tokens, "--json")[1])
    rows = (f"{file.relative_to(tmp_path / 'labelled')},{file.parent.name}" for file in sorted((tmp_path / "labelled").rglob("*.jpg")))
    (tmp_path / "table.csv").write_text("\n".join(["path,label", *rows]))
    listed = (tiny, "--data", tmp_path / "table.csv", "--images", tmp_path / "labelled", "--workers", 0, "--json")
    assert json.loads(call(*listed)[1])["temperature"] == pytest.approx(found["temperature"], rel=1e-6)
    with torch.inference_mode():
        after = trickzoo.create("mobilenet_v1_025", weights=out)(images)
    torch.testing.assert_close(after, before / found["temperature"], rtol=1e-4, atol=1e-5)
    training = of_file(out).training  # type: ignore[union-attr]
    assert training["calibration"]["temperature"] == found["temperature"] and training["calibration"]["n"] == 40  # type: ignore[index]
    predicted = trickzoo.load(out).predict(images_of(tmp_path)).found[0].score
    assert predicted == pytest.approx(float((before / found["temperature"]).softmax(1).max(1).values[0]), abs=1e-4)
    again = json.loads(call(out, *tokens[1:], "--json")[1])
    assert again["temperature"] == pytest.approx(1, abs=1e-3) and again["nll"][1] == pytest.approx(found["nll"][1], rel=1e-4)

    for wrong, message in (
        ((*tokens, "--out", out), "calibrated.safetensors exists; name another file"),
        ((*tokens, "--out", tmp_path / "x.onnx"), "must end in .safetensors"),
        ((tmp_path / "gone.safetensors", *tokens[1:]), "gone.safetensors"),
        ((*tokens[:-1], -1), "--workers must be 0 or more, not -1"),
    ):
        status, text, err = call(*wrong)
        assert (status, text, message in err, err.count("\n")) == (2, "", True, 1), err


def images_of(folder: Path) -> Path:
    """The first image, wherever it was put."""
    (found,) = (folder / "labelled").rglob(f"{IMAGENETTE[0]}-0.jpg")
    return found


def test_logits_that_no_temperature_divides() -> None:
    logits, labels = drawn(20)
    refused(lambda: temperature.fit(logits[:0], labels[:0]), "there are too few images")
    refused(lambda: temperature.calibrate(logits[:0], labels[:0]), "there are too few images")
    for value in (np.nan, np.inf, -np.inf):
        logits[3, 1] = value
        refused(lambda: temperature.fit(logits, labels), "gives logits that are not finite; the weights are damaged", BadCheckpoint)
    for num_classes, words in ((0, "Identity"), (3, "Sequential")):
        model = trickzoo.create("mobilenet_v1_025", num_classes=num_classes)
        model.head.fc = nn.Sequential(model.head.fc) if num_classes else model.head.fc
        refused(functools.partial(temperature.scale, model, 2.0), f"head.fc is not a linear layer but {words}", BadOption)
