"""The figures in sentences that nobody generates are those of the result files, computed again by scipy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from docs.pages.places import CARDS, DOCS, STUDIES
from trickzoo.studies import ladder_summary, transfer_words
from trickzoo.studies.records import LadderStudy, TransferStudy
from trickzoo.studies.results import read

ROOT = Path(__file__).parents[1]
Seeds = dict[int, float]
LADDER, TRANSFER = "ladder_imagenette128_resnet18_d_30_epochs", "transfer_imagenette128_mobilenet_v1_025_60_epochs"


def contents(name: str) -> Any:
    return json.loads((STUDIES / name).read_text(encoding="utf-8"))


def sentences(page: Path) -> str:
    return " ".join(page.read_text(encoding="utf-8").split())


def ladder(name: str) -> dict[str, Seeds]:
    """The top-1 accuracy of each rung by seed, from the results of the training runs."""
    found: dict[str, Seeds] = {}
    for path in STUDIES.glob(f"{name}/*-*/result.json"):
        rung, _, seed = path.parent.name.rpartition("-")
        found.setdefault(rung, {})[int(seed)] = json.loads(path.read_text(encoding="utf-8"))["top1"]
    return found


def tasks() -> dict[str, dict[str, Seeds]]:
    """The metric of each rung of the transfer study by seed, for each task."""
    found = contents(f"{TRANSFER}/transfer.json")["tasks"]
    return {
        each["task"]: {rung["rung"]: dict(zip(rung["seeds"], rung["figure"]["values"], strict=True)) for rung in each["rungs"]}
        for each in found
    }


def paired(before: Seeds, after: Seeds, seeds: int = 99) -> tuple[float, float, float, float]:
    """The mean difference of the first seeds, the ends of its interval, and p."""
    shared = [seed for seed in sorted(before.keys() & after.keys()) if seed < seeds]
    test = stats.ttest_rel([after[seed] for seed in shared], [before[seed] for seed in shared])
    low, high = test.confidence_interval(0.95)
    return float(np.mean([after[seed] - before[seed] for seed in shared])), low, high, test.pvalue


def signed(value: float, digits: int) -> str:
    return f"{value:+.{digits}f}".replace("-", "−")


def interval(low: float, high: float, digits: int) -> str:
    return f"{signed(low, digits)} to {signed(high, digits)}"


def test_the_readme_states_the_ladder() -> None:
    rungs = ladder(LADDER)
    mean, low, high, _ = paired(rungs["baseline"], rungs["mixup"])
    first, last, best = (np.mean(list(rungs[name].values())) for name in ("baseline", "mixup", "cosine"))
    text = sentences(ROOT / "README.md")
    assert f"from {first:.1f} to {last:.1f} % ({signed(mean, 1)} points, 95 % CI {interval(low, high, 1)})" in text
    assert f"Without label smoothing and mixup, it reaches {best:.1f} %." in text


@pytest.mark.parametrize(("task", "named"), [("detection", "an AP50"), ("segmentation", "a mean IoU")])
def test_the_readme_states_the_transfer(task: str, named: str) -> None:
    rungs = tasks()[task]
    mean, low, high, _ = paired(rungs["baseline"], rungs["mixup"])
    first, last = (np.mean(list(rungs[name].values())) for name in ("baseline", "mixup"))
    difference = f"({signed(mean, 1)} points, 95 % CI {interval(low, high, 1)}, fifteen seeds)"
    assert f"reach {named} of {last:.1f} % instead of {first:.1f} % {difference}" in sentences(ROOT / "README.md")


@pytest.mark.parametrize("place", sorted(STUDIES.glob("ladder_*/ladder.json")), ids=lambda place: place.parent.name)
def test_the_findings_of_a_ladder_follow_from_its_figures(place: Path) -> None:
    study = read(place, LadderStudy)
    assert study.findings == tuple(ladder_summary.findings(study))


@pytest.mark.parametrize("place", sorted(STUDIES.glob("transfer_*/transfer.json")), ids=lambda place: place.parent.name)
def test_the_findings_of_a_transfer_follow_from_its_figures(place: Path) -> None:
    study = read(place, TransferStudy)
    assert study.findings == tuple(transfer_words.findings(study))


def test_the_notes_state_the_study_after_fewer_seeds() -> None:
    text, rungs = sentences(DOCS / "results.md"), tasks()["segmentation"]
    mean, low, high, p = paired(rungs["baseline"], rungs["mixup"], 5)
    assert p < 0.05
    assert f"significant with five seeds ({signed(mean, 2)} points, 95 % CI {interval(low, high, 2)})" in text
    _, low, high, p = paired(rungs["baseline"], rungs["mixup"], 11)
    assert p > 0.05
    assert f"was not with eleven ({interval(low, high, 2)})" in text
    ps = {task: paired(each["baseline"], each["mixup"])[3] for task, each in tasks().items()}
    assert 2 * ps["detection"] < min(0.001, ps["segmentation"])
    assert f"in segmentation (p = {ps['segmentation']:.3f})" in text
    worst, rung, seed = min((value, rung, seed) for rung, values in tasks()["detection"].items() for seed, value in values.items())
    assert (rung, f"seed {seed} without the tricks gives the worst detector of all, with an AP50 of {worst:.1f} %" in text) == (
        "baseline",
        True,
    )


def test_the_notes_state_the_rungs_that_were_trained_again() -> None:
    text, rungs = sentences(DOCS / "results.md"), ladder("ladder_imagenette128_mobilenet_v1_025_60_epochs")
    for rung in ("warmup", "linear_scaling"):
        *some, last = (f"{rungs[rung][seed]:.1f}" for seed in range(5))
        assert f"{', '.join(some)} and {last} % with" in text
    mean, _, _, p = paired(rungs["baseline"], rungs["linear_scaling"])
    assert p > 0.05
    assert f"changes it by {signed(mean, 2)} points with the new backbones; neither is significant" in text


def test_the_card_of_low_precision_states_the_measured_speed() -> None:
    detector, segmenter = contents("speed/transfer.json")["comparisons"]
    speeds = [each["seconds"]["trickzoo"]["median"] / each["seconds"]["trickzoo, bf16"]["median"] for each in (detector, segmenter)]
    wanted = "a training step of our Faster R-CNN is {:.1f} times as fast in bf16 as in fp32, and one of our FCN {:.1f} times"
    assert wanted.format(*speeds) in sentences(CARDS / "low_precision.md")


def test_the_page_of_deployment_states_the_accuracy_in_int8() -> None:
    measured = contents("precision_accuracy_mobilenet_v1_025.json")
    row = measured["rows"]["onnxruntime int8"]
    assert row["top1"] == measured["rows"]["openvino int8"]["top1"]
    text = sentences(DOCS / "deployment.md")
    assert f"calibrated on {measured['calibration']} training images, has a top-1 accuracy of {row['top1']:.2f} % in int8" in text
    assert (
        f"and {measured['fp32_top1']:.2f} % in fp32 on the 3,925 validation images, with {row['agreement']:.1f} % equal predictions" in text
    )
    low, high = row["interval"]
    assert f"{row['difference']:.2f} points (95 % CI {low:.2f} to {high:.2f})" in text


def test_the_page_of_training_states_the_interruptions() -> None:
    soak = contents("soak.json")
    kills = {soak["kills"][name] for name in ("SIGKILL", "SIGTERM", "two SIGINT")}
    text = sentences(DOCS / "training.md")
    assert kills == {20}
    assert "five training runs were interrupted 60 times (SIGKILL, SIGTERM and two Ctrl-C, 20 each)" in text
    assert (soak["equal"], len(soak["trainings"]), "All six ended with equal weights." in text) == (6, 6, True)


def test_the_page_of_records_states_its_trainings() -> None:
    text, tried = sentences(DOCS / "records.md"), contents("records/settings_30_epochs.json")
    own, smaller, decayed, small_batch = (f"{each['top1']:.1f} %" for each in tried["trainings"])
    assert [(each["size"], each["epochs"], each["weight_decay"], each["batch_size"]) for each in tried["trainings"]] == [
        (96, 30, 5e-4, 64),
        (80, 40, 5e-4, 64),
        (96, 30, 2e-3, 64),
        (96, 30, 5e-4, 32),
    ]
    at = {(each["trained_size"], each["size"]): each["top1"] for each in tried["evaluations"] if each["crop"] == 0.875}
    assert f"The recipe reaches {own} there. A weight decay of 2e-3 reached {decayed}, batches of 32 images {small_batch}" in text
    assert f"images of up to 80 × 80 pixels {smaller}, or {at[80, 96]:.1f} % if they are evaluated at 96 × 96" in text
    assert abs(at[96, 96] - at[96, 128]) < 0.1 < 1 < at[96, 128] - max(at[96, 112], at[96, 160])
    (n,) = {each["n"] for each in tried["trainings"]}
    share = tried["trainings"][0]["top1"] / 100
    assert 1.5 < stats.norm.ppf(0.975) * 100 * (2 * share * (1 - share) / n) ** 0.5 < 2.5  # of two networks on the same number of images
    assert f"With {n:,} images, a difference of less than about two points may be chance" in text
    runs = [contents(f"records/record.resnet18_d/30-epochs-seed-{seed}.json") for seed in range(5)]
    mean, minutes = np.mean([run["top1"] for run in runs]), runs[0]["wall_seconds"] / 60
    assert f"five training runs of 30 epochs reached {mean:.1f} % on average" in text
    assert f"the one that had both cores to itself took {minutes:.0f} minutes" in text


def test_the_page_of_records_states_the_settings_of_mobilenet() -> None:
    text, tried = sentences(DOCS / "records.md"), contents("weights/settings_mobilenet_v1_025.json")
    at = {json.dumps(each["changes"]): f"{each['top1']:.1f} %" for each in tried["trainings"]}
    own, larger, both = at["{}"], at['{"area": [0.6, 1.0]}'], at['{"weight_decay": 0.0002, "area": [0.6, 1.0]}']
    decayed, hard = at['{"weight_decay": 0.0001}'], at['{"smoothing": 0.0}']
    adamw = at['{"lr": 0.004, "weight_decay": 0.05, "optimizer": "adamw"}']
    assert {each["n"] for each in tried["trainings"]} == {1899} and tried["recipe"]["epochs"] == 30
    assert (tried["recipe"]["augmentation"]["area"], tried["recipe"]["weight_decay"]) == ([0.35, 1.0], 5e-4)
    assert f"it reaches {own}. Random crops that cover at least 60 % of the image, in place of 35 %, reached {larger}, and {both}" in text
    assert f"a weight decay of 1e-4 reached {decayed}, no label smoothing {hard}, and AdamW {adamw}" in text
