"""Evaluate a classifier on an ImageNet-style set, on one process or several, with the same result."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from numpy.typing import NDArray

from trickzoo.backbone import Backbone
from trickzoo.classification.metrics import expected_calibration_error, top_k_hits, wilson_interval
from trickzoo.data.identity import digest_of
from trickzoo.data.imageset import Decoded, ImageSet, Sample, as_known
from trickzoo.data.transforms import normalise, resize_and_crop
from trickzoo.data.workers import in_order, load
from trickzoo.errors import BadCheckpoint, BadData, TrickzooError
from trickzoo.weights.record import Metric, Preprocessing

Precision = Literal["fp32", "bf16", "fp16"]
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Predictions:
    """What a model says of a set, in the set's order; images that could not be read are left out.

    Attributes:
        names, labels: (n,) path and true class index of each image.
        top: (n, 5) class indices by falling probability, over all classes; fewer columns if there are fewer classes.
        confidence: (n, 5) their probabilities.
        restricted: (n, 5) as `top`, over the classes that occur in the set; None if all occur.
        skipped: what could not be read, and why.
        oriented: how many images have an EXIF orientation; whether they were turned upright, the set says (`ImageSet.upright`).
        digest: SHA-256 over the names and contents of the images.
        seconds: wall time of the loop.
    """

    names: tuple[str, ...]
    labels: NDArray[np.int64]
    top: NDArray[np.int64]
    confidence: NDArray[np.float32]
    restricted: NDArray[np.int64] | None
    skipped: tuple[tuple[str, str], ...]
    oriented: int
    digest: str
    seconds: float


def match_classes(images: ImageSet, classes: Sequence[str], *, skip_unknown: bool = False) -> tuple[ImageSet, int]:
    """The set as the model knows it (`as_known`), without images of classes that it does not know, and how many those are.

    Raises BadData if there are such images and `skip_unknown` is not set, or if nothing is left.
    """
    images = as_known(images, classes)
    known = set(classes)
    strangers = [label for label in images.classes if label not in known]
    if not strangers:
        return images, 0
    what = "class folders" if images.layout.startswith("class folders") else "classes"
    shown = ", ".join(strangers[:3]) + (", …" if len(strangers) > 3 else "")
    if len(strangers) == len(images.classes):
        raise BadData(f"{images.root}: none of its {len(strangers)} {what} ({shown}) is among the model's {len(classes)} classes")
    if not skip_unknown:
        raise BadData(
            f"{images.root}: {len(strangers)} {what} are not among the model's {len(classes)} classes: {shown}; "
            "rename or remove them, or leave them out with --skip-unknown"
        )
    kept = tuple(entry for entry in images.entries if entry.label in known)
    return replace(images, entries=kept), len(images.entries) - len(kept)


@torch.inference_mode()
def predict(
    model: Backbone,
    images: ImageSet,
    classes: Sequence[str],
    preprocessing: Preprocessing,
    *,
    state: PartialState,
    batch_size: int = 64,
    workers: int = 2,
    precision: Precision = "fp32",
    skip_corrupt: bool = False,
    progress: Callable[[int], None] = lambda done: None,
) -> Predictions:
    """Run the model over every image once, each process over its share, and gather everything on all.

    Args:
        classes: the model's classes in the order of its outputs; every label of `images` is among them (`match_classes`).
        skip_corrupt: leave out unreadable images and list them; otherwise the first raises BadData with its path.
        progress: called with the number of images that this process has just finished.
    """
    index_of = {name: i for i, name in enumerate(classes)}
    present = sorted({index_of[label] for label in images.classes})
    restrict = torch.tensor(present, device=state.device) if len(present) < len(classes) else None
    share = Decoded(images, resize_and_crop(preprocessing), range(state.process_index, len(images.entries), state.num_processes))
    model = model.to(state.device).to(memory_format=torch.channels_last).eval()

    rows: list[tuple[int, bytes, list[int], list[float], list[int]]] = []
    problems: list[tuple[int, bytes, str]] = []
    oriented = 0
    failure: TrickzooError | None = None
    start = time.perf_counter()
    with _autocast(state.device, precision):
        for batch in load(share, in_order(len(share), batch_size), workers):
            whole = [sample for sample in batch if sample.pixels is not None]
            broken = [sample for sample in batch if sample.pixels is None]
            problems += [(s.index, s.digest, s.error) for s in broken]
            oriented += sum(s.orientation > 1 for s in whole)
            if broken and not skip_corrupt:
                failure = BadData(f"{broken[0].error}; leave such files out, and count them, with --skip-corrupt")
                break
            if whole:
                logits = _logits(model, whole, preprocessing, state.device)
                if not logits.isfinite().all():
                    failure = BadCheckpoint(
                        f"{model.name} gives logits that are not finite; the weights are damaged, or {precision} is too narrow for them"
                    )
                    break
                probability, top = logits.softmax(1).topk(min(5, logits.shape[1]))
                narrow = restrict[logits[:, restrict].topk(min(5, len(restrict))).indices] if restrict is not None else top[:, :0]
                for sample, row in zip(whole, zip(top.tolist(), probability.tolist(), narrow.tolist(), strict=True), strict=True):
                    rows.append((sample.index, sample.digest, *row))
            progress(len(batch))
    _raise_everywhere(failure)
    rows = sorted(gather_object(rows))
    problems = sorted(gather_object(problems))
    seconds = time.perf_counter() - start

    entries = images.entries
    read = sorted([(row[0], row[1]) for row in rows] + [(index, digest) for index, digest, _ in problems])
    contents = digest_of((entries[index].name, digest) for index, digest in read)
    if not rows:
        raise BadData(f"{images.root}: none of its {len(problems)} images can be read; the first: {problems[0][2]}")
    return Predictions(
        names=tuple(entries[row[0]].name for row in rows),
        labels=np.array([index_of[entries[row[0]].label] for row in rows]),
        top=np.array([row[2] for row in rows]),
        confidence=np.array([row[3] for row in rows], dtype=np.float32),
        restricted=np.array([row[4] for row in rows]) if restrict is not None else None,
        skipped=tuple((entries[i].name, error) for i, _, error in problems) + tuple((name, "not an image") for name in images.strangers),
        oriented=sum(gather_object([oriented])),
        digest=contents,
        seconds=seconds,
    )


def _autocast(device: torch.device, precision: Precision) -> contextlib.AbstractContextManager[Any]:
    return contextlib.nullcontext() if precision == "fp32" else torch.autocast(device.type, AUTOCAST[precision])


def _logits(model: Backbone, samples: list[Sample], preprocessing: Preprocessing, device: torch.device) -> torch.Tensor:
    pixels = torch.stack([sample.pixels for sample in samples if sample.pixels is not None]).to(device)
    return model(normalise(pixels, preprocessing).contiguous(memory_format=torch.channels_last)).float()


def _raise_everywhere(failure: TrickzooError | None) -> None:
    """Stop all processes if one has failed, so that none waits for it."""
    failures = [error for error in gather_object([failure]) if error is not None]
    if failures:
        raise failures[0]


def summarise(predictions: Predictions) -> dict[str, Any]:
    """Top-1, top-5 and calibration in percent, with 95 % intervals, over all classes and over those that occur."""
    n = len(predictions.labels)
    hit = predictions.top[:, 0] == predictions.labels
    summary: dict[str, Any] = {"n": n, **_accuracies(predictions.top, predictions.labels)}
    summary["ece"] = round(100 * expected_calibration_error(predictions.confidence[:, 0], hit), 4)
    if predictions.restricted is not None:
        summary["restricted"] = {
            "classes": len(np.unique(predictions.labels)),
            **_accuracies(predictions.restricted, predictions.labels),
        }
    summary["images_per_second"] = round(n / predictions.seconds, 1)
    return summary


def _accuracies(top: NDArray[np.int64], labels: NDArray[np.int64]) -> dict[str, Any]:
    n = len(labels)
    found: dict[str, Any] = {}
    for k in (1, 5):
        hits = top_k_hits(top, labels, k)
        low, high = wilson_interval(hits, n)
        found[f"top{k}"] = round(100 * hits / n, 4)
        found[f"top{k}_correct"] = hits
        found[f"top{k}_interval"] = [round(100 * low, 4), round(100 * high, 4)]
    return found


def compare(summary: dict[str, Any], published: Metric | None, preprocessing: Preprocessing, classes: int) -> dict[str, Any]:
    """The published figure beside the measured one, and whether it lies in the interval; why not, where they cannot be compared."""
    if published is None:
        return {"comparable": False, "reason": "no figure is published for this weight and preprocessing"}
    figure = {"top1": published.top1, "top5": published.top5, "data": published.data, "source": published.source}
    if "restricted" in summary:
        return {
            **figure,
            "comparable": False,
            "reason": f"{summary['restricted']['classes']} of {classes} classes are in this set",
        }
    if published.n is not None and published.n != summary["n"]:
        return {**figure, "comparable": False, "reason": f"it is of {published.n:,} images, this of {summary['n']:,}"}
    low, high = summary["top1_interval"]
    return {**figure, "comparable": True, "within_interval": low <= published.top1 <= high}


def per_class(predictions: Predictions, classes: Sequence[str]) -> list[tuple[str, int, float, float]]:
    """(class, n, top-1 %, top-5 %) of each class that occurs."""
    rows = []
    for label in np.unique(predictions.labels):
        mine = predictions.labels == label
        n, top, labels = int(mine.sum()), predictions.top[mine], predictions.labels[mine]
        rows.append((classes[label], n, 100 * top_k_hits(top, labels, 1) / n, 100 * top_k_hits(top, labels, 5) / n))
    return rows
