"""The result of a search for settings: in sentences, as JSON and CSV, and as a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from trickzoo import environment, result_files
from trickzoo.classification.metrics import wilson_percent
from trickzoo.files import write_atomically
from trickzoo.output_files import PREDICTIONS, REPORT, TUNE
from trickzoo.pages import figures
from trickzoo.pages.blocks import Drawing, Table, Text, section
from trickzoo.pages.page import Section, page
from trickzoo.recipes.collection import to_dict
from trickzoo.recipes.fields import in_words
from trickzoo.studies import words
from trickzoo.studies.comparison import compare
from trickzoo.studies.results import environments
from trickzoo.studies.tune import Outcome, Plan
from trickzoo.training.report import provenance_section
from trickzoo.wording import count

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ON = "This command trains with the best setting on all training images, and judges it on the validation images:"
COLUMNS = ("epochs", "top1", "low", "high", "seconds", "result")


def interval(outcome: Outcome) -> tuple[float, float]:
    """Return the 95 % Wilson interval of the accuracy of a training run that has one, in percent."""
    assert outcome.result is not None
    n = outcome.result.n
    return wilson_percent(round(outcome.top1 * n / 100), n)


def findings(plan: Plan, rounds: Sequence[Sequence[Outcome]]) -> list[str]:
    """Return the result of a finished search as sentences: the best setting, how sure that is, and where the grid should be wider."""
    best, *others = rounds[-1]
    assert best.result is not None
    low, high = interval(best)
    found = [
        f"The best setting is {plan.name(best.setting)}: top-1 {best.top1:.2f} % of {count(best.result.n, 'image')} "
        f"(95 % CI {low:.2f} to {high:.2f}) after {count(best.epochs, 'epoch')}."
    ]
    if best.result.majority is not None and low <= best.result.majority:
        found.append(f"That is not significantly more than the share of the largest class, {best.result.majority:.2f} %: train longer.")
    if others and others[0].result is not None:
        found.append(_difference(plan, others[0], best))
    rates = sorted({setting.lr for setting in plan.settings})
    tied = bool(others) and others[0].top1 == best.top1
    if len(rates) > 1 and best.setting.lr in (rates[0], rates[-1]) and not tied:
        end, way, more = ("lowest", "lower", rates[0] / 3) if best.setting.lr == rates[0] else ("highest", "higher", 3 * rates[-1])
        found.append(
            f"Its learning rate is the {end} of the grid; a {way} one may be better still, such as --lr {best.setting.lr:g},{more:.2g}."
        )
    failed = [outcome for outcomes in rounds for outcome in outcomes if outcome.failure]
    found += [f"{plan.name(outcome.setting)} was left out: {outcome.failure}." for outcome in failed]
    found.append(
        "The settings were judged on images that were cut off from the training images. The validation images were not used: a training "
        "run with the best setting measures its accuracy on them. The accuracy above tends to be too high, because it is the best of "
        "several. Each setting was trained with one random seed."
    )
    return found


def _difference(plan: Plan, second: Outcome, best: Outcome) -> str:
    """Return a sentence on the difference between the best two settings, which is tested if both have predictions."""
    ahead = best.top1 - second.top1
    text = f"It is {ahead:.2f} points better than the second, {plan.name(second.setting)}"
    if not ahead:
        return f"The second, {plan.name(second.setting)}, is equally accurate."
    tables = second.place / PREDICTIONS, best.place / PREDICTIONS
    if not all(path.exists() for path in tables):
        return f"{text}."
    found = compare(*tables)
    significant = "significant" if found.p < 0.05 else "not significant"
    return (
        f"{text} (95 % CI {words.span(found.interval)}, McNemar's exact p {words.probability(found.p)}): the difference on these images is "
        f"{significant} at 0.05."
    )


def rows(plan: Plan, rounds: Sequence[Sequence[Outcome]]) -> list[tuple[Any, ...]]:
    """Return a row for each training run: its round, the values of `plan.fields`, and the `COLUMNS`."""
    found = []
    for number, outcomes in enumerate(rounds, 1):
        gone_on = {outcome.setting for outcome in rounds[number]} if number < len(rounds) else {outcomes[0].setting}
        for outcome in outcomes:
            measured = (outcome.top1, *interval(outcome), outcome.result.wall_seconds) if outcome.result else (None,) * 4
            said = outcome.failure or ("best" if number == len(rounds) else "goes on") * (outcome.setting in gone_on)
            values = (getattr(outcome.setting, field) for field in plan.fields)
            found.append((number, *values, outcome.epochs, *measured, said))
    return found


def write(plan: Plan, rounds: Sequence[Sequence[Outcome]], out: Path, command: str) -> Path:
    """Write `tune.json`, `tune.csv` and the report of a finished search into `out`, and return the path of the report.

    `command` is the one that trains with the best setting. Raises NotWritten if a file cannot be written.
    """
    columns = ("round", *plan.fields, *COLUMNS)
    found, said = rows(plan, rounds), findings(plan, rounds)
    best = rounds[-1][0]
    results = [outcome.result for outcomes in rounds for outcome in outcomes if outcome.result is not None]
    content = {
        "what": "search for settings",
        "n_train": results[0].n_train,
        "n": results[0].n,
        "data_digest": results[0].data_digest,
        "val_digest": results[0].val_digest,
        "rounds": [dict(zip(columns, row, strict=True)) for row in found],
        "best": {field: getattr(best.setting, field) for field in plan.fields},
        "recipe": to_dict(best.setting),
        "seed": plan.seed,
        "wall_seconds": round(sum(result.wall_seconds for result in results), 1),
        "findings": said,
        "command_of_the_best": command,
        "commands": list(dict.fromkeys(result.command for result in results)),
        "environments": msgspec.to_builtins(environments(results)),
    }
    result_files.write_json(out / TUNE, content)
    result_files.write_csv(out / "tune.csv", columns, found)
    caption = f"Top-1 on {count(results[0].n, 'image')} that were cut off from the training images. Each round begins from the start."
    sections = [
        *_figure(plan, rounds),
        section("rounds", "Every training run", Table(titles(plan), cells(plan, rounds), caption)),
        section("on", "Next steps", Text([ON]), Text([command], code=True)),
        provenance_section({**content, **environment.describe()}),
    ]
    write_atomically(out / REPORT, page(f"Which settings? {best.setting.model} by {best.setting.name}", said, sections).encode())
    return out / REPORT


def titles(plan: Plan) -> tuple[str, ...]:
    """Return the titles of the columns of `cells`."""
    return ("round", *plan.fields, "epochs", "top-1, %", "95 % CI", "seconds", "")


def cells(plan: Plan, rounds: Sequence[Sequence[Outcome]]) -> list[tuple[str, ...]]:
    """Return the rows of `rows` as text."""
    found = []
    for row in rows(plan, rounds):
        *setting, epochs, top1, low, high, seconds, said = row
        measured = ("–", "–", "–") if top1 is None else (f"{top1:.2f}", f"{low:.2f} to {high:.2f}", f"{seconds:.0f}")
        found.append((*map(in_words, setting), str(epochs), *measured, said))
    return found


def _figure(plan: Plan, rounds: Sequence[Sequence[Outcome]]) -> list[Section]:
    """Return the section with the accuracy over the learning rate, if the settings differ in it."""
    if "lr" not in plan.fields:
        return []

    def draw(narrow: bool) -> Figure:
        with figures.style():
            from matplotlib.figure import Figure

            figure = Figure(figsize=(4.3, 3.4) if narrow else (9.6, 3.2), layout="constrained")
            axes = figure.subplots()
            for number, outcomes in enumerate(rounds, 1):
                last = number == len(rounds)
                measured = [outcome for outcome in outcomes if outcome.result is not None]
                colour = figures.ACCENT if last else figures.FAINT
                for outcome in measured if last else ():
                    axes.plot([outcome.setting.lr] * 2, interval(outcome), color=colour, linewidth=2.2)
                rates, tops = [outcome.setting.lr for outcome in measured], [outcome.top1 for outcome in measured]
                marker = "o" if last else ("s", "^", "v", "D")[(number - 1) % 4]
                face = colour if last else "none"
                label = f"round {number}, {count(max(outcome.epochs for outcome in outcomes), 'epoch')}"
                axes.plot(rates, tops, marker, color=colour, markerfacecolor=face, markersize=6, label=label)
            axes.set_xscale("log")
            axes.set_xticks(sorted({setting.lr for setting in plan.settings}), [f"{lr:g}" for lr in sorted({s.lr for s in plan.settings})])
            axes.minorticks_off()
            axes.set_title("top-1 on the cut-off images, %")
            axes.set_xlabel("learning rate")
            axes.grid(axis="y")
            axes.legend(frameon=False)
            return figure

    svgs = figures.both(draw, "rates", "Accuracy of every training run over its learning rate. The table below has the same figures.")
    return [section("rates", "Learning rates", Drawing(svgs, "The bars are the 95 % intervals of the last round."))]
