"""What studies find, as typed records: `ladder.json`, `transfer.json`, and the result files that they are made from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, field
from msgspec.structs import force_setattr

from trickzoo.errors import BadCheckpoint
from trickzoo.files import read_regular
from trickzoo.studies import power
from trickzoo.studies.statistics import LEAST_PAIRS, estimate, holm
from trickzoo.training.tracking import MEASURES

HELPED, HURT, UNCLEAR, NO_INTERVAL = "helped", "hurt", "not significant", "no interval"
"""What a paired difference is: its 95 % confidence interval lies above 0, below 0, includes 0, or cannot be given."""
TOGETHER, AGAINST, CONSTANT = "together", "against each other", "constant"
"""What the ranks of two figures do, beside `UNCLEAR` and `NO_INTERVAL`."""

Interval = tuple[float, float]
Share = Annotated[float, Meta(ge=0, le=100)]
"""A percentage."""
Points = Annotated[float, Meta(ge=-100, le=100)]
"""A percentage, or the difference of two."""
Spread = Annotated[float, Meta(ge=0, le=200)]
Count = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(ge=0)]
RungName = Annotated[str, Meta(pattern=r"^\w+$", max_length=100)]
"""A rung's short name, which is part of its folders' names."""
Seed = Count
Curve = tuple[tuple[int | float, float], ...]


class Sample(Struct, frozen=True, kw_only=True):
    """A figure of each seed, and what they say of the mean.

    Attributes:
        values: a figure for each seed.
        n: how many.
        s: sample standard deviation (n - 1); None for one value.
        interval: 95 % confidence interval of the mean by Student's t; None where there is no spread to take it from.
    """

    values: tuple[Points, ...]
    n: int
    mean: Points
    s: Spread | None
    interval: Interval | None

    def __post_init__(self) -> None:
        if not self.values or self.n != len(self.values):
            raise ValueError(f"n is {self.n}, with {len(self.values)} values")
        if self.interval and (self.interval[0] > self.interval[1] or not self.s):
            raise ValueError("an interval without a spread, or with its ends exchanged")


class Percentage(Sample, frozen=True, kw_only=True):
    """A sample of percentages: the interval of their mean is cut at 0 and at 100."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.interval:
            low, high = self.interval
            force_setattr(self, "interval", (min(max(low, 0.0), 100.0), max(min(high, 100.0), 0.0)))


class Difference(Sample, frozen=True, kw_only=True):
    """The paired differences of two rungs by seed, in points.

    Attributes:
        p: two-sided p of the paired t test; None without an interval.
        p_holm: the same after Holm's correction for all comparisons of the study; None where there is only one.
        seeds: those that both rungs have.
        verdict: `HELPED`, `HURT`, `UNCLEAR` or `NO_INTERVAL`; follows from the interval.
        detectable: smallest difference that n seeds with this s detect with 80 % power at alpha = 0.05; None without an interval.
    """

    p: float | None
    p_holm: float | None = None
    seeds: tuple[Seed, ...]
    verdict: str = ""
    detectable: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.seeds) != self.n or (self.p is None) != (self.interval is None):
            raise ValueError("seeds, interval and p do not belong together")
        force_setattr(self, "verdict", _verdict(self.interval))
        force_setattr(self, "detectable", power.detectable(self.s, self.n) if self.interval and self.s else None)


def _verdict(interval: Interval | None) -> str:
    if interval is None:
        return NO_INTERVAL
    return HELPED if interval[0] > 0 else HURT if interval[1] < 0 else UNCLEAR


class Environment(Struct, frozen=True, kw_only=True):
    """What trainings ran on and with, and how many of them did."""

    hardware: str = "unknown hardware"
    platform: str = ""
    commit: str | None = None
    processes: int = 1
    versions: dict[str, str] = {}
    trainings: Count = 1


class Compared(Struct, frozen=True, kw_only=True):
    """What a rung of either study has. `skipped` are titles of the rungs between it and its base that are not in the study."""

    rung: RungName
    title: str
    skipped: tuple[str, ...]
    seeds: tuple[Seed, ...]
    top1: Percentage | None
    difference: Difference | None
    wall_seconds: tuple[Seconds, ...]

    @property
    def figure_of_study(self) -> Percentage | None:
        """The figure that the rung's difference is of."""
        return self.top1

    def __post_init__(self) -> None:
        if len(self.seeds) != (self.figure_of_study.n if self.figure_of_study else 0):
            raise ValueError(f"{self.rung} has other seeds than figures")

    @property
    def by_seed(self) -> dict[int, float]:
        """The rung's figure for each seed."""
        return dict(zip(self.seeds, self.figure_of_study.values, strict=True)) if self.figure_of_study else {}


