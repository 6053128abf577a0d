"""The accuracy of a classifier on real images in each precision of `trickzoo.deploy`, in pairs: every precision sees the same images.

    python benchmarks/precision_accuracy.py --data imagenette128 [--model resnet18_d] [--weights FILE] [--calibration 128]

int8 is calibrated on images of the training split, spread evenly over the classes. Every precision is evaluated on the validation split.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState
from numpy.typing import NDArray

import trickzoo
from trickzoo import environment
from trickzoo.classification import evaluate
from trickzoo.cli.common import classes_of
from trickzoo.data.readers.imagenet import open_imagenet
from trickzoo.deployment.deploy import Backend, Precision
from trickzoo.deployment.forms import Unavailable
from trickzoo.result_files import write_json

RESULTS = Path(__file__).parent / "results"
Right = NDArray[np.bool_]
"""(n,) whether each image is classified correctly."""
VARIANTS: tuple[tuple[Backend, Precision], ...] = (("openvino", "bf16"), ("onnxruntime", "int8"), ("openvino", "int8"))


def compare(right: Right, reference: Right) -> dict[str, Any]:
    """Return the accuracy in percent, and its paired difference from the reference in points with a 95 % confidence interval.

    The interval is Wald's for the difference of two paired proportions.
    """
    n, lost, won = len(right), int((reference & ~right).sum()), int((right & ~reference).sum())
    difference = (won - lost) / n
    half = 1.96 * math.sqrt((won + lost) / n - difference**2) / math.sqrt(n)
    return {
        "top1": round(100 * float(right.mean()), 2),
        "difference": round(100 * difference, 2),
        "interval": [round(100 * (difference - half), 2), round(100 * (difference + half), 2)],
        "lost": lost,
        "won": won,
    }


def main() -> None:
    """Run, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="mobilenet_v1_025.tz_imagenette128")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--calibration", type=int, default=128)
    args = parser.parse_args()
    model = trickzoo.create(args.model, weights=args.weights).eval()
    assert model.weights is not None and model.weights.preprocessing is not None
    training, images = (open_imagenet(args.data, split=split) for split in ("train", "val"))
    classes = classes_of(model, None, images.classes)
    images, _ = evaluate.match_classes(images, classes)
    paths = [training.root / entry.name for entry in training.entries[:: max(1, len(training.entries) // args.calibration)]]
    runs, left_out = {}, {}
    for backend, precision in VARIANTS:
        name = f"{backend} {precision}"
        try:
            runs[name] = trickzoo.deploy(model, backend, precision, images=paths, threads=1, tolerance=1)
        except Unavailable as error:
            left_out[name] = str(error)
    state = PartialState(cpu=True)
    predictions = {
        name: evaluate.predict(model, images, classes, model.weights.preprocessing, state=state, network=run)
        for name, run in {"eager fp32": None, **runs}.items()
    }
    found = {name: prediction.top[:, 0] for name, prediction in predictions.items()}
    right = {name: found[name] == prediction.labels for name, prediction in predictions.items()}
    reference = "eager fp32"
    rows = {
        name: {**compare(right[name], right[reference]), "agreement": round(100 * float((found[name] == found[reference]).mean()), 2)}
        for name in runs
    }
    result = {
        "what": f"top-1 of {args.model} on the {len(images.entries):,} validation images of {args.data.name} in percent, and paired "
        "differences to eager fp32 in points with 95 % intervals; lost (won) counts the images that only eager (the variant) classifies "
        "correctly, agreement is the percentage of equal predictions, and left_out has the variants that this machine lacks",
        "calibration": len(paths),
        "fp32_top1": round(100 * float(right[reference].mean()), 2),
        "rows": rows,
        "left_out": left_out,
        **environment.describe(),
    }
    write_json(RESULTS / f"precision_accuracy_{args.model.partition('.')[0]}.json", result)
    for name, row in rows.items():
        print(name, row)


if __name__ == "__main__":
    main()
