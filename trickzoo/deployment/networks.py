"""Networks with their preprocessing and postprocessing inside, in a form that torch.export accepts, for files."""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import clip_boxes_to_image, nms, roi_align

from trickzoo.data.annotated_transforms import Scale
from trickzoo.data.transforms import LONGEST, Normalisation
from trickzoo.deployment.description import Input
from trickzoo.deployment.resizing import larger, resize, smaller
from trickzoo.detection.model import FasterRCNN
from trickzoo.factory import freeze_norms
from trickzoo.segmentation.model import Segmenter
from trickzoo.weights.record import Preprocessing

DIVISOR = 32
"""A detector's input is padded to a multiple of this, as by torchvision."""
TOGETHER = 8
"""How many classes of a segmenter are enlarged to the size of the image at once; 8 float32 values per pixel."""


class Preparation(nn.Module):
    """As much of a classifier's preprocessing as `kind` says.

    It takes (N, H, W, 3) uint8 images of one size for "image", otherwise (N, C, size, size) images, uint8 or float32, and returns (N, C,
    size, size) normalised images.
    """

    def __init__(self, channels: int, preprocessing: Preprocessing, kind: Input) -> None:
        super().__init__()
        self.preprocessing, self.kind = preprocessing, kind
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (preprocessing.mean, preprocessing.std))
        self.grey = channels == 1
        self.mean, self.std = (mean.mean(0, keepdim=True), std.mean(0, keepdim=True)) if self.grey else (mean, std)

    def forward(self, images: Tensor) -> Tensor:
        if self.kind == "image":
            images = self._cropped(images.permute(0, 3, 1, 2))
        if self.kind in ("image", "uint8"):
            images = images.float() / 255
        return images if self.kind == "normalised" else (images - self.mean) / self.std

    def _cropped(self, images: Tensor) -> Tensor:
        """Return what `data.transforms.resize_and_crop` returns, of (N, 3, H, W) uint8 images: (N, C, size, size) in 0…255."""
        if self.grey:  # as Pillow converts RGB
            weights = torch.tensor([19595, 38470, 7471]).view(3, 1, 1)
            images = (((images.long() * weights).sum(1, keepdim=True) + 2**15) // 2**16).byte()
        height, width = images.shape[-2:]
        limit = LONGEST * smaller(height, width)
        down, across = larger(height - limit, 0) // 2, larger(width - limit, 0) // 2
        height, width = height - 2 * down, width - 2 * across
        images = images.narrow(2, down, height).narrow(3, across, width)
        short, least = self.preprocessing.short_side, smaller(height, width)
        new = short * height // least, short * width // least
        rows, columns = (_middle(side, self.preprocessing.size) for side in new)
        return resize(images, *new, interpolation=self.preprocessing.interpolation, arithmetic="pillow", rows=rows, columns=columns)


def _middle(side: int, size: int) -> Tensor:
    """Return the (size,) places of the centre crop in `side` pixels; half a pixel is rounded to even, as by torchvision."""
    left, half = (side - size) // 2, (side - size) % 2
    return torch.arange(size) + (left + left % 2 * half)


def _fitted(image: Tensor, short: float | Tensor, long: float | Tensor) -> Tensor:
    """Resize an (H, W, 3) uint8 image as the evaluation does, and return it as (3, h, w) in 0…255.

    The size is that of `data.annotated_transforms.fit`, computed by the same operations on float64.
    """
    sides = _sides(image)
    limits = torch.stack([torch.as_tensor(limit, dtype=torch.float64) for limit in (short, long)])  # a number / a tensor would be inexact
    scale = (limits / torch.stack([sides.min(), sides.max()])).min()
    size = (sides * scale).round().clamp(min=1).long()
    height, width = (cast(int, side.item()) for side in size)
    for side in (height, width):
        torch._check(side >= 1)
    return resize(image.permute(2, 0, 1), height, width)


def _sides(image: Tensor) -> Tensor:
    return torch.tensor(image.shape[:2]).double()


class WholeDetector(nn.Module):
    """A detector from `detection.load` as one graph, with its resizing.

    It takes one (H, W, 3) uint8 image, and returns what `detection.predict` finds in it: (n, 4) float32 boxes, x0 y0 x1 y1 in pixels of the
    image, (n,) float32 scores in descending order, and (n,) int64 labels, which are indices of `model.classes`.
    """

    def __init__(self, model: FasterRCNN) -> None:
        super().__init__()
        # torch.export cannot tell that a BatchNorm gets a map that is not empty if only the data tell its size
        self.model = cast(FasterRCNN, freeze_norms(copy.deepcopy(model)))
        self.short, self.long = model.sides
        self.mean, self.std = (torch.tensor(each).view(3, 1, 1) for each in (model.transform.image_mean, model.transform.image_std))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pixels = (_fitted(image, self.short, self.long) / 255 - self.mean) / self.std
        height, width = pixels.shape[-2:]
        cells = [cast(int, cell.item()) for cell in ((_sides(pixels.permute(1, 2, 0)) / DIVISOR).ceil().long())]
        padded = F.pad(pixels, (0, DIVISOR * cells[1] - width, 0, DIVISOR * cells[0] - height))[None]
        maps = self.model.backbone(padded)
        proposals = self._proposals(maps, padded, (height, width))
        boxes, scores, labels = self._detections(maps, proposals, (height, width))
        scale = _sides(image).flip(0) / _sides(pixels.permute(1, 2, 0)).flip(0)
        return (boxes.double() * scale.repeat(2)).float(), scores, labels

    def _proposals(self, maps: dict[str, Tensor], padded: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the (r, 4) proposals of the RPN, as torchvision's `RegionProposalNetwork` does."""
        rpn, features = self.model.rpn, list(maps.values())
        anchors, first = rpn.anchor_generator(ImageList(padded, [size]), features)[0], 0
        found = []
        for objectness, deltas in zip(*rpn.head(features), strict=True):
            each, (height, width) = objectness.shape[1], objectness.shape[2:]
            count = each * height * width
            scores = objectness[0].permute(1, 2, 0).reshape(count)
            scores, best = scores.topk(smaller(count, rpn.pre_nms_top_n()))
            deltas = deltas[0].reshape(each, 4, height, width).permute(2, 3, 0, 1).reshape(count, 4)
            boxes = rpn.box_coder.decode_single(deltas[best], anchors[first : first + count][best])
            boxes, scores = clip_boxes_to_image(boxes, size), scores.sigmoid()
            kept = torch.where(_large(boxes, rpn.min_size) & (scores >= rpn.score_thresh))[0]
            kept = kept[nms(boxes[kept], scores[kept], rpn.nms_thresh)]
            found.append((boxes[kept], scores[kept]))
            first += count
        boxes, scores = (torch.cat(each) for each in zip(*found, strict=True))
        return boxes[scores.argsort(descending=True)[: rpn.post_nms_top_n()]]

    def _detections(self, maps: dict[str, Tensor], proposals: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """Return boxes, scores and labels in the resized image, as torchvision's `RoIHeads` does."""
        heads = self.model.roi_heads
        proposals, pooled = self._pooled(maps, proposals)
        logits, deltas = heads.box_predictor(heads.box_head(pooled))
        classes = logits.shape[1]
        boxes = heads.box_coder.decode_single(deltas, proposals).reshape(-1, classes, 4)[:, 1:].reshape(-1, 4)
        scores = logits.softmax(1)[:, 1:].reshape(-1)
        labels = torch.arange(classes - 1).expand(logits.shape[0], classes - 1).reshape(-1)
        boxes = clip_boxes_to_image(boxes, size)
        kept = torch.where((scores > heads.score_thresh) & _large(boxes, 1e-2))[0]
        boxes, scores, labels = boxes[kept], scores[kept], labels[kept]
        apart: Tensor = labels * (larger(*size) + 1)  # boxes of different classes do not overlap
        best = nms(boxes + apart[:, None], scores, heads.nms_thresh)[: heads.detections_per_img]
        return boxes[best], scores[best], labels[best]

    def _pooled(self, maps: dict[str, Tensor], proposals: Tensor) -> tuple[Tensor, Tensor]:
        """Return the proposals in another order, by their levels, and the map of each."""
        pool = self.model.roi_heads.box_roi_pool
        levels = [maps[name] for name in pool.featmap_names]
        on = pool.map_levels([proposals]) if len(levels) > 1 else torch.zeros(proposals.shape[0])
        rois, parts = [], []
        for number, (features, scale) in enumerate(zip(levels, pool.scales, strict=True)):
            here = proposals[torch.where(on == number)[0]]
            batch = F.pad(here, (1, 0))  # the index of the image, 0, before the corners
            parts.append(roi_align(features, batch, pool.output_size, scale, pool.sampling_ratio))
            rois.append(here)
        return torch.cat(rois), torch.cat(parts)


def _large(boxes: Tensor, side: float) -> Tensor:
    return (boxes[:, 2] - boxes[:, 0] >= side) & (boxes[:, 3] - boxes[:, 1] >= side)


class WholeSegmenter(nn.Module):
    """A segmenter from `segmentation.load` as one graph, with its resizing.

    It takes one (H, W, 3) uint8 image, and returns the class of each pixel, (H, W) uint8, as `segmentation.predict` does.
    """

    def __init__(self, model: Segmenter) -> None:
        super().__init__()
        self.model, self.short, self.normalise = _with_even_pools(copy.deepcopy(model)), model.short, Normalisation.of(model.trunk)

    def forward(self, image: Tensor) -> Tensor:
        sides = _sides(image)
        if self.short:
            pixels = _fitted(image, self.short, Scale.LONGEST * self.short)
        else:
            least, most = sides.min(), sides.max()
            pixels = _fitted(image, least, torch.minimum(most, (Scale.MOST * most / least).sqrt()))
        if self.model.align_corners:  # the distance between two corners must not be 0
            for side in pixels.shape[-2:]:
                torch._check(side > 1)
        logits = self.model(self.normalise(pixels[None]))
        highest, classes = _largest(logits[:, :TOGETHER], image, 0)
        for first in range(TOGETHER, logits.shape[1], TOGETHER):
            more, others = _largest(logits[:, first : first + TOGETHER], image, first)
            classes = torch.where(more > highest, others, classes)
            highest = torch.maximum(highest, more)
        return classes.byte()


class EvenPool(nn.Module):
    """The mean of each 2 × 2 cells, where the last row and column of an odd number of cells count twice.

    It equals `nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False)`, whose shape torch.export does not find if only the data tell
    the number of cells.
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(F.pad(x, (0, 1, 0, 1), mode="replicate"), 2, 2)


def _with_even_pools(module: Segmenter) -> Segmenter:
    """Replace, in place, every pooling that rounds its shape up by an `EvenPool`, and return the module."""
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.AvgPool2d) and child.ceil_mode:
                parent.add_module(name, EvenPool())
    return module


def _largest(logits: Tensor, image: Tensor, first: int) -> tuple[Tensor, Tensor]:
    """Return for each pixel of the image the largest of (1, k, h, w) logits, and its class, whose number begins at `first`."""
    most, which = F.interpolate(logits, size=image.shape[:2], mode="bilinear", align_corners=False).max(1)
    return most[0], which[0] + first
