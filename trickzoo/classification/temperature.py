"""Temperature scaling (Guo et al., arXiv 1706.04599): one number by which a classifier's confidence matches its accuracy.

The logits are divided by the temperature, which changes no prediction. The classifier is linear, so its weights and biases are divided
instead, and whatever uses the network afterwards gets calibrated logits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from trickzoo.backbone import Backbone
from trickzoo.classification.metrics import expected_calibration_error
from trickzoo.errors import NOT_FINITE, BadCheckpoint, BadData, BadOption

WIDEST = 1000.0
"""The largest temperature, and the inverse of the smallest one, that is considered."""


@dataclass(frozen=True)
class Calibrated:
    """What a temperature changes on held-out images.

    Attributes:
        temperature: the one that is fitted on all images.
        nll: the mean negative log-likelihood without a temperature, and with temperatures that were each fitted on the other half of the
            images.
        ece: the expected calibration error in percent, likewise.
        top1: accuracy in percent, which no temperature changes.
    """

    temperature: float
    nll: tuple[float, float]
    ece: tuple[float, float]
    top1: float


def fit(logits: NDArray[np.floating], labels: NDArray[np.int64]) -> float:
    """Return the temperature with the least negative log-likelihood of (n,) labels under (n, K) logits.

    The likelihood is log-concave in the inverse of the temperature, so the maximum is where its derivative is 0. Raises BadData if
    there is none between `1 / WIDEST` and `WIDEST`: if all images are classified correctly, or the logits are worse than chance. Also
    raises BadData without images, and BadCheckpoint for logits that are not finite.
    """
    from scipy.optimize import brentq

    if not len(labels):
        raise BadData("no temperature fits: there are too few images; name more images")
    if not np.isfinite(logits).all():
        raise BadCheckpoint(f"the network {NOT_FINITE}")
    scores = logits.astype(np.float64)
    scores -= scores.max(1, keepdims=True)
    of_labels = scores[np.arange(len(labels)), labels]

    def slope(inverse: float) -> float:
        weights = np.exp(inverse * scores)
        return float(((weights * scores).sum(1) / weights.sum(1) - of_labels).mean())

    if slope(1 / WIDEST) > 0:
        raise BadData("no temperature fits: the logits are no better than chance; check --classes and the labels, or train longer")
    if slope(WIDEST) < 0:
        raise BadData("no temperature fits: all images are classified correctly, so every lower one would fit better; name more images")
    return 1 / float(brentq(slope, 1 / WIDEST, WIDEST, xtol=1e-9))


def calibrate(logits: NDArray[np.floating], labels: NDArray[np.int64]) -> Calibrated:
    """Fit a temperature on held-out images, and state what it changes. Raises the errors of `fit`, also for a half of the images."""
    temperature = fit(logits, labels)
    halves = np.random.default_rng(0).permutation(len(labels)) % 2
    crossed = np.empty(len(labels))
    for half in (0, 1):
        crossed[halves == half] = fit(logits[halves != half], labels[halves != half])
    right = logits.argmax(1) == labels
    before, after = _log_probabilities(logits), _log_probabilities(logits / crossed[:, None])
    at = np.arange(len(labels)), labels
    return Calibrated(
        temperature=temperature,
        nll=(float(-before[at].mean()), float(-after[at].mean())),
        ece=(_ece(before, right), _ece(after, right)),
        top1=100 * float(right.mean()),
    )


def _ece(log_probabilities: NDArray[np.floating], right: NDArray[np.bool_]) -> float:
    return 100 * expected_calibration_error(np.exp(log_probabilities.max(1)), right)


def _log_probabilities(logits: NDArray[np.floating]) -> NDArray[np.floating]:
    from scipy.special import log_softmax

    return log_softmax(logits.astype(np.float64), axis=1)


def scale(model: Backbone, temperature: float) -> None:
    """Divide the weights and biases of a network's classifier by a temperature, in place.

    Raises BadOption if the network has no classifier, or one that is not a linear layer.
    """
    classifier = model.head.fc
    if not isinstance(classifier, nn.Linear):
        raise BadOption(f"{model.name}: head.fc is not a linear layer but {type(classifier).__name__}, which no temperature divides")
    for parameter in classifier.parameters():
        parameter.data /= temperature
