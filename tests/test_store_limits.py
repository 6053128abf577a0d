"""Limits of the size and duration of downloads, and that only the file that was verified is loaded."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import safetensors.torch
from huggingface_hub import constants

import trickzoo
from tests.checkpoints import SMALL, complaint, state
from tests.hub import Fault, Hub
from tests.store import FILE, GOOD, HUB, OTHER, PTH, REPO, digest, kept, record, stamp, url_source
from trickzoo.errors import BadCheckpoint, BadManifest, BadOption, DigestMismatch, WeightsUnavailable
from trickzoo.files import home
from trickzoo.weights import download, local, opened, pins, store, streams, tensors
from trickzoo.weights.record import Source


def refused(weight: Any, words: str) -> None:
    with pytest.raises(WeightsUnavailable) as error:
        store.fetch(weight)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert kept() == set()


# ---------------------------------------------------------------------------------------------------------------------
# size and time


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limit files of unknown size to 1 MB."""
    monkeypatch.setattr(streams, "LARGEST", 1 << 20)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1024)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("route", ["hub", "url"])
def test_an_endless_download_is_stopped(hub: Hub, route: str, recorded: bool) -> None:
    hub.add(REPO, FILE, GOOD)
    url = url_source(hub).url
    hub.fail("", Fault("endless"))
    size = len(GOOD) if recorded else None
    source = Source(hub=REPO, file=FILE, size=size) if route == "hub" else Source(url=url, sha256=digest(GOOD), size=size)
    most = len(GOOD) if recorded or route == "hub" else 1 << 20  # the hub states the size
    refused(record(source), f"it sends more than {most:,} bytes")


@pytest.mark.parametrize("route", ["hub", "url"])
def test_a_slow_download_is_stopped(hub: Hub, monkeypatch: pytest.MonkeyPatch, route: str) -> None:
    monkeypatch.setattr(streams, "SLOW_SECONDS", 0.2)
    hub.add(REPO, FILE, GOOD)
    source = HUB if route == "hub" else url_source(hub)
    hub.fail("", Fault("drip"))
    refused(record(source), "it is too slow: ")


@pytest.mark.parametrize("route", ["hub", "url"])
def test_a_compressed_file_is_refused_before_it_is_unpacked(hub: Hub, route: str) -> None:
    hub.add(REPO, FILE, GOOD)
    source = HUB if route == "hub" else url_source(hub)
    hub.fail("", Fault("gzip"))
    refused(record(source), "it sends the file compressed (gzip), which is not supported")


