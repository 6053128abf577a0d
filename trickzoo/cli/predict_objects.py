"""`trickzoo predict` with detectors and segmenters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trickzoo.cli.predict_rows import of_image, turned
from trickzoo.cli.printing import fit, say
from trickzoo.errors import BadOption
from trickzoo.wording import count

if TYPE_CHECKING:
    from trickzoo.data.picture import Picture
    from trickzoo.loading import Network, Prediction


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


def boxes(image_and_picture: tuple[Path, Path], network: Network, threshold: float) -> dict[str, Any]:
    """Draw the boxes of an image into its picture, and return them."""
    image, picture = image_and_picture
    photograph, found = _drawn(image, picture, network, threshold)
    rows = [
        {"class": network.classes[each.label], "score": round(each.score, 4), "box": [round(edge, 1) for edge in each.box or ()]}
        for each in found.found
    ]
    return {**of_image(image, photograph), "picture": str(picture), "size": list(photograph.size), "boxes": rows}


def mask(image_and_picture: tuple[Path, Path], network: Network) -> dict[str, Any]:
    """Draw the mask of an image into its picture, and return the classes' shares of the pixels."""
    image, picture = image_and_picture
    photograph, found = _drawn(image, picture, network)
    shares = {network.classes[each.label]: round(each.score, 6) for each in found.found}
    return {**of_image(image, photograph), "picture": str(picture), "shares": shares}


def _drawn(image: Path, picture: Path, network: Network, threshold: float = 0.0) -> tuple[Picture, Prediction]:
    """Draw what the network predicts for an image into its picture. Return the image, turned upright, and the prediction."""
    from trickzoo.data.images import read
    from trickzoo.files import atomically

    photograph = read(image).upright()
    found = network.predict_picture(photograph, threshold)
    with atomically(picture) as temporary:
        network.draw(photograph, found).save(temporary, format="PNG")
    return photograph, found


def say_boxes(found: dict[str, Any]) -> None:
    boxes = found["boxes"]
    say(f"{found['image']}: {count(len(boxes), 'box')}, {found['picture']}{turned(found)}")
    for row in boxes:
        say(f"  {fit(row['class'], 24)} {row['score']:.3f}  {' '.join(f'{edge:7.1f}' for edge in row['box'])}")


def say_shares(found: dict[str, Any]) -> None:
    say(f"{found['image']}: {found['picture']}{turned(found)}")
    for name, share in found["shares"].items():
        say(f"  {fit(name, 24)} {share:7.2%}")
