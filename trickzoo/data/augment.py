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
from torch.nn import functional as F
from torchvision.ops import roi_align

from trickzoo.data.interpolation import WeightedSums, weighted_sums
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

VALUES = 2**20
"""Number of values of the images that are resized together on a CPU."""


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

    Pixels are averaged if the box is reduced, and interpolated if it is enlarged. On a CPU, weighted sums of rows and then of columns take
    a fraction of the time of torchvision's RoIAlign; the two differ by rounding errors.
    """
    boxes = boxes.to(images.device, torch.float32)
    if images.device.type != "cpu":
        index = torch.arange(len(images), device=images.device)[:, None]
        return roi_align(images.float(), torch.cat([index, boxes], 1), size, aligned=True)
    x0, y0, x1, y1 = boxes.unbind(1)
    vertical, horizontal = _resized(y0, y1, size, images.shape[2]), _resized(x0, x1, size, images.shape[3])
    crops = torch.empty(*images.shape[:2], size, size)
    together = max(1, VALUES // images.shape[1:].numel())  # only a few images fit into the processor's cache
    for first in range(0, len(images), together):
        part = slice(first, first + together)
        rows = _summed_rows(images[part].float(), WeightedSums(*(each[part] for each in vertical)))
        columns = _summed_rows(rows.transpose(2, 3), WeightedSums(*(each[part] for each in horizontal)))
        crops[part] = columns.transpose(2, 3)
    return crops


def _resized(first: Tensor, last: Tensor, size: int, length: int) -> WeightedSums:
    """Return the sums that resize what is between `first` and `last`, two (n,) tensors, of `length` rows or columns to `size` of them."""
    step = (last - first) / size
    return weighted_sums(first - 0.5, step, size, torch.full_like(step, length), step.ceil().clamp(min=1))


def _summed_rows(images: Tensor, sums: WeightedSums) -> Tensor:
    """Return weighted sums of the rows of each image: (n, C, H, W) and (n, size, K) places and weights → (n, C, size, W)."""
    n, channels, height, width = images.shape
    planes = height * torch.arange(n * channels).view(n, channels, 1, 1)
    bags = (planes + sums.places[:, None]).flatten(0, 2)
    weights = sums.weights[:, None].expand(-1, channels, -1, -1).flatten(0, 2)
    return F.embedding_bag(bags, images.reshape(-1, width), mode="sum", per_sample_weights=weights).view(n, channels, -1, width)


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
    flip = draws[:, CROP].to(images)
    if augmentation.flip:
        images = torch.where((flip < augmentation.flip).view(-1, 1, 1, 1), images.flip(3), images)
    if augmentation.trivial:
        images = trivial_augment(images, draws[:, TRIVIAL:ERASE])
    if augmentation.jitter or augmentation.pca:
        matrix, offset = _colour_change(images, draws[:, CROP + 1 : CROP + 7].to(images), augmentation)
        images = torch.baddbmm(offset, matrix, images.flatten(2)).view_as(images)
    if augmentation.erasing:
        images = erase(images, draws[:, ERASE:], augmentation.erasing)
    return images


def _colour_change(images: Tensor, draws: Tensor, augmentation: Augmentation) -> tuple[Tensor, Tensor]:
    """Return colour jitter and PCA noise as one affine change of RGB: (n, 3, 3) matrices and (n, 3, 1) offsets. `draws` is (n, 6)."""
    matrix, offset, luma = torch.eye(3).to(images).expand(len(images), 3, 3), images.new_zeros(len(images), 3, 1), images.new_tensor([LUMA])
    if augmentation.jitter:
        brightness, saturation, third = ((1 + augmentation.jitter * (2 * u - 1)).view(-1, 1, 1) for u in draws[:, :3].unbind(1))
        matrix = brightness * (saturation * matrix + (1 - saturation) * luma)
        if augmentation.jitter_third == "contrast":
            offset = (1 - third) * (luma @ matrix @ images.mean((2, 3))[..., None]).expand(-1, 3, 1)
            matrix = third * matrix
        else:
            matrix = _hue_turn((third.flatten() - 1) * math.pi) @ matrix
    if augmentation.pca:
        alpha = augmentation.pca * torch.special.ndtri(draws[:, 3:].clamp(1e-6, 1 - 1e-6))
        offset = offset + ((alpha * images.new_tensor(PCA_VALUES)) @ images.new_tensor(PCA_VECTORS).T)[..., None]
    return matrix, offset


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


def _hue_turn(angle: Tensor) -> Tensor:
    """Return the (n, 3, 3) matrices that rotate the chroma plane of YIQ by (n,) angles in radians. Luma is unchanged."""
    to_yiq = torch.tensor([LUMA, (0.596, -0.274, -0.321), (0.211, -0.523, 0.311)], dtype=angle.dtype)
    to_rgb = torch.linalg.inv(to_yiq).to(angle.device)  # on a GPU the inverse would take longer than the rest
    cos, sin, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    turn = torch.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], 1).view(-1, 3, 3)
    return to_rgb @ turn @ to_yiq.to(angle.device)
