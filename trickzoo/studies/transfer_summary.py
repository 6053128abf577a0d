"""What a transfer study found: whether the rungs that classify better also detect and segment better."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trickzoo.errors import BadCheckpoint, BadData
from trickzoo.studies.ladder_summary import (
    HELPED,
    HURT,
    NO_INTERVAL,
    UNCLEAR,
    correct,
    count,
    difference,
    environments,
    in_figures,
    name,
    points,
    probability,
    span,
    steps_in_words,
    total_in_words,
)
from trickzoo.studies.statistics import DRAWS, ENUMERATED, LEAST_PAIRS, estimate, rank_correlation, spearman
from trickzoo.training.tracking import MEASURES

TASKS = {"detection": ("detect", "detector"), "segmentation": ("segment", "segmenter")}
"""Every task, with its verb and what does it."""

TOGETHER, AGAINST, CONSTANT = "together", "against each other", "constant"
"""What the ranks of two figures do, beside `UNCLEAR` and `NO_INTERVAL`."""

Results = Mapping[str, Mapping[str, Mapping[int, dict[str, Any]]]]
"""Task, rung, seed: the result of a fine-tuning."""


def read(out: Path, ladder: dict[str, Any]) -> dict[str, dict[str, dict[int, dict[str, Any]]]]:
    """The results of every finished fine-tuning in `out`, which holds TASK/RUNG-SEED/result.json; `ladder` is that study's summary.

    Raises BadCheckpoint for a file that is no such result, or is of another ladder, and BadData if the results of a task differ in their
    images, recipe or measure.
    """
    found: dict[str, dict[str, dict[int, dict[str, Any]]]] = {}
    for task in TASKS:
        first: tuple[Path, dict[str, Any]] | None = None
        for path in sorted((out / task).glob("*-*/result.json")):
            result = _read(path, task, ladder)
            first = first or (path, result)
            for what in ("data_digest", "val_digest", "recipe", "measure"):
                if _common(result)[what] != _common(first[1])[what]:
                    raise BadData(f"{path} and {first[0]} differ in {what}; results of one {task} study must agree, name another --out")
            found.setdefault(task, {}).setdefault(result["backbone"]["rung"], {})[result["seed"]] = result
    return found


def _read(path: Path, task: str, ladder: dict[str, Any]) -> dict[str, Any]:
    try:
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        backbone, measure = result["backbone"], result["measure"]
        fine_tuned = (result["task"], f"{backbone['rung']}-{backbone['seed']}", backbone["seed"])
        _ = result[measure], result["seed"], result["data_digest"], result["val_digest"], result["recipe"]["name"]
    except (ValueError, KeyError, TypeError):
        raise BadCheckpoint(f"{path} is not a result file of a fine-tuning; move it away") from None
    if fine_tuned != (task, path.parent.name, result["seed"]):
        raise BadCheckpoint(f"{path} is the result of {fine_tuned[0]} from {fine_tuned[1]}, not of its folder; move it away")
    wanted = next((_top1(rung).get(backbone["seed"]) for rung in ladder["rungs"] if rung["rung"] == backbone["rung"]), None)
    if wanted is None or abs(wanted - backbone["top1"]) > 1e-3:
        raise BadCheckpoint(f"{path} was fine-tuned from a backbone that is not in this ladder study; name another --out")
    return result


def _common(result: dict[str, Any]) -> dict[str, Any]:
    """The result without what is the backbone's own."""
    return result | {"recipe": {key: value for key, value in result["recipe"].items() if key not in ("model", "weights")}}


def _top1(rung: dict[str, Any]) -> dict[int, float]:
    return dict(zip(rung["seeds"], rung["top1"]["values"], strict=True)) if rung["top1"] else {}


