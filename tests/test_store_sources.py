"""Sources of a weight's file: the hub, its cache, a url, the package, a file put in place by hand, and `hf-hub:user/name`."""

from __future__ import annotations

import json
from pathlib import Path

import huggingface_hub
import pytest
import safetensors.torch
import torch

from tests.hub import Fault, Hub
from tests.store import FILE, GOOD, HUB, OTHER, PTH, REPO, TENSORS, by_hand, digest, hub_cache, kept, record, stamp, url_source
from trickzoo.errors import BadCheckpoint, DigestMismatch, WeightsUnavailable
from trickzoo.files import home
from trickzoo.weights import download, local, manifest, store
from trickzoo.weights.record import Source


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


def test_a_cached_file_without_stamp_makes_no_request(hub: Hub) -> None:
    hub.add(REPO, FILE, GOOD)
    first = store.fetch(record(HUB))
    (home() / "verified" / "resnet18.test.json").write_text("{")
    hub.requests.clear()
    assert store.fetch(record(HUB)) == first
    assert hub.requests == []
    assert stamp()["sha256"] == digest(GOOD)


def test_offline_error_names_the_file_its_origin_and_its_place(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(REPO, FILE, GOOD)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsUnavailable) as error:
        store.fetch(record(HUB))
    for part in ("resnet18.test", "HF_HUB_OFFLINE", FILE, f"hub repository {REPO}", str(by_hand()), "weights=PATH", "--weights PATH"):
        assert part in str(error.value)
    assert hub.requests == []


@pytest.mark.parametrize("file", [FILE, f"weights/{FILE}"])
def test_a_file_in_the_cache_of_the_hub_client_is_found(hub: Hub, file: str) -> None:
    commit = hub.add(REPO, file, GOOD)
    theirs = huggingface_hub.hf_hub_download(REPO, file, endpoint=hub.endpoint, cache_dir=hub_cache())
    hub.requests.clear()
    ours = store.fetch(record(Source(hub=REPO, file=file)))
    assert hub.requests == []
    assert (str(ours.path), ours.sha256, ours.revision) == (theirs, digest(GOOD), commit)


def test_a_file_in_the_cache_of_the_hub_client_with_other_bytes_is_refused(hub: Hub) -> None:
    hub.add(REPO, FILE, GOOD)
    theirs = huggingface_hub.hf_hub_download(REPO, FILE, endpoint=hub.endpoint, cache_dir=hub_cache())
    Path(theirs).write_bytes(OTHER)
    with pytest.raises(DigestMismatch, match=f"expected SHA-256 {digest(GOOD)}, found {digest(OTHER)}"):
        store.fetch(record(HUB))


def test_the_hub_client_finds_a_fetched_file(hub: Hub) -> None:
    hub.add(REPO, FILE, GOOD)
    ours = store.fetch(record(HUB))
    assert huggingface_hub.try_to_load_from_cache(REPO, FILE, cache_dir=hub_cache()) == str(ours.path)


def test_a_recorded_revision_is_fetched_after_main_moved_on(hub: Hub) -> None:
    old = hub.add(REPO, FILE, GOOD)
    hub.add(REPO, FILE, OTHER)
    file = store.fetch(record(Source(hub=REPO, file=FILE, revision=old)))
    assert (file.path.read_bytes(), file.revision) == (GOOD, old)


def test_an_endpoint_may_end_in_a_slash(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(REPO, FILE, GOOD)
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint + "/")
    assert store.fetch(record(HUB)).sha256 == digest(GOOD)


def test_the_second_source_is_used_if_the_first_fails(hub: Hub) -> None:
    second = url_source(hub)
    file = store.fetch(record(HUB, second))
    assert file.path == by_hand("net.safetensors")
    assert (file.path.read_bytes(), file.source) == (GOOD, second.url)


def test_the_error_has_a_reason_for_every_source(hub: Hub) -> None:
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


def test_a_file_of_the_package_is_used_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "PACKAGE", tmp_path / "trickzoo")
    packaged = tmp_path / "trickzoo" / "weights_manifest" / FILE
    packaged.parent.mkdir(parents=True)
    packaged.write_bytes(GOOD)
    weight = record(Source(path=f"weights_manifest/{FILE}", sha256=digest(GOOD)))
    assert store.fetch(weight).path == packaged
    packaged.write_bytes(OTHER)
    with pytest.raises(DigestMismatch, match=f"found {digest(OTHER)}; install trickzoo again"):
        store.fetch(weight)
    local.remove(weight)
    assert packaged.exists()


