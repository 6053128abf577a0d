"""The generated shapes: reproducible, balanced, correctly annotated, and different in shape only."""

from __future__ import annotations

import hashlib
import pickle
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from trickzoo.data import outlines, shapes
from trickzoo.data.shapes import CLASSES, LEVELS, Drawing, Shapes
from trickzoo.errors import BadOption

DIGEST = "1f4a6a9b96c052628a3ce4a8ac424b8e7e69b45885b1301ddc5f83837af5abd1"
"""SHA-256 of coarse images, which tiny differences between maths libraries do not change. A new one needs a new VERSION."""
EASY_DIGEST = "331fd3d3f20ff45b22519911898ab3adde20ff20581aca0415f61dacbc97a179"
"""The same for easy images."""


@pytest.fixture(scope="module")
def singles() -> list[Drawing]:
    return [Shapes("train", 1000).draw(index) for index in range(1000)]


@pytest.fixture(scope="module")
def crowds() -> list[Drawing]:
    return [Shapes("train", 100, objects="several").draw(index) for index in range(100)]


def digest(*arrays: np.ndarray) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


@pytest.mark.parametrize(("difficulty", "expected"), [("hard", DIGEST), ("easy", EASY_DIGEST)])
def test_pixels_are_pinned(difficulty, expected):
    options = {"difficulty": difficulty}
    sets = Shapes("train", 10, **options), Shapes("val", 10, seed=5, **options), Shapes("val", 10, size=128, objects="several", **options)
    coarse = []
    for drawing in (each.draw(index) for each in sets for index in range(10)):
        cells = drawing.image.reshape(8, drawing.image.shape[0] // 8, 8, -1, 3).mean(axis=(1, 3))
        coarse += [(cells // 16).astype(np.uint8), drawing.labels]
    assert shapes.VERSION == 1
    assert digest(*coarse) == expected


def test_an_image_does_not_depend_on_order_number_or_process():
    images, labels = Shapes("val", 12, seed=3).arrays()
    for index in (11, 0, 7, 7):
        drawing = Shapes("val", 1000, seed=3).draw(index)
        assert np.array_equal(drawing.image, images[index]) and drawing.label == labels[index]
    code = "import sys, pickle; sys.stdout.buffer.write(pickle.load(sys.stdin.buffer).draw(7).image.tobytes())"
    there = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(Shapes("val", 12, seed=3)), capture_output=True, check=True)
    assert there.stdout == images[7].tobytes()


def test_splits_seeds_and_numbers_of_objects_share_no_image():
    sets = [
        Shapes(split, 20, seed=seed, objects=objects) for split in ("train", "val") for seed in (0, 1) for objects in ("one", "several")
    ]
    assert len({digest(each.draw(index).image) for each in sets for index in range(20)}) == 160
    assert len({tuple(Shapes(split, 50, seed=seed).arrays()[1]) for split in ("train", "val") for seed in (0, 1)}) == 4


def test_classes_occur_equally_often_in_no_fixed_order(singles):
    assert CLASSES == ("arrow", "crescent", "cross", "disc", "heart", "hourglass", "ring", "square", "star", "triangle")
    labels = [drawing.label for drawing in singles]
    assert Counter(labels) == dict.fromkeys(range(10), 100)
    assert labels == [Shapes("train", 1000).label(index) for index in range(1000)]
    assert len({tuple(labels[start : start + 10]) for start in range(0, 1000, 10)}) == 100


def test_arrays_are_what_is_drawn():
    images, labels = Shapes("train", 3, size=32).arrays()
    assert images.shape == (3, 32, 32, 3) and images.dtype == np.uint8
    assert labels.shape == (3,) and labels.dtype == np.int64
    assert len(Shapes("train", 3)) == 3


@pytest.mark.parametrize("kind", ["singles", "crowds"])
def test_boxes_and_labels_agree_with_masks(kind, request):
    for drawing in request.getfixturevalue(kind)[:100]:
        assert drawing.image.shape == (64, 64, 3) and drawing.image.dtype == np.uint8
        assert len(drawing.labels) == len(drawing.masks) == len(drawing.boxes)
        assert drawing.boxes.dtype == np.float32 and drawing.semantic.dtype == np.uint8
        assert drawing.masks.sum(axis=0).max() == 1
        expected = np.zeros((64, 64), dtype=int)
        for label, mask, box in zip(drawing.labels, drawing.masks, drawing.boxes, strict=True):
            x0, y0, x1, y1 = box.astype(int)
            inside = mask[y0:y1, x0:x1]
            assert inside.sum() == mask.sum() and (box == box.astype(int)).all()
            assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()
            expected[mask] = label + 1
        assert np.array_equal(drawing.semantic, expected)


def test_objects_are_whole_in_the_image_and_mostly_visible(singles, crowds):
    for objects, drawings in (("one", singles), ("several", crowds)):
        smallest = LEVELS["hard"].visible * (64 * LEVELS["hard"].sides[objects][0]) ** 2
        largest = (64 * LEVELS["hard"].sides[objects][1]) ** 2
        areas = [mask.sum() for drawing in drawings for mask in drawing.masks]
        assert 0.95 * smallest < min(areas) and max(areas) < 1.05 * largest
        frames = [mask[[0, -1]].any() or mask[:, [0, -1]].any() for drawing in drawings for mask in drawing.masks]
        assert not any(frames)
    assert {len(drawing.masks) for drawing in singles} == {1}
    assert {len(drawing.masks) for drawing in crowds} == {2, 3, 4, 5}
    assert {int(label) for drawing in crowds for label in drawing.labels} == set(range(10))


def test_easy_objects_are_upright_large_and_hardly_hidden():
    level = LEVELS["easy"]
    for objects, numbers in (("one", {1}), ("several", {2, 3})):
        drawings = [Shapes("train", 100, objects=objects, difficulty="easy").draw(index) for index in range(100)]
        areas = [mask.sum() for drawing in drawings for mask in drawing.masks]
        low, high = ((64 * side) ** 2 for side in level.sides[objects])
        assert 0.95 * level.visible * low < min(areas) and max(areas) < 1.05 * high
        assert {len(drawing.masks) for drawing in drawings} == numbers
        arrows = [mask for d in drawings for label, mask in zip(d.labels, d.masks, strict=True) if CLASSES[label] == "arrow"]
        axes = [np.linalg.eigh(np.cov(np.argwhere(mask).T))[1][:, 1] for mask in arrows]
        assert max(abs(np.arctan(y / x)) for y, x in axes) < 2 * np.pi * level.tilt + 0.1


def test_only_easy_images_are_calm():
    """Beside its objects, an image has no edge: neighbouring pixels differ by little more than the noise."""
    steepest = {}
    for difficulty in ("hard", "easy"):
        drawings = [Shapes("train", 50, difficulty=difficulty).draw(index) for index in range(50)]
        steepest[difficulty] = max(edges(drawing) for drawing in drawings)
    assert steepest["easy"] < 2 * 255 * LEVELS["easy"].noise + 10 < steepest["hard"]


def edges(drawing: Drawing) -> int:
    """The largest difference between neighbours in a row, more than three pixels away from the object."""
    near = drawing.masks[0]
    for axis in (0, 1):
        near = np.any([np.roll(near, shift, axis) for shift in range(-3, 4)], axis=0)
    differences = np.abs(np.diff(drawing.image.astype(int), axis=1)).max(axis=2)
    return int(differences[~(near[:, 1:] | near[:, :-1])].max())


def test_rotation_scale_and_place_are_used_to_the_full(singles):
    arrows = [drawing.masks[0] for drawing in singles if drawing.label == CLASSES.index("arrow")]
    points = [np.argwhere(mask) for mask in arrows]
    axes = [np.linalg.eigh(np.cov(each.T))[1][:, 1] for each in points]
    angles = [np.arctan2(*axis) % np.pi for axis in axes]
    assert np.histogram(angles, bins=6, range=(0, np.pi))[0].min() >= 5
    sides = np.sqrt([len(each) for each in points]) / 64
    assert sides.max() > 0.95 * LEVELS["hard"].sides["one"][1] and sides.min() < 1.05 * LEVELS["hard"].sides["one"][0]
    places = np.array([each.mean(axis=0) / 64 for each in points])
    assert (places.min(axis=0) < 0.4).all() and (places.max(axis=0) > 0.6).all()


def test_no_class_is_larger_than_another(singles):
    means = [np.mean([drawing.masks.sum() for drawing in singles if drawing.label == label]) for label in range(10)]
    assert max(means) < 1.12 * min(means)


def test_only_shape_tells_the_classes_apart(singles):
    """A linear classifier of colours and area, the object's own among them, guesses; one of the outline, freed of stretch, does not."""
    labels = np.array([drawing.label for drawing in singles])
    assert accuracy(np.stack([colours(drawing) for drawing in singles]), labels) < 0.2
    assert accuracy(np.stack([outline(drawing.masks[0]) for drawing in singles]), labels) > 0.6


def colours(drawing: Drawing) -> np.ndarray:
    """Histograms, means and deviations of the image's and of the object's colours; the object's area."""
    image, own = drawing.image.reshape(-1, 3), drawing.image[drawing.masks[0]]
    histograms = [np.bincount((each // 64) @ [1, 4, 16], minlength=64) / len(each) for each in (image, own)]
    moments = [part for each in (image / 255, own / 255) for part in (each.mean(axis=0), each.std(axis=0))]
    return np.concatenate([*histograms, *moments, [len(own) / len(image), np.sqrt(len(own) / len(image))]])


def outline(mask: np.ndarray) -> np.ndarray:
    """Distribution of the distances from the middle, in units in which the object is as wide as it is high, and lopsidedness."""
    points = np.argwhere(mask) - np.argwhere(mask).mean(axis=0)
    points = points @ np.linalg.inv(np.linalg.cholesky(np.cov(points.T))).T
    z, radii = points @ [1, 1j], np.linalg.norm(points, axis=1)
    symmetries = [abs((radii**2 * (z / np.maximum(radii, 1e-9)) ** fold).mean()) for fold in (1, 3, 4, 5, 6)]
    return np.concatenate([np.histogram(radii, bins=16, range=(0, 3.2))[0] / len(radii), symmetries])


def accuracy(features: np.ndarray, labels: np.ndarray) -> float:
    """Of a ridge classifier fitted to the first 700 images, on the others."""
    features = np.c_[(features - features.mean(axis=0)) / (features.std(axis=0) + 1e-9), np.ones(len(features))]
    fit, targets = features[:700], np.eye(10)[labels[:700]]
    weights = np.linalg.solve(fit.T @ fit + 10 * np.eye(fit.shape[1]), fit.T @ targets)
    return float(((features[700:] @ weights).argmax(axis=1) == labels[700:]).mean())


def test_every_outline_is_measured_whole():
    edge = np.linspace(-1.8, 1.8, 100)
    side = np.full(100, 1.8)
    x, y = np.concatenate([edge, edge, side, -side]), np.concatenate([side, -side, edge, edge])
    for shape in (*outlines.SHAPES.values(), *outlines.DISTRACTORS, *outlines.OCCLUDERS):
        for variant in (0.0, 0.5, 1.0):
            assert (shape(x, y, variant) > 0).all()


def test_it_says_that_it_is_generated():
    assert Shapes("val", 2000, seed=4).description == (
        "generated shapes (version 1, not photographs): 2,000 val images of 64 pixels, one object each, seed 4"
    )
    easy = Shapes("val", 5, objects="several", difficulty="easy").description
    assert easy == "generated easy shapes (version 1, not photographs): 5 val images of 64 pixels, several objects each, seed 0"
    assert all("generated" in (thing.__doc__ or "") for thing in (shapes, Shapes, Drawing))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "vla"}, 'generated shapes: split must be "train" or "val", not "vla"'),
        ({"objects": "two"}, 'generated shapes: objects must be "one" or "several", not "two"'),
        ({"difficulty": "esay"}, 'generated shapes: difficulty must be "hard" or "easy", not "esay"'),
        ({"n": 0}, "n=0: a set of generated shapes needs at least 1 image"),
        ({"size": 15}, "size=15: generated shapes cannot be told apart below 16 pixels"),
        ({"size": 4097}, "size=4097: generated shapes have sides of at most 4,096 pixels"),
        ({"seed": -1}, "seed=-1: generated shapes take a seed from 0 to 4294967295"),
    ],
)
def test_options_that_cannot_be_drawn(options, message):
    with pytest.raises(BadOption) as error:
        Shapes(**{"split": "train", "n": 1, **options})
    assert str(error.value) == message


@pytest.mark.parametrize("index", [-1, 5])
def test_images_that_are_not_there(index):
    with pytest.raises(IndexError, match=f"image {index} of 5"):
        Shapes("train", 5).draw(index)


@pytest.mark.parametrize("size", [16, 33, 224])
def test_any_size_can_be_drawn(size):
    drawing = Shapes("train", 1, size=size, objects="several").draw(0)
    assert drawing.image.shape == (size, size, 3) and drawing.masks.shape[1:] == (size, size)
