"""Mixup (section 5.4, after Zhang et al., arXiv 1710.09412)."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from trickzoo.errors import BadOption, NoEffect, check_choice
from trickzoo.tricks.label_smoothing import check_probabilities

Form = Literal["paper", "official"]


def mixup(images: Tensor, target: Tensor, alpha: float = 0.2, *, form: Form = "paper") -> tuple[Tensor, Tensor]:
    """Mix each image of a batch with another, x = λ xᵢ + (1 - λ) xⱼ with λ ~ Beta(α, α), and their targets in the same way.

    Random numbers come from torch's global generator on the CPU.

    Args:
        images: (N, C, H, W) float.
        target: (N, K) floating-point probabilities of two or more classes. If labels are smoothed, they must be smoothed already.
        alpha: α of the Beta distribution, which is 0.2 in the paper.
        form: "paper" draws λ for each image and pairs images at random. "official" draws one λ for the batch and pairs it with its reverse.

    Returns:
        Mixed images and targets of the same shapes, which replace the originals in the training.

    Raises:
        NoEffect: if the batch has only one image.
        BadOption: for another form, an alpha not above 0, and images or a target that are not as above.
    """
    check_choice("mixup: form", form, get_args(Form))
    n = len(images)
    check_probabilities("mixup", target, n)
    if not images.is_floating_point():
        raise BadOption(f"mixup: the images must have a floating-point type, not {images.dtype}")
    if images.ndim != 4:  # λ would be broadcast over other dimensions than that of the batch
        raise BadOption(f"mixup: the images must be (N, C, H, W), not of shape {tuple(images.shape)}")
    if alpha <= 0:
        raise BadOption(f"mixup: alpha must be above 0, not {alpha}")
    if n < 2:
        raise NoEffect("mixup", "the batch has one image")
    beta = torch.distributions.Beta(alpha, alpha)
    if form == "paper":
        lam, partner = beta.sample((n,)), torch.randperm(n)
    else:
        lam, partner = beta.sample((1,)).expand(n), torch.arange(n - 1, -1, -1)
    lam, partner = lam.to(images), partner.to(images.device)
    wide, tall = lam.view(-1, 1, 1, 1), lam.view(-1, 1)
    return wide * images + (1 - wide) * images[partner], tall * target + (1 - tall) * target[partner]
