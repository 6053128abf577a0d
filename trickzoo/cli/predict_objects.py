"""`trickzoo predict` with detectors and segmenters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trickzoo.cli.predict_rows import of_image, turned
from trickzoo.cli.printing import fit, say
from trickzoo.errors import BadOption
from trickzoo.wording import count

if TYPE_CHECKING:
    from PIL import Image

    from trickzoo.loading import Network


def pictures(images: Sequence[Path], out: Path, overwrite: bool) -> list[Path]:
    """Return the path of each image's picture.

    Raises BadOption if a picture would replace an existing file without `overwrite`, an image, or the picture of another image. Raises
    BadData if an image cannot be read.
    """
    from trickzoo.data.images import read
    from trickzoo.files import file_name

    pictures = [out / file_name(image.stem, ".png") for image in images]
    originals = {image.resolve() for image in images}
    taken: dict[Path, Path] = {}
    for image, picture in zip(images, pictures, strict=True):
        other = taken.setdefault(picture, image)
        if other.resolve() != image.resolve():
            raise BadOption(f"{other} and {image} would both be drawn into {picture}; draw them into two folders with --out")
        if picture.resolve() in originals:
            raise BadOption(f"{picture} is one of the images; name another folder with --out")
        if picture.exists() and not overwrite:
            raise BadOption(f"{picture} exists already; replace it with --overwrite, or name another folder with --out")
    for image in images:  # all are decoded before the first picture is drawn, and none is kept, as there may be many
        read(image)
    return pictures


def boxes(images: Sequence[Path], pictures: Sequence[Path], network: Network, threshold: float) -> Iterator[dict[str, Any]]:
    """Draw the boxes of each image into its picture, and yield them."""
    from trickzoo.data.images import read
    from trickzoo.drawing import draw_boxes

    for image, picture in zip(images, pictures, strict=True):
        photograph = read(image).upright()
        found = network.run(photograph.image)
        sure = found.scores >= threshold
        boxes, scores, labels = (each[sure] for each in found)
        _save(draw_boxes(photograph.image, boxes, labels, network.classes, scores), picture)
        names = [name for name, kept in zip(found.names, sure, strict=True) if kept]
        rows = [
            {"class": name, "score": round(score, 4), "box": [round(edge * photograph.scale, 1) for edge in box]}
            for name, box, score in zip(names, boxes.tolist(), scores.tolist(), strict=True)
        ]
        yield {**of_image(image, photograph), "picture": str(picture), "size": list(photograph.size), "boxes": rows}


def masks(images: Sequence[Path], pictures: Sequence[Path], network: Network) -> Iterator[dict[str, Any]]:
    """Draw the mask of each image into its picture, and yield the classes' shares of the pixels."""
    import numpy as np
    import torch

    from trickzoo.data.images import read
    from trickzoo.drawing import draw_mask

    for image, picture in zip(images, pictures, strict=True):
        photograph = read(image).upright()
        mask = network.run(photograph.image)
        _save(draw_mask(photograph.image, mask, network.classes), picture)
        shares = torch.bincount(torch.from_numpy(mask).flatten(), minlength=len(network.classes)).numpy() / mask.size
        found = {network.classes[i]: round(float(shares[i]), 6) for i in np.argsort(-shares, kind="stable") if shares[i]}
        yield {**of_image(image, photograph), "picture": str(picture), "shares": found}


def _save(drawn: Image.Image, path: Path) -> None:
    from trickzoo.files import atomically

    with atomically(path) as temporary:
        drawn.save(temporary, format="PNG")


def say_boxes(found: dict[str, Any]) -> None:
    boxes = found["boxes"]
    say(f"{found['image']}: {count(len(boxes), 'box')}, {found['picture']}{turned(found)}")
    for row in boxes:
        say(f"  {fit(row['class'], 24)} {row['score']:.3f}  {' '.join(f'{edge:7.1f}' for edge in row['box'])}")


def say_shares(found: dict[str, Any]) -> None:
    say(f"{found['image']}: {found['picture']}{turned(found)}")
    for name, share in found["shares"].items():
        say(f"  {fit(name, 24)} {share:7.2%}")
