"""Choosing a recipe's fields by successive halving on a part of the training images (Jamieson and Talwalkar, arXiv 1502.07943).

Every setting of the grid is trained, and the better half goes on to the next round, which trains from the start for twice as many epochs.
The validation images are not used.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trickzoo.errors import BadCheckpoint, BadOption, Diverged
from trickzoo.files import read_json
from trickzoo.output_files import RESULT
from trickzoo.recipes.collection import override, to_dict
from trickzoo.recipes.fields import in_words
from trickzoo.recipes.recipe import Recipe
from trickzoo.studies.results import ClassifierResult, read
from trickzoo.studies.series import Each, Training, check_jobs, each_message_once, holds_finished, is_of, train_all
from trickzoo.wording import count

if TYPE_CHECKING:
    from trickzoo.data.location import ImageLocation, Splits
    from trickzoo.studies.parallel import Train
    from trickzoo.training.machine import Machine
    from trickzoo.training.progress import Progress

FIELDS = ("lr", "weight_decay", "epochs")
"""The fields of a recipe that may have several values."""
ROUNDS = 3
"""The default number of rounds, if there are enough settings and epochs."""
FAILED = "failed.json"
"""The file in the folder of a training that could not go on, with the reason, and with the recipe, seed and digests of a result file."""


@dataclass(frozen=True)
class Plan:
    """The training runs of a search.

    Attributes:
        settings: the recipe of each setting at its full length.
        fields: the fields by which they differ.
        rounds: number of rounds. The last one trains at full length, and each one before it for half as many epochs as the next.
        seed: random seed of all training runs.
    """

    settings: tuple[Recipe, ...]
    fields: tuple[str, ...]
    rounds: int
    seed: int

    def survivors(self, number: int) -> int:
        """Return how many settings a round trains, counted from 0: half of those of the round before, rounded up."""
        return -(-len(self.settings) // 2**number)

    def recipe(self, setting: Recipe, number: int) -> Recipe:
        """Return the recipe of a setting in a round: with fewer epochs, and with warm-up and milestones shortened in proportion."""
        epochs = max(1, round(setting.epochs / 2 ** (self.rounds - 1 - number)))
        scale = epochs / setting.epochs
        milestones = tuple(scale * milestone for milestone in setting.milestones)
        return replace(setting, epochs=epochs, warmup_epochs=scale * setting.warmup_epochs, milestones=milestones)

    @property
    def epochs(self) -> tuple[int, ...]:
        """The number of epochs of all training runs of each round; at most, if settings differ in their epochs."""
        in_round = ([self.recipe(each, number).epochs for each in self.settings] for number in range(self.rounds))
        return tuple(sum(sorted(epochs)[-self.survivors(number) :]) for number, epochs in enumerate(in_round))

    @property
    def trainings(self) -> int:
        """The number of training runs of all rounds."""
        return sum(map(self.survivors, range(self.rounds)))

    def name(self, setting: Recipe) -> str:
        """Return a setting in words: "lr 0.05, weight_decay 0.0001"."""
        return ", ".join(f"{field} {in_words(getattr(setting, field))}" for field in self.fields)


def plan(recipe: Recipe, grid: Mapping[str, Sequence[str]], *, rounds: int | None = None, seed: int = 0) -> Plan:
    """Return the plan of a search over all combinations of the values in `grid`, which are texts by the name of the field.

    A grid without a field that has several values gets three learning rates: a third of the recipe's, the recipe's, and three times as
    much. Raises BadOption for a field that cannot have several values, for a value that is not allowed, and for more rounds than the
    settings or the epochs allow.
    """
    for name, values in grid.items():
        if name not in FIELDS and len(values) > 1:
            named = ", ".join(f"--{field.replace('_', '-')}" for field in FIELDS)
            raise BadOption(f"--{name.replace('_', '-')} takes one value; the options that take several are {named}")
    if all(len(set(values)) < 2 for values in grid.values()):
        base = override(recipe, {name: values[0] for name, values in grid.items()})
        grid = {**grid, "lr": [f"{base.lr / 3:.2g}", in_words(base.lr), f"{3 * base.lr:.2g}"]}
    combinations = itertools.product(*([(name, value) for value in values] for name, values in grid.items()))
    settings = tuple(dict.fromkeys(override(recipe, dict(combination)) for combination in combinations))
    fields = tuple(field for field in FIELDS if len({getattr(each, field) for each in settings}) > 1)
    if len(settings) < 2:
        raise BadOption(f"the values give one setting, {settings[0].lr:g}; name different ones, such as --lr 0.02,0.05,0.1")
    shortest = min(each.epochs for each in settings)
    most = min(math.ceil(math.log2(len(settings))), 1 + int(math.log2(shortest)))
    if rounds is not None and not 1 <= rounds <= most:
        raise BadOption(
            f"--rounds must be from 1 to {most} for {count(len(settings), 'setting')} of {count(shortest, 'epoch')} or more, not {rounds}"
        )
    return Plan(settings, fields, rounds or min(most, ROUNDS), seed)


def folder(out: Path, plan: Plan, setting: Recipe, number: int) -> Path:
    """Return the folder of a training run, by its round, counted from 0, and the values of its setting."""
    return out / f"round-{number + 1}" / "-".join(f"{field}-{in_words(getattr(setting, field))}" for field in plan.fields)


@dataclass(frozen=True)
class Outcome:
    """A setting in a round.

    Attributes:
        setting: its recipe at full length.
        epochs: number of epochs in this round.
        result: the result of the training; None if it could not go on.
        failure: the reason why it could not go on; otherwise empty.
        place: the folder of the training.
    """

    setting: Recipe
    epochs: int
    result: ClassifierResult | None
    failure: str
    place: Path

    @property
    def top1(self) -> float:
        """Top-1 accuracy on the minival in percent, or -1 for a training run that could not go on."""
        return -1.0 if self.result is None else self.result.top1


def outcomes(plan: Plan, out: Path, settings: Sequence[Recipe], number: int) -> list[Outcome]:
    """Return the outcome of these settings in a finished round, the best first.

    Among equally accurate ones, that with the lower learning rate comes first, then the lower weight decay, then fewer epochs.
    Raises BadCheckpoint for a damaged result file.
    """
    found = []
    for setting in settings:
        place = folder(out, plan, setting, number)
        failure = _reason(place / FAILED) if (place / FAILED).exists() else ""
        result = None if failure else read(place / RESULT, ClassifierResult)
        found.append(Outcome(setting, plan.recipe(setting, number).epochs, result, failure, place))
    return sorted(found, key=lambda each: (-each.top1, *(getattr(each.setting, field) for field in FIELDS)))


def _reason(path: Path) -> str:
    """Return why a training run could not go on. Raises BadCheckpoint for a file that does not say it."""
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("error"), str) or not content["error"]:
        raise BadCheckpoint(f"{path} does not say why a training run could not go on; move it away")
    return str(content["error"])


@each_message_once()
def run(
    plan: Plan,
    location: ImageLocation,
    machine: Machine,
    *,
    each: Each,
    tell: Callable[[str], None] = lambda line: None,
    jobs: int = 1,
) -> list[list[Outcome]]:
    """Run the remaining training runs of a search in `machine.out`, and return the outcomes of each round, the best first.

    A training that was stopped is resumed from its checkpoint. A training that cannot go on, because its loss is not finite, leaves the
    search; so does its setting.

    Args:
        plan: the training runs.
        location: where the images are. They must be decoded once. `minival` is the part of the training images that judges settings.
        machine: the machine of every training run; `out` is the folder of the search. The seed comes from the plan.
        each: returns the context manager in which a training runs, by its title.
        tell: called with a line of text for each training run.
        jobs: number of training runs that run at once, as for a ladder study.

    Raises:
        BadCheckpoint: the folder holds a training run of another recipe, seed or data set.
        Diverged: every training run of a round failed.
        BadData: the images cannot be used.
        BadOption: the folder cannot be written; or the search was started under torchrun.
        InUse: another run is writing to the folder.
        Stopped: SIGTERM, SIGINT or SIGHUP arrived; the same call resumes the search.
    """
    from trickzoo import classification, result_files, tasks
    from trickzoo.training.processes import processes

    if processes(device=machine.device).num_processes > 1:
        raise BadOption("a search runs in one process, or in several with --jobs; start it without torchrun or accelerate launch")
    of_each = check_jobs(jobs, machine)
    result_files.check_folder(machine.out)
    images = classification.open_data(plan.settings[0], location, machine)  # the images are the same for all settings
    for note in images.selected.notes:
        tell(note)
    for setting in plan.settings:  # raises errors at once instead of after hours of training
        tasks.prepare(plan.recipe(setting, 0), location, machine, images)
    rounds: list[list[Outcome]] = []
    settings: Sequence[Recipe] = plan.settings
    for number in range(plan.rounds):
        reopen = functools.partial(_trains, plan, settings, number, location, of_each)
        trainings = [
            Training(f"round {number + 1}, {plan.name(setting)}", _is_done(plan, machine.out, setting, number, images), train)
            for setting, train in zip(settings, reopen(images), strict=True)
        ]
        train_all(trainings, machine, each=each, tell=tell, jobs=jobs, reopen=reopen)
        rounds.append(outcomes(plan, machine.out, settings, number))
        alive = [outcome for outcome in rounds[-1] if outcome.result is not None]
        if not alive:
            raise Diverged(f"every training run of round {number + 1} failed; the first: {rounds[-1][0].failure}")
        if number + 1 < plan.rounds:
            settings = [outcome.setting for outcome in alive[: plan.survivors(number + 1)]]
    return rounds


def _is_done(plan: Plan, out: Path, setting: Recipe, number: int, images: Splits[Any]) -> bool:
    place, this = folder(out, plan, setting, number), (plan.recipe(setting, number), plan.seed, images)
    return holds_finished(place, *this) or is_of(place / FAILED, *this)


def _trains(
    plan: Plan, settings: Sequence[Recipe], number: int, location: ImageLocation, machine: Machine, images: Splits[Any] | None = None
) -> list[Train]:
    """Return what runs each training run of a round, in order. The images are opened if they are not given."""
    from trickzoo import classification, result_files, tasks
    from trickzoo.training import job

    opened = images or classification.open_data(settings[0], location, machine)

    def train(setting: Recipe, report: Callable[[Progress], None]) -> str:
        recipe, place = plan.recipe(setting, number), folder(machine.out, plan, setting, number)
        here = replace(machine, out=place, seed=plan.seed, evaluate_every=recipe.epochs)
        training = tasks.prepare(recipe, location, here, opened)
        try:
            found = job.run(training, report)
        except Diverged as error:
            reason = str(error).partition(";")[0]
            this = {"recipe": to_dict(recipe), "seed": plan.seed, **training.task.identity}
            result_files.write_json(place / FAILED, {"error": reason, **this})
            return f"left out, {reason}"
        training.task.write_predictions(place)
        return f"top-1 {found['top1']:.2f} % ({found['wall_seconds']:.0f} s)"

    return [functools.partial(train, setting) for setting in settings]
