"""The time until a new process has done something: importing, listing, help, and the answer to a wrong name."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.speed.harness import Comparison

WHAT = "wall time of a new process"
HERE = Path(sys.executable).parent


def _python(code: str) -> Callable[[], object]:
    return lambda: subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def _command(*words: str, status: int = 0) -> Callable[[], object]:
    def call() -> None:
        done = subprocess.run([HERE / words[0], *words[1:]], capture_output=True, check=False)
        assert done.returncode == status, done.stderr

    return call


def comparisons() -> Iterator[Comparison]:
    """Yield the comparisons. The commands have no peer: timm has no command line."""
    for what, ours, theirs in (
        ("import and list the models", "import trickzoo; trickzoo.list_models()", "import timm; timm.list_models()"),
        ("import torch and the package", "import torch, trickzoo.factory", "import torch, timm"),
    ):
        yield Comparison(what, {"trickzoo": _python(ours), "timm": _python(theirs)})
    commands = {
        "trickzoo list": _command("trickzoo", "list"),
        "trickzoo --help": _command("trickzoo", "--help"),
        "trickzoo predict --help": _command("trickzoo", "predict", "--help"),
        "trickzoo ladder --help": _command("trickzoo", "ladder", "--help"),
        "trickzoo-eval imagenet --help": _command("trickzoo-eval", "imagenet", "--help"),
        "trickzoo-train --help": _command("trickzoo-train", "--help"),
        "trickzoo-finetune --help": _command("trickzoo-finetune", "--help"),
        "trickzoo describe resnet50d": _command("trickzoo", "describe", "resnet50d", status=2),
        "trickzoo predict with a wrong model": _command("trickzoo", "predict", __file__, "--model", "resnet50d", status=2),
    }
    yield Comparison("commands", commands)
