"""Classes of different sizes: counts, a balanced order, a weighted loss, and figures that give all classes the same weight."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from sklearn.metrics import balanced_accuracy_score, f1_score
from sklearn.utils.class_weight import compute_class_weight
from torch import nn
from torch.nn import functional as F

from tests.annotated import refused
from tests.commands import caller
from tests.images import jpeg
from tests.training import COSINE, SMALL
from trickzoo.classification import class_counts, objective
from trickzoo.classification.evaluate import predict_resident
from trickzoo.classification.predictions import metrics
from trickzoo.cli.train import app
from trickzoo.errors import BadOption, NoEffect
from trickzoo.recipes.recipe import Recipe
from trickzoo.training.balance import balanced_order, class_weights

RECIPE = Recipe("r", "mobilenet_v1_025", "own")
LABELS = np.array([0] * 40 + [1] * 7 + [2] * 3)


def test_each_class_occurs_equally_often_in_the_balanced_order() -> None:
    order = balanced_order(LABELS, torch.Generator().manual_seed(0))
    assert len(order) == 50
    assert sorted(Counter(LABELS[order]).values()) == [16, 17, 17]
    times = Counter(order.tolist())
    assert [{times[i] for i in np.flatnonzero(label == LABELS)} for label in range(3)] == [{0, 1}, {2, 3}, {5, 6}]
    assert torch.equal(order, balanced_order(LABELS, torch.Generator().manual_seed(0)))
    assert not torch.equal(order, balanced_order(LABELS, torch.Generator().manual_seed(1)))


def test_weights_of_classes_are_scikit_learns() -> None:
    wanted = compute_class_weight("balanced", classes=np.arange(3), y=LABELS)
    np.testing.assert_allclose(class_weights(LABELS, 3).numpy(), wanted, rtol=1e-6)
    with pytest.raises(ZeroDivisionError, match="class 3 has no image"):
        class_weights(LABELS, 4)


def test_the_weighted_loss_is_torchs() -> None:
    logits, weights = torch.randn(6, 3), torch.tensor([0.4, 2.0, 5.0])
    target = torch.rand(6, 3).softmax(1)
    torch.testing.assert_close(objective.loss(RECIPE, logits, target, None, weights), F.cross_entropy(logits, target, weights))


def test_figures_are_scikit_learns_also_for_classes_that_never_occur() -> None:
    random = np.random.default_rng(0)
    labels, logits = random.choice(5, 200, p=[0.6, 0.2, 0.1, 0.1, 0]), random.normal(size=(200, 6)).astype(np.float32)
    logits[:, 5] -= 100  # neither predicted nor there
    logits[np.arange(200), labels] += 1
    val = SimpleNamespace(labels=labels, classes=tuple("abcdef"), take=lambda indices: torch.from_numpy(logits)[indices])
    val.names = ()
    found = metrics(predict_resident(nn.Identity(), val, lambda images: images, Accelerator(cpu=True), batch_size=64))  # type: ignore[arg-type]
    predicted = logits.argmax(1)
    assert found["top1"] == pytest.approx(100 * (predicted == labels).mean())
    assert found["top5"] == pytest.approx(100 * (np.argsort(-logits)[:, :5] == labels[:, None]).any(1).mean())
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        assert found["balanced_accuracy"] == pytest.approx(100 * balanced_accuracy_score(labels, predicted))
    assert found["macro_f1"] == pytest.approx(100 * f1_score(labels, predicted, average="macro"))


def test_balance_that_cannot_act_is_refused() -> None:
    images = SimpleNamespace(labels=np.array([0, 0, 1, 1]), classes=("a", "b"))
    refused(
        lambda: class_counts.to_balance(RECIPE.but("r", balance="loss"), images),
        "balance has no effect: all classes have 2 images",
        NoEffect,
    )
    images.labels = None
    refused(lambda: class_counts.to_balance(RECIPE.but("r", balance="loss"), images), "streamed, so the sizes of their classes", BadOption)
    assert class_counts.counts(images, None) == {} and class_counts.in_words(images, advise=True) == ()


@pytest.mark.parametrize("balance", [None, "sampler", "loss"])
def test_counts_are_said_and_stored_with_figures_for_uneven_classes(
    balance: str | None, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for split, n in (("train", 10), ("val", 4)):
        for label, number in (("common", n), ("rare", n // 3)):
            for i in range(number):
                jpeg(tmp_path / "set" / split / label / f"{i}.jpg", len(split) + 10 * i + len(label))
    more = () if balance is None else ("--balance", balance)
    out = tmp_path / "run"
    status, text, _ = caller(capsys, app)("--recipe", COSINE, *SMALL, "--data", tmp_path / "set", "--out", out, "--workers", 0, *more)
    assert status == 0
    advice = "; --balance sampler or --balance loss gives all classes the same weight" if balance is None else ""
    assert f"training images: common 10, rare 3{advice}\n" in text
    result = json.loads((out / "result.json").read_text())
    assert result["class_counts"] == {"common": {"train": 10, "val": 4}, "rare": {"train": 3, "val": 1}}
    assert result["recipe"]["balance"] == balance
    recalls = [result["balanced_accuracy"] * 2 - 100 * rare for rare in (0, 1)]
    assert result["top1"] in [pytest.approx(0.8 * common + 20 * rare, abs=0.01) for rare, common in enumerate(recalls)]
    assert 0 <= result["macro_f1"] <= 100
