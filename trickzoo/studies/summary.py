"""What a ladder study found: the figures of its result files, and the sentences that they allow."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from trickzoo.errors import BadData
from trickzoo.recipes.collection import plain
from trickzoo.studies.ladder import OWN, Plan, Step, folder, read_result, state
from trickzoo.studies.statistics import Estimate, estimate, holm

IN_WORDS = {OWN: "own images", "shapes": "generated shapes"}
HELPED, HURT, UNCLEAR, NO_INTERVAL = "helped", "hurt", "not told from noise", "no interval"


def summarise(plan: Plan, out: Path) -> dict[str, Any]:
    """Everything that the finished trainings in `out` say, as it is written to `ladder.json`. Accuracies are top-1 in percent.

    A rung is compared with its base by the seeds that both have. Raises BadData if no training is finished, or if they are of other images,
    and BadCheckpoint if one is of another recipe.
    """
    results = {
        step.rung: {seed: read_result(out, step, seed) for seed in plan.seeds if state(out, step, seed) == "done"} for step in plan.steps
    }
    found = [each for by_seed in results.values() for each in by_seed.values()]
    if not found:
        raise BadData(f"{out} holds no finished training of this study; run it without --report-only")
    for what in ("data_digest", "val_digest"):
        if len({each[what] for each in found}) > 1:
            raise BadData(f"{out} holds trainings of different images ({what}); name another --out")
    rungs = [_rung(step, results[step.rung], results[step.base] if step.base else {}, out) for step in plan.steps]
    tested = [rung["difference"] for rung in rungs if rung["difference"] and rung["difference"]["p"] is not None]
    if len(tested) > 1:
        for difference, p in zip(tested, holm([difference["p"] for difference in tested]), strict=True):
            difference["p_holm"] = p
    first, last = plan.steps[0], plan.steps[-1]
    content = {
        "what": "ladder study",
        "title": f"{plan.model} on {IN_WORDS.get(plan.data, plan.data)}",
        "data": plan.data,
        "model": plan.model,
        "generated": found[0].get("data"),
        "metric": "top-1 accuracy of the last epoch's weights on the validation images, percent",
        "n_train": found[0]["n_train"],
        "n_val": found[0]["n"],
        "data_digest": found[0]["data_digest"],
        "val_digest": found[0]["val_digest"],
        "seeds": list(plan.seeds),
        "finished": len(found),
        "planned": len(plan.steps) * len(plan.seeds),
        "wall_seconds": round(sum(each["wall_seconds"] for each in found), 1),
        "baseline": plain(first.recipe),
        "rungs": rungs,
        "total": {
            "from": first.rung,
            "to": last.rung,
            "whole": first.rung == "baseline" and last.rung == plan.top,
            "difference": _difference(results[last.rung], results[first.rung]) if last is not first else None,
        },
        "commands": list(dict.fromkeys(each["command"] for each in found)),
        "environments": _environments(found),
    }
    return content | {"findings": findings(content)}


def _rung(step: Step, results: dict[int, Any], base: dict[int, Any], out: Path) -> dict[str, Any]:
    return {
        "rung": step.rung,
        "title": step.title,
        "recipe": step.recipe.name,
        "base": step.base,
        "skipped": list(step.skipped),
        "changes": {name: list(pair) for name, pair in step.changes.items()},
        "seeds": list(results),
        "top1": _plain(estimate([each["top1"] for each in results.values()])) if results else None,
        "difference": _difference(results, base),
        "wall_seconds": [each["wall_seconds"] for each in results.values()],
        "curves": [_curve(folder(out, step, seed)) for seed in results],
    }


def _difference(results: dict[int, Any], base: dict[int, Any]) -> dict[str, Any] | None:
    """The paired difference of two rungs in points, by the seeds that both have."""
    seeds = [seed for seed in results if seed in base]
    if not seeds:
        return None
    found = estimate([round(results[seed]["top1"] - base[seed]["top1"], 4) for seed in seeds])
    return {**_plain(found), "p": found.p, "p_holm": None, "seeds": seeds, "verdict": verdict(found)}


def _plain(found: Estimate) -> dict[str, Any]:
    return {
        "values": list(found.values),
        "n": found.n,
        "mean": found.mean,
        "s": found.s,
        "interval": found.interval and list(found.interval),
    }


def verdict(difference: Estimate) -> str:
    """Whether a 95 % interval excludes 0, in words; nothing more is claimed."""
    if difference.interval is None:
        return NO_INTERVAL
    low, high = difference.interval
    return HELPED if low > 0 else HURT if high < 0 else UNCLEAR


def _curve(place: Path) -> list[list[float]]:
    """Top-1 after each evaluated epoch: [epochs, top-1]."""
    from trickzoo.training import tracking

    rows = tracking.rows(place) if (place / tracking.METRICS).exists() else []
    return [[row["epoch"] + 1, row["top1"]] for row in rows if "top1" in row]


def _environments(found: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the trainings ran on and with, each environment once, with the number of its trainings."""
    seen: list[dict[str, Any]] = []
    for each in found:
        here = {key: each.get(key) for key in ("hardware", "platform", "commit", "processes", "versions")}
        same = next((there for there in seen if {**there, "trainings": 0} == {**here, "trainings": 0}), None)
        if same is None:
            seen.append({**here, "trainings": 1})
        else:
            same["trainings"] += 1
    return seen


