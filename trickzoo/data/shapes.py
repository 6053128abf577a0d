"""Shapes, the embedded data set: generated images that are drawn from a seed and need no download. Its ten classes differ in shape only.

Colour, texture, area, rotation and stretch have the same distribution for every class. Images have a textured background with distractors
that belong to no class, an occluder and noise. Easy images have larger objects that are almost upright, and a calm background without
distractors and occluders, so that a small network learns the classes in a minute. A score on this set shows that training works and how
tricks compare on it; it says nothing about photographs.

An image depends only on (seed, split, objects, difficulty, index, size), so images can be drawn in any order and in any process, and a
larger `n` only adds images. Random numbers come from PCG64 through `Generator.random`, whose stream NumPy has never changed.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from trickzoo.data.outlines import DISTRACTORS, OCCLUDERS, SHAPES, Array, Shape, measure
from trickzoo.errors import BadOption, check_choice

LARGEST = 4096
"""The largest side of an image in pixels, which bounds the memory."""
VERSION = 1
"""Increased whenever the pixels change. Results on different versions cannot be compared."""

Split: TypeAlias = Literal["train", "val"]
Objects: TypeAlias = Literal["one", "several"]
Difficulty: TypeAlias = Literal["hard", "easy"]
Window: TypeAlias = tuple[slice, slice]

CLASSES = tuple(SHAPES)


@dataclass(frozen=True)
class Level:
    """How images of a difficulty are drawn.

    Attributes:
        sides: range of the square root of an object's area, as a fraction of the image's side, for one object and for several.
        most: largest number of objects in an image with several; the smallest is 2.
        stretch: largest ratio of the stretch in one direction to that across it. Squares become parallelograms, and discs ellipses.
        tilt: largest rotation to either side, in turns; None for every rotation.
        visible: smallest fraction of an object's area that stays visible.
        noise: largest amount by which noise changes a colour in 0…1.
        calm: whether the background and the objects have a gradient and no other texture, and nothing else is in the image.
    """

    sides: Mapping[Objects, tuple[float, float]]
    most: int
    stretch: float
    tilt: float | None
    visible: float
    noise: float
    calm: bool


LEVELS: dict[Difficulty, Level] = {
    "hard": Level({"one": (0.33, 0.44), "several": (0.18, 0.3)}, 5, 1.3, None, 0.75, 0.1, calm=False),
    "easy": Level({"one": (0.4, 0.48), "several": (0.23, 0.3)}, 3, 1, 0.04, 0.9, 0.03, calm=True),
}


@functools.cache
def _pixels(size: int) -> tuple[Array, Array]:
    """Return the coordinates (x, y) of the pixel centres, each (size, size), as fractions of the image's side."""
    centres = (np.arange(size) + 0.5) / size
    x, y = np.meshgrid(centres, centres)
    return x, y


def _turn(turns: float) -> Array:
    cos, sin = np.cos(2 * np.pi * turns), np.sin(2 * np.pi * turns)
    return np.array([[cos, -sin], [sin, cos]])


def _texture(rng: np.random.Generator, size: int, window: Window, calm: bool) -> Array:
    """Return the window of a random (size, size) texture in 0…1: a gradient, stripes or checks of any direction and scale.

    If it is `calm`, it is a gradient.
    """
    kind, angle, scale, phase, edge = rng.random(5)
    x, y = (axis[window] for axis in _pixels(size))
    cos, sin = np.cos(2 * np.pi * angle), np.sin(2 * np.pi * angle)
    u, v = x * cos + y * sin, y * cos - x * sin
    if calm or kind < 1 / 3:
        return np.clip(0.5 + u * (0.5 + scale), 0, 1)
    frequency = 2 * np.pi * (4 + 8 * scale)
    wave = np.sin(frequency * u + 2 * np.pi * phase)
    if kind > 2 / 3:
        wave *= np.sin(frequency * v)
    return np.clip(0.5 + wave * (0.5 + 2 * edge), 0, 1)


def _paint(rng: np.random.Generator, size: int, window: Window, calm: bool, away_from: Array | None = None) -> Array:
    """Return the window of a (size, size, 3) image in about 0…1, in which a texture mixes two colours.

    If the colour `away_from` is given, the pair of colours farthest from it is used, out of eight random pairs.
    """
    first, second = rng.random((2, 8, 3))
    second = first + (second - 0.5) * (0.4 * rng.random())
    which = 0 if away_from is None else int(np.argmax(np.abs((first + second) / 2 - away_from).sum(axis=1)))
    return first[which] + (second - first)[which] * _texture(rng, size, window, calm)[..., None]


