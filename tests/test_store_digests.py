"""Verification of weight files against the manifest, the lock file and their stamps, and their removal."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest

from tests.hub import Hub
from tests.store import FILE, GOOD, HUB, OTHER, PTH, REPO, by_hand, digest, hub_cache, kept, record, url_source
from trickzoo import files
from trickzoo.errors import BadCheckpoint, DigestMismatch, TrickzooError, WeightsUnavailable
from trickzoo.files import home
from trickzoo.weights import local, pins, store
from trickzoo.weights.record import Source


@pytest.mark.parametrize("route", ["hub", "url"])
@pytest.mark.parametrize("kind", ["sha256", "sha256_prefix"])
@pytest.mark.parametrize("agrees", [True, False])
def test_only_the_digest_of_the_manifest_is_accepted(hub: Hub, route: str, kind: str, agrees: bool) -> None:
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
    assert hub.count("GET") == (route == "url")  # the hub states the digest before it sends the file
    assert kept() == set()


def test_pin_writes_revision_and_digest(hub: Hub) -> None:
    commit = hub.add(REPO, FILE, GOOD)
    store.pin([record(HUB)])
    assert json.loads(pins.lock_file().read_text()) == {
        "resnet18.test": {"source": "org/net/model.safetensors", "revision": commit, "sha256": digest(GOOD), "size": len(GOOD)}
    }


def test_pin_of_a_converted_file_has_the_digest_of_the_upstream_file(hub: Hub) -> None:
    source = url_source(hub, PTH, "net.pth")
    store.pin([record(source)])
    entry = json.loads(pins.lock_file().read_text())["resnet18.test"]
    assert (entry["source"], entry["sha256"]) == (source.url, digest(PTH))
    assert local.locate(record(source)) is not None


def test_a_pinned_weight_stays_the_same_after_main_moved_on(hub: Hub) -> None:
    commit = hub.add(REPO, FILE, GOOD)
    store.pin([record(HUB)])
    hub.add(REPO, FILE, OTHER)
    local.remove(record(HUB))
    file = store.fetch(record(HUB))
    assert (file.path.read_bytes(), file.revision) == (GOOD, commit)


def test_a_pinned_weight_is_refused_if_the_hub_states_another_digest(hub: Hub) -> None:
    commit = hub.add(REPO, FILE, GOOD)
    store.pin([record(HUB)])
    hub.add(REPO, FILE, OTHER, revision=commit)
    local.remove(record(HUB))
    hub.requests.clear()
    with pytest.raises(WeightsUnavailable, match=f"the hub states SHA-256 {digest(OTHER)}, but {digest(GOOD)} is recorded"):
        store.fetch(record(HUB))
    assert hub.count("GET") == 0


def test_a_pinned_weight_is_refused_if_the_cached_file_has_another_digest(hub: Hub) -> None:
    hub.add(REPO, FILE, GOOD)
    store.pin([record(HUB)])
    content = json.loads(pins.lock_file().read_text())
    content["resnet18.test"]["sha256"] = digest(OTHER)
    pins.lock_file().write_text(json.dumps(content))
    with pytest.raises(DigestMismatch, match=digest(OTHER)):
        local.locate(record(HUB))


def test_a_damaged_lock_file_is_named(hub: Hub) -> None:
    home().mkdir()
    pins.lock_file().write_text("[]")
    with pytest.raises(TrickzooError, match=str(pins.lock_file())):
        store.fetch(record(HUB))


def test_verify_finds_a_changed_byte_although_the_stamp_is_valid(hub: Hub) -> None:
    hub.add(REPO, FILE, GOOD)
    path = store.fetch(record(HUB)).path
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(len(GOOD) // 2)
        file.write(bytes([GOOD[len(GOOD) // 2] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert local.locate(record(HUB)) is not None
    with pytest.raises(DigestMismatch):
        local.verify(record(HUB))


@pytest.mark.parametrize(("digits", "level"), [(64, "pinned"), (8, "8 digits"), (12, "12 digits")])
def test_the_assurance_of_a_file_is_how_much_of_its_digest_is_recorded(hub: Hub, digits: int, level: str) -> None:
    kind = "sha256" if digits == 64 else "sha256_prefix"
    weight = record(Source(url=hub.add_file(FILE, GOOD), **{kind: digest(GOOD)[:digits]}))
    assert local.assurance(weight, store.fetch(weight)) == level
    assert pins.recorded(weight) == ("full" if digits == 64 else level)


def test_the_assurance_of_a_hub_file_before_and_after_it_is_pinned(hub: Hub) -> None:
    hub.add(REPO, FILE, GOOD)
    assert pins.recorded(record(HUB)) == "none"
    assert local.assurance(record(HUB), store.fetch(record(HUB))) == "stated by the hub"
    store.pin([record(HUB)])
    assert local.assurance(record(HUB), store.fetch(record(HUB))) == "pinned"
    assert pins.recorded(record(HUB)) == "full"


def test_a_file_of_another_commit_with_the_recorded_digest_is_used_offline(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program has downloaded the file from the main branch, which has moved on since the recorded commit."""
    first = hub.add(REPO, FILE, GOOD)
    second = hub.add(REPO, "README.md", b"another commit")
    huggingface_hub.hf_hub_download(REPO, FILE, endpoint=hub.endpoint, cache_dir=hub_cache())
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    pinned = record(Source(hub=REPO, file=FILE, revision=first, sha256=digest(GOOD)))
    for _ in range(2):  # without a stamp and with one
        assert store.fetch(pinned).revision == second
    other = record(Source(hub=REPO, file=FILE, revision=first, sha256=digest(OTHER)))
    with pytest.raises((WeightsUnavailable, DigestMismatch)):
        store.fetch(other)


