"""Made results of the fine-tunings of a transfer study, and their summaries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from msgspec import convert, to_builtins
from msgspec.structs import replace

from trickzoo.studies import transfer_summary
from trickzoo.studies.records import LadderStudy, TransferStudy
from trickzoo.studies.results import FineTuningResult, read
from trickzoo.studies.samples import percentage

LADDER = read(Path(__file__).parents[1] / "benchmarks/results/ladder_imagenette128_mobilenet_v1_025/ladder.json", LadderStudy)
RUNGS = [rung.rung for rung in LADDER.rungs]
TOP1 = {rung.rung: dict(zip(rung.seeds, rung.top1.values, strict=True)) for rung in LADDER.rungs}
MEASURE = {"detection": "voc_ap50", "segmentation": "miou"}
OTHER = {"detection": "coco_ap", "segmentation": "pixel_accuracy"}
Figures = dict[str, list[float | None]]

ALIKE: Figures = {rung: [round(5 + 0.4 * TOP1[rung][seed] + (1, 0.2, -0.9)[seed], 4) for seed in range(3)] for rung in RUNGS}
"""Figures that follow top-1 accuracy."""
APART: Figures = {rung: [30.0 + (3 * i % 7) + 0.1 * seed * (i + 1) for seed in range(3)] for i, rung in enumerate(RUNGS)}
"""Figures that do not follow top-1 accuracy."""


def result(task: str, rung: str, seed: int, figure: float | None) -> dict[str, Any]:
    """A fine-tuning's result with this figure."""
    return {
        "task": task,
        "measure": MEASURE[task],
        MEASURE[task]: figure,
        OTHER[task]: None if figure is None else figure / 2,
        "n": 500,
        "n_train": 1500,
        "recipe": {"name": f"small.{task}.voc", "epochs": 12, "size": 256},
        "seed": seed,
        "backbone": {"rung": rung, "seed": seed, "top1": TOP1.get(rung, {}).get(seed)},
        "data_digest": "d",
        "val_digest": "v",
        "processes": 1,
        "wall_seconds": 90.0,
        "commit": "c0ffee+",
        "command": "trickzoo transfer",
        "hardware": "<2 × CPU>",
        "platform": "P",
        "versions": {"torch": "2"},
    }


def results(**figures: Figures) -> dict[str, dict[str, dict[int, FineTuningResult]]]:
    """The results of tasks with these figures by rung and seed."""
    return {
        task: {
            rung: {seed: convert(result(task, rung, seed, figure), FineTuningResult) for seed, figure in enumerate(values)}
            for rung, values in by_rung.items()
        }
        for task, by_rung in figures.items()
    }


def summarise(ladder: LadderStudy = LADDER, **figures: Figures) -> TransferStudy:
    return transfer_summary.summarise(ladder, results(**figures))


def only(figures: Figures, rungs: int = 7, seeds: int = 3) -> Figures:
    """The figures of the first rungs and seeds."""
    return {rung: figures[rung][:seeds] for rung in RUNGS[:rungs]}


def with_top1(values: dict[str, list[float]]) -> LadderStudy:
    """The ladder with other accuracies."""
    return replace(LADDER, rungs=tuple(replace(rung, top1=percentage(values[rung.rung])) for rung in LADDER.rungs))


def write(out: Path, tasks: dict[str, dict[str, dict[int, Any]]]) -> None:
    """Write the result file of each fine-tuning into the folder of a study."""
    for task, by_rung in tasks.items():
        for rung, by_seed in by_rung.items():
            for seed, each in by_seed.items():
                (out / task / f"{rung}-{seed}").mkdir(parents=True)
                (out / task / f"{rung}-{seed}" / "result.json").write_text(json.dumps(to_builtins(each)))
