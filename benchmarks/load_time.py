"""Time to create a model with the weights of a file, against timm's factory on the same file, in turns.

    python benchmarks/load_time.py [--model resnet50_d] [--n 30]

The file is a safetensors file in timm's layout, in the page cache. Both make a network that is ready to use.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import timm
from safetensors.torch import save_file

import trickzoo
from trickzoo.evidence import environment, write_json

RESULTS = Path(__file__).parent / "results"


def seconds(action: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def main() -> None:
    """Run, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="resnet50_d")
    parser.add_argument("--n", type=int, default=30)
    args = parser.parse_args()
    upstream = args.model.removesuffix("_b").replace("_", "")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.safetensors"
        save_file(timm.create_model(upstream).state_dict(), file)
        ours = lambda: trickzoo.create(args.model, weights=file)  # noqa: E731
        theirs = lambda: timm.create_model(upstream, checkpoint_path=str(file))  # noqa: E731
        ours(), theirs()
        pairs = [(seconds(ours), seconds(theirs)) for _ in range(args.n)]
    ratios = sorted(b / a for a, b in pairs)
    result = {
        "what": f"create {args.model} with the weights of a file: seconds of trickzoo and of timm, and timm / trickzoo for each pair",
        "n": args.n,
        "trickzoo_median": round(statistics.median(a for a, _ in pairs), 4),
        "timm_median": round(statistics.median(b for _, b in pairs), 4),
        "ratio_median": round(statistics.median(ratios), 2),
        "ratio_quartiles": [round(q, 2) for q in statistics.quantiles(ratios, n=4)[::2]],
        "ratio_range": [round(ratios[0], 2), round(ratios[-1], 2)],
        **environment(),
    }
    write_json(RESULTS / "load_time.json", result)
    print({key: result[key] for key in ("trickzoo_median", "timm_median", "ratio_median", "ratio_quartiles", "ratio_range")})


if __name__ == "__main__":
    main()
