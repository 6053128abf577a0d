"""The functions of the common corruptions of Hendrycks and Dietterich (arXiv 1903.12261), one a kind.

Formulas are those of the authors' program that made ImageNet-C. Lengths in pixels are for images of 224 × 224 pixels, and are not scaled
for other sizes. The motion of `motion_blur` and `snow` is computed by ImageMagick's formula, without ImageMagick.
"""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

Pixels = NDArray[np.uint8]
"""An image, (side, side, 3)."""
Floats = NDArray[np.floating[Any]]
LUMA = np.array([0.299, 0.587, 0.114])


def _stored(image: Floats) -> Pixels:
    """Return an image in 0…1 as bytes, cut down to whole numbers as the authors' program does."""
    return (255 * np.clip(image, 0, 1)).astype(np.uint8)


def _stored_by_imagemagick(image: Floats) -> Pixels:
    """Return an image in 0…1 as bytes, rounded to 16 bits and then cut down to 8, as ImageMagick 6 writes it."""
    return (np.floor(65535 * image + 0.5) // 257).astype(np.uint8)


# ---------------------------------------------------------------------------------------------------------------------
# noise


def gaussian_noise(pixels: Pixels, random: np.random.Generator, deviation: float) -> Pixels:
    """Add normal noise of this standard deviation, as a fraction of white."""
    return _stored(pixels / 255 + random.normal(scale=deviation, size=pixels.shape))


def shot_noise(pixels: Pixels, random: np.random.Generator, photons: float) -> Pixels:
    """Draw the number of photons of each value from Poisson's distribution; white has `photons` on average."""
    return _stored(random.poisson(pixels / 255 * photons) / photons)


def impulse_noise(pixels: Pixels, random: np.random.Generator, amount: float) -> Pixels:
    """Replace this fraction of the values by 0 or 255, with equal probability."""
    replaced, white = random.random(pixels.shape) <= amount, random.random(pixels.shape) <= 0.5
    return np.where(replaced, np.where(white, 255, 0), pixels).astype(np.uint8)


# ---------------------------------------------------------------------------------------------------------------------
# blur


def defocus_blur(pixels: Pixels, random: np.random.Generator, radius: int, deviation: float) -> Pixels:
    """Average over a disk of this radius in pixels, whose edge is smoothed with this deviation."""
    from scipy.ndimage import correlate1d

    reach = max(radius, 8)
    offsets = np.arange(-reach, reach + 1)
    disk = (offsets**2 + offsets[:, None] ** 2 <= radius**2).astype(float)
    taps = np.exp(-((np.arange(3 if radius <= 8 else 5) - (1 if radius <= 8 else 2)) ** 2) / (2 * deviation**2))
    for axis in (0, 1):
        disk = correlate1d(disk, taps / taps.sum(), axis, mode="mirror")
    padded = np.pad(pixels / 255, ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    images = torch.from_numpy(padded).permute(2, 0, 1)[:, None]
    blurred = F.conv2d(images.float(), torch.from_numpy(disk / (offsets**2 + offsets[:, None] ** 2 <= radius**2).sum())[None, None].float())
    return _stored(blurred[:, 0].permute(1, 2, 0).numpy())


def glass_blur(pixels: Pixels, random: np.random.Generator, deviation: float, reach: int, rounds: int) -> Pixels:
    """Blur, replace each pixel by one at most `reach` pixels away, in `rounds` rounds, and blur again."""
    from scipy.ndimage import gaussian_filter

    def blur(image: Floats) -> Floats:
        return gaussian_filter(image, (deviation, deviation, 0), mode="nearest")

    image = _stored(blur(pixels / 255))
    for _ in range(rounds):
        image = image.reshape(-1, 3)[_moved(random, image.shape[0], reach)].reshape(image.shape)
    return _stored(blur(image / 255))


def _moved(random: np.random.Generator, side: int, reach: int) -> NDArray[np.int64]:
    """Return the place that each pixel's value comes from, after one round of `glass_blur`.

    The authors' program goes over the inner pixels from the last to the first, and copies to each the value that a pixel nearby has at that
    time. (It was meant to exchange them.) That value is original if the pixel nearby comes later or is at the border. Otherwise it
    comes from elsewhere, so each place is followed to its source.
    """
    inner = np.arange(side - reach, reach, -1)
    rows, columns = np.meshgrid(inner, inner, indexing="ij")
    across, down = np.moveaxis(random.integers(-reach, reach, size=(*rows.shape, 2)), 2, 0)
    here = (rows * side + columns).ravel()
    there = ((rows + down) * side + columns + across).ravel()
    source = np.arange(side * side)
    source[here] = there
    order = np.full(side * side, len(here))  # the step in which each place is written; places at the border never are
    order[here] = np.arange(len(here))
    ends = order[source] >= order  # the value there is original
    place = np.arange(side * side)
    while True:
        ended = ends[place]
        if ended.all():
            return source[place]
        place = np.where(ended, place, source[place])


def motion_blur(pixels: Pixels, random: np.random.Generator, radius: int, deviation: float) -> Pixels:
    """Blur along a direction of at most 45° from the horizontal."""
    return _stored_by_imagemagick(_moving(pixels / 255, radius, deviation, random.uniform(-45, 45)))


def _moving(image: Floats, radius: int, deviation: float, degrees: float) -> Floats:
    """Return the mean of an image over its shifts along a direction, weighted by half a normal curve, as ImageMagick's motion blur.

    Values beyond the border are those of the border.
    """
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2 * deviation**2))
    angle = math.radians(degrees)
    rows, columns = (np.ceil(steps * part - 0.5).astype(int) for part in (math.sin(angle), math.cos(angle)))
    last = np.array(image.shape[:2]) - 1
    blurred = np.zeros(image.shape)
    for weight, down, across in zip(weights / weights.sum(), rows, columns, strict=True):
        row, column = (np.clip(np.arange(n + 1) + by, 0, n) for n, by in zip(last, (down, across), strict=True))
        blurred += weight * image[row[:, None], column]
    return blurred


