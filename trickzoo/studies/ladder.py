"""The ladder study: every rung with every seed, each a training of its own that a stop does not lose."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trickzoo.errors import BadOption, UnknownName
from trickzoo.recipes import scaled
from trickzoo.recipes.collection import override, plain
from trickzoo.recipes.recipe import Ladder, Recipe
from trickzoo.studies.found import ClassifierResult, read
from trickzoo.studies.series import Each, Training, train_all

if TYPE_CHECKING:
    from trickzoo.classification.open import ImageLocation
    from trickzoo.data.location import Splits
    from trickzoo.training.job import Machine
    from trickzoo.training.progress import Progress

OWN = "own"
"""Name of the data where it is the user's own folder."""

State = Literal["done", "begun", "to do"]


@dataclass(frozen=True)
class Step:
    """A rung as it is run.

    Attributes:
        rung: short name, such as "no_bias_decay"; the runs' folders are named by it.
        base: short name of the rung that it is compared with; None for the first.
        skipped: titles of the rungs between the two that are not run, whose changes this one brings too.
        changes: each recipe field that differs from the base's: (there, here).
    """

    rung: str
    title: str
    recipe: Recipe
    base: str | None
    skipped: tuple[str, ...]
    changes: dict[str, tuple[Any, Any]]


@dataclass(frozen=True)
class Plan:
    """What a study runs: steps × seeds. `top` is the short name of the whole ladder's last rung, run or not."""

    data: str
    model: str
    steps: tuple[Step, ...]
    seeds: tuple[int, ...]
    top: str

    @property
    def runs(self) -> Iterator[tuple[Step, int]]:
        """Every training, all rungs of a seed before the next seed: a study that is stopped early leaves whole ladders."""
        return ((step, seed) for seed in self.seeds for step in self.steps)


def folder(out: Path, step: Step, seed: int) -> Path:
    """Where a training of the study lies."""
    return out / f"{step.rung}-{seed}"


def plan(
    data: str,
    model: str,
    *,
    seeds: int = 3,
    rungs: tuple[str, ...] = (),
    teacher: str | None = None,
    low_precision: str | None = None,
    changes: dict[str, str] | None = None,
) -> Plan:
    """The study of `scaled.ladder`, or of some of its rungs. `changes` are fields of the baseline as text: {"epochs": "30"}.

    Without the rung that it adds to, a rung is compared with the one below that. Raises BadOption or UnknownName for what does not exist.
    """
    if seeds < 1:
        raise BadOption(f"--seeds must be 1 or more, not {seeds}")
    whole = scaled.ladder(
        data, model, teacher=teacher, low_precision=low_precision, **_typed(scaled.ladder(data, model).rungs[0].recipe, changes or {})
    )
    last = whole.rungs[-1].recipe
    return Plan(data, last.model, _steps(whole, rungs), tuple(range(seeds)), last.name.rpartition(".")[2])


def _typed(first: Recipe, changes: dict[str, str]) -> dict[str, Any]:
    """Fields of the baseline from text; with another batch size the learning rate goes with it."""
    if "name" in changes:
        raise BadOption("the ladder names its recipes itself; leave --name out")
    changed = override(first, changes)
    named = {name.replace("-", "_") for name in changes}
    also = {name for name in ("lr", "augmentation") if getattr(changed, name) != getattr(first, name)}
    return {field.name: getattr(changed, field.name) for field in fields(Recipe) if field.name in named | also}


def _steps(whole: Ladder, wanted: tuple[str, ...]) -> tuple[Step, ...]:
    by_name = {rung.recipe.name: rung for rung in whole.rungs}
    short = {name: name.rpartition(".")[2] for name in by_name}
    for name in wanted:
        if name not in short.values():
            raise UnknownName("rung", name, short.values())
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


def _differences(there: Recipe, here: Recipe) -> dict[str, tuple[Any, Any]]:
    a, b = plain(there), plain(here)
    return {name: (a[name], b[name]) for name in b if a[name] != b[name] and name != "name"}


