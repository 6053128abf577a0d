"""Small sets with boxes or masks in each layout, and networks for them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.images import jpeg
from trickzoo.data.boxes import DetectionSet, collect
from trickzoo.data.objects import Annotation, DetectionImage
from trickzoo.detection import task as detection
from trickzoo.detection.model import FasterRCNN
from trickzoo.errors import BadData, TrickzooError
from trickzoo.recipes.collection import override, to_dict
from trickzoo.recipes.finetune import SMALL_BOXES, SMALL_MASKS
from trickzoo.segmentation import task as segmentation
from trickzoo.segmentation.model import Segmenter
from trickzoo.training.network_file import save
from trickzoo.weights import tensors
from trickzoo.weights.record import METADATA_KEY

Stated = Sequence[tuple[str, Sequence[float]]]
"""(class, xmin, ymin, xmax, ymax) of objects as VOC counts them."""

CAT = ("cat", (11, 6, 20, 25))
"""An object, as `xml` takes it."""


def refused(call: Callable[[], Any], message: str, error: type[TrickzooError] = BadData) -> str:
    """Assert that a call raises the error with one line that matches the message, and return that line."""
    with pytest.raises(error, match=message) as caught:
        call()
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def xml(objects: Stated = (), size: tuple[int, int] | None = (40, 30), extra: str = "") -> str:
    """A VOC annotation."""
    sides = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>" if size else ""
    corners = ("xmin", "ymin", "xmax", "ymax")
    rows = []
    for name, box in objects:
        bounds = "".join(f"<{corner}>{value}</{corner}>" for corner, value in zip(corners, box, strict=True))
        rows.append(f"<object><name>{name}</name><bndbox>{bounds}</bndbox>{extra}</object>")
    return f"<annotation>{sides}{''.join(rows)}</annotation>"


def voc(folder: Path, annotations: Mapping[str, str], splits: Mapping[str, Sequence[str]] | None = None) -> Path:
    """Write images of 40 × 30 pixels, their annotations, and split files; "train" has all where no splits are given."""
    (folder / "Annotations").mkdir(parents=True)
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    for seed, (stem, content) in enumerate(annotations.items()):
        jpeg(folder / "JPEGImages" / f"{stem}.jpg", seed)
        (folder / "Annotations" / f"{stem}.xml").write_text(content)
    for split, stems in (splits or {"train": list(annotations)}).items():
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{stem}\n" for stem in stems))
    return folder


def coco(folder: Path, change: Mapping[str, Any] | None = None, split: str = "train2017") -> Path:
    """Write three images of 40 × 30 pixels, the last without objects, and five annotations of two classes, one a crowd."""
    for number in (7, 3, 12):
        jpeg(folder / split / f"{number:012}.jpg", number)
    boxes = [(1, 7, 90, [2, 3, 10, 12]), (5, 3, 4, [0, 0, 40, 30]), (2, 7, 4, [20.5, 10.25, 8, 9]), (9, 3, 90, [5, 5, 20, 20])]
    content: dict[str, Any] = {
        "images": [{"id": n, "file_name": f"{n:012}.jpg", "width": 40, "height": 30} for n in (7, 3, 12)],
        "categories": [{"id": 90, "name": "toothbrush"}, {"id": 4, "name": "motorcycle"}],
        "annotations": [
            {
                "id": i,
                "image_id": image,
                "category_id": category,
                "bbox": box,
                "area": box[2] * box[3] / 2,
                "iscrowd": 0,
                "segmentation": [],
            }
            for i, image, category, box in boxes
        ],
    }
    content["annotations"].append({"id": 11, "image_id": 7, "category_id": 90, "bbox": [0, 20, 40, 10], "area": 400, "iscrowd": 1})
    content |= change or {}
    (folder / "annotations").mkdir()
    (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return folder


def mask(path: Path, values: Any, mode: str = "L") -> Path:
    """Write a mask: (H, W) values, or one value for 40 × 30 pixels."""
    array = np.broadcast_to(np.array(values, np.uint8), (30, 40)) if np.ndim(values) == 0 else np.array(values, np.uint8)
    image = Image.fromarray(array)
    if mode == "P":
        image.putpalette([255 - i // 3 for i in range(768)])
    path.parent.mkdir(parents=True, exist_ok=True)
    (image if mode == "P" else image.convert(mode)).save(path)
    return path


def lists(folder: Path, masks: Sequence[Any], classes: str = "0 sky\n1 road\n2 unlabelled\n") -> Path:
    """Write images of 40 × 30 pixels with these masks, `train.txt` and `classes.txt`."""
    lines = []
    for i, values in enumerate(masks):
        jpeg(folder / "train" / f"{i}.jpg", i)
        mask(folder / "trainannot" / f"{i}.png", values)
        lines.append(f"train/{i}.jpg trainannot/{i}.png\n")
    folder.mkdir(exist_ok=True)
    (folder / "train.txt").write_text("".join(lines))
    (folder / "classes.txt").write_text(classes)
    return folder


def boxes_of(images: Sequence[Sequence[Annotation]], classes: int, size: int = 40) -> DetectionSet:
    """A set of square images that are nowhere, with these objects."""
    entries = [DetectionImage(f"{i}.jpg", i, size, size) for i in range(len(images))]
    return collect(Path("nowhere"), "fabricated", [f"class {i}" for i in range(classes)], zip(entries, images, strict=True))


SIDE = 64
"""Short side that the networks below are for."""


def detector(path: Path, classes: Sequence[str]) -> FasterRCNN:
    """A random detector, written and read again. It finds much: no class is sure, and none is out of the question."""
    recipe = override(SMALL_BOXES, {"weights": "none", "short": str(SIDE), "long": "96", "fpn_channels": "16", "representation_size": "16"})
    torch.manual_seed(0)
    save(detection.build(recipe, len(classes)), recipe, classes, path, {"recipe": to_dict(recipe), "data_digest": "none"})
    return detection.load(path)


def segmenter(path: Path, classes: Sequence[str]) -> Segmenter:
    """A random segmenter, written and read again."""
    recipe = override(SMALL_MASKS, {"weights": "none", "short": str(SIDE)})
    torch.manual_seed(0)
    save(segmentation.build(recipe, len(classes)), recipe, classes, path, {"recipe": to_dict(recipe), "data_digest": "none"})
    return segmentation.load(path)


def damaged(folder: Path) -> dict[str, str]:
    """Write .safetensors files that can be read and whose headers are not as trickzoo writes them; what is said of each, by its name."""
    boxes = {"model": "mobilenet_v1_025", "task": "detection", "classes": ["a"]}
    recipe = {"name": "x", "model": "mobilenet_v1_025", "data": "voc"}
    headers: dict[str, tuple[Any, str]] = {
        "list": ([], "list.safetensors: its trickzoo header cannot be read"),
        "model": ({"task": "detection"}, "model.safetensors: its trickzoo header cannot be read"),
        "options": (boxes | {"options": {"activation": []}}, "options.safetensors: its trickzoo header cannot be read"),
        "nobody": (boxes | {"training": {}}, "nobody.safetensors: its header lacks the recipe or the classes; name a file that"),
        "words": (boxes | {"training": {"recipe": "x"}}, "words.safetensors: its header lacks the recipe or the classes"),
        "empty": (boxes | {"training": {"recipe": {}}}, "empty.safetensors: its recipe cannot be read"),
        "field": (
            boxes | {"training": {"recipe": recipe | {"short": "x"}}},
            "field.safetensors: its recipe cannot be read (recipe field short must be",
        ),
        "option": (
            boxes | {"options": {"num_classes": True}, "training": {"recipe": recipe}},
            'option.safetensors: mobilenet_v1_025 has no option "num_classes"',
        ),
    }
    for name, (header, _) in headers.items():
        content = {METADATA_KEY: json.dumps(header)}
        tensors.save_atomically({"a": torch.zeros(1)}, folder / f"{name}.safetensors", content)
    return {name: words for name, (_, words) in headers.items()}