def zoom_blur(pixels: Pixels, random: np.random.Generator, last: float, step: float) -> Pixels:
    """Average the image with its enlargements by 1, 1 + step, …, below `last`."""
    image = torch.from_numpy(pixels / 255).float()
    factors = np.arange(1, last, step)
    return _stored((sum((_enlarged(image, factor) for factor in factors), image) / (len(factors) + 1)).numpy())


def _enlarged(image: Tensor, factor: float) -> Tensor:
    """Return the middle of a (side, side, c) image, enlarged by a factor to the same size. The corners stay at the corners."""
    side = image.shape[0]
    part = math.ceil(side / factor)
    first = (side - part) // 2
    middle = image[first : first + part, first : first + part].permute(2, 0, 1)[None]
    size = round(part * factor)
    large = F.interpolate(middle, size=(size, size), mode="bilinear", align_corners=True)[0].permute(1, 2, 0)
    cut = (size - side) // 2
    return large[cut : cut + side, cut : cut + side]


# ---------------------------------------------------------------------------------------------------------------------
# weather


def snow(
    pixels: Pixels,
    random: np.random.Generator,
    mean: float,
    spread: float,
    flake: float,
    threshold: float,
    radius: int,
    deviation: float,
    kept: float,
) -> Pixels:
    """Whiten the image, and add flakes that fall along a direction, and the same flakes turned by 180°.

    Flakes are the values above the threshold in normal noise, enlarged by a factor.
    """
    layer = _enlarged(torch.from_numpy(random.normal(mean, spread, size=pixels.shape[:2]))[..., None], flake)[..., 0].numpy()
    layer = _stored(np.where(layer < threshold, 0, layer)) / 255
    layer = _stored_by_imagemagick(_moving(layer, radius, deviation, random.uniform(-135, -45))) / 255
    image = pixels / 255
    whitened = np.maximum(image, (image @ LUMA)[..., None] * 1.5 + 0.5)
    return _stored(kept * image + (1 - kept) * whitened + (layer + np.rot90(layer, 2))[..., None])


def fog(pixels: Pixels, random: np.random.Generator, thickness: float, decay: float) -> Pixels:
    """Add a random cloud, and scale the image so that its largest value stays."""
    image, side = pixels / 255, pixels.shape[0]
    cloud = _plasma(random, 2 ** max(math.ceil(math.log2(side)), 1), decay)[:side, :side, None]
    largest = image.max()
    return _stored((image + thickness * cloud) * largest / (largest + thickness))


