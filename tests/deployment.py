"""Networks that have seen nothing, and an image for them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image

from tests.checkpoints import randomise_norms
from trickzoo.detection import faster_rcnn
from trickzoo.detection.model import FasterRCNN
from trickzoo.recipes.finetune import SMALL_BOXES, SMALL_MASKS
from trickzoo.segmentation import segmenter
from trickzoo.segmentation.model import Segmenter
from trickzoo.weights.loaded import LoadedWeights


def photograph(width: int, height: int) -> Image.Image:
    """Noise, smooth areas and hard edges, in which an error of the rounding, of the range or of the border shows."""
    image = np.random.default_rng(width * height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image[: height // 3] = np.linspace(0, 255, width, dtype=np.uint8)[None, :, None]
    image[height // 2 :, : width // 2] = (0, 255, 128)
    return Image.fromarray(image)


def random_detector(neck: Literal["fpn", "c4"]) -> FasterRCNN:
    """A detector of three classes for images of 64 to 96 pixels that is sure of some boxes, as if it came from a file.

    With a feature pyramid its BatchNorms are live, as recipes for small machines train them, and otherwise frozen.
    """
    torch.manual_seed(0)
    settings = {"min_size": 64, "max_size": 96, "rpn_post_nms_top_n_test": 20, "box_score_thresh": 0.2}
    model = faster_rcnn("resnet18_d", neck=neck, num_classes=4, norms="live" if neck == "fpn" else "frozen", **settings).eval()
    model.classes, model.recipe = ("cat", "dog", "owl"), replace(SMALL_BOXES, short=64, long=96)
    model.trunk.weights = LoadedWeights("boxes.safetensors", Path("boxes.safetensors"), "0" * 64, model.classes)
    return model


def random_segmenter(short: int | None, align_corners: bool = False) -> Segmenter:
    """A segmenter of eleven classes that finds several of them, as if it came from a file."""
    torch.manual_seed(0)
    model = segmenter("resnet18_d", num_classes=11, output_stride=32, align_corners=align_corners)
    randomise_norms(model)
    torch.nn.init.normal_(model.head[-1].weight)  # type: ignore[index]
    torch.nn.init.zeros_(model.head[-1].bias)  # type: ignore[index]
    model.classes, model.recipe = tuple(f"class {number}" for number in range(11)), replace(SMALL_MASKS, short=short)
    model.trunk.weights = LoadedWeights("masks.safetensors", Path("masks.safetensors"), "0" * 64, model.classes)
    return model.eval()
