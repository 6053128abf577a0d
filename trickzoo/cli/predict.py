"""The command `trickzoo predict`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from trickzoo.cli.options import Flag, check_preprocessing
from trickzoo.cli.printing import fit, say, say_json
from trickzoo.errors import BadOption
from trickzoo.files import expanded
from trickzoo.weights import named
from trickzoo.weights.record import Interpolation

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image
    from torch import Tensor

    from trickzoo.data.images import Picture
    from trickzoo.deployment.opened import Exported
    from trickzoo.detection.metrics import NamedDetections

TOP, THRESHOLD, PICTURES = 5, 0.5, Path("predictions")
EXPORTED = (".onnx", ".pt2", ".xml")
"""How the names of the files of `trickzoo export` end that hold a whole network."""


def predict(
    *images: Path,
    model: Annotated[
        str | None,
        Parameter(
            help="A model, one of its weights, or an .onnx or .xml file of `trickzoo export`. Weight files of trickzoo do not need it."
        ),
    ] = None,
    weights: Annotated[
        str | None, Parameter(help="Tag, file or hf-hub: reference; by default the model's default weight. A file's header names the task.")
    ] = None,
    task: Annotated[
        Literal["classification", "detection", "segmentation"] | None,
        Parameter(help="The task that the file must be for; without it, the file's own."),
    ] = None,
    classes: Annotated[str | None, Parameter(help="imagenet1k, imagenette or a text file, if the weights do not name the classes.")] = None,
    size: Annotated[int | None, Parameter(help="Side of the input in pixels, instead of the weights' own.")] = None,
    crop: Annotated[float | None, Parameter(help="Fraction of the resized image that the crop keeps.")] = None,
    interpolation: Annotated[Interpolation | None, Parameter(help="Resize filter.")] = None,
    top: Annotated[int | None, Parameter(help=f"How many classes to print, {TOP} by default.")] = None,
    out: Annotated[Path | None, Parameter(help=f"Folder for the pictures with boxes or masks, {PICTURES}/ by default.")] = None,
    threshold: Annotated[float | None, Parameter(help=f"Lowest score of the boxes that are shown, {THRESHOLD} by default.")] = None,
    overwrite: Annotated[bool, Flag, Parameter(help="Replace existing pictures.")] = False,
    json: Annotated[bool, Parameter(negative="", help="Print JSON.")] = False,
) -> None:
    """Print the most likely classes of each image, or draw and print the boxes or masks that a fine-tuned or exported network predicts.

    A folder stands for the images in it and in the folders below it.
    Images are turned upright by their EXIF orientation, and the output says so. Boxes are x0 y0 x1 y1 in pixels of the upright image at its
    full size. For masks each class's share of the pixels is printed.
    """
    from trickzoo.data.images import size_of

    if not images:
        raise BadOption("name one image or more")
    images = tuple(file for image in images for file in _files(image))
    if top is not None and top < 1:
        raise BadOption(f"--top must be 1 or more, not {top}")
    if threshold is not None and not 0 <= threshold <= 1:
        raise BadOption(f"--threshold must be from 0 to 1, not {threshold:g}")
    check_preprocessing(size, crop)
    exported = _exported(
        model, task, {"--weights": weights, "--classes": classes, "--size": size, "--crop": crop, "--interpolation": interpolation}
    )
    kind, path = (exported.description.task, Path(str(model))) if exported else _kind(weights, task)
    for kinds, given in (
        (("detection", "segmentation"), {"--out": out, "--overwrite": overwrite or None}),
        (("detection",), {"--threshold": threshold}),
        (("classification",), {"--model": None if exported else model, "--classes": classes, "--size": size, "--crop": crop, "--top": top}),
        (("classification",), {"--interpolation": interpolation}),
    ):
        for name, value in given.items():
            if value is not None and kind not in kinds:
                raise BadOption(f"{name} is for {' and '.join(kinds)}, and {path or model or 'this'} is for {kind}; leave it out")
    if path is None or kind == "classification":
        if exported is None:
            named.check(name := _model(model, path), weights)
        for image in images:  # a wrong path is told before torch is imported and the network is loaded, which takes longer
            size_of(image)
        network = _exported_classifier(exported) if exported else _classifier(name, weights, classes, size, crop, interpolation)
        found = _classify(images, *network, TOP if top is None else top)
        tell = _say_classes
    else:
        pictures = _pictures(images, out or PICTURES, overwrite)
        if kind == "detection":
            found, tell = _boxes(images, pictures, *_detector(exported, path), THRESHOLD if threshold is None else threshold), _say_boxes
        else:
            found, tell = _masks(images, pictures, *_segmenter(exported, path)), _say_shares
    if json:
        say_json(list(found))
        return
    for row in found:
        tell(row)


def _files(path: Path) -> list[Path]:
    """Return the path of an image, or the paths of the images in a folder and the folders below it, without hidden ones.

    Raises BadOption if a folder holds no images.
    """
    from trickzoo.data.images import EXTENSIONS

    if not path.is_dir():
        return [path]
    below = (file for file in path.rglob("*") if file.suffix.lower() in EXTENSIONS and file.is_file())
    found = sorted(file for file in below if not any(part.startswith(".") for part in file.relative_to(path).parts))
    if not found:
        raise BadOption(f"{path} holds no images; their names end in {', '.join(sorted(EXTENSIONS))}")
    return found


def _exported(model: str | None, task: str | None, fixed: dict[str, Any]) -> Exported | None:
    """Open the exported file that `--model` names, or return None if it names none.

    Raises BadOption if the file is for another task than `task`, or if one of the `fixed` options is given, which a file decides.
    """
    if model is None or not model.endswith(EXPORTED):
        return None
    from trickzoo.deployment.opened import open_exported

    for name, value in fixed.items():
        if value is not None:
            raise BadOption(f"{name} is decided in {model}; leave it out, or export the network again with it")
    exported = open_exported(expanded(model))
    if task is not None and task != exported.description.task:
        raise BadOption(f"{model} is for {exported.description.task}, not for {task}; leave --task out")
    return exported


def _kind(weights: str | None, task: str | None) -> tuple[str, Path | None]:
    """Return the task, and the path of the weights if they are a file. Raises BadOption if the file is for another task than `task`."""
    from trickzoo.weights.header import task_of

    if weights and weights.endswith(EXPORTED):
        raise BadOption(f"{weights} is a whole network and not only weights; name it with --model")
    path = expanded(weights) if weights and not weights.startswith("hf-hub:") and named.is_file(weights) else None
    kind = task_of(path) if path else "classification"
    if task is not None and task != kind:
        if path is None:
            raise BadOption(f"--task {task} needs --weights FILE, a model.safetensors that trickzoo-finetune wrote for {task}")
        raise BadOption(f"{path} is for {kind}, not for {task}; name a file that was trained for {task}, or leave --task out")
    return kind, path


def _model(model: str | None, path: Path | None) -> str:
    """Return the name of the classifier, from `model` or from the file's header. Raises BadOption if neither is given."""
    from trickzoo.weights.header import model_of

    if model is None and path is None:
        raise BadOption("name a model with --model, or with --weights a file that trickzoo wrote")
    return model if model is not None else model_of(Path(str(path)))


