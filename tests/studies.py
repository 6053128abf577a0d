"""A small ladder study, and a reader of pages, for the tests of the studies and of their reports."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from trickzoo.recipes.collection import to_dict
from trickzoo.studies import ladder, ladder_summary
from trickzoo.studies.records import LadderStudy

RUNGS = ("baseline", "cosine", "mixup")
FIELDS = {"size": "32", "epochs": "2", "batch_size": "8"}
MODEL = "mobilenet_v1_025"


def plan(**options: Any) -> ladder.Plan:
    """Return a small study on own images, with these options changed."""
    return ladder.plan("own", MODEL, **{"seeds": 2, "rungs": RUNGS, "changes": FIELDS, **options})


def simulate(out: Path, tops: dict[str, list[float]], more: dict[str, Any] | None = None, **options: Any) -> LadderStudy:
    """Return the summary of a study with these accuracies by seed; `more` is added to each result file."""
    study = plan(rungs=tuple(tops), seeds=max(map(len, tops.values())), **options)
    for step in study.steps:
        for seed, top1 in enumerate(tops[step.rung]):
            place = ladder.folder(out, step, seed)
            place.mkdir(parents=True, exist_ok=True)
            found = {
                "top1": top1,
                "n": 2000,
                "n_train": 9000,
                "majority": 26.5,
                "num_classes": 4,
                "recipe": to_dict(step.recipe),
                "seed": seed,
                "data_digest": "d",
                "val_digest": "v",
            }
            made = {
                "wall_seconds": 90.0,
                "command": "trickzoo ladder",
                "hardware": "<2 × CPU>",
                "platform": "P",
                "processes": 1,
                "commit": "c0ffee+",
            }
            (place / "result.json").write_text(json.dumps({**found, **made, "versions": {"torch": "2"}, **(more or {})}))
            rows = [{"step": epoch, "epoch": epoch, "top1": top1 - 10 + 5 * epoch} for epoch in range(3)]
            (place / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ladder_summary.summarise(study, out)


class Page(HTMLParser):
    """The table cells, the visible text and the addresses of a page, and the alternative texts of its images if it may have any."""

    def __init__(self, text: str, *, images: bool = False) -> None:
        super().__init__()
        self.forbidden = {"script", "link", "iframe", "object"} | (set() if images else {"img"})
        self.alternatives: list[str] = []
        self.rows: list[list[str]] = []
        self.text, self.addresses, self.inside = "", [], False
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attributes if name in ("src", "href", "xlink:href", "srcset", "data")]
        assert tag not in self.forbidden
        if tag == "img":
            self.alternatives.append(dict(attributes)["alt"] or "")
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.inside = True
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, text: str) -> None:
        self.text += text
        if self.inside:
            self.rows[-1][-1] += text
