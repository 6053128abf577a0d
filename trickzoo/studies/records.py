"""Typed records of the studies' files: `ladder.json`, `transfer.json`, and the result files that these are made from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct, field
from msgspec.structs import force_setattr

from trickzoo.studies.samples import NO_INTERVAL, UNCLEAR, Count, Difference, Interval, Percentage, Seed
from trickzoo.studies.statistics import LEAST_PAIRS, holm

TOGETHER, AGAINST, CONSTANT = "together", "against each other", "constant"
"""The verdicts on a rank correlation beside `UNCLEAR` and `NO_INTERVAL`: positive, negative, or undefined because a side is constant."""

Share = Annotated[float, Meta(ge=0, le=100)]
"""A percentage."""
Seconds = Annotated[float, Meta(ge=0)]
RungName = Annotated[str, Meta(pattern=r"^\w+$", max_length=100)]
"""A rung's short name, which is part of the names of its folders."""
Curve = tuple[tuple[int | float, float], ...]


class Environment(Struct, frozen=True, kw_only=True):
    """Hardware, platform, commit, processes and library versions, and the number of training runs that ran with them."""

    hardware: str = "unknown hardware"
    platform: str = ""
    commit: str | None = None
    processes: int = 1
    versions: dict[str, str] = {}
    trainings: Count = 1


class StudyRung(Struct, frozen=True, kw_only=True):
    """The common part of the rungs of both studies. `skipped`: titles of rungs between a rung and its base that are not in the study."""

    rung: RungName
    title: str
    skipped: tuple[str, ...]
    seeds: tuple[Seed, ...]
    top1: Percentage | None
    difference: Difference | None
    wall_seconds: tuple[Seconds, ...]

    @property
    def metric_of_study(self) -> Percentage | None:
        """The metric that the rung's difference is of."""
        return self.top1

    def __post_init__(self) -> None:
        if len(self.seeds) != (self.metric_of_study.n if self.metric_of_study else 0):
            raise ValueError(f"{self.rung} has a different number of seeds and values")

    @property
    def by_seed(self) -> dict[int, float]:
        """The rung's metric for each seed."""
        return dict(zip(self.seeds, self.metric_of_study.values, strict=True)) if self.metric_of_study else {}


class LadderRung(StudyRung, frozen=True, kw_only=True):
    """A rung of a ladder study.

    Attributes:
        base: short name of the rung that it is compared with; None for the first.
        changes: (value of the base, value here) for each recipe field that differs.
        curves: for each seed, (number of epochs, top-1) of each evaluated epoch.
    """

    recipe: str
    base: RungName | None
    changes: dict[str, tuple[Any, Any]]
    curves: tuple[Curve, ...]


class TransferRung(StudyRung, frozen=True, kw_only=True):
    """A rung's fine-tunings for one task.

    Attributes:
        without_figure: seeds whose fine-tuning has no metric, because the validation images contain nothing to find.
        top1: top-1 accuracy of the backbones whose fine-tunings have a metric.
        others: the other measures by their keys in result files.
    """

    without_figure: tuple[Seed, ...]
    figure: Percentage | None
    others: dict[str, Percentage | None]

    @property
    def metric_of_study(self) -> Percentage | None:
        """The metric that the rung's difference is of."""
        return self.figure


class Total(Struct, frozen=True, kw_only=True):
    """The difference between a study's first and last rung. `whole` is true if these are the ends of the paper's whole ladder."""

    first: RungName = field(name="from")
    last: RungName = field(name="to")
    whole: bool
    difference: Difference | None = None
    top1: Difference | None = None


class Study(Struct, frozen=True, kw_only=True):
    """The common part of the summaries of both studies. `notes` say in what the training runs differ besides rung and seed."""

    title: str
    data: str
    model: str
    seeds: tuple[Seed, ...]
    finished: Count
    planned: Count
    wall_seconds: Seconds
    commands: tuple[str, ...]
    environments: tuple[Environment, ...]
    notes: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()


class LadderStudy(Study, frozen=True, kw_only=True):
    """The content of `ladder.json`. Accuracies are top-1 in percent.

    Attributes:
        generated: description of the images if they are generated, else None.
        majority: share of the largest class among the validation images, percent; None in files of older versions.
        num_classes: number of classes; None in files of older versions.
        baseline: the first rung's recipe as plain data.
    """

    what: Literal["ladder study"] = "ladder study"
    generated: str | None = None
    metric: str = "top-1 accuracy of the last epoch's weights on the validation images, percent"
    n_train: Count
    n_val: Annotated[int, Meta(ge=1)]
    majority: Share | None = None
    num_classes: Annotated[int, Meta(ge=1)] | None = None
    data_digest: str
    val_digest: str
    baseline: dict[str, Any]
    rungs: Annotated[tuple[LadderRung, ...], Meta(min_length=1)]
    total: Total

    def __post_init__(self) -> None:
        _check_rungs(self.rungs, self.total)
        kinds = {"name": str, "epochs": int, "size": int, "augmentation": dict}
        if any(not isinstance(self.baseline.get(key), kind) for key, kind in kinds.items()):
            raise ValueError("the baseline is not a recipe")


