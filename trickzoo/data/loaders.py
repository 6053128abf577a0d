"""Training images: random crops of files that are read each time, or of decoded images that are kept on the disk."""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

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
from trickzoo.data.imageset import Decoded, ImageSet, ReadImage
from trickzoo.data.prefetch import to_device
from trickzoo.data.shapes import CLASSES, Shapes
from trickzoo.data.splits import Comparison
from trickzoo.data.workers import computed, in_workers
from trickzoo.errors import BadData, nearest
from trickzoo.recipes.recipe import Augmentation

log = logging.getLogger("trickzoo")

MEND = "put it back with its time of modification to go on, or replace or remove it and name another --out"
BatchPlan = Iterable[tuple[Tensor, Tensor]]
"""Micro-batches: for each of them, (k,) indices of images and (k, DRAWS) uniform draws."""


class TrainingImages(Protocol):
    """The training images, as the training loop needs them.

    Attributes:
        labels: (n,) indices into `classes`, or None for a stream. A stream can only be read in its own order: index k is image k % n of
            epoch k // n.
        classes: the names of the classes.
        digest: identifies the set, as `data.identity` describes.
        ahead: whether another thread makes batches before they are needed.
    """

    def __len__(self) -> int: ...

    @property
    def ahead(self) -> bool: ...

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
    strangers = [name for name in images.classes if name not in index_of]
    if strangers:
        shown = ", ".join(strangers[:3]) + (", …" if len(strangers) > 3 else "")
        what = f"{len(strangers)} classes ({shown}) are" if len(strangers) > 1 else f"class {shown} is"
        near = nearest(strangers[0], classes) if len(strangers) == 1 else ""
        hint = near or "; add training images of them, or leave them out of the validation images"
        raise BadData(f"{images.root}: {what} not among the training set's {len(classes)} classes{hint}")
    return np.array([index_of[entry.label] for entry in images.entries])


# ---------------------------------------------------------------------------------------------------------------------
# from files


class Streamed:
    """Images that are read from their files in each epoch, for sets that do not fit into memory. With 0 workers nothing is read ahead."""

    def __init__(self, images: ImageSet, *, workers: int = 2) -> None:
        self.images, self.workers, self.ahead = images, workers, workers > 0
        self.classes = images.classes
        self.labels = label_indices(images, images.classes)
        self.digest = set_digest(names_digest(images), images.classes, (entry.label for entry in images.entries), images.stamps())

    def __len__(self) -> int:
        return len(self.labels)

    def crops(
        self, plan: BatchPlan, size: int, augmentation: Augmentation, device: torch.device, *, seed: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield random crops and labels, as `TrainingImages.crops` does. Worker processes decode and crop the images."""
        keys = ([(int(i), row) for i, row in zip(indices, draws, strict=True)] for indices, draws in plan)
        for samples in in_workers(_Crops(self.images, size, augmentation), keys, self.workers):
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
    begun = [_begun(sample, name, content) for sample, name, content, _ in found]
    sizes = torch.tensor([(1, 1) if isinstance(image, ReadImage) else image.size for image in begun])
    boxes = crop_boxes(torch.stack([draws for *_, draws in found]), sizes[:, 0], sizes[:, 1], augmentation).int().tolist()
    return [
        image if isinstance(image, ReadImage) else _cropped(sample, image, box, size, upright)
        for (sample, *_), image, box in zip(found, begun, boxes, strict=True)
    ]


def _begun(sample: ReadImage, name: str, content: bytes) -> image_files.Begun | ReadImage:
    """Read the header of an image. Return the sample instead if it has an error, or with the error that this raises."""
    if sample.error:
        return sample
    try:
        return image_files.begin(content, name)
    except BadData as error:
        return replace(sample, error=str(error))


def _cropped(sample: ReadImage, begun: image_files.Begun, box: tuple[float, float, float, float], size: int, upright: bool) -> ReadImage:
    try:
        picture = begun.decode()
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


# ---------------------------------------------------------------------------------------------------------------------
# decoded once


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
    ahead: ClassVar = True

    def __len__(self) -> int:
        return len(self.labels)

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

    Raises BadData with the path of an image that cannot be read.
    """
    classes = classes or images.classes
    labels = label_indices(images, classes)
    digest = contents_digest(images)
    samples = Decoded(images, transform, range(len(images.entries)))
    place = folder / f"{digest[:32]}-{name}{'-upright' if images.upright else ''}"
    pixels, sizes = keep_once(samples, place, workers, lambda batch: say_orientation(batch, str(images.root)))
    return Resident(pixels, sizes, labels, classes, set_digest(digest, classes, (entry.label for entry in images.entries)))


def draw_once(shapes: Shapes, transform: Callable[[Image.Image], Tensor], name: str, folder: Path, *, workers: int = 2) -> Resident:
    """Draw generated shapes, or open those that an earlier call with the same shapes and the same `name` of the transform kept in `folder`.

    Two processes may call this at once: one draws, and the other waits.
    """
    digest = hashlib.sha256(shapes.description.encode()).hexdigest()  # the description names everything that the pixels depend on
    labels = np.array([shapes.label(index) for index in range(shapes.n)])
    pixels, sizes = keep_once(_Drawings(shapes, transform), folder / f"{digest[:32]}-{name}", workers)
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


# ---------------------------------------------------------------------------------------------------------------------
# annotated images


class AnnotatedSample(Protocol):
    """An image with its annotation, as a worker returns it. `error` is the reason why it cannot be used; otherwise it is empty."""

    @property
    def error(self) -> str: ...


S = TypeVar("S", bound=AnnotatedSample)
R = TypeVar("R")
REPAIR = "repair it, or take it out of the split"


def read_batches(samples: Dataset[S], plan: BatchPlan, workers: int) -> Iterator[list[S]]:
    """Yield the samples of each micro-batch of a plan, which workers make. Raises BadData with the first error among them."""
    keys = ([(int(i), row) for i, row in zip(indices, draws, strict=True)] for indices, draws in plan)
    return _checked(in_workers(samples, keys, workers))


def answers(samples: Dataset[S], answer: Callable[[S], R], accelerator: Accelerator, n: int, workers: int) -> Iterator[R]:
    """Yield what a function returns for the samples of this process's share of n images, in order.

    On a CPU the workers call the function, each of them on one thread; on an accelerator this process does. Raises BadData with the first
    error among the samples.
    """
    mine = ([index] for index in range(accelerator.process_index, n, accelerator.num_processes))
    by_workers = accelerator.device.type == "cpu"
    for batch in computed(samples, mine, workers, _Answers(answer), by_workers=by_workers):
        for error, found in batch:
            if error:
                raise BadData(f"{error}; {REPAIR}")
            yield found


@dataclass(frozen=True)
class _Answers:
    """For the samples of a batch, the error of each, or what a function returns for it."""

    answer: Callable[[Any], Any]

    def __call__(self, samples: list[Any]) -> list[tuple[str, Any]]:
        return [(sample.error, None if sample.error else self.answer(sample)) for sample in samples]


def _checked(batches: Iterable[list[S]]) -> Iterator[list[S]]:
    for batch in batches:
        for sample in batch:
            if sample.error:
                raise BadData(f"{sample.error}; {REPAIR}")
        yield batch


def there(tensor: Tensor | None) -> Tensor:
    """Return the tensor of a sample without an error, which is not None."""
    assert tensor is not None
    return tensor