class LadderRung(Compared, frozen=True, kw_only=True):
    """A rung of a ladder study.

    Attributes:
        base: short name of the rung that it is compared with; None for the first.
        changes: each recipe field that differs from the base's: (there, here).
        curves: for each seed top-1 after each evaluated epoch, (epochs, top-1).
    """

    recipe: str
    base: RungName | None
    changes: dict[str, tuple[Any, Any]]
    curves: tuple[Curve, ...]


class TransferRung(Compared, frozen=True, kw_only=True):
    """A rung's fine-tunings for one task.

    Attributes:
        without_figure: seeds whose fine-tuning gave no figure, as there was nothing to find.
        top1: of the backbones whose fine-tunings have a figure.
        others: further measures by their keys.
    """

    without_figure: tuple[Seed, ...]
    figure: Percentage | None
    others: dict[str, Percentage | None]

    @property
    def figure_of_study(self) -> Percentage | None:
        """The figure that the rung's difference is of."""
        return self.figure


class Total(Struct, frozen=True, kw_only=True):
    """The difference between a study's first and last rung. `whole` says whether these are the ends of the paper's whole ladder."""

    first: RungName = field(name="from")
    last: RungName = field(name="to")
    whole: bool
    difference: Difference | None = None
    top1: Difference | None = None


class Study(Struct, frozen=True, kw_only=True):
    """What both studies say of themselves."""

    title: str
    data: str
    model: str
    seeds: tuple[Seed, ...]
    finished: Count
    planned: Count
    wall_seconds: Seconds
    commands: tuple[str, ...]
    environments: tuple[Environment, ...]
    findings: tuple[str, ...] = ()


class LadderStudy(Study, frozen=True, kw_only=True):
    """The content of `ladder.json`. Accuracies are top-1 in percent.

    Attributes:
        generated: what the images are, where they are generated.
        majority: share of the largest class among the validation images, percent; None in files of older versions.
        num_classes: likewise.
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
            raise ValueError("the baseline is no recipe")


def _check_rungs(rungs: Sequence[Compared], total: Total) -> None:
    names = [rung.rung for rung in rungs]
    if len(set(names)) < len(names) or not {total.first, total.last} <= set(names):
        raise ValueError("two rungs of one name, or a total between rungs that are not there")


class SeedCorrelation(Struct, frozen=True, kw_only=True):
    """Spearman's rho over the n rungs of one seed; None where one side is constant."""

    seed: Seed
    n: Count
    rho: float | None


class Correlation(Struct, frozen=True, kw_only=True):
    """Spearman's rank correlation of top-1 accuracy and a task's figure over the rungs' means.

    Attributes:
        n: number of rungs.
        interval, p: as `statistics.RankCorrelation` has them.
        verdict: `TOGETHER`, `AGAINST`, `UNCLEAR`, `CONSTANT` or `NO_INTERVAL`; follows from the rest.
        draws: of the interval; `all_permutations` says whether p is exact.
        by_seed: the same over the rungs of each seed alone.
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
            raise ValueError("an interval without a correlation")
        force_setattr(self, "verdict", self._direction() if self.n >= LEAST_PAIRS else NO_INTERVAL)

    def _direction(self) -> str:
        """Interval and test must agree, as one is drawn and the other counted."""
        if self.rho is None or self.interval is None or self.p is None:
            return CONSTANT
        if self.p >= 0.05 or self.interval[0] <= 0 <= self.interval[1]:
            return UNCLEAR
        return TOGETHER if self.rho > 0 else AGAINST


Task = Literal["detection", "segmentation"]
Measure = Literal["voc_ap50", "voc_ap50_11_point", "coco_ap", "coco_ap50", "miou", "pixel_accuracy"]


class TaskStudy(Struct, frozen=True, kw_only=True):
    """What a transfer study found for one task. `measure` is the key of its figure, `recipe` plain data but for the backbone."""

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

    def __post_init__(self) -> None:
        _check_rungs(self.rungs, self.total)
        _check_name(self.recipe)


class TransferStudy(Study, frozen=True, kw_only=True):
    """The content of `transfer.json`. Figures are in percent."""

    what: Literal["transfer study"] = "transfer study"
    tasks: Annotated[tuple[TaskStudy, ...], Meta(min_length=1)]


# ---------------------------------------------------------------------------------------------------------------------
# result files


class Result(Struct, frozen=True, kw_only=True):
    """What a study takes from the `result.json` of any training. `data` says what the images are where they are generated."""

    seed: Seed
    n: Annotated[int, Meta(ge=1)]
    n_train: Count
    recipe: dict[str, Any]
    data: str | None = None
    data_digest: str
    val_digest: str
    wall_seconds: Seconds
    command: str
    hardware: str = "unknown hardware"
    platform: str = ""
    commit: str | None = None
    processes: int = 1
    versions: dict[str, str] = {}

    def __post_init__(self) -> None:
        _check_name(self.recipe)

    @property
    def environment(self) -> Environment:
        """What the training ran on and with."""
        return Environment(
            hardware=self.hardware, platform=self.platform, commit=self.commit, processes=self.processes, versions=self.versions
        )


def _check_name(recipe: Mapping[str, Any]) -> None:
    if not isinstance(recipe.get("name"), str):
        raise ValueError("the recipe has no name")


class ClassifierResult(Result, frozen=True, kw_only=True):
    """The `result.json` of a classifier's training. `majority` and `num_classes` are not in files of older versions."""

    top1: Share
    majority: Share | None = None
    num_classes: Annotated[int, Meta(ge=1)] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.recipe.get("model"), str):
            raise ValueError("the recipe has no model")


