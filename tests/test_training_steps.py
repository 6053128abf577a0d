"""The steps of a training run: with micro-batches, and with many tricks beside a loop that is written by hand."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from tests.training import RECIPE, train
from trickzoo.classification import task
from trickzoo.classification.model import prepare
from trickzoo.data.resident import Resident
from trickzoo.training import loop
from trickzoo.training.schedule import learning_rate
from trickzoo.training.shares import PROCESS, seed_of
from trickzoo.tricks.cutmix import cutmix
from trickzoo.tricks.mixup import mixup


def test_micro_batches_give_the_same_weights_as_the_whole_batch(resident: Resident, tmp_path: Path) -> None:
    recipe = RECIPE.but("no mixup", mixup=0.0)
    weights = []
    for micro in (8, 2):
        model = prepare(recipe, 4, 0)
        model.freeze(model)  # BatchNorm is frozen, because its statistics are those of a micro-batch
        model.requires_grad_(True)
        train(recipe, model, resident, None, tmp_path / str(micro), micro_batch=micro)
        weights.append(model.state_dict())
    for key in weights[0]:
        torch.testing.assert_close(weights[0][key], weights[1][key], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("changes", "micro"),
    [
        ({"mixup": 0.4, "balance": "loss", "teacher": "given", "temperature": 5.0, "ema": 0.5}, 4),
        ({"mixup": 0.4, "mixup_form": "official", "smoothing_form": "uniform", "distillation_form": "official", "teacher": "given"}, 8),
        ({"mixup": 0.0, "cutmix": 1.0, "balance": "loss", "optimizer": "adamw", "lr": 0.0005, "teacher": "given", "ema": 0.9}, 2),
        ({"mixup": 0.0, "balance": "sampler", "decay_biases_and_norms": True, "weight_decay": 0.01, "ema": 0.5}, 4),
    ],
    ids=str,
)
def test_the_steps_of_many_tricks_together_are_those_of_a_loop_written_by_hand(changes: dict[str, Any], micro: int, tmp_path: Path) -> None:
    recipe = RECIPE.but("together", **{"pretrained": "tz_imagenette128", "lr": 0.005, "weight_decay": 0.05, **changes})
    labels, k = np.repeat(np.arange(4), (12, 7, 4, 3)), 4
    pixels = np.random.default_rng(0).integers(0, 256, (26, 3, 40, 40)).astype(np.uint8)
    data = Resident(pixels, np.full((26, 2), 40), labels, tuple("abcd"), "digest")
    model, other = (prepare(recipe, k, seed) for seed in (0, 1))
    model.freeze(model).requires_grad_(True)  # the statistics of micro-batches of 1 × 1 pixels would amplify rounding errors
    teacher = other.eval() if recipe.teacher else None
    accelerator = Accelerator(cpu=True)
    training = task.Classification(recipe, model, data, None, seed=0, accelerator=accelerator, micro_batch=micro, teacher=teacher)
    network, average = copy.deepcopy(model), copy.deepcopy(model)

    named = dict(network.named_parameters())
    exempt = [] if recipe.decay_biases_and_norms else [name for name, each in named.items() if name.endswith("bias") or each.ndim == 1]
    groups = [
        {"params": [each for name, each in named.items() if name not in exempt], "weight_decay": recipe.weight_decay},
        {"params": [named[name] for name in exempt], "weight_decay": 0.0},
    ]
    options = {"momentum": 0.9, "nesterov": True} if recipe.optimizer == "sgd" else {"betas": (0.9, 0.999)}
    optimiser = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[recipe.optimizer](groups, lr=1.0, **options)
    of_classes = len(labels) / (k * torch.from_numpy(np.bincount(labels)))
    wanted, steps = [], 2 * (26 // 8)
    batches = (batch for first in (0, steps // 2) for batch in training.batches(first))
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(recipe, step, steps // 2)
        torch.manual_seed(seed_of(0, PROCESS, step, 0))
        total = 0.0
        for _ in range(8 // micro):
            images, classes = next(batches)
            mixing = torch.eye(micro)  # the shares of the images in each mixed one
            if recipe.mixup:
                images, mixing = mixup(images, mixing, recipe.mixup, form=recipe.mixup_form)
            elif recipe.cutmix:
                images, mixing = cutmix(images, mixing, recipe.cutmix)
            weight = of_classes[classes] if recipe.balance == "loss" else torch.ones(micro)
            hit = torch.nn.functional.one_hot(classes, k)
            off = 0.1 / (k - 1) if recipe.smoothing_form == "paper" else 0.1 / k
            target = mixing @ (weight[:, None] * (hit * (0.9 if recipe.smoothing_form == "paper" else 0.9 + off) + (1 - hit) * off)).float()
            logits = network(images)
            loss = -(target * logits.log_softmax(1)).sum() / micro
            if teacher is not None:
                t = recipe.temperature
                of_images = -(teacher(images).div(t).softmax(1).detach() * logits.div(t).log_softmax(1)).sum(1)
                soft = t**2 * (mixing @ weight.float() * of_images).sum() / micro
                loss = loss + soft if recipe.distillation_form == "paper" else 0.5 * loss + 0.5 * soft
            (loss * micro / 8).backward()
            total += loss.item() * micro / 8
        wanted.append(total)
        optimiser.step()
        optimiser.zero_grad()
        decay = min(recipe.ema, (1 + step) / (10 + step))
        with torch.no_grad():
            for mean, value in zip(average.parameters(), network.parameters(), strict=True):
                mean.copy_(decay * mean + (1 - decay) * value)
    found: list[float] = []
    loop.fit(training, tmp_path, seed=0, accelerator=accelerator, report=lambda progress: found.append(progress.loss))
    assert found == pytest.approx(wanted, rel=1e-4)
    for one, two in ((model, network), *([(training.average, average)] if recipe.ema else [])):
        for key, value in dict(one.named_parameters()).items():
            torch.testing.assert_close(value, dict(two.named_parameters())[key], atol=1e-4, rtol=1e-3, msg=key)
