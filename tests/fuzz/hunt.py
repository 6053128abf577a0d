"""A search for inputs of one target that fail the check, for a number of seconds or of inputs."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import hypothesis
from hypothesis import HealthCheck, Phase, given, settings

from tests.fuzz.check import Outcome, Target, check

ROUND = 500
"""Number of inputs that hypothesis generates from one seed."""


@dataclass
class Failure:
    """A kind of failure: the exception, the innermost line of trickzoo that it passed, a file with an input, and the number of inputs."""

    failure: str
    place: str
    file: str
    inputs: int = 0


@dataclass
class Findings:
    """Outcomes of the inputs of a target: their numbers, the longest time in seconds, the peak memory in bytes, and the failures."""

    inputs: int = 0
    refused: int = 0
    slowest: float = 0.0
    peak: int = 0
    failures: dict[str, Failure] = field(default_factory=dict)

    def note(self, outcome: Outcome) -> None:
        self.inputs += 1
        self.refused += outcome.refused
        self.slowest, self.peak = max(self.slowest, outcome.seconds), max(self.peak, outcome.bytes)

    def fail(self, outcome: Outcome, content: bytes, out: Path) -> bool:
        """Count a failing input. If its kind of failure is new, write it to a file in `out`. Return whether the kind is new."""
        key = f"{outcome.failure} at {outcome.place}"
        new = key not in self.failures
        if new:
            name = f"{outcome.failure}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"
            self.failures[key] = Failure(outcome.failure, outcome.place, name)
            (out / name).write_bytes(content)
            (out / f"{name}.txt").write_text(f"{key}\n\n{outcome.details}", encoding="utf-8", errors="backslashreplace")
        self.failures[key].inputs += 1
        return new

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Findings:
        """Read a file that `write` wrote; return empty findings if there is no such file."""
        if not path.is_file():
            return cls()
        content = json.loads(path.read_text())
        failures = {key: Failure(**value) for key, value in content.pop("failures").items()}
        return cls(**content, failures=failures)


class _Over(BaseException):
    """Exception that ends the search when its time is over."""


def inputs(target: Target, seed: int, n: int, give: Callable[[bytes], None]) -> None:
    """Generate `n` inputs from a seed, and call `give` with each."""

    @hypothesis.seed(seed)
    @settings(max_examples=n, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(target.inputs)
    def each(content: bytes) -> None:
        give(content)

    each()


def hunt(target: Target, folder: Path, out: Path, *, seconds: float, seed: int) -> None:
    """Try inputs until the time is over.

    The findings are written to `out/findings.json`. The current input is in `out/current`, in case it ends the process.
    """
    target.prepare(folder)
    path, current = out / "findings.json", out / "current"
    findings = Findings.read(path)
    end, written, tried = time.monotonic() + seconds, 0.0, 0

    def give(content: bytes) -> None:
        nonlocal written, tried
        if tried and time.monotonic() > end:
            raise _Over
        tried += 1
        current.write_bytes(content)
        outcome = check(target, content, folder)
        findings.note(outcome)
        new = bool(outcome.failure) and findings.fail(outcome, content, out)
        if new and outcome.failure not in ("TooSlow", "TooLarge"):
            key = f"{outcome.failure} at {outcome.place}"
            (out / findings.failures[key].file).write_bytes(shortened(target, content, folder, key, current, min(10, seconds / 20)))
        if new or time.monotonic() > written + 1:
            findings.write(path)
            written = time.monotonic()

    with contextlib.suppress(_Over):
        while True:
            inputs(target, seed, ROUND, give)
            seed += 1
    findings.write(path)
    current.unlink(missing_ok=True)


def shortened(target: Target, content: bytes, folder: Path, key: str, current: Path, seconds: float) -> bytes:
    """Remove parts of a failing input that the failure `key` does not need, for up to `seconds`, and return the shorter input."""
    end, size = time.monotonic() + seconds, max(1, len(content) // 2)
    while size and time.monotonic() < end:
        at, before = 0, len(content)
        while at < len(content) and time.monotonic() < end:
            candidate = content[:at] + content[at + size :]
            current.write_bytes(candidate)
            outcome = check(target, candidate, folder)
            if f"{outcome.failure} at {outcome.place}" == key:
                content = candidate
            else:
                at += size
        size = size // 2 if len(content) == before else min(size, len(content))
    return content
