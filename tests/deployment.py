"""Untrained networks, files of them, and images for them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from tests.checkpoints import randomise_norms
from tests.images import jpeg
from trickzoo.backbone import Backbone, FeatureInfo, Head
from trickzoo.deployment import export
from trickzoo.deployment.description import Input
from trickzoo.deployment.opened import Exported
from trickzoo.detection import faster_rcnn
from trickzoo.detection.model import FasterRCNN
from trickzoo.recipes.finetune import SMALL_BOXES, SMALL_MASKS
from trickzoo.segmentation import segmenter
from trickzoo.segmentation.model import Segmenter
from trickzoo.weights.loaded import LoadedWeights
from trickzoo.weights.record import Preprocessing

PREPROCESSING = Preprocessing(size=32, crop=0.875, interpolation="bicubic")
CLASSES = ("n01440764", "a b", "été")
NO_BF16 = "openvino has no bf16 on this processor, where it would compute in fp32 instead; use fp32"
"""The message of `trickzoo.deploy` where `openvino_has_bf16` is false."""


def photograph(width: int, height: int) -> Image.Image:
    """Noise, smooth areas and hard edges, in which an error of the rounding, of the range or of the border shows."""
    image = np.random.default_rng(width * height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image[: height // 3] = np.linspace(0, 255, width, dtype=np.uint8)[None, :, None]
    image[height // 2 :, : width // 2] = (0, 255, 128)
    return Image.fromarray(image)


def logits(model: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return model(images)


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


class Tiny(Backbone):
    """A backbone that is exported in a moment."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, 8, 3, stride=4), nn.BatchNorm2d(8), nn.ReLU())
        self.stages, self.head = nn.ModuleList(), Head(8, len(CLASSES))
        self.feature_info, self.name = (FeatureInfo("stem", 8, 4),), "tiny"
        self.weights = LoadedWeights("tiny.safetensors", Path("/somewhere/tiny.safetensors"), "0" * 64, CLASSES, PREPROCESSING)


def tiny(kind: Input, channels: int = 3) -> tuple[Tiny, export.Graph]:
    torch.manual_seed(0)
    model = Tiny(channels).eval()
    nn.init.normal_(model.head.fc.weight, std=3)  # type: ignore[arg-type]
    return model, export.classifier(model, PREPROCESSING, CLASSES, kind=kind)


def in_memory(graph: export.Graph) -> Exported:
    """What `open_exported` returns, with torch as the engine."""

    def run(given: Any) -> Any:
        with torch.inference_mode():
            outputs = graph.module(torch.from_numpy(np.array(given)))
        return [each.numpy() for each in (outputs if isinstance(outputs, tuple) else (outputs,))]

    return Exported(Path("memory.onnx"), graph.description, run, "torch", "1" * 64)


def exported(folder: Path) -> Path:
    """Write exported files and images to a folder, and return it."""
    for name, kind in (("image.onnx", "image"), ("float.xml", "float")):
        export.write(tiny(kind)[1], folder / name)  # type: ignore[arg-type]
    jpeg(folder / "a.jpg", 1, (80, 60))
    jpeg(folder / "b.jpg", 2, (60, 90))
    return folder


def openvino_has_bf16() -> bool:
    """Return whether OpenVINO computes in bf16 on this processor."""
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