def summarise(ladder: dict[str, Any], tasks: Results, *, seeds: Sequence[int] | None = None, rungs: Sequence[str] = ()) -> dict[str, Any]:
    """Everything that the fine-tunings say, as it is written to `transfer.json`. Figures are in percent.

    Args:
        ladder: the summary of the ladder study that the backbones come from (`ladder.json`).
        tasks: what `read` gives. A fine-tuning with seed s starts from the backbone that was trained with seed s.
        seeds: of the whole study, finished or not; by default those that are there. Fine-tunings with others do not count.
        rungs: of the study, where it is not of all of the ladder's. Fine-tunings from others do not count.

    Everything is taken from the seeds that have a figure, top-1 too. A rung is compared with the ladder's first by the seeds that both
    have. Raises BadData if there is no result.
    """
    tasks = {task: _asked_for(by_rung, seeds, rungs) for task, by_rung in tasks.items()}
    found = [result for task in tasks.values() for rung in task.values() for result in rung.values()]
    if not found:
        raise BadData("there is no finished fine-tuning to report")
    seeds = sorted({result["seed"] for result in found}) if seeds is None else list(seeds)
    ladder = _part(ladder, rungs) if rungs else ladder
    content = {
        "what": "transfer study",
        "title": ladder["title"],
        "data": ladder["data"],
        "model": ladder["model"],
        "seeds": seeds,
        "finished": len(found),
        "planned": len(tasks) * len(ladder["rungs"]) * len(seeds),
        "wall_seconds": round(sum(each["wall_seconds"] for each in found), 1),
        "tasks": [_task(ladder, task, rungs, seeds) for task, rungs in tasks.items() if any(rungs.values())],
        "commands": list(dict.fromkeys(each["command"] for each in found)),
        "environments": environments(found),
    }
    return content | {"findings": findings(content)}


def _asked_for(
    results: Mapping[str, Mapping[int, dict[str, Any]]], seeds: Sequence[int] | None, rungs: Sequence[str]
) -> dict[str, dict[int, dict[str, Any]]]:
    """The results of these seeds and rungs: the folder holds those of other commands too."""
    return {
        rung: {seed: result for seed, result in by_seed.items() if seeds is None or seed in seeds}
        for rung, by_seed in results.items()
        if not rungs or rung in rungs
    }


def _part(ladder: dict[str, Any], wanted: Sequence[str]) -> dict[str, Any]:
    """The ladder with some of its rungs; each names those that were left out below it."""
    kept: list[dict[str, Any]] = []
    left_out: list[str] = []
    for rung in ladder["rungs"]:
        if rung["rung"] in wanted:
            kept.append(rung | {"skipped": left_out + rung["skipped"] if kept else []})
            left_out = []
        else:
            left_out.append(rung["title"])
    first, last, total = kept[0]["rung"], kept[-1]["rung"], ladder["total"]
    whole = total["whole"] and (first, last) == (total["from"], total["to"])
    return ladder | {"rungs": kept, "total": {"from": first, "to": last, "whole": whole}}


def _task(ladder: dict[str, Any], task: str, results: Mapping[str, Mapping[int, dict[str, Any]]], seeds: Sequence[int]) -> dict[str, Any]:
    first = next(result for by_seed in results.values() for result in by_seed.values())
    measure, total = first["measure"], ladder["total"]
    by_rung: dict[str, dict[int, dict[str, Any]]] = {
        rung["rung"]: dict(sorted(results.get(rung["rung"], {}).items())) for rung in ladder["rungs"]
    }
    figures = {
        rung: {seed: each[measure] for seed, each in by_seed.items() if each[measure] is not None} for rung, by_seed in by_rung.items()
    }
    top1 = {rung["rung"]: {seed: value for seed, value in _top1(rung).items() if seed in figures[rung["rung"]]} for rung in ladder["rungs"]}
    base = figures[ladder["rungs"][0]["rung"]]
    rungs = [
        {
            "rung": rung["rung"],
            "title": rung["title"],
            "skipped": rung["skipped"],
            "seeds": list(figures[rung["rung"]]),
            "without_figure": [seed for seed in by_rung[rung["rung"]] if seed not in figures[rung["rung"]]],
            "top1": _estimate(top1[rung["rung"]].values()),
            "figure": _estimate(figures[rung["rung"]].values()),
            "difference": difference(figures[rung["rung"]], base) if number else None,
            "others": {
                other: _estimate(each[other] for each in by_rung[rung["rung"]].values() if each.get(other) is not None)
                for other in MEASURES
                if other != measure and other in first
            },
            "wall_seconds": [each["wall_seconds"] for each in by_rung[rung["rung"]].values()],
        }
        for number, rung in enumerate(ladder["rungs"])
    ]
    correct(rungs)
    return {
        "task": task,
        "measure": measure,
        "recipe": _common(first)["recipe"],
        "generated": first.get("data"),
        "n_train": first["n_train"],
        "n_val": first["n"],
        "data_digest": first["data_digest"],
        "val_digest": first["val_digest"],
        "rungs": rungs,
        "total": {
            **{key: total[key] for key in ("from", "to", "whole")},
            "difference": difference(figures[total["to"]], figures[total["from"]]) if total["to"] != total["from"] else None,
            "top1": difference(top1[total["to"]], top1[total["from"]]),
        },
        "correlation": _correlation(top1, figures, seeds),
    }


