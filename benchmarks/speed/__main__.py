"""Compare the speed of trickzoo with other libraries: `python -m benchmarks.speed [NAME …] [--data FOLDER] [--n 10]`.

Run it on a machine that does nothing else. Each name is a module of this package; its figures are written to
`benchmarks/results/speed/NAME.json`, from which `python docs/generate.py` makes the page on speed.
"""

from __future__ import annotations

import argparse
import inspect
from importlib import import_module
from pathlib import Path

from benchmarks.speed import harness, plot

NAMES = ("start", "load", "inference", "evaluation", "annotated", "training", "transfer", "kernels")


def main() -> None:
    """Run the named comparisons, by default all of them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--data", type=Path, help="class folders with images, for the comparisons that need them")
    parser.add_argument("--compiled", action="store_true", help="add torch.compile and inductor, which compile for minutes")
    parser.add_argument("--n", type=int, default=10, help="number of rounds")
    args = parser.parse_args()
    for name in args.names or NAMES:
        if name not in NAMES:
            parser.error(f"no comparison {name}; there are {', '.join(NAMES)}")
        module = import_module(f"benchmarks.speed.{name}")
        options = {option: getattr(args, option) for option in inspect.signature(module.comparisons).parameters}
        if options.get("data", "") is None:
            parser.error(f"{name} needs --data FOLDER")
        harness.run(name, module.WHAT, module.comparisons(**options), args.n)
    print(plot.draw())


if __name__ == "__main__":
    main()
