"""The generated images: the same for everyone, true to their labels, and told apart by shape alone."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from trickzoo.data.shapes import CLASSES, VISIBLE, Shapes
from trickzoo.errors import BadOption


def test_an_image_depends_on_its_number_alone() -> None:
    few, many = Shapes("train", 20), Shapes("train", 2000)
    assert np.array_equal(few.draw(13).image, many.draw(13).image)
    images, labels = few.arrays()
    for i in (19, 0, 7):
        assert np.array_equal(images[i], few.draw(i).image)
        assert labels[i] == few.draw(i).label == few.label(i)


def test_another_process_draws_the_same() -> None:
    code = "from trickzoo.data.shapes import Shapes; import sys; sys.stdout.buffer.write(Shapes('val', 9).draw(8).image.tobytes())"
    drawn = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout
    assert drawn == Shapes("val", 9).draw(8).image.tobytes()


def test_splits_and_seeds_share_nothing() -> None:
    sets = [Shapes("train", 30), Shapes("val", 30), Shapes("train", 30, seed=1), Shapes("train", 30, objects="several")]
    images = [tuple(s.draw(i).image.tobytes() for i in range(30)) for s in sets]
    assert len({image for drawn in images for image in drawn}) == 120


@pytest.mark.parametrize("split", ["train", "val"])
def test_every_class_is_drawn_as_often(split: str) -> None:
    data = Shapes(split, 200)  # type: ignore[arg-type]
    labels = [data.label(i) for i in range(200)]
    assert np.bincount(labels).tolist() == [20] * len(CLASSES)
    assert labels != [i % 10 for i in range(200)]


@pytest.mark.parametrize("size", [16, 64, 97])
def test_boxes_and_masks_are_of_the_visible_pixels(size: int) -> None:
    data = Shapes("train", 60, size=size, objects="several")
    counts = set()
    for i in range(60):
        drawing = data.draw(i)
        counts.add(len(drawing.labels))
        assert drawing.image.shape == (size, size, 3)
        assert drawing.masks.sum(0).max() == 1
        semantic = np.zeros((size, size), int)
        for label, mask, (x0, y0, x1, y1) in zip(drawing.labels, drawing.masks, drawing.boxes.astype(int), strict=True):
            semantic[mask] = label + 1
            outside = mask.copy()
            outside[y0:y1, x0:x1] = False
            assert not outside.any()
            assert mask[y0, :].any()
            assert mask[y1 - 1, :].any()
            assert mask[:, x0].any()
            assert mask[:, x1 - 1].any()
        assert np.array_equal(semantic, drawing.semantic)
    assert counts == {1, 2, 3, 4, 5} or size == 16


def test_an_object_is_seen() -> None:
    data = Shapes("train", 300)
    visible = np.array([data.draw(i).masks.sum() for i in range(300)]) / 64**2
    assert visible.min() > VISIBLE * 0.3**2 * 0.9
    assert visible.max() < 0.42**2 * 1.1


def test_colours_and_sizes_do_not_tell_the_classes() -> None:
    """A ridge classifier on colour histograms, means and deviations stays near chance: 10 % of ten classes."""

    def features(images: np.ndarray) -> np.ndarray:
        flat = images.reshape(len(images), -1, 3) / 255
        histograms = [np.stack([np.histogram(image[:, c], 8, (0, 1))[0] for c in range(3)]).ravel() / 4096 for image in flat]
        return np.concatenate([np.array(histograms), flat.mean(1), flat.std(1), np.ones((len(images), 1))], 1)

    (train, train_labels), (val, val_labels) = Shapes("train", 1000).arrays(), Shapes("val", 500).arrays()
    x, targets = features(train), np.eye(10)[train_labels]
    weights = np.linalg.solve(x.T @ x + 0.1 * np.eye(x.shape[1]), x.T @ targets)
    assert float((np.argmax(features(val) @ weights, 1) == val_labels).mean()) < 0.2


def test_it_says_that_it_is_generated() -> None:
    assert Shapes.generated is True
    assert "generated" in Shapes("train", 5).description
    assert "not photographs" in Shapes("train", 5).description


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "test", "n": 5}, 'no split "test"'),
        ({"split": "train", "n": 0}, "at least 1 image"),
        ({"split": "train", "n": 5, "size": 8}, "below 16 pixels"),
        ({"split": "train", "n": 5, "seed": -1}, "a seed from 0"),
        ({"split": "train", "n": 5, "objects": "many"}, 'no objects "many"'),
    ],
)
def test_options_that_cannot_be_drawn(options: dict[str, object], message: str) -> None:
    with pytest.raises(BadOption, match=message):
        Shapes(**options)  # type: ignore[arg-type]