def _estimate(values: Iterable[float]) -> dict[str, Any] | None:
    repeated = list(values)
    return in_figures(estimate(repeated)) if repeated else None


def _correlation(
    top1: Mapping[str, Mapping[int, float]], figures: Mapping[str, Mapping[int, float]], seeds: Sequence[int]
) -> dict[str, Any]:
    """Spearman's rho over the rungs' means, and over the rungs of each seed alone."""
    done = [rung for rung in figures if figures[rung]]
    found = rank_correlation(*([estimate(list(of[rung].values())).mean for rung in done] for of in (top1, figures)))
    by_seed = []
    for seed in seeds:
        there = [rung for rung in done if seed in figures[rung]]
        if len(there) >= LEAST_PAIRS:
            by_seed.append(
                {"seed": seed, "n": len(there), "rho": spearman(*([of[rung][seed] for rung in there] for of in (top1, figures)))}
            )
    return {
        "n": found.n,
        "rho": found.rho,
        "interval": found.interval and list(found.interval),
        "p": found.p,
        "verdict": _direction(found.rho, found.interval, found.p) if found.n >= LEAST_PAIRS else NO_INTERVAL,
        "draws": DRAWS,
        "all_permutations": found.n <= ENUMERATED,
        "by_seed": by_seed,
    }


def _direction(rho: float | None, interval: tuple[float, float] | None, p: float | None) -> str:
    """What a correlation shows in words; interval and test must agree, as one is drawn and the other counted."""
    if rho is None or interval is None or p is None:
        return CONSTANT
    if p >= 0.05 or interval[0] <= 0 <= interval[1]:
        return UNCLEAR
    return TOGETHER if rho > 0 else AGAINST


# ---------------------------------------------------------------------------------------------------------------------
# in words

OUTCOMES = {HELPED: "did better than the first", HURT: "did worse than the first", UNCLEAR: "cannot be told from the first"}


def question(content: dict[str, Any]) -> str:
    """What the study asks: "Does a better classifier make a better detector?"."""
    makers = " and ".join(f"a better {TASKS[task['task']][1]}" for task in content["tasks"])
    return f"Does a better classifier make {makers}?"


def measure(key: str) -> str:
    """What a figure is called."""
    return MEASURES.get(key, key)


def correlation_in_words(correlation: dict[str, Any]) -> str:
    """The rank correlation with its interval and p: "+0.93 (95 % interval +0.60 to +0.99, p 0.007)"."""
    inside = f" (95 % interval {span(correlation['interval'])}, p {probability(correlation['p'])})" if correlation["interval"] else ""
    return points(correlation["rho"]) + inside


def findings(content: dict[str, Any]) -> list[str]:
    """What was found, in plain sentences: first whether each task goes with top-1 accuracy, then the rest."""
    return [*answers(content), *(sentence for sentences in details(content).values() for sentence in sentences)]


def answers(content: dict[str, Any]) -> list[str]:
    """Whether the rungs that classify better do better, a sentence for each task."""
    return [_relation(task, measure(task["measure"])) for task in content["tasks"]]


