"""Pixels of the resizing inside exported files, in ONNX Runtime and OpenVINO, against Pillow's, and its processor time on one thread.

python benchmarks/exported_resizing.py --images FOLDER [--n 60]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import openvino
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from trickzoo import environment
from trickzoo.data.transforms import resize_and_crop
from trickzoo.deployment.networks import Preparation
from trickzoo.deployment.onnx_file import to_onnx
from trickzoo.result_files import write_json
from trickzoo.weights.record import Preprocessing

RESULTS = Path(__file__).parent / "results"
PREPROCESSINGS = (Preprocessing(), Preprocessing(size=128, interpolation="bilinear"), Preprocessing(size=299))
Resize = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


class Resizing(nn.Module):
    """The resizing and cropping of a classifier, without the classifier."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.whole = Preparation(3, preprocessing, "image")

    def forward(self, images: Tensor) -> Tensor:
        return self.whole._cropped(images.permute(0, 3, 1, 2))


def engines(preprocessing: Preprocessing) -> dict[str, Resize]:
    """Return the resizing in each engine, on one thread."""
    with tempfile.TemporaryDirectory() as folder:
        path, example = Path(folder, "a.onnx"), torch.zeros((2, 300, 400, 3), dtype=torch.uint8)
        axes = {0: "batch", 1: "height", 2: "width"}
        to_onnx(Resizing(preprocessing).eval(), (example,), path, inputs=["images"], outputs=["pixels"], dynamic=[axes])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"})
    return {
        "onnxruntime": lambda image: session.run(None, {"images": image[None]})[0][0],
        "openvino": lambda image: compiled(image[None])[0][0],
    }


def measure(preprocessing: Preprocessing, paths: list[Path]) -> dict[str, Any]:
    """Return for each engine how many values differ from Pillow's, by how much, and the processor time."""
    pillow, found = resize_and_crop(preprocessing), engines(preprocessing)
    rows: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ("pillow", *found)}
    for path in paths:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        pixels = np.asarray(image)
        start = time.process_time()
        expected = pillow(image).numpy()
        rows["pillow"].append((0.0, 0.0, time.process_time() - start))
        for name, resize in found.items():
            start = time.process_time()
            resized = resize(pixels)
            seconds = time.process_time() - start
            differences = np.abs(resized - expected.astype(np.float32))
            rows[name].append((float(differences.max()), float((differences > 0).mean()), seconds))
    return {
        name: {
            "largest_difference": max(row[0] for row in each),
            "mean_share_of_values_that_differ": statistics.fmean(row[1] for row in each),
            "largest_share_of_values_that_differ": max(row[1] for row in each),
            "median_milliseconds": round(1000 * statistics.median(row[2] for row in each), 1),
        }
        for name, each in rows.items()
    }


def main() -> None:
    """Run, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--n", type=int, default=60)
    args = parser.parse_args()
    torch.set_num_threads(1)
    paths = sorted(args.images.rglob("*.jpg"))[: args.n]
    result = {
        "what": "the resizing inside exported files against Pillow's: differences of values from 0 to 255, and time of one thread",
        "images": len(paths),
        "results": {str(each): measure(each, paths) for each in PREPROCESSINGS},
        **environment.describe(),
    }
    write_json(RESULTS / "exported_resizing.json", result)
    for name, engines_of in result["results"].items():
        print(name, *(f"\n  {engine}: {row}" for engine, row in engines_of.items()))


if __name__ == "__main__":
    main()
