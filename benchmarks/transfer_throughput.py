"""Images per second of a training step of Faster R-CNN and FCN, against torchvision's own with the same backbone, in turns.

    python benchmarks/transfer_throughput.py [--short 320] [--crop 240] [--batch-size 2] [--n 7]

Both are ResNet-50 with the stride in the 3x3 (torchvision's, our resnet50_b), trained as a whole with live BatchNorms from random weights,
in fp32, on the same images, which are in memory: forward, backward and SGD's step. Faster R-CNN has the feature pyramid and torchvision's
settings; FCN has output stride 8 and the auxiliary head.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from ratios import summary
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import detection, segmentation
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from trickzoo.detection import faster_rcnn
from trickzoo.evidence import environment, write_json
from trickzoo.segmentation import fcn

RESULTS = Path(__file__).parent / "results"
CLASSES, STEPS = 21, 2


def seconds(model: nn.Module, loss: Callable[[], Tensor]) -> float:
    """Return the mean wall time of a training step in seconds."""
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
    times = []
    for _ in range(1 + STEPS):  # the first warms up
        start = time.perf_counter()
        optimiser.zero_grad()
        value = loss()
        value.backward()
        optimiser.step()
        assert value.isfinite()
        times.append(time.perf_counter() - start)
    return statistics.mean(times[1:])


def boxes(short: int, n: int, ours: bool) -> float:
    """Return the mean wall time of a training step of Faster R-CNN in seconds."""
    torch.manual_seed(0)
    if ours:
        model: nn.Module = faster_rcnn("resnet50_b", num_classes=CLASSES, min_size=short, max_size=2 * short)
    else:
        body = resnet_fpn_backbone(backbone_name="resnet50", weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5)
        model = detection.FasterRCNN(body, CLASSES, min_size=short, max_size=2 * short)
    torch.manual_seed(0)
    images = [torch.rand(3, short, short * 4 // 3) for _ in range(n)]
    corners = torch.rand(n, 8, 2) * short / 2
    sides = 8 + torch.rand(n, 8, 2) * short / 3
    labels = torch.randint(1, CLASSES, (n, 8))
    targets = [{"boxes": torch.cat([c, c + s], 1), "labels": k} for c, s, k in zip(corners, sides, labels, strict=True)]
    return seconds(model.train(), lambda: torch.stack(list(model(images, targets).values())).sum())


def masks(crop: int, n: int, ours: bool) -> float:
    """Return the mean wall time of a training step of FCN in seconds."""
    torch.manual_seed(0)
    if ours:
        model: nn.Module = fcn("resnet50_b", num_classes=CLASSES)
    else:
        model = segmentation.fcn_resnet50(weights=None, weights_backbone=None, num_classes=CLASSES, aux_loss=True)
    torch.manual_seed(0)
    images, truth = torch.rand(n, 3, crop, crop), torch.randint(0, CLASSES, (n, crop, crop))

    def loss() -> Tensor:
        out = model(images)
        main, aux = out if ours else (out["out"], out["aux"])
        return F.cross_entropy(main, truth) + 0.5 * F.cross_entropy(aux, truth)

    return seconds(model.train(), loss)


def main() -> None:
    """Run, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", type=int, default=320)
    parser.add_argument("--crop", type=int, default=240)
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--n", type=int, default=7)
    args = parser.parse_args()
    found: dict[str, list[tuple[float, float]]] = {"faster_rcnn": [], "fcn": []}
    for turn in range(args.n):
        for name, step, size in (("faster_rcnn", boxes, args.short), ("fcn", masks, args.crop)):
            first = bool(turn % 2)  # who comes first changes, so that a machine that slows down favours neither
            times = {ours: step(size, args.batch_size, ours) for ours in (first, not first)}
            found[name].append((args.batch_size / times[True], args.batch_size / times[False]))
            print(name, [round(rate, 3) for rate in found[name][-1]], flush=True)
    result = {
        "what": f"a training step of Faster R-CNN (short side {args.short}) and FCN (crop {args.crop}) on ResNet-50, "
        f"batch {args.batch_size}, fp32: images per second, and the ratio to torchvision's own model in the same turn",
        "n": args.n,
        **{
            name: {
                "images_per_second_median": round(statistics.median(ours for ours, _ in rates), 3),
                "torchvision_images_per_second_median": round(statistics.median(theirs for _, theirs in rates), 3),
                "to_torchvision": summary([ours / theirs for ours, theirs in rates]),
            }
            for name, rates in found.items()
        },
        **environment(),
    }
    write_json(RESULTS / "transfer_throughput.json", result)
    print({name: result[name] for name in found})


if __name__ == "__main__":
    main()
