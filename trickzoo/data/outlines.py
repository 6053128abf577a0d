"""The outlines of the generated shapes, of the ten classes and of the shapes of no class. A change increases `shapes.VERSION`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float64]
Shape: TypeAlias = Callable[[Array, Array, float], Array]
"""(x, y, variant in 0…1) → the approximate signed distance to the outline, negative inside. Outlines lie within ±1.8 in x and y."""


def _fold(x: Array, y: Array, sectors: int) -> tuple[Array, Array]:
    """Map the points of the plane into one half sector next to the x axis, by rotation and reflection."""
    angle = 2 * np.pi / sectors
    turned = np.abs((np.arctan2(y, x) + angle / 2) % angle - angle / 2)
    return np.hypot(x, y) * np.cos(turned), np.hypot(x, y) * np.sin(turned)


def _box(x: Array, y: Array, half_width: float, half_height: float) -> Array:
    return np.maximum(np.abs(x) - half_width, np.abs(y) - half_height)


def _star(x: Array, y: Array, variant: float) -> Array:
    inner = 0.4 + 0.1 * variant
    across, along = inner * np.sin(np.pi / 5), 1 - inner * np.cos(np.pi / 5)
    x, y = _fold(x, y, 5)
    return (across * (x - 1) + along * y) / np.hypot(across, along)


def _bar(x: Array, y: Array, variant: float) -> Array:
    return np.hypot(np.maximum(np.abs(x) - 1, 0), y) - 0.1 - 0.1 * variant


def _bent_bar(x: Array, y: Array, variant: float) -> Array:
    cos, sin = np.cos(0.5 + 0.4 * variant), np.sin(0.5 + 0.4 * variant)
    x, y = x + 0.7, np.abs(y)
    return _bar(x * cos + y * sin - 1, y * cos - x * sin, variant)


def _wave(x: Array, y: Array, variant: float) -> Array:
    return np.maximum(np.abs(x) - 1.2, 0.7 * np.abs(y - 0.3 * np.sin(5 * x)) - 0.08 - 0.08 * variant)


def _clover(x: Array, y: Array, variant: float) -> Array:
    return np.hypot(_fold(x, y, 3)[0] - 0.5, _fold(x, y, 3)[1]) - 0.46 - 0.08 * variant


SHAPES: dict[str, Shape] = {
    "arrow": lambda x, y, v: np.minimum(_box(x + 0.45, y, 0.55, 0.2 + 0.12 * v), np.maximum(-x, 0.77 * np.abs(y) + 0.62 * (x - 1))),
    "crescent": lambda x, y, v: np.maximum(np.hypot(x, y) - 1, 0.85 - np.hypot(x - 0.4 - 0.2 * v, y)),
    "cross": lambda x, y, v: np.minimum(_box(x, y, 1, 0.27 + 0.13 * v), _box(x, y, 0.27 + 0.13 * v, 1)),
    "disc": lambda x, y, v: np.hypot(x, y) - 1,
    "heart": lambda x, y, v: np.minimum(_box(x, y, 0.6, 0.6), np.minimum(np.hypot(x - 0.6, y), np.hypot(x, y - 0.6)) - 0.6),
    "hourglass": lambda x, y, v: np.maximum(np.abs(y) - 1, 0.8 * (np.abs(x) - 0.8 * np.abs(y) - 0.08 - 0.12 * v * (1 - np.abs(y)))),
    "ring": lambda x, y, v: np.abs(np.hypot(x, y) - 0.73 - 0.07 * v) - 0.27 + 0.07 * v,
    "square": lambda x, y, v: _box(x, y, 1, 1),
    "star": _star,
    "triangle": lambda x, y, v: np.maximum(0.87 * np.abs(x) + 0.5 * y, -y) - 0.5,
}
DISTRACTORS: tuple[Shape, ...] = (_bar, _bent_bar, _wave, _clover)
"""Shapes that belong to no class, drawn below the objects."""
OCCLUDERS: tuple[Shape, ...] = (_bar, _wave)
"""Shapes that belong to no class, drawn on top of the objects."""


@functools.cache
def measure(shape: Shape, variant: float) -> tuple[float, Array]:
    """Return the area of a shape, and its (2, 64) farthest points in 64 directions."""
    points = np.linspace(-1.8, 1.8, 200)
    x, y = (axis.ravel() for axis in np.meshgrid(points, points))
    inside = np.stack([x, y])[:, shape(x, y, variant) <= 0]
    turns = np.arange(64) * (2 * np.pi / 64)
    farthest = np.argmax(np.cos(turns)[:, None] * inside[0] + np.sin(turns)[:, None] * inside[1], axis=1)
    return inside.shape[1] * float(points[1] - points[0]) ** 2, inside[:, farthest]
