"""The confusion matrix against scikit-learn's, and the figures that are computed from it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score

from trickzoo.errors import BadCheckpoint
from trickzoo.segmentation import metrics
from trickzoo.segmentation.metrics import ConfusionMatrix, intersection_over_union, pixel_accuracy

CLASSES = ("background", "cat", "dog", "bird")
TRUTH = arrays(np.uint8, (2, 4, 5), elements=st.sampled_from([0, 1, 2, 2, 255]))
PREDICTED = arrays(np.uint8, (2, 4, 5), elements=st.sampled_from([0, 1, 2, 3]))


@settings(deadline=None)
@given(pairs=st.lists(st.tuples(TRUTH, PREDICTED), min_size=1, max_size=3))
def test_as_scikit_learn_counts(pairs):
    matrix = ConfusionMatrix(CLASSES)
    for truth, predicted in pairs:
        matrix.add(torch.from_numpy(predicted), torch.from_numpy(truth))
    matrix.gather()
    truth, predicted = (np.stack(column).ravel() for column in zip(*pairs, strict=True))
    truth, predicted = truth[truth != 255], predicted[truth != 255]
    summary = matrix.summary()
    json.dumps(summary, allow_nan=False)
    assert summary["pixels"] == len(truth)
    if not len(truth):
        assert summary["miou"] is None and summary["pixel_accuracy"] is None
        return
    assert np.array_equal(matrix.counts, confusion_matrix(truth, predicted, labels=range(4)))
    assert pixel_accuracy(matrix.counts) == pytest.approx(accuracy_score(truth, predicted))
    present = sorted({*truth.tolist(), *predicted.tolist()})
    ratios = jaccard_score(truth, predicted, labels=present, average=None, zero_division=0)
    assert intersection_over_union(matrix.counts)[present].tolist() == pytest.approx(ratios.tolist())
    assert summary["miou"] == pytest.approx(100 * ratios.mean(), abs=1e-4)
    assert [name for name, value in summary["per_class"].items() if value is None] == [CLASSES[i] for i in range(4) if i not in present]


def test_by_hand():
    matrix = ConfusionMatrix(CLASSES[:3])
    matrix.add(torch.tensor([[0, 0, 1], [1, 2, 2]]), torch.tensor([[0, 1, 1], [1, 255, 0]]))
    matrix.gather()
    assert matrix.counts.tolist() == [[1, 0, 1], [1, 2, 0], [0, 0, 0]]
    assert matrix.summary() == {
        "pixels": 5,
        "miou": round(100 * (1 / 3 + 2 / 3 + 0) / 3, 4),
        "pixel_accuracy": 60.0,
        "per_class": {"background": 33.3333, "cat": 66.6667, "dog": 0.0},
    }


def test_no_pixel_has_no_accuracy():
    assert np.isnan(pixel_accuracy(ConfusionMatrix(CLASSES).counts))


def test_large_masks_are_counted_in_strips(monkeypatch):
    truth, predicted = np.random.default_rng(0).integers(0, 4, (2, 11, 13), np.uint8)
    truth[2:4] = 255
    monkeypatch.setattr(metrics, "STRIP", 10)
    matrix = ConfusionMatrix(CLASSES)
    matrix.add(torch.from_numpy(predicted), torch.from_numpy(truth))
    assert np.array_equal(matrix.counts, confusion_matrix(truth[truth != 255], predicted[truth != 255], labels=range(4)))


def test_predictions_of_other_classes_and_wrong_shapes():
    matrix = ConfusionMatrix(CLASSES[:2])
    matrix.add(torch.tensor([[0, 7], [7, 1]]), torch.tensor([[0, 255], [1, 1]]))
    with pytest.raises(BadCheckpoint, match="1 pixel is predicted as none of the 2 classes"):
        matrix.gather()
    with pytest.raises(ValueError, match="for masks of"):
        matrix.add(torch.zeros(2, 2), torch.zeros(2, 3))
    with pytest.raises(ValueError, match="masks have values up to 2; there are 2 classes"):
        matrix.add(torch.zeros(2, dtype=torch.long), torch.tensor([2, 255]))