def test_verify_of_a_good_file_and_of_a_missing_one(hub: Hub) -> None:
    hub.add(REPO, FILE, GOOD)
    assert local.verify(record(HUB)) is None
    file = store.fetch(record(HUB))
    assert local.verify(record(HUB)) == file


def test_a_file_put_in_place_without_a_digest_is_unverified_and_not_pinned() -> None:
    by_hand().write_bytes(GOOD)
    for find in (local.locate, local.verify):  # the first use, and a later one with a stamp
        file = find(record(HUB))
        assert file is not None
        assert local.assurance(record(HUB), file) == "unverified"
    assert store.pin([record(HUB)]) == []
    assert json.loads(pins.lock_file().read_text()) == {}
    stated = record(Source(hub=REPO, file=FILE, sha256=digest(GOOD)))
    assert local.assurance(stated, store.fetch(stated)) == "pinned"
    assert len(store.pin([stated])) == 1


@pytest.mark.parametrize(("filename", "content"), [(FILE, b"a photograph"), (FILE, GOOD[:-1]), ("net.pth", b"a photograph")])
def test_a_file_put_in_place_that_is_not_a_checkpoint_is_refused(filename: str, content: bytes) -> None:
    by_hand(filename).write_bytes(content)
    weight = record(Source(hub=REPO, file=filename))
    for find in (local.locate, local.verify, store.fetch):
        with pytest.raises(BadCheckpoint, match=f"{by_hand(filename)} is not a "):
            find(weight)


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
def test_same_bytes_with_an_invalid_stamp_are_hashed_once(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    hub.add(REPO, FILE, GOOD)
    file = store.fetch(record(HUB))
    change(file.path)
    hashed: list[Path] = []
    monkeypatch.setattr(local, "examine", lambda path: hashed.append(path) or files.examine(path))
    assert local.locate(record(HUB)) == file
    assert local.locate(record(HUB)) == file
    assert hashed == [file.path]


@pytest.mark.parametrize("content", [GOOD[:-1], GOOD[:-1] + b"?"], ids=["size", "bytes"])
def test_a_changed_file_is_refused_with_the_command_that_deletes_it(hub: Hub, content: bytes) -> None:
    hub.add(REPO, FILE, GOOD)
    path = store.fetch(record(HUB)).path
    replace_by(content)(path)
    for find in (local.locate, store.fetch, local.verify):
        with pytest.raises(DigestMismatch) as error:
            find(record(HUB))
        for part in (str(path), digest(GOOD), digest(content), "trickzoo weights rm resnet18.test"):
            assert part in str(error.value)
    local.remove(record(HUB))
    assert store.fetch(record(HUB)).path.read_bytes() == GOOD


@pytest.mark.parametrize("route", ["hub", "url", "converted", "hub converted", "main moved on"])
def test_remove_deletes_every_file_and_returns_their_paths(hub: Hub, route: str) -> None:
    hub.add(REPO, FILE, GOOD)
    hub.add(REPO, "net.pth", PTH)
    sources = {"url": url_source(hub), "converted": url_source(hub, PTH, "net.pth"), "hub converted": Source(hub=REPO, file="net.pth")}
    weight = record(sources.get(route, HUB))
    path = store.fetch(weight).path
    if route == "main moved on":
        hub.add(REPO, FILE, OTHER)
        huggingface_hub.hf_hub_download(REPO, "net.pth", endpoint=hub.endpoint, cache_dir=hub_cache())
        shutil.rmtree(hub_cache() / ".locks")
    gone = local.remove(weight)
    assert path in gone
    assert home() / "verified" / "resnet18.test.json" in gone
    assert not any(path.exists() or path.is_symlink() for path in gone)
    assert kept() == ({digest(PTH)} if route == "main moved on" else set())
    assert local.locate(weight) is None
    assert local.remove(weight) == []
