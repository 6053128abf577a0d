"""The gallery: its page, and its pictures, which `python -m docs.pages.gallery` renews.

The pictures show generated images only. Playwright and Chromium take those of the reports. The training runs take some five minutes on two
cores, and go on where an earlier run stopped.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, ImageDraw, ImageFont

from docs.pages.places import DOCS

PLACE = DOCS / "assets" / "gallery"
WORK = Path("runs/gallery")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
NETWORK = "--model mobilenet_v1_025"
WEIGHTS = f"{NETWORK} --weights tz_imagenette128"
LADDER = "--rungs baseline,mixup --seeds 10 --images 600 --val-images 1000 --batch-size 32 --lr 0.05"
TRAIN = f"{NETWORK} --pretrained tz_imagenette128 --size 64 --epochs 8 --lr 0.05"
SCENES = "trickzoo shapes scenes --n 3 --first 5000 --objects several --size 96 --difficulty easy"
HEAD = """# Gallery

This page shows the reports and the predictions of trickzoo. All pictures show generated images, on which you can run every command
without downloading anything. The [tutorial](tutorial.md) explains most of these commands. The images are easy, so the figures say
nothing about photographs.
"""


class Picture(NamedTuple):
    """A picture of the gallery: what it shows, the commands before it, and the part of a report or the function that makes it."""

    name: str
    title: str
    caption: str
    commands: tuple[str, ...]
    make: Callable[[Any, Path], Image.Image]


def report(path: str, first: str = "", until: str = "") -> Callable[[Any, Path], Image.Image]:
    """Return the function that takes the part of a report from one heading, or from its top, to another."""

    def make(page: Any, out: Path) -> Image.Image:
        page.goto((WORK / path).resolve().as_uri())
        tops = {title.inner_text(): title.bounding_box()["y"] for title in page.query_selector_all("h1, h2")}
        start = tops[first] - 20 if first else 0
        page.screenshot(path=out, full_page=True, clip={"x": 0, "y": start, "width": 1000, "height": tops[until] - 20 - start})
        return Image.open(out).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)

    return make


def drawn(folder: str) -> Callable[[Any, Path], Image.Image]:
    """Return the function that puts the pictures in a folder side by side."""

    def make(page: Any, out: Path) -> Image.Image:
        return _tiled([Image.open(path).convert("RGB") for path in sorted((WORK / folder).glob("*.png"))], columns=3, width=300)

    return make


def corruptions(page: Any, out: Path) -> Image.Image:
    """Return a generated image and its corrupted copies, with their names."""
    import numpy as np

    from trickzoo.data.corruption_names import parse
    from trickzoo.data.corruptions import corrupt

    clean = Image.open(WORK / "clean" / "heart-1.png").convert("RGB")
    copies = {each.kind: Image.fromarray(corrupt(np.asarray(clean), each)) for each in parse("all", "3")}
    return _tiled([clean, *copies.values()], columns=5, width=200, names=["the image", *copies]).quantize(256, dither=Image.Dither.NONE)


def _tiled(pictures: list[Image.Image], columns: int, width: int, names: list[str] | None = None) -> Image.Image:
    """Return pictures of one size in rows, with a name below each if there are names."""
    height = max(picture.height * width // picture.width for picture in pictures)
    down, rows = height + (34 if names else 8), -(-len(pictures) // columns)
    tiled = Image.new("RGB", (columns * (width + 8) - 8, rows * down - 8), "white")
    draw, font = ImageDraw.Draw(tiled), ImageFont.load_default(size=15)
    for index, picture in enumerate(pictures):
        x, y = index % columns * (width + 8), index // columns * down
        tiled.paste(picture.resize((width, picture.height * width // picture.width), Image.Resampling.LANCZOS), (x, y))
        if names:
            draw.text((x + width / 2, y + height + 4), names[index], fill="#1d2129", font=font, anchor="ma")
    return tiled


PICTURES = (
    Picture(
        "classifier",
        "The report of a training run",
        "Every training run ends with a self-contained page. It begins with the metrics, their 95 % intervals and the curves.",
        (f"trickzoo train --recipe own.finetune --data easy_shapes --images 600 {TRAIN} --out runs/classes",),
        report("runs/classes/report.html", until="Confused classes"),
    ),
    Picture(
        "confusions",
        "Confused classes",
        "The same report shows which classes the network confuses.",
        (),
        report("runs/classes/report.html", "Confused classes", "Every class"),
    ),
    Picture(
        "precision_recall",
        "Precision and recall of a detector",
        "The report of a detector has the precision-recall curves of the classes and of their mean, with bootstrap intervals.",
        (f"trickzoo finetune easy_shapes --task detection {WEIGHTS} --out runs/boxes",),
        report("runs/boxes/report.html", until="Every class"),
    ),
    Picture(
        "boxes",
        "Boxes",
        "`trickzoo predict` draws the boxes of a detector with their classes and scores. These images were not used in the training.",
        (SCENES, "trickzoo predict scenes --model runs/boxes --out boxes"),
        drawn("boxes"),
    ),
    Picture(
        "masks",
        "Masks",
        "For a segmenter, it colours each pixel by its class. These are the same images.",
        (
            f"trickzoo finetune easy_shapes --task segmentation {WEIGHTS} --out runs/masks",
            "trickzoo predict scenes --model runs/masks --out masks",
        ),
        drawn("masks"),
    ),
    Picture(
        "ladder",
        "The report of a ladder",
        "The report of a ladder begins with its findings in sentences. Below, each ring is one training run. This is the ladder of "
        "[the demo](ladder.md#the-demo), with the baseline and all tricks.",
        (f"trickzoo ladder --set easy_shapes {NETWORK} --pretrained tz_imagenette128 {LADDER} --out runs/ladder",),
        report("runs/ladder/report.html", until="Training curves"),
    ),
    Picture(
        "corruptions",
        "Corrupted images",
        "`trickzoo eval imagenet --corruptions all` also evaluates a classifier on [corrupted copies](evaluation.md#corrupted-images) of "
        "each image. These are the 14 kinds of corruption at severity 3 of 5.",
        ("trickzoo shapes clean --n 5 --size 224",),
        corruptions,
    ),
)


def gallery() -> str:
    """Return docs/gallery.md."""
    parts = [HEAD]
    for each in PICTURES:
        commands = "".join(f"{_wrapped(command)}\n" for command in each.commands)
        parts.append(f"\n## {each.title}\n\n{each.caption}\n")
        parts += [f"\n```\n{commands}```\n"] if commands else []
        parts.append(f"\n[![{each.title}](assets/gallery/{each.name}.png)](assets/gallery/{each.name}.png)\n")
    return "".join([*parts, "\n`python -m docs.pages.gallery` runs the commands and makes the pictures of this page.\n"])


def _wrapped(command: str) -> str:
    """Return a command on lines of a page's width, as a shell reads it: an option stands with its value."""
    together = textwrap.wrap(re.sub(r" (?!--)", "\N{NO-BREAK SPACE}", command), 84, break_on_hyphens=False, break_long_words=False)
    return " \\\n    ".join(together).replace("\N{NO-BREAK SPACE}", " ")


def renew() -> None:
    """Run all commands, and write the pictures."""
    from playwright.sync_api import sync_playwright

    WORK.mkdir(parents=True, exist_ok=True)
    PLACE.mkdir(exist_ok=True)
    for command in (command for each in PICTURES for command in each.commands):
        again = ["--overwrite"] if " predict " in command else []
        print(command, flush=True)
        subprocess.run([sys.executable, "-m", *shlex.split(command), *again], cwd=WORK, check=True)
    with sync_playwright() as programs:
        own = Path(programs.chromium.executable_path)
        found = str(own) if own.is_file() else next(filter(None, map(shutil.which, BROWSERS)))
        browser = programs.chromium.launch(executable_path=found, args=["--no-sandbox"])  # which root needs, and the pages are our own
        page = browser.new_page(viewport={"width": 1000, "height": 1000})
        for each in PICTURES:
            out = PLACE / f"{each.name}.png"
            each.make(page, out).save(out, optimize=True)
        browser.close()


if __name__ == "__main__":
    renew()
