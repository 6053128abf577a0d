"""The tweaks B, C and D side by side: the paper's table, the published figures of OpenMMLab and GluonCV, and those of a ladder.

`python -m benchmarks.tweaks` draws them.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trickzoo.files import read_json
from trickzoo.studies.records import LadderRung, LadderStudy
from trickzoo.studies.results import read
from trickzoo.studies.statistics import estimate
from trickzoo.weights import manifest
from trickzoo.weights.gluoncv import PUBLISHED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FOLDER = Path(__file__).parent / "results" / "tweaks"
PLOT = FOLDER / "tweaks.svg"
LADDER = FOLDER.parent / "ladder_imagenette128_resnet18_d_30_epochs" / "ladder.json"
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
    paper = read_json(paper_file)
    by_letter = {name.partition("_")[2]: value for name, value in paper["top1"].items()}
    found = [Series("the paper", 50, paper["recipe"], paper["source"], by_letter)]
    for depth in (50, 101, 152):
        records = {letter: manifest.find(f"resnet{depth}_{letter}.mm_in1k") for letter in "bcd"}
        figures = {letter: record.metrics[0].top1 for letter, record in records.items()}
        found.append(Series("OpenMMLab", depth, str(records["d"].recipe), records["d"].metrics[0].source, figures))
    for depth in (50, 101, 152):
        own = {each.name: each.metrics for digits, each in PUBLISHED.items() if digits not in MIXED_UP}
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


def draw() -> Path:
    """Draw the gain of each tweak over the B network, and return the path of the plot."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "tweaks", "svg.fonttype": "none", "font.size": 8}):
        figure = Figure(figsize=(8.4, 3.4), layout="constrained")
        published, own = figure.subplots(1, 2, width_ratios=(5, 3))
        _draw_published(published)
        _draw_ladder(own)
        for axes in (published, own):
            axes.set_ylabel("top-1, points over B")
            axes.axhline(0, color="#1d2129", linewidth=0.6)
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="y", color="#d9dde3", linewidth=0.6)
        content = io.BytesIO()
        figure.savefig(content, format="svg", metadata={"Date": None})
    PLOT.write_bytes(b"\n".join(line.rstrip() for line in content.getvalue().splitlines()) + b"\n")
    return PLOT


def _draw_published(axes: Axes) -> None:
    colours = {"the paper": "#2457a6", "OpenMMLab": "#18794a", "GluonCV": "#b3321f"}
    for each in series(FOLDER / "paper.json"):
        letters = [letter for letter in LETTERS if letter in each.top1]
        gains = [each.top1[letter] - each.top1["b"] for letter in letters]
        width = {50: 1.8, 101: 1.2, 152: 0.7}[each.depth]
        label = f"{each.who}, ResNet-{each.depth}"
        axes.plot([LETTERS.index(letter) for letter in letters], gains, "o-", color=colours[each.who], lw=width, ms=3, label=label)
    axes.set_xticks(range(4), ["original", "B", "C", "D"])
    axes.legend(frameon=False, fontsize=7)
    axes.set_title("ImageNet-1k", loc="left", fontsize=8)


def _draw_ladder(axes: Axes) -> None:
    study = read(LADDER, LadderStudy)
    found = [estimate(gains) for gains in over_b(study).values()]
    for place, each in enumerate(found, 1):
        assert each.interval is not None
        axes.plot([place] * 2, each.interval, color="#6b4ba1", lw=5, alpha=0.3, solid_capstyle="butt")
    axes.plot([0, 1, 2], [0, *(each.mean for each in found)], "o-", color="#6b4ba1", lw=1.8, ms=3)
    axes.set_xticks(range(3), ["B (plain)", "C", "D"])
    images = f"our ladder: ResNet-18, ten classes at {study.baseline['size']} pixels"
    axes.set_title(f"{images},\nmean of five seeds with its 95 % interval", loc="left", fontsize=8)


if __name__ == "__main__":
    draw()
