"""Classifiers on fixed features: the nearest neighbours, and a linear probe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

TEMPERATURE = 0.07
"""The temperature of the votes of the nearest neighbours (Wu et al., arXiv 1805.01978, section 3.4)."""
STRENGTHS = tuple(10 ** (power / 2) for power in range(2, -11, -1))
"""The strengths of the L2 penalty that a linear probe chooses from, from 10 to 0.00001."""
BLOCK = 1024
"""How many images are compared with the training images at a time."""


def nearest_neighbours(train: Tensor, labels: Tensor, images: Tensor, k: int) -> Tensor:
    """Return (m,) the class that the k training images with the most similar features vote for.

    The similarity s is the cosine of the angle between two features, and the weight of a vote is exp(s / 0.07), as in Wu et al.

    Args:
        train: (n, d) features of the training images.
        labels: (n,) their classes.
        images: (m, d) features of the images to classify.
        k: number of neighbours; all n if there are fewer.
    """
    reference, found = F.normalize(train, dim=1), []
    classes = int(labels.max()) + 1
    for block in F.normalize(images, dim=1).split(BLOCK):
        similarity, nearest = (block @ reference.T).topk(min(k, len(train)), dim=1)
        votes = torch.zeros(len(block), classes).scatter_add_(1, labels[nearest], ((similarity - 1) / TEMPERATURE).exp())
        found.append(votes.argmax(1))
    return torch.cat(found)


@dataclass(frozen=True)
class LinearProbe:
    """A linear classifier of features.

    Attributes:
        mean, deviation: (d,) mean and standard deviation of each feature over the training images, by which features are standardised.
        coefficients: (d + 1, classes) weights of the standardised features, and in the last row the biases.
        l2: strength of the penalty that it was fitted with.
    """

    mean: Tensor
    deviation: Tensor
    coefficients: Tensor
    l2: float

    def logits(self, features: Tensor) -> Tensor:
        """Return the (m, classes) logits of (m, d) features."""
        return ((features - self.mean) / self.deviation) @ self.coefficients[:-1] + self.coefficients[-1]


def fit_probe(features: Tensor, labels: Tensor, classes: int, l2: float, start: Tensor | None = None) -> LinearProbe:
    """Fit a linear probe: multinomial logistic regression of standardised features, by L-BFGS.

    It minimises the mean cross-entropy + l2 / 2 · the sum of the squared weights. The biases are not penalised.

    Args:
        features: (n, d) features.
        labels: (n,) their classes.
        classes: number of classes.
        l2: strength of the penalty, above 0.
        start: (d + 1, classes) coefficients to begin with; by default zeros. The probabilities do not depend on them.
    """
    mean, deviation = features.mean(0), features.std(0, correction=0)
    deviation = torch.where(deviation > 0, deviation, 1)
    inputs = (features - mean) / deviation
    coefficients = torch.zeros(features.shape[1] + 1, classes) if start is None else start.clone()
    coefficients.requires_grad_(True)
    optimiser = torch.optim.LBFGS([coefficients], max_iter=500, tolerance_grad=1e-6, tolerance_change=1e-9, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        logits = inputs @ coefficients[:-1] + coefficients[-1]
        loss = F.cross_entropy(logits, labels) + l2 / 2 * coefficients[:-1].square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    return LinearProbe(mean, deviation, coefficients.detach(), l2)


def choose_probe(features: Tensor, labels: Tensor, classes: int, held_out: Tensor, strengths: Sequence[float] = STRENGTHS) -> LinearProbe:
    """Return the linear probe of all training images, with the strength of the penalty that is best for a part of them.

    The strength is the one with the lowest cross-entropy on the images that are held out, after a fit on the others.

    Args:
        features: (n, d) features of the training images.
        labels: (n,) their classes.
        classes: number of classes.
        held_out: (n,) whether each image is held out.
        strengths: the strengths to choose from; each fit begins with the coefficients of the one before.
    """
    fitted: LinearProbe | None = None
    losses: list[float] = []
    for l2 in strengths:
        fitted = fit_probe(features[~held_out], labels[~held_out], classes, l2, None if fitted is None else fitted.coefficients)
        losses.append(float(F.cross_entropy(fitted.logits(features[held_out]), labels[held_out])))
    return fit_probe(features, labels, classes, strengths[losses.index(min(losses))])
