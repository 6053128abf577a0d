"""A soak test of trainings that are killed and resumed: `python -m tests.soak --kills 60`.

Each training runs once without interruption, and once with interruptions by SIGKILL, SIGTERM or two Ctrl-C after random numbers of steps.
The same command resumes it after each interruption. Both must end with the same weights, bit for bit, and a second run in a folder that is
in use must be refused. The trainings are a classification from files, a classification from images that are decoded once, a detection, a
segmentation, and a ladder. Finally, one of two processes of a training is killed, and `torchrun` restarts both.

All images are generated and small. The summary is printed as JSON, and written to a file with --out. The exit status is 1 if any results
differ.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch
from PIL import Image
from safetensors.torch import load_file

from trickzoo import cli, environment, result_files
from trickzoo.data.shapes import CLASSES, Shapes

KINDS = ("SIGKILL", "SIGTERM", "two SIGINT")
SMALL = "--model mobilenet_v1_025 --workers 0 --device cpu"
FAST = f"{SMALL} --size 32 --batch-size 8 --epochs 14 --save-every 3"
CLASSIFY = f"trickzoo-train --recipe own.finetune --pretrained none --warmup-epochs 1 {FAST}"
BOXES = "--short 48 --long 48 --fpn-channels 16 --representation-size 16 --anchors 8,16,32,48,64 --proposals 20 --rois 8 --warmup-steps 2"
MASKS = "--base 48 --crop 48 --short 48 --warmup-steps 2"
FINETUNE = f"trickzoo-finetune shapes {SMALL} --weights none --images 40 --batch-size 4 --epochs 14 --save-every 3"
COMMANDS = {
    "classification, files": f"{CLASSIFY.replace('--workers 0', '--workers 1')} --data IMAGES",
    "classification, decoded once": f"{CLASSIFY} --data IMAGES --decode once --ema 0.9",
    "detection": f"{FINETUNE} --task detection {BOXES}",
    "segmentation": f"{FINETUNE} --task segmentation {MASKS}",
    "ladder": f"trickzoo ladder --set shapes --images 80 --seeds 1 --rungs baseline,mixup {FAST.replace('--epochs 14', '--epochs 9')}",
}
ENTRIES = {"trickzoo": cli.trickzoo, "trickzoo-train": cli.trickzoo_train, "trickzoo-finetune": cli.trickzoo_finetune}
PATIENCE = 300.0
"""Seconds without a step after which a training counts as hung."""


@dataclass
class Log:
    """Record of the runs and interruptions of a training."""

    name: str
    kills: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    refused: bool = False
    faults: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Return the record as a part of the JSON summary."""
        return {
            "training": self.name,
            "starts": self.starts,
            "kills": dict(self.kills),
            "second start refused": self.refused,
            "equal": not self.faults,
            **({"faults": self.faults} if self.faults else {}),
        }


def images(root: Path) -> None:
    """Write class folders of generated images, for training and validation, below `root`."""
    for split, number in (("train", 80), ("val", 20)):
        shapes = Shapes(split, number, 40)  # type: ignore[arg-type]
        for index in range(number):
            path = root / split / CLASSES[shapes.label(index)] / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(shapes.draw(index).image).save(path)


