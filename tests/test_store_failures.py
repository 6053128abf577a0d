"""Failing hubs, servers and disks: the message, the next source, and that no incomplete file is left."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub import file_download
from huggingface_hub.utils import _http

from tests.hub import Fault, Hub
from tests.store import FILE, GOOD, HUB, OTHER, REPO, by_hand, digest, hub_cache, kept, record, url_source
from trickzoo import files
from trickzoo.errors import WeightsUnavailable
from trickzoo.weights import download, local, store, tensors
from trickzoo.weights.record import Record, Source

HUB_FAULTS = {
    "401": (Fault(401, headers={"X-Error-Code": "RepoNotFound"}), "not found"),
    "gated": (Fault(403, headers={"X-Error-Code": "GatedRepo"}), "the repository is gated; request access"),
    "404": (Fault(404), "the hub answered 404"),
    "429": (Fault(429), "the hub answered 429"),
    "429, come back later": (Fault(429, headers={"Retry-After": "60"}), "the hub answered 429"),
    "500": (Fault(500), "the hub answered 500"),
    "hang on HEAD": (Fault("hang", "HEAD"), "timed out"),
    "500 on GET": (Fault(500, "GET"), "the hub answered 500"),
    "hang on GET": (Fault("hang", "GET"), "timed out"),
    "stall": (Fault("stall"), "timed out"),
    "cut": (Fault("cut"), "the download was cut short"),
    "wrong bytes": (Fault("wrong"), f"wrong bytes: expected SHA-256 {digest(GOOD)}"),
}
URL_FAULTS = {
    "404": (Fault(404), "the server answered 404"),
    "500": (Fault(500), "the server answered 500"),
    "hang": (Fault("hang"), "timed out"),
    "stall": (Fault("stall"), "timed out"),
    "cut": (Fault("cut"), "the download was cut short"),
    "wrong bytes": (Fault("wrong"), f"wrong bytes: expected SHA-256 {digest(GOOD)}"),
}


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record the pauses of the hub client before it retries, and skip them."""
    naps: list[float] = []
    for module in (file_download, _http):
        monkeypatch.setattr(module, "time", SimpleNamespace(sleep=naps.append))
    return naps


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the wait for the next part of a file: the hub of these tests answers at once or never."""
    monkeypatch.setattr(download, "READ_SECONDS", 0.5)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 1024)  # several chunks; by default one has 10 MB


def refused(weight: Record) -> str:
    """Return the message of the error of a fetch, after which no file may have its final name."""
    with pytest.raises(WeightsUnavailable) as error:
        store.fetch(weight)
    assert kept() == set()
    assert not any(path.is_symlink() for path in hub_cache().rglob("*"))
    assert local.locate(weight) is None
    return str(error.value)


@pytest.mark.parametrize("second", [False, True], ids=["alone", "with a second source"])
@pytest.mark.parametrize("name", HUB_FAULTS)
@pytest.mark.usefixtures("impatient")
def test_a_failing_hub(hub: Hub, naps: list[float], name: str, second: bool) -> None:
    fault, reason = HUB_FAULTS[name]
    hub.add(REPO, FILE, GOOD)
    hub.fail(REPO, fault)
    if second:
        file = store.fetch(record(HUB, url_source(hub)))
        assert file.path.read_bytes() == GOOD
        assert kept() == {digest(GOOD)}
    else:
        message = refused(record(HUB))
        assert f"org/net/model.safetensors: {reason}" in message
        assert str(by_hand()) in message
    if fault.method == "HEAD" or (isinstance(fault.kind, int) and fault.method is None):
        assert [request.method for request in hub.requests if request.path.startswith(REPO)] in (["HEAD"], ["HEAD", "HEAD"])
        assert naps == []


@pytest.mark.parametrize("second", [False, True], ids=["alone", "with a second source"])
@pytest.mark.parametrize("name", URL_FAULTS)
@pytest.mark.usefixtures("impatient")
def test_a_failing_server(hub: Hub, name: str, second: bool) -> None:
    fault, reason = URL_FAULTS[name]
    hub.add(REPO, FILE, GOOD)
    source = url_source(hub)
    hub.fail("files/", fault)
    if second:
        assert store.fetch(record(source, HUB)).path.read_bytes() == GOOD
        assert kept() == {digest(GOOD)}
    else:
        assert f"{source.url}: {reason}" in refused(record(source))
    assert sum(request.path.startswith("files/") for request in hub.requests) == 1


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (Source(hub="org/none", file=FILE), "not found (404)"),
        (Source(hub=REPO, file="none.safetensors"), "not found (404)"),
        (Source(hub=REPO, file=FILE, revision="none"), "not found (404)"),
    ],
    ids=["repository", "file", "revision"],
)
def test_a_file_that_the_hub_does_not_have(hub: Hub, source: Source, reason: str) -> None:
    hub.add(REPO, FILE, GOOD)
    assert f"{source}: {reason}" in refused(record(source))
    assert hub.count("GET") == 0


@pytest.mark.parametrize("route", ["hub", "url"])
def test_a_refused_connection_is_reported_at_once(monkeypatch: pytest.MonkeyPatch, naps: list[float], route: str) -> None:
    asked: list[object] = []
    real = socket.socket.connect
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: asked.append(address) or real(self, address))
    source = HUB if route == "hub" else Source(url=f"http://127.0.0.1:9/{FILE}", sha256=digest(GOOD))
    assert f"{source}: connection refused" in refused(record(source))
    assert (asked, naps) == ([("127.0.0.1", 9)], [])


@pytest.mark.usefixtures("impatient", "naps")
def test_an_interrupted_download_is_resumed(hub: Hub) -> None:
    hub.add(REPO, FILE, GOOD)
    hub.fail(REPO, Fault("cut", times=1))
    with contextlib.suppress(WeightsUnavailable):  # version 2 of the client resumes by itself, version 1 at the next call
        store.fetch(record(HUB))
    assert store.fetch(record(HUB)).path.read_bytes() == GOOD
    assert [request.range for request in hub.requests if request.method == "GET"] == [None, f"bytes={len(GOOD) // 2 // 1024 * 1024}-"]


def test_a_hub_that_recovers_is_used_again(hub: Hub) -> None:
    hub.add(REPO, FILE, GOOD)
    hub.fail(REPO, Fault("wrong"))
    refused(record(HUB))
    hub.heal()
    assert store.fetch(record(HUB)).path.read_bytes() == GOOD


def after_the_first_answer(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    """Run a function after the store's first request for a file and before the hub client's own request."""
    real = huggingface_hub.get_hf_file_metadata

    def ask(url: str, **more: Any) -> huggingface_hub.HfFileMetadata:
        metadata = real(url, **more)
        happens()
        return metadata

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", ask)


@pytest.mark.usefixtures("naps")
def test_a_hub_that_stops_answering(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(REPO, FILE, GOOD)
    after_the_first_answer(monkeypatch, lambda: hub.fail(REPO, Fault(500)))
    assert "the hub stopped answering" in refused(record(HUB))


def test_a_repository_that_changes_during_a_download(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(REPO, FILE, GOOD)
    after_the_first_answer(monkeypatch, lambda: hub.add(REPO, FILE, OTHER))
    with pytest.raises(WeightsUnavailable, match="changed meanwhile; try again"):
        store.fetch(record(HUB))
    assert store.fetch(record(HUB)).path.read_bytes() == OTHER


def test_after_a_silent_source_the_next_one_gets_half_the_time(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float] = []
    real = store._download
    monkeypatch.setattr(store, "REACH_SECONDS", 0.2)
    monkeypatch.setattr(store, "_download", lambda weight, source, seconds: given.append(seconds) or real(weight, source, seconds))
    hub.fail("", Fault("hang"))
    refused(record(HUB, Source(hub="org/mirror", file=FILE)))
    assert given == [0.2, 0.1]


def test_a_server_that_states_no_commit_is_not_a_hub(hub: Hub) -> None:
    hub.fail(REPO, Fault(200))
    assert "does not answer like the Hugging Face Hub" in refused(record(HUB))


def test_an_invalid_repository_name_is_one_clear_error(hub: Hub) -> None:
    assert "a/b/c/model.safetensors: " in refused(record(Source(hub="a/b/c", file=FILE)))
    assert hub.requests == []


def test_a_home_folder_that_cannot_be_created_is_named(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TRICKZOO_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(WeightsUnavailable, match="TRICKZOO_HOME"):
        store.fetch(record(HUB))


def test_write_atomically_writes_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "folder" / "file"
    files.write_atomically(path, b"old")
    plain = tmp_path / "plain"
    plain.touch()
    weights = tmp_path / "model.safetensors"
    tensors.save_atomically({"weight": torch.zeros(1)}, weights, {})  # its writer creates files that only their owner may read
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(weights.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write_atomically(path, b"new")
    with pytest.raises(OSError, match="No space"):
        files.write_atomically(path.with_name("another"), b"new")
    assert list(path.parent.iterdir()) == [path]
    assert path.read_bytes() == b"old"
