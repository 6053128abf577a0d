"""From a record to a verified file, against the real hub client and a hub on the loopback interface that misbehaves as told."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import msgspec
import pytest
import safetensors.torch
import torch
from huggingface_hub import file_download
from huggingface_hub.utils import _http

from tests.hub import Fault, Hub
from trickzoo.errors import BadCheckpoint, DigestMismatch, TrickzooError, WeightsUnavailable
from trickzoo.weights import download, files, manifest, store
from trickzoo.weights.record import Preprocessing, Record, Source

REPO = "org/net"
FILE = "model.safetensors"
TENSORS = {"fc.weight": torch.arange(16384.0).reshape(128, 128), "fc.bias": torch.ones(128)}
GOOD = safetensors.torch.save(TENSORS)
OTHER = safetensors.torch.save({"fc.weight": torch.zeros(3)})


def pickled(tensors: dict[str, torch.Tensor]) -> bytes:
    file = io.BytesIO()
    torch.save(tensors, file)
    return file.getvalue()


PTH = pickled(TENSORS)


def digest(content: bytes) -> str:
    return sha256(content).hexdigest()


def record(*sources: Source) -> Record:
    return Record(
        name="resnet18.test", layout="timm", classes="imagenet1k", licence="apache-2.0", sources=sources, preprocessing=Preprocessing()
    )


HUB = Source(hub=REPO, file=FILE)


@pytest.fixture(autouse=True)
def no_telemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub client asks huggingface.co for a list of agents, unless this is set; here for this process and for those it starts."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        yield hub


def url_source(hub: Hub, content: bytes = GOOD, name: str = "net.safetensors") -> Source:
    return Source(url=hub.add_file(name, content), sha256=digest(content))


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that the hub client would have made before trying again; none is made."""
    naps: list[float] = []
    for module in (file_download, _http):
        monkeypatch.setattr(module, "time", SimpleNamespace(sleep=naps.append))
    return naps


def stamp() -> dict[str, object]:
    return json.loads((store.home() / "verified" / "resnet18.test.json").read_text())


def by_hand(filename: str = FILE) -> Path:
    folder = store.home() / "files" / "resnet18.test"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / filename


def hub_cache() -> Path:
    return Path(os.environ["HF_HUB_CACHE"])


def kept() -> set[str]:
    """Digests of every file that has a final name, in the hub's cache and below home()/files."""
    files = [path for path in hub_cache().glob("*/blobs/*") if path.suffix != ".incomplete"]
    files += [path for path in (store.home() / "files").rglob("*") if path.name != ".lock"]
    return {digest(path.read_bytes()) for path in files if path.is_file()}