def in_words(changes: dict[str, tuple[Any, Any]]) -> str:
    """Changed fields in a line: "batch_size 64 → 128, lr 0.1 → 0.2"."""
    return ", ".join(f"{name} {_short(there)} → {_short(here)}" for name, (there, here) in changes.items())


def _short(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else "none" if value is None else str(value)


def state(out: Path, step: Step, seed: int) -> State:
    """How far a training is, by its files' names."""
    from trickzoo.training import checkpoint

    place = folder(out, step, seed)
    return "done" if (place / "result.json").exists() else "begun" if (place / checkpoint.LAST).exists() else "to do"


def read_result(out: Path, step: Step, seed: int, **this: Any) -> ClassifierResult:
    """A finished training's result. Raises BadCheckpoint if it is one of another recipe, seed or data set (`this`), or no result file."""
    from trickzoo.training import checkpoint

    path = folder(out, step, seed) / "result.json"
    found = read(path, ClassifierResult)
    checkpoint.result(path, step.recipe, seed=seed, **this)
    return found


def run(
    plan: Plan,
    location: ImageLocation,
    machine: Machine,
    *,
    each: Each,
    tell: Callable[[str], None] = lambda line: None,
) -> None:
    """Do what is left of a study in `machine.out`: finished trainings are kept, a half-done one goes on from its checkpoint.

    Args:
        plan: what to run.
        location: where the images are.
        machine: of every training; `out` is the study's folder, the seeds are the plan's.
        each: the block that a training runs in.
        tell: called with a line for each training.

    Raises:
        BadCheckpoint: the folder holds a training of another recipe, seed or data set. Nothing has been trained then.
        InUse: another run is writing to the folder.
        Stopped: SIGTERM, SIGINT or SIGHUP came; the same call goes on.
    """
    from trickzoo import classification, evidence, tasks
    from trickzoo.training import job as jobs
    from trickzoo.training.folder import held
    from trickzoo.training.processes import processes

    evidence.check_folder(machine.out)
    images = classification.open_data(plan.steps[0].recipe, location, machine)  # the rungs differ in nothing that the images depend on
    left = [(step, seed) for step, seed in plan.runs if not _is_done(plan, machine.out, step, seed, images)]
    for step in plan.steps:
        if any(step is unfinished for unfinished, _ in left):  # what cannot be trained is told at once and not after hours
            tasks.prepare(step.recipe, location, machine, images)

    def train(step: Step, seed: int, report: Callable[[Progress], None]) -> str:
        here = replace(machine, out=folder(machine.out, step, seed), seed=seed)
        found = jobs.run(tasks.prepare(step.recipe, location, here, images), report)
        return f"top-1 {found['top1']:.2f} % ({found['wall_seconds']:.0f} s)"

    trainings = [
        Training(f"{step.rung}, seed {seed}", (step, seed) not in left, functools.partial(train, step, seed)) for step, seed in plan.runs
    ]
    with held(machine.out, processes(use_cpu=machine.use_cpu)):
        train_all(trainings, each=each, tell=tell)


def _is_done(plan: Plan, out: Path, step: Step, seed: int, images: Splits[Any]) -> bool:
    """Whether a training is finished. Raises BadCheckpoint if what is in its folder is another training, finished or half-done."""
    from trickzoo.training import checkpoint

    now, place = state(out, step, seed), folder(out, step, seed)
    this = {"data_digest": images.train.digest, "val_digest": images.val.digest, **_digests(step.recipe)}
    if now == "begun":
        checkpoint.load(place / checkpoint.LAST, step.recipe, seed=seed, **this)
    if now == "done":
        read_result(out, step, seed, **this)
    return now == "done"


def _digests(recipe: Recipe) -> dict[str, str]:
    """SHA-256 of the weight files that a recipe names by their paths."""
    from trickzoo import files
    from trickzoo.weights.opened import is_file

    named = {"weights_sha256": recipe.pretrained, "teacher_sha256": recipe.teacher}
    return {name: files.digest(Path(path)) for name, path in named.items() if path is not None and is_file(path) and Path(path).is_file()}
