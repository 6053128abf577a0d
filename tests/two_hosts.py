"""A test of training and evaluation on two hosts, which are connected network namespaces: `make two-hosts`, as root on Linux.

1. A training and an evaluation run on one host with two processes, and on two hosts with one process each. Weights and figures must be
   equal.
2. The cable is disconnected for some seconds during a training. The training must wait, continue, and end with the same weights.
3. The cable stays disconnected. The processes of both hosts must end by themselves. After the cable is connected again, the same command
   must resume from the checkpoint and end with the same weights.

All images are generated. The test runs on the CPU and takes a few minutes. The namespaces are always removed at the end.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from safetensors.torch import load_file

from trickzoo import environment
from trickzoo.data.shapes import CLASSES, Shapes
from trickzoo.result_files import write_json

BIN = Path(sys.executable).parent
HOSTS = ("10.77.77.1", "10.77.77.2")
CABLE = "eth0"
"""The name of the network card, in both hosts."""
PORT = 29411
RECIPE = ("--recipe", "shapes.mobilenet_v1_025.mixup", "--size", "32", "--epochs", "6", "--warmup-epochs", "1", "--batch-size", "16")
TRAINING = (*RECIPE, "--data", "shapes", "--images", "400", "--save-every", "10", "--device", "cpu", "--workers", "0")
STEPS = 6 * (400 // 16)
RETRIES = 5
"""`net.ipv4.tcp_retries2` of the hosts: about 13 seconds until a silent connection is given up, where Linux's default takes 15 minutes."""


class Failed(Exception):
    """A result differs from the expected one."""


@contextlib.contextmanager
def two_hosts() -> Iterator[tuple[str, str]]:
    """Yield the names of two connected network namespaces. At the end, remove them and kill the processes that still run in them."""
    names = (f"trickzoo-{os.getpid()}-a", f"trickzoo-{os.getpid()}-b")
    try:
        for name in names:
            ip("netns", "add", name)
        ends = [f"tz{os.getpid()}{letter}" for letter in "ab"]
        ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
        for name, end, address in zip(names, ends, HOSTS, strict=True):
            ip("link", "set", end, "netns", name, "name", CABLE)
            ip("-n", name, "address", "add", f"{address}/24", "dev", CABLE)
            for card in ("lo", CABLE):
                ip("-n", name, "link", "set", card, "up")
            ip("netns", "exec", name, "sysctl", "-qw", f"net.ipv4.tcp_retries2={RETRIES}")
        yield names
    finally:
        for name in names:
            pids = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True).stdout.split()
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)


def ip(*words: str) -> None:
    """Run the command `ip` with these arguments."""
    subprocess.run(["ip", *words], check=True)


def cable(hosts: Sequence[str], state: str) -> None:
    """Connect ("up") or disconnect ("down") the cable."""
    for host in hosts:
        ip("-n", host, "link", "set", CABLE, state)