# ---------------------------------------------------------------------------------------------------------------------
# classes of whole images


def _classifier(
    model: str, weights: str | None, classes: str | None, size: int | None, crop: float | None, interpolation: Interpolation | None
) -> tuple[Callable[[Image.Image], Tensor], Sequence[str]]:
    """Return a function from an RGB image to logits, and the names of the classes."""
    from trickzoo.cli.common import classes_of, loaded, preprocessing_of
    from trickzoo.data.transforms import eval_transform

    network = loaded(model, weights)
    names = classes_of(network, classes)
    transform = eval_transform(preprocessing_of(network, size=size, crop=crop, interpolation=interpolation))
    return lambda image: network(transform(image)[None])[0], names


def _exported_classifier(exported: Exported) -> tuple[Callable[[Image.Image], Tensor], Sequence[str]]:
    from trickzoo.deployment.predict import classify

    return lambda image: classify(exported, image), exported.description.classes


def _classify(images: Sequence[Path], logits: Callable[[Image.Image], Tensor], names: Sequence[str], top: int) -> Iterable[dict[str, Any]]:
    import torch

    from trickzoo.data.classes import describe_class
    from trickzoo.data.images import read

    results = []
    with torch.inference_mode():
        for image in images:
            picture = read(image).upright()
            probability, index = logits(picture.image).softmax(0).topk(min(top, len(names)))
            likeliest = [
                {"class": names[i], "name": describe_class(names[i]), "probability": p}
                for p, i in zip(probability.tolist(), index.tolist(), strict=True)
            ]
            results.append({**_named(image, picture), "top": likeliest})
    return results


