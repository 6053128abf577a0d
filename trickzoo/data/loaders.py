"""Training images as the loop needs them, and random crops of files that are read each time."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from trickzoo.data import images as image_files
from trickzoo.data.augment import crop_boxes
from trickzoo.data.batches import BatchPlan
from trickzoo.data.identity import files_digest
from trickzoo.data.imageset import ImageSet, ReadImage
from trickzoo.data.prefetch import to_device
from trickzoo.data.workers import in_workers
from trickzoo.errors import BadData, nearest, shortened
from trickzoo.recipes.recipe import Augmentation
from trickzoo.wording import count

log = logging.getLogger("trickzoo")

MEND = "to resume, restore the file with its old modification time; or replace or remove it, and train anew with another --out"


class TrainingImages(Protocol):
    """The training images, as the training loop needs them.

    Attributes:
        labels: (n,) indices into `classes`, or None for a stream. A stream can only be read in its own order: index k is image k % n of
            epoch k // n.
        classes: the names of the classes.
        digest: identifies the set, as `data.identity` describes.
    """

    def __len__(self) -> int: ...

    def ahead(self, device: torch.device) -> bool:
        """Return whether another thread should make batches for a training run on this device before they are needed."""

    @property
    def labels(self) -> NDArray[np.int64] | None: ...

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def digest(self) -> str: ...

    def crops(
        self, plan: BatchPlan, size: int, augmentation: Augmentation, device: torch.device, *, seed: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the random crops of each micro-batch of the plan, (k, 3, size, size) float in 0…255, and their (k,) labels, on the device.

        `seed` determines the order of a stream. Raises BadData with the path of an image that cannot be read.
        """


def label_indices(images: ImageSet, classes: tuple[str, ...]) -> NDArray[np.int64]:
    """Return (n,) the index of each image's class in `classes`. Raises BadData for a class that is not among them."""
    index_of = {name: i for i, name in enumerate(classes)}
    unknown = [name for name in images.classes if name not in index_of]
    if unknown:
        shown = shortened(unknown, 3)
        what = f"{len(unknown)} classes ({shown}) are" if len(unknown) > 1 else f"class {shown} is"
        hint = nearest(unknown[0], classes) or "; add training images of them, or leave them out of the validation images"
        raise BadData(f"{images.root}: {what} not among the training set's {count(len(classes), 'class')}{hint}")
    return np.array([index_of[entry.label] for entry in images.entries])


