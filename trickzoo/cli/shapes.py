"""`trickzoo shapes`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from trickzoo.cli.options import within
from trickzoo.cli.printing import say
from trickzoo.recipes.ranges import Count, CountOrZero
from trickzoo.wording import count


def shapes(
    out: Path,
    /,
    *,
    n: Annotated[int, within(Count), Parameter(help="Number of images. Images 0 to 9, 10 to 19 and so on contain each class once.")] = 10,
    first: Annotated[
        int, within(CountOrZero), Parameter(help="Index of the first image. Training on n images validates on indices 0 to n / 5 - 1.")
    ] = 0,
    size: Annotated[int, Parameter(help="Side of the images in pixels.")] = 64,
    objects: Annotated[
        Literal["one", "several"],
        Parameter(help="one: images as for classifiers; several: images as for detectors and segmenters, whose --size is 96."),
    ] = "one",
    difficulty: Annotated[Literal["hard", "easy"], Parameter(help="hard: the set shapes; easy: the set easy_shapes.")] = "hard",
) -> None:
    """Write validation images of the generated set to the folder OUT, named after their shape and index: star-4.png.

    With several objects, the name is that of the first.
    """
    from PIL import Image

    from trickzoo.data.shapes import CLASSES, Shapes
    from trickzoo.files import atomically

    drawn = Shapes("val", first + n, size, objects=objects, difficulty=difficulty)
    for index in range(first, first + n):
        drawing = drawn.draw(index)
        path = out / f"{CLASSES[drawing.label]}-{index}.png"
        with atomically(path) as temporary:
            Image.fromarray(drawing.image).save(temporary, format="PNG")
    say(f"{count(n, 'image')} in {out}")
