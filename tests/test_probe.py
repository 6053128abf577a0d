"""`trickzoo probe`: nearest neighbours and linear probes on the features of several weights."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

import trickzoo
from tests.commands import Call
from trickzoo.classification.features import extract
from trickzoo.classification.probes import choose_probe, fit_probe, nearest_neighbours
from trickzoo.data.readers.imagenet import open_imagenet
from trickzoo.data.transforms import eval_transform
from trickzoo.studies.comparison import mcnemar
from trickzoo.studies.probe import Accuracy, Probed, conclusion, differences
from trickzoo.weights.record import Preprocessing

PACKAGED = "mobilenet_v1_025.tz_imagenette128"
NORMALISED = Preprocessing(size=32, crop=1.0)


@pytest.fixture(scope="module")
def points() -> tuple[torch.Tensor, torch.Tensor]:
    """120 points of 4 overlapping classes with 6 features of different scales, the last of which is constant."""
    noise = np.random.default_rng(0)
    labels = np.arange(120) % 4
    features = noise.normal(size=(120, 6)) * (1, 5, 0.2, 1, 1, 0) + 3 * np.eye(4, 6)[labels] * (0.5, 2, 0.1, 0.4, 0, 0) + (0, 9, 0, 0, 1, 2)
    return torch.from_numpy(features).float(), torch.from_numpy(labels)


def test_neighbours_vote_as_in_scikit_learn(points: tuple[torch.Tensor, torch.Tensor]) -> None:
    features, labels = points
    theirs = KNeighborsClassifier(9, metric="cosine", weights=lambda distance: np.exp(-distance / 0.07), algorithm="brute")
    expected = theirs.fit(features[:80].numpy(), labels[:80].numpy()).predict(features[80:].numpy())
    assert nearest_neighbours(features[:80], labels[:80], features[80:], 9).tolist() == expected.tolist()
    everyone = nearest_neighbours(features[:5], labels[:5], features[80:], 9)
    assert everyone.tolist() == nearest_neighbours(features[:5], labels[:5], features[80:], 5).tolist()


@pytest.mark.parametrize("l2", [1.0, 1e-2, 1e-4])
def test_the_probe_is_the_minimum_that_scipy_and_scikit_learn_find(points: tuple[torch.Tensor, torch.Tensor], l2: float) -> None:
    features, labels = points
    found = fit_probe(features, labels, 4, l2)
    scale = features.std(0, correction=0)
    inputs = ((features - features.mean(0)) / scale.where(scale > 0, 1)).double().numpy()

    def objective(flat: np.ndarray) -> float:
        weights, biases = flat[:24].reshape(6, 4), flat[24:]
        logits = inputs @ weights + biases
        cross_entropy = (logsumexp(logits, axis=1) - logits[np.arange(120), labels.numpy()]).mean()
        return float(cross_entropy + l2 / 2 * (weights**2).sum())

    best = minimize(objective, np.zeros(28), method="BFGS", options={"gtol": 1e-7})
    assert objective(found.coefficients.double().numpy().reshape(-1)) == pytest.approx(best.fun, abs=1e-6)
    theirs = LogisticRegression(C=1 / (120 * l2), tol=1e-8, max_iter=5000).fit(inputs, labels.numpy())
    ours = found.logits(features).softmax(1).numpy()
    assert np.abs(ours - theirs.predict_proba(inputs)).max() < 2e-3


def test_the_penalty_is_the_best_one_for_the_images_that_are_held_out(points: tuple[torch.Tensor, torch.Tensor]) -> None:
    features, labels = points
    held_out = torch.arange(120) % 5 == 0
    strengths = (10.0, 1.0, 0.1, 0.01, 0.001)
    chosen = choose_probe(features, labels, 4, held_out, strengths)
    losses = {}
    for l2 in strengths:
        fitted = fit_probe(features[~held_out], labels[~held_out], 4, l2)
        losses[l2] = float(torch.nn.functional.cross_entropy(fitted.logits(features[held_out]), labels[held_out]))
    assert chosen.l2 == min(losses, key=losses.__getitem__)
    assert 0.001 < chosen.l2 < 10
    assert torch.allclose(chosen.logits(features), fit_probe(features, labels, 4, chosen.l2).logits(features))


@pytest.mark.parametrize("workers", [0, 1])
def test_features_are_what_the_classifier_gets(colours: Path, workers: int) -> None:
    model = trickzoo.create(PACKAGED)
    images = open_imagenet(colours)
    done: list[int] = []
    found = extract(model, images, NORMALISED, device=torch.device("cpu"), workers=workers, progress=done.append)
    assert found.shape == (20, model.num_features) and sum(done) == 20
    from PIL import Image

    transform = eval_transform(NORMALISED)
    picture = Image.open(colours / "val" / images.entries[7].name.removeprefix("val/"))
    with torch.inference_mode():
        assert torch.allclose(model.head.fc(found[7]), model.eval()(transform(picture)[None])[0], atol=1e-4)


def probed(name: str, right: str) -> Probed:
    """A weight whose linear probe is right where `right` has a 1."""
    flags = np.array([letter == "1" for letter in right])
    return Probed(name, "resnet18", "", NORMALISED, 8, Accuracy.of(flags), Accuracy.of(flags), 0.1, flags, 1.0)


def test_the_differences_are_paired_and_corrected() -> None:
    a, b, c = probed("a", "1" * 60 + "0" * 40), probed("b", "1" * 55 + "0" * 45), probed("c", "0" * 40 + "1" * 40 + "0" * 20)
    found = differences([c, b, a])
    assert [(each.first, each.second, each.difference) for each in found] == [("a", "b", 5.0), ("a", "c", 20.0), ("b", "c", 15.0)]
    ps = [mcnemar(0, 5), mcnemar(20, 40), mcnemar(25, 40)]
    assert [each.p for each in found] == ps
    assert [each.p_holm for each in found] == pytest.approx([2 * ps[0], 3 * ps[1], 2 * ps[0]])
    assert all(low < each.difference < high for each in found for low, high in [each.interval])
    text = conclusion([c, b, a], found, 10.0)
    assert text.startswith("a suits these images best: its linear probe is right for 60.00 % of 100 images (95 % CI 50.20 to 69.06).")
    assert "significantly better than c (+20.00 points)" in text and "from b (+5.00 points) is not significant" in text
    assert conclusion([a], [], 55.0).startswith("No weight suits these images")
    assert conclusion([a], [], 10.0).startswith("A linear probe on a is right for 60.00 %")


def test_the_command_compares_weights(call: Call, colours: Path, tiny: Path, tmp_path: Path) -> None:
    out, rows = tmp_path / "probe.json", tmp_path / "probe.csv"
    status, text, err = call(
        "probe", "--data", colours, "--weights", f"{PACKAGED},{tiny}", "--size", 32, "--workers", 0, "--out", out, "--csv", rows
    )
    assert (status, err) == (0, "")
    found = json.loads(out.read_text())
    assert (found["n_train"], found["n"], found["majority"], found["neighbours"]) == (56, 20, 25.0, 20)
    assert [each["linear"]["top1"] for each in found["weights"]] == sorted(
        (each["linear"]["top1"] for each in found["weights"]), reverse=True
    )
    titles = next(line for line in text.splitlines() if line.startswith("weights"))
    assert titles.count("95 % CI") == 3 and titles.split()[-1] == "seconds"
    assert found["conclusion"] in text and found["versions"]["torch"]
    assert found["weights"][0]["linear"]["top1"] >= 85  # nearly any features tell colours apart
    table = list(csv.DictReader(rows.open()))
    assert [row["weights"] for row in table] == [each["weights"] for each in found["weights"]]
    assert float(table[1]["difference"]) == -found["differences"][0]["difference"]


def test_one_folder_is_divided(call: Call, colours: Path) -> None:
    status, text, _ = call(
        "probe", "--data", colours / "val", "--weights", PACKAGED, "--val-fraction", 0.2, "--size", 32, "--workers", 0, "--json"
    )
    found = json.loads(text)
    assert (status, found["n"], found["n_train"], found["split"]["val_fraction"]) == (0, 4, 16, 0.2)
    assert found["differences"] == []


def test_images_of_imagenets_training_are_noticed(call: Call, colours: Path, tmp_path: Path) -> None:
    for name in ("c0", "c1"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i, image in enumerate(sorted((colours / "train" / name).iterdir())[:6]):
            (tmp_path / "images" / name / (f"n01440764_{i}.JPEG" if i < 5 else "mine.png")).symlink_to(image)
    words = ("--data", tmp_path / "images", "--weights", PACKAGED, "--val-fraction", 0.5, "--size", 32, "--workers", 0)
    _, text, _ = call("probe", *words, "--out", tmp_path / "probe.json")
    seen = json.loads((tmp_path / "probe.json").read_text())["named_as_imagenet_training"]
    assert 4 <= seen <= 6
    assert f"{seen} validation images are named as ImageNet's training images: weights that were trained on ImageNet have seen" in text


def test_what_cannot_be_probed(call: Call, colours: Path, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "few").mkdir()
    for split in ("train", "val"):
        for name in ("c0", "c1"):
            place = tmp_path / "few" / split / name
            place.mkdir(parents=True)
            for image in sorted((colours / split / name).iterdir())[:2]:
                (place / image.name).symlink_to(image)
    for words, said in (
        (("--data", "shapes", "--weights", PACKAGED), "shapes are generated; name a folder of images with --data"),
        (("--data", colours, "--weights", "mobilenet_v1_025.nothing"), "mobilenet_v1_025.nothing"),
        (("--data", colours, "--weights", PACKAGED, "--neighbours", 0), "--neighbours must be 1 or more"),
        (("--data", tmp_path / "gone", "--weights", PACKAGED), "gone does not exist"),
        (("--data", tmp_path / "few", "--weights", tiny), "no class has three training images"),
        (("--data", colours / "val", "--weights", PACKAGED), "take some of them for validation with --val-fraction 0.2"),
    ):
        status, _, err = call("probe", *words)
        assert (status, said in err, err.count("\n")) == (2, True, 1), err