class Backbone(Struct, frozen=True, kw_only=True):
    """Which training of a ladder study a backbone comes from, and its top-1."""

    rung: RungName
    seed: Seed
    top1: Share


class FineTuning(Result, frozen=True, kw_only=True):
    """The `result.json` of a detector's or segmenter's training in a transfer study. A figure is None where there was nothing to find."""

    task: Task
    measure: Measure
    backbone: Backbone
    voc_ap50: Share | UnsetType | None = UNSET
    voc_ap50_11_point: Share | UnsetType | None = UNSET
    coco_ap: Share | UnsetType | None = UNSET
    coco_ap50: Share | UnsetType | None = UNSET
    miou: Share | UnsetType | None = UNSET
    pixel_accuracy: Share | UnsetType | None = UNSET

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.measure not in self.figures:
            raise ValueError(f"it lacks {self.measure}")

    @property
    def figures(self) -> dict[str, float | None]:
        """Each measure that there is, in percent."""
        return {key: value for key in MEASURES if (value := getattr(self, key, UNSET)) is not UNSET}

    @property
    def common_recipe(self) -> dict[str, Any]:
        """The recipe without what is the backbone's own."""
        return {key: value for key, value in self.recipe.items() if key not in ("model", "weights")}


Read = TypeVar("Read", LadderStudy, TransferStudy, ClassifierResult, FineTuning)
KINDS: dict[type, str] = {
    LadderStudy: "the summary of a ladder study; write it again with `trickzoo ladder --report-only`",
    TransferStudy: "the summary of a transfer study; write it again with `trickzoo transfer --report-only`",
    ClassifierResult: "a result file of a training; move it away",
    FineTuning: "a result file of a fine-tuning; move it away",
}


def read(path: Path, kind: type[Read]) -> Read:
    """A study's summary or a training's result from its file. Raises BadCheckpoint if it cannot be read or is something else."""
    try:
        return msgspec.json.decode(read_regular(path), type=kind)
    except OSError as error:
        raise BadCheckpoint(f"{path} cannot be read ({error.strerror or error})") from None
    except msgspec.ValidationError as error:
        raise BadCheckpoint(f"{path} is not {KINDS[kind]} ({error})") from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BadCheckpoint(f"{path} cannot be read: it is not JSON, or is damaged ({error})") from None


# ---------------------------------------------------------------------------------------------------------------------
# made from figures


def percentage(values: Iterable[float]) -> Percentage | None:
    """The sample of percentages; None without any."""
    repeated = list(values)
    if not repeated:
        return None
    found = estimate(repeated)
    return Percentage(values=found.values, n=found.n, mean=found.mean, s=found.s, interval=found.interval)


def difference(values: Mapping[int, float], base: Mapping[int, float]) -> Difference | None:
    """The paired difference of two rungs' figures by seed, in points, by the seeds that both have."""
    seeds = tuple(seed for seed in values if seed in base)
    if not seeds:
        return None
    found = estimate([round(values[seed] - base[seed], 4) for seed in seeds])
    return Difference(values=found.values, n=found.n, mean=found.mean, s=found.s, interval=found.interval, p=found.p, seeds=seeds)


AnyRung = TypeVar("AnyRung", LadderRung, TransferRung)


def corrected(rungs: Iterable[AnyRung]) -> tuple[AnyRung, ...]:
    """The rungs with Holm's p of their differences, if there are several with a p."""
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


def environments(results: Iterable[Result]) -> tuple[Environment, ...]:
    """What the trainings ran on and with, each environment once, with the number of its trainings."""
    seen: list[Environment] = []
    for here in (result.environment for result in results):
        at = next((i for i, there in enumerate(seen) if msgspec.structs.replace(there, trainings=1) == here), None)
        if at is None:
            seen.append(here)
        else:
            seen[at] = msgspec.structs.replace(seen[at], trainings=seen[at].trainings + 1)
    return tuple(seen)