def _named(image: Path, picture: Picture) -> dict[str, Any]:
    """Return the entries of the output that do not depend on the task: the path, and the EXIF orientation if the image was turned."""
    return {"image": str(image), **({"exif_orientation": picture.orientation} if picture.orientation > 1 else {})}


def _turned(found: dict[str, Any]) -> str:
    return f" (turned upright, EXIF orientation {found['exif_orientation']})" if "exif_orientation" in found else ""


def _say_classes(found: dict[str, Any]) -> None:
    say((found["image"], "bold"), _turned(found))
    for row in found["top"]:
        bar = "█" * round(30 * row["probability"])
        say(f"  {fit(row['name'], 24)} {row['probability']:7.2%} ", (bar, "green"))


# ---------------------------------------------------------------------------------------------------------------------
# boxes and masks


def _pictures(images: Sequence[Path], out: Path, overwrite: bool) -> list[Path]:
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


def _detector(exported: Exported | None, path: Path) -> tuple[Callable[[Image.Image], NamedDetections], tuple[str, ...]]:
    """Return a function from an RGB image to its boxes, and the names of the classes."""
    if exported is not None:
        from trickzoo.deployment.predict import detect

        return lambda image: detect(exported, image), exported.description.classes
    from trickzoo import detection

    model = detection.load(path)
    return lambda image: detection.predict(model, image), model.classes


def _boxes(
    images: Sequence[Path],
    pictures: Sequence[Path],
    find: Callable[[Image.Image], NamedDetections],
    classes: tuple[str, ...],
    threshold: float,
) -> Iterator[dict[str, Any]]:
    from trickzoo.data.images import read
    from trickzoo.drawing import draw_boxes

    for image, picture in zip(images, pictures, strict=True):
        photograph = read(image).upright()
        found = find(photograph.image)
        sure = found.scores >= threshold
        boxes, scores, labels = (each[sure] for each in found)
        _save(draw_boxes(photograph.image, boxes, labels, classes, scores), picture)
        scale = photograph.size[0] / photograph.image.width  # 1, unless the image was reduced when it was decoded
        names = [name for name, kept in zip(found.names, sure, strict=True) if kept]
        rows = [
            {"class": name, "score": round(score, 4), "box": [round(edge * scale, 1) for edge in box]}
            for name, box, score in zip(names, boxes.tolist(), scores.tolist(), strict=True)
        ]
        yield {**_named(image, photograph), "picture": str(picture), "boxes": rows}


def _segmenter(exported: Exported | None, path: Path) -> tuple[Callable[[Image.Image], NDArray[np.uint8]], tuple[str, ...]]:
    """Return a function from an RGB image to the classes of its pixels, and their names."""
    if exported is not None:
        from trickzoo.deployment.predict import segment

        return lambda image: segment(exported, image), exported.description.classes
    from trickzoo import segmentation

    model = segmentation.load(path)
    return lambda image: segmentation.predict(model, image), model.classes


def _masks(
    images: Sequence[Path], pictures: Sequence[Path], find: Callable[[Image.Image], NDArray[np.uint8]], classes: tuple[str, ...]
) -> Iterator[dict[str, Any]]:
    import numpy as np
    import torch

    from trickzoo.data.images import read
    from trickzoo.drawing import draw_mask

    for image, picture in zip(images, pictures, strict=True):
        photograph = read(image).upright()
        mask = find(photograph.image)
        _save(draw_mask(photograph.image, mask, classes), picture)
        shares = torch.bincount(torch.from_numpy(mask).flatten(), minlength=len(classes)).numpy() / mask.size
        found = {classes[i]: round(float(shares[i]), 6) for i in np.argsort(-shares, kind="stable") if shares[i]}
        yield {**_named(image, photograph), "picture": str(picture), "shares": found}


def _save(drawn: Image.Image, path: Path) -> None:
    from trickzoo.files import atomically

    with atomically(path) as temporary:
        drawn.save(temporary, format="PNG")


def _say_boxes(found: dict[str, Any]) -> None:
    boxes = found["boxes"]
    say(f"{found['image']}: {len(boxes)} box{'es' * (len(boxes) != 1)}, {found['picture']}{_turned(found)}")
    for row in boxes:
        say(f"  {fit(row['class'], 24)} {row['score']:.3f}  {' '.join(f'{edge:7.1f}' for edge in row['box'])}")


def _say_shares(found: dict[str, Any]) -> None:
    say(f"{found['image']}: {found['picture']}{_turned(found)}")
    for name, share in found["shares"].items():
        say(f"  {fit(name, 24)} {share:7.2%}")
