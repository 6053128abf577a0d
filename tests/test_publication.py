"""Networks are published with the hub's own client on a hub of the tests, and read back by trickzoo and by timm."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest
import safetensors.torch
import timm
import torch
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries

import trickzoo
from tests import annotated
from tests.checkpoints import SMALL, network, randomise_norms
from tests.commands import Call, caller
from tests.hub import Fault, Hub
from tests.small_recipes import SHAPES
from trickzoo import files, tasks
from trickzoo.cli import zoo
from trickzoo.data.classes import IMAGENETTE
from trickzoo.errors import DigestMismatch, WeightsUnavailable
from trickzoo.training.machine import Machine
from trickzoo.weights.loaded import LoadedWeights
from trickzoo.weights.record import Preprocessing
from trickzoo.weights.tensors import read_tensors

REPO = "me/my-net"


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    return caller(capsys, zoo, "publish")


@pytest.fixture(autouse=True)
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The hub of the tests takes files over plain HTTP, and the client does not wait before it tries again."""
    monkeypatch.setattr("huggingface_hub._commit_api.is_xet_available", lambda: False)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    huggingface_hub.close_session()
    yield
    huggingface_hub.close_session()


@pytest.fixture(params=["resnet18_d", SMALL])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The weights of a classifier of Imagenette: a network that timm has, and one that it has not."""
    return written(request.param, tmp_path)


def written(name: str, folder: Path) -> Path:
    model = trickzoo.create(name, num_classes=10).eval()
    randomise_norms(model)
    model.weights = LoadedWeights(
        "x", Path("x"), classes="imagenette", preprocessing=Preprocessing(size=64, resize=72), training={"recipe": {"name": "r"}, "seed": 3}
    )
    trickzoo.export(model, folder / "weights.safetensors")
    return folder / "weights.safetensors"


def evaluation(file: Path, folder: Path, **changes: object) -> Path:
    """A result file of trickzoo-eval for a weight file, shortened."""
    result = {
        "weights_sha256": files.digest(file),
        "n": 3925,
        "top1": 81.5,
        "top5": 97.25,
        "ece": 3.5,
        "preprocessing": {"size": 64, "crop": 0.875, "interpolation": "bicubic"},
        "data": {"path": "sets/imagenette128/val"},
    }
    (folder / "evaluation.json").write_text(json.dumps({"date": "2026-11-26T10:00:00+00:00", "results": [result | changes]}))
    return folder / "evaluation.json"


def test_a_classifier_is_read_back_with_its_record(call: Call, hub: Hub, file: Path, tmp_path: Path) -> None:
    status, out, err = call(file, "--repo", REPO, "--licence", "mit", "--evaluation", evaluation(file, tmp_path))
    assert (status, err) == (0, "")
    assert out.startswith(f"{hub.endpoint}/{REPO}/commit/")
    there = hub.files(REPO)
    assert there.keys() == {"README.md", "config.json", "model.safetensors"}
    name = json.loads(there["config.json"])["trickzoo"]["record"]["name"].partition(".")[0]
    ours, model = trickzoo.create(name, weights=file), trickzoo.create(name, weights=f"hf-hub:{REPO}")
    x = torch.randn(2, 3, 64, 64)
    assert torch.equal(model(x), ours(x))
    weights = model.weights
    assert weights.path.read_bytes() == there["model.safetensors"]
    assert (weights.classes, weights.preprocessing, weights.training) == ("imagenette", ours.weights.preprocessing, ours.weights.training)
    record = weights.record
    assert (record.name, record.licence, record.recipe) == (f"{name}.my_net", "mit", "r")
    assert (record.sources[0].sha256, record.sources[0].size) == (weights.sha256, len(there["model.safetensors"]))
    assert (record.metrics[0].top1, record.metrics[0].n) == (81.5, 3925)


def test_timm_loads_a_classifier_that_it_has(call: Call, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written("resnet18_d", tmp_path)
    assert call(file, "--repo", REPO, "--licence", "mit")[0] == 0
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.endpoint)  # timm leaves it to the client, which has read the environment
    template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    theirs = timm.create_model(f"hf-hub:{REPO}", pretrained=True, cache_dir=str(tmp_path / "timm")).eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(theirs(x), trickzoo.create("resnet18_d", weights=file)(x), atol=1e-4, rtol=1e-4)
    prepared = timm.data.resolve_model_data_config(theirs)
    assert (prepared["input_size"][1], prepared["interpolation"], round(64 / prepared["crop_pct"])) == (64, "bicubic", 72)
    assert theirs.pretrained_cfg["label_names"] == list(IMAGENETTE)


def test_the_card_and_the_results_are_in_the_forms_of_the_hub(call: Call, file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "repository"
    measured = ("--evaluation", evaluation(file, tmp_path), "--task-id", "imagenette/160px")
    status, out, _ = call(file, "--repo", REPO, "--licence", "mit", *measured, "--folder", folder)
    assert (status, len(out.split())) == (0, 4)
    card = ModelCard.load(folder / "README.md")
    in_timm = "pretrained_cfg" in json.loads((folder / "config.json").read_text())
    assert (card.data.license, card.data.pipeline_tag, card.data.library_name) == (
        "mit",
        "image-classification",
        "timm" if in_timm else "trickzoo",
    )
    assert {(each.metric_type, each.metric_value) for each in card.data.eval_results} == {("top1", 81.5), ("top5", 97.25)}
    for part in (
        "Trained with trickzoo.",
        f'weights="hf-hub:{REPO}"',
        "| imagenette128/val | 3,925 | top-1 | 81.50 |",
        files.digest(folder / "model.safetensors"),
    ):
        assert part in card.text
    entries = parse_eval_result_entries(yaml.safe_load((folder / ".eval_results" / "trickzoo.yaml").read_text()))
    assert [(entry.dataset_id, entry.task_id, entry.value) for entry in entries] == [("frgfm/imagenette", "imagenette/160px", 81.5)]


def test_the_card_does_not_say_that_a_network_of_an_own_loop_was_trained_with_trickzoo(call: Call, tmp_path: Path) -> None:
    file, folder = tmp_path / "segmenter.safetensors", tmp_path / "repository"
    trickzoo.segmentation.save(trickzoo.segmentation.fcn(SMALL, num_classes=2), file, classes=("a", "b"))
    assert call(file, "--repo", REPO, "--licence", "mit", "--folder", folder)[0] == 0
    assert "Written with trickzoo." in (folder / "README.md").read_text()


def test_the_card_of_imported_weights_names_their_origin(call: Call, tmp_path: Path) -> None:
    model = trickzoo.create(SMALL, num_classes=10)
    origin = {"origin": "GluonCV", "file": "mobilenet0.25-f0046a3d.params"}
    trickzoo.export(model, tmp_path / "weights.safetensors", training=origin, classes=IMAGENETTE, preprocessing=Preprocessing(size=64))
    folder = tmp_path / "repository"
    assert call(tmp_path / "weights.safetensors", "--repo", REPO, "--licence", "mit", "--folder", folder)[0] == 0
    assert "Converted from mobilenet0.25-f0046a3d.params of GluonCV." in (folder / "README.md").read_text()


def test_names_of_users_are_shown_in_the_card_as_they_are(call: Call, tmp_path: Path) -> None:
    model = trickzoo.create(SMALL, num_classes=3)
    training = {"recipe": {"name": "r|s"}, "seed": 3}
    classes = ("a|b", "<script>", "*c*_`\n")
    trickzoo.export(model, tmp_path / "weights.safetensors", training=training, classes=classes, preprocessing=Preprocessing(size=64))
    file, folder = tmp_path / "weights.safetensors", tmp_path / "repository"
    measured = evaluation(file, tmp_path, data={"path": "sets/a|b/<i>"})
    assert call(file, "--repo", REPO, "--licence", "mit", "--evaluation", measured, "--folder", folder)[0] == 0
    card = (folder / "README.md").read_text().partition("\n---\n")[2]
    assert r"| classes | a\|b, &lt;script&gt;, \*c\*\_\`\\n |" in card
    assert r"| recipe | r\|s |" in card
    assert r"| a\|b/&lt;i&gt; | 3,925 | top-1 | 81.50 |" in card


def test_a_task_of_a_benchmark_needs_an_evaluation(call: Call, file: Path, tmp_path: Path) -> None:
    status, _, err = call(file, "--repo", REPO, "--licence", "mit", "--task-id", "160px", "--folder", tmp_path / "repository")
    assert (status, err.count("\n")) == (
        2,
        1,
    ) and "--task-id needs an --evaluation with top-1, and --dataset, its data set on the hub" in err
    assert not (tmp_path / "repository").exists()


@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_a_detector_or_segmenter_is_read_back(task: str, call: Call, hub: Hub, tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    {"detection": annotated.detector, "segmentation": annotated.segmenter}[task](file, ["cat", "dog"])
    assert call(file, "--repo", REPO, "--licence", "mit")[0] == 0
    assert hub.files(REPO)["model.safetensors"] == file.read_bytes()
    found = getattr(trickzoo, task).load(f"hf-hub:{REPO}")
    theirs = getattr(trickzoo, task).load(file)
    assert found.classes == ("cat", "dog")
    assert all(torch.equal(tensor, theirs.state_dict()[key]) for key, tensor in found.state_dict().items())
    further = tasks.prepare(replace(found.recipe, weights=f"hf-hub:{REPO}"), SHAPES, Machine(out=tmp_path / "run", workers=0, device="cpu"))
    assert further.task.weights_sha256 == files.digest(file)
    card = hub.files(REPO)["README.md"].decode()
    assert f'trickzoo.{task}.load("hf-hub:{REPO}")' in card
    assert {"detection": "object-detection", "segmentation": "image-segmentation"}[task] in card


@pytest.mark.parametrize("task", ["classification", "detection"])
def test_a_checkpoint_is_published_as_the_file_that_its_name_promises(task: str, call: Call, tmp_path: Path) -> None:
    file = written(SMALL, tmp_path)
    if task == "detection":
        annotated.detector(file, ["cat", "dog"])
    content = read_tensors(file)
    network = {"model": content.tensors, "average": None, "metadata": content.metadata}
    torch.save({**network, "optimiser": {}, "recipe": {}, "seed": 0}, tmp_path / "best.pt")
    assert call(tmp_path / "best.pt", "--repo", REPO, "--licence", "mit", "--folder", tmp_path / "repository")[0] == 0
    found, theirs = trickzoo.load(tmp_path / "repository" / "model.safetensors"), trickzoo.load(file)
    assert (found.task, found.classes) == (task, theirs.classes)
    assert all(torch.equal(tensor, theirs.network.state_dict()[key]) for key, tensor in found.network.state_dict().items())


def test_publishing_again_replaces_the_files(call: Call, hub: Hub, tmp_path: Path) -> None:
    file = written(SMALL, tmp_path)
    for licence in ("mit", "apache-2.0"):
        assert call(file, "--repo", REPO, "--licence", licence)[0] == 0
    assert b"license: apache-2.0" in hub.files(REPO)["README.md"]


def test_a_private_repository(call: Call, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.token = "secret"
    monkeypatch.setenv("HF_TOKEN", "secret")
    file = written(SMALL, tmp_path)
    assert call(file, "--repo", REPO, "--licence", "mit", "--private")[0] == 0
    assert hub.private == {REPO}
    assert trickzoo.create(SMALL, weights=f"hf-hub:{REPO}").weights.revision is not None
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "other"))
    with pytest.raises(WeightsUnavailable, match="not found, or private"):
        trickzoo.create(SMALL, weights=f"hf-hub:{REPO}")


FAULTS = {
    "no token": (None, "the hub asks for a login (401); run `hf auth login`, or set HF_TOKEN to a token that may write"),
    "refused": (("api/repos/create", Fault(403, "POST")), "the hub refused it (403); use a token that may write there"),
    "refused commit": (("api/models/me/my-net/commit", Fault(403, "POST")), "the hub refused it (403)"),
    "half an upload": (("uploads/", Fault("cut", "PUT")), "; run the command again"),
    "broken hub": (("api/models/me/my-net/preupload", Fault(500, "POST")), "the hub answered 500; try again later"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_push_that_fails_changes_nothing_and_says_why(fault: str, call: Call, hub: Hub, tmp_path: Path) -> None:
    place, words = FAULTS[fault]
    if place is None:
        hub.token = "secret"
    else:
        hub.fail(*place)
    file = written(SMALL, tmp_path)
    status, out, err = call(file, "--repo", REPO, "--licence", "mit")
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert f"{REPO} was not published and has not changed: " in err
    assert words in err
    assert hub.files(REPO) == {}
    if place is not None:  # and again, after the fault
        hub.heal()
        assert call(file, "--repo", REPO, "--licence", "mit")[0] == 0
        assert "model.safetensors" in hub.files(REPO)


def test_mistakes_are_named_before_anything_is_sent(call: Call, hub: Hub, tmp_path: Path) -> None:
    file = written(SMALL, tmp_path)
    bare = tmp_path / "bare.safetensors"
    safetensors.torch.save_file(network().state_dict(), bare)
    other, exported = evaluation(bare, tmp_path), tmp_path / "net.onnx"
    exported.write_bytes(b"onnx")
    for tokens, words in (
        ((file, "--repo", "mine", "--licence", "mit"), '--repo must be OWNER/NAME, not "mine"'),
        ((tmp_path / "gone.safetensors", "--repo", REPO, "--licence", "mit"), "gone.safetensors does not exist"),
        ((bare, "--repo", REPO, "--licence", "mit"), "bare.safetensors does not name its model"),
        ((file, "--repo", REPO, "--licence", "mit", "--evaluation", other), "is an evaluation of weights with the SHA-256"),
        ((file, "--repo", REPO, "--licence", "mit", "--evaluation", bare), "is not the result file of one evaluation"),
        ((file, "--repo", REPO, "--licence", "mit", "--evaluation", tmp_path / "gone.json"), "gone.json does not exist; name the result"),
        ((file, "--repo", REPO, "--licence", "mit", "--evaluation", tmp_path), "cannot be read ("),
        (
            (file, "--repo", REPO, "--licence", "a\nb: c"),
            'SPDX identifier of a licence, such as apache-2.0, not "a\\nb: c"',
        ),
        ((file, "--repo", REPO, "--licence", "my licence"), "--licence must be the SPDX identifier"),
        ((exported, "--repo", REPO, "--licence", "mit"), "net.onnx is a whole exported network and not a file of weights; name the weight"),
        ((file, "--repo", REPO, "--licence", "mit", "--folder", tmp_path), "is not empty; name a new folder"),
        ((file, "--repo", REPO, "--licence", "mit", "--folder", file), "is a file; name a new folder"),
    ):
        status, out, err = call(*tokens)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert words in err
    assert hub.requests == []


def test_a_full_disk_leaves_no_part_of_a_folder(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, text: str, **_: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    file = written(SMALL, tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        status, out, err = call(file, "--repo", REPO, "--licence", "mit", "--folder", tmp_path / "new")
    assert (status, out) == (2, "")
    assert err == f"trickzoo: {tmp_path / 'new'} cannot be written (No space left on device); make room, or name another place\n"
    assert sorted(tmp_path.rglob("*")) == before
    (tmp_path / "new").mkdir()
    assert call(file, "--repo", REPO, "--licence", "mit", "--folder", tmp_path / "new")[0] == 0


def test_a_file_that_is_not_that_of_its_record_is_refused(call: Call, hub: Hub, tmp_path: Path) -> None:
    assert call(written(SMALL, tmp_path), "--repo", REPO, "--licence", "mit")[0] == 0
    hub.add(REPO, "model.safetensors", safetensors.torch.save(network().state_dict()))
    with pytest.raises(DigestMismatch, match="is not the file of its record"):
        trickzoo.create(SMALL, weights=f"hf-hub:{REPO}")
