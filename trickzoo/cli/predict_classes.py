"""`trickzoo predict` with classifiers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trickzoo.cli.networks import Preparation
from trickzoo.cli.predict_rows import of_image, turned
from trickzoo.cli.printing import fit, say

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from trickzoo.deployment.opened import Exported
    from trickzoo.training.device import Device


def classifier(
    model: str, weights: str | None, classes: str | None, preparation: Preparation, device: Device
) -> tuple[Callable[[Image.Image], Tensor], Sequence[str]]:
    """Return a function from an RGB image to logits, and the names of the classes."""
    from trickzoo.classification.model import logits_of
    from trickzoo.cli.common import classes_of, loaded, preprocessing_of
    from trickzoo.data.transforms import eval_transform
    from trickzoo.training.device import find

    network = loaded(model, weights, grey=True).to(find(device))
    names = classes_of(network, classes)
    transform = eval_transform(preprocessing_of(network, preparation), channels=network.in_chans)
    return lambda image: logits_of(network, transform(image)), names


def exported_classifier(exported: Exported) -> tuple[Callable[[Image.Image], Tensor], Sequence[str]]:
    from trickzoo.deployment.predict import classify

    return lambda image: classify(exported, image), exported.description.classes


def classify_images(
    images: Sequence[Path], logits: Callable[[Image.Image], Tensor], names: Sequence[str], top: int
) -> list[dict[str, Any]]:
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
            results.append({**of_image(image, picture), "top": likeliest})
    return results


def say_classes(found: dict[str, Any]) -> None:
    say((found["image"], "bold"), turned(found))
    for row in found["top"]:
        bar = "█" * round(30 * row["probability"])
        say(f"  {fit(row['name'], 24)} {row['probability']:7.2%} ", (bar, "green"))
