"""`trickzoo predict` with detectors and segmenters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trickzoo.cli.predict_rows import of_image, turned
from trickzoo.cli.printing import fit, say
from trickzoo.errors import BadOption
from trickzoo.wording import count

if TYPE_CHECKING:
    from trickzoo.data.picture import Picture
    from trickzoo.loading import Network, Prediction


def outputs(listed: Sequence[tuple[Path, Path]], out: Path, masks: Path | None, overwrite: bool) -> dict[Path, tuple[Path, Path | None]]:
    """Return the paths of each image's picture and of its mask, if masks are written.

    `listed` has each image with what the user named: the image itself, a pattern, or a folder, whose subfolders are kept.
    Raises BadOption if one of these would replace an existing file without `overwrite`, an image, or the file of another image.
    """
    if masks is not None and masks.resolve() == out.resolve():
        raise BadOption(f"--out and --masks are both {out}; name two folders")
    images: dict[Path, Path] = {}
    for image, named in listed:
        images.setdefault(image, image.relative_to(named) if named.is_dir() else Path(image.name))
    pictures = _paths(images, out, overwrite, "--out")
    labels = [None] * len(images) if masks is None else _paths(images, masks, overwrite, "--masks")
    return dict(zip(images, zip(pictures, labels, strict=True), strict=True))


def _paths(images: Mapping[Path, Path], folder: Path, overwrite: bool, option: str) -> list[Path]:
    """Return the path of each image's file in a folder that an option names, given its place there. Raises BadOption as `outputs` does."""
    from trickzoo.files import file_name

    paths = [folder / place.parent / file_name(place.stem, ".png") for place in images.values()]
    originals = {image.resolve() for image in images}
    taken: dict[Path, Path] = {}
    for image, path in zip(images, paths, strict=True):
        other = taken.setdefault(path, image)
        if other.resolve() != image.resolve():
            raise BadOption(f"{other} and {image} would both be drawn into {path}; draw them into two folders with {option}")
        if path.resolve() in originals:
            raise BadOption(f"{path} is one of the images; name another folder with {option}")
        if path.exists() and not overwrite:
            raise BadOption(f"{path} exists already; replace it with --overwrite, or name another folder with {option}")
    return paths


def boxes(item: tuple[Path, Path, None], network: Network, threshold: float) -> dict[str, Any]:
    """Draw the boxes of an image into its picture, and return them."""
    image, picture, _ = item
    photograph, found = _drawn(image, picture, network, threshold)
    rows = [
        {"class": network.classes[each.label], "score": round(each.score, 4), "box": [round(edge, 1) for edge in each.box or ()]}
        for each in found.found
    ]
    return {**of_image(image, photograph), "picture": str(picture), "size": list(photograph.size), "boxes": rows}


def mask(item: tuple[Path, Path, Path | None], network: Network) -> dict[str, Any]:
    """Draw the mask of an image into its picture, write it to a file if one is named, and return the classes' shares of the pixels."""
    from PIL import Image

    from trickzoo.drawing import palette
    from trickzoo.files import atomically

    image, picture, file = item
    photograph, found = _drawn(image, picture, network)
    if file is not None and found.mask is not None:
        labels = Image.fromarray(found.mask).resize(photograph.size, Image.Resampling.NEAREST)
        labels.putpalette(palette(network.classes))
        with atomically(file) as temporary:
            labels.save(temporary, format="PNG")
    shares = {network.classes[each.label]: round(each.score, 6) for each in found.found}
    written = {} if file is None else {"mask": str(file)}
    return {**of_image(image, photograph), "picture": str(picture), **written, "shares": shares}


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