def _plasma(random: np.random.Generator, side: int, decay: float) -> Floats:
    """Return a (side, side) height map in 0…1 by the diamond-square algorithm, whose edges meet. `side` is a power of two."""
    heights, wibble, step = np.zeros((side, side)), 100.0, side

    def filled(total: Floats) -> Floats:
        return total / 4 + wibble * random.uniform(-wibble, wibble, total.shape)

    while step >= 2:
        half = step // 2
        corners = heights[::step, ::step]
        total = corners + np.roll(corners, -1, 0)
        heights[half::step, half::step] = middles = filled(total + np.roll(total, -1, 1))
        heights[::step, half::step] = filled(middles + np.roll(middles, 1, 0) + corners + np.roll(corners, -1, 1))
        heights[half::step, ::step] = filled(middles + np.roll(middles, 1, 1) + corners + np.roll(corners, -1, 0))
        step, wibble = half, wibble / decay
    heights -= heights.min()
    return heights / heights.max()


def brightness(pixels: Pixels, random: np.random.Generator, added: float) -> Pixels:
    """Add to the value of each pixel in HSV. With equal hue and saturation, the three channels grow in proportion."""
    image = pixels / 255
    value = image.max(2, keepdims=True)
    brighter = np.minimum(value + added, 1)
    return _stored(np.where(value > 0, image * brighter / np.where(value > 0, value, 1), brighter))


# ---------------------------------------------------------------------------------------------------------------------
# digital


def contrast(pixels: Pixels, random: np.random.Generator, kept: float) -> Pixels:
    """Bring each channel nearer to its mean over the image."""
    image = pixels / 255
    mean = image.mean((0, 1))
    return _stored((image - mean) * kept + mean)


def elastic_transform(pixels: Pixels, random: np.random.Generator, strength: float, deviation: float, corner: float) -> Pixels:
    """Map three points to random ones at most `corner` pixels away, and then move each pixel along a smooth random field."""
    from scipy.ndimage import map_coordinates

    side = pixels.shape[0]
    middle, third = side // 2, side // 3
    before = np.array([[middle + third, middle + third], [middle + third, middle - third], [middle - third, middle - third]], float)
    after = before + random.uniform(-corner, corner, size=before.shape)
    backward = np.linalg.solve(np.c_[after, np.ones(3)], before)  # (x, y, 1) of the result times this is (x, y) of the source
    rows, columns = np.mgrid[:side, :side].astype(float)
    x, y = np.moveaxis(np.stack([columns, rows, np.ones_like(rows)], axis=2) @ backward, 2, 0)
    across, down = (strength * _smooth(random.uniform(-1, 1, size=(side, side)), deviation) for _ in range(2))
    moved = []
    for channel in np.moveaxis(pixels / 255, 2, 0):
        turned = map_coordinates(channel, [y, x], order=1, mode="mirror")
        moved.append(map_coordinates(turned, [rows + down, columns + across], order=1, mode="reflect"))
    return _stored(np.stack(moved, axis=2))


def _smooth(field: Floats, deviation: float) -> Floats:
    """Return a field after a Gaussian filter that is cut off at three deviations, with mirrored borders.

    The filter is a product in the basis of the cosine transform, whatever its length.
    """
    from scipy.fft import dctn, idctn

    reach = int(3 * deviation + 0.5)
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    responses = [np.cos(np.pi * np.outer(np.arange(n) / n, np.arange(-reach, reach + 1))) @ (taps / taps.sum()) for n in field.shape]
    return idctn(dctn(field, norm="ortho") * np.outer(*responses), norm="ortho")


def pixelate(pixels: Pixels, random: np.random.Generator, scale: float) -> Pixels:
    """Reduce the image to this scale, and enlarge it again, by averages over boxes."""
    side = pixels.shape[0]
    small = max(int(side * scale), 1)
    reduced = Image.fromarray(pixels).resize((small, small), Image.Resampling.BOX)
    return np.array(reduced.resize((side, side), Image.Resampling.BOX))


def jpeg_compression(pixels: Pixels, random: np.random.Generator, quality: int) -> Pixels:
    """Write the image as JPEG with this quality, and read it again."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file, formats=["JPEG"]).convert("RGB"))
