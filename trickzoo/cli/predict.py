"""`trickzoo predict`."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from trickzoo.errors import BadOption
from trickzoo.weights.record import Interpolation


def predict(
    *images: Path,
    model: Annotated[str, Parameter(help="A model, or one weight of it.")],
    weights: Annotated[str | None, Parameter(help="Tag, file or hf-hub: reference; by default the model's default weight.")] = None,
    classes: Annotated[str | None, Parameter(help="imagenet1k, imagenette or a text file, where the weights do not say.")] = None,
    size: Annotated[int | None, Parameter(help="Input side in pixels, in place of the weights' own.")] = None,
    crop: Annotated[float | None, Parameter(help="Fraction of the resized image that the crop keeps.")] = None,
    interpolation: Annotated[Interpolation | None, Parameter(help="Resize filter.")] = None,
    top: Annotated[int, Parameter(help="How many classes to print.")] = 5,
    json: Annotated[bool, Parameter(negative="", help="Print JSON.")] = False,
) -> None:
    """Print the likeliest classes of each image, with their probabilities."""
    if not images:
        raise BadOption("name one image or more")
    if top < 1:
        raise BadOption(f"--top must be 1 or more, not {top}")
    import torch
    from rich.console import Console

    from trickzoo.cli.common import classes_of, loaded, preprocessing_of
    from trickzoo.data.classes import describe_class
    from trickzoo.data.images import read
    from trickzoo.data.transforms import eval_transform

    pictures = [read(path) for path in images]
    network = loaded(model, weights)
    names = classes_of(network, classes)
    transform = eval_transform(preprocessing_of(network, size=size, crop=crop, interpolation=interpolation))
    results: list[tuple[Path, list[dict[str, Any]]]] = []
    with torch.inference_mode():
        for path, picture in zip(images, pictures, strict=True):
            probability, index = network(transform(picture)[None])[0].softmax(0).topk(min(top, len(names)))
            found = [
                {"class": names[i], "name": describe_class(names[i]), "probability": p}
                for p, i in zip(probability.tolist(), index.tolist(), strict=True)
            ]
            results.append((path, found))
    if json:
        print(jsonlib.dumps([{"image": str(path), "top": found} for path, found in results], indent=1))
        return
    console = Console(highlight=False, soft_wrap=True)
    for path, found in results:
        console.print(f"[bold]{path}[/bold]")
        for row in found:
            bar = "█" * round(30 * row["probability"])
            console.print(f"  {row['name'][:24]:<24} {row['probability']:7.2%} [green]{bar}[/green]")
