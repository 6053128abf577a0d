"""Evaluate a classifier on an ImageNet-style set, on one process or several, with the same result."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import gather_object
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from trickzoo.backbone import Backbone
from trickzoo.classification.predictions import Predictions
from trickzoo.data.batches import not_none
from trickzoo.data.corruption_names import Corruption
from trickzoo.data.corruptions import Corrupted
from trickzoo.data.identity import digest_of
from trickzoo.data.imageset import Decoded, ImageSet, ReadImage, as_known
from trickzoo.data.resident import Resident
from trickzoo.data.transforms import Normalisation, normalise, resize_and_crop
from trickzoo.data.workers import computed, in_order
from trickzoo.errors import NOT_FINITE, BadCheckpoint, BadData, NotFinite, shortened
from trickzoo.training.stopping import stoppable
from trickzoo.tricks.low_precision import Precision, autocast
from trickzoo.weights.loaded import LoadedWeights
from trickzoo.weights.record import Preprocessing
from trickzoo.wording import count, verb

BATCH, ACCELERATOR_BATCH = 8, 64
"""Images per batch by default, on a CPU and on an accelerator."""


@dataclass(frozen=True)
class SetPredictions(Predictions):
    """The predictions of a model for the images of a set, in the set's order, and what is known of the images.

    Images that could not be read are left out of everything but `skipped`.

    Attributes:
        restricted: (n, 5) the most probable among the classes that occur in the set; None if every class occurs, or only one.
        corrupted: (n, C, 5) as `top`, of C corrupted copies of each image.
        corrupted_restricted: (n, C, 5) as `restricted`, of these copies.
        skipped: (path, reason) of each file that could not be read.
        oriented: number of images with an EXIF orientation. `ImageSet.upright` tells whether they were turned.
        digest: SHA-256 of the names and contents of the images.
        seconds: wall time of the loop.
    """

    restricted: NDArray[np.int64] | None
    corrupted: NDArray[np.int64]
    corrupted_restricted: NDArray[np.int64] | None
    skipped: tuple[tuple[str, str], ...]
    oriented: int
    digest: str
    seconds: float


class FileClassifier(Protocol):
    """A classifier in a file for another program, which normalises its images itself. It runs on the CPU, in the process that opened it."""

    @property
    def name(self) -> str:
        """The architecture."""

    @property
    def weights(self) -> LoadedWeights | None:
        """What is known of the weights."""

    @property
    def in_chans(self) -> int:
        """The number of channels of its images: 3, or 1 if it takes grey images."""

    @property
    def transform(self) -> Callable[[Image.Image], Tensor]:
        """A function from an RGB image to the uint8 pixels that the classifier takes. It can be pickled."""

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return the (n, classes) logits of the pixels of n images."""


def match_classes(images: ImageSet, classes: Sequence[str], *, skip_unknown: bool = False) -> tuple[ImageSet, int]:
    """Return the images whose class the model knows, with labels under the model's names, and the number of images left out.

    Raises BadData if an image has a class that is not among `classes` and `skip_unknown` is not set, or if no image is left.
    """
    images = as_known(images, classes)
    known = set(classes)
    unknown = [label for label in images.classes if label not in known]
    if not unknown:
        return images, 0
    these = count(len(unknown), "class folder" if images.layout.startswith("class folders") else "class")
    of_model = f"the model's {count(len(classes), 'class')}"
    shown = shortened(unknown, 3)
    if len(unknown) == len(images.classes):
        raise BadData(f"{images.root}: not one of {these} ({shown}) is among {of_model}")
    if not skip_unknown:
        raise BadData(
            f"{images.root}: {these} {verb(len(unknown), 'is')} not among {of_model}: {shown}; "
            "rename or remove them, or leave them out with --skip-unknown"
        )
    kept = tuple(entry for entry in images.entries if entry.label in known)
    return replace(images, entries=kept), len(images.entries) - len(kept)


