"""CutMix (Yun et al., arXiv 1905.04899). Not in the paper."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from trickzoo.errors import BadOption, NoEffect
from trickzoo.tricks.label_smoothing import check_probabilities


def cutmix(images: Tensor, target: Tensor, alpha: float = 1.0) -> tuple[Tensor, Tensor]:
    """Paste a rectangle of another image of the batch into each image, and mix the targets in proportion to its area.

    A batch has one rectangle and one λ ~ Beta(α, α). The sides of the rectangle are √(1 - λ) times those of the image. Its centre is
    uniformly distributed, and it is clipped at the border. The weights of the targets follow from the clipped area. Random numbers come
    from torch's global generator on the CPU.

    Args:
        images: (N, C, H, W) float.
        target: (N, K) floating-point probabilities of two or more classes. If labels are smoothed, they must be smoothed already.
        alpha: α of the Beta distribution.

    Returns:
        Mixed images and targets of the same shapes.

    Raises:
        NoEffect: if the batch has only one image.
        BadOption: if alpha is not above 0, or if the target is not as above.
    """
    n, _, height, width = images.shape
    check_probabilities("cutmix", target, n)
    if alpha <= 0:
        raise BadOption(f"cutmix: alpha must be above 0, not {alpha}")
    if n < 2:
        raise NoEffect("cutmix", "the batch has one image")
    lam = torch.distributions.Beta(alpha, alpha).sample().item()
    x0, y0, x1, y1 = rectangle(lam, torch.rand(2).tolist(), width, height)
    partner = torch.randperm(n).to(images.device)
    mixed = images.clone()
    mixed[:, :, y0:y1, x0:x1] = images[partner, :, y0:y1, x0:x1]
    part = (x1 - x0) * (y1 - y0) / (width * height)
    return mixed, (1 - part) * target + part * target[partner]


def rectangle(lam: float, centre: list[float], width: int, height: int) -> tuple[int, int, int, int]:
    """Return the rectangle (x0, y0, x1, y1) in pixels: sides √(1 - λ) times the image's, clipped at the border. The centre is in [0, 1]."""
    cut = math.sqrt(1 - lam)
    cx, cy = int(centre[0] * width), int(centre[1] * height)
    half_w, half_h = int(cut * width) // 2, int(cut * height) // 2
    return max(cx - half_w, 0), max(cy - half_h, 0), min(cx + half_w, width), min(cy + half_h, height)