def test_an_updated_package_uses_its_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for release, content in (("old", GOOD), ("new", OTHER), ("old", GOOD)):  # in one cache
        monkeypatch.setattr(manifest, "PACKAGE", tmp_path / release / "trickzoo")
        packaged = tmp_path / release / "trickzoo" / FILE
        packaged.parent.mkdir(parents=True, exist_ok=True)
        packaged.write_bytes(content)
        file = store.fetch(record(Source(path=FILE, sha256=digest(content))))
        assert (file.path, file.sha256) == (packaged, digest(content))
    packaged.write_bytes(OTHER)  # in place
    assert store.fetch(record(Source(path=FILE, sha256=digest(OTHER)))).sha256 == digest(OTHER)


def test_a_missing_file_of_the_package_is_reported() -> None:
    with pytest.raises(WeightsUnavailable, match=r"package:nowhere/model\.safetensors: this installation does not contain it"):
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
# hf-hub:user/name


CONFIG = {"architecture": "resnet18", "num_classes": 10}


@pytest.mark.parametrize("pinned", [False, True])
def test_a_hub_reference(hub: Hub, pinned: bool) -> None:
    hub.add(REPO, "config.json", json.dumps(CONFIG).encode())
    old = hub.add(REPO, FILE, GOOD)
    new = hub.add(REPO, FILE, OTHER)
    path, config, commit = download.fetch_hub_reference(f"hf-hub:{REPO}@{old}" if pinned else f"hf-hub:{REPO}")
    assert (path.read_bytes(), config, commit) == ((GOOD, CONFIG, old) if pinned else (OTHER, CONFIG, new))


def test_a_hub_reference_without_safetensors_or_config(hub: Hub) -> None:
    hub.add(REPO, "pytorch_model.bin", PTH)
    path, config, _ = download.fetch_hub_reference(f"hf-hub:{REPO}")
    assert (path.name, path.read_bytes(), config) == ("pytorch_model.bin", PTH, {})


@pytest.mark.parametrize("file", [FILE, "pytorch_model.bin"])
def test_a_hub_reference_offline(hub: Hub, monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    hub.add(REPO, "config.json", json.dumps(CONFIG).encode())
    hub.add(REPO, file, GOOD)
    online = download.fetch_hub_reference(f"hf-hub:{REPO}")
    hub.requests.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert download.fetch_hub_reference(f"hf-hub:{REPO}") == online
    with pytest.raises(WeightsUnavailable, match=r"hf-hub:org/none: .*not in the cache.*HF_HUB_OFFLINE.*weights=PATH"):
        download.fetch_hub_reference("hf-hub:org/none")
    assert hub.requests == []


@pytest.mark.parametrize("reference", ["hf-hub:org/none", f"hf-hub:{REPO}@none", "hf-hub:", "hf-hub:a/b/c", "hf-hub:../x"])
def test_a_hub_reference_to_a_missing_repository(hub: Hub, reference: str) -> None:
    hub.add(REPO, FILE, GOOD)
    with pytest.raises(WeightsUnavailable, match=reference):
        download.fetch_hub_reference(reference)


def test_a_hub_reference_requests_the_pickle_only_without_safetensors(hub: Hub) -> None:
    hub.add(REPO, FILE, GOOD)
    hub.add(REPO, "pytorch_model.bin", PTH)
    hub.fail(f"{REPO}/resolve/main/{FILE}", Fault(500))
    with pytest.raises(WeightsUnavailable, match="the hub answered 500"):
        download.fetch_hub_reference(f"hf-hub:{REPO}")
    assert {request.path for request in hub.requests} == {f"{REPO}/resolve/main/{FILE}"}


def test_a_hub_reference_is_refused_if_its_config_cannot_be_downloaded(hub: Hub) -> None:
    hub.add(REPO, "config.json", json.dumps(CONFIG).encode())
    commit = hub.add(REPO, FILE, GOOD)
    hub.fail(f"{REPO}/resolve/{commit}/config.json", Fault(500))
    with pytest.raises(WeightsUnavailable, match=r"config\.json: the hub answered 500"):
        download.fetch_hub_reference(f"hf-hub:{REPO}")


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff"])
def test_a_hub_reference_with_a_damaged_config(hub: Hub, content: bytes) -> None:
    hub.add(REPO, "config.json", content)
    hub.add(REPO, FILE, GOOD)
    with pytest.raises(BadCheckpoint, match=r"hf-hub:org/net: config\.json"):
        download.fetch_hub_reference(f"hf-hub:{REPO}")
