"""The table at the top of the page of results: the effect of each step in our ladders, beside that in the paper."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from trickzoo.recipes.paper import TABLE_4_BS256, TABLE_4_BS1024, TABLE_5, TABLE_6_RESNET50_D
from trickzoo.recipes.recipe import Rung
from trickzoo.recipes.scaled import ladder
from trickzoo.studies import words
from trickzoo.studies.records import LadderStudy
from trickzoo.studies.samples import HELPED, HURT, Difference

HEAD = """
## Which tricks helped?

The table has the change of the top-1 accuracy by each step of the ladder, in points, with its 95 % confidence interval over the seeds. A
step helped or hurt if the interval excludes 0. The last column is the change in the paper, on ImageNet with ResNet-50 and, from cosine
decay on, ResNet-50-D, with fp16 in place of bf16. It was computed from accuracies that were written from memory and not compared with the
paper.
"""
TEACHER = "a teacher"
"""In place of the name of a teacher, which the titles of the steps do not depend on."""


def steps(studies: Sequence[LadderStudy]) -> Iterator[str]:
    """Yield the table of the steps that these studies measured one at a time, and sentences on those with one effect in all of them."""
    found: list[dict[str, Difference]] = [
        {rung.rung: rung.difference for rung in study.rungs if rung.difference and not rung.skipped} for study in studies
    ]
    paper = dict(_paper())
    titles = {
        rung.recipe.name.rpartition(".")[2]: rung.title.removeprefix("+ ")
        for rung in ladder("imagenette128", "resnet18_d", teacher=TEACHER, low_precision="bf16").rungs
    }
    measured = [name for name in titles if any(name in each for each in found)]
    heads = [f"{study.model}, {study.baseline['epochs']} epochs" for study in studies]
    yield HEAD
    yield f"\n| step | {' | '.join(heads)} | ResNet-50 in the paper |\n| --- |{' --- |' * len(heads)} ---: |\n"
    for name in measured:
        cells = " | ".join(_effect(each.get(name)) for each in found)
        yield f"| {titles[name]} | {cells} | {words.points(paper[name]) if name in paper else '–'} |\n"
    for verdict in (HELPED, HURT):
        alike = [titles[name] for name in measured if all(name in each and each[name].verdict == verdict for each in found)]
        if alike:
            yield f"\n{verdict.capitalize()} in every study: {', '.join(alike)}."
    yield "\n"


def _effect(found: Difference | None) -> str:
    """Return a difference with its interval and the verdict: "+4.25 (+2.69 to +5.82), helped"."""
    if found is None:
        return "–"
    late = found.verdict in (HELPED, HURT) and found.p_holm is not None and found.p_holm >= 0.05
    return f"{words.points(found.mean)} ({words.span(found.interval)}), {found.verdict}{', but not after Holm correction' if late else ''}"


def _paper() -> Iterator[tuple[str, float]]:
    """Yield the change of the top-1 accuracy by each step in the paper. Mixup follows label smoothing, as in our ladder."""
    yield "linear_scaling", _change(TABLE_4_BS256.rungs[0], TABLE_4_BS1024.rungs[0])
    for names, rungs in (
        (("warmup", "zero_gamma", "no_bias_decay", "low_precision"), TABLE_4_BS1024.rungs),
        (("b", "c", "d"), TABLE_5.rungs),
        (("cosine", "label_smoothing", "distillation"), TABLE_6_RESNET50_D.rungs),
    ):
        yield from ((name, _change(*pair)) for name, pair in zip(names, pairwise(rungs), strict=False))
    _, _, smooth, _, mixup, _ = TABLE_6_RESNET50_D.rungs
    yield "mixup", _change(smooth, mixup)


def _change(before: Rung, after: Rung) -> float:
    assert before.paper and after.paper
    return after.paper.top1 - before.paper.top1
