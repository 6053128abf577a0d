"""The command `python -m tests.fuzz --minutes 60`, which tries every target for an equal share of the time, each in a separate process.

A failing input is written to the folder of its target in `--out`, with its traceback. `--replay FILE --target NAME` tries it again. The
last lines of the output are a table, and `summary.json` has the same figures. The exit status is 1 if there was a failure.
"""

from __future__ import annotations

import argparse
import faulthandler
import multiprocessing
import os
import resource
import shlex
import shutil
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from tests.fuzz.check import MAX_BYTES, Outcome, Target, check
from tests.fuzz.hunt import Findings, hunt
from tests.fuzz.targets import TARGETS
from trickzoo import environment
from trickzoo.result_files import write_json

ROOM = 16 * 2**30
"""Address space in bytes that a process may reserve in addition. The memory that it uses is limited separately."""
SILENCE = 60.0
"""Seconds after which a process that still tries the same input is killed. A loop in C or a blocking file may be the cause."""
FORK = multiprocessing.get_context("fork")


@dataclass
class Running:
    """A process that tries inputs of a target until `end`."""

    target: Target
    out: Path
    scratch: Path
    process: BaseProcess
    end: float
    seed: int

    @classmethod
    def start(cls, target: Target, out: Path, end: float, seed: int) -> Running:
        scratch = Path(tempfile.mkdtemp(prefix="fuzz-"))
        process = FORK.Process(target=_work, args=(target, out, scratch, end - time.monotonic(), seed), daemon=True)
        process.start()
        return cls(target, out, scratch, process, end, seed)

    def broken(self) -> str:
        """Return why the process must be killed, or how it ended; empty if neither is the case."""
        if self.process.exitcode is not None:
            return f"ExitCode{self.process.exitcode}" if self.process.exitcode else ""
        if _resident(self.process.pid) > 3 * MAX_BYTES:
            return "TooLarge"
        try:
            silent = time.time() - (self.out / "current").stat().st_mtime
        except OSError:
            silent = 0
        return "Hang" if silent > SILENCE else ""

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        shutil.rmtree(self.scratch, ignore_errors=True)


def _work(target: Target, out: Path, scratch: Path, seconds: float, seed: int) -> None:
    """Search for failing inputs. The process has no output, no network, its own home folder and a limit on memory."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1), os.dup2(quiet, 2)
    faulthandler.enable((out / "crash.txt").open("w"))
    os.environ |= {"TRICKZOO_HOME": str(scratch / "home"), "HF_HOME": str(scratch / "hub"), "HF_HUB_OFFLINE": "1"}
    limit = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (_resident(os.getpid()) + ROOM, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    (scratch / "folder").mkdir()
    try:
        hunt(target, scratch / "folder", out, seconds=seconds, seed=seed)
    except Exception:  # an error of the target, not of the product
        (out / "crash.txt").write_text(traceback.format_exc(), errors="backslashreplace")
        raise


def _resident(pid: int | None) -> int:
    """Return the memory of a process in bytes; 0 if the system has no such figure."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, IndexError, ValueError):
        return 0


def run(targets: list[Target], out: Path, *, seconds: float, jobs: int, seed: int) -> dict[str, Findings]:
    """Try inputs of each target for `seconds`, `jobs` targets at a time."""
    left, running = list(targets), list[Running]()
    try:
        while left or running:
            while left and len(running) < jobs:
                target = left.pop(0)
                place = folder(out, target)
                shutil.rmtree(place, ignore_errors=True)
                place.mkdir(parents=True)
                running.append(Running.start(target, place, time.monotonic() + seconds, seed))
            time.sleep(0.1)
            running = [other for one in running if (other := _continued(one)) is not None]
    finally:
        for one in running:
            one.stop()
    return {target.name: Findings.read(folder(out, target) / "findings.json") for target in targets}


def _continued(one: Running) -> Running | None:
    """Return the process, or a new one if the process had to be killed or crashed; None when its time is over."""
    why = one.broken()
    if not why and one.process.exitcode is None:
        return one
    one.stop()
    if why:
        _note(one, why)
        if one.end - time.monotonic() > 1:
            return Running.start(one.target, one.out, one.end, one.seed + 1_000_000)
    found = Findings.read(one.out / "findings.json")
    print(f"{one.target.name}: {found.inputs:,} inputs, {len(found.failures)} kinds of failure", flush=True)
    return None