@torch.inference_mode()
def predict(
    model: Backbone | FileClassifier,
    images: ImageSet,
    classes: Sequence[str],
    preprocessing: Preprocessing,
    *,
    state: PartialState,
    batch_size: int | None = None,
    workers: int = 2,
    precision: Precision = "fp32",
    network: Callable[[Tensor], Tensor] | None = None,
    skip_corrupt: bool = False,
    corruptions: Sequence[Corruption] = (),
    progress: Callable[[int], None] = lambda done: None,
) -> SetPredictions:
    """Run the model once over every image. Each process takes its share, and every process returns the predictions of all.

    On a CPU each worker decodes images and also runs the model on them, on one thread. A model on an accelerator or in a file runs in this
    process.

    Args:
        model: the model. One in a file prepares the images as its `transform` does, and not as `preprocessing` says.
        classes: the model's classes in the order of its outputs. They include every label of `images` (see `match_classes`).
        batch_size: images per batch; by default `BATCH` on a CPU, where larger batches are slower, and `ACCELERATOR_BATCH` elsewhere.
        workers: number of worker processes; with 0 everything runs in this process.
        precision: the precision in which PyTorch runs the model.
        network: computes the logits in place of the model, in a precision of its own, as `trickzoo.deploy` returns it. On a CPU each
            worker gets a copy.
        skip_corrupt: leave unreadable images out and list them in the result.
        corruptions: run the model also on a copy of each image with each of these. The image is decoded once.
        progress: called after each batch with the number of images that this process has just finished.

    Raises BadData for an unreadable image unless `skip_corrupt` is set, and if no image can be read; BadCheckpoint for logits that are
    not finite.
    """
    on_cpu = state.device.type == "cpu"
    index_of = {name: i for i, name in enumerate(classes)}
    present = sorted({index_of[label] for label in images.classes})
    restrict = torch.tensor(present, device=state.device) if 1 < len(present) < len(classes) else None
    runs: Callable[[Tensor], Tensor]
    if isinstance(model, Backbone):
        transform, normalisation = resize_and_crop(preprocessing, model.in_chans), preprocessing
        runs = network or model.to(state.device).to(memory_format=torch.channels_last).eval()
    else:
        transform, normalisation, runs = model.transform, None, model
    transform = Corrupted(transform, corruptions) if corruptions else transform
    share = Decoded(images, transform, range(state.process_index, len(images.entries), state.num_processes))
    at_once = batch_size or (BATCH if on_cpu else ACCELERATOR_BATCH)
    classify = Classifier(runs, normalisation, state.device, "fp32" if network else precision, restrict, at_once)
    batches = in_order(len(share), max(at_once // (1 + len(corruptions)), 1))

    predicted: list[ImagePrediction] = []
    start = time.perf_counter()
    found = computed(share, batches, workers, classify, by_workers=on_cpu and isinstance(model, Backbone))
    for batch in stoppable(_checked(found, model.name, precision, skip_corrupt), state):
        predicted += batch
        progress(len(batch))
    predicted = sorted(gather_object(predicted), key=lambda each: each.index)
    seconds = time.perf_counter() - start

    entries = images.entries
    rows, problems = [each for each in predicted if not each.error], [each for each in predicted if each.error]
    if not rows:
        raise BadData(f"{images.root}: not one of {count(len(problems), 'image')} can be read; the first: {problems[0].error}")
    return SetPredictions(
        classes=tuple(classes),
        names=tuple(entries[row.index].name for row in rows),
        labels=np.array([index_of[entries[row.index].label] for row in rows]),
        top=np.array([row.top[0] for row in rows]),
        confidence=np.array([row.confidence for row in rows], dtype=np.float32),
        restricted=np.array([row.restricted[0] for row in rows]) if restrict is not None else None,
        corrupted=np.array([row.top[1:] for row in rows]),
        corrupted_restricted=np.array([row.restricted[1:] for row in rows]) if restrict is not None else None,
        skipped=(*((entries[row.index].name, row.error) for row in problems), *((name, "not an image") for name in images.unread)),
        oriented=sum(row.orientation > 1 for row in rows),
        digest=digest_of((entries[each.index].name, each.digest) for each in predicted),
        seconds=seconds,
    )


def _checked(
    batches: Iterable[list[ImagePrediction]], model: str, precision: Precision, skip_corrupt: bool
) -> Iterator[list[ImagePrediction]]:
    """Yield batches of predictions. Raises BadData and BadCheckpoint as `predict` does."""
    for batch in batches:
        if not skip_corrupt and (error := next((each.error for each in batch if each.error), None)):
            raise BadData(f"{error}; leave such files out, and count them, with --skip-corrupt")
        if not all(each.finite for each in batch):
            raise BadCheckpoint(f"{model} {NOT_FINITE}, or {precision} cannot hold their range")
        yield batch


@dataclass(frozen=True)
class ImagePrediction:
    """The prediction for one image.

    Attributes:
        index: the position of the image in its set.
        digest: the SHA-256 of the file's content.
        error: the reason why the image cannot be read; otherwise empty.
        orientation: the EXIF orientation, 1 to 8.
        top: the indices of the five most probable classes, of the image and of each corrupted copy.
        confidence: the probabilities of the image's.
        restricted: as `top`, among the classes of the set; empty if all classes occur in it.
        finite: whether all logits of the image's batch are finite.
    """

    index: int
    digest: bytes
    error: str = ""
    orientation: int = 1
    top: Sequence[Sequence[int]] = ()
    confidence: Sequence[float] = ()
    restricted: Sequence[Sequence[int]] = ()
    finite: bool = True


@dataclass(frozen=True)
class Classifier:
    """Computes the predictions for batches of images, in this process or in a worker.

    Attributes:
        network: computes the logits of normalised images on the device; a module is in evaluation mode.
        preprocessing: the mean and standard deviation that the network expects; None if it takes the uint8 pixels.
        device: device of the network.
        precision: precision of the network's arithmetic.
        restrict: (k,) indices of the classes that occur in the set, on the device; None if every class occurs.
        at_once: how many images, with their corrupted copies, the network takes at a time.
    """

    network: Callable[[Tensor], Tensor]
    preprocessing: Preprocessing | None
    device: torch.device
    precision: Precision
    restrict: Tensor | None
    at_once: int

    @torch.inference_mode()
    def __call__(self, samples: list[ReadImage]) -> list[ImagePrediction]:
        """Return the prediction for each image, or its error."""
        predicted = [ImagePrediction(sample.index, sample.digest, sample.error, sample.orientation) for sample in samples]
        readable = [i for i, sample in enumerate(samples) if sample.pixels is not None]
        if not readable:
            return predicted
        pixels = torch.stack([not_none(samples[i].pixels) for i in readable]).to(self.device)
        n, *_, height, width = pixels.shape
        parts = pixels.reshape(-1, pixels.shape[-3], height, width).split(self.at_once)
        logits = torch.cat([self._logits(part) for part in parts])
        finite = bool(logits.isfinite().all())
        top = logits.topk(min(5, logits.shape[1])).indices  # several probabilities may be 0 where the logits differ
        probability = logits.softmax(1).gather(1, top)
        narrow = top[:, :0]
        if self.restrict is not None:
            narrow = self.restrict[logits[:, self.restrict].topk(min(5, len(self.restrict))).indices]
        columns = (top, probability, narrow)
        for i, *row in zip(readable, *(each.reshape(n, len(logits) // n, each.shape[1]).tolist() for each in columns), strict=True):
            predicted[i] = replace(predicted[i], top=row[0], confidence=row[1][0], restricted=row[2], finite=finite)
        return predicted

    def _logits(self, pixels: Tensor) -> Tensor:
        """Return the logits of (n, …) uint8 images, as float32."""
        with autocast(self.device, self.precision):
            images = pixels if self.preprocessing is None else normalise(pixels, self.preprocessing)
            if isinstance(self.network, nn.Module):
                images = images.contiguous(memory_format=torch.channels_last)
            return self.network(images).float()


@torch.inference_mode()
def predict_resident(
    net: nn.Module, images: Resident, normalisation: Normalisation, accelerator: Accelerator, *, batch_size: int = 256
) -> Predictions:
    """Run a network over decoded images, such as the validation images of a training run, and return the predictions for all of them.

    Each process takes its share of the images, and every process returns the predictions of all. Raises NotFinite, on all processes, for
    logits that are not finite.
    """
    net.eval()
    n = len(images.labels)
    mine = torch.arange(accelerator.process_index, n, accelerator.num_processes)
    k = min(5, len(images.classes))
    top, confidence = torch.zeros((n, k), dtype=torch.long), torch.zeros((n, k))
    for indices in stoppable(mine.split(batch_size), accelerator):
        batch = normalisation(images.take(indices).to(accelerator.device))
        with accelerator.autocast():
            logits = net(batch)
        _, top[indices] = (each.cpu() for each in logits.float().topk(k))
        confidence[indices] = logits.float().softmax(1).gather(1, top[indices].to(logits.device)).cpu()
    for theirs, classes, probabilities in gather_object([(mine, top[mine], confidence[mine])]):
        top[theirs], confidence[theirs] = classes, probabilities
    if not confidence.isfinite().all():  # softmax gives NaN if a logit is NaN or infinity
        raise NotFinite(f"the network {NOT_FINITE}")
    return Predictions(images.names, images.labels, top.numpy(), confidence.numpy(), images.classes)
