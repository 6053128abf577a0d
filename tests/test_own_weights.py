"""The weights that this project trained: their files, records and result files agree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trickzoo
from trickzoo.cli import evaluation, run
from trickzoo.data.corruption_names import KINDS
from trickzoo.data.identity import same_set
from trickzoo.files import digest
from trickzoo.recipes import collection
from trickzoo.weights import manifest, tensors
from trickzoo.weights.record import Record

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "weights"
OWN = [record for record in manifest.records().values() if record.layout == "trickzoo"]
names = pytest.mark.parametrize("record", OWN, ids=lambda record: record.name)


def evidence(record: Record, name: str = "result.json") -> dict[str, Any]:
    """Return the result of the training, or, with `evaluation.json`, that of trickzoo-eval for the file."""
    path = RESULTS / record.name / name
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


@names
def test_the_file_is_the_recorded_one_and_says_how_it_was_made(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    (source,) = record.sources
    path = ROOT / str(source.path)
    assert (digest(path), path.stat().st_size) == (source.sha256, source.size)
    training = json.loads(tensors.read_tensors(path)[1]["trickzoo"])["training"]
    assert record.recipe is not None
    assert collection.from_dict(training["recipe"]) == collection.find(record.recipe) == collection.find(str(path))
    result = evidence(record)
    assert {key: result[key] for key in training} == training
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    model = trickzoo.create(record.model, pretrained=record.tag)
    assert model.num_classes == 10
    assert model.weights.preprocessing == record.preprocessing


@names
def test_the_record_is_what_was_measured_on_the_file(record: Record) -> None:
    (metric,) = record.metrics
    assert metric.kind == "measured"
    (found,) = evidence(record, "evaluation.json")["results"]
    assert found["weights_sha256"] == record.sources[0].sha256
    assert (metric.top1, metric.top5) == (round(found["top1"], 3), round(found["top5"], 3))
    training = evidence(record)
    assert metric.n == found["n"] == training["n"]
    assert same_set(found["data"]["digest"], training["val_digest"])
    # a training evaluates in its own precision: with bfloat16 a few images near a decision boundary get another class
    bound = 0.1 if training["recipe"]["precision"] == "bf16" else 1e-6
    assert (training["top1"], training["top5"]) == pytest.approx((found["top1"], found["top5"]), abs=bound)


@names
def test_the_corrupted_images_are_those_of_the_evaluation(record: Record) -> None:
    (clean,), (found,) = (evidence(record, name)["results"] for name in ("evaluation.json", "corruptions.json"))
    same = ("weights_sha256", "n", "preprocessing", "top1", "top5")
    assert [found[key] for key in same] == [clean[key] for key in same]
    assert found["data"]["digest"] == clean["data"]["digest"]
    made = [each for each in found["robustness"]["corruptions"] if each["severity"] == 3]
    assert [each["kind"] for each in made] == list(KINDS)
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    (row,) = (line for line in page.splitlines() if line.startswith(f"| `{record.name}` | imagenette128-val"))
    assert f" {clean['ece']:.1f} | {np.mean([each['top1'] for each in made]):.2f} |" in row


@names
def test_other_seeds_have_the_same_recipe_and_similar_accuracy(record: Record) -> None:
    first = evidence(record)
    low, high = evidence(record, "evaluation.json")["results"][0]["top1_interval"]
    folder = RESULTS / record.name
    others = [evidence(record, path.name) for path in folder.glob("seed-*.json")]
    same = ("recipe", "data_digest", "val_digest", "n", "n_train")
    assert all(result[key] == first[key] for result in others for key in same)
    assert all(low <= result["top1"] <= high for result in others)
    assert len({result["seed"] for result in (first, *others)}) == 1 + len(others)


@pytest.mark.packs
@pytest.mark.parametrize(
    "record",
    [pytest.param(each, id=each.name, marks=[] if each.model == "mobilenet_v1_025" else pytest.mark.slow) for each in OWN],
)
def test_the_weights_evaluate_to_their_recorded_number(record: Record, packs: Path, tmp_path: Path) -> None:
    tokens = ("imagenet", "--data", packs / "imagenette128", "--model", record.name, "--out", tmp_path / "o.json")
    with pytest.raises(SystemExit) as stop:
        run(evaluation, [str(token) for token in tokens])
    assert not stop.value.code
    (found,) = json.loads((tmp_path / "o.json").read_text())["results"]
    (metric,) = record.metrics
    assert (round(found["top1"], 3), round(found["top5"], 3), found["n"]) == (metric.top1, metric.top5, metric.n)
    assert found["published"]["within_interval"] is True


def test_the_results_state_the_accuracy_of_the_ladders_teacher() -> None:
    record = manifest.find("resnet18_d.tz_imagenette128")
    (found,) = evidence(record, "evaluation_64_pixels.json")["results"]
    assert (found["weights_sha256"], found["preprocessing"]["size"]) == (record.sources[0].sha256, 64)
    page = " ".join((ROOT / "docs" / "results.md").read_text(encoding="utf-8").split())
    assert f"at the student's 64 pixels, it has a top-1 accuracy of {found['top1']:.2f} %" in page
