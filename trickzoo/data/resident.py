"""Training images that are decoded once, kept on the disk, and cropped in batches on the training device."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import InterpolationMode, v2

from trickzoo.data.augment import crop_and_resize, crop_boxes
from trickzoo.data.batches import BatchPlan
from trickzoo.data.cache import open_or_decode
from trickzoo.data.identity import contents_digest, set_digest
from trickzoo.data.imageset import Decoded, ImageSet, ReadImage
from trickzoo.data.loaders import label_indices, say_orientation
from trickzoo.data.prefetch import to_device
from trickzoo.data.shapes import CLASSES, Shapes
from trickzoo.data.split_comparison import Comparison
from trickzoo.recipes.recipe import Augmentation


@dataclass(frozen=True)
class Resident:
    """Decoded images in a memory-mapped array, for sets that fit into memory. Crops are cut in batches on the training device.

    Attributes:
        pixels: (n, 3, side, side) uint8. An image that is not square is resized to a square, and nothing of it is cut off.
        sizes: (n, 2) width and height in the file.
        labels: (n,) indices into `classes`.
        classes: the names of the classes.
        digest: identifies the set by names, contents and labels, as `data.identity` describes.
        description: a description of generated images, otherwise empty.
        names: the names of the images, if they come from files.
        comparison: the comparison of these validation images with the training images, if both come from files.
    """

    pixels: NDArray[np.uint8]
    sizes: NDArray[np.int64]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    digest: str
    description: str = ""
    comparison: Comparison | None = None
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def ahead(self, device: torch.device) -> bool:
        """Return false for a CPU: another thread would take a core from the threads of the network, which wait for each other."""
        return device.type != "cpu"

    def take(self, indices: Tensor, *, pinned: bool = False) -> Tensor:
        """Return the images at (k,) indices, (k, 3, side, side) uint8, in pinned memory if a GPU will copy them.

        Raises IndexError for an index that is negative, or too large.
        """
        if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < len(self):
            raise IndexError(f"image {int(indices.min())} or {int(indices.max())} of {len(self)}")
        found = torch.empty((len(indices), *self.pixels.shape[1:]), dtype=torch.uint8, pin_memory=pinned)
        np.take(self.pixels, indices.numpy(), axis=0, out=found.numpy(), mode="clip")  # "raise" would write to a copy first
        return found

    def crops(
        self, plan: BatchPlan, size: int, augmentation: Augmentation, device: torch.device, *, seed: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield random crops and labels, as `TrainingImages.crops` does."""
        side = self.pixels.shape[-1]
        for indices, draws in plan:
            width, height = torch.from_numpy(self.sizes[indices.numpy()]).unbind(1)
            boxes = crop_boxes(draws, width, height, augmentation)
            scale = torch.stack([side / width, side / height, side / width, side / height], 1)
            pixels = self.take(indices, pinned=device.type == "cuda")
            images = crop_and_resize(to_device(pixels, device), to_device(boxes * scale, device), size)
            yield images, to_device(torch.from_numpy(self.labels[indices.numpy()]), device)


def squash(side: int) -> Callable[[Image.Image], Tensor]:
    """Return a transform of PIL images → (3, side, side) uint8 that resizes the whole image to a square, whatever its aspect ratio."""
    return v2.Compose([v2.Resize((side, side), InterpolationMode.BICUBIC, antialias=True), v2.PILToTensor()])


def decode_once(
    images: ImageSet,
    transform: Callable[[Image.Image], Tensor],
    name: str,
    folder: Path,
    *,
    classes: tuple[str, ...] | None = None,
    workers: int = 2,
    side: int | None = None,
) -> Resident:
    """Decode a set, or open the decoded images of an earlier call with the same files and the same `name`.

    Two processes may call this at once: one decodes, and the other waits.

    Args:
        images: the set.
        transform: what is applied to each decoded image.
        name: a name of the transform, which must differ for transforms that give other pixels.
        folder: the folder of all decoded sets.
        classes: the classes that labels are indices into, by default those of the set.
        workers: number of decoding processes.
        side: the side of the decoded images, if the digest of the set is to cover it.

    Raises BadData with the path of an image that cannot be read.
    """
    classes = classes or images.classes
    labels = label_indices(images, classes)
    digest = contents_digest(images)
    samples = Decoded(images, transform, range(len(images.entries)))
    place = folder / f"{digest[:32]}-{name}{'-upright' if images.upright else ''}"
    pixels, sizes = open_or_decode(samples, place, workers, lambda batch: say_orientation(batch, str(images.root)))
    stamps = () if side is None else (f"side {side}",)
    whole = set_digest(digest, classes, (entry.label for entry in images.entries), stamps)
    return Resident(pixels, sizes, labels, classes, whole)


def draw_once(shapes: Shapes, transform: Callable[[Image.Image], Tensor], name: str, folder: Path, *, workers: int = 2) -> Resident:
    """Draw generated shapes, or open those that an earlier call with the same shapes and the same `name` of the transform kept in `folder`.

    Two processes may call this at once: one draws, and the other waits.
    """
    digest = hashlib.sha256(shapes.description.encode()).hexdigest()  # the description names everything that the pixels depend on
    labels = np.array([shapes.label(index) for index in range(shapes.n)])
    pixels, sizes = open_or_decode(_Drawings(shapes, transform), folder / f"{digest[:32]}-{name}", workers)
    return Resident(pixels, sizes, labels, CLASSES, digest, shapes.description)


@dataclass
class _Drawings(Dataset[ReadImage]):
    """Generated shapes as samples."""

    shapes: Shapes
    transform: Callable[[Image.Image], Tensor]

    def __len__(self) -> int:
        return self.shapes.n

    def __getitem__(self, index: int) -> ReadImage:
        image = Image.fromarray(self.shapes.draw(index).image)
        return ReadImage(index, self.transform(image), image.size)
