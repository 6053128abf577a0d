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
    from trickzoo.data.images import read

    names, picture = network.classes, read(image).upright()
    likeliest = [
        {"class": names[each.label], "name": each.name, "probability": each.score} for each in network.predict_picture(picture).found[:top]
    ]
    return {**of_image(image, picture), "top": likeliest}


def say_classes(found: dict[str, Any]) -> None:
    say((found["image"], "bold"), turned(found))
    for row in found["top"]:
        bar = "█" * round(30 * row["probability"])
        say(f"  {fit(row['name'], 24)} {row['probability']:7.2%} ", (bar, "green"))
