"""The readme's commands for one's own images, timed from a clone to a report and predictions.

The images are blood cells with boxes, as a folder of classes and as two tools export them, and street scenes with masks.

python -m benchmarks.own_data --bccd FOLDER --camvid FOLDER --out FOLDER
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trickzoo import environment
from trickzoo.data.boxes import DetectionSet
from trickzoo.data.readers.voc import open_voc
from trickzoo.result_files import write_json

ROOT = Path(__file__).parents[1]
RESULT, COMMAND = ROOT / "benchmarks/results/own_data.json", "python -m benchmarks.own_data --bccd bccd --camvid camvid --out own-data"
TRAIN = (
    "trickzoo train --recipe own.finetune --data photos --val-fraction 0.2 --model mobilenet_v1_025 --pretrained tz_imagenette128 "
    "--size 128"
)
PATHS = (
    ("a folder of classes without a split", "photos", TRAIN),
    ("Roboflow's COCO export", "roboflow", "trickzoo finetune own --task detection --data roboflow"),
    ("CVAT's COCO export", "cvat", "trickzoo finetune own --task detection --data cvat --val-fraction 0.2"),
    ("images/ and masks/", "masks", "trickzoo finetune own --task segmentation --data masks --val-fraction 0.2"),
)
"""What a user has, the name of its folder, and the command of the readme."""
PER_CLASS, SMALLEST = 120, 20
"""How many crops of a class at most, and how many pixels the sides of a crop have at least."""


def write_photos(cells: DetectionSet, folder: Path) -> None:
    """Write the boxes of the cells as images in a folder for each class."""
    written: Counter[str] = Counter()
    for index in range(len(cells)):
        image, objects = cells.read(index), cells.objects_of(index)
        for box, label in zip(objects.boxes.tolist(), objects.labels.tolist(), strict=True):
            name, (left, top, right, bottom) = cells.classes[label - 1], map(round, box)
            if written[name] < PER_CLASS and min(right - left, bottom - top) >= SMALLEST:
                (folder / name).mkdir(parents=True, exist_ok=True)
                image.crop((left, top, right, bottom)).save(folder / name / f"{written[name]}.png")
                written[name] += 1


def write_coco(cells: DetectionSet, images: Path, file: Path, *, first: int) -> None:
    """Write images and their boxes in COCO's format, with ids from `first` on, into a folder and a file that may hold some already."""
    images.mkdir(parents=True, exist_ok=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    categories = [{"id": first + label, "name": name, "supercategory": ""} for label, name in enumerate(cells.classes)]
    content = json.loads(file.read_text()) if file.exists() else {"categories": categories, "images": [], "annotations": []}
    for index, image in enumerate(cells.images):
        shutil.copy(cells.root / image.name, images)
        number = len(content["images"]) + first
        content["images"].append({"id": number, "file_name": Path(image.name).name, "width": image.width, "height": image.height})
        objects = cells.objects_of(index)
        for (x0, y0, x1, y1), label in zip(objects.boxes.tolist(), objects.labels.tolist(), strict=True):
            box = {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0), "iscrowd": 0}
            content["annotations"].append(
                {"id": len(content["annotations"]) + first, "image_id": number, "category_id": first + label - 1, **box}
            )
    file.write_text(json.dumps(content))


def write_masks(camvid: Path, folder: Path) -> None:
    """Write the training images of CamVid and their masks into `images/` and `masks/`, with a list of classes."""
    for name, source in (("images", "train"), ("masks", "trainannot")):
        shutil.copytree(camvid / source, folder / name)
    names = [line.split(maxsplit=1)[1] for line in (camvid / "classes.txt").read_text().splitlines()]
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in names))


def write_data(bccd: Path, camvid: Path, folder: Path) -> None:
    """Write what the four paths begin with."""
    train, val = (open_voc(bccd, split) for split in ("train", "val"))
    write_photos(train, folder / "photos")
    for cells, name in ((train, "train"), (val, "valid")):
        write_coco(cells, folder / "roboflow" / name, folder / "roboflow" / name / "_annotations.coco.json", first=0)
        write_coco(cells, folder / "cvat" / "images" / "default", folder / "cvat" / "annotations" / "instances_default.json", first=1)
    write_masks(camvid, folder / "masks")


def call(command: Sequence[str | Path], folder: Path) -> dict[str, Any]:
    """Run a command in a folder, and return it with its duration."""
    print("$", *command, file=sys.stderr, flush=True)
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "OMP_NUM_THREADS", "TRICKZOO_HOME")}
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, cwd=folder, env=clean, stdout=sys.stderr, check=True)
    seconds, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": round(seconds, 1), "cpu_seconds": round(used, 1)}


def follow(folder: Path, program: Path, what: str, name: str, command: str) -> dict[str, Any]:
    """Train with a path's command, and predict on three of its images."""
    training = call([program, *command.split()[1:], "--out", f"runs/{name}"], folder)
    place = folder / "runs" / name
    found = json.loads((place / "result.json").read_text())
    images = sorted((folder / name).rglob("*.jpg")) or sorted((folder / name).rglob("*.png"))
    shown = [path.relative_to(folder) for path in images[:3]]
    measure = found.get("measure", "top1")
    drawn = [] if measure == "top1" else ["--out", f"predictions/{name}"]
    predicting = call([program, "predict", *shown, "--weights", f"runs/{name}", *drawn], folder)
    assert (place / "report.html").is_file()
    return {
        "what": what,
        "command": command,
        "training_images": found["n_train"],
        "validation_images": found["n"],
        "measure": measure,
        "figure": found[measure],
        "training": training,
        "predicting": predicting,
    }


def main() -> None:
    """Install a clone, follow the four paths, and write benchmarks/results/own_data.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("bccd", "camvid", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    given = parser.parse_args()
    folder = given.out.absolute()
    write_data(given.bccd, given.camvid, folder)
    installing = [
        call(["git", "clone", "--quiet", ROOT, "trickzoo"], folder),
        call([sys.executable, "-m", "venv", "venv"], folder),
        call(["venv/bin/python", "-m", "pip", "install", "--quiet", "./trickzoo"], folder),
    ]
    paths = [follow(folder, folder / "venv/bin/trickzoo", *path) for path in PATHS]
    content = {
        "what": "the readme's commands for one's own images, from a clone to a report and predictions",
        "installation_seconds": round(sum(each["seconds"] for each in installing), 1),
        "paths": paths,
    }
    write_json(RESULT, {**content, **environment.describe(), "command": COMMAND})


if __name__ == "__main__":
    main()
