"""The transfer study: the backbones of a finished ladder study are fine-tuned with the same detection and segmentation recipes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trickzoo.errors import BadData, BadOption
from trickzoo.output_files import LADDER, NETWORK, RESULT
from trickzoo.recipes.finetune import DetectionRecipe, SegmentationRecipe
from trickzoo.studies import words
from trickzoo.studies.records import LadderRung, LadderStudy
from trickzoo.studies.results import SCRATCH, ClassifierResult, read
from trickzoo.studies.series import Each, Training, check_jobs, check_rungs, each_message_once, holds_finished, seeds_from, state, train_all

if TYPE_CHECKING:
    from trickzoo.data.location import AnnotatedLocation, Splits
    from trickzoo.studies.examples import Example
    from trickzoo.studies.parallel import Train
    from trickzoo.training.machine import Machine
    from trickzoo.training.progress import Progress


SAME = 1e-3
"""By how many points the accuracies of the same training may differ in two files."""


@dataclass(frozen=True)
class Trunk:
    """A backbone from a training run of the ladder study, or one with random weights, whose rung is `SCRATCH`."""

    rung: str
    seed: int
    model: str
    weights: Path | None
    top1: float | None


@dataclass(frozen=True)
class Branch:
    """A task with its images and its recipe, which is the same for all backbones except for the backbone itself."""

    recipe: DetectionRecipe | SegmentationRecipe
    location: AnnotatedLocation


@dataclass(frozen=True)
class Plan:
    """The training runs of a study: branches × trunks. `ladder` is the summary of the ladder study that the trunks come from."""

    ladder: LadderStudy
    trunks: tuple[Trunk, ...]
    branches: tuple[Branch, ...]

    @property
    def runs(self) -> list[tuple[Branch, Trunk]]:
        """Every training run, sorted by seed, so that a study that is stopped early contains complete comparisons."""
        return [
            (branch, trunk)
            for seed in dict.fromkeys(trunk.seed for trunk in self.trunks)
            for branch in self.branches
            for trunk in self.trunks
            if trunk.seed == seed
        ]


def folder(out: Path, branch: Branch, trunk: Trunk) -> Path:
    """Return the folder of a training run of the study."""
    return out / branch.recipe.task / f"{trunk.rung}-{trunk.seed}"


def plan(
    checkpoints: Path,
    branches: tuple[Branch, ...],
    *,
    seeds: int = 3,
    first_seed: int = 0,
    rungs: tuple[str, ...] = (),
    scratch: bool = False,
    report_only: bool = False,
) -> Plan:
    """Return the plan of a transfer study on the ladder study in the folder `checkpoints`, or on some of its rungs.

    The seeds are `first_seed`, `first_seed` + 1 and so on. Seed s starts from the backbone that the ladder trained with seed s, so that
    differences between rungs are paired by seed. `scratch` adds training runs of the first rung's network from random weights. With
    `report_only` nothing is trained, and the backbones may be gone.

    Raises BadOption without a branch or a seed, the errors of `check_rungs`, and BadData if the ladder lacks a training run that is needed.
    """
    if not branches:
        raise BadOption("name a set with --detection, with --segmentation, or with both")
    all_seeds = seeds_from(first_seed, seeds)
    ladder = read_ladder(checkpoints, rungs)
    wanted = [each for each in ladder.rungs if not rungs or each.rung in rungs]
    trunks = []
    for seed in all_seeds:
        of_seed = [
            Trunk(rung.rung, seed, ladder.model, None, rung.by_seed.get(seed)) if report_only else _trunk(checkpoints, rung, seed)
            for rung in wanted
        ]
        trunks += [*of_seed, Trunk(SCRATCH, seed, of_seed[0].model, None, None)] if scratch else of_seed
    return Plan(ladder, tuple(trunks), branches)


def read_ladder(checkpoints: Path, rungs: tuple[str, ...] = ()) -> LadderStudy:
    """Return the summary of the ladder study in a folder. Raises BadData if there is none, and the errors of `check_rungs`."""
    path = checkpoints / LADDER
    if not path.is_file():
        raise BadData(f"{checkpoints} holds no ladder study: {path.name} is missing; let `trickzoo ladder` finish, which writes it")
    ladder = read(path, LadderStudy)
    check_rungs(rungs, [each.rung for each in ladder.rungs])
    return ladder


def _trunk(checkpoints: Path, rung: LadderRung, seed: int) -> Trunk:
    place = checkpoints / f"{rung.rung}-{seed}"
    if not (place / RESULT).is_file() or not (place / NETWORK).is_file():
        raise BadData(f"{place} holds no finished training run; finish it with `trickzoo ladder`, lower --seeds, or name the --rungs")
    found = read(place / RESULT, ClassifierResult)
    if abs(rung.by_seed.get(seed, -1) - found.top1) > SAME:
        raise BadData(
            f"{checkpoints / LADDER} does not have the training in {place} as it is now; write it again with "
            "`trickzoo ladder --report-only`, and all of its --seeds"
        )
    return Trunk(rung.rung, seed, found.recipe["model"], place / NETWORK, found.top1)


def recipe_of(branch: Branch, trunk: Trunk) -> DetectionRecipe | SegmentationRecipe:
    """Return the branch's recipe with this backbone."""
    return replace(branch.recipe, model=trunk.model, weights=None if trunk.weights is None else str(trunk.weights))


