"""`trickzoo predict` with classifiers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from trickzoo.cli.predict_rows import of_image, turned
from trickzoo.cli.printing import fit, say

if TYPE_CHECKING:
    from trickzoo.loading import Network


def row(image: Path, network: Network, top: int) -> dict[str, Any]:
    """Return the most probable classes of an image."""
    from trickzoo.data.classes import describe_class
    from trickzoo.data.images import read

    names, picture = network.classes, read(image).upright()
    probability, index = network.run(picture.image).softmax(0).topk(min(top, len(names)))
    likeliest = [
        {"class": names[i], "name": describe_class(names[i]), "probability": p}
        for p, i in zip(probability.tolist(), index.tolist(), strict=True)
    ]
    return {**of_image(image, picture), "top": likeliest}


def say_classes(found: dict[str, Any]) -> None:
    say((found["image"], "bold"), turned(found))
    for row in found["top"]:
        bar = "█" * round(30 * row["probability"])
        say(f"  {fit(row['name'], 24)} {row['probability']:7.2%} ", (bar, "green"))
