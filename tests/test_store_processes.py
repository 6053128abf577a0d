"""Fetches in separate processes: two at the same time, a killed one, on a full disk, and without needless requests to the hub."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import huggingface_hub
import msgspec
import pytest

from tests.hub import Fault, Hub
from tests.store import FILE, GOOD, HUB, PTH, REPO, TENSORS, by_hand, digest, hub_cache, kept, pickled, record, url_source
from trickzoo.weights import local, store
from trickzoo.weights.record import Record, Source

FETCH = """
import logging, resource, sys
import msgspec
from trickzoo.errors import TrickzooError
from trickzoo.weights import local, store
from trickzoo.weights.record import Record

logging.basicConfig(stream=sys.stdout)
logging.getLogger("filelock").setLevel("DEBUG")
record, limit = msgspec.json.decode(sys.argv[1], type=Record), int(sys.argv[2])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    print(store.fetch(record).path)
except TrickzooError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Return a function that starts a process which fetches a record, with a limit of bytes per file. All end with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(weight: Record, limit: int = 0) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", FETCH, msgspec.json.encode(weight).decode(), str(limit)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def wait_until(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


@pytest.mark.parametrize("route", ["hub", "url", "converted"])
def test_two_processes_at_once(hub: Hub, start: Callable[..., subprocess.Popen[str]], route: str) -> None:
    hub.add(REPO, FILE, GOOD)
    weight = record({"hub": HUB, "url": url_source(hub), "converted": url_source(hub, PTH, "net.pth")}[route])
    hub.fail("", Fault("hang", "GET"))
    first = start(weight)
    wait_until(lambda: hub.count("GET"), first)
    second = start(weight)
    assert second.stdout is not None
    assert any("not acquired" in line for line in second.stdout), "the second process did not wait for the first"
    hub.release()
    paths = {process.communicate()[0].splitlines()[-1] for process in (first, second)}
    assert (first.returncode, second.returncode, hub.count("GET")) == (0, 0, 1)
    file = local.locate(weight)
    assert file is not None
    assert paths == {str(file.path)}
    assert kept() == {file.sha256}


@pytest.mark.parametrize("route", ["hub", "url"])
def test_process_killed_during_a_download(hub: Hub, start: Callable[..., subprocess.Popen[str]], route: str) -> None:
    hub.add(REPO, FILE, GOOD)
    weight = record(HUB if route == "hub" else url_source(hub))
    hub.fail("", Fault("stall"))
    process = start(weight)
    by_hand(".net.safetensors.1234").touch()  # the temporary file of a killed conversion
    partial = {"hub": lambda: list(hub_cache().rglob("*.incomplete")), "url": lambda: list(by_hand().parent.glob(".download-*/*"))}
    wait_until(lambda: hub.count("GET") and partial[route](), process)
    process.kill()
    process.wait()
    assert partial[route]()
    assert local.locate(weight) is None
    hub.release()
    assert store.fetch(weight).path.read_bytes() == GOOD
    assert kept() == {digest(GOOD)}
    assert [path.name for path in by_hand().parent.glob(".*")] == [".lock"]


# Eight names of one tensor: a pickle stores it once, safetensors eight times. So the download fits a limit that the conversion exceeds.
SHARED = pickled({f"layer{i}.weight": TENSORS["fc.weight"] for i in range(8)})


@pytest.mark.parametrize("route", ["hub", "url", "converted", "by hand", "hub cache"])
def test_a_full_disk_is_one_clear_error(hub: Hub, start: Callable[..., subprocess.Popen[str]], route: str) -> None:
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
    process = start(weight, limit=len(GOOD) // 2 if route in ("hub", "url") else 2 * len(SHARED))
    _, message = process.communicate()
    assert process.returncode == 1
    assert message.startswith("WeightsUnavailable: ")
    assert "free some space" in message
    assert ("HF_HUB_CACHE" if route == "hub" else "TRICKZOO_HOME") in message
    assert "Traceback" not in message
    assert kept() == expected
    assert {path.name for path in by_hand().parent.glob(".*")} <= {".lock"}
    assert store.fetch(weight).path.exists()


def test_a_silent_hub_gets_no_request_but_the_one_for_the_file(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: Callable[..., subprocess.Popen[str]]
) -> None:
    monkeypatch.delenv("HF_HUB_DISABLE_TELEMETRY")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    hub.fail("", Fault("hang"))
    _, message = start(record(HUB)).communicate()
    assert f"{HUB}: timed out" in message
    assert [(request.method, request.path) for request in hub.requests] == [("HEAD", f"{REPO}/resolve/main/{FILE}")]