class Run:
    """A command under torchrun, on one host with two processes or on two hosts with one process each. Its output goes to files."""

    def __init__(self, hosts: Sequence[str], command: Sequence[str], folder: Path) -> None:
        self.hosts, self.files, self.processes = hosts, [], list[subprocess.Popen[bytes]]()
        inside = {"OMP_NUM_THREADS": "1", "TRICKZOO_HOME": str(folder / "home"), "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
        inside["PYTHONPATH"] = str(Path(__file__).parents[1])
        if not hosts:
            self._start([*torchrun("--standalone", "--nproc-per-node", "2"), *command], inside, folder / "one.txt")
        for rank, host in enumerate(hosts):
            meeting = ("--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-endpoint", f"{HOSTS[0]}:{PORT}")
            places = ("--rdzv-id", "two-hosts", "--rdzv-conf", f"is_host={int(rank == 0)}", "--local-addr", HOSTS[rank])
            words = ["ip", "netns", "exec", host, *torchrun(*meeting, *places), *command]
            self._start(words, {**inside, "GLOO_SOCKET_IFNAME": CABLE}, folder / f"host-{rank}.txt")

    def _start(self, words: Sequence[str], variables: dict[str, str], file: Path) -> None:
        self.files.append(file)
        with file.open("wb") as output:
            process = subprocess.Popen(
                words, env={**os.environ, **variables}, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        self.processes.append(process)

    def wait(self, seconds: float) -> list[int | None]:
        """Wait, and return the exit status of the command on each host; None for a command that still runs after `seconds`."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and any(process.poll() is None for process in self.processes):
            time.sleep(0.2)
        return [process.poll() for process in self.processes]

    def stop(self) -> None:
        """Kill the processes that still run."""
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def succeed(self, seconds: float = 300) -> None:
        """Wait for the command to end. Raises Failed if its exit status is not 0, or if it still runs after `seconds`."""
        status = self.wait(seconds)
        self.stop()
        if any(status) or None in status:
            raise Failed(f"exit status {status}; the last lines are\n{self.last_lines()}")

    def last_lines(self) -> str:
        """Return the last lines that the command printed on each host."""
        return "\n".join(f"{file.name}: {line}" for file in self.files for line in file.read_text(errors="replace").splitlines()[-25:])


def torchrun(*options: str) -> list[str]:
    return [sys.executable, "-m", "torch.distributed.run", *options]


def train(out: Path) -> list[str]:
    return [str(BIN / "trickzoo-train"), *TRAINING, "--out", str(out)]


def reached(out: Path, step: int, run: Run, seconds: float = 200) -> int:
    """Wait until a training has taken `step`, and return the last step that it has taken. Raises Failed after `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and None in run.wait(0):
        taken = steps(out)
        if taken and taken[-1] >= step:
            return taken[-1]
        time.sleep(0.05)
    raise Failed(f"step {step} was not reached; the last lines are\n{run.last_lines()}")


def steps(out: Path) -> list[int]:
    """Return the steps in the `metrics.jsonl` of a training."""
    file = out / "metrics.jsonl"
    lines = file.read_text().splitlines() if file.is_file() else []
    return [json.loads(line)["step"] for line in lines if line.endswith("}") and '"loss"' in line]


def same(one: Path, other: Path, what: str) -> None:
    """Raise Failed unless two trainings have the same weights, bit for bit, and the same accuracies. `what` names the second."""
    a, b = (load_file(out / "model.safetensors") for out in (one, other))
    unequal = [key for key in a if not a[key].equal(b[key])]
    if a.keys() != b.keys() or unequal:
        raise Failed(f"{what}: {len(unequal)} of {len(a)} tensors differ, the first is {unequal[:1]}")
    figures = [{key: json.loads((out / "result.json").read_text())[key] for key in ("top1", "top5", "n")} for out in (one, other)]
    if figures[0] != figures[1]:
        raise Failed(f"{what}: the figures differ: {figures}")


def draw(folder: Path, n: int = 151) -> Path:
    """Write class folders of `n` generated images, an odd number, so that the shares of two processes differ in size."""
    shapes = Shapes("val", n, 32)
    for index in range(n):
        drawing = shapes.draw(index)
        path = folder / CLASSES[drawing.label] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(drawing.image).save(path)
    return folder


def training_and_evaluation(hosts: Sequence[str], folder: Path) -> dict[str, Any]:
    """Compare one host with two processes to two hosts with one process each."""
    Run((), train(folder / "one"), folder).succeed()
    Run(hosts, train(folder / "two"), folder).succeed()
    same(folder / "one", folder / "two", "two hosts")
    images = draw(folder / "images")
    found = []
    for name, where in (("one", ()), ("two", hosts)):
        model = ("--model", str(folder / "one" / "model.safetensors"), "--data", str(images), "--device", "cpu", "--workers", "0")
        files = ("--out", str(folder / f"{name}.json"), "--predictions", str(folder / f"{name}.csv"))
        Run(where, [str(BIN / "trickzoo-eval"), "imagenet", *model, *files], folder).succeed()
        found.append((folder / f"{name}.csv").read_bytes())
    if found[0] != found[1]:
        raise Failed("the predictions of one host and of two differ")
    return {"weights_equal": True, "predictions_equal": True, "images": len(found[0].splitlines()) - 1}


def short_cut(hosts: Sequence[str], folder: Path, seconds: float = 4) -> dict[str, Any]:
    """Disconnect the cable for some seconds."""
    run = Run(hosts, train(folder / "short"), folder)
    at = reached(folder / "short", STEPS // 3, run)
    cable(hosts, "down")
    time.sleep(seconds)
    waiting = steps(folder / "short")[-1]
    cable(hosts, "up")
    run.succeed()
    same(folder / "one", folder / "short", "a short interruption")
    return {"cut_at_step": at, "waited_at_step": waiting, "seconds_cut": seconds, "weights_equal": True}


def long_cut(hosts: Sequence[str], folder: Path, patience: float = 240) -> dict[str, Any]:
    """Disconnect the cable until the processes end, and start the command again."""
    out = folder / "long"
    run = Run(hosts, train(out), folder)
    at = reached(out, STEPS // 2, run)
    cable(hosts, "down")
    start = time.monotonic()
    status = run.wait(patience)
    seconds = time.monotonic() - start
    said = run.last_lines()
    run.stop()
    cable(hosts, "up")
    if None in status or 0 in status:
        raise Failed(f"{seconds:.0f} s after the cut the exit status is {status}; the last lines are\n{said}")
    if not (out / "last.pt").is_file() or (out / "result.json").exists():
        raise Failed("an interrupted training must leave a checkpoint and no result")
    again = Run(hosts, train(out), folder)
    again.succeed()
    same(folder / "one", out, "a long interruption")
    return {"cut_at_step": at, "seconds_to_the_end": round(seconds), "exit_status": status, "weights_equal": True}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.two_hosts", description="Training and evaluation over two hosts.")
    parser.add_argument("--out", type=Path, help="write the result to this JSON file")
    parser.add_argument("--keep", type=Path, help="folder in which the files are kept")
    options = parser.parse_args()
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        print("Two hosts need network namespaces, which only root may create: run this as root, on Linux.", file=sys.stderr)
        return 2
    if shutil.which("ip") is None:
        print("Two hosts need the command `ip`; install iproute2.", file=sys.stderr)
        return 2
    folder = options.keep or Path(tempfile.mkdtemp(prefix="two-hosts-"))
    folder.mkdir(parents=True, exist_ok=True)
    start, found = time.monotonic(), {}
    try:
        with two_hosts() as hosts:
            for part in (training_and_evaluation, short_cut, long_cut):
                print(f"{part.__name__}: {(part.__doc__ or '').strip()}", flush=True)
                found[part.__name__] = part(hosts, folder)
                print(f"  {found[part.__name__]}", flush=True)
    except Failed as error:
        print(f"two hosts: {error}", file=sys.stderr)
        return 1
    finally:
        if options.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    if options.out is not None:
        content = {"what": "two hosts", **found, "steps": STEPS, "tcp_retries2": RETRIES, "seconds": round(time.monotonic() - start)}
        write_json(options.out, content | environment.describe() | {"command": "python -m tests.two_hosts"})
    print("Two hosts give the same results as one host.")
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the namespaces are removed
    sys.exit(main())
