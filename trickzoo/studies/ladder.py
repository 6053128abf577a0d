"""The ladder study: a training run of every rung with every seed, which can be stopped and resumed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trickzoo.errors import BadOption
from trickzoo.output_files import RESULT
from trickzoo.recipes import scaled
from trickzoo.recipes.collection import override, to_dict
from trickzoo.recipes.recipe import Ladder, Recipe
from trickzoo.studies.results import ClassifierResult, read
from trickzoo.studies.series import Each, Training, check_jobs, check_rungs, each_message_once, holds_finished, seeds_from, state, train_all

if TYPE_CHECKING:
    from trickzoo.data.location import ImageLocation, Splits
    from trickzoo.studies.parallel import Train
    from trickzoo.training.machine import Machine
    from trickzoo.training.progress import Progress

EVALUATIONS = 5
"""How often a training run is evaluated, for its curve. The study's figure is that of the last epoch."""
FEW = 5000
"""With fewer training images of one's own, starting from weights is suggested."""
OWN = "own"
"""Name of the data if it is the user's own folder."""


@dataclass(frozen=True)
class Step:
    """A rung of a study with its recipe.

    Attributes:
        rung: short name, such as "no_bias_decay", which is part of the names of the training runs' folders.
        base: short name of the rung that it is compared with; None for the first.
        skipped: titles of the rungs between the two that are not run; this rung includes their changes.
        changes: (value of the base, value here) for each recipe field that differs.
    """

    rung: str
    title: str
    recipe: Recipe
    base: str | None
    skipped: tuple[str, ...]
    changes: dict[str, tuple[Any, Any]]


@dataclass(frozen=True)
class Plan:
    """The trainings of a study: steps × seeds. `top` is the short name of the last rung of the whole ladder, whether it is run or not."""

    data: str
    model: str
    steps: tuple[Step, ...]
    seeds: tuple[int, ...]
    top: str

    @property
    def runs(self) -> Iterator[tuple[Step, int]]:
        """Every training run, sorted by seed, so that a study that is stopped early contains complete ladders."""
        return ((step, seed) for seed in self.seeds for step in self.steps)


def folder(out: Path, step: Step, seed: int) -> Path:
    """Return the folder of a training run of the study."""
    return out / f"{step.rung}-{seed}"


def plan(
    data: str,
    model: str,
    *,
    seeds: int = 3,
    first_seed: int = 0,
    rungs: tuple[str, ...] = (),
    teacher: str | None = None,
    low_precision: str | None = None,
    changes: dict[str, str] | None = None,
) -> Plan:
    """Return the plan of a study of `scaled.ladder`, or of some of its rungs. `changes`: fields of the baseline as text, {"epochs": "30"}.

    The seeds are `first_seed`, `first_seed` + 1 and so on. If the rung that a rung builds on is left out, it is compared with the next
    lower rung. Raises BadOption for a value or field that is not allowed, for a rung that is named twice and for one whose trick the
    baseline has already, and UnknownName for an unknown model or rung.
    """
    all_seeds = seeds_from(first_seed, seeds)
    usual = scaled.ladder(data, model).rungs[0].recipe
    whole = scaled.ladder(data, model, teacher=teacher, low_precision=low_precision, **_typed(usual, changes or {}))
    last = whole.rungs[-1].recipe
    steps = _steps(whole, rungs)
    _check_added(steps, _differences(usual, whole.rungs[0].recipe))
    return Plan(data, last.model, steps, all_seeds, last.name.rpartition(".")[2])


def _typed(first: Recipe, changes: dict[str, str]) -> dict[str, Any]:
    """Return fields of the baseline parsed from text; with another batch size the learning rate is scaled."""
    if "name" in changes:
        raise BadOption("the ladder names its recipes itself; leave --name out")
    changed = override(first, changes)
    named = {name.replace("-", "_") for name in changes}
    also = {name for name in ("lr", "augmentation") if getattr(changed, name) != getattr(first, name)}
    return {field.name: getattr(changed, field.name) for field in fields(Recipe) if field.name in named | also}


def _steps(whole: Ladder, wanted: tuple[str, ...]) -> tuple[Step, ...]:
    by_name = {rung.recipe.name: rung for rung in whole.rungs}
    short = {name: name.rpartition(".")[2] for name in by_name}
    check_rungs(wanted, list(short.values()))
    chosen = [rung for rung in whole.rungs if not wanted or short[rung.recipe.name] in wanted]
    before = {b.recipe.name: b.after or a.recipe.name for a, b in zip(whole.rungs, whole.rungs[1:], strict=False)}
    steps: list[Step] = []
    for rung in chosen:
        recipe, skipped = rung.recipe, []
        base = before.get(recipe.name)
        while base is not None and by_name[base] not in chosen:
            skipped.append(by_name[base].title)
            base = before.get(base)
        differences = {} if base is None else _differences(by_name[base].recipe, recipe)
        if base is not None and not differences:
            raise BadOption(f"the rung {short[recipe.name]} changes nothing that the options have not set already; leave these options out")
        steps.append(Step(short[recipe.name], rung.title, recipe, base and short[base], tuple(reversed(skipped)), differences))
    return tuple(steps)