def _check_rungs(rungs: Sequence[StudyRung], total: Total) -> None:
    names = [rung.rung for rung in rungs]
    if len(set(names)) < len(names) or not {total.first, total.last} <= set(names):
        raise ValueError("two rungs have the same name, or the total names a rung that does not exist")


class SeedCorrelation(Struct, frozen=True, kw_only=True):
    """Spearman's rho over the n rungs of one seed; None if one side is constant."""

    seed: Seed
    n: Count
    rho: float | None


class Correlation(Struct, frozen=True, kw_only=True):
    """Spearman's rank correlation of top-1 accuracy and a task's metric over the rungs' means.

    Attributes:
        n: number of rungs.
        interval, p: 95 % confidence interval, and p of the permutation test; see `statistics.RankCorrelation`.
        verdict: `TOGETHER`, `AGAINST`, `UNCLEAR`, `CONSTANT` or `NO_INTERVAL`; computed from the other fields.
        draws: number of random draws from which the interval is estimated.
        all_permutations: whether p counts all permutations, which makes it exact.
        by_seed: rho over the rungs of each seed alone.
    """

    n: Count
    rho: float | None
    interval: Interval | None
    p: float | None
    verdict: str = ""
    draws: Count
    all_permutations: bool
    by_seed: tuple[SeedCorrelation, ...]

    def __post_init__(self) -> None:
        if self.interval and (self.rho is None or self.p is None):
            raise ValueError("there is an interval but no correlation")
        force_setattr(self, "verdict", self._direction() if self.n >= LEAST_PAIRS else NO_INTERVAL)

    def _direction(self) -> str:
        """Return the verdict. It is significant only if interval and test agree, because the interval comes from random draws."""
        if self.rho is None or self.interval is None or self.p is None:
            return CONSTANT
        if self.p >= 0.05 or self.interval[0] <= 0 <= self.interval[1]:
            return UNCLEAR
        return TOGETHER if self.rho > 0 else AGAINST


Task = Literal["detection", "segmentation"]
Measure = Literal["voc_ap50", "voc_ap50_11_point", "coco_ap", "coco_ap50", "miou", "pixel_accuracy"]


class Scratch(Struct, frozen=True, kw_only=True):
    """Trainings from random weights, without a backbone of the ladder. `difference` is that of the first rung to them."""

    seeds: tuple[Seed, ...]
    figure: Percentage
    difference: Difference | None


class TaskStudy(Struct, frozen=True, kw_only=True):
    """The results of a transfer study for one task.

    Attributes:
        measure: key of its metric in result files.
        recipe: plain data without the backbone.
        scratch: trainings from random weights, if the study has any.
    """

    task: Task
    measure: Measure
    recipe: dict[str, Any]
    generated: str | None = None
    n_train: Count
    n_val: Count
    data_digest: str
    val_digest: str
    rungs: Annotated[tuple[TransferRung, ...], Meta(min_length=1)]
    total: Total
    correlation: Correlation
    scratch: Scratch | None = None

    def __post_init__(self) -> None:
        _check_rungs(self.rungs, self.total)
        check_name(self.recipe)


def check_name(recipe: Mapping[str, Any]) -> None:
    """Raise ValueError if a recipe has no name."""
    if not isinstance(recipe.get("name"), str):
        raise ValueError("the recipe has no name")


class TransferStudy(Study, frozen=True, kw_only=True):
    """The content of `transfer.json`. Figures are in percent."""

    what: Literal["transfer study"] = "transfer study"
    tasks: Annotated[tuple[TaskStudy, ...], Meta(min_length=1)]


AnyRung = TypeVar("AnyRung", bound=StudyRung)


def corrected(rungs: Iterable[AnyRung]) -> tuple[AnyRung, ...]:
    """Return the rungs with Holm's corrected p of their differences, if at least two of them have a p."""
    rungs = list(rungs)
    ps = {rung.rung: rung.difference.p for rung in rungs if rung.difference and rung.difference.p is not None}
    if len(ps) < 2:
        return tuple(rungs)
    adjusted = dict(zip(ps, holm(list(ps.values())), strict=True))
    return tuple(
        msgspec.structs.replace(rung, difference=msgspec.structs.replace(rung.difference, p_holm=adjusted[rung.rung]))
        if rung.rung in adjusted and rung.difference
        else rung
        for rung in rungs
    )
