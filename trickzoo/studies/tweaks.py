"""The tweaks B, C and D side by side: the paper's table, the published figures of OpenMMLab and GluonCV, and those of a ladder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from trickzoo.studies.found import LadderRung, LadderStudy
from trickzoo.weights import manifest
from trickzoo.weights.gluoncv import PUBLISHED

LETTERS = ("", "b", "c", "d")
GLUONCV = {"v1": "", "v1b": "b", "v1c": "c", "v1d": "d"}
MIXED_UP = ("117a384e", "1b2b825f", "cddbc86f")
"""GluonCV's D networks that were also trained with mixup, which B and C were not."""


@dataclass(frozen=True)
class Series:
    """Networks of one depth that one party trained by one recipe.

    Attributes:
        who: the party.
        depth: the depth of the ResNet.
        recipe: the training in a few words.
        source: where the figures were published.
        top1: top-1 accuracy in percent by the letter of the network, "" for the original.
    """

    who: str
    depth: int
    recipe: str
    source: str
    top1: dict[str, float]


def series(paper_file: Path) -> list[Series]:
    """Return every published series on ImageNet-1k. `paper_file` is the JSON file with the paper's figures."""
    paper = json.loads(paper_file.read_text(encoding="utf-8"))
    by_letter = {name.partition("_")[2]: value for name, value in paper["top1"].items()}
    found = [Series("the paper", 50, paper["recipe"], paper["source"], by_letter)]
    for depth in (50, 101, 152):
        records = {letter: manifest.find(f"resnet{depth}_{letter}.mm_in1k") for letter in "bcd"}
        figures = {letter: record.metrics[0].top1 for letter, record in records.items()}
        found.append(Series("OpenMMLab", depth, str(records["d"].recipe), records["d"].metrics[0].source, figures))
    for depth in (50, 101, 152):
        own = {each.name: each.figures for digits, each in PUBLISHED.items() if digits not in MIXED_UP}
        figures = {letter: own[f"resnet{depth}_{version}"]["top1"] for version, letter in GLUONCV.items()}
        recipe = "120 epochs, cosine; label smoothing and more tricks differ by network, mixup in none of these"
        found.append(Series("GluonCV", depth, recipe, "GluonCV docs/model_zoo/csv_tables/Classifications, 56777561", figures))
    return found


def rungs(study: LadderStudy) -> tuple[LadderRung, LadderRung, LadderRung]:
    """Return the rungs of a ladder of ResNet-18 or 34 with the networks B, C and D. B is the plain network, on the rung below C."""
    by_name = {rung.rung: rung for rung in study.rungs}
    return by_name[str(by_name["c"].base)], by_name["c"], by_name["d"]


def over_b(study: LadderStudy) -> dict[str, list[float]]:
    """Return, for each seed of a ladder, the points of top-1 that C and D have over B, by the letter of the network."""
    base, *others = rungs(study)
    return {rung.rung: [top1 - base.by_seed[seed] for seed, top1 in rung.by_seed.items()] for rung in others}
