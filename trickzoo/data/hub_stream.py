"""Training images that are streamed from a data set of the hub."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from trickzoo.data.batches import BatchPlan
from trickzoo.data.identity import set_digest
from trickzoo.data.imageset import ReadImage, turns_upright
from trickzoo.data.loaders import random_crops, say_orientation, stacked
from trickzoo.data.prefetch import to_device
from trickzoo.data.readers.hub_source import errors_as_bad_data, open_source
from trickzoo.data.workers import in_workers
from trickzoo.errors import BadData
from trickzoo.recipes.recipe import Augmentation

BUFFER = 2_000
"""How many images the shuffle draws from, in addition to shuffling the files: about 200 MB of JPEGs of ImageNet's size."""


class HubStream:
    """Training images that are streamed from the hub, in the order of a shuffle that is drawn from (seed, epoch).

    The order does not depend on the number of workers or processes: each process reads the whole stream and decodes its share. A training
    that is resumed within an epoch reads the epoch from its beginning again. Raises BadData if the set does not state its number of images
    and its classes.
    """

    labels = None

    def __init__(self, text: str, *, workers: int = 2, buffer: int = BUFFER) -> None:
        source = open_source(text, "train")
        if source.n is None or not source.classes:
            missing = "how many images it has" if source.n is None else f"which classes the labels in {source.label} are"
            raise BadData(f"{text} does not say {missing}, so it cannot be streamed; --decode once reads all of it first")
        self.n, self.source, self.workers, self.buffer = source.n, source, workers, buffer
        self.classes = source.classes
        self.upright = turns_upright(source.classes)
        self.digest = set_digest(hashlib.sha256(f"{source.digest} {buffer}".encode()).hexdigest(), source.classes, stamps=[str(source.n)])

    def __len__(self) -> int:
        return self.n

    def ahead(self, device: torch.device) -> bool:
        """Return whether there are workers: a thread then waits for their batches, so that the training need not."""
        return self.workers > 0

    def crops(
        self, plan: BatchPlan, size: int, augmentation: Augmentation, device: torch.device, *, seed: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield random crops and labels, as `TrainingImages.crops` does, for indices in rising order.

        Raises BadData with the position of an image that cannot be read.
        """
        crops = _Crops(size, augmentation, self.upright)
        for samples in in_workers(crops, self._keys(plan, seed), self.workers, trains_on=device):
            say_orientation(samples, self.source.name)
            pixels = stacked(samples, lambda error: f"{self.source.name}: {error}", pinned=device.type == "cuda")
            yield to_device(pixels, device).float(), to_device(torch.tensor([sample.label for sample in samples]), device)

    def _keys(self, plan: BatchPlan, seed: int) -> Iterator[list[tuple[int, int, str, bytes, Tensor]]]:
        """Yield, for each image of each micro-batch, its index, label, name, bytes and draws."""
        shuffled = self.source.rows.shuffle(seed=seed, buffer_size=self.buffer)
        rows: Iterator[tuple[int, dict[str, Any]]] = iter(())
        reached = -1
        for indices, draws in plan:
            batch = []
            for index, row_draws in zip(indices.tolist(), draws, strict=True):
                epoch, position = divmod(index, self.n)
                if epoch != reached:
                    shuffled.set_epoch(epoch)
                    rows, reached = enumerate(shuffled), epoch
                with errors_as_bad_data(self.source.name):
                    row = next((row for place, row in rows if place == position), None)
                    if row is None:
                        raise BadData(f"{self.source.name} ends before image {position} of the {self.n:,} images that its metadata states")
                    name, content = self.source.content(row, f"image {position} of epoch {epoch}")
                batch.append((index, int(self.source.label_of(row, name)), name, content, row_draws))
            yield batch


@dataclass
class _Crops(Dataset[ReadImage]):
    """Random crops of images whose bytes are part of their keys."""

    size: int
    augmentation: Augmentation
    upright: bool

    def __getitems__(self, keys: list[tuple[int, int, str, bytes, Tensor]]) -> list[ReadImage]:
        found = [(ReadImage(index, label=label), name, content, draws) for index, label, name, content, draws in keys]
        return random_crops(found, self.size, self.augmentation, upright=self.upright)