def _note(one: Running, why: str) -> None:
    """Record the input that killed or blocked a process as a failure."""
    current, findings = one.out / "current", Findings.read(one.out / "findings.json")
    crash = one.out / "crash.txt"
    details = crash.read_text(errors="replace") if crash.is_file() else ""
    place = (
        next((line.strip() for line in details.splitlines() if "/trickzoo/" in line), "somewhere")
        if why.startswith("Exit")
        else "somewhere"
    )
    outcome = Outcome(0.0, 0, why, place, details)
    findings.note(outcome)
    findings.fail(outcome, current.read_bytes() if current.is_file() else b"", one.out)
    findings.write(one.out / "findings.json")
    current.unlink(missing_ok=True)


def folder(out: Path, target: Target) -> Path:
    """Return the folder of the failing inputs of a target."""
    return out / target.name.replace(" ", "-").replace("'", "").replace(".", "-")


def table(found: dict[str, Findings]) -> str:
    """Return the findings as a table for the terminal."""
    lines = [f"{'target':18} {'inputs':>9} {'refused':>9} {'failures':>8} {'slowest':>9} {'peak':>9}"]
    for name, f in found.items():
        lines.append(f"{name:18} {f.inputs:9,} {f.refused:9,} {len(f.failures):8} {f.slowest:7.2f} s {f.peak / 2**20:6,.0f} MB")
    failed = sum(len(f.failures) for f in found.values())
    lines.append(f"{sum(f.inputs for f in found.values()):,} inputs for {len(found)} targets, {failed} kinds of failure")
    lines += [f"  {name}: {key} ({each.inputs} inputs)" for name, f in found.items() for key, each in f.failures.items()]
    return "\n".join(lines)


def summary(found: dict[str, Findings], options: argparse.Namespace) -> dict[str, Any]:
    """Return the findings as the content of `summary.json`."""
    targets = {
        name: {
            "inputs": f.inputs,
            "refused": f.refused,
            "slowest_seconds": round(f.slowest, 3),
            "peak_bytes": f.peak,
            "failures": [{"what": key, "inputs": each.inputs, "file": each.file} for key, each in f.failures.items()],
        }
        for name, f in found.items()
    }
    total = {"inputs": sum(f.inputs for f in found.values()), "failures": sum(len(f.failures) for f in found.values())}
    settings = {"minutes": options.minutes, "jobs": options.jobs, "seed": options.seed}
    command = shlex.join(["python", "-m", "tests.fuzz", *sys.argv[1:]])
    return {"what": "fuzzing", **settings, **total, "targets": targets, **environment.describe(), "command": command}


def replay(target: Target, file: Path) -> int:
    """Try an input again, print the outcome, and return 1 if it failed, otherwise 0."""
    with tempfile.TemporaryDirectory() as scratch:
        target.prepare(Path(scratch))
        outcome = check(target, file.read_bytes(), Path(scratch))
    print(outcome.details or f"{'refused' if outcome.refused else 'accepted'}, {outcome.seconds:.2f} s, {outcome.bytes / 2**20:.0f} MB")
    return 1 if outcome.failure else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz the parsers of untrusted files.")
    parser.add_argument("--minutes", type=float, default=10.0, help="minutes for all targets in total")
    parser.add_argument("--out", type=Path, default=Path("runs/fuzz"), help="folder of failing inputs and summary.json")
    parser.add_argument("--target", action="append", choices=sorted(TARGETS), metavar="NAME", help="only this target; repeat for several")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at a time")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="random seed of all inputs; by default the current time")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="try this input of the --target again")
    parser.add_argument("--list", action="store_true", help="list the targets")
    options = parser.parse_args()
    if options.list:
        print("\n".join(f"{name:18} {(target.read.__doc__ or '').strip()}" for name, target in TARGETS.items()))
        return 0
    targets = [TARGETS[name] for name in options.target or TARGETS]
    if options.replay:
        return replay(targets[0], options.replay)
    options.out.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the processes are ended
    found = run(targets, options.out, seconds=60 * options.minutes * options.jobs / len(targets), jobs=options.jobs, seed=options.seed)
    print(table(found))
    write_json(options.out / "summary.json", summary(found, options))
    print(f"{options.out / 'summary.json'}")
    return 1 if any(f.failures for f in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
