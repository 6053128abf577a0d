"""The figures of `make demo` from several starting seeds, one after the other, with the processor time of each.

python -m benchmarks.demo [--starts 5] [--out FOLDER] [MAKE_VARIABLE=VALUE …]
"""

from __future__ import annotations

import argparse
import re
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from trickzoo import environment
from trickzoo.result_files import write_json
from trickzoo.studies.records import LadderStudy, TransferStudy
from trickzoo.studies.results import read

ROOT = Path(__file__).parents[1]
RESULT, COMMAND = ROOT / "benchmarks/results/demo.json", "python -m benchmarks.demo"
SEEDS = 10
"""How many seeds one demo trains from."""
PREDICTED = re.compile(r"/(\w+)-\d+\.png\n +(\w+) ")
"""What an image shows, by its name, and the most likely class."""


def start(number: int, out: Path, variables: list[str]) -> dict[str, Any]:
    """Run the demo from a first seed in a new folder, and return what it shows."""
    folder, first = out / f"start-{number}", number * SEEDS
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        ["make", "demo", f"FIRST_SEED={first}", f"DEMO={folder}", *variables], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    seconds, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    ladder, transfer = read(folder / "ladder.json", LadderStudy), read(folder / "transfer" / "transfer.json", TransferStudy)
    gain = ladder.total.difference
    assert gain is not None
    predictions = PREDICTED.findall(done.stdout)
    return {
        "seeds": list(ladder.seeds),
        "top1": {rung.rung: rung.top1.mean for rung in ladder.rungs if rung.top1},
        "difference": {"mean": gain.mean, "interval": gain.interval, "p": gain.p, "n": gain.n, "values": gain.values},
        **{task.measure: {rung.rung: rung.figure.mean for rung in task.rungs if rung.figure} for task in transfer.tasks},
        "right": sum(shown == found for shown, found in predictions),
        "predicted": len(predictions),
        "cpu_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "wall_seconds": round(seconds, 1),
    }


def main() -> None:
    """Run the demos and write benchmarks/results/demo.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variables", nargs="*", metavar="VARIABLE=VALUE", help="variables of the Makefile, such as VENV")
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("runs/demo-starts"))
    given = parser.parse_args()
    starts = []
    interval = "Student's t over the paired differences of the seeds, 95 %"
    for number in range(given.starts):
        starts.append(start(number, given.out.absolute(), given.variables))
        print(starts[-1], file=sys.stderr, flush=True)
        content = {"what": "make demo from several starting seeds", "interval": interval, "starts": starts}
        write_json(RESULT, {**content, **environment.describe(), "command": COMMAND})


if __name__ == "__main__":
    main()
