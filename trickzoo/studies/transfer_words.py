"""The findings of a transfer study as sentences: whether rungs that classify better also detect and segment better."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from trickzoo.studies import outlook, power
from trickzoo.studies.records import AGAINST, CONSTANT, TOGETHER, Correlation, Scratch, TaskStudy, TransferStudy
from trickzoo.studies.samples import HELPED, HURT, NO_INTERVAL, UNCLEAR, Difference
from trickzoo.studies.statistics import LEAST_PAIRS
from trickzoo.studies.words import environments_in_words, name, points, probability, span, steps_in_words, total_in_words
from trickzoo.training.measures import MEASURES
from trickzoo.wording import count, verb

TASKS = {"detection": ("detect", "detector"), "segmentation": ("segment", "segmenter")}
"""The verb of every task, and the name of its network."""

OUTCOMES = {
    HELPED: ("rung is significantly better than the first", "rungs are significantly better than the first"),
    HURT: ("rung is significantly worse than the first", "rungs are significantly worse than the first"),
    UNCLEAR: ("rung does not differ significantly from the first", "rungs do not differ significantly from the first"),
}


def question(study: TransferStudy) -> str:
    """Return the question of the study: "Does a better classifier make a better detector?"."""
    makers = " and ".join(f"a better {TASKS[task.task][1]}" for task in study.tasks)
    return f"Does a better classifier make {makers}?"


def measure(key: str) -> str:
    """Return the name of a measure for a reader, by its key in result files."""
    return MEASURES.get(key, key)


def correlation_in_words(found: Correlation) -> str:
    """Return the rank correlation with its interval and p: "+0.93 (95 % CI +0.60 to +0.99, p = 0.007)"."""
    if found.rho is None or found.interval is None or found.p is None:
        return "none" if found.rho is None else points(found.rho)
    p = probability(found.p)
    return f"{points(found.rho)} (95 % CI {span(found.interval)}, p {p if p[0] == '<' else f'= {p}'})"


def findings(study: TransferStudy) -> list[str]:
    """Return the findings as sentences: first whether each task correlates with top-1 accuracy, then the details."""
    return [*answers(study), *(sentence for sentences in details(study).values() for sentence in sentences)]


def answers(study: TransferStudy) -> list[str]:
    """Return one sentence per task: whether rungs that classify better also have a better figure.

    With too few rungs for a rank correlation, it is by how much all tricks together change the figure, if there are two rungs.
    """
    return [_total_of(task) if _answers_by_total(task) else _relation(task, measure(task.measure)) for task in study.tasks]


def totals(study: TransferStudy) -> list[str]:
    """Return one sentence per task whose answer is another: by how much all tricks together change its figure."""
    return [_total_of(task) for task in study.tasks if task.total.first != task.total.last and not _answers_by_total(task)]


def _answers_by_total(task: TaskStudy) -> bool:
    return task.correlation.verdict == NO_INTERVAL and task.total.first != task.total.last


def _total_of(task: TaskStudy) -> str:
    return f"{task.task.capitalize()}: {_total(task)}"


def details(study: TransferStudy) -> dict[str, list[str]]:
    """Return the sentences other than the answers, by heading: the effect of all tricks and of each rung in each task, and the scope."""
    scale = [*study.notes, *environments_in_words(study.environments), *map(_scale, study.tasks), _limits(study.tasks)]
    if study.finished < study.planned:
        scale.insert(
            0,
            f"{study.finished} of the {study.planned} fine-tuning runs of these rungs and seeds are finished; "
            "the table counts those of each rung.",
        )
    changes = list(dict.fromkeys(sentence for task in study.tasks if (sentence := _top1(task.total.top1))))
    shared = {"The backbones": changes} if len(changes) == 1 else {}
    of_tasks = {task.task.capitalize(): list(_of_task(task, alone=len(changes) > 1)) for task in study.tasks}
    said = {heading: sentences for heading, sentences in of_tasks.items() if sentences}
    return {**shared, **said, "Scope": scale}


def _total(task: TaskStudy) -> str:
    return total_in_words(task.total, task.rungs, measure(task.measure))


def _of_task(task: TaskStudy, *, alone: bool) -> Iterable[str]:
    """Yield the sentences of a task. With `alone`, they include the gain of its backbones, which differs from that of the other tasks."""
    if task.total.first != task.total.last:
        if not _answers_by_total(task):
            yield _total(task)
        if alone and (change := _top1(task.total.top1)):
            yield change
        yield from _whether_it_transfers(task)
    if task.scratch:
        yield _scratch(task, task.scratch)
    yield from steps_in_words(task.rungs, OUTCOMES, name)
    if advice := outlook.advice(outlook.of_task(task), after="the ladder has trained these seeds"):
        yield advice
    without = sum(len(rung.without_figure) for rung in task.rungs)
    if without:
        yield f"{count(without, 'fine-tuning run')} {verb(without, 'has')} no {measure(task.measure)} and {verb(without, 'is')} left out."


def _scratch(task: TaskStudy, found: Scratch) -> str:
    """Return a sentence on the gain of the first rung's backbone over random weights."""
    start = f"From random weights, {measure(task.measure)} is {found.figure.mean:.2f} %"
    gain = found.difference
    if gain is None:
        return f"{start}; no seed has both that and the first rung."
    inside = f" (95 % CI {span(gain.interval)})" if gain.interval else ""
    clear = " The difference is not statistically significant." if gain.verdict == UNCLEAR else ""
    return f"{start}; with the backbone of {name(task.rungs[0])} it changes by {points(gain.mean)} points{inside}.{clear}"


