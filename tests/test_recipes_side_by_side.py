"""The comparison of published recipes: the peers have the published settings, train, and are compared in pairs."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torch import Tensor, nn

from benchmarks import peers, recipes
from benchmarks import recipes_summary as study
from benchmarks.peers import A3, PEERS, V2, Decoded, Parts
from trickzoo.errors import BadCheckpoint, BadData

PER_EPOCH = 1252
"""Steps in an epoch of ImageNet with a batch of 1,024."""


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


def decays(parts: Parts, net: nn.Module) -> dict[str, float]:
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    return {names[id(p)]: group["weight_decay"] for group in parts.optimiser.param_groups for p in group["params"]}


def rates(parts: Parts, steps: Sequence[int]) -> list[float]:
    """Return the learning rate after some numbers of steps. The optimiser takes no step."""
    found, wanted = [], set(steps)
    parts.optimiser.step()
    for taken in range(1, max(steps) + 1):
        parts.schedule(taken)
        if taken in wanted:
            found.append(parts.optimiser.param_groups[0]["lr"])
    return found


def test_v2_at_its_published_length_has_torchvisions_settings() -> None:
    net = network()
    parts = V2.parts(net, 3, PER_EPOCH, 600, V2.rate(batch=1024))
    assert isinstance(parts.optimiser, torch.optim.SGD)
    group = parts.optimiser.param_groups[0]
    assert (group["initial_lr"], group["momentum"], group["nesterov"]) == (0.5, 0.9, False)
    assert decays(parts, net) == {"0.weight": 2e-5, "0.bias": 2e-5, "1.weight": 0, "1.bias": 0, "5.weight": 2e-5, "5.bias": 2e-5}
    crop, flip, trivial, *_, erase = parts.transform.transforms
    assert [type(each).__name__ for each in (crop, flip, trivial, erase)] == [
        "RandomResizedCrop",
        "RandomHorizontalFlip",
        "TrivialAugmentWide",
        "RandomErasing",
    ]
    assert erase.p == 0.1 and crop.scale == peers.AREA
    assert {type(each).__name__: round(float(each._dist.concentration1), 6) for each in parts.mix.transforms} == {
        "MixUp": 0.2,
        "CutMix": 1.0,
    }
    assert parts.loss.label_smoothing == 0.1 and V2.repeats == 4
    average, copied = parts.average
    assert copied == 5 * PER_EPOCH
    averaged = [torch.ones(1, dtype=torch.float64)]
    average.multi_avg_fn(averaged, [torch.zeros(1, dtype=torch.float64)], 1)  # leaves the decay in place of the 1
    published = 1 - (1 - 0.99998) * 1024 * 32 / 600  # torchvision's script, for an update every 32 steps
    assert float(averaged[0]) ** 32 == pytest.approx(published, abs=2e-6)


def test_a3_at_its_published_length_has_timms_settings() -> None:
    net = network()
    parts = A3.parts(net, 3, 625, 100, A3.rate(batch=2048))
    assert type(parts.optimiser).__name__ == "Lamb" and A3.repeats == 1 and parts.average is None
    assert decays(parts, net) == {"0.weight": 0.02, "0.bias": 0, "1.weight": 0, "1.bias": 0, "5.weight": 0.02, "5.bias": 0}
    assert parts.optimiser.param_groups[0]["lr"] == pytest.approx(1e-4)
    assert rates(parts, [5 * 625, 50 * 625, 100 * 625 - 1]) == pytest.approx([8e-3 * (1 + np.cos(np.pi * 0.05)) / 2, 4e-3, 1e-6], rel=2e-3)
    operation = parts.transform.transforms[2].ops[0]
    assert (operation.magnitude, operation.magnitude_std, operation.prob) == (6, 0.5, 0.5)
    assert (parts.mix.mixup_alpha, parts.mix.cutmix_alpha, parts.mix.label_smoothing, parts.mix.mix_prob) == (0.1, 1.0, 0.0, 1.0)
    assert (parts.loss.target_threshold, parts.loss.smoothing) == (0.2, 0.0)


def test_v2_warms_up_for_the_same_fraction_and_decays_along_a_cosine() -> None:
    parts = V2.parts(network(), 3, 120, 10, 0.5)  # 1,200 steps, 10 of them warm-up
    found = rates(parts, [1, 10, 605, 1200])
    assert found == pytest.approx([0.5 * (0.01 + 0.099), 0.5, 0.25, 0.0], abs=1e-6)


def test_rates_are_scaled_linearly() -> None:
    assert (V2.rate(batch=64), A3.rate(4, batch=64)) == (0.03125, 1e-3)


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_trains_and_repeats_bit_for_bit(name: str) -> None:
    draw = np.random.default_rng(0)
    files = SimpleNamespace(entries=range(8), content=lambda index: _png(draw, index), place=str)
    images = Decoded(files, [index % 3 for index in range(8)])
    found: list[Tensor] = []
    for _ in range(2):
        random.seed(3)
        np.random.seed(3)
        net = network()
        start = net[0].weight.detach().clone()
        fitted = peers.fit(PEERS[name], net, images, 3, seed=3, epochs=2, lr=0.05, batch=4, workers=0)
        assert (fitted is net) is (name == "timm_a3")
        assert not torch.equal(fitted[0].weight, start) and fitted[0].weight.isfinite().all()
        found.append(fitted[0].weight.detach().clone())
    assert torch.equal(*found)


def _png(draw: np.random.Generator, index: int) -> bytes:
    content = io.BytesIO()
    Image.fromarray(draw.integers(0, 256, (70, 80, 3), dtype=np.uint8)).save(content, "png")
    return content.getvalue()


TOPS = {"zoo": [70.0, 71.0, 70.4], "paper": [68.1, 69.5, 68.0], "torchvision_v2": [60.0, 62.0, 61.1], "timm_a3": [70.3, 70.8]}


NAME = "recipes_imagenette128_mobilenet_v1_025_30_epochs"


def written(out: Path, tops: dict[str, list[float]]) -> Path:
    for name, values in tops.items():
        for seed, top1 in enumerate(values):
            write(out / f"{name}-{seed}.json", name, seed, top1)
    write(out / "grid" / "timm_a3-4.json", "timm_a3", 0, 33.0)
    return out


def write(path: Path, name: str, seed: int, top1: float, **changes: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    settings = {"name": f"recipes.{name}", "model": "mobilenet_v1_025", "epochs": 30, "lr": 0.001}
    content = {"settings": settings, "seed": seed, "top1": top1, "n": 400, "n_train": 900, "majority": 10.0, "wall_seconds": 5.0}
    path.write_text(json.dumps({**content, "data_digest": "d", "val_digest": "v", "command": "c", **changes}))


def test_recipes_are_compared_in_pairs_with_holms_correction(tmp_path: Path) -> None:
    results = tmp_path / "results"
    recipes.publish(written(tmp_path, TOPS), results, seeds=3)
    found = study.read_study(results / f"{NAME}.json")
    rungs = {rung.rung: rung for rung in found.rungs}
    tests = {name: stats.ttest_rel(values, TOPS["zoo"][: len(values)]) for name, values in TOPS.items() if name != "zoo"}
    for name, test in tests.items():
        assert rungs[name].difference.interval == pytest.approx(tuple(test.confidence_interval(0.95)))
    order = sorted(tests, key=lambda name: tests[name].pvalue)
    least = 0.0
    for rank, name in enumerate(order):
        least = max(least, min(1.0, (3 - rank) * tests[name].pvalue))
        assert rungs[name].difference.p_holm == pytest.approx(least)
    assert (found.finished, found.planned, rungs["zoo"].difference, rungs["timm_a3"].difference.seeds) == (11, 12, None, (0, 1))
    assert found.findings[0] == "The highest mean top-1 accuracy is that of timm's A3 recipe, 70.55 %; trickzoo's recipe reaches 70.47 %."
    assert "11 of the 12 training runs" in " ".join(found.findings)
    assert [(rate.recipe, rate.lr, rate.top1) for rate in found.rates] == [("timm_a3", 0.001, 33.0)]
    assert (results / NAME / "timm_a3-1.json").read_bytes() == (tmp_path / "timm_a3-1.json").read_bytes()
    assert "torchvision's V2 recipe" in (results / NAME / "recipes.svg").read_text(encoding="utf-8")


def test_trainings_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="holds no finished training"):
        study.summarise(tmp_path, 3)
    written(tmp_path, {"zoo": [70.0]})
    write(tmp_path / "paper-0.json", "paper", 0, 60.0, data_digest="other")
    with pytest.raises(BadData, match="different images"):
        study.summarise(tmp_path, 3)
    (tmp_path / "paper-0.json").write_text("{}")
    with pytest.raises(BadCheckpoint, match=r"paper-0\.json is not the result"):
        study.summarise(tmp_path, 3)


@pytest.mark.parametrize("path", sorted(recipes.RESULTS.glob("recipes_*.json")), ids=lambda path: path.stem)
def test_the_published_comparisons_are_those_of_their_trainings(path: Path) -> None:
    published = study.read_study(path)
    assert path.stem.endswith(f"_{published.epochs}_epochs")
    assert published == study.summarise(path.with_suffix(""), len(published.seeds))