def details(content: dict[str, Any]) -> dict[str, list[str]]:
    """The sentences beside the answers, by heading: what all tricks and each rung change in each task, and how far it holds."""
    scale = [*map(_scale, content["tasks"]), _limits(content["tasks"])]
    if content["finished"] < content["planned"]:
        scale.insert(0, f"The study is not finished: {content['finished']} of {content['planned']} fine-tunings are in it.")
    return {**{task["task"].capitalize(): list(_of_task(task)) for task in content["tasks"]}, "How far it holds": scale}


def _of_task(task: dict[str, Any]) -> Iterable[str]:
    figure = measure(task["measure"])
    if task["total"]["from"] != task["total"]["to"]:
        yield total_in_words(task, "figure", figure)
        yield from _beside_top1(task)
    yield from steps_in_words(task["rungs"], "rung", OUTCOMES, name)
    without = sum(len(rung["without_figure"]) for rung in task["rungs"])
    if without:
        yield f"Left out, as there is no {figure} of them: {count(without, 'fine-tuning')}."


def _relation(task: dict[str, Any], figure: str) -> str:
    found, verb = task["correlation"], TASKS[task["task"]][0]
    whether = f"Whether rungs that classify better also {verb} better cannot be told"
    if found["verdict"] == NO_INTERVAL:
        return f"{whether} from {found['n']} rung{'' if found['n'] == 1 else 's'}: a rank correlation needs {LEAST_PAIRS}."
    if found["verdict"] == CONSTANT:
        return f"{whether}: top-1 accuracy or {figure} is the same for all of them, which leaves no correlation."
    claim = {
        TOGETHER: f"Rungs that classify better also {verb} better",
        AGAINST: f"Rungs that classify better {verb} worse",
        UNCLEAR: f"It is not shown that rungs which classify better also {verb} better",
    }[found["verdict"]]
    over = f"over the means of {found['n']} rungs, Spearman's rank correlation of top-1 accuracy and {figure}"
    return f"{claim}: {over} is {correlation_in_words(found)}."


def _beside_top1(task: dict[str, Any]) -> Iterable[str]:
    """What the same backbones' top-1 accuracy does over the whole ladder; a gain transfers only where both intervals exclude 0."""
    top1, figure = task["total"]["top1"], task["total"]["difference"]
    if not (top1 and figure and top1["interval"] and figure["interval"]):
        return
    change = f"The same backbones' top-1 accuracy changes by {points(top1['mean'])} points (95 % interval {span(top1['interval'])})"
    if top1["verdict"] == HELPED:
        outcome = {HELPED: "transfers", HURT: "turns into a loss when it comes", UNCLEAR: "is not shown to transfer"}[figure["verdict"]]
        yield f"{change}: this gain {outcome} to {task['task']}."
    elif top1["verdict"] == HURT:
        yield f"{change}: there is no gain to transfer, but a loss."
    else:
        yield f"{change}, which cannot be told from noise: there is no sure gain to transfer."


def _scale(task: dict[str, Any]) -> str:
    recipe = task["recipe"]
    size = f" of {recipe['size']} pixels" if isinstance(recipe.get("size"), int) else ""
    generated = f" The images are generated, not photographs: {task['generated']}." if task["generated"] else ""
    length = count(recipe["epochs"], "epoch")
    return (
        f"{task['task'].capitalize()} is measured on {task['n_val']:,} validation images after {length} of fine-tuning "
        f"({recipe['name']}) with {task['n_train']:,} images{size}.{generated}"
    )


def _limits(tasks: Sequence[dict[str, Any]]) -> str:
    said = []
    if any(rung["difference"] and rung["difference"]["interval"] for task in tasks for rung in task["rungs"]):
        said.append("The differences' intervals are of other seeds, of classifier and fine-tuning together.")
    correlations = [task["correlation"] for task in tasks if task["correlation"]["interval"]]
    if correlations:
        said.append("The correlation's interval takes the rungs for a random choice, which they are not: each builds on the one before.")
    if len(correlations) > 1:
        said.append("The tasks' correlations are a look each, and neither is corrected for the other.")
    return " ".join([*said, "Nothing is said of other images, longer trainings or other models."])
