"""Classes of different sizes: counts, a balanced order, a weighted loss, and figures that give all classes the same weight."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from sklearn.metrics import balanced_accuracy_score, f1_score
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn
from torch.nn import functional as F

from tests.annotated import refused
from tests.commands import caller
from tests.images import jpeg
from tests.training import COSINE, SMALL
from trickzoo.classification import class_counts, objective
from trickzoo.classification.evaluate import predict_resident
from trickzoo.classification.predictions import metrics
from trickzoo.classification.task import Classification
from trickzoo.cli.train import app
from trickzoo.errors import BadOption, NoEffect
from trickzoo.recipes.collection import find
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


WEIGHTS, OF_IMAGES = torch.tensor([0.4, 2.0, 5.0]), torch.tensor([0, 1, 2, 0, 0, 1])
WEIGHED = RECIPE.but("r", balance="loss")


BLACK = torch.zeros(6, 3, 8, 8)


def loss_of(recipe: Recipe, logits: Tensor, teacher: Tensor | None = None) -> Tensor:
    torch.manual_seed(0)
    _, target = objective.targets(recipe, BLACK, OF_IMAGES, 3, WEIGHTS)
    return objective.loss(recipe, logits, target, teacher)


def test_the_loss_of_each_image_has_the_weight_of_its_class() -> None:
    logits = torch.randn(6, 3)
    wanted = F.cross_entropy(logits, OF_IMAGES, WEIGHTS, reduction="sum") / 6
    torch.testing.assert_close(loss_of(WEIGHED, logits), wanted)
    task: Any = SimpleNamespace(recipe=WEIGHED, data=SimpleNamespace(classes="abc"), teacher=None, class_weights=WEIGHTS)
    task.accelerator = Accelerator(cpu=True)
    torch.testing.assert_close(Classification.loss(task, lambda images: logits, (BLACK, OF_IMAGES)), wanted)  # type: ignore[arg-type]
    for form, epsilon in (("uniform", 0.1), ("paper", 0.1 * 3 / 2)):  # torch divides ε among all classes
        smoothed = F.cross_entropy(logits, OF_IMAGES, label_smoothing=epsilon, reduction="none")
        found = loss_of(WEIGHED.but("r", smoothing=0.1, smoothing_form=form), logits)
        torch.testing.assert_close(found, (WEIGHTS[OF_IMAGES] * smoothed).mean())


@pytest.mark.parametrize("trick", [{"mixup": 0.2}, {"mixup": 0.2, "mixup_form": "official"}, {"cutmix": 1.0}])
def test_mixed_images_have_the_weights_of_both_images(trick: dict[str, Any]) -> None:
    logits, alone = torch.randn(6, 3), torch.eye(6)[:, :, None, None].expand(-1, -1, 8, 8)
    recipe = WEIGHED.but("r", smoothing=0.1, smoothing_form="uniform", **trick)
    torch.manual_seed(0)
    mixed, _ = objective.targets(recipe, alone, OF_IMAGES, 3, WEIGHTS)
    share = mixed.mean((2, 3))  # of each image in each mixed one
    losses = torch.stack([F.cross_entropy(logits, label.expand(6), label_smoothing=0.1, reduction="none") for label in OF_IMAGES], 1)
    torch.testing.assert_close(loss_of(recipe, logits), (share * WEIGHTS[OF_IMAGES] * losses).sum(1).mean())


def test_distillation_has_the_weights_of_the_images_too() -> None:
    logits, teacher = torch.randn(2, 6, 3)
    soft = F.cross_entropy(logits / 20, (teacher / 20).softmax(1), reduction="none")
    hard = F.cross_entropy(logits, OF_IMAGES, reduction="none")
    torch.testing.assert_close(loss_of(WEIGHED, logits, teacher), (WEIGHTS[OF_IMAGES] * (hard + 400 * soft)).mean())


def test_a_weighted_smoothed_loss_is_lowest_for_the_right_class() -> None:
    labels = np.repeat([0, 1], [980, 20])
    logits = torch.zeros(2, 2, requires_grad=True)
    optimiser = torch.optim.SGD([logits], lr=0.2)
    recipe, weights = find("own.finetune"), class_weights(labels, 2)
    for _ in range(200):
        _, target = objective.targets(recipe, BLACK[:2], torch.tensor([0, 1]), 2, weights)
        optimiser.zero_grad()
        objective.loss(WEIGHED, logits, target, None).backward()
        optimiser.step()
    assert logits.argmax(1).tolist() == [0, 1]


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
