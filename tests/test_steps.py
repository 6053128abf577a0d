"""The table of the page of results that puts the effects of the tricks side by side."""

from __future__ import annotations

import re

from docs.pages.places import CARDS
from docs.pages.steps import steps
from docs.pages.studies import ladders


def test_the_changes_in_the_paper_are_those_of_the_cards() -> None:
    rows = dict(re.findall(r"^\| ([\w -]+) \|.* \| ([+−]\d\.\d\d) \|$", "".join(steps(list(ladders().values()))), flags=re.MULTILINE))
    names = {"no bias decay": "no_bias_decay", "zero gamma": "zero_gamma", "warm-up": "warmup", "cosine decay": "cosine"}
    names |= {"label smoothing": "label_smoothing", "distillation": "distillation", "mixup": "mixup", "bf16": "low_precision"}
    for title, name in names.items():
        before, after = re.findall(r"(\d\d\.\d\d) → (\d\d\.\d\d) %", (CARDS / f"{name}.md").read_text(encoding="utf-8"))[0]
        assert rows[title].replace("−", "-") == f"{float(after) - float(before):+.2f}", name


def test_steps_that_several_rungs_share_are_not_in_the_table() -> None:
    studies = {study.title + str(study.baseline["epochs"]): study for study in ladders().values()}
    text = "".join(steps([studies["mobilenet_v1_025 on imagenette12830"]]))
    assert "| label smoothing | +0.38 (−2.87 to +3.63), not significant |" in text
    assert "| mixup | −5.84 (−11.64 to −0.05), hurt, but not after Holm correction |" in text
    assert "cosine" not in text.partition("| step |")[2]
