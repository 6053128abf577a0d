"""The summary of a transfer study: the metrics of its result files."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from msgspec.structs import replace

from trickzoo.errors import BadCheckpoint, BadData
from trickzoo.output_files import RESULT
from trickzoo.studies.ladder_summary import named_as_whole
from trickzoo.studies.records import (
    Correlation,
    LadderRung,
    LadderStudy,
    Scratch,
    SeedCorrelation,
    TaskStudy,
    Total,
    TransferRung,
    TransferStudy,
    corrected,
)
from trickzoo.studies.results import SCRATCH, FineTuningResult, environments, notes
from trickzoo.studies.results import read as read_file
from trickzoo.studies.samples import difference, percentage
from trickzoo.studies.statistics import DRAWS, ENUMERATED, LEAST_PAIRS, rank_correlation, spearman
from trickzoo.studies.transfer import SAME
from trickzoo.studies.transfer_words import TASKS, findings

Results = Mapping[str, Mapping[str, Mapping[int, FineTuningResult]]]
"""The results of fine-tunings by task, rung and seed."""
Metrics = Mapping[str, Mapping[int, float]]
"""Metrics in percent by rung and seed."""


def read(out: Path, ladder: LadderStudy) -> dict[str, dict[str, dict[int, FineTuningResult]]]:
    """Return the results of every finished fine-tuning in `out`, by task, rung and seed, from the files TASK/RUNG-SEED/result.json.

    Raises BadCheckpoint if a file is not such a result or its backbone is not from `ladder`, and BadData if the results of a task differ in
    their images, recipe or measure.
    """
    found: dict[str, dict[str, dict[int, FineTuningResult]]] = {}
    for task in TASKS:
        first: tuple[Path, FineTuningResult] | None = None
        for path in sorted((out / task).glob(f"*-*/{RESULT}")):
            result = _read(path, task, ladder)
            first = first or (path, result)
            if what := _differs(result, first[1]):
                raise BadData(f"{path} and {first[0]} differ in {what}; results of one {task} study must agree, name another --out")
            found.setdefault(task, {}).setdefault(result.backbone.rung, {})[result.seed] = result
    return found


def _read(path: Path, task: str, ladder: LadderStudy) -> FineTuningResult:
    result = read_file(path, FineTuningResult)
    backbone = result.backbone
    if (result.task, f"{backbone.rung}-{backbone.seed}", backbone.seed) != (task, path.parent.name, result.seed):
        raise BadCheckpoint(f"{path} is the result of {result.task} from {backbone.rung}-{backbone.seed}, not of its folder; move it away")
    if backbone.top1 is None:
        return result
    wanted = next((rung.by_seed.get(backbone.seed) for rung in ladder.rungs if rung.rung == backbone.rung), None)
    if wanted is None or abs(wanted - backbone.top1) > SAME:
        raise BadCheckpoint(f"{path} was fine-tuned from a backbone that is not in this ladder study; name another --out")
    return result


def _differs(result: FineTuningResult, first: FineTuningResult) -> str | None:
    """Return the first property in which two results of one task differ although they must agree; None if there is none."""
    common = ("data_digest", "val_digest", "common_recipe", "measure")
    return next((what.removeprefix("common_") for what in common if getattr(result, what) != getattr(first, what)), None)


def summarise(
    ladder: LadderStudy, tasks: Results, *, seeds: Sequence[int] | None = None, rungs: Sequence[str] = (), scratch: bool = False
) -> TransferStudy:
    """Return the summary of a transfer study.

    Args:
        ladder: the summary of the ladder study that the backbones come from.
        tasks: the results from `read`. A fine-tuning with seed s starts from the backbone that was trained with seed s.
        seeds: the seeds of the whole study, finished or not; by default those of the results. Results with other seeds are ignored.
        rungs: the rungs of the study; by default all of the ladder. Results from other rungs are ignored.
        scratch: whether the study has training runs from random weights.

    All metrics, including top-1, are taken from the seeds that have a metric for the task. A rung is compared with the ladder's first rung
    over the seeds that both have. Raises BadData if there is no result.
    """
    wanted = {*(rungs or (rung.rung for rung in ladder.rungs)), *((SCRATCH,) if scratch else ())}
    tasks = {task: _asked_for(by_rung, seeds, wanted) for task, by_rung in tasks.items()}
    found = [result for task in tasks.values() for rung in task.values() for result in rung.values()]
    if not found:
        raise BadData("there is no finished fine-tuning to report")
    seeds = sorted({result.seed for result in found}) if seeds is None else list(seeds)
    ladder = _part(ladder, rungs) if rungs else ladder
    study = TransferStudy(
        title=ladder.title,
        data=ladder.data,
        model=ladder.model,
        seeds=tuple(seeds),
        finished=len(found),
        planned=len(tasks) * (len(ladder.rungs) + scratch) * len(seeds),
        wall_seconds=round(sum(each.wall_seconds for each in found), 1),
        tasks=tuple(_task(ladder, by_rung, seeds) for by_rung in tasks.values() if any(by_rung.values())),
        commands=tuple(dict.fromkeys(each.command for each in found)),
        environments=environments(found),
        notes=tuple(
            dict.fromkeys(note for task in tasks.values() for note in notes([each for rung in task.values() for each in rung.values()]))
        ),
    )
    return replace(study, findings=tuple(findings(study)))


def _asked_for(
    results: Mapping[str, Mapping[int, FineTuningResult]], seeds: Sequence[int] | None, rungs: Collection[str]
) -> dict[str, dict[int, FineTuningResult]]:
    """Return the results of these seeds and rungs; the folder may also hold results of other commands."""
    return {
        rung: {seed: result for seed, result in by_seed.items() if seeds is None or seed in seeds}
        for rung, by_seed in results.items()
        if rung in rungs
    }


def _part(ladder: LadderStudy, wanted: Sequence[str]) -> LadderStudy:
    """Return the ladder with only the wanted rungs; the `skipped` of each rung names those left out that it builds on."""
    by_name = {rung.rung: rung for rung in ladder.rungs}

    def skipped(rung: LadderRung) -> tuple[str, ...]:
        if rung.base is None or rung.base in wanted:
            return rung.skipped
        below = by_name[rung.base]
        return (*skipped(below), below.title, *rung.skipped)

    first, *others = [rung for rung in ladder.rungs if rung.rung in wanted]
    kept = [replace(first, skipped=()), *(replace(rung, skipped=skipped(rung)) for rung in others)]
    ends, total = (kept[0].rung, kept[-1].rung), ladder.total
    part = Total(first=ends[0], last=ends[1], whole=total.whole and ends == (total.first, total.last))
    return replace(ladder, rungs=named_as_whole(tuple(kept), part), total=part)


def _task(ladder: LadderStudy, results: Mapping[str, Mapping[int, FineTuningResult]], seeds: Sequence[int]) -> TaskStudy:
    """Return the summary of one task from its results by rung and seed."""
    first = next(result for by_seed in results.values() for result in by_seed.values())
    by_rung = {rung.rung: dict(sorted(results.get(rung.rung, {}).items())) for rung in ladder.rungs}
    metrics = {
        rung: {seed: metric for seed, each in by_seed.items() if (metric := each.metrics[first.measure]) is not None}
        for rung, by_seed in by_rung.items()
    }
    top1 = {rung.rung: {seed: value for seed, value in rung.by_seed.items() if seed in metrics[rung.rung]} for rung in ladder.rungs}
    total = ladder.total
    return TaskStudy(
        task=first.task,
        measure=first.measure,
        recipe=first.common_recipe,
        generated=first.data,
        n_train=first.n_train,
        n_val=first.n,
        data_digest=first.data_digest,
        val_digest=first.val_digest,
        rungs=corrected(_rung(rung, by_rung[rung.rung], metrics, top1, ladder.rungs[0]) for rung in ladder.rungs),
        total=Total(
            first=total.first,
            last=total.last,
            whole=total.whole,
            difference=difference(metrics[total.last], metrics[total.first]) if total.last != total.first else None,
            top1=difference(top1[total.last], top1[total.first]),
        ),
        correlation=_correlation(top1, metrics, seeds),
        scratch=_scratch(results.get(SCRATCH, {}), first.measure, metrics[ladder.rungs[0].rung]),
    )


def _scratch(results: Mapping[int, FineTuningResult], measure: str, base: Mapping[int, float]) -> Scratch | None:
    metrics = {seed: metric for seed, each in sorted(results.items()) if (metric := each.metrics[measure]) is not None}
    found = percentage(metrics.values())
    return None if found is None else Scratch(seeds=tuple(metrics), figure=found, difference=difference(base, metrics))


def _rung(rung: LadderRung, results: Mapping[int, FineTuningResult], metrics: Metrics, top1: Metrics, base: LadderRung) -> TransferRung:
    here = metrics[rung.rung]
    measures = {key: None for each in results.values() for key in each.metrics if key != each.measure}
    return TransferRung(
        rung=rung.rung,
        title=rung.title,
        skipped=rung.skipped,
        seeds=tuple(here),
        without_figure=tuple(seed for seed in results if seed not in here),
        top1=percentage(top1[rung.rung].values()),
        figure=percentage(here.values()),
        difference=None if rung is base else difference(here, metrics[base.rung]),
        others={key: percentage(value for each in results.values() if (value := each.metrics.get(key)) is not None) for key in measures},
        wall_seconds=tuple(each.wall_seconds for each in results.values()),
    )


def _correlation(top1: Metrics, metrics: Metrics, seeds: Sequence[int]) -> Correlation:
    """Return Spearman's rho over the rungs' means, and over the rungs of each seed alone."""
    done = [rung for rung in metrics if metrics[rung]]
    found = rank_correlation(*([fmean(of[rung].values()) for rung in done] for of in (top1, metrics)))
    by_seed = []
    for seed in seeds:
        there = [rung for rung in done if seed in metrics[rung]]
        if len(there) >= LEAST_PAIRS:
            rho = spearman(*([of[rung][seed] for rung in there] for of in (top1, metrics)))
            by_seed.append(SeedCorrelation(seed=seed, n=len(there), rho=rho))
    return Correlation(
        n=found.n,
        rho=found.rho,
        interval=found.interval,
        p=found.p,
        draws=DRAWS,
        all_permutations=found.n <= ENUMERATED,
        by_seed=tuple(by_seed),
    )