def start(command: str, out: Path, log: Path) -> int:
    """Start a command of trickzoo in a fork of this process, which saves the time of imports, and return its process id."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        with log.open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        sys.argv = [*shlex.split(command), "--out", str(out)]
        ENTRIES[sys.argv[0]]()
    except SystemExit as end:
        status = int(end.code or 0)
    except KeyboardInterrupt:
        status = 130
    except BaseException as error:
        print(f"Traceback: {error!r}", file=sys.stderr)
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            from multiprocessing import active_children

            for worker in active_children():
                worker.kill()
        os._exit(status)
    raise AssertionError


def ended(process: int, seconds: float) -> int | None:
    """Wait for a process and return its exit status, negative for a signal; None if it is still running after `seconds`."""
    until = time.monotonic() + seconds
    while True:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            return None
        time.sleep(0.005)


def steps(out: Path) -> int:
    """Return the number of lines in the logs of all trainings below a folder."""
    return sum(path.read_bytes().count(b"\n") for path in out.rglob("metrics.jsonl"))


def interrupt(process: int, kind: str, draws: random.Random) -> int | None:
    """Interrupt a process in the way that `kind` names, one of `KINDS`, and return its exit status."""
    first = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "two SIGINT": signal.SIGINT}[kind]
    os.kill(process, first)
    if kind == "two SIGINT":
        status = ended(process, draws.random() / 10)
        if status is not None:
            return status
        os.kill(process, signal.SIGINT)
    return ended(process, PATIENCE)


def disturb(command: str, out: Path, kills: Sequence[str], draws: random.Random, log: Log) -> None:
    """Run a command until it has finished, and interrupt it in the ways that `kills` lists. The record of both is added to `log`."""
    left, said = list(kills), out.with_suffix(".log")
    while True:
        begun, process = steps(out), start(command, out, said)
        log.starts += 1
        wanted, status, since = draws.randint(0, 9), None, time.monotonic()
        while left and status is None and steps(out) < begun + wanted and time.monotonic() < since + PATIENCE:
            status = ended(process, 0.01)
        if left and status is None:
            status = ended(process, draws.random() / 5)
        if status is None and not log.refused and (out / ".holder").exists():
            second = out.with_suffix(".second")
            os.kill(process, signal.SIGSTOP)  # otherwise the process might finish before the second one starts
            log.refused = ended(start(command, out, second), PATIENCE) == 2 and "is in use by process" in second.read_text()
            os.kill(process, signal.SIGCONT)
        if left and status is None:
            kind = left.pop()
            status = interrupt(process, kind, draws)
            log.kills[kind] += 1
        elif status is None:
            status = ended(process, PATIENCE)
        if status is None:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
        if status not in (0, 130, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT):
            log.faults.append(f"status {status}: {said.read_text()[-500:]}")
            return
        if status == 0:
            log.faults += [f"it ended before {', '.join(left)}"] if left else []
            return


def differences(one: Path, other: Path) -> Iterator[str]:
    """Yield the differences of the trainings in two folders: in weights, optimisers, logs and figures."""
    for path in sorted(one.rglob("model.safetensors")):
        place = path.parent.relative_to(one)
        there = other / place
        a, b = load_file(path), load_file(there / path.name) if (there / path.name).exists() else {}
        if a.keys() != b.keys() or not all(torch.equal(a[key], b[key]) for key in a):
            yield f"{place}: weights"
        a, b = (torch.load(folder / "last.pt", weights_only=True)["optimiser"]["state"] for folder in (path.parent, there))
        if not all(torch.equal(a[key]["momentum_buffer"], b[key]["momentum_buffer"]) for key in a):
            yield f"{place}: momentum"
        if (path.parent / "metrics.jsonl").read_text() != (there / "metrics.jsonl").read_text():
            yield f"{place}: log"
        figures = [json.loads((folder / "result.json").read_text()) for folder in (path.parent, there)]
        changing = ("wall_seconds", "date", "command", "commit", "commits")
        a, b = ({key: value for key, value in each.items() if key not in changing} for each in figures)
        if a != b:
            yield f"{place}: result"
        if left := [path.name for path in there.iterdir() if path.name.startswith(".") and path.name != ".lock"]:
            yield f"{place}: {', '.join(left)} left"


def two_processes(command: str, folder: Path, draws: random.Random, log: Log) -> None:
    """Train with two processes, once without interruption and once with one of them killed after a few steps, and compare."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    main = folder / "main.py"
    main.write_text("from trickzoo.cli import trickzoo_train\ntrickzoo_train()\n")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1", str(main)]
    for name, wanted in (("straight", None), ("killed", draws.randint(5, 20))):
        out = folder / name
        options = [*launch, *shlex.split(command)[1:], "--out", str(out)]
        with (folder / f"{name}.log").open("w") as said:
            launcher = subprocess.Popen(options, env=environment, stdout=said, stderr=said)
            log.starts += 1
            while wanted is not None and launcher.poll() is None and steps(out) < wanted:
                time.sleep(0.01)
            if wanted is not None and launcher.poll() is None:
                ranks = [each for each in psutil.Process(launcher.pid).children() if str(main) in " ".join(each.cmdline())]
                draws.choice(ranks).kill()
                log.kills["SIGKILL of one of two"] += 1
            if launcher.wait(PATIENCE):
                log.faults.append((folder / f"{name}.log").read_text()[-500:])
                return
    log.refused = True  # this training does not test it
    log.faults += differences(folder / "straight", folder / "killed")


def soak(kills: int, seed: int, folder: Path) -> dict[str, Any]:
    """Run all trainings in `folder`, and return the summary."""
    torch.set_num_threads(1)
    os.environ["TRICKZOO_HOME"] = str(folder / "home")
    draws, begun = random.Random(seed), time.monotonic()
    images(folder / "images")
    order = [KINDS[i % len(KINDS)] for i in range(kills)]
    logs = []
    for number, (name, command) in enumerate(COMMANDS.items()):
        command = command.replace("IMAGES", shlex.quote(str(folder / "images")))
        log, place = Log(name), folder / f"{number}"
        logs.append(log)
        if (status := ended(start(command, place / "straight", folder / "straight.log"), PATIENCE)) != 0:
            log.faults.append(f"status {status}: {(folder / 'straight.log').read_text()[-500:]}")
            continue
        disturb(command, place / "killed", order[number :: len(COMMANDS)], draws, log)
        log.faults += log.faults or differences(place / "straight", place / "killed")
        print(json.dumps(log.summary()), file=sys.stderr, flush=True)
    both = Log("classification, two processes")
    logs.append(both)
    (folder / "both").mkdir()
    two_processes(COMMANDS["classification, decoded once"].replace("IMAGES", str(folder / "images")), folder / "both", draws, both)
    total: Counter[str] = Counter()
    for log in logs:
        total += log.kills
    return {
        "what": "trainings killed at random and run to their end",
        "seed": seed,
        "kills": dict(total),
        "equal": sum(not log.faults for log in logs),
        "trainings": [log.summary() for log in logs],
        "wall_seconds": round(time.monotonic() - begun, 1),
        **environment.describe(),
    }


def main() -> int:
    """Run the soak test with the options of the command line, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=60, help="number of interruptions, which the five trainings share")
    parser.add_argument("--seed", type=int, default=0, help="random seed of the kinds and times of the interruptions")
    parser.add_argument("--out", type=Path, help="JSON file for the summary")
    parser.add_argument("--keep", type=Path, help="folder in which the trainings are kept")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        found = soak(options.kills, options.seed, folder)
    print(json.dumps(found, indent=1))
    if options.out:
        result_files.write_json(options.out, found)
    return int(any(training.get("faults") or not training["second start refused"] for training in found["trainings"]))


if __name__ == "__main__":
    sys.exit(main())
