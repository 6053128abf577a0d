"""The environment of this process: its cores and its rank, and for result files the commit, the hardware and the versions of packages."""

from __future__ import annotations

import functools
import os
import platform
import shlex
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from trickzoo.errors import printable

PACKAGES = (
    "trickzoo",
    "torch",
    "torchvision",
    "timm",
    "pillow",
    "numpy",
    "accelerate",
    "huggingface-hub",
    "safetensors",
    "pycocotools",
    "onnx",
    "onnxruntime",
    "openvino",
)


def describe() -> dict[str, Any]:
    """Return the commit, command, time, hardware, platform, threads and package versions of this process, for a result file.

    A training run on a CPU can be repeated bit for bit with the same versions, on the same processor, with as many threads.
    """
    import torch

    device = f"{torch.cuda.device_count()} × {torch.cuda.get_device_name()}" if torch.cuda.is_available() else "no GPU"
    return {
        **({"commit": found} if (found := commit()) else {}),
        "command": printable(shlex.join([Path(sys.argv[0]).name.replace("__main__.py", "trickzoo"), *sys.argv[1:]])),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "hardware": f"{os.cpu_count()} × {_cpu()}, {device}",
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "platform": platform.platform(),
        "versions": {"python": platform.python_version(), **{name: found for name in PACKAGES if (found := _version(name))}},
    }


@functools.cache
def commit() -> str | None:
    """Return the commit of the checkout that the package is run from, with "+" if tracked files differ from it.

    Outside a checkout it is the value of the environment variable TRICKZOO_COMMIT, or None if that is not set. It is read once for each
    process, because the checkout may change after its code has been loaded.
    """
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return os.environ.get("TRICKZOO_COMMIT")
    try:
        git = ["git", "--no-optional-locks", "-C", str(root)]  # without this option `status` writes to the checkout
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+" if changed.strip() else "")


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_first_process() -> bool:
    """Return whether this is the only process, or the first of those that `torchrun` or `accelerate launch` started."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"


def _cpu() -> str:
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


def _processor() -> str:
    """Return what tells processors of the same name apart, and the instructions that PyTorch uses on them."""
    import torch

    numbers = [f"{key.removeprefix('cpu ')} {found}" for key in ("cpu family", "model", "stepping") if (found := _cpuinfo().get(key))]
    return ", ".join([*numbers, torch.backends.cpu.get_cpu_capability()])


@functools.cache
def _cpuinfo() -> dict[str, str]:
    """Return what Linux states about the first core; nothing on other systems."""
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").partition("\n\n")[0]
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}
