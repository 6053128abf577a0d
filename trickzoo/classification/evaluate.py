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
from trickzoo.data.identity import digest_of
from trickzoo.data.imageset import Decoded, ImageSet, ReadImage, as_known
from trickzoo.data.transforms import normalise, resize_and_crop
from trickzoo.data.workers import in_order, in_workers
from trickzoo.errors import BadCheckpoint, BadData, TrickzooError
from trickzoo.weights.record import Preprocessing

Precision = Literal["fp32", "bf16", "fp16"]
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Predictions:
    """The predictions of a model for the images of a set, in the set's order, without the images that could not be read.

    Attributes:
        names, labels: (n,) path and true class index of each image.
        top: (n, 5) indices of the most probable classes, the most probable first. With fewer than 5 classes there are fewer columns.
        confidence: (n, 5) probabilities of the classes in `top`.
        restricted: (n, 5) the most probable among the classes that occur in the set; None if every class occurs.
        skipped: (path, reason) of each file that could not be read.
        oriented: number of images with an EXIF orientation. `ImageSet.upright` tells whether they were turned.
        digest: SHA-256 of the names and contents of the images.
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
    """Return the images whose class the model knows, with labels under the model's names, and the number of images left out.

    Raises BadData if an image has a class that is not among `classes` and `skip_unknown` is not set, or if no image is left.
    """
    images = as_known(images, classes)
    known = set(classes)
    unknown = [label for label in images.classes if label not in known]
    if not unknown:
        return images, 0
    what = "class folders" if images.layout.startswith("class folders") else "classes"
    shown = ", ".join(unknown[:3]) + (", …" if len(unknown) > 3 else "")
    if len(unknown) == len(images.classes):
        raise BadData(f"{images.root}: none of its {len(unknown)} {what} ({shown}) is among the model's {len(classes)} classes")
    if not skip_unknown:
        raise BadData(
            f"{images.root}: {len(unknown)} {what} are not among the model's {len(classes)} classes: {shown}; "
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
    """Run the model once over every image. Each process takes its share, and every process returns the predictions of all.

    Args:
        classes: the model's classes in the order of its outputs. They include every label of `images` (see `match_classes`).
        skip_corrupt: leave unreadable images out and list them in the result.
        progress: called after each batch with the number of images that this process has just finished.

    Raises BadData for an unreadable image unless `skip_corrupt` is set, and if no image can be read; BadCheckpoint for logits that are
    not finite.
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
        for batch in in_workers(share, in_order(len(share), batch_size), workers):
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
                        f"{model.name} gives logits that are not finite; the weights are damaged, or {precision} cannot hold their range"
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


def _logits(model: Backbone, samples: list[ReadImage], preprocessing: Preprocessing, device: torch.device) -> torch.Tensor:
    pixels = torch.stack([sample.pixels for sample in samples if sample.pixels is not None]).to(device)
    return model(normalise(pixels, preprocessing).contiguous(memory_format=torch.channels_last)).float()


def _raise_everywhere(failure: TrickzooError | None) -> None:
    """Raise the failure of any process in every process, so that none waits for one that has stopped."""
    failures = [error for error in gather_object([failure]) if error is not None]
    if failures:
        raise failures[0]