def test_a_compressed_text_is_bounded(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A config.json may be compressed, but it is not unpacked without bound."""
    monkeypatch.setattr(streams, "LARGEST_PACKED", 1 << 10)
    hub.add(REPO, "config.json", b"{}")
    hub.fail("", Fault("gzip"))
    source = Source(hub=REPO, file="config.json")
    with pytest.raises(streams.SourceError, match="it sends more than 1,024 bytes"):
        download.from_hub(source, None, None, 2.0)


def test_a_server_that_states_another_size_sends_nothing(hub: Hub) -> None:
    url = url_source(hub).url
    refused(record(Source(url=url, sha256=digest(GOOD), size=len(GOOD) + 1)), f"states {len(GOOD):,} bytes, {len(GOOD) + 1:,} are recorded")


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("route", ["hub", "url"])
def test_a_weight_can_be_fetched_after_a_stopped_download(hub: Hub, route: str) -> None:
    hub.add(REPO, FILE, GOOD)
    source = HUB if route == "hub" else url_source(hub)
    hub.fail("", Fault("endless"))
    with pytest.raises(WeightsUnavailable):
        store.fetch(record(source))
    hub.heal()
    hub.release()
    with contextlib.suppress(WeightsUnavailable):  # the client resumes with the wrong bytes, which are then found and deleted
        store.fetch(record(source))
    assert store.fetch(record(source)).path.read_bytes() == GOOD


def test_a_hub_that_states_another_size_is_not_asked_for_the_file(hub: Hub) -> None:
    hub.add(REPO, FILE, GOOD)
    refused(record(Source(hub=REPO, file=FILE, size=7)), f"the hub states {len(GOOD):,} bytes, 7 are recorded")
    assert hub.count("GET") == 0


def test_the_http_client_is_restored_after_a_download(hub: Hub) -> None:
    hub.add(REPO, FILE, GOOD)
    before = huggingface_hub.get_session().event_hooks
    store.fetch(record(HUB))
    assert huggingface_hub.get_session().event_hooks == before


# ---------------------------------------------------------------------------------------------------------------------
# the environment


@pytest.fixture
def fresh_client() -> Iterator[None]:
    """Create the HTTP client again in the changed environment, and discard it afterwards."""
    huggingface_hub.close_session()
    yield
    huggingface_hub.close_session()


ENVIRONMENTS = {
    "socks5": ({"ALL_PROXY": "socks5://127.0.0.1:9"}, "no connection can be made: "),
    "socks4": ({"ALL_PROXY": "socks4://127.0.0.1:9"}, "no connection can be made: "),
    "certificates": ({"SSL_CERT_FILE": "/gone.pem"}, "no connection can be made: SSL_CERT_FILE names /gone.pem, which does not exist"),
}


@pytest.mark.usefixtures("fresh_client")
@pytest.mark.parametrize("route", ["hub", "url"])
@pytest.mark.parametrize("what", ENVIRONMENTS)
def test_an_environment_without_a_usable_connection(what: str, route: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variables, words = ENVIRONMENTS[what]
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    weight = record(HUB if route == "hub" else Source(url="https://127.0.0.1:9/net.pth", sha256=digest(PTH)))
    with pytest.raises(WeightsUnavailable) as error:
        store.fetch(weight)
    assert words in str(error.value)
    assert "free some space" not in str(error.value)


def test_a_variable_that_prevents_the_hub_client_from_starting() -> None:
    code = "from trickzoo.weights import download\ntry:\n    download.hub_cache()\nexcept Exception as error:\n    print(repr(error))"
    environment = {**os.environ, "HF_HUB_ETAG_TIMEOUT": "2.5", "HF_HUB_OFFLINE": "0"}
    environment.pop("HF_HUB_CACHE")
    out = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True).stdout
    assert out.startswith('BadOption("the hub client does not start (')
    assert out.endswith('; correct or unset HF_HUB_ETAG_TIMEOUT")\n')


def test_a_timeout_must_be_a_number(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_ETAG_TIMEOUT", "soon")
    with pytest.raises(BadOption, match="HF_HUB_ETAG_TIMEOUT must be a number of seconds, not soon"):
        store.fetch(record(HUB))


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Simulate a user without a home folder, and return the folder for temporary files."""

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("TRICKZOO_HOME", "XDG_CACHE_HOME", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", staticmethod(no_home))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", "~/.cache/huggingface/hub")
    return tmp_path


def test_a_user_without_a_home_folder_gets_a_private_temporary_folder(homeless: Path, hub: Hub) -> None:
    hub.add(REPO, FILE, GOOD)
    own = homeless / f"trickzoo-{os.getuid()}"
    assert store.fetch(record(HUB)).path.is_relative_to(own / "hub")
    assert home() == own
    assert own.stat().st_mode & 0o777 == 0o700
    assert not Path("~").exists()


@pytest.mark.parametrize("what", ["open to all", "a link", "a file"])
def test_a_folder_that_others_may_write_to_is_refused(homeless: Path, what: str) -> None:
    own = homeless / f"trickzoo-{os.getuid()}"
    if what == "a file":
        own.touch()
    elif what == "a link":
        (homeless / "theirs").mkdir()
        own.symlink_to(homeless / "theirs")
    else:
        own.mkdir()
        own.chmod(0o777)
    with pytest.raises(BadOption, match="set TRICKZOO_HOME to a folder of your own"):
        home()


# ---------------------------------------------------------------------------------------------------------------------
# a record that changes


@pytest.mark.parametrize("route", ["hub", "url"])
def test_a_record_with_a_new_source_does_not_use_the_old_file(hub: Hub, route: str) -> None:
    hub.add(REPO, FILE, GOOD)
    hub.add("org/new", FILE, OTHER)
    old, new = record(HUB), record(Source(hub="org/new", file=FILE, sha256=digest(OTHER)))
    if route == "url":
        old, new = record(url_source(hub)), record(url_source(hub, OTHER, "new.safetensors"))
    assert store.fetch(old).path.read_bytes() == GOOD
    assert local.locate(new) is None
    assert not local.is_here(new)
    for _ in range(2):
        assert store.fetch(new).path.read_bytes() == OTHER


def test_a_record_with_a_new_digest_of_the_same_source(hub: Hub) -> None:
    hub.add(REPO, FILE, GOOD)
    store.fetch(record(HUB))
    with pytest.raises(DigestMismatch, match=f"expected SHA-256 {digest(OTHER)}, found {digest(GOOD)}"):
        local.locate(record(Source(hub=REPO, file=FILE, sha256=digest(OTHER))))


@pytest.mark.parametrize("file", [FILE, "net.pth"])
def test_a_record_with_a_new_revision(hub: Hub, file: str) -> None:
    content = GOOD if file == FILE else PTH
    first = hub.add(REPO, file, content)
    second = hub.add(REPO, "README.md", b"the same file, another commit")
    assert store.fetch(record(Source(hub=REPO, file=file, revision=first))).revision == first
    assert local.locate(record(Source(hub=REPO, file=file, revision=second))) is None
    assert store.fetch(record(Source(hub=REPO, file=file, revision=second))).revision == second
    assert stamp()["revision"] == second


def test_a_branch_as_revision(hub: Hub) -> None:
    commit = hub.add(REPO, FILE, GOOD)
    weight = record(Source(hub=REPO, file=FILE, revision="main"))
    assert store.fetch(weight).revision == commit
    hub.requests.clear()
    assert store.fetch(weight).revision == commit
    assert hub.requests == []


# ---------------------------------------------------------------------------------------------------------------------
# a file that is replaced


def test_a_file_replaced_after_its_verification_is_not_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    packaged = store.fetch(trickzoo.weights.manifest.find(f"{SMALL}.tz_imagenette128"))
    real = opened.read_tensors
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(packaged.path.read_bytes())
    monkeypatch.setattr(opened, "read_tensors", lambda path: real(copy))
    with pytest.raises(DigestMismatch, match="was replaced after"):
        trickzoo.create(SMALL, pretrained="tz_imagenette128")


def test_a_pickle_replaced_before_its_conversion_is_not_kept(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(REPO, "net.pth", PTH)
    weight = record(Source(hub=REPO, file="net.pth"))
    real = tensors.read_tensors

    def swap(path: Path) -> tensors.Content:
        place = path.resolve()
        place.with_name("other").write_bytes(PTH)
        os.replace(place.with_name("other"), place)
        return real(path)

    monkeypatch.setattr(tensors, "read_tensors", swap)
    with pytest.raises(DigestMismatch, match="was replaced after it had been verified"):
        store.fetch(weight)
    assert not list((home() / "files").rglob("*.safetensors"))


def test_a_file_replaced_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.safetensors"
    safetensors.torch.save_file(state(), file)
    real = safetensors.safe_open

    def swap(path: Path, **more: Any) -> Any:
        (tmp_path / "b").write_bytes(file.read_bytes())
        os.replace(tmp_path / "b", file)
        return real(path, **more)

    monkeypatch.setattr(safetensors, "safe_open", swap)
    assert complaint(BadCheckpoint, SMALL, weights=file) == f"{file} changed while it was read; load it again"


# ---------------------------------------------------------------------------------------------------------------------
# the lock file and the stamps


def test_concurrent_pins_are_all_kept() -> None:
    names = [f"resnet18.t{i}" for i in range(16)]
    threads = [threading.Thread(target=pins.write, args=({name: pins.Pin(source="x", sha256=name)},)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(pins.read()) == sorted(names)


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"a": 1}',
        b'{"a": {"source": "x", "sha256": 7}}',
        b'{"\\ud800": {"source": "x", "sha256": "7"}}',
        b"\xff",
        b"",
        b'{"a": {}}',
    ],
)
def test_a_lock_file_that_cannot_be_read(content: bytes) -> None:
    pins.lock_file().parent.mkdir(parents=True)
    pins.lock_file().write_bytes(content)
    with pytest.raises(BadManifest, match="not a lock file") as error:
        pins.read()
    assert str(pins.lock_file()) in str(error.value)


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"path":' * 100_000, b"7", b"{}", b'{"path": 7}', b"\xff"])
def test_an_unreadable_stamp_is_ignored(hub: Hub, content: bytes) -> None:
    hub.add(REPO, FILE, GOOD)
    first = store.fetch(record(HUB))
    (home() / "verified" / "resnet18.test.json").write_bytes(content)
    assert store.fetch(record(HUB)) == first
    assert stamp()["sha256"] == digest(GOOD)


def test_a_stamp_whose_path_is_longer_than_any_file_name_is_ignored(hub: Hub) -> None:
    hub.add(REPO, FILE, GOOD)
    first = store.fetch(record(HUB))
    place = home() / "verified" / "resnet18.test.json"
    place.write_text(json.dumps(stamp() | {"path": str(first.path.with_name("a" * 300))}))
    assert local.is_here(record(HUB))
    assert store.fetch(record(HUB)) == first


@pytest.mark.parametrize("route", ["hub", "url"])
def test_a_home_whose_path_is_not_utf8(hub: Hub, route: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRICKZOO_HOME", str(tmp_path / os.fsdecode(b"caf\xe9")))
    hub.add(REPO, FILE, GOOD)
    wanted = record(HUB if route == "hub" else url_source(hub))
    file = store.fetch(wanted)
    assert stamp()["path"] == str(file.path)
    assert store.fetch(wanted) == file


def test_a_config_that_is_nested_too_deeply(hub: Hub) -> None:
    hub.add(REPO, "config.json", b"[" * 100_000)
    hub.add(REPO, FILE, GOOD)
    with pytest.raises(BadCheckpoint, match=r"config\.json cannot be read"):
        download.fetch_hub_reference(f"hf-hub:{REPO}")
