"""The summary of a ladder study: the metrics of its result files, and the findings as sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from trickzoo.data.identity import same_set
from trickzoo.errors import BadData
from trickzoo.recipes.collection import to_dict
from trickzoo.studies import outlook
from trickzoo.studies.ladder import OWN, Plan, Step, folder, read_result
from trickzoo.studies.records import Curve, LadderRung, LadderStudy, Total, corrected
from trickzoo.studies.results import ClassifierResult, changed_weights, environments, notes
from trickzoo.studies.samples import difference, percentage
from trickzoo.studies.series import state
from trickzoo.studies.words import ALL_TRICKS, environments_in_words, name, steps_in_words, total_in_words
from trickzoo.wording import count

IN_WORDS = {OWN: "own images", "shapes": "generated shapes", "easy_shapes": "generated easy shapes"}


def summarise(plan: Plan, out: Path) -> LadderStudy:
    """Return the summary of the finished training runs in `out`.

    A rung is compared with its base over the seeds that both have. Raises BadData if no training is finished or if the training runs used
    different images or weights, and BadCheckpoint if a training run used another recipe or its file is damaged.
    """
    results = {
        step.rung: {seed: read_result(out, step, seed) for seed in plan.seeds if state(folder(out, step, seed)) == "done"}
        for step in plan.steps
    }
    found = [each for by_seed in results.values() for each in by_seed.values()]
    if not found:
        raise BadData(f"{out} holds no finished training run of this study; run it without --report-only")
    for what in ("data_digest", "val_digest"):
        if not all(same_set(getattr(each, what), getattr(found[0], what)) for each in found):
            raise BadData(f"{out} holds training runs on different images ({what}); name another --out")
    if (changed := changed_weights(found)) is not None:
        raise BadData(f"{out} holds training runs with different weights: the file of {changed} has changed; name another --out")
    first, last = plan.steps[0], plan.steps[-1]
    total = Total(
        first=first.rung,
        last=last.rung,
        whole=first.rung == "baseline" and last.rung == plan.top,
        difference=difference(_top1(results[last.rung]), _top1(results[first.rung])) if last is not first else None,
    )
    rungs = corrected(_rung(step, results[step.rung], results[step.base] if step.base else {}, out) for step in plan.steps)
    study = LadderStudy(
        title=f"{plan.model} on {IN_WORDS.get(plan.data, plan.data)}",
        data=plan.data,
        model=plan.model,
        generated=found[0].data,
        n_train=found[0].n_train,
        n_val=found[0].n,
        majority=next((each.majority for each in found if each.majority is not None), None),
        num_classes=next((each.num_classes for each in found if each.num_classes is not None), None),
        data_digest=found[0].data_digest,
        val_digest=found[0].val_digest,
        seeds=plan.seeds,
        finished=len(found),
        planned=len(plan.steps) * len(plan.seeds),
        wall_seconds=round(sum(each.wall_seconds for each in found), 1),
        baseline=to_dict(first.recipe),
        rungs=named_as_whole(rungs, total),
        total=total,
        commands=tuple(dict.fromkeys(each.command for each in found)),
        environments=environments(found),
        notes=notes(found),
    )
    return with_findings(study)


def named_as_whole(rungs: tuple[LadderRung, ...], total: Total) -> tuple[LadderRung, ...]:
    """Return the rungs of a study. If they are only the two ends of the paper's whole ladder, the last one is called "all tricks"."""
    return (rungs[0], msgspec.structs.replace(rungs[1], title=ALL_TRICKS)) if total.whole and len(rungs) == 2 else rungs


def with_findings(study: LadderStudy) -> LadderStudy:
    """Return the study with its findings, which are sentences that follow from its metrics."""
    return msgspec.structs.replace(study, findings=tuple(findings(study)))