@dataclass(frozen=True)
class Drawing:
    """A generated image with its annotations, which refer to the visible pixels."""

    image: npt.NDArray[np.uint8]
    """(size, size, 3) RGB."""
    labels: npt.NDArray[np.int64]
    """(k,) classes of the objects, from the lowest layer to the highest."""
    masks: npt.NDArray[np.bool_]
    """(k, size, size) the visible pixels of each object. No pixel belongs to two objects."""

    @property
    def label(self) -> int:
        """The class of the image, which is that of its first object."""
        return int(self.labels[0])

    @property
    def boxes(self) -> npt.NDArray[np.float32]:
        """(k, 4) tight half-open boxes (x0, y0, x1, y1) around the masks in pixels."""
        bounds = []
        for mask in self.masks:
            columns, rows = (np.flatnonzero(mask.any(axis=axis)) for axis in (0, 1))
            bounds.append((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
        return np.array(bounds, dtype=np.float32)

    @property
    def semantic(self) -> npt.NDArray[np.uint8]:
        """(size, size) classes of the pixels: class + 1 for an object, and 0 for the background, distractors and occluders."""
        return (self.masks * (self.labels + 1)[:, None, None]).sum(axis=0).astype(np.uint8)


class _Scene:
    """An image that is being drawn."""

    def __init__(self, rng: np.random.Generator, size: int, level: Level) -> None:
        self.rng, self.size, self.level = rng, size, level
        self.canvas = _paint(rng, size, np.s_[:, :], level.calm)
        self.background = self.canvas.mean(axis=(0, 1))
        self.labels: list[int] = []
        self.masks: list[npt.NDArray[np.bool_]] = []
        self.areas: list[int] = []

    def add(self, shape: Shape, sides: tuple[float, float], label: int | None = None) -> None:
        """Draw a shape on top at a random position, or nothing if it would hide too much of an object.

        A shape with a label lies completely inside the image.
        """
        form, scale, stretch, turn, turn_before, *place = self.rng.random(7)
        variant = int(8 * form) / 7
        area, outline = measure(shape, variant)
        scale = sides[0] * (sides[1] / sides[0]) ** scale / np.sqrt(area)
        stretch = np.sqrt(self.level.stretch) ** stretch
        turn_after = turn if self.level.tilt is None else self.level.tilt * (2 * turn - 1) - turn_before
        matrix = scale * _turn(turn_after) @ np.diag([stretch, 1 / stretch]) @ _turn(turn_before)
        low, high = (matrix @ outline).min(axis=1), (matrix @ outline).max(axis=1)
        room = (0.02 - low, 0.98 - high) if label is not None else (0, 1)
        centre = room[0] + (room[1] - room[0]) * np.array(place)
        first = np.maximum((centre + low - 0.01) * self.size - 2, 0).astype(int)
        last = np.maximum((centre + high + 0.01) * self.size + 3, 0).astype(int)
        window = np.s_[first[1] : last[1], first[0] : last[0]]
        x, y = (axis[window] - middle for axis, middle in zip(_pixels(self.size), centre, strict=True))
        (a, b), (c, d) = matrix / scale**2  # its determinant is scale²
        distance = shape(d * x - b * y, a * y - c * x, variant)
        solid = np.zeros((self.size, self.size), dtype=bool)
        solid[window] = distance <= 0
        seen = [mask & ~solid for mask in self.masks]
        if any(np.count_nonzero(mask) < self.level.visible * area for mask, area in zip(seen, self.areas, strict=True)):
            return
        paint = _paint(self.rng, self.size, window, self.level.calm, self.background)
        below = self.canvas[window]
        below += np.clip(0.5 - distance * (scale * self.size), 0, 1)[..., None] * (paint - below)
        self.masks = seen
        if label is not None:
            self.labels.append(label)
            self.masks.append(solid)
            self.areas.append(int(np.count_nonzero(solid)))

    def finish(self) -> Drawing:
        """Add light from one side and noise, round to 8 bits, and return the image with its annotations."""
        strength, *light = self.rng.random(3)
        x, y = _pixels(self.size)
        slope = (light[0] - 0.5) * x + (light[1] - 0.5) * y
        noise = self.rng.random((2, self.size, self.size, 3))
        image = self.canvas * (1 + 0.6 * slope)[..., None] + self.level.noise * strength * (noise[0] - noise[1])
        return Drawing(np.clip(np.rint(255 * image), 0, 255).astype(np.uint8), np.array(self.labels, dtype=np.int64), np.stack(self.masks))


@dataclass(frozen=True)
class Shapes:
    """The generated images of a split, numbered from 0. Raises BadOption for a value out of range."""

    split: Split
    n: int
    """The number of images. The images themselves do not depend on it."""
    size: int = 64
    """The side of the images in pixels. At another size, an image shows nearly the same scene."""
    seed: int = 0
    objects: Objects = "one"
    """Either "one" object in each image, for classification, or "several" (two or more), for detection and segmentation."""
    difficulty: Difficulty = "hard"

    def __post_init__(self) -> None:
        for option, kind in (("split", Split), ("objects", Objects), ("difficulty", Difficulty)):
            check_choice(f"generated shapes: {option}", getattr(self, option), get_args(kind))
        if self.n < 1:
            raise BadOption(f"n={self.n}: a set of generated shapes needs at least 1 image")
        if self.size < 16:
            raise BadOption(f"size={self.size}: generated shapes cannot be told apart below 16 pixels")
        if self.size > LARGEST:
            raise BadOption(f"size={self.size}: generated shapes have sides of at most {LARGEST:,} pixels")
        if not 0 <= self.seed < 2**32:
            raise BadOption(f"seed={self.seed}: generated shapes take a seed from 0 to {2**32 - 1}")

    @property
    def description(self) -> str:
        """One line that describes the images for reports and result files, and says that they are generated."""
        easy = "easy " if self.difficulty == "easy" else ""
        return (
            f"generated {easy}shapes (version {VERSION}, not photographs): {self.n:,} {self.split} images of {self.size} pixels, "
            f"{self.objects} object{'s' if self.objects == 'several' else ''} each, seed {self.seed}"
        )

    def __len__(self) -> int:
        return self.n

    def label(self, index: int) -> int:
        """Return the class of an image without drawing it. Images 10 k to 10 k + 9 contain each class once, in random order."""
        if not 0 <= index < self.n:
            raise IndexError(f"image {index} of {self.n}")
        block, place = divmod(index, len(CLASSES))
        return int(np.argsort(self._random("labels", block).random(len(CLASSES)))[place])

    def draw(self, index: int) -> Drawing:
        """Draw the image of this number, with its labels and masks."""
        label, level = self.label(index), LEVELS[self.difficulty]
        rng = self._random(self.objects, index)
        scene = _Scene(rng, self.size, level)
        for _ in range(0 if level.calm else int(3 * rng.random())):
            scene.add(DISTRACTORS[int(len(DISTRACTORS) * rng.random())], (0.08, 0.2))
        scene.add(SHAPES[CLASSES[label]], level.sides[self.objects], label)
        if self.objects == "several":
            wanted = 2 + int((level.most - 1) * rng.random())
            for _ in range(20):  # an object that would hide too much of another is not drawn
                if len(scene.labels) < wanted:
                    other = int(len(CLASSES) * rng.random())
                    scene.add(SHAPES[CLASSES[other]], level.sides["several"], other)
        for _ in range(0 if level.calm else int(2 * rng.random())):
            scene.add(OCCLUDERS[int(len(OCCLUDERS) * rng.random())], (0.1, 0.18))
        return scene.finish()

    def arrays(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """Draw all images, and return them as (n, size, size, 3) RGB with their (n,) labels."""
        images = np.empty((self.n, self.size, self.size, 3), dtype=np.uint8)
        labels = np.empty(self.n, dtype=np.int64)
        for index in range(self.n):
            drawing = self.draw(index)
            images[index], labels[index] = drawing.image, drawing.label
        return images, labels

    def _random(self, stream: str, index: int) -> np.random.Generator:
        key = (self.seed, get_args(Split).index(self.split), ("labels", *get_args(Objects)).index(stream), index)
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))


@functools.lru_cache(maxsize=4)
def draw_all(shapes: Shapes) -> tuple[Drawing, ...]:
    """Draw all images of a split. They are kept in memory for later calls, since drawing takes longer than a small network's step."""
    return tuple(shapes.draw(index) for index in range(shapes.n))
