"""Measures how time and memory grow with the work: `python -m benchmarks.growth --data FOLDER`.

FOLDER has class folders in train/ and val/. Run it on a machine that does nothing else. Each point is a process of its own, whose
wall time includes its start. The memory is the highest resident memory of its largest process. The figures are written to
`benchmarks/results/growth.json`, and a plot to `growth.svg` beside it.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trickzoo import environment
from trickzoo.files import read_json
from trickzoo.result_files import write_json

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
ZOO = ("-m", "trickzoo")
DECODE = """
import sys
from pathlib import Path
from trickzoo.data.resident import decode_once, squash
from trickzoo.data.readers.imagenet import open_imagenet
if __name__ == "__main__":
    decode_once(open_imagenet(Path(sys.argv[1]), split="train"), squash(73), "squash73", Path(sys.argv[2]))
"""
INFER = """
import sys, time, torch, trickzoo
from trickzoo.training.processes import keep_freed_memory
keep_freed_memory()
model, images = trickzoo.create("mobilenet_v1_100"), torch.rand(int(sys.argv[1]), 3, 224, 224)
with torch.inference_mode():
    model(images)
    start = time.perf_counter()
    for _ in range(256 // len(images)):
        model(images)
print(time.perf_counter() - start)
"""


@dataclass(frozen=True)
class Curve:
    """How a measurement grows.

    Attributes:
        what: what is measured.
        axis: what grows, such as "images".
        values: the values of it.
        measure: returns the seconds of a value and the peak memory in MiB.
    """

    what: str
    axis: str
    values: tuple[int, ...]
    measure: Callable[[int], tuple[float, float]]


def run(*arguments: object, folder: Path) -> tuple[float, float, str]:
    """Run Python with these arguments in `folder`.

    Returns the wall time in seconds, the peak memory in MiB, and what was printed.
    """
    command = [sys.executable, *map(str, arguments)]
    here = {**os.environ, "PYTHONPATH": str(ROOT), "TRICKZOO_HOME": str(folder / "home")}
    start = time.perf_counter()
    with subprocess.Popen(command, cwd=folder, env=here, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        printed = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)  # its memory; `resource` has that of the largest of all processes so far
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with status {process.returncode}")
    return time.perf_counter() - start, used.ru_maxrss / 1024, printed


def curves(data: Path, folder: Path) -> Iterator[Curve]:
    """Yield the curves. `folder` takes everything that they write."""
    sets = _Sets(data, folder)
    small = ("--model", "mobilenet_v1_025.tz_imagenette128", "--size", 64, "--quiet")

    def evaluate(images: int) -> tuple[float, float]:
        return run(*ZOO, "eval", "imagenet", "--data", sets(images) / "train", *small, folder=folder)[:2]

    def decode(images: int) -> tuple[float, float]:
        return run(_script(folder, DECODE), sets(images), folder / f"decoded-{images}", folder=folder)[:2]

    def infer(batch: int) -> tuple[float, float]:
        _, memory, printed = run(_script(folder, INFER), batch, folder=folder)
        return float(printed), memory

    def train(processes: int) -> tuple[float, float]:
        out = folder / f"processes-{processes}"
        options = (
            "--model",
            "resnet18_d",
            "--size",
            64,
            "--batch-size",
            64,
            "--epochs",
            1,
            "--pretrained",
            "none",
            "--quiet",
            "--out",
            out,
        )
        launcher = ("-m", "torch.distributed.run", f"--nproc-per-node={processes}") if processes > 1 else ()
        recipe = ("--recipe", "own.finetune", "--data", sets(1000), "--decode", "once")
        return run(*launcher, *ZOO, "train", *recipe, *options, folder=folder)[:2]

    def study(jobs: int) -> tuple[float, float]:
        options = ("--model", "mobilenet_v1_025", "--epochs", 2, "--rungs", "baseline,mixup", "--seeds", 2, "--quiet")
        return run(*ZOO, "ladder", "--data", sets(1000), *options, "--jobs", jobs, "--out", folder / f"jobs-{jobs}", folder=folder)[:2]

    def state(trainings: int) -> tuple[float, float]:
        options = ("--set", "imagenette128", "--model", "mobilenet_v1_025", "--epochs", 60, "--lr", 0.2, "--weight-decay", "5e-4")
        seeds = trainings // 2
        out = _study(folder / f"study-{trainings}", seeds)
        rungs = ("--rungs", "baseline,mixup", "--seeds", seeds)
        return run(*ZOO, "ladder", "--data", data, *options, *rungs, "--report-only", "--out", out, folder=folder)[:2]

    yield Curve("evaluation of a MobileNet 0.25 from files, 64 pixels", "images", (1000, 10_000, 100_000), evaluate)
    yield Curve("decoding once, 73 pixels", "images", (1000, 10_000, 100_000), decode)
    yield Curve("256 images through MobileNet 1.0, 224 pixels", "images in a batch", (1, 4, 16, 64, 256), infer)
    yield Curve("an epoch of ResNet-18-D on 1,000 images", "processes", (1, 2), train)
    yield Curve("a ladder of four trainings on 1,000 images", "jobs", (1, 2, 4), study)
    yield Curve("the report of a ladder", "trainings", (10, 100, 1000), state)


def _script(folder: Path, program: str) -> Path:
    place = folder / "program.py"  # a file, because worker processes import it
    place.write_text(program, encoding="utf-8")
    return place


class _Sets:
    """Sets of any number of images: links to the images of a folder, each of which may occur several times."""

    def __init__(self, data: Path, folder: Path) -> None:
        self.data, self.folder = data, folder

    def __call__(self, images: int) -> Path:
        """Return a folder with `images` training images, and a tenth as many validation images."""
        place = self.folder / f"images-{images}"
        if not place.exists():
            for split, n in (("train", images), ("val", images // 10)):
                found = sorted(path for path in (self.data / split).glob("*/*") if path.is_file())
                for number, path in enumerate(itertools.islice(itertools.cycle(found[:: max(1, len(found) // n)]), n)):
                    link = place / split / path.parent.name / f"{number}-{path.name}"
                    link.parent.mkdir(parents=True, exist_ok=True)
                    link.symlink_to(path)
        return place


def _study(place: Path, seeds: int) -> Path:
    """Return the folder of a ladder study, made of results of a published one that are repeated with other seeds."""
    source = RESULTS / "ladder_imagenette128_mobilenet_v1_025_60_epochs"
    for rung, seed in itertools.product(("baseline", "mixup"), range(seeds)):
        content = read_json(source / f"{rung}-{seed % 2}" / "result.json")
        content.update(seed=seed, top1=content["top1"] + seed % 7 / 10)
        (place / f"{rung}-{seed}").mkdir(parents=True)
        (place / f"{rung}-{seed}" / "result.json").write_text(json.dumps(content), encoding="utf-8")
    return place


def measured(curve: Curve) -> dict[str, Any]:
    """Return the points of a curve, and print them."""
    print(curve.what, flush=True)
    points = []
    for value in curve.values:
        seconds, memory = curve.measure(value)
        points.append({"value": value, "seconds": round(seconds, 2), "mib": round(memory)})
        print(f"  {value:,} {curve.axis}: {seconds:.2f} s, {memory:,.0f} MiB", flush=True)
    return {"what": curve.what, "axis": curve.axis, "points": points}


def draw(found: list[dict[str, Any]]) -> Path:
    """Draw time and memory of all curves, and return the path of the plot."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    with mpl.rc_context({"svg.hashsalt": "growth", "svg.fonttype": "none", "font.size": 8}):
        figure = Figure(figsize=(9.6, 4.8), layout="constrained")
        for axes, curve in zip(figure.subplots(2, 3).flat, found, strict=True):
            values = [point["value"] for point in curve["points"]]
            axes.plot(values, [point["seconds"] for point in curve["points"]], "o-", color="#2457a6", markersize=3)
            other = axes.twinx()
            other.plot(values, [point["mib"] for point in curve["points"]], "s--", color="#b3321f", markersize=3)
            other.set_ylim(0, 1.25 * max(point["mib"] for point in curve["points"]))
            other.tick_params(colors="#b3321f")
            axes.tick_params(axis="y", colors="#2457a6")
            seconds = [point["seconds"] for point in curve["points"]]
            if max(seconds) > 8 * min(seconds):
                axes.set_yscale("log")  # with the logarithmic axis below, linear growth is a straight line
                axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axes.yaxis.set_major_formatter("{x:g}")
            else:
                axes.set_ylim(0, 1.1 * max(seconds))
            axes.set_xscale("log" if values[-1] > 4 else "linear")
            axes.set_xticks(values, [f"{value:,}" for value in values])
            axes.minorticks_off()
            axes.set_xlabel(curve["axis"])
            axes.set_title(curve["what"], fontsize=8)
            axes.spines["top"].set_visible(False)
        figure.supylabel("seconds (blue)", fontsize=8)
        figure.text(1.005, 0.5, "MiB (red)", rotation=270, va="center")
        content = io.BytesIO()
        figure.savefig(content, format="svg", metadata={"Date": None}, bbox_inches="tight")
    place = RESULTS / "growth.svg"
    place.write_bytes(b"\n".join(line.rstrip() for line in content.getvalue().splitlines()) + b"\n")
    return place


def main() -> None:
    """Measure all curves, and write the result file and the plot."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with class folders in train/ and val/")
    parser.add_argument("--most", type=int, default=100_000, help="leave out larger values; to try the program")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="growth"))
    try:
        found = []
        for curve in curves(args.data.resolve(), folder):
            values = tuple(value for value in curve.values if value <= args.most)
            found.append(measured(Curve(curve.what, curve.axis, values, curve.measure)))
    finally:
        shutil.rmtree(folder)
    write_json(
        RESULTS / "growth.json",
        {
            "what": "time and memory as the work grows",
            "curves": found,
            **environment.describe(),
            "command": f"python -m benchmarks.growth --data FOLDER --most {args.most}",
        },
    )
    print(draw(found))


if __name__ == "__main__":
    main()
