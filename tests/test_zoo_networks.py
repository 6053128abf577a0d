"""The zoo's detectors and segmenters: their names stand for verified files, and files, records and result files agree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import trickzoo
from tests.commands import Call
from trickzoo import tasks
from trickzoo.cli import evaluation, run
from trickzoo.errors import BadCheckpoint, BadManifest, DigestMismatch, UnknownName
from trickzoo.files import digest
from trickzoo.recipes import collection, finetune
from trickzoo.weights import header, manifest, named
from trickzoo.weights.record import NetworkRecord

ROOT = Path(__file__).parents[1]
RECORDS = manifest.networks()
DETECTOR = "faster_rcnn_mobilenet_v1_025.tz_bccd"
networks = pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
DATA = {"bccd": "voc", "camvid": "lists"}
"""The layouts of the data sets."""


def measured(found: dict[str, Any]) -> dict[str, float]:
    """Return the metrics of an evaluation under the names of the records."""
    if "miou" in found:
        return {"mean IoU": round(found["miou"], 2), "pixel accuracy": round(found["pixel_accuracy"], 2)}
    return {"VOC AP50": round(found["voc"]["AP50 all-point"], 2), "COCO AP": round(found["coco"]["AP"], 2)}


def file_of(record: NetworkRecord) -> Path:
    (source,) = record.sources
    return ROOT / str(source.path)


def evidence(record: NetworkRecord, name: str) -> dict[str, Any]:
    (metric,) = record.metrics
    found: dict[str, Any] = json.loads((ROOT / metric.source / name).read_text(encoding="utf-8"))
    return found


@networks
def test_the_file_is_the_recorded_one_and_says_how_it_was_made(record: NetworkRecord) -> None:
    (source,), path = record.sources, file_of(record)
    assert (digest(path), path.stat().st_size) == (source.sha256, source.size)
    own, result = header.required(path), evidence(record, "result.json")
    assert own.task == record.task == result["task"]
    assert own.training is not None
    assert {key: result[key] for key in own.training} == own.training
    recipe = collection.find_fine_tuning(record.name, finetune.RECIPE_CLASSES[record.task])
    assert recipe == collection.from_dict(result["recipe"], type(recipe))


@networks
def test_the_record_is_what_was_measured_on_the_file(record: NetworkRecord) -> None:
    (metric,) = record.metrics
    found, training = evidence(record, "evaluation.json"), evidence(record, "result.json")
    assert found["weights_sha256"] == record.sources[0].sha256
    assert metric.values == measured(found)
    assert metric.n == found["n"] == training["n"]
    assert found["data"]["digest"] == training["val_digest"]
    assert next(iter(metric.values.values())) == round(training[training["measure"]], 2)


@networks
def test_other_seeds_differ_in_nothing_but_the_seed(record: NetworkRecord) -> None:
    first, folder = evidence(record, "result.json"), ROOT / record.metrics[0].source
    others = [evidence(record, path.name) for path in folder.glob("seed-*.json")]
    same = ("recipe", "data_digest", "val_digest", "weights_sha256", "n", "n_train")
    assert all(result[key] == first[key] for result in others for key in same)
    assert len({result["seed"] for result in (first, *others)}) == 1 + len(others)


@pytest.mark.packs
@networks
def test_the_networks_evaluate_to_their_recorded_numbers(record: NetworkRecord, packs: Path, tmp_path: Path) -> None:
    (metric,) = record.metrics
    pack = metric.data.removesuffix("-val")
    tokens = (DATA[pack], "--data", packs / pack, "--model", record.name, "--out", tmp_path / "o.json")
    with pytest.raises(SystemExit) as stop:
        run(evaluation, [str(token) for token in tokens])
    assert not stop.value.code
    found = json.loads((tmp_path / "o.json").read_text())
    assert measured(found) == metric.values
    assert found["weights"] == record.name


@networks
def test_a_name_stands_for_the_file(record: NetworkRecord) -> None:
    path = file_of(record)
    of_name, of_file = (trickzoo.load(reference) for reference in (record.name, path))
    assert (of_name.task, of_name.classes) == (of_file.task, of_file.classes) == (record.task, header.required(path).classes)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8))
    predicted, again = (network.predict(image) for network in (of_name, of_file))
    assert predicted.found == again.found
    own = tasks.find_annotated_task(record.task).load(record.name)
    for key, value in own.state_dict().items():
        assert torch.equal(value, of_file.network.state_dict()[key]), key
    assert named.is_file(record.name)
    assert not named.is_file("mobilenet_v1_025.tz_imagenette128")


def test_they_are_listed_and_described(call: Call) -> None:
    assert trickzoo.list_networks("*rcnn*") == [DETECTOR]
    assert trickzoo.list_networks() == list(RECORDS)
    out = call("list", "*mobilenet*")[1]
    assert "mobilenet_v1_025 " in out
    assert all(name in out for name in RECORDS)
    assert "faster_rcnn" not in call("list", "resnet*")[1]
    rows = json.loads(call("list", "*", "--json")[1])
    assert [row["model"] for row in rows if row["task"] != "classification"] == list(RECORDS)
    out = call("describe", DETECTOR)[1]
    assert out.startswith(DETECTOR)
    assert "3 classes (Platelets, RBC, WBC)" in out
    assert "bccd-val: VOC AP50 " in out
    assert json.loads(call("describe", DETECTOR, "--json")[1])["record"]["name"] == DETECTOR
    assert DETECTOR in call("weights", "list", "*bccd*")[1]
    assert call("weights", "path", DETECTOR)[1].strip() == str(file_of(RECORDS[DETECTOR]))
    assert "right (pinned)" in call("weights", "verify", DETECTOR)[1]


def test_a_name_that_is_almost_right_is_suggested() -> None:
    with pytest.raises(UnknownName, match=f'no weight "{DETECTOR[:-1]}"; did you mean {DETECTOR}'):
        trickzoo.create(DETECTOR[:-1])
    with pytest.raises(BadCheckpoint, match=r"holds a network for detection; load it with trickzoo\.detection\.load"):
        trickzoo.create(DETECTOR)


def test_a_training_starts_from_a_named_network(call: Call, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sizes = ["--images", "16", "--epochs", "1", "--short", "64", "--long", "64", "--workers", "0", "--pictures", "0"]
    named = ("--recipe", DETECTOR, "--weights", DETECTOR, "--out", tmp_path / "out")
    status, _, err = call("finetune", "shapes", "--task", "detection", *named, *sizes)
    assert status == 0, err
    assert caplog.messages == [
        f"mobilenet_v1_025: the classes of {DETECTOR} differ from those of the data, so the layers that predict them are initialised anew"
    ]
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["recipe"]["weights"] == DETECTOR
    assert result["weights_sha256"] == RECORDS[DETECTOR].sources[0].sha256


OWN = """
[[networks]]
name = "{name}"
task = "{task}"
licence = "mit"