def _rung(step: Step, results: Mapping[int, ClassifierResult], base: Mapping[int, ClassifierResult], out: Path) -> LadderRung:
    return LadderRung(
        rung=step.rung,
        title=step.title,
        recipe=step.recipe.name,
        base=step.base,
        skipped=step.skipped,
        changes=step.changes,
        seeds=tuple(results),
        top1=percentage(each.top1 for each in results.values()),
        difference=difference(_top1(results), _top1(base)),
        wall_seconds=tuple(each.wall_seconds for each in results.values()),
        curves=tuple(_curve(folder(out, step, seed)) for seed in results),
    )


def _top1(results: Mapping[int, ClassifierResult]) -> dict[int, float]:
    return {seed: each.top1 for seed, each in results.items()}


def _curve(place: Path) -> Curve:
    """Return (number of epochs, top-1) for each evaluated epoch of a training run; empty if its log is missing or cannot be read."""
    from trickzoo.training import metrics_log

    try:
        points = [(row["epoch"] + 1, row["top1"]) for row in metrics_log.rows(place) if "top1" in row]
        return msgspec.convert(points, Curve)
    except (OSError, ValueError, TypeError, KeyError, RecursionError, msgspec.ValidationError):
        return ()


# ---------------------------------------------------------------------------------------------------------------------
# in words


def findings(study: LadderStudy) -> Iterable[str]:
    """Yield the findings as sentences: the gain over the whole ladder, the significant steps, and the scope."""
    below = no_better_than_majority(study)
    learned = len(below) < sum(bool(rung.top1) for rung in study.rungs)
    if learned and study.total.first != study.total.last:
        yield total_in_words(study.total, study.rungs)
    if learned:
        yield from steps_in_words(study.rungs)
    yield from _beside_majority(study, below, learned)
    if learned and (advice := outlook.advice(outlook.of_ladder(study))):
        yield advice
    if study.generated:
        chosen = ", and easy, so that a short training run shows a difference" if study.data == "easy_shapes" else ""
        yield f"The images are generated, not photographs{chosen}."
    if study.finished < study.planned:
        yield (
            f"{study.finished} of the {study.planned} training runs of these rungs and seeds are finished; "
            "the table counts those of each rung."
        )
    yield from study.notes
    yield from environments_in_words(study.environments)
    yield (
        f"Accuracy is measured on {count(study.n_val, 'validation image')} after {count(study.baseline['epochs'], 'epoch')} with "
        f"{study.n_train:,} training images of {study.baseline['size']} pixels. The intervals cover the variation between "
        "seeds; other images, longer training and other models may give different results."
    )


def no_better_than_majority(study: LadderStudy) -> list[LadderRung]:
    """Return the rungs whose accuracy is not significantly above that of predicting the largest class for every image.

    The accuracy is significantly above it if the whole 95 % Wilson interval of the mean accuracy, on this number of images, is.
    """
    from trickzoo.classification.metrics import wilson_interval

    if study.majority is None:
        return []
    return [
        rung
        for rung in study.rungs
        if rung.top1 and 100 * wilson_interval(round(rung.top1.mean * study.n_val / 100), study.n_val)[0] <= study.majority
    ]


def _beside_majority(study: LadderStudy, below: list[LadderRung], learned: bool) -> Iterable[str]:
    if study.majority is None:
        return
    chance = f", chance {100 / study.num_classes:.2f} % ({study.num_classes} classes)" if study.num_classes else ""
    reference = f"Predicting the largest class for every image gives {study.majority:.2f} %{chance}"
    if not learned:
        yield (
            f"No rung does significantly better than predicting the largest class for every image ({study.majority:.2f} %{chance}): the "
            "networks have learned next to nothing, and differences between rungs say nothing about the tricks. Train longer, change "
            "--lr, or start from --pretrained weights."
        )
    elif below:
        yield f"{reference}. These rungs are not significantly better than the largest class: {', '.join(map(name, below))}."
    else:
        yield f"{reference}. Every rung is significantly better."
