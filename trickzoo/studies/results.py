"""The result files that a study is made from, and reading these and the files of studies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from trickzoo.errors import BadCheckpoint
from trickzoo.files import read_regular
from trickzoo.recipes.collection import to_dict
from trickzoo.recipes.finetune import RECIPE_CLASSES
from trickzoo.studies.records import Environment, LadderStudy, Measure, RungName, Seconds, Share, Task, TransferStudy, check_name
from trickzoo.studies.samples import Count, Seed
from trickzoo.training.measures import MEASURES
from trickzoo.wording import all_of


class TrainingResult(Struct, frozen=True, kw_only=True):
    """The part of a training run's `result.json` that studies use. `data` describes the images if they are generated.

    Files of older versions lack the digests of weights.
    """

    seed: Seed
    n: Annotated[int, Meta(ge=1)]
    n_train: Count
    recipe: dict[str, Any]
    data: str | None = None
    data_digest: str
    val_digest: str
    weights_sha256: str | None = None
    teacher_sha256: str | None = None
    wall_seconds: Seconds
    micro_batch: Annotated[int, Meta(ge=1)] | None = None
    command: str
    hardware: str = "unknown hardware"
    platform: str = ""
    commit: str | None = None
    processes: int = 1
    versions: dict[str, str] = {}

    def __post_init__(self) -> None:
        check_name(self.recipe)

    @property
    def environment(self) -> Environment:
        """Hardware, platform, commit, processes and library versions of the training."""
        return Environment(
            hardware=self.hardware, platform=self.platform, commit=self.commit, processes=self.processes, versions=self.versions
        )


class ClassifierResult(TrainingResult, frozen=True, kw_only=True):
    """The `result.json` of a classifier's training. Files of older versions lack `majority` and `num_classes`."""

    top1: Share
    majority: Share | None = None
    num_classes: Annotated[int, Meta(ge=1)] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.recipe.get("model"), str):
            raise ValueError("the recipe has no model")


SCRATCH = "scratch"
"""Stands for a rung where the backbone has random weights."""


class BackboneOrigin(Struct, frozen=True, kw_only=True):
    """The training of a ladder study that a backbone comes from, and its top-1 accuracy; for random weights, the rung is `SCRATCH`."""

    rung: RungName
    seed: Seed
    top1: Share | None

    def __post_init__(self) -> None:
        if (self.rung == SCRATCH) is not (self.top1 is None):
            raise ValueError(f"the backbone of {self.rung} must have a top-1 accuracy, unless it has random weights")


class AnnotatedResult(TrainingResult, frozen=True, kw_only=True):
    """The metrics in the `result.json` of a detector or a segmenter. One is None if the validation images contain nothing to find."""

    voc_ap50: Share | UnsetType | None = UNSET
    voc_ap50_11_point: Share | UnsetType | None = UNSET
    coco_ap: Share | UnsetType | None = UNSET
    coco_ap50: Share | UnsetType | None = UNSET
    miou: Share | UnsetType | None = UNSET
    pixel_accuracy: Share | UnsetType | None = UNSET


class FineTuningResult(AnnotatedResult, frozen=True, kw_only=True):
    """The `result.json` of a fine-tuning in a transfer study."""

    task: Task
    measure: Measure
    backbone: BackboneOrigin

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.measure not in self.metrics:
            raise ValueError(f"it lacks {self.measure}")

    @property
    def metrics(self) -> dict[str, float | None]:
        """The metrics in the file, in percent."""
        return {key: value for key in MEASURES if (value := getattr(self, key, UNSET)) is not UNSET}

    @property
    def common_recipe(self) -> dict[str, Any]:
        """The recipe without the fields that name the backbone. Fields that an older version did not write have their defaults."""
        recipe = to_dict(RECIPE_CLASSES[self.task]("", "", "")) | self.recipe
        return {key: value for key, value in recipe.items() if key not in ("model", "weights")}


class AnyResult(AnnotatedResult, frozen=True, kw_only=True):
    """The `result.json` of a training run of any task, with the metric that it is judged by: top-1, or the one that `measure` names."""

    measure: Literal["top1"] | Measure = "top1"
    top1: Share | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(getattr(self, self.measure), float):
            raise ValueError(f"it has no {self.measure}")

    @property
    def figure(self) -> float:
        """The metric that the training is judged by, in percent."""
        return float(getattr(self, self.measure))


Read = TypeVar("Read", bound=Struct)
EXPECTED: dict[type, str] = {
    LadderStudy: "the summary of a ladder study; write it again with `trickzoo ladder --report-only`",
    TransferStudy: "the summary of a transfer study; write it again with `trickzoo transfer --report-only`",
    ClassifierResult: "a result file of a training run; move it away",
    AnyResult: "a result file of a training run; name another folder",
    FineTuningResult: "a result file of a fine-tuning; move it away",
}


def read(path: Path, kind: type[Read]) -> Read:
    """Read a study's summary or a training run's result. Raises BadCheckpoint if the file cannot be read or has other content."""
    try:
        return msgspec.json.decode(read_regular(path), type=kind)
    except OSError as error:
        raise BadCheckpoint(f"{path} cannot be read ({error.strerror or error})") from None
    except msgspec.ValidationError as error:
        raise BadCheckpoint(f"{path} is not {EXPECTED[kind]} ({error})") from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BadCheckpoint(f"{path} cannot be read: it is not JSON, or is damaged ({error})") from None


def changed_weights(results: Iterable[ClassifierResult]) -> str | None:
    """Return the weights or the teacher whose file has changed between two of the training runs, by the name in their recipes."""
    seen: dict[tuple[Any, Any], str] = {}
    for result in results:
        for name, digest in (("pretrained", result.weights_sha256), ("teacher", result.teacher_sha256)):
            if digest is not None and seen.setdefault((result.recipe["model"], result.recipe.get(name)), digest) != digest:
                return str(result.recipe.get(name))
    return None


def notes(results: Sequence[TrainingResult]) -> tuple[str, ...]:
    """Return a sentence if the training runs differ in their micro-batches, otherwise nothing.

    They do not differ if all micro-batches have the same number of images, or if all are the same part of the batch of their recipe.
    """
    sizes = [(result.micro_batch, result.recipe.get("batch_size")) for result in results if result.micro_batch is not None]
    images = sorted({micro for micro, _ in sizes})
    parts = {batch / micro for micro, batch in sizes if isinstance(batch, int)}
    if len(images) < 2 or len(parts) < 2:
        return ()
    return (
        f"The training runs differ in their micro-batches ({all_of(images)} images), which change the "
        "outcome too, so that differences may be due to them.",
    )


def environments(results: Iterable[TrainingResult]) -> tuple[Environment, ...]:
    """Return the environments of the training runs, each once, with the number of its training runs."""
    seen: list[Environment] = []
    for here in (result.environment for result in results):
        at = next((i for i, there in enumerate(seen) if msgspec.structs.replace(there, trainings=1) == here), None)
        if at is None:
            seen.append(here)
        else:
            seen[at] = msgspec.structs.replace(seen[at], trainings=seen[at].trainings + 1)
    return tuple(seen)
