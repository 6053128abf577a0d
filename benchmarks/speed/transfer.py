"""Training steps of Faster R-CNN and FCN, against torchvision's own networks with the same backbone.

The backbone is the ResNet-50 with the stride in the 3 × 3 convolution, trained as a whole with live BatchNorms from random weights, in
fp32 and with `--precision bf16`; torchvision's training scripts have low precision for GPUs only. trickzoo's steps have the memory format
and the optimiser of its trainings, torchvision's those of its scripts. Faster R-CNN has the feature pyramid and torchvision's settings;
FCN has output stride 8 and the auxiliary head. The images are in memory. Each variant runs in a process of its own;
in those of trickzoo, malloc is set as trickzoo's commands set it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import detection, segmentation
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from benchmarks.speed.harness import Comparison, OwnProcess
from trickzoo.detection import faster_rcnn
from trickzoo.recipes.finetune import VOC_MASKS
from trickzoo.segmentation import fcn
from trickzoo.training.optimiser import build
from trickzoo.tricks.low_precision import emulates_bf16

WHAT = "a training step of a detector and of a segmenter on a ResNet-50: forward, backward and SGD's step on 2 images"
CLASSES, N, SHORT, CROP = 21, 2, 128, 128
"""Number of classes and of images, and the sides of the images in pixels."""
LR = 1e-4
"""The learning rate, which is low enough for finite losses with random images."""


def comparisons() -> Iterator[Comparison]:
    """Yield the two comparisons."""
    yield Comparison(f"Faster R-CNN, short side {SHORT}", _variants(_boxes), N)
    yield Comparison(f"FCN, {CROP} × {CROP}", _variants(_masks), N)


def _variants(network: Callable[..., Callable[[], object]]) -> dict[str, Callable[[], object]]:
    low = {} if emulates_bf16() else {"trickzoo, bf16": OwnProcess(True, _take, network, True, True)}
    return {
        "trickzoo": OwnProcess(True, _take, network, True),
        **low,
        "torchvision": OwnProcess(False, _take, network, False),
    }


def _take(network: Callable[..., Callable[[], object]], ours: bool, low: bool = False) -> None:
    """Take a training step of a network, which is built in the first call."""
    _built(network, ours, low)()


@functools.cache
def _built(network: Callable[..., Callable[[], object]], ours: bool, low: bool) -> Callable[[], object]:
    return network(ours=ours, low=low)


def _step(model: nn.Module, loss: Callable[[], Tensor], ours: bool, low: bool) -> Callable[[], object]:
    """Return a function that takes a training step, with the forward pass in bf16 if `low`."""
    if ours:
        optimiser = build(VOC_MASKS.but("step", lr=LR), model.to(memory_format=torch.channels_last).parameters())
    else:
        optimiser = torch.optim.SGD(model.parameters(), lr=LR, momentum=VOC_MASKS.momentum, weight_decay=VOC_MASKS.weight_decay)
    model.train()

    def step() -> None:
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            value = loss()
        value.backward()
        optimiser.step()
        assert value.isfinite()

    return step


def _boxes(*, ours: bool, low: bool = False) -> Callable[[], object]:
    torch.manual_seed(0)
    if ours:
        model: nn.Module = faster_rcnn("resnet50_b", num_classes=CLASSES, min_size=SHORT, max_size=2 * SHORT)
    else:
        body = resnet_fpn_backbone(backbone_name="resnet50", weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5)
        model = detection.FasterRCNN(body, CLASSES, min_size=SHORT, max_size=2 * SHORT)
    torch.manual_seed(0)
    images = [torch.rand(3, SHORT, SHORT * 4 // 3) for _ in range(N)]
    corners = torch.rand(N, 8, 2) * SHORT / 2
    sides = 8 + torch.rand(N, 8, 2) * SHORT / 3
    labels = torch.randint(1, CLASSES, (N, 8))
    targets = [{"boxes": torch.cat([c, c + s], 1), "labels": k} for c, s, k in zip(corners, sides, labels, strict=True)]
    return _step(model, lambda: torch.stack(list(model(images, targets).values())).sum(), ours, low)


def _masks(*, ours: bool, low: bool = False) -> Callable[[], object]:
    torch.manual_seed(0)
    if ours:
        model: nn.Module = fcn("resnet50_b", num_classes=CLASSES)
    else:
        model = segmentation.fcn_resnet50(weights=None, weights_backbone=None, num_classes=CLASSES, aux_loss=True)
    torch.manual_seed(0)
    images, truth = torch.rand(N, 3, CROP, CROP), torch.randint(0, CLASSES, (N, CROP, CROP))

    def loss() -> Tensor:
        out = model(images)
        main, auxiliary = out if ours else (out["out"], out["aux"])
        return F.cross_entropy(main, truth) + 0.5 * F.cross_entropy(auxiliary, truth)

    return _step(model, loss, ours, low)
