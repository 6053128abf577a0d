"""The training augmentation of the paper (section 2.1), TrivialAugment and random erasing, for whole batches on any device.

TrivialAugment and random erasing are not in the paper and are off by default. Random numbers are passed in as uniform draws, one row for
each image, so that an image does not depend on its batch, its process or its position. A row has `DRAWS` columns: `CROP` for the crop (ten
tries of an area, an aspect ratio and a position), four for flip and colour, three for PCA noise, three for TrivialAugment, and 1 + `CROP`
for erasing.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torchvision.ops import roi_align

from trickzoo.data.trivial_augment import trivial_augment
from trickzoo.recipes.recipe import Augmentation
from trickzoo.weights.record import IMAGENET_MEAN

TRIES = 10
CROP = 4 * TRIES
TRIVIAL = CROP + 7
ERASE = TRIVIAL + 3
DRAWS = ERASE + 1 + CROP

ERASED = Augmentation(area=(0.02, 1 / 3), aspect=(0.3, 10 / 3))
"""Ranges of the area and the aspect ratio of the erased rectangles (Zhong et al., arXiv 1708.04896)."""

# ImageNet's colour covariance in RGB, scaled to 0…255 (Krizhevsky et al. 2012; the values are those of the released script).
PCA_VALUES = (55.46, 4.794, 1.148)
PCA_VECTORS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))
LUMA = (0.299, 0.587, 0.114)


def crop_boxes(draws: Tensor, width: Tensor, height: Tensor, augmentation: Augmentation) -> Tensor:
    """Draw random crops: (n, ≥ CROP) draws and (n,) sides in pixels → (n, 4) boxes (x0, y0, x1, y1) with whole sides.

    Each of ten tries draws an area and a log-uniform aspect ratio. The first crop that fits into the image is used, at a random position.
    If none fits, the largest centred crop with an aspect ratio in the range is used. The distribution is that of torchvision's
    RandomResizedCrop; all images are computed at once.
    """
    tries = draws[:, :CROP].view(-1, TRIES, 4)
    w, h = width[:, None].to(draws), height[:, None].to(draws)
    low, high = augmentation.area
    area = w * h * (low + (high - low) * tries[..., 0])
    log_low, log_high = math.log(augmentation.aspect[0]), math.log(augmentation.aspect[1])
    aspect = torch.exp(log_low + (log_high - log_low) * tries[..., 1])
    cw, ch = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
    fits = (cw > 0) & (cw <= w) & (ch > 0) & (ch <= h)
    first = fits.int().argmax(1, keepdim=True)
    cw, ch = cw.gather(1, first)[:, 0], ch.gather(1, first)[:, 0]
    x0 = (tries[..., 2].gather(1, first)[:, 0] * (w[:, 0] - cw + 1)).floor()
    y0 = (tries[..., 3].gather(1, first)[:, 0] * (h[:, 0] - ch + 1)).floor()

    ratio = (w / h)[:, 0].clamp(augmentation.aspect[0], augmentation.aspect[1])
    whole_w, whole_h = torch.minimum(w[:, 0], (h[:, 0] * ratio).round()), torch.minimum(h[:, 0], (w[:, 0] / ratio).round())
    none = ~fits.any(1)
    cw, ch = torch.where(none, whole_w, cw), torch.where(none, whole_h, ch)
    x0 = torch.where(none, ((w[:, 0] - cw) / 2).floor(), x0)
    y0 = torch.where(none, ((h[:, 0] - ch) / 2).floor(), y0)
    return torch.stack([x0, y0, x0 + cw, y0 + ch], 1)


def crop_and_resize(images: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Cut one box out of each image: (n, 3, H, W) uint8 or float and (n, 4) boxes → (n, 3, size, size) float in 0…255.

    Pixels are averaged if the box is reduced, and interpolated if it is enlarged.
    """
    index = torch.arange(len(images), device=images.device, dtype=torch.float32)[:, None]
    return roi_align(images.float(), torch.cat([index, boxes.to(index)], 1), size, aligned=True)