class Streamed:
    """Images that are read from their files in each epoch, for sets that do not fit into memory. With 0 workers nothing is read ahead."""

    def __init__(self, images: ImageSet, *, workers: int = 2) -> None:
        self.images, self.workers = images, workers
        self.classes = images.classes
        self.labels = label_indices(images, images.classes)
        self.digest = files_digest(images)

    def __len__(self) -> int:
        return len(self.labels)

    def ahead(self, device: torch.device) -> bool:
        """Return whether there are workers: a thread then waits for their batches, so that the training need not."""
        return self.workers > 0

    def crops(
        self, plan: BatchPlan, size: int, augmentation: Augmentation, device: torch.device, *, seed: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield random crops and labels, as `TrainingImages.crops` does. Worker processes decode and crop the images."""
        keys = ([(int(i), row) for i, row in zip(indices, draws, strict=True)] for indices, draws in plan)
        for samples in in_workers(_Crops(self.images, size, augmentation), keys, self.workers, trains_on=device):
            say_orientation(samples, str(self.images.root))
            pixels = stacked(samples, lambda error: f"{error}; {MEND}", pinned=device.type == "cuda")
            labels = torch.from_numpy(self.labels[[sample.index for sample in samples]])
            yield to_device(pixels, device).float(), to_device(labels, device)


def stacked(samples: list[ReadImage], message: Callable[[str], str], *, pinned: bool = False) -> Tensor:
    """Return the (k, 3, size, size) uint8 pixels of k samples, in pinned memory if a GPU will copy them.

    If a sample has an error, raise BadData with what `message` returns for it.
    """
    found = []
    for sample in samples:
        if sample.pixels is None:
            raise BadData(message(sample.error))
        found.append(sample.pixels)
    return torch.stack(found, out=torch.empty((len(found), *found[0].shape), dtype=torch.uint8, pin_memory=pinned))


def say_orientation(samples: Iterable[ReadImage], where: str) -> None:
    """Log a warning, once for each set, if a sample has an EXIF orientation."""
    if any(sample.orientation > 1 for sample in samples):
        _say_orientation(where)


@functools.cache
def _say_orientation(where: str) -> None:
    log.warning("%s: some images have an EXIF orientation; they are turned upright, unless the classes are ImageNet's", where)


def random_crops(
    found: Sequence[tuple[ReadImage, str, bytes, Tensor]], size: int, augmentation: Augmentation, *, upright: bool
) -> list[ReadImage]:
    """Decode images and cut a random crop out of each.

    The boxes of all images are computed together, because a single box would take as long as decoding a small image.

    Args:
        found: for each image, its sample without pixels, its name, the bytes of its file, and (DRAWS,) uniform draws.
        size: the side of the crops in pixels.
        augmentation: the ranges of area and aspect ratio.
        upright: whether the crops are turned upright by the images' EXIF orientation (`ImageSet.upright`).

    Returns:
        The samples with (3, size, size) uint8 pixels, or with an error.
    """
    opened = [_opened(sample, name, content) for sample, name, content, _ in found]
    sizes = torch.tensor([(1, 1) if isinstance(image, ReadImage) else image.size for image in opened])
    boxes = crop_boxes(torch.stack([draws for *_, draws in found]), sizes[:, 0], sizes[:, 1], augmentation).int().tolist()
    return [
        image if isinstance(image, ReadImage) else _cropped(sample, image, box, size, upright)
        for (sample, *_), image, box in zip(found, opened, boxes, strict=True)
    ]


def _opened(sample: ReadImage, name: str, content: bytes) -> image_files.OpenedImage | ReadImage:
    """Open an image. Return its sample instead if that has an error, or with the error if the image cannot be opened."""
    if sample.error:
        return sample
    try:
        return image_files.open_image(content, name)
    except BadData as error:
        return replace(sample, error=str(error))


def _cropped(
    sample: ReadImage, opened: image_files.OpenedImage, box: tuple[float, float, float, float], size: int, upright: bool
) -> ReadImage:
    try:
        picture = opened.decode()
    except BadData as error:
        return replace(sample, error=str(error))
    image = picture.image
    if image.size != picture.size:  # a large image is reduced while it is decoded
        across, down = image.width / picture.size[0], image.height / picture.size[1]
        box = (box[0] * across, box[1] * down, box[2] * across, box[3] * down)
    crop = replace(picture, image=image.resize((size, size), Image.Resampling.BILINEAR, box=box, reducing_gap=3.0))
    if upright:
        crop = crop.upright()
    return replace(sample, pixels=v2.functional.pil_to_tensor(crop.image), orientation=picture.orientation)


@dataclass
class _Crops(Dataset[ReadImage]):
    """The random crops of a set, by the index of an image and its draws."""

    images: ImageSet
    size: int
    augmentation: Augmentation

    def __getitems__(self, keys: list[tuple[int, Tensor]]) -> list[ReadImage]:
        return random_crops([self._read(*key) for key in keys], self.size, self.augmentation, upright=self.images.upright)

    def _read(self, index: int, draws: Tensor) -> tuple[ReadImage, str, bytes, Tensor]:
        entry = self.images.entries[index]
        try:
            return ReadImage(index), self.images.place(entry), self.images.read(entry), draws
        except OSError as error:
            place = self.images.place(entry)
            return ReadImage(index, error=f"{place} cannot be read ({error.strerror})"), place, b"", draws