@each_message_once()
def run(plan: Plan, machine: Machine, *, each: Each, tell: Callable[[str], None] = lambda line: None, jobs: int = 1) -> None:
    """Run the remaining training runs of a study in `machine.out`; a training run that was stopped is resumed from its checkpoint.

    The arguments and errors are those of `ladder.run`; the locations of the images are in the plan.
    """
    from trickzoo import result_files, tasks

    of_each = check_jobs(jobs, machine)
    if any(state(folder(machine.out, *run)) != "done" for run in plan.runs):  # a finished study is only read
        result_files.check_folder(machine.out)
    data = _open(plan, machine)
    for images in data.values():
        for note in images.selected.notes:
            tell(note)
    done = [
        holds_finished(folder(machine.out, branch, trunk), recipe_of(branch, trunk), trunk.seed, data[branch.recipe.task])
        for branch, trunk in plan.runs
    ]
    left = {(branch, trunk.rung): trunk for (branch, trunk), finished in zip(plan.runs, done, strict=True) if not finished}
    for (branch, _), trunk in left.items():  # raises errors at once instead of after hours of training
        tasks.prepare(recipe_of(branch, trunk), branch.location, machine, data[branch.recipe.task])
    trainings = [
        Training(f"{branch.recipe.task}, {trunk.rung}, seed {trunk.seed}", finished, train)
        for (branch, trunk), finished, train in zip(plan.runs, done, _trains(plan, of_each, data), strict=True)
    ]
    train_all(trainings, machine, each=each, tell=tell, jobs=jobs, reopen=functools.partial(_trains, plan, of_each))


def _open(plan: Plan, machine: Machine) -> dict[str, Splits[Any]]:
    """Open the images of each task."""
    from trickzoo import tasks

    return {
        branch.recipe.task: tasks.find_task(branch.recipe.task).open_data(branch.recipe, branch.location, machine)
        for branch in plan.branches
    }


def _trains(plan: Plan, machine: Machine, data: dict[str, Splits[Any]] | None = None) -> list[Train]:
    """Return what runs each training run of a study, in order. The images are opened if they are not given."""
    from trickzoo import tasks
    from trickzoo.training import job
    from trickzoo.training.measures import MEASURES

    opened = data or _open(plan, machine)

    def train(branch: Branch, trunk: Trunk, report: Callable[[Progress], None]) -> str:
        recipe, place = recipe_of(branch, trunk), folder(machine.out, branch, trunk)
        here = replace(machine, out=place, seed=trunk.seed, evaluate_every=recipe.epochs)
        task = tasks.prepare(recipe, branch.location, here, opened[recipe.task])
        found = job.run(task, report, backbone={"rung": trunk.rung, "seed": trunk.seed, "top1": trunk.top1})
        measured = found[found["measure"]]
        shown = "nothing to find" if measured is None else f"{MEASURES[found['measure']]} {measured:.2f} %"
        return f"{shown} ({found['wall_seconds']:.0f} s)"

    return [functools.partial(train, branch, trunk) for branch, trunk in plan.runs]


def examples(plan: Plan, out: Path, n: int) -> list[Example]:
    """Return the predictions of the first and the last rung, with the first seed, on n validation images per task.

    A task is left out if one of these two training runs is not finished.
    """
    from trickzoo.studies.examples import draw

    seed = plan.trunks[0].seed
    rungs = {rung.rung: words.name(rung) for rung in plan.ladder.rungs}
    if plan.ladder.total.whole:
        rungs[plan.ladder.total.last] = "all tricks"
    trunks = [trunk for trunk in plan.trunks if trunk.seed == seed and trunk.rung != SCRATCH]
    found: list[Example] = []
    for branch in plan.branches if n > 0 else ():
        ends = [trunks[0], *(trunks[-1:] if len(trunks) > 1 else ())]
        networks = [(f"predicted, with the backbone of {rungs[trunk.rung]}", folder(out, branch, trunk) / NETWORK) for trunk in ends]
        if not all(path.is_file() for _, path in networks):
            continue
        found += draw(branch.recipe.task, branch.location, networks, n)
    return found
