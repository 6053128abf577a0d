"""Outlines of annotation files, the masks that they are drawn as, and Labelme's files."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.path import Path as Outline
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

from tests.annotated import refused
from tests.commands import caller
from tests.images import jpeg
from trickzoo.cli import zoo
from trickzoo.data.location import AnnotatedLocation
from trickzoo.data.masks import SegmentationSet
from trickzoo.data.readers.own import region_exports
from trickzoo.data.regions import Region, RegionImage, draw, ellipse, pixels_of_runs, polygon

W, H = 90, 60
"""The size in pixels of all images."""


def star(random: np.random.Generator, corners: int = 9) -> NDArray[np.float64]:
    """Return a polygon that may reach over the edge of the image."""
    angle = np.sort(random.uniform(0, 2 * np.pi, corners))
    radius = random.uniform(5, 30, corners)
    return np.stack([random.uniform(0, W) + radius * np.cos(angle), random.uniform(0, H) + radius * np.sin(angle)], 1)


def file_of(root: Path, annotations: list[dict[str, Any]], names: tuple[str, ...] = ("cat", "dog"), images: int = 1) -> Path:
    """Write images and a file in COCO's format, and return the file."""
    for number in range(1, images + 1):
        jpeg(root / f"{number}.jpg", number, size=(W, H))
    content = {
        "images": [{"id": number, "file_name": f"{number}.jpg", "width": W, "height": H} for number in range(1, images + 1)],
        "annotations": [{"id": i, "image_id": 1, "bbox": [0, 0, 9, 9], **each} for i, each in enumerate(annotations, 1)],
        "categories": [{"id": 10 + i, "name": name} for i, name in enumerate(names)],
    }
    path = root / "labels.json"
    path.write_text(json.dumps(content))
    return path


def labelme(path: Path, *shapes: tuple[str, str, Any], **more: object) -> None:
    """Write an image with a file of Labelme: the label, the type and the points of each shape."""
    jpeg(path.with_suffix(".jpg"), len(path.stem), size=(W, H))
    stated = [{"label": label, "shape_type": kind, "points": points, **more} for label, kind, points in shapes]
    content = {"version": "5.5.0", "shapes": stated, "imagePath": f"{path.stem}.jpg", "imageData": None, "imageHeight": H, "imageWidth": W}
    path.write_text(json.dumps(content))


def test_regions_are_drawn_as_pycocotools_draws_them() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        outlines = [[star(random) for _ in range(random.integers(1, 4))] for _ in range(4)]
        numbers = random.integers(0, 3, 4).tolist()
        whole = np.zeros((H, W), np.uint8)
        for parts, number in zip(outlines, numbers, strict=True):
            runs = coco_mask.frPyObjects([part.ravel().tolist() for part in parts], H, W)
            whole[coco_mask.decode(coco_mask.merge(runs)) > 0] = number
        classes = ("background", "cat", "dog")
        regions = tuple(Region(classes[number], tuple(parts)) for parts, number in zip(outlines, numbers, strict=True))
        assert (draw(RegionImage("a", W, H, regions), classes)[0] == whole).all()


def test_a_pixel_belongs_to_the_polygon_that_contains_its_centre() -> None:
    random = np.random.default_rng(1)
    centres = np.stack(np.meshgrid(np.arange(W) + 0.5, np.arange(H) + 0.5), -1).reshape(-1, 2)
    different = 0
    for _ in range(30):
        outline = star(random)
        inside = Outline(outline).contains_points(centres).reshape(H, W)
        found = draw(RegionImage("a", W, H, (Region("cat", (outline,)),)), ("background", "cat"))[0]
        different += int((inside != found).sum())
        square = polygon([10, 20, 30, 20, 30, 25, 10, 25], "")
        exact = np.zeros((H, W), np.uint8)
        exact[20:25, 10:30] = 1
        assert (draw(RegionImage("a", W, H, (Region("cat", (square,)),)), ("background", "cat"))[0] == exact).all()
    assert different < 30 * 12  # pixels whose centre the outline nearly meets


def test_runs_are_read_as_pycocotools_reads_them() -> None:
    random = np.random.default_rng(2)
    for share in (0.0, 0.02, 0.5, 1.0):
        wanted = np.asfortranarray(random.uniform(size=(H, W)) < share, np.uint8)
        compressed = coco_mask.encode(wanted)
        flat = wanted.ravel(order="F")
        places = np.flatnonzero(np.diff(flat)) + 1
        counts = [0] * int(flat[0]) + np.diff([0, *places, len(flat)]).tolist()
        for stated in (counts, compressed["counts"].decode()):
            assert (pixels_of_runs({"size": [H, W], "counts": stated}, W, H, "") == wanted).all()
    for counts in ([5, H * W], [-1, H * W + 1], [True] * 3, "", "P" * 50, "o" * 100_000, [0.5, 2], None, "é"):
        refused(lambda counts=counts: pixels_of_runs({"size": [H, W], "counts": counts}, W, H, "x"), "x has a segmentation that is not")
    refused(lambda: pixels_of_runs({"size": [W, H], "counts": [W * H]}, W, H, "x"), f"for {H} × {W} pixels")


