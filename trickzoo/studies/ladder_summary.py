"""What a ladder study found: the figures of its result files, and the sentences that they allow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
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
    correct(rungs)
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
            "difference": difference(_top1(results[last.rung]), _top1(results[first.rung])) if last is not first else None,
        },
        "commands": list(dict.fromkeys(each["command"] for each in found)),
        "environments": environments(found),
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
        "top1": in_figures(estimate([each["top1"] for each in results.values()])) if results else None,
        "difference": difference(_top1(results), _top1(base)),
        "wall_seconds": [each["wall_seconds"] for each in results.values()],
        "curves": [_curve(folder(out, step, seed)) for seed in results],
    }


def _top1(results: Mapping[int, Any]) -> dict[int, float]:
    return {seed: each["top1"] for seed, each in results.items()}


def difference(values: Mapping[int, float], base: Mapping[int, float]) -> dict[str, Any] | None:
    """The paired difference of two rungs' figures by seed, in points, by the seeds that both have."""
    seeds = [seed for seed in values if seed in base]
    if not seeds:
        return None
    found = estimate([round(values[seed] - base[seed], 4) for seed in seeds])
    return {**in_figures(found), "p": found.p, "p_holm": None, "seeds": seeds, "verdict": verdict(found)}


def correct(rungs: Iterable[dict[str, Any]]) -> None:
    """Fill in Holm's p of the rungs' differences, if there are several with a p."""
    tested = [rung["difference"] for rung in rungs if rung["difference"] and rung["difference"]["p"] is not None]
    if len(tested) > 1:
        for found, p in zip(tested, holm([found["p"] for found in tested]), strict=True):
            found["p_holm"] = p


def in_figures(found: Estimate) -> dict[str, Any]:
    """An estimate as a summary's file holds it."""
    return {
        "values": list(found.values),
        "n": found.n,
        "mean": found.mean,
        "s": found.s,
        "interval": found.interval and list(found.interval),
    }


def verdict(found: Estimate) -> str:
    """Whether a 95 % interval excludes 0, in words; nothing more is claimed."""
    if found.interval is None:
        return NO_INTERVAL
    low, high = found.interval
    return HELPED if low > 0 else HURT if high < 0 else UNCLEAR


def _curve(place: Path) -> list[list[float]]:
    """Top-1 after each evaluated epoch: [epochs, top-1]."""
    from trickzoo.training import tracking

    rows = tracking.rows(place) if (place / tracking.METRICS).exists() else []
    return [[row["epoch"] + 1, row["top1"]] for row in rows if "top1" in row]


def environments(found: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
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
    sentences = [total_in_words(content), *steps_in_words(rungs)]
    if content["generated"]:
        sentences.append(f"The images are generated, not photographs: {content['generated']}.")
    if content["finished"] < content["planned"]:
        sentences.append(f"The study is not finished: {content['finished']} of {content['planned']} trainings are in it.")
    said = (
        "The intervals are of training with other seeds; they say" if any(r["top1"] and r["top1"]["interval"] for r in rungs) else "It says"
    )
    length, size = count(content["baseline"]["epochs"], "epoch"), content["baseline"]["size"]
    sentences.append(
        f"Measured on {content['n_val']:,} validation images after {length} with {content['n_train']:,} training images of {size} "
        f"pixels. {said} nothing of other images, longer trainings or other models."
    )
    return sentences


def total_in_words(study: dict[str, Any], figure: str = "top1", measure: str = "top-1 accuracy") -> str:
    """The difference between a study's first and last rung. `figure` is the key of each rung's figures, `measure` their name."""
    total, rungs = study["total"], {rung["rung"]: rung for rung in study["rungs"]}
    found, first, last = total["difference"], rungs[total["from"]], rungs[total["to"]]
    if found is None:
        return "The gain over the whole ladder is not known yet: no seed has both its first and its last rung."
    tricks = "All tricks together" if total["whole"] else f"The steps from {name(first)} to {name(last)} together"
    levels = ""
    if first["seeds"] == last["seeds"] == found["seeds"]:
        levels = f", from {first[figure]['mean']:.2f} % to {last[figure]['mean']:.2f} %"
    change = f"change {measure} by {points(found['mean'])} points{levels}"
    if found["n"] == 1:
        return f"{tricks} {change}, in one training of each. One says nothing of the spread: run three seeds or more before trusting it."
    if found["interval"] is None:
        return f"{tricks} {change}, alike for all {found['n']} seeds, which leaves no spread to take an interval from."
    inside = f"95 % interval {span(found['interval'])}, {found['n']} seeds"
    if found["verdict"] == UNCLEAR:
        return f"{tricks} make no difference that can be told from noise: they {change} ({inside})."
    verb = "raise" if found["verdict"] == HELPED else "lower"
    return f"{tricks} {verb} {measure} by {abs(found['mean']):.2f} points{levels} ({inside})."


def title(rung: dict[str, Any]) -> str:
    """A rung's title, with the count of the steps below it that come with it because their own rungs are not run."""
    steps = len(rung["skipped"])
    return str(rung["title"]) + (f" with {count(steps, 'step')} before it" if steps else "")


def name(rung: dict[str, Any]) -> str:
    """A rung's bare title inside a sentence."""
    return str(rung["title"]).removeprefix("+ ")


def step_name(rung: dict[str, Any]) -> str:
    """A rung's `title` inside a sentence."""
    return title(rung).removeprefix("+ ")


STEPS = {HELPED: "helped", HURT: "hurt", UNCLEAR: "cannot be told from noise"}


def steps_in_words(
    rungs: list[dict[str, Any]],
    unit: str = "step",
    outcomes: Mapping[str, str] = STEPS,
    called: Callable[[dict[str, Any]], str] = step_name,
) -> Iterable[str]:
    """Which rungs' differences exclude 0 and which do not, and what is left after correction.

    `outcomes` says it of each verdict, `called` is what a rung is called.
    """
    compared = [rung for rung in rungs if rung["difference"]]
    if len(rungs) < 3 or not compared:  # with two rungs the gain over the whole is all there is
        return
    for outcome, words in outcomes.items():
        these = [f"{called(rung)} ({points(rung['difference']['mean'])})" for rung in compared if rung["difference"]["verdict"] == outcome]
        if these:
            who, whose = (f"One {unit}", "its") if len(these) == 1 else (f"{len(these)} {unit}s", "their")
            yield f"{who} {words}, by {whose} own 95 % interval: {', '.join(these)}."
    none = [f"{called(rung)} ({points(rung['difference']['mean'])})" for rung in compared if rung["difference"]["verdict"] == NO_INTERVAL]
    if none:
        yield f"Without an interval, as one seed or equal seeds show no spread: {', '.join(none)}."
    tested = [rung for rung in compared if rung["difference"]["p_holm"] is not None]
    if len(tested) > 1:
        firm = [called(rung) for rung in tested if rung["difference"]["p_holm"] < 0.05]
        left = f"{', '.join(firm)} still {'stands' if len(firm) == 1 else 'stand'}" if firm else "none of them stands"
        yield (
            f"These are {len(tested)} looks, and about one in twenty excludes 0 by chance alone. "
            f"With Holm's correction for all {len(tested)}, {left}."
        )


def count(n: int, unit: str) -> str:
    """A number of things: "1 epoch", "6 epochs"."""
    return f"{n} {unit}{'' if n == 1 else 's'}"


def probability(p: float) -> str:
    """A p value: "0.012", "< 0.001"."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
