"""Training images: cropped at random from files as they are read, or from a copy that was decoded once."""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import InterpolationMode, v2

from trickzoo.data import images as image_files
from trickzoo.data.augment import crop_and_resize, crop_boxes
from trickzoo.data.cache import keep_once
from trickzoo.data.identity import contents_digest, names_digest, set_digest
from trickzoo.data.imageset import Decoded, ImageSet, Sample
from trickzoo.data.shapes import CLASSES, Shapes
from trickzoo.data.splits import Comparison
from trickzoo.data.workers import load
from trickzoo.errors import BadData, nearest
from trickzoo.recipes.recipe import Augmentation

log = logging.getLogger("trickzoo")

MEND = "put it back with its time of modification to go on, or replace or remove it and name another --out"
Plan = Iterable[tuple[Tensor, Tensor]]
"""Micro-batches: (k,) indices and (k, DRAWS) uniform draws of each."""


class TrainingImages(Protocol):
    """What the loop needs of its images; `digest` tells one set from another, as `data.identity` says.

    `labels` (n,) are indices into `classes`. They are None for a stream, which can only be read in its own order: its image k is number
    k % n of epoch k // n.
    """

    def __len__(self) -> int: ...

    @property
    def labels(self) -> NDArray[np.int64] | None: ...

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def digest(self) -> str: ...

    def crops(
        self, plan: Plan, size: int, augmentation: Augmentation, device: torch.device, *, seed: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """For each micro-batch of the plan its random crops, (k, 3, size, size) float in 0…255, and labels, (k,), on the device.

        `seed` is of the order of a stream.
        """


def label_indices(images: ImageSet, classes: tuple[str, ...]) -> NDArray[np.int64]:
    """(n,) index of each image's class. Raises BadData for classes that are not among `classes`."""
    index_of = {name: i for i, name in enumerate(classes)}
    strangers = [name for name in images.classes if name not in index_of]
    if strangers:
        shown = ", ".join(strangers[:3]) + (", …" if len(strangers) > 3 else "")
        what = f"{len(strangers)} classes ({shown}) are" if len(strangers) > 1 else f"class {shown} is"
        hint = nearest(strangers[0], classes) if len(strangers) == 1 else ""
        raise BadData(f"{images.root}: {what} not among the training set's {len(classes)} classes{hint}")
    return np.array([index_of[entry.label] for entry in images.entries])


# ---------------------------------------------------------------------------------------------------------------------
# from files


class Streamed:
    """Images read from their files each time: for sets that do not fit in memory."""

    def __init__(self, images: ImageSet, *, workers: int = 2) -> None:
        self.images, self.workers = images, workers
        self.classes = images.classes
        self.labels = label_indices(images, images.classes)
        self.digest = set_digest(names_digest(images), images.classes, (entry.label for entry in images.entries), images.stamps())

    def __len__(self) -> int:
        return len(self.labels)

    def crops(
        self, plan: Plan, size: int, augmentation: Augmentation, device: torch.device, *, seed: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """As `TrainingImages.crops`; workers decode and crop. Raises BadData with the path of an image that cannot be read."""
        keys = ([(int(i), row) for i, row in zip(indices, draws, strict=True)] for indices, draws in plan)
        for samples in load(_Crops(self.images, size, augmentation), keys, self.workers):
            say_orientation(samples, str(self.images.root))
            pixels = stacked(samples, lambda error: f"{error}; {MEND}")
            labels = torch.from_numpy(self.labels[[sample.index for sample in samples]])
            yield pixels.to(device).float(), labels.to(device)


def stacked(samples: list[Sample], message: Callable[[str], str]) -> Tensor:
    """(k, 3, size, size) uint8 of k samples. Raises BadData with the message about the first error among them."""
    found = []
    for sample in samples:
        if sample.pixels is None:
            raise BadData(message(sample.error))
        found.append(sample.pixels)
    return torch.stack(found)


def say_orientation(samples: Iterable[Sample], where: str) -> None:
    """Tell the user that images of a set have an EXIF orientation, once."""
    if any(sample.orientation > 1 for sample in samples):
        _say_orientation(where)


@functools.cache
def _say_orientation(where: str) -> None:
    log.warning("%s: some images have an EXIF orientation; they are turned upright, unless the classes are ImageNet's", where)


def random_crops(
    found: Sequence[tuple[Sample, str, bytes, Tensor]], size: int, augmentation: Augmentation, *, upright: bool
) -> list[Sample]:
    """Samples without pixels, names, bytes of image files and (DRAWS,) draws → the samples with (3, size, size) uint8, or with an error.

    `upright` tells whether the crops are turned by the images' EXIF orientation (`ImageSet.upright`).

    The boxes of all are drawn together: for a small image, one alone would cost as much as its decoding.
    """
    sizes = torch.tensor([_size(content, name) for _, name, content, _ in found])
    boxes = crop_boxes(torch.stack([draws for *_, draws in found]), sizes[:, 0], sizes[:, 1], augmentation).int().tolist()
    return [_cropped(sample, name, content, box, size, upright) for (sample, name, content, _), box in zip(found, boxes, strict=True)]


def _size(content: bytes, name: str) -> tuple[int, int]:
    try:
        return image_files.size_in(content, name)
    except BadData:  # decoding will say it
        return 1, 1


def _cropped(sample: Sample, name: str, content: bytes, box: tuple[float, float, float, float], size: int, upright: bool) -> Sample:
    if sample.error:
        return sample
    try:
        picture = image_files.decode(content, name)
    except BadData as error:
        return replace(sample, error=str(error))
    image = picture.image
    if image.size != picture.size:  # one that is too large to be used whole
        across, down = image.width / picture.size[0], image.height / picture.size[1]
        box = (box[0] * across, box[1] * down, box[2] * across, box[3] * down)
    crop = replace(picture, image=image.resize((size, size), Image.Resampling.BILINEAR, box=box, reducing_gap=3.0))
    if upright:
        crop = crop.upright()
    return replace(sample, pixels=v2.functional.pil_to_tensor(crop.image), orientation=picture.orientation)


@dataclass
class _Crops(Dataset[Sample]):
    """Random crops by (index, draws)."""

    images: ImageSet
    size: int
    augmentation: Augmentation

    def __getitems__(self, keys: list[tuple[int, Tensor]]) -> list[Sample]:
        return random_crops([self._read(*key) for key in keys], self.size, self.augmentation, upright=self.images.upright)

    def _read(self, index: int, draws: Tensor) -> tuple[Sample, str, bytes, Tensor]:
        entry = self.images.entries[index]
        try:
            return Sample(index), self.images.place(entry), self.images.read(entry), draws
        except OSError as error:
            place = self.images.place(entry)
            return Sample(index, error=f"{place} cannot be read ({error.strerror})"), place, b"", draws


# ---------------------------------------------------------------------------------------------------------------------
# decoded once


@dataclass(frozen=True)
class Resident:
    """Images decoded once to a memory-map, for sets that fit in memory; crops are cut in batches on the training device.

    Attributes:
        pixels: (n, 3, side, side) uint8.
        sizes: (n, 2) width and height in the file: an image that is not square is squashed, and nothing of it is cut off.
        digest: of names, contents and labels, as `data.identity` says.
        description: what the images are, where they are not photographs from files.
        comparison: of validation images with the training images, where both are files.
    """

    pixels: NDArray[np.uint8]
    sizes: NDArray[np.int64]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    digest: str
    description: str = ""
    comparison: Comparison | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Tensor) -> Tensor:
        """(k,) indices → (k, 3, side, side) uint8."""
        return torch.from_numpy(self.pixels[indices.numpy()])

    def crops(
        self, plan: Plan, size: int, augmentation: Augmentation, device: torch.device, *, seed: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """As `TrainingImages.crops`."""
        side = self.pixels.shape[-1]
        for indices, draws in plan:
            width, height = torch.from_numpy(self.sizes[indices.numpy()]).unbind(1)
            boxes = crop_boxes(draws, width, height, augmentation)
            scale = torch.stack([side / width, side / height, side / width, side / height], 1)
            images = crop_and_resize(self.take(indices).to(device), (boxes * scale).to(device), size)
            yield images, torch.from_numpy(self.labels[indices.numpy()]).to(device)


def squash(side: int) -> Callable[[Image.Image], Tensor]:
    """PIL image → (3, side, side) uint8, the whole image whatever its aspect."""
    return v2.Compose([v2.Resize((side, side), InterpolationMode.BICUBIC, antialias=True), v2.PILToTensor()])


def decode_once(
    images: ImageSet,
    transform: Callable[[Image.Image], Tensor],
    name: str,
    folder: Path,
    *,
    classes: tuple[str, ...] | None = None,
    workers: int = 2,
) -> Resident:
    """Decode a set into `folder`, or take what an earlier call left there for the same files and the same `name` of the transform.

    Safe when two processes do it at once: one decodes, the other waits. Raises BadData with the path of an image that cannot be read.
    """
    classes = classes or images.classes
    labels = label_indices(images, classes)
    digest = contents_digest(images)
    samples = Decoded(images, transform, range(len(images.entries)))
    place = folder / f"{digest[:32]}-{name}{'-upright' if images.upright else ''}"
    pixels, sizes = keep_once(samples, place, workers, lambda batch: say_orientation(batch, str(images.root)))
    return Resident(pixels, sizes, labels, classes, set_digest(digest, classes, (entry.label for entry in images.entries)))


def draw_once(shapes: Shapes, transform: Callable[[Image.Image], Tensor], name: str, folder: Path, *, workers: int = 2) -> Resident:
    """Draw generated shapes into `folder`, or take what an earlier call left there for the same shapes and `name` of the transform.

    Safe when two processes do it at once: one draws, the other waits.
    """
    digest = hashlib.sha256(shapes.description.encode()).hexdigest()  # the description says all that the pixels depend on
    labels = np.array([shapes.label(index) for index in range(shapes.n)])
    pixels, sizes = keep_once(_Drawings(shapes, transform), folder / f"{digest[:32]}-{name}", workers)
    return Resident(pixels, sizes, labels, CLASSES, digest, shapes.description)


@dataclass
class _Drawings(Dataset[Sample]):
    """Generated shapes as samples."""

    shapes: Shapes
    transform: Callable[[Image.Image], Tensor]

    def __len__(self) -> int:
        return self.shapes.n

    def __getitem__(self, index: int) -> Sample:
        image = Image.fromarray(self.shapes.draw(index).image)
        return Sample(index, self.transform(image), image.size)


# ---------------------------------------------------------------------------------------------------------------------
# annotated images


class AnnotatedSample(Protocol):
    """An image with its annotation as a worker hands it over; `error` says why if it cannot be used."""

    @property
    def error(self) -> str: ...


S = TypeVar("S", bound=AnnotatedSample)


def read_batches(samples: Dataset[S], plan: Plan, workers: int) -> Iterator[list[S]]:
    """The samples of each micro-batch of a plan, made in workers. Raises BadData with the first error among them."""
    keys = ([(int(i), row) for i, row in zip(indices, draws, strict=True)] for indices, draws in plan)
    return _checked(load(samples, keys, workers))


def read_share(samples: Dataset[S], accelerator: Accelerator, n: int, workers: int) -> Iterator[S]:
    """Each of the samples that fall to this process, one by one, in their order. Raises BadData with the first error."""
    mine = ([index] for index in range(accelerator.process_index, n, accelerator.num_processes))
    return (sample for batch in _checked(load(samples, mine, workers)) for sample in batch)


def _checked(batches: Iterable[list[S]]) -> Iterator[list[S]]:
    for batch in batches:
        for sample in batch:
            if sample.error:
                raise BadData(f"{sample.error}; repair it, or take it out of the split")
        yield batch


def there(tensor: Tensor | None) -> Tensor:
    """A tensor of a sample without error."""
    assert tensor is not None
    return tensor