def _check_added(steps: tuple[Step, ...], given: Mapping[str, Any]) -> None:
    """Raise BadOption for a rung that would replace the value of a `given` field of the baseline, in place of adding its trick.

    The rung of linear scaling multiplies the batch and the learning rate, whatever they are.
    """
    for step in steps:
        for name in step.changes.keys() & given.keys() - {"batch_size", "lr"}:
            there, here = map(_short, step.changes[name])
            raise BadOption(
                f"the rung {step.rung} would change {name} from {there}, which the options set, to {here}; "
                f"leave --{name.replace('_', '-')} out, or name other --rungs"
            )


def _differences(there: Recipe, here: Recipe) -> dict[str, tuple[Any, Any]]:
    a, b = to_dict(there), to_dict(here)
    return {name: (a[name], b[name]) for name in b if a[name] != b[name] and name != "name"}


def in_words(changes: dict[str, tuple[Any, Any]]) -> str:
    """Return the changed fields as one line: "batch_size 64 → 128, lr 0.1 → 0.2"."""
    return ", ".join(f"{name} {_short(there)} → {_short(here)}" for name, (there, here) in changes.items())


def _short(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else "none" if value is None else str(value)


def read_result(out: Path, step: Step, seed: int) -> ClassifierResult:
    """Read a finished training run's result. Raises BadCheckpoint for another recipe or seed, or a damaged file."""
    from trickzoo.training import checkpoint

    path = folder(out, step, seed) / RESULT
    found = read(path, ClassifierResult)
    checkpoint.result(path, step.recipe, seed=seed)
    return found


@each_message_once()
def run(
    plan: Plan,
    location: ImageLocation,
    machine: Machine,
    *,
    each: Each,
    tell: Callable[[str], None] = lambda line: None,
    jobs: int = 1,
) -> None:
    """Run the remaining training runs of a study in `machine.out`; a training run that was stopped is resumed from its checkpoint.

    Args:
        plan: the training runs to run.
        location: where the images are.
        machine: the machine of every training run; `out` is the study's folder. The seeds come from the plan.
        each: returns the context manager in which a training runs, by its title.
        tell: called with a line of text for each training run.
        jobs: number of training runs that run at once, each in a process of its own. For more than 1, a script needs
            `if __name__ == "__main__"`.

    Raises:
        BadCheckpoint: the folder holds a training run of another recipe, seed or data set. Raised before anything is trained.
        BadOption: the folder cannot be written, and the study is not finished; or several jobs under torchrun.
        InUse: another run is writing to the folder.
        Stopped: SIGTERM, SIGINT or SIGHUP arrived; the same call resumes the study.
    """
    from trickzoo import classification, result_files, tasks

    of_each = check_jobs(jobs, machine)
    if any(state(folder(machine.out, *run)) != "done" for run in plan.runs):  # a finished study is only read
        result_files.check_folder(machine.out)
    images = classification.open_data(plan.steps[0].recipe, location, machine)  # the images are the same for all rungs
    for note in images.selected.notes:
        tell(note)
    left = [run for run in plan.runs if not holds_finished(folder(machine.out, *run), run[0].recipe, run[1], images)]
    for step in plan.steps:
        if any(step is unfinished for unfinished, _ in left):  # raises errors at once instead of after hours of training
            tasks.prepare(step.recipe, location, machine, images)

    if left and (suggestion := start_from_weights(plan, len(images.train))):
        tell(suggestion)
    trains = _trains(plan, location, of_each, images)
    trainings = [
        Training(f"{step.rung}, seed {seed}", (step, seed) not in left, train)
        for (step, seed), train in zip(plan.runs, trains, strict=True)
    ]
    train_all(trainings, machine, each=each, tell=tell, jobs=jobs, reopen=functools.partial(_trains, plan, location, of_each))


def start_from_weights(plan: Plan, images: int) -> str | None:
    """Return the suggestion to start from weights, if a plan trains from scratch on a small number of one's own images.

    There is none if a step changes the network or its initialisation, which weights do not allow, or if there are no weights.
    """
    from trickzoo.catalogue import describe

    first = plan.steps[0].recipe
    if plan.data != OWN or images >= FEW or first.pretrained or any({"model", "zero_gamma"} & step.changes.keys() for step in plan.steps):
        return None
    found = describe(first.model)
    own = next((weight.tag for weight in found.weights if weight.layout == "trickzoo"), None)
    tag = own or ("default" if found.default else None)
    return tag and (
        f"{images:,} training images are few for training from scratch. Networks that start from weights usually become much better: "
        f"add --pretrained {tag} --lr 0.02"
    )


def _trains(plan: Plan, location: ImageLocation, machine: Machine, images: Splits[Any] | None = None) -> list[Train]:
    """Return what runs each training run of a study, in order. The images are opened if they are not given."""
    from trickzoo import classification, tasks
    from trickzoo.training import job

    opened = images or classification.open_data(plan.steps[0].recipe, location, machine)

    def train(step: Step, seed: int, report: Callable[[Progress], None]) -> str:
        every = -(-step.recipe.epochs // EVALUATIONS)
        here = replace(machine, out=folder(machine.out, step, seed), seed=seed, evaluate_every=every)
        found = job.run(tasks.prepare(step.recipe, location, here, opened), report)
        return f"top-1 {found['top1']:.2f} % ({found['wall_seconds']:.0f} s)"

    return [functools.partial(train, step, seed) for step, seed in plan.runs]
