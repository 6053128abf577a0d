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

    Raises BadOption for another form, for labels that are not whole numbers (N,), and unless 0 ≤ ε < 1 and there are at least two classes.
    """
    check_choice("label smoothing: form", form, get_args(Form))
    if not 0 <= epsilon < 1 or num_classes < 2:
        raise BadOption(
            f"label smoothing: epsilon must be in [0, 1) and there must be two classes or more, not {epsilon} and {num_classes}"
        )
    if labels.ndim != 1 or labels.dtype == torch.bool or labels.is_floating_point() or labels.is_complex():
        raise BadOption(f"label smoothing: labels must be (N,) class indices, not the shape {tuple(labels.shape)} of {labels.dtype}")
    other = epsilon / (num_classes - 1) if form == "paper" else epsilon / num_classes
    true = 1 - epsilon if form == "paper" else 1 - epsilon + other
    target = torch.full((len(labels), num_classes), other, device=labels.device)
    return target.scatter_(1, labels.long()[:, None], true)


def soft_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Return the mean cross-entropy of (N, K) logits against (N, K) target probabilities, in fp32.

    Probabilities that are multiplied by a weight of their image weigh its term in the mean. Raises BadOption if the target is not (N, K)
    floating point, and for fewer than two classes.
    """
    check_probabilities("soft cross-entropy", target, len(logits), logits.shape[1])
    return -(target * F.log_softmax(logits.float(), 1)).sum(1).mean()


def check_probabilities(what: str, target: Tensor, n: int, num_classes: int | None = None) -> None:
    """Raise BadOption if the target is not (n, K) floating point with K ≥ 2, such as class indices, which would be broadcast or mixed.

    K is the number of classes if it is given. `what` begins the message.
    """
    shape, classes = tuple(target.shape), "K" if num_classes is None else num_classes
    if len(shape) != 2 or len(target) != n or shape[1] < 2 or shape[1] != (num_classes or shape[1]) or not target.is_floating_point():
        raise BadOption(
            f"{what}: the target must be ({n}, {classes}) floating-point probabilities of two or more classes, not the shape {shape} of "
            f"{target.dtype}; smooth_labels(labels, {classes}, 0.0) turns class indices into them"
        )