def _relation(task: TaskStudy, figure: str) -> str:
    found, verb = task.correlation, TASKS[task.task][0]
    whether = f"whether rungs that classify better also {verb} better"
    if found.verdict == NO_INTERVAL:
        return f"The study cannot show {whether}: a rank correlation needs at least {LEAST_PAIRS} rungs, and it has {found.n}."
    if found.verdict == CONSTANT:
        return f"The study cannot show {whether}: top-1 accuracy or {figure} is the same for all rungs, so there is no correlation."
    claim = {
        TOGETHER: f"Rungs that classify better also {verb} better",
        AGAINST: f"Rungs that classify better {verb} worse",
        UNCLEAR: f"The study does not show that rungs which classify better also {verb} better",
    }[found.verdict]
    over = f"over the means of {found.n} rungs{uneven_seeds(task)}, Spearman's rank correlation of top-1 accuracy and {figure}"
    return f"{claim}: {over} is {correlation_in_words(found)}."


def uneven_seeds(task: TaskStudy) -> str:
    """Return the smallest and the largest number of seeds in a rung's mean, in parentheses; empty if all rungs have equally many."""
    numbers = [len(rung.seeds) for rung in task.rungs if rung.seeds]
    return f" (of {min(numbers)} to {max(numbers)} seeds each)" if len(set(numbers)) > 1 else ""


def _top1(found: Difference | None) -> str | None:
    """Return a sentence on the change of the same backbones' top-1 accuracy over the whole ladder; None without an interval."""
    if found is None or found.interval is None:
        return None
    change = f"The backbones' top-1 accuracy changes by {points(found.mean)} points (95 % CI {span(found.interval)})"
    if found.verdict == HELPED:
        return f"{change}."
    if found.verdict == HURT:
        return f"{change}: there is no gain to transfer, but a loss."
    return f"{change}, which is not statistically significant: there is no established gain to transfer."


def _whether_it_transfers(task: TaskStudy) -> Iterable[str]:
    """Yield whether a significant gain in top-1 accuracy is one in the task too. A gain transfers only if both intervals exclude 0."""
    top1, figure = task.total.top1, task.total.difference
    if top1 and figure and figure.interval and top1.verdict == HELPED:
        outcome = {
            HELPED: f"transfers to {task.task}",
            HURT: f"becomes a loss in {task.task}",
            UNCLEAR: f"is not shown to transfer to {task.task}",
        }[figure.verdict]
        last = next((rung.difference for rung in task.rungs if rung.rung == task.total.last), None)
        lost = figure.verdict != UNCLEAR and last is not None and last.p_holm is not None and last.p_holm >= power.ALPHA
        yield f"The gain in top-1 accuracy {outcome}{', but not significantly after Holm correction' if lost else ''}."


def _scale(task: TaskStudy) -> str:
    epochs, size = task.recipe.get("epochs"), task.recipe.get("size")
    length = f"{count(epochs, 'epoch')} of " if isinstance(epochs, int) else ""
    pixels = f" of {size} pixels" if isinstance(size, int) else ""
    generated = " The images are generated, not photographs." if task.generated else ""
    return (
        f"{task.task.capitalize()} is measured on {count(task.n_val, 'validation image')} after {length}fine-tuning "
        f"({task.recipe['name']}) with {count(task.n_train, 'image')}{pixels}.{generated}"
    )


def _limits(tasks: Sequence[TaskStudy]) -> str:
    said = []
    if any(rung.difference and rung.difference.interval for task in tasks for rung in task.rungs):
        said.append("The confidence intervals of the differences cover the variation between seeds, of classifier and fine-tuning.")
    if any(_answers_by_total(task) for task in tasks):
        said.append(f"A rank correlation of top-1 accuracy and these figures needs at least {LEAST_PAIRS} rungs.")
    correlations = [task.correlation for task in tasks if task.correlation.interval]
    if correlations:
        said.append("The correlation's interval assumes that the rungs are independent, which they are not: each builds on an earlier one.")
    if len(correlations) > 1:
        said.append("The correlations of the tasks are not corrected for multiple comparisons.")
    return " ".join([*said, "Other images, longer training and other models may give different results."])
