"""The result of evaluating a classifier: accuracy, calibration, the published figure beside them, and what they were measured on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from accelerate import PartialState
from msgspec import UNSET, UnsetType

from trickzoo import environment, result_files
from trickzoo.backbone import Backbone
from trickzoo.classification.accuracy import Accuracy, Published, compare, measure, restricted_accuracy
from trickzoo.classification.evaluate import FileClassifier, Precision, SetPredictions
from trickzoo.classification.metrics import expected_calibration_error, reported_ranks, top_k_hits
from trickzoo.classification.predictions import Predictions, metrics, per_class
from trickzoo.classification.real import RealAccuracy, real_accuracy
from trickzoo.classification.robustness import Robustness, robustness
from trickzoo.data.corruption_names import Corruption
from trickzoo.data.imagenet_variants import VARIANTS, trained_on
from trickzoo.data.imageset import ImageSet
from trickzoo.weights.record import Preprocessing


@dataclass(frozen=True)
class Orientation:
    """The number of images with an EXIF orientation, and whether they were turned upright."""

    images: int
    turned_upright: bool


@dataclass(frozen=True)
class LeftOut:
    """A file that is not among the images evaluated, and the reason."""

    image: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Data:
    """The images of an evaluation.

    Attributes:
        path, layout: the folder or archive, and how it is organised.
        classes: number of classes with images.
        digest: SHA-256 of the names and contents of the images.
        empty_classes: class folders without an image.
        unknown_left_out: number of images left out because the model does not know their class.
        named_as_imagenet_training: number of images that are named as ImageNet's training images.
    """

    path: str
    layout: str
    classes: int
    digest: str
    empty_classes: tuple[str, ...]
    unknown_left_out: int
    named_as_imagenet_training: int
    exif_orientation: Orientation
    corrupt_left_out: tuple[LeftOut, ...]


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """The model and the weights that were evaluated, the preprocessing, and the number `n` of images."""

    model: str
    weights: str
    weights_sha256: str
    weights_revision: str | None
    preprocessing: Preprocessing
    n: int


@dataclass(frozen=True, kw_only=True)
class Backend:
    """The engine that ran the network.

    Attributes:
        name: "eager" for PyTorch as it is, otherwise a backend of `trickzoo.deploy`.
        deviation: the largest absolute difference of a logit from eager's on the first images of the set; 0 for eager, and left unset
            for an exported file.
    """

    name: str = "eager"
    deviation: float | UnsetType = 0.0


@dataclass(frozen=True, kw_only=True)
class ExportedFrom:
    """The weights that a file was exported from: their name, and the SHA-256 of their file, as the exported file states them."""

    weights: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Result(Accuracy, Evaluated):
    """The evaluation of one classifier, as the result file has it.

    Attributes:
        restricted: accuracy among the classes of the set; left unset if every class of the model occurs, or only one.
        balanced_accuracy, macro_f1: the mean recall and the mean F1 over the classes in percent, as `predictions.metrics` defines them.
        ece: expected calibration error in percent.
        real: accuracy by the reassessed labels; left unset if they were not asked for.
        variant: the variant of ImageNet that the set was checked to be, such as "ImageNet-A"; left unset if none was named.
        robustness: accuracy on corrupted images; left unset if there were none.
        backend: the engine that ran the network.
        exported_from: the weights that the network was exported from; left unset unless it is an exported file.
    """

    balanced_accuracy: float
    macro_f1: float
    ece: float
    restricted: Accuracy | UnsetType = UNSET
    real: RealAccuracy | UnsetType = UNSET
    variant: str | UnsetType = UNSET
    robustness: Robustness | UnsetType = UNSET
    images_per_second: float
    published: Published
    data: Data
    precision: Precision | Literal["int8"]
    backend: Backend
    exported_from: ExportedFrom | UnsetType = UNSET
    device: str
    processes: int
    wall_seconds: float


def summarise(
    predictions: SetPredictions,
    model: Backbone | FileClassifier,
    images: ImageSet,
    preprocessing: Preprocessing,
    *,
    unknown: int,
    precision: Precision | Literal["int8"],
    state: PartialState,
    backend: Backend = Backend(),
    exported_from: ExportedFrom | UnsetType = UNSET,
    corruptions: Sequence[Corruption] = (),
    real_labels: Sequence[Sequence[int]] = (),
    variant: str | None = None,
) -> Result:
    """Return the result of evaluating a model that has weights.

    Args:
        images: the images that the model was run on (see `match_classes`), and `unknown`, the number that was left out before.
        preprocessing, precision, state: what `predict` was called with.
        backend: the engine that ran the network.
        exported_from: the weights that an exported file was made of.
        corruptions: those that `predict` was called with.
        real_labels: the reassessed labels, to compute the accuracy by these too.
        variant: the name of the variant that the images are, if one was named.

    Raises BadData if the reassessed labels are not for these images or this model.
    """
    weights = model.weights
    assert weights is not None
    occurring, classes = len(np.unique(predictions.labels)), len(predictions.classes)
    accuracy = measure(predictions.top, predictions.labels, classes)
    restricted = restricted_accuracy(predictions)
    metric = weights.record.published(preprocessing) if weights.record else None
    n, means = len(predictions.labels), metrics(predictions)
    return Result(
        model=model.name,
        weights=weights.name,
        weights_sha256=weights.digest(),
        weights_revision=weights.revision,
        preprocessing=msgspec.structs.replace(preprocessing, resize=preprocessing.short_side),
        n=n,
        **asdict(accuracy),
        balanced_accuracy=round(means["balanced_accuracy"], 4),
        macro_f1=round(means["macro_f1"], 4),
        ece=round(100 * expected_calibration_error(predictions.confidence[:, 0], predictions.top[:, 0] == predictions.labels), 4),
        restricted=restricted or UNSET,
        real=real_accuracy(predictions, real_labels) if real_labels else UNSET,
        variant=VARIANTS[variant].title if variant else UNSET,
        robustness=robustness(predictions, corruptions) if corruptions else UNSET,
        images_per_second=round(n / predictions.seconds, 1),
        published=compare(accuracy, n, metric, of_classes=(occurring, classes) if occurring < classes else None),
        data=_data(predictions, images, unknown),
        precision=precision,
        backend=backend,
        exported_from=exported_from,
        device=str(state.device),
        processes=state.num_processes,
        wall_seconds=round(predictions.seconds, 2),
    )


def _data(predictions: SetPredictions, images: ImageSet, unknown: int) -> Data:
    return Data(
        path=str(images.root),
        layout=images.layout,
        classes=len(images.classes),
        digest=predictions.digest,
        empty_classes=tuple(images.empty),
        unknown_left_out=unknown,
        named_as_imagenet_training=trained_on(images),
        exif_orientation=Orientation(predictions.oriented, images.upright),
        corrupt_left_out=tuple(LeftOut(image, reason) for image, reason in predictions.skipped),
    )


def write_results(path: Path, results: Iterable[Result]) -> None:
    """Write the result file of an evaluation, with the environment beside the metrics. Raises NotWritten if it cannot be written."""
    result_files.write_json(path, content(results))


def content(results: Iterable[Result]) -> dict[str, Any]:
    """Return the content of the result file of an evaluation."""
    return {"what": "imagenet evaluation", **environment.describe(), "results": msgspec.to_builtins(list(results))}


def write_per_class(path: Path, predictions: Predictions) -> None:
    """Write the accuracies, which for top-1 is the recall, the precision and the F1 of each class to a CSV file, in percent.

    The classes are those of `macro_f1`: a class without images is among them if it is predicted, and has no accuracies. There is a top-5
    accuracy only of more than five classes. The precision of a class that is never predicted is empty. Raises NotWritten if the file cannot
    be written.
    """
    rows, found, ranks = [], per_class(predictions.confusion()), reported_ranks(len(predictions.classes))
    for label in np.flatnonzero(~np.isnan(found.f1)).tolist():
        mine = predictions.labels == label
        n, top, labels = int(mine.sum()), predictions.top[mine], predictions.labels[mine]
        accuracies = [f"{100 * top_k_hits(top, labels, k) / n:.4f}" if n else "" for k in ranks]
        others = ("" if np.isnan(value) else f"{100 * value:.4f}" for value in (found.precision[label], found.f1[label]))
        rows.append((predictions.classes[label], n, *accuracies, *others))
    result_files.write_csv(path, ("class", "n", *(f"top{k}" for k in ranks), "precision", "f1"), rows)