FETCH = """
import logging, resource, sys
import msgspec
from trickzoo.errors import TrickzooError
from trickzoo.weights import store
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
    """Starts processes that fetch a record, with a limit of bytes per file; none outlives the test."""
    started: list[subprocess.Popen[str]] = []

    def start(weight: Record, limit: int = 0) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", FETCH, msgspec.json.encode(weight).decode(), str(limit)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


# ---------------------------------------------------------------------------------------------------------------------
# where a file comes from


def test_a_fresh_file_is_verified_and_stamped(hub: Hub) -> None:
    commit = hub.add(REPO, FILE, GOOD)
    file = store.fetch(record(HUB))
    assert file.path.read_bytes() == GOOD
    assert (file.sha256, file.source, file.revision, file.upstream_sha256) == (digest(GOOD), "org/net/model.safetensors", commit, None)
    assert (stamp()["path"], stamp()["sha256"], stamp()["size"]) == (str(file.path), digest(GOOD), len(GOOD))


@pytest.mark.parametrize("offline", [False, True])
def test_a_cached_file_makes_no_request(hub: Hub, monkeypatch: pytest.MonkeyPatch, offline: bool) -> None:
    hub.add(REPO, FILE, GOOD)
    first = store.fetch(record(HUB))
    hub.requests.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", str(int(offline)))
    assert store.fetch(record(HUB)) == first
    assert hub.requests == []


def test_a_lost_stamp_makes_no_request(hub: Hub) -> None:
    hub.add(REPO, FILE, GOOD)
    first = store.fetch(record(HUB))
    (store.home() / "verified" / "resnet18.test.json").write_text("{")
    hub.requests.clear()
    assert store.fetch(record(HUB)) == first
    assert hub.requests == []
    assert stamp()["sha256"] == digest(GOOD)


def test_offline_says_which_file_is_wanted_from_where_and_where_to_put_it(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(REPO, FILE, GOOD)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsUnavailable) as error:
        store.fetch(record(HUB))
    for part in ("resnet18.test", "HF_HUB_OFFLINE", FILE, f"hub repository {REPO}", str(by_hand()), "weights=PATH"):
        assert part in str(error.value)
    assert hub.requests == []


@pytest.mark.parametrize("file", [FILE, f"weights/{FILE}"])
def test_a_file_that_the_hub_client_has_already_is_found(hub: Hub, file: str) -> None:
    commit = hub.add(REPO, file, GOOD)
    theirs = huggingface_hub.hf_hub_download(REPO, file, endpoint=hub.endpoint, cache_dir=hub_cache())
    hub.requests.clear()
    ours = store.fetch(record(Source(hub=REPO, file=file)))
    assert hub.requests == []
    assert (str(ours.path), ours.sha256, ours.revision) == (theirs, digest(GOOD), commit)


def test_a_file_that_the_hub_client_has_with_other_bytes_is_refused(hub: Hub) -> None:
    hub.add(REPO, FILE, GOOD)
    theirs = huggingface_hub.hf_hub_download(REPO, FILE, endpoint=hub.endpoint, cache_dir=hub_cache())
    Path(theirs).write_bytes(OTHER)
    with pytest.raises(DigestMismatch, match=f"{digest(GOOD)} wanted, {digest(OTHER)} found"):
        store.fetch(record(HUB))


def test_the_hub_client_finds_what_was_fetched(hub: Hub) -> None:
    hub.add(REPO, FILE, GOOD)
    ours = store.fetch(record(HUB))
    assert huggingface_hub.try_to_load_from_cache(REPO, FILE, cache_dir=hub_cache()) == str(ours.path)


def test_a_pinned_revision_is_fetched_though_main_moved_on(hub: Hub) -> None:
    old = hub.add(REPO, FILE, GOOD)
    hub.add(REPO, FILE, OTHER)
    file = store.fetch(record(Source(hub=REPO, file=FILE, revision=old)))
    assert (file.path.read_bytes(), file.revision) == (GOOD, old)


def test_an_endpoint_may_end_in_a_slash(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(REPO, FILE, GOOD)
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint + "/")
    assert store.fetch(record(HUB)).sha256 == digest(GOOD)


def test_the_second_source_steps_in(hub: Hub) -> None:
    second = url_source(hub)
    file = store.fetch(record(HUB, second))
    assert file.path == by_hand("net.safetensors")
    assert (file.path.read_bytes(), file.source) == (GOOD, second.url)


def test_every_source_has_its_reason(hub: Hub) -> None:
    second = url_source(hub)
    hub.fail("files/", Fault(500))
    with pytest.raises(WeightsUnavailable) as error:
        store.fetch(record(HUB, second))
    assert "org/net/model.safetensors: not found (404)" in str(error.value)
    assert f"{second.url}: the server answered 500" in str(error.value)
    assert str(by_hand()) in str(error.value)
    assert kept() == set()


@pytest.mark.parametrize("route", ["url", "hub", "by hand", "hub cache"])
def test_a_pickle_is_converted_once(hub: Hub, route: str) -> None:
    source = url_source(hub, PTH, "net.pth") if route in ("url", "by hand") else Source(hub=REPO, file="net.pth")
    hub.add(REPO, "net.pth", PTH)
    if route == "by hand":
        by_hand("net.pth").write_bytes(PTH)
    if route == "hub cache":
        huggingface_hub.hf_hub_download(REPO, "net.pth", endpoint=hub.endpoint, cache_dir=hub_cache())
    hub.requests.clear()
    file = store.fetch(record(source))
    assert bool(hub.requests) == (route in ("url", "hub"))
    tensors = safetensors.torch.load_file(file.path)
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[key], TENSORS[key]) for key in TENSORS)
    assert file.path == by_hand("net.pth.safetensors")
    assert file.upstream_sha256 == stamp()["upstream_sha256"] == digest(PTH)
    assert file.sha256 == stamp()["sha256"] == digest(file.path.read_bytes())
    hub.requests.clear()
    before = file.path.stat()
    assert store.fetch(record(source)) == file
    assert (hub.requests, file.path.stat()) == ([], before)


def test_a_file_of_the_package_is_used_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "PACKAGE", tmp_path / "trickzoo")
    packaged = tmp_path / "trickzoo" / "weights_manifest" / FILE
    packaged.parent.mkdir(parents=True)
    packaged.write_bytes(GOOD)
    weight = record(Source(path=f"weights_manifest/{FILE}", sha256=digest(GOOD)))
    assert store.fetch(weight).path == packaged
    packaged.write_bytes(OTHER)
    with pytest.raises(DigestMismatch, match=digest(OTHER)):
        store.fetch(weight)
    store.remove(weight)
    assert packaged.exists()


def test_a_missing_file_of_the_package_is_said_to_be_missing() -> None:
    with pytest.raises(WeightsUnavailable, match=r"package:nowhere/model\.safetensors: not part of this installation"):
        store.fetch(record(Source(path=f"nowhere/{FILE}", sha256=digest(GOOD))))


def test_a_file_put_in_place_by_hand_is_used(hub: Hub) -> None:
    by_hand().write_bytes(GOOD)
    file = store.fetch(record(Source(hub=REPO, file=FILE, sha256=digest(GOOD))))
    assert (file.path, file.sha256, hub.requests) == (by_hand(), digest(GOOD), [])


def test_a_wrong_file_put_in_place_by_hand_is_refused(hub: Hub) -> None:
    by_hand().write_bytes(OTHER)
    with pytest.raises(DigestMismatch, match=str(by_hand())):
        store.fetch(record(Source(hub=REPO, file=FILE, sha256=digest(GOOD))))
    assert hub.requests == []


# ---------------------------------------------------------------------------------------------------------------------
# digests


@pytest.mark.parametrize("route", ["hub", "url"])
@pytest.mark.parametrize("kind", ["sha256", "sha256_prefix"])
@pytest.mark.parametrize("agrees", [True, False])
def test_the_manifests_digest_is_law(hub: Hub, route: str, kind: str, agrees: bool) -> None:
    hub.add(REPO, FILE, GOOD)
    url = hub.add_file(FILE, GOOD)
    wanted = digest(GOOD if agrees else OTHER)[: 64 if kind == "sha256" else 8]
    place = {"hub": REPO, "file": FILE} if route == "hub" else {"url": url}
    weight = record(Source(**place, **{kind: wanted}))
    if agrees:
        assert store.fetch(weight).sha256 == digest(GOOD)
        return
    with pytest.raises(WeightsUnavailable) as error:
        store.fetch(weight)
    assert wanted in str(error.value)
    assert digest(GOOD) in str(error.value)
    assert hub.count("GET") == (route == "url")  # the hub states its digest before any byte is sent
    assert kept() == set()


def test_pin_writes_revision_and_digest(hub: Hub) -> None:
    commit = hub.add(REPO, FILE, GOOD)
    store.pin([record(HUB)])
    assert json.loads(store.lock_file().read_text()) == {
        "resnet18.test": {"source": "org/net/model.safetensors", "revision": commit, "sha256": digest(GOOD), "size": len(GOOD)}
    }


def test_pin_of_a_conversion_has_the_digest_of_what_is_served(hub: Hub) -> None:
    source = url_source(hub, PTH, "net.pth")
    store.pin([record(source)])
    entry = json.loads(store.lock_file().read_text())["resnet18.test"]
    assert (entry["source"], entry["sha256"]) == (source.url, digest(PTH))
    assert store.locate(record(source)) is not None


def test_after_pin_the_same_bytes_come_though_main_moved_on(hub: Hub) -> None:
    commit = hub.add(REPO, FILE, GOOD)
    store.pin([record(HUB)])
    hub.add(REPO, FILE, OTHER)
    store.remove(record(HUB))
    file = store.fetch(record(HUB))
    assert (file.path.read_bytes(), file.revision) == (GOOD, commit)


def test_after_pin_a_hub_that_states_another_digest_is_refused(hub: Hub) -> None:
    commit = hub.add(REPO, FILE, GOOD)
    store.pin([record(HUB)])
    hub.add(REPO, FILE, OTHER, revision=commit)
    store.remove(record(HUB))
    hub.requests.clear()
    with pytest.raises(WeightsUnavailable, match=f"the hub states SHA-256 {digest(OTHER)}, {digest(GOOD)} is recorded"):
        store.fetch(record(HUB))
    assert hub.count("GET") == 0


def test_after_pin_a_cached_file_of_another_digest_is_refused(hub: Hub) -> None:
    hub.add(REPO, FILE, GOOD)
    store.pin([record(HUB)])
    pins = json.loads(store.lock_file().read_text())
    pins["resnet18.test"]["sha256"] = digest(OTHER)
    store.lock_file().write_text(json.dumps(pins))
    with pytest.raises(DigestMismatch, match=digest(OTHER)):
        store.locate(record(HUB))


def test_a_broken_lock_file_is_named(hub: Hub) -> None:
    store.home().mkdir()
    store.lock_file().write_text("[]")
    with pytest.raises(TrickzooError, match=str(store.lock_file())):
        store.fetch(record(HUB))


def test_verify_finds_a_changed_byte_that_the_stamp_cannot_show(hub: Hub) -> None:
    hub.add(REPO, FILE, GOOD)
    path = store.fetch(record(HUB)).path
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(len(GOOD) // 2)
        file.write(bytes([GOOD[len(GOOD) // 2] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert store.locate(record(HUB)) is not None
    with pytest.raises(DigestMismatch):
        store.verify(record(HUB))


def test_verify_of_a_good_file_and_of_none(hub: Hub) -> None:
    hub.add(REPO, FILE, GOOD)
    assert store.verify(record(HUB)) is None
    file = store.fetch(record(HUB))
    assert store.verify(record(HUB)) == file


def touch(path: Path) -> None:
    os.utime(path, ns=(0, 0))


def replace_by(content: bytes) -> Callable[[Path], None]:
    def replace(path: Path) -> None:
        path = path.resolve()
        copy = path.with_name("copy")
        copy.write_bytes(content)
        before = path.stat()
        os.utime(copy, ns=(before.st_atime_ns, before.st_mtime_ns))
        os.replace(copy, path)

    return replace


@pytest.mark.parametrize("change", [touch, replace_by(GOOD)], ids=["mtime", "inode"])
def test_the_same_bytes_are_verified_again_once(hub: Hub, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]) -> None:
    hub.add(REPO, FILE, GOOD)
    file = store.fetch(record(HUB))
    change(file.path)
    hashed: list[Path] = []
    monkeypatch.setattr(store, "digest", lambda path: hashed.append(path) or digest(path.read_bytes()))
    assert store.locate(record(HUB)) == file
    assert store.locate(record(HUB)) == file
    assert hashed == [file.path]


@pytest.mark.parametrize("content", [GOOD[:-1], GOOD[:-1] + b"?"], ids=["size", "bytes"])
def test_other_bytes_are_refused_with_what_to_delete(hub: Hub, content: bytes) -> None:
    hub.add(REPO, FILE, GOOD)
    path = store.fetch(record(HUB)).path
    replace_by(content)(path)
    for find in (store.locate, store.fetch, store.verify):
        with pytest.raises(DigestMismatch) as error:
            find(record(HUB))
        for part in (str(path), digest(GOOD), digest(content), "trickzoo weights rm resnet18.test"):
            assert part in str(error.value)
    store.remove(record(HUB))
    assert store.fetch(record(HUB)).path.read_bytes() == GOOD


@pytest.mark.parametrize("route", ["hub", "url", "converted", "hub converted", "main moved on"])
def test_remove_deletes_all_and_says_what(hub: Hub, route: str) -> None:
    hub.add(REPO, FILE, GOOD)
    hub.add(REPO, "net.pth", PTH)
    sources = {"url": url_source(hub), "converted": url_source(hub, PTH, "net.pth"), "hub converted": Source(hub=REPO, file="net.pth")}
    weight = record(sources.get(route, HUB))
    path = store.fetch(weight).path
    if route == "main moved on":
        hub.add(REPO, FILE, OTHER)
        huggingface_hub.hf_hub_download(REPO, "net.pth", endpoint=hub.endpoint, cache_dir=hub_cache())
        shutil.rmtree(hub_cache() / ".locks")
    gone = store.remove(weight)
    assert path in gone
    assert store.home() / "verified" / "resnet18.test.json" in gone
    assert not any(path.exists() or path.is_symlink() for path in gone)
    assert kept() == ({digest(PTH)} if route == "main moved on" else set())
    assert store.locate(weight) is None
    assert store.remove(weight) == []


# ---------------------------------------------------------------------------------------------------------------------
# faults


HUB_FAULTS = {
    "401": (Fault(401, headers={"X-Error-Code": "RepoNotFound"}), "not found"),
    "gated": (Fault(403, headers={"X-Error-Code": "GatedRepo"}), "access to the repository must be asked for"),
    "404": (Fault(404), "the hub answered 404"),
    "429": (Fault(429), "the hub answered 429"),
    "429, come back later": (Fault(429, headers={"Retry-After": "60"}), "the hub answered 429"),
    "500": (Fault(500), "the hub answered 500"),
    "hang on HEAD": (Fault("hang", "HEAD"), "timed out"),
    "500 on GET": (Fault(500, "GET"), "the hub answered 500"),
    "hang on GET": (Fault("hang", "GET"), "timed out"),
    "stall": (Fault("stall"), "timed out"),
    "cut": (Fault("cut"), "the download was cut short"),
    "wrong bytes": (Fault("wrong"), f"wrong bytes: SHA-256 {digest(GOOD)} wanted"),
}
URL_FAULTS = {
    "404": (Fault(404), "the server answered 404"),
    "500": (Fault(500), "the server answered 500"),
    "hang": (Fault("hang"), "timed out"),
    "stall": (Fault("stall"), "timed out"),
    "cut": (Fault("cut"), "the download was cut short"),
    "wrong bytes": (Fault("wrong"), f"wrong bytes: SHA-256 {digest(GOOD)} wanted"),
}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a body is awaited, little patience: the hub of these tests is silent for ever or answers at once."""
    monkeypatch.setattr(download, "READ_SECONDS", 0.5)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 1024)  # as if the file had many of the client's 10 MB chunks


