"""The targets of a detector: their conversion to the types that torchvision takes, and their checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torchvision.tv_tensors import BoundingBoxFormat

from trickzoo.errors import BadOption
from trickzoo.wording import count


def checked(images: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]], classes: int | None) -> list[dict[str, Tensor]]:
    """Return the targets with (n, 4) floating-point boxes and (n,) int64 labels; those that were passed stay as they are.

    Whole numbers of any type are accepted, and an empty tensor as the boxes or labels of an image without objects. Raises BadOption for
    targets that do not fit the images or the classes, for boxes that have no area or are not finite, and for two or more boxes that all lie
    within the first pixel of their images. A single one could be a small object in the corner. `classes` counts the background; with None,
    the labels have no upper bound.
    """
    if len(images) != len(targets):
        raise BadOption(f"each image needs a target, and there are {count(len(images), 'image')} and {count(len(targets), 'target')}")
    found = [_converted(number, target) for number, target in enumerate(targets)]
    labels = torch.cat([target["labels"] for target in found])
    boxes = torch.cat([target["boxes"] for target in found])
    fit, whole = (labels >= 1) & (classes is None or labels < classes), _have_area(boxes)
    pixels = (boxes > 1).any() if len(boxes) > 1 else torch.tensor(True)
    if bool((fit & whole & pixels).all()):  # one check for all, because reading a result from a GPU waits for it
        return found
    if not bool(fit.all()):
        upper = " on" if classes is None else f" to {classes - 1}"
        given = f"{int(labels.min())} to {int(labels.max())}"
        raise BadOption(f"the targets have labels from {given}; they go from 1{upper}, because 0 is the background")
    if bool(whole.all()):
        raise BadOption(
            "every box of the targets lies within the first pixel of its image; boxes are in pixels, not fractions of the image"
        )
    number, box = next((n, int(i)) for n, target in enumerate(found) for i in (~_have_area(target["boxes"])).nonzero()[:1])
    corners = ", ".join(f"{value:g}" for value in found[number]["boxes"][box].tolist())
    raise BadOption(f"target {number}: box {box} is ({corners}); corners x0, y0, x1, y1 must be finite, with x0 < x1 and y0 < y1")


def _have_area(boxes: Tensor) -> Tensor:
    return boxes.isfinite().all(1) & (boxes[:, :2] < boxes[:, 2:]).all(1)


def _converted(number: int, target: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a target with the types that torchvision takes. Raises BadOption for wrong keys, types or shapes, without a look at values."""
    for key in ("boxes", "labels"):
        if not isinstance(target, Mapping) or key not in target:
            raise BadOption(f"target {number} has no {key}; a target is a dict of boxes and labels")
        if not isinstance(target[key], Tensor):
            raise BadOption(f"target {number}: boxes and labels must be tensors, and its {key} are a {type(target[key]).__name__}")
    boxes, labels = target["boxes"], target["labels"]
    if (form := getattr(boxes, "format", None)) not in (None, BoundingBoxFormat.XYXY):
        raise BadOption(
            f"target {number}: boxes must be corners x0, y0, x1, y1, and these are {form.value}; torchvision's "
            'v2.ConvertBoundingBoxFormat("XYXY") converts them'
        )
    if boxes.shape == (0,):
        boxes = boxes.reshape(0, 4)
    if labels.shape == (0,):
        labels = labels.long()
    if boxes.ndim != 2 or boxes.shape[1] != 4 or boxes.is_complex():
        raise BadOption(f"target {number}: boxes must be (n, 4) numbers, not the shape {tuple(boxes.shape)} of {boxes.dtype}")
    if labels.ndim != 1 or labels.dtype == torch.bool or labels.is_floating_point() or labels.is_complex():
        raise BadOption(f"target {number}: labels must be (n,) whole numbers, not the shape {tuple(labels.shape)} of {labels.dtype}")
    if len(boxes) != len(labels):
        raise BadOption(f"target {number} has {count(len(boxes), 'box')} and {count(len(labels), 'label')}")
    return {**target, "boxes": boxes if boxes.is_floating_point() else boxes.float(), "labels": labels.long()}
