"""Fetches in separate processes: two at the same time, a killed one, on a full disk, and without needless requests to the hub."""

from __future__ import annotations

import contextlib
import logging
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import NamedTuple

import huggingface_hub
import msgspec
import pytest

from tests.hub import Fault, Hub
from tests.processes import forked
from tests.store import FILE, GOOD, HUB, PTH, REPO, TENSORS, by_hand, digest, hub_cache, kept, pickled, record, url_source
from trickzoo.errors import TrickzooError
from trickzoo.weights import local, store
from trickzoo.weights.record import Record, Source

FETCH = """
import sys
import msgspec
from trickzoo.weights import store
from trickzoo.weights.record import Record

store.fetch(msgspec.json.decode(sys.argv[1], type=Record))
"""


class Fetching(NamedTuple):
    """A process that fetches a record, and the files of what it prints and of its errors."""

    process: ForkProcess
    printed: Path
    errors: Path

    def wait_until(self, condition: Callable[[], object]) -> None:
        while not condition():
            assert self.process.is_alive(), self.errors.read_text()
            time.sleep(0.01)

    def status(self) -> int | None:
        """Wait for the end of the process, and return its exit status."""
        self.process.join()
        return self.process.exitcode


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Fetching]]:
    """Return a function that starts a process which fetches a record, with a limit of bytes per file. All end with the test."""
    with contextlib.ExitStack() as started:

        def start(weight: Record, limit: int = 0) -> Fetching:
            printed, errors = Path(tempfile.mkstemp(dir=tmp_path)[1]), Path(tempfile.mkstemp(dir=tmp_path)[1])

            def fetch() -> None:
                sys.stdout, sys.stderr = (path.open("w", buffering=1) for path in (printed, errors))
                logging.basicConfig(stream=sys.stdout, force=True)
                logging.getLogger("filelock").setLevel("DEBUG")
                if limit:
                    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
                try:
                    print(store.fetch(weight).path)
                except TrickzooError as error:
                    sys.exit(f"{type(error).__name__}: {error}")

            return Fetching(started.enter_context(forked(fetch)), printed, errors)

        yield start


@pytest.mark.parametrize("route", ["hub", "url", "converted"])
def test_two_processes_at_once(hub: Hub, start: Callable[..., Fetching], route: str) -> None:
    hub.add(REPO, FILE, GOOD)
    weight = record({"hub": HUB, "url": url_source(hub), "converted": url_source(hub, PTH, "net.pth")}[route])
    hub.fail("", Fault("hang", "GET"))
    first = start(weight)
    first.wait_until(lambda: hub.count("GET"))
    second = start(weight)
    second.wait_until(lambda: "not acquired" in second.printed.read_text())  # it waits for the first
    hub.release()
    assert (first.status(), second.status(), hub.count("GET")) == (0, 0, 1)
    paths = {each.printed.read_text().splitlines()[-1] for each in (first, second)}
    file = local.locate(weight)
    assert file is not None
    assert paths == {str(file.path)}
    assert kept() == {file.sha256}


@pytest.mark.parametrize("route", ["hub", "url"])
def test_process_killed_during_a_download(hub: Hub, start: Callable[..., Fetching], route: str) -> None:
    hub.add(REPO, FILE, GOOD)
    weight = record(HUB if route == "hub" else url_source(hub))
    hub.fail("", Fault("stall"))
    fetching = start(weight)
    by_hand(".net.safetensors.1234").touch()  # the temporary file of a killed conversion
    partial = {"hub": lambda: list(hub_cache().rglob("*.incomplete")), "url": lambda: list(by_hand().parent.glob(".download-*/*"))}
    fetching.wait_until(lambda: hub.count("GET") and partial[route]())
    fetching.process.kill()
    assert fetching.status() == -signal.SIGKILL
    assert partial[route]()
    assert local.locate(weight) is None
    hub.release()
    assert store.fetch(weight).path.read_bytes() == GOOD
    assert kept() == {digest(GOOD)}
    assert [path.name for path in by_hand().parent.glob(".*")] == [".lock"]


# Eight names of one tensor: a pickle stores it once, safetensors eight times. So the download fits a limit that the conversion exceeds.
SHARED = pickled({f"layer{i}.weight": TENSORS["fc.weight"] for i in range(8)})


@pytest.mark.parametrize("route", ["hub", "url", "converted", "by hand", "hub cache"])
def test_a_full_disk_is_one_clear_error(hub: Hub, start: Callable[..., Fetching], route: str) -> None:
    hub.add(REPO, FILE, GOOD)
    hub.add(REPO, "net.pth", SHARED)
    url = url_source(hub, SHARED, "net.pth")
    weight = record({"hub": HUB, "url": url_source(hub), "hub cache": Source(hub=REPO, file="net.pth")}.get(route, url))
    expected = set()
    if route == "by hand":
        by_hand("net.pth").write_bytes(SHARED)
        expected = {digest(SHARED)}
    if route == "hub cache":
        huggingface_hub.hf_hub_download(REPO, "net.pth", endpoint=hub.endpoint, cache_dir=hub_cache())
        expected = {digest(SHARED)}
    fetching = start(weight, limit=len(GOOD) // 2 if route in ("hub", "url") else 2 * len(SHARED))
    assert fetching.status() == 1
    message = fetching.errors.read_text()
    assert message.startswith("WeightsUnavailable: ")
    assert "free some space" in message
    assert ("HF_HUB_CACHE" if route == "hub" else "TRICKZOO_HOME") in message
    assert "Traceback" not in message
    assert kept() == expected
    assert {path.name for path in by_hand().parent.glob(".*")} <= {".lock"}
    assert store.fetch(weight).path.exists()


def test_a_silent_hub_gets_no_request_but_the_one_for_the_file(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a new process, because the hub client reads the setting of telemetry when it is imported."""
    monkeypatch.delenv("HF_HUB_DISABLE_TELEMETRY")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    hub.fail("", Fault("hang"))
    command = [sys.executable, "-c", FETCH, msgspec.json.encode(record(HUB)).decode()]
    assert f"{HUB}: timed out" in subprocess.run(command, capture_output=True, text=True, check=False).stderr
    assert [(request.method, request.path) for request in hub.requests] == [("HEAD", f"{REPO}/resolve/main/{FILE}")]