def refused(weight: Record) -> str:
    """The message of the one error; nothing may be left under a final name."""
    with pytest.raises(WeightsUnavailable) as error:
        store.fetch(weight)
    assert kept() == set()
    assert not any(path.is_symlink() for path in hub_cache().rglob("*"))
    assert store.locate(weight) is None
    return str(error.value)


@pytest.mark.parametrize("second", [False, True], ids=["alone", "with a second source"])
@pytest.mark.parametrize("name", HUB_FAULTS)
@pytest.mark.usefixtures("impatient")
def test_a_hub_that_fails(hub: Hub, naps: list[float], name: str, second: bool) -> None:
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
def test_a_server_that_fails(hub: Hub, name: str, second: bool) -> None:
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
def test_what_the_hub_does_not_have(hub: Hub, source: Source, reason: str) -> None:
    hub.add(REPO, FILE, GOOD)
    assert f"{source}: {reason}" in refused(record(source))
    assert hub.count("GET") == 0


@pytest.mark.parametrize("route", ["hub", "url"])
def test_a_refused_connection_is_told_at_once(monkeypatch: pytest.MonkeyPatch, naps: list[float], route: str) -> None:
    asked: list[object] = []
    real = socket.socket.connect
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: asked.append(address) or real(self, address))
    source = HUB if route == "hub" else Source(url=f"http://127.0.0.1:9/{FILE}", sha256=digest(GOOD))
    assert f"{source}: connection refused" in refused(record(source))
    assert (asked, naps) == ([("127.0.0.1", 9)], [])