def augment(images: Tensor, draws: Tensor, augmentation: Augmentation) -> Tensor:
    """Apply flip, TrivialAugment, colour jitter, PCA noise and erasing to cropped images.

    Brightness, saturation, and hue or contrast are each scaled by a factor from U[1 - jitter, 1 + jitter]. Hue is rotated by
    (factor - 1) · π, as in MXNet.

    Args:
        images: (n, 3, H, W) float in 0…255.
        draws: (n, DRAWS) uniform draws.
        augmentation: which of these are applied, and how strongly.

    Returns:
        (n, 3, H, W) float; values are not clipped to 0…255.
    """
    flip, *colour = draws[:, CROP : CROP + 4].to(images).unbind(1)
    noise = draws[:, CROP + 4 : CROP + 7].to(images)
    if augmentation.flip:
        images = torch.where((flip < augmentation.flip).view(-1, 1, 1, 1), images.flip(3), images)
    if augmentation.trivial:
        images = trivial_augment(images, draws[:, TRIVIAL:ERASE])
    if augmentation.jitter:
        brightness, saturation, third = ((1 + augmentation.jitter * (2 * u - 1)).view(-1, 1, 1, 1) for u in colour)
        images = images * brightness
        grey = _grey(images)
        images = grey + (images - grey) * saturation
        if augmentation.jitter_third == "contrast":
            mean = _grey(images).mean((2, 3), keepdim=True)
            images = mean + (images - mean) * third
        else:
            images = _turn_hue(images, (third.flatten() - 1) * math.pi)
    if augmentation.pca:
        alpha = augmentation.pca * torch.special.ndtri(noise.clamp(1e-6, 1 - 1e-6))
        vectors = torch.tensor(PCA_VECTORS, device=images.device, dtype=images.dtype)
        values = torch.tensor(PCA_VALUES, device=images.device, dtype=images.dtype)
        images = images + ((alpha * values) @ vectors.T).view(-1, 3, 1, 1)
    if augmentation.erasing:
        images = erase(images, draws[:, ERASE:], augmentation.erasing)
    return images


def erase(images: Tensor, draws: Tensor, probability: float) -> Tensor:
    """Fill a random rectangle of some images with ImageNet's mean colour, which normalisation maps to 0.

    Args:
        images: (n, 3, H, W) float in 0…255.
        draws: (n, 1 + CROP) uniform draws: the first decides whether the image is erased, the others give the rectangle as in `crop_boxes`.
        probability: the probability that an image is erased.
    """
    n, _, height, width = images.shape
    sides = torch.tensor([[width, height]]).expand(n, 2).to(draws)
    x0, y0, x1, y1 = (edge.view(-1, 1, 1, 1) for edge in crop_boxes(draws[:, 1:], sides[:, 0], sides[:, 1], ERASED).to(images).unbind(1))
    x = torch.arange(width, device=images.device).view(1, 1, 1, -1)
    y = torch.arange(height, device=images.device).view(1, 1, -1, 1)
    chosen = (draws[:, 0] < probability).to(images.device).view(-1, 1, 1, 1)
    inside = chosen & (x >= x0) & (x < x1) & (y >= y0) & (y < y1)
    mean = 255 * torch.tensor(IMAGENET_MEAN, device=images.device, dtype=images.dtype).view(3, 1, 1)
    return torch.where(inside, mean, images)


def _grey(images: Tensor) -> Tensor:
    weights = torch.tensor(LUMA, device=images.device, dtype=images.dtype).view(3, 1, 1)
    return (images * weights).sum(1, keepdim=True)


def _turn_hue(images: Tensor, angle: Tensor) -> Tensor:
    """Rotate the chroma plane of YIQ by (n,) angles in radians. Luma is unchanged."""
    to_yiq = torch.tensor([LUMA, (0.596, -0.274, -0.321), (0.211, -0.523, 0.311)], dtype=images.dtype)
    to_rgb = torch.linalg.inv(to_yiq).to(images.device)  # on a GPU the inverse would take longer than the rest
    cos, sin, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    turn = torch.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], 1).view(-1, 3, 3)
    matrix = to_rgb @ turn @ to_yiq.to(images.device)
    return torch.einsum("nij,njhw->nihw", matrix, images)
