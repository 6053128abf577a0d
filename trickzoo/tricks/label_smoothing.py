"""Label smoothing (section 5.2, after Szegedy et al., arXiv 1512.00567)."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from trickzoo.errors import BadOption, check_choice

Form = Literal["paper", "uniform"]


def smooth_labels(labels: Tensor, num_classes: int, epsilon: float = 0.1, *, form: Form = "paper") -> Tensor:
    """Return target probabilities (N, num_classes) for class indices (N,).

    "paper": 1 - ε for the true class and ε / (K - 1) for each of the others. "uniform": the usual mixture with the uniform distribution,
    1 - ε + ε / K and ε / K, which the released script and torch's `CrossEntropyLoss(label_smoothing=ε)` use.

    Raises BadOption for another form, and unless 0 ≤ ε < 1 and there are at least two classes.
    """
    check_choice("label smoothing: form", form, get_args(Form))
    if not 0 <= epsilon < 1 or num_classes < 2:
        raise BadOption(f"label smoothing: epsilon in [0, 1) and two classes are wanted, not {epsilon} and {num_classes}")
    other = epsilon / (num_classes - 1) if form == "paper" else epsilon / num_classes
    true = 1 - epsilon if form == "paper" else 1 - epsilon + other
    target = torch.full((len(labels), num_classes), other, device=labels.device)
    return target.scatter_(1, labels[:, None], true)


def soft_cross_entropy(logits: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean cross-entropy of (N, K) logits against (N, K) target probabilities, in fp32.

    `weights` (K,) multiply the terms of the classes, as those of torch's `cross_entropy` do for target probabilities. Raises BadOption if
    the target is not (N, K).
    """
    check_probabilities("soft cross-entropy", target, len(logits))
    if weights is not None:
        target = target * weights
    return -(target * F.log_softmax(logits.float(), 1)).sum(1).mean()


def check_probabilities(what: str, target: Tensor, n: int) -> None:
    """Raise BadOption if the target is not (n, K), such as class indices, which would be broadcast. `what` begins the message."""
    if target.ndim != 2 or len(target) != n:
        raise BadOption(
            f"{what}: target probabilities ({n}, K) are wanted, not the shape {tuple(target.shape)}; "
            "smooth_labels(labels, K, 0.0) turns class indices into them"
        )
