"""Command lines, run in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trickzoo.cli import evaluation, run

Call = Callable[..., tuple[int, str, str]]


def call(app: Any, *tokens: object) -> int:
    """Exit status of a command line."""
    with pytest.raises(SystemExit) as stop:
        run(app, [str(token) for token in tokens])
    return int(stop.value.code or 0)


def caller(capsys: pytest.CaptureFixture[str], app: Any, *first: object) -> Call:
    """What runs the command lines that begin with `first`; (exit status, stdout, stderr)."""

    def called(*tokens: object) -> tuple[int, str, str]:
        status = call(app, *first, *tokens)
        output = capsys.readouterr()
        return status, output.out, output.err

    return called


def evaluate(*tokens: object, out: Path) -> dict[str, Any]:
    """The single result of an evaluation."""
    assert call(evaluation, "imagenet", *tokens, "--workers", 0, "--out", out) == 0
    (result,) = json.loads(out.read_text())["results"]
    return result