@pytest.mark.usefixtures("impatient", "naps")
def test_a_download_that_was_cut_is_resumed(hub: Hub) -> None:
    hub.add(REPO, FILE, GOOD)
    hub.fail(REPO, Fault("cut", times=1))
    with contextlib.suppress(WeightsUnavailable):  # client 2 resumes by itself, client 1 when it is asked again
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
    """Let something happen between the store's question about a file and the hub client's own."""
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


def test_a_repository_that_changes_meanwhile(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(REPO, FILE, GOOD)
    after_the_first_answer(monkeypatch, lambda: hub.add(REPO, FILE, OTHER))
    with pytest.raises(WeightsUnavailable, match="changed meanwhile; try again"):
        store.fetch(record(HUB))
    assert store.fetch(record(HUB)).path.read_bytes() == OTHER


def test_a_silent_hub_is_asked_for_the_file_and_nothing_else(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: Callable[..., subprocess.Popen[str]]
) -> None:
    monkeypatch.delenv("HF_HUB_DISABLE_TELEMETRY")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    hub.fail("", Fault("hang"))
    _, message = start(record(HUB)).communicate()
    assert f"{HUB}: timed out" in message
    assert [(request.method, request.path) for request in hub.requests] == [("HEAD", f"{REPO}/resolve/main/{FILE}")]


def test_after_a_silent_source_the_next_is_given_half_the_time(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float] = []
    real = store._download
    monkeypatch.setattr(store, "REACH_SECONDS", 0.2)
    monkeypatch.setattr(store, "_download", lambda weight, source, seconds: given.append(seconds) or real(weight, source, seconds))
    hub.fail("", Fault("hang"))
    refused(record(HUB, Source(hub="org/mirror", file=FILE)))
    assert given == [0.2, 0.1]


def test_an_answer_without_a_commit_is_no_hub(hub: Hub) -> None:
    hub.fail(REPO, Fault(200))
    assert "is this a hub?" in refused(record(HUB))


def test_a_repository_name_that_cannot_be_is_one_clear_error(hub: Hub) -> None:
    assert "a/b/c/model.safetensors: " in refused(record(Source(hub="a/b/c", file=FILE)))
    assert hub.requests == []


# ---------------------------------------------------------------------------------------------------------------------
# processes: at once, killed, without space


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
    file = store.locate(weight)
    assert file is not None
    assert paths == {str(file.path)}
    assert kept() == {file.sha256}


@pytest.mark.parametrize("route", ["hub", "url"])
def test_killed_in_mid_download(hub: Hub, start: Callable[..., subprocess.Popen[str]], route: str) -> None:
    hub.add(REPO, FILE, GOOD)
    weight = record(HUB if route == "hub" else url_source(hub))
    hub.fail("", Fault("stall"))
    process = start(weight)
    by_hand(".net.safetensors.1234").touch()  # what a killed conversion leaves
    partial = {"hub": lambda: list(hub_cache().rglob("*.incomplete")), "url": lambda: list(by_hand().parent.glob(".download-*/*"))}
    wait_until(lambda: hub.count("GET") and partial[route](), process)
    process.kill()
    process.wait()
    assert partial[route]()
    assert store.locate(weight) is None
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


def test_a_home_that_cannot_be_made_is_named(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TRICKZOO_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(WeightsUnavailable, match="TRICKZOO_HOME"):
        store.fetch(record(HUB))


def test_write_atomically_writes_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "folder" / "file"
    files.write_atomically(path, b"old")
    plain = tmp_path / "plain"
    plain.touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write_atomically(path, b"new")
    with pytest.raises(OSError, match="No space"):
        files.write_atomically(path.with_name("another"), b"new")
    assert list(path.parent.iterdir()) == [path]
    assert path.read_bytes() == b"old"


# ---------------------------------------------------------------------------------------------------------------------
# hf-hub:user/name


CONFIG = {"architecture": "resnet18", "num_classes": 10}


@pytest.mark.parametrize("pinned", [False, True])
def test_a_hub_reference(hub: Hub, pinned: bool) -> None:
    hub.add(REPO, "config.json", json.dumps(CONFIG).encode())
    old = hub.add(REPO, FILE, GOOD)
    new = hub.add(REPO, FILE, OTHER)
    path, config, commit = store.fetch_hub_reference(f"hf-hub:{REPO}@{old}" if pinned else f"hf-hub:{REPO}")
    assert (path.read_bytes(), config, commit) == ((GOOD, CONFIG, old) if pinned else (OTHER, CONFIG, new))


def test_a_hub_reference_without_safetensors_or_config(hub: Hub) -> None:
    hub.add(REPO, "pytorch_model.bin", PTH)
    path, config, _ = store.fetch_hub_reference(f"hf-hub:{REPO}")
    assert (path.name, path.read_bytes(), config) == ("pytorch_model.bin", PTH, {})


@pytest.mark.parametrize("file", [FILE, "pytorch_model.bin"])
def test_a_hub_reference_offline(hub: Hub, monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    hub.add(REPO, "config.json", json.dumps(CONFIG).encode())
    hub.add(REPO, file, GOOD)
    online = store.fetch_hub_reference(f"hf-hub:{REPO}")
    hub.requests.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert store.fetch_hub_reference(f"hf-hub:{REPO}") == online
    with pytest.raises(WeightsUnavailable, match=r"hf-hub:org/none: .*not in the cache.*HF_HUB_OFFLINE.*weights=PATH"):
        store.fetch_hub_reference("hf-hub:org/none")
    assert hub.requests == []


@pytest.mark.parametrize("reference", ["hf-hub:org/none", f"hf-hub:{REPO}@none", "hf-hub:", "hf-hub:a/b/c", "hf-hub:../x"])
def test_a_hub_reference_to_nothing(hub: Hub, reference: str) -> None:
    hub.add(REPO, FILE, GOOD)
    with pytest.raises(WeightsUnavailable, match=reference):
        store.fetch_hub_reference(reference)


def test_a_hub_reference_asks_for_the_pickle_only_if_there_is_no_other(hub: Hub) -> None:
    hub.add(REPO, FILE, GOOD)
    hub.add(REPO, "pytorch_model.bin", PTH)
    hub.fail(f"{REPO}/resolve/main/{FILE}", Fault(500))
    with pytest.raises(WeightsUnavailable, match="the hub answered 500"):
        store.fetch_hub_reference(f"hf-hub:{REPO}")
    assert {request.path for request in hub.requests} == {f"{REPO}/resolve/main/{FILE}"}


def test_a_hub_reference_with_a_config_that_cannot_be_had_is_not_taken_without(hub: Hub) -> None:
    hub.add(REPO, "config.json", json.dumps(CONFIG).encode())
    commit = hub.add(REPO, FILE, GOOD)
    hub.fail(f"{REPO}/resolve/{commit}/config.json", Fault(500))
    with pytest.raises(WeightsUnavailable, match=r"config\.json: the hub answered 500"):
        store.fetch_hub_reference(f"hf-hub:{REPO}")


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff"])
def test_a_hub_reference_with_a_broken_config(hub: Hub, content: bytes) -> None:
    hub.add(REPO, "config.json", content)
    hub.add(REPO, FILE, GOOD)
    with pytest.raises(BadCheckpoint, match=r"hf-hub:org/net: config\.json"):
        store.fetch_hub_reference(f"hf-hub:{REPO}")
