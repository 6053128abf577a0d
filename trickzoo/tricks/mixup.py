"""Mixup (section 5.4, after Zhang et al., arXiv 1710.09412)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from trickzoo.errors import BadOption, NoEffect

Form = Literal["paper", "official"]


def mixup(images: Tensor, target: Tensor, alpha: float = 0.2, *, form: Form = "paper") -> tuple[Tensor, Tensor]:
    """Mix each image of a batch with another: x = λ xᵢ + (1 - λ) xⱼ, and the targets alike, λ ~ Beta(α, α).

    Randomness is torch's global generator of the CPU.

    Args:
        images: (N, C, H, W) float.
        target: (N, K) probabilities: smooth first, then mix.
        alpha: of the Beta distribution; the paper's is 0.2.
        form: "paper" draws λ for each image and pairs images at random; "official" draws one λ a step and pairs the batch with its reverse.

    Returns:
        Mixed images and targets of the same shapes. Only these are trained on.

    Raises:
        NoEffect: for a batch of one image, which has no partner.
    """
    n = len(images)
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
