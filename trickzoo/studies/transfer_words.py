"""What a transfer study found, in words: whether the rungs that classify better also detect and segment better."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from trickzoo.evidence import count
from trickzoo.studies import outlook
from trickzoo.studies.found import (
    AGAINST,
    CONSTANT,
    HELPED,
    HURT,
    NO_INTERVAL,
    TOGETHER,
    UNCLEAR,
    Correlation,
    Difference,
    TaskStudy,
    TransferStudy,
)
from trickzoo.studies.statistics import LEAST_PAIRS
from trickzoo.studies.words import name, points, probability, span, steps_in_words, total_in_words
from trickzoo.training.tracking import MEASURES

TASKS = {"detection": ("detect", "detector"), "segmentation": ("segment", "segmenter")}
"""Every task, with its verb and what does it."""

OUTCOMES = {
    HELPED: ("rung is significantly better than the first", "rungs are significantly better than the first"),
    HURT: ("rung is significantly worse than the first", "rungs are significantly worse than the first"),
    UNCLEAR: ("rung does not differ significantly from the first", "rungs do not differ significantly from the first"),
}


def question(study: TransferStudy) -> str:
    """What the study asks: "Does a better classifier make a better detector?"."""
    makers = " and ".join(f"a better {TASKS[task.task][1]}" for task in study.tasks)
    return f"Does a better classifier make {makers}?"


def measure(key: str) -> str:
    """What a figure is called."""
    return MEASURES.get(key, key)


def correlation_in_words(found: Correlation) -> str:
    """The rank correlation with its interval and p: "+0.93 (95 % CI +0.60 to +0.99, p = 0.007)"."""
    if found.rho is None or found.interval is None or found.p is None:
        return "none" if found.rho is None else points(found.rho)
    p = probability(found.p)
    return f"{points(found.rho)} (95 % CI {span(found.interval)}, p {p if p[0] == '<' else f'= {p}'})"


def findings(study: TransferStudy) -> list[str]:
    """What was found, in plain sentences: first whether each task goes with top-1 accuracy, then the rest."""
    return [*answers(study), *(sentence for sentences in details(study).values() for sentence in sentences)]


def answers(study: TransferStudy) -> list[str]:
    """Whether the rungs that classify better do better, a sentence for each task."""
    return [_relation(task, measure(task.measure)) for task in study.tasks]


def totals(study: TransferStudy) -> list[str]:
    """What all tricks together change in each task, a sentence for each."""
    return [f"{task.task.capitalize()}: {_total(task)}" for task in study.tasks if task.total.first != task.total.last]


def details(study: TransferStudy) -> dict[str, list[str]]:
    """The sentences beside the answers, by heading: what all tricks and each rung change in each task, and how far it holds."""
    scale = [*map(_scale, study.tasks), _limits(study.tasks)]
    if study.finished < study.planned:
        scale.insert(0, f"The study is not finished: {study.finished} of {study.planned} fine-tunings are in it.")
    changes = list(dict.fromkeys(sentence for task in study.tasks if (sentence := _top1(task.total.top1))))
    shared = {"The backbones": changes} if len(changes) == 1 else {}
    of_tasks = {task.task.capitalize(): list(_of_task(task, alone=len(changes) > 1)) for task in study.tasks}
    return {**shared, **of_tasks, "Scope": scale}


def _total(task: TaskStudy) -> str:
    return total_in_words(task.total, task.rungs, measure(task.measure))


def _of_task(task: TaskStudy, *, alone: bool) -> Iterable[str]:
    """A task's sentences; `alone` if its backbones' gain is not that of the other tasks, and so is said here."""
    if task.total.first != task.total.last:
        yield _total(task)
        if alone and (change := _top1(task.total.top1)):
            yield change
        yield from _whether_it_transfers(task)
    yield from steps_in_words(task.rungs, OUTCOMES, name)
    if advice := outlook.advice(outlook.of_task(task)):
        yield advice
    without = sum(len(rung.without_figure) for rung in task.rungs)
    if without:
        yield f"Left out, as there is no {measure(task.measure)} of them: {count(without, 'fine-tuning')}."


def _relation(task: TaskStudy, figure: str) -> str:
    found, verb = task.correlation, TASKS[task.task][0]
    whether = f"Whether rungs that classify better also {verb} better cannot be said"
    if found.verdict == NO_INTERVAL:
        return f"{whether} from {count(found.n, 'rung')}: a rank correlation needs {LEAST_PAIRS}."
    if found.verdict == CONSTANT:
        return f"{whether}: top-1 accuracy or {figure} is the same for all of them, so that there is no correlation."
    claim = {
        TOGETHER: f"Rungs that classify better also {verb} better",
        AGAINST: f"Rungs that classify better {verb} worse",
        UNCLEAR: f"It is not shown that rungs which classify better also {verb} better",
    }[found.verdict]
    over = f"over the means of {found.n} rungs, Spearman's rank correlation of top-1 accuracy and {figure}"
    return f"{claim}: {over} is {correlation_in_words(found)}."


def _top1(found: Difference | None) -> str | None:
    """What the same backbones' top-1 accuracy does over the whole ladder."""
    if found is None or found.interval is None:
        return None
    change = f"The backbones' top-1 accuracy changes by {points(found.mean)} points (95 % CI {span(found.interval)})"
    if found.verdict == HELPED:
        return f"{change}."
    if found.verdict == HURT:
        return f"{change}: there is no gain to transfer, but a loss."
    return f"{change}, which is not statistically significant: there is no established gain to transfer."


def _whether_it_transfers(task: TaskStudy) -> Iterable[str]:
    """A gain transfers only where both intervals exclude 0."""
    top1, figure = task.total.top1, task.total.difference
    if top1 and figure and figure.interval and top1.verdict == HELPED:
        outcome = {HELPED: "transfers", HURT: "turns into a loss when it comes", UNCLEAR: "is not shown to transfer"}[figure.verdict]
        yield f"The gain in top-1 accuracy {outcome} to {task.task}."


def _scale(task: TaskStudy) -> str:
    epochs, size = task.recipe.get("epochs"), task.recipe.get("size")
    length = f"{count(epochs, 'epoch')} of " if isinstance(epochs, int) else ""
    pixels = f" of {size} pixels" if isinstance(size, int) else ""
    generated = f" The images are generated, not photographs: {task.generated}." if task.generated else ""
    return (
        f"{task.task.capitalize()} is measured on {count(task.n_val, 'validation image')} after {length}fine-tuning "
        f"({task.recipe['name']}) with {count(task.n_train, 'image')}{pixels}.{generated}"
    )


def _limits(tasks: Sequence[TaskStudy]) -> str:
    said = []
    if any(rung.difference and rung.difference.interval for task in tasks for rung in task.rungs):
        said.append("The confidence intervals of the differences are over seeds, of classifier and fine-tuning together.")
    correlations = [task.correlation for task in tasks if task.correlation.interval]
    if correlations:
        said.append("The correlation's interval takes the rungs for a random sample, which they are not: each builds on the one before.")
    if len(correlations) > 1:
        said.append("The correlations of the tasks are not corrected for multiple comparisons.")
    return " ".join([*said, "Other images, longer trainings and other models may give other results."])