def test_an_ellipse_has_its_area_and_angle() -> None:
    outline = ellipse(45, 30, 20, 8, 0.5, "")
    x, y = (outline - (45, 30)).T
    along, across = x * np.cos(0.5) + y * np.sin(0.5), y * np.cos(0.5) - x * np.sin(0.5)
    assert np.allclose((along / 20) ** 2 + (across / 8) ** 2, 1)
    found = draw(RegionImage("a", W, H, (Region("cat", (outline,)),)), ("background", "cat"))[0]
    assert found.sum() == pytest.approx(np.pi * 20 * 8, rel=0.02)


def opened(folder: Path, task: str, split: str = "") -> Any:
    """Open the images of a folder as `trickzoo finetune own` does: all, or those of a split."""
    location = AnnotatedLocation("own", folder, train=split)
    return location.open(task, "train") if split else location.open_undivided(task)


def drawn(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """Run `trickzoo masks` and return what it prints."""
    status, text, error = caller(capsys, zoo, "masks")(*words)
    assert status == 0, error
    return text


def square(left: int, top: int, right: int, bottom: int) -> list[float]:
    return [left, top, right, top, right, bottom, left, bottom]


def test_outlines_of_coco_become_masks_that_a_segmenter_trains_on(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    hole = {"size": [H, W], "counts": [H * 40 + 20, 5, H * W - H * 40 - 25]}
    file = file_of(
        tmp_path / "set",
        [
            {"category_id": 11, "segmentation": [square(10, 10, 50, 50), square(60, 10, 70, 20)]},
            {"category_id": 10, "segmentation": square(20, 20, 30, 30)},
            {"category_id": 12, "segmentation": hole},
            {"category_id": 13, "segmentation": [square(0, 0, 5, 5)]},
        ],
        ("cat", "dog", "Background", "void"),
        images=3,
    )
    expected = np.zeros((H, W), np.uint8)
    expected[10:50, 10:50], expected[10:20, 60:70] = 2, 2
    expected[20:30, 20:30], expected[20:25, 40], expected[:5, :5] = 1, 0, 255
    text = drawn(capsys, file, tmp_path / "masks")
    assert text.splitlines() == [
        f"{tmp_path / 'masks'}: 3 masks of 3 classes, background, cat, dog",
        f"{100 * 105 / (3 * W * H):.2f} % of the pixels are in regions of several classes; each has the class of the last one in the file",
    ]
    found = opened(tmp_path / "masks", "segmentation")
    assert (found.classes, len(found)) == (("background", "cat", "dog"), 3)
    image, mask = found.read(0)
    assert (image.size, mask.tolist()) == ((W, H), expected.tolist())
    assert not found.read(1)[1].any()
    again = drawn(capsys, tmp_path / "set", tmp_path / "again")
    assert again.splitlines()[1:] == text.splitlines()[1:]
    assert opened(tmp_path / "again", "segmentation").read(0)[1].tolist() == expected.tolist()


def test_splits_are_kept(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for split in ("train", "valid"):
        file = file_of(tmp_path / "set" / split, [{"category_id": 10, "segmentation": [square(1, 2, 3, 5)]}])
        file.rename(file.with_name("_annotations.coco.json"))
    drawn(capsys, tmp_path / "set", tmp_path / "masks")
    parts = [opened(tmp_path / "masks", "segmentation", split) for split in ("train", "val")]
    assert [(len(part), int(part.read(0)[1].sum())) for part in parts] == [(1, 6), (1, 6)]


def test_faulty_outlines_are_refused_and_leave_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    call = caller(capsys, zoo, "masks")
    for number, (stated, message) in enumerate(
        (
            ({}, "annotation 1 has a box but no outline; draw its polygon, or delete it"),
            ({"segmentation": []}, "annotation 1 has a box but no outline"),
            ({"segmentation": [[1, 2, 3, 4]]}, "annotation 1 has an outline of 2 points; a polygon has three or more"),
            ({"segmentation": [[1, 2, 3, 4, 5]]}, "annotation 1 has an outline that is not pairs of numbers"),
            ({"segmentation": [["a", 2, 3, 4, 5, 6]]}, "annotation 1 has an outline that is not pairs of numbers"),
            ({"segmentation": [[0, 0, 1e9, 0, 5, 5]]}, "annotation 1 has an outline of more than 1,000,000 pixels"),
            (
                {"segmentation": {"size": [H, W], "counts": "abc"}},
                "annotation 1 has a segmentation that is not a valid run-length",
            ),
        )
    ):
        file = file_of(tmp_path / str(number), [{"category_id": 10, **stated}])
        status, _, error = call(file, tmp_path / "masks")
        assert (status, message in error, len(error.splitlines())) == (2, True, 1), error
    file = file_of(tmp_path / "other", [{"category_id": 10, "segmentation": [square(1, 2, 3, 5)]}])
    jpeg(tmp_path / "other" / "1.jpg", 0, size=(W, H + 1))
    assert f"1.jpg is {W} × {H + 1} pixels, and {W} × {H} are stated" in call(file, tmp_path / "masks")[2]
    file = file_of(tmp_path / "name", [{"category_id": 10, "segmentation": [square(1, 2, 3, 5)]}], ("cat 1 2 3",))
    assert "cannot list the classes background, cat 1 2 3: numbers after a name are its colour" in call(file, tmp_path / "masks")[2]
    assert sorted(path.name for path in tmp_path.iterdir()) == [*map(str, range(7)), "name", "other"]
    (tmp_path / "masks").mkdir()
    assert "is there already" in call(file, tmp_path / "masks")[2]


def test_a_segmenter_names_the_command_for_outlines(tmp_path: Path) -> None:
    root = file_of(tmp_path, [{"category_id": 10, "segmentation": [square(1, 2, 3, 5)]}]).parent
    refused(lambda: opened(root, "segmentation"), f"which has no masks; draw its outlines with `trickzoo masks {root} FOLDER`")


def png(pixels: NDArray[np.bool_]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8) * 255).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def test_labelme_has_boxes_and_regions(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data = tmp_path / "set"
    labelme(
        data / "a.json",
        ("dog", "polygon", [[10, 10], [30, 10], [30, 40]]),
        ("cat", "rectangle", [[60, 50], [40, 20]]),
        ("dog", "circle", [[70, 15], [70, 25]]),
        ("dog", "rectangle", [[1, 1], [5, 1], [5, 9], [1, 9]]),
        ("__ignore__", "polygon", [[80, 50], [90, 50], [90, 60]]),
    )
    pixels = np.array([[1, 0, 1], [1, 1, 1]], np.bool_)
    labelme(data / "bb.json", ("cat", "mask", [[5, 7], [7, 8]]), mask=png(pixels))
    jpeg(data / "alone.jpg", 9, size=(W, H))
    boxes = opened(data, "detection")
    assert boxes.layout == "Labelme export, no splits"
    assert (boxes.classes, len(boxes)) == (("cat", "dog"), 2)
    objects = boxes.objects
    assert objects.labels.tolist() == [2, 1, 2, 2, 1]
    assert objects.boxes[[0, 1, 3, 4]].tolist() == [[10, 10, 30, 40], [40, 20, 60, 50], [1, 1, 5, 9], [5, 7, 8, 9]]
    assert objects.boxes[2] == pytest.approx([60, 5, 80, 25], abs=0.02)

    drawn(capsys, data, tmp_path / "masks")
    found: SegmentationSet = opened(tmp_path / "masks", "segmentation")
    assert found.classes == ("background", "cat", "dog")
    first, second = (found.read(index)[1] for index in range(2))
    assert (first[20:50, 40:60] == 1).all() and (first == 1).sum() == 600
    assert first[15, 70] == 2 and (first[1:9, 1:5] == 2).all() and first[52, 88] == 255
    assert second[7:9, 5:8].tolist() == [[1, 0, 1], [1, 1, 1]] and second.sum() == 5


def test_outlines_of_via_become_masks(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    shapes = [
        {"name": "rect", "x": 10, "y": 5, "width": 20, "height": 10},
        {"name": "circle", "cx": 60, "cy": 30, "r": 10},
        {"name": "ellipse", "cx": 30, "cy": 40, "rx": 15, "ry": 5, "theta": np.pi / 2},
        {"name": "polygon", "all_points_x": [70, 90, 90, 70], "all_points_y": [50, 50, 60, 60]},
    ]
    regions = [{"shape_attributes": shape, "region_attributes": {"kind": "cat"}} for shape in shapes]
    jpeg(tmp_path / "set" / "a.jpg", size=(W, H))
    file = tmp_path / "set" / "via.json"
    file.write_text(json.dumps({"a": {"filename": "a.jpg", "size": 1, "regions": regions}}))
    drawn(capsys, tmp_path / "set", tmp_path / "masks")
    mask = opened(tmp_path / "masks", "segmentation").read(0)[1]
    assert mask[5:15, 10:30].all() and mask[50:60, 70:90].all() and mask[30, 51:69].all() and mask[26:54, 30].all()
    assert mask.sum() == pytest.approx(200 + 200 + np.pi * 100 + np.pi * 75, rel=0.03)
    file.write_text(file.read_text().replace('"polygon"', '"polyline"'))
    status, _, error = caller(capsys, zoo, "masks")(tmp_path / "set", tmp_path / "again")
    assert (status, 'region 4 of a.jpg is a "polyline", which has no area' in error) == (2, True)


def test_polygons_of_yolo_become_masks(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for part, n in (("train", 2), ("valid", 1)):
        for number in range(n):
            jpeg(tmp_path / "set" / part / "images" / f"{number}.jpg", number, size=(W, H))
            (tmp_path / "set" / part / "labels").mkdir(exist_ok=True)
    (tmp_path / "set" / "data.yaml").write_text("train: ../train/images\nval: ../valid/images\nnames: [cat, dog]\n")
    corners = " ".join(f"{x / W:.9f} {y / H:.9f}" for x, y in ((10, 5), (30, 5), (30, 25), (10, 25)))
    (tmp_path / "set" / "train" / "labels" / "0.txt").write_text(f"1 {corners}\n")
    (tmp_path / "set" / "valid" / "labels" / "0.txt").write_text(f"0 {corners}\n")
    drawn(capsys, tmp_path / "set", tmp_path / "masks")
    train, val = (opened(tmp_path / "masks", "segmentation", split) for split in ("train", "val"))
    expected = np.zeros((H, W), np.uint8)
    expected[5:25, 10:30] = 1
    assert [mask.tolist() for mask in (train.read(0)[1], train.read(1)[1], val.read(0)[1])] == [
        (2 * expected).tolist(),
        (0 * expected).tolist(),
        expected.tolist(),
    ]
    (tmp_path / "set" / "train" / "labels" / "1.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    status, _, error = caller(capsys, zoo, "masks")(tmp_path / "set", tmp_path / "again")
    assert (status, "1.txt, line 1, has a box but no outline" in error) == (2, True)


def test_labelme_files_may_lie_in_folders_and_splits(tmp_path: Path) -> None:
    for split, n in (("train", 3), ("val", 1)):
        for number in range(n):
            folder = tmp_path / split / "labels"
            folder.mkdir(parents=True, exist_ok=True)
            labelme(folder / f"{number}.json", ("cat", "rectangle", [[1, 2], [9, 8]]))
            (tmp_path / split / "images").mkdir(exist_ok=True)
            (folder / f"{number}.jpg").rename(tmp_path / split / "images" / f"{number}.jpg")
    assert [len(opened(tmp_path, "detection", split)) for split in ("train", "val")] == [3, 1]
    (export,) = region_exports(tmp_path)
    assert [len(export.open(tmp_path, split).images) for split in ("train", "val")] == [3, 1]


def test_faulty_files_of_labelme_are_refused(tmp_path: Path) -> None:
    labelme(tmp_path / "a.json", ("cat", "rectangle", [[1, 2], [9, 8]]))
    for shape, message in (
        (("cat", "point", [[1, 2]]), r'b.json: shape 1 is a "point" of 1 points, which has no area'),
        (("cat", "linestrip", [[1, 2], [3, 4], [5, 6]]), 'shape 1 is a "linestrip" of 3 points'),
        (("cat", "polygon", [[1, 2], [3, 4]]), "shape 1 has an outline of 2 points"),
        ((" ", "polygon", [[1, 2], [3, 4], [5, 6]]), "b.json has a shape without a label"),
    ):
        labelme(tmp_path / "b.json", shape)
        refused(lambda: opened(tmp_path, "detection"), message)
    (tmp_path / "b.json").write_text('{"shapes": 5}')
    refused(lambda: opened(tmp_path, "detection"), "b.json is not a file of Labelme")
    labelme(tmp_path / "b.json", ("dog", "polygon", [[1, 2], [3, 4], [5, 6]]))
    (tmp_path / "classes.txt").write_text("cat\n")
    refused(lambda: opened(tmp_path, "detection"), 'b.json has a "dog", which is not in classes.txt')
    (tmp_path / "b.jpg").unlink()
    refused(lambda: opened(tmp_path, "detection"), "has no image b, and .*b.json annotates it")