# ---------------------------------------------------------------------------------------------------------------------
# in words


def points(value: float) -> str:
    """A difference with its sign: "+1.23", "−0.45"."""
    return f"{value:+.2f}".replace("-", "−")


def span(interval: list[float] | None) -> str:
    """The interval of a difference: "−0.45 to +1.23"."""
    return "none" if interval is None else f"{points(interval[0])} to {points(interval[1])}"


def findings(content: dict[str, Any]) -> list[str]:
    """What was found, in plain sentences: the gain over the whole ladder, which steps helped and which did not, and how far it holds."""
    rungs = content["rungs"]
    sentences = [_total(content), *_steps(rungs)]
    if content["generated"]:
        sentences.append(f"The images are generated, not photographs: {content['generated']}.")
    if content["finished"] < content["planned"]:
        sentences.append(f"The study is not finished: {content['finished']} of {content['planned']} trainings are in it.")
    said = (
        "The intervals are of training with other seeds; they say" if any(r["top1"] and r["top1"]["interval"] for r in rungs) else "It says"
    )
    epochs, size = content["baseline"]["epochs"], content["baseline"]["size"]
    sentences.append(
        f"Measured on {content['n_val']:,} validation images after {epochs} epochs with {content['n_train']:,} training images of {size} "
        f"pixels. {said} nothing of other images, longer trainings or other models."
    )
    return sentences


def _total(content: dict[str, Any]) -> str:
    total, rungs = content["total"], {rung["rung"]: rung for rung in content["rungs"]}
    found, first, last = total["difference"], rungs[total["from"]], rungs[total["to"]]
    if found is None:
        return "The gain over the whole ladder is not known yet: no seed has both its first and its last rung."
    tricks = "All tricks together" if total["whole"] else f"The steps from {_name(first)} to {_name(last)} together"
    levels = ""
    if first["seeds"] == last["seeds"] == found["seeds"]:
        levels = f", from {first['top1']['mean']:.2f} % to {last['top1']['mean']:.2f} %"
    change = f"change top-1 accuracy by {points(found['mean'])} points{levels}"
    if found["n"] == 1:
        return f"{tricks} {change}, in one training of each. One says nothing of the spread: run three seeds or more before trusting it."
    if found["interval"] is None:
        return f"{tricks} {change}, alike for all {found['n']} seeds, which leaves no spread to take an interval from."
    inside = f"95 % interval {span(found['interval'])}, {found['n']} seeds"
    if found["verdict"] == UNCLEAR:
        return f"{tricks} make no difference that can be told from noise: they {change} ({inside})."
    verb = "raise" if found["verdict"] == HELPED else "lower"
    return f"{tricks} {verb} top-1 accuracy by {abs(found['mean']):.2f} points{levels} ({inside})."


def _steps(rungs: list[dict[str, Any]]) -> Iterable[str]:
    compared = [rung for rung in rungs if rung["difference"]]
    if len(rungs) < 3 or not compared:  # with two rungs the gain over the whole is all there is
        return
    for outcome, words in ((HELPED, "helped"), (HURT, "hurt"), (UNCLEAR, "cannot be told from noise")):
        these = [f"{_name(rung)} ({points(rung['difference']['mean'])})" for rung in compared if rung["difference"]["verdict"] == outcome]
        if these:
            yield f"{_these(len(these))} {words}, by {'its' if len(these) == 1 else 'their'} own 95 % interval: {', '.join(these)}."
    none = [f"{_name(rung)} ({points(rung['difference']['mean'])})" for rung in compared if rung["difference"]["verdict"] == NO_INTERVAL]
    if none:
        yield f"Without an interval, as one seed or equal seeds show no spread: {', '.join(none)}."
    tested = [rung for rung in compared if rung["difference"]["p_holm"] is not None]
    if len(tested) > 1:
        firm = [_name(rung) for rung in tested if rung["difference"]["p_holm"] < 0.05]
        left = f"{', '.join(firm)} still {'stands' if len(firm) == 1 else 'stand'}" if firm else "none of them stands"
        yield (
            f"These are {len(tested)} looks, and about one in twenty excludes 0 by chance alone. "
            f"With Holm's correction for all {len(tested)}, {left}."
        )


def title(rung: dict[str, Any]) -> str:
    """A rung's title, with the count of the steps below it that come with it because their own rungs are not run."""
    steps = len(rung["skipped"])
    return str(rung["title"]) + (f" with {steps} step{'s' if steps > 1 else ''} before it" if steps else "")


def probability(p: float) -> str:
    """A p value: "0.012", "< 0.001"."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _these(count: int) -> str:
    return "One step" if count == 1 else f"{count} steps"


def _name(rung: dict[str, Any]) -> str:
    return str(rung["title"]).removeprefix("+ ")