[[networks.source]]
url = "https://example.org/{file}"
sha256 = "{digits}"
"""


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "detector"}, r"record 1 \(detector\): name must be <model>\.<tag>"),
        ({"task": "pose"}, r"record 1 \(own\.birds\): Invalid enum value 'pose'"),
        ({"file": "weights.pth"}, r"must end in \.safetensors, because its header describes the network"),
        ({"name": DETECTOR}, "name: another record has this name"),
        ({"name": "mobilenet_v1_025.tz_imagenette128"}, "name: another record has this name"),
    ],
)
def test_a_wrong_record_names_its_fault(fields: dict[str, str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = {"name": "own.birds", "task": "detection", "file": "birds.safetensors", "digits": "0" * 64}
    (tmp_path / "own.toml").write_text(OWN.format_map(right))
    monkeypatch.setenv(manifest.VARIABLE, str(tmp_path / "own.toml"))
    assert "own.birds" in trickzoo.list_networks()
    (tmp_path / "wrong.toml").write_text(OWN.format_map(right | fields))
    monkeypatch.setenv(manifest.VARIABLE, str(tmp_path / "wrong.toml"))
    with pytest.raises(BadManifest, match=message):
        manifest.networks()
    assert trickzoo.load(file_of(RECORDS[DETECTOR])).task == "detection", "a path is read without the manifest"


def test_a_network_that_is_not_on_this_machine_is_described_without_a_download(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own.toml").write_text(OWN.format(name="own.birds", task="detection", file="birds.safetensors", digits="0" * 64))
    monkeypatch.setenv(manifest.VARIABLE, str(tmp_path / "own.toml"))
    assert call("list", "own*")[1].split("\n")[1].split() == ["own.birds", "detection", "–"]
    assert call("weights", "list", "own*")[1].split("\n")[1].split() == ["own.birds", "–", "–", "full", "mit"]
    status, out, err = call("describe", "own.birds")
    assert (status, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == ["own.birds", "task", "licence", "source"]
    assert json.loads(call("describe", "own.birds", "--json")[1])["record"]["name"] == "own.birds"


def test_a_file_that_is_not_the_recorded_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.toml").write_text(OWN.format(name="own.birds", task="detection", file="birds.safetensors", digits="0" * 64))
    monkeypatch.setenv(manifest.VARIABLE, str(tmp_path / "own.toml"))
    monkeypatch.setenv("TRICKZOO_HOME", str(tmp_path / "home"))
    place = tmp_path / "home" / "files" / "own.birds" / "birds.safetensors"
    place.parent.mkdir(parents=True)
    place.write_bytes(file_of(RECORDS[DETECTOR]).read_bytes())
    with pytest.raises(DigestMismatch, match=r"is not the recorded file of own\.birds: expected SHA-256 0{64}, found 6"):
        trickzoo.load("own.birds")
