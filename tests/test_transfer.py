"""The transfer study: what it runs, its stops, and what it refuses."""

from __future__ import annotations

import json
import logging
import os
import pickle
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import PartialState

import trickzoo
from tests import exports
from tests.commands import Call, caller
from tests.made_results import result
from tests.studies import MODEL, Page, simulate
from trickzoo import detection, files, tasks
from trickzoo.cli import zoo
from trickzoo.data.location import AnnotatedLocation, open_splits
from trickzoo.data.selection import Selection
from trickzoo.errors import BadData, BadOption, InUse
from trickzoo.recipes import finetune as recipes
from trickzoo.studies import examples, report, transfer, transfer_words
from trickzoo.studies.records import TransferStudy
from trickzoo.studies.results import read
from trickzoo.training.folder import locked
from trickzoo.training.job import Job
from trickzoo.training.machine import Machine
from trickzoo.training.progress import Progress
from trickzoo.training.stopping import Stopped
from trickzoo.weights.export import export

TOPS = {"baseline": [50.0, 51.0], "cosine": [53.0, 55.0], "mixup": [54.0, 54.5]}
FEW = {"images": 8, "epochs": 1, "batch-size": 4, "warmup-steps": 0, "workers": 0, "device": "cpu"}
OPTIONS = tuple(token for name, value in FEW.items() for token in (f"--{name}", value))


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs `trickzoo transfer`; (exit status, stdout, stderr)."""
    return caller(capsys, zoo, "transfer")


@pytest.fixture(scope="session")
def ladder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ladder study with random backbones, each another one."""
    out = tmp_path_factory.mktemp("ladder")
    report.write_ladder(simulate(out, TOPS), out)
    for number, place in enumerate(sorted(path for path in out.iterdir() if path.is_dir())):
        torch.manual_seed(number)
        export(trickzoo.create(MODEL, num_classes=4), place / "model.safetensors")
    return out


def branches(epochs: int = 1) -> tuple[transfer.Branch, ...]:
    source = AnnotatedLocation("shapes", images=8)
    small: dict[str, Any] = {"epochs": epochs, "batch_size": 4}
    return (
        transfer.Branch(recipes.SHAPES_BOXES.but("shapes.detection", warmup_steps=0, **small), source),
        transfer.Branch(recipes.SHAPES_MASKS.but("shapes.segmentation", **small), source),
    )


@pytest.mark.slow
def test_every_backbone_goes_through_both_recipes(call: Call, ladder: Path, tmp_path: Path) -> None:
    tokens = ("--checkpoints", ladder, "--detection", "shapes", "--segmentation", "shapes", *OPTIONS, "--out", tmp_path, "--seeds", 1)
    tokens += ("--segmentation-lr", 0.007)
    status, text, _ = call(*tokens, "--pictures", 1)
    assert status == 0
    assert "6/6 segmentation, mixup, seed 0: mean IoU" in text
    for task, rung in ((task, rung) for task in ("detection", "segmentation") for rung in TOPS):
        found = json.loads((tmp_path / task / f"{rung}-0" / "result.json").read_text())
        assert found["backbone"] == {"rung": rung, "seed": 0, "top1": TOPS[rung][0]}
        assert (found["seed"], found["task"]) == (0, task)
        assert (found["recipe"]["lr"] == 0.007) is (task == "segmentation")
        assert found["recipe"]["weights"] == str(ladder / f"{rung}-0" / "model.safetensors")
    content = json.loads((tmp_path / "transfer.json").read_text())
    assert (content["finished"], content["planned"]) == (6, 6)
    assert [rung["top1"]["values"] for rung in content["tasks"][0]["rungs"]] == [values[:1] for values in TOPS.values()]
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"), images=True)
    assert ["Boxes in val/0" in words or "Classes of the pixels in val/0" in words for words in page.alternatives] == [True] * 6
    for finding in transfer_words.answers(read(tmp_path / "transfer.json", TransferStudy)):
        assert finding in text
    status, text, _ = call(*tokens, "--rungs", "baseline,mixup")
    assert (status, text.count("already finished")) == (0, 4)
    content = json.loads((tmp_path / "transfer.json").read_text())
    assert [rung["rung"] for rung in content["tasks"][0]["rungs"]] == ["baseline", "mixup"]
    assert content["tasks"][0]["total"]["whole"]
    one = ("--checkpoints", ladder, "--detection", "shapes", "--out", tmp_path, "--seeds", 1, "--report-only", "--pictures", 0)
    assert call(*one)[0] == 0  # a command for one task leaves the other in the report
    content = json.loads((tmp_path / "transfer.json").read_text())
    assert ([task["task"] for task in content["tasks"]], content["planned"]) == (["detection", "segmentation"], 6)


def test_a_report_needs_no_backbones(call: Call, ladder: Path, tmp_path: Path) -> None:
    place, out = tmp_path / "ladder", tmp_path / "transfer"
    place.mkdir()
    (place / "ladder.json").write_bytes((ladder / "ladder.json").read_bytes())
    for rung, seeds in (("baseline", (0, 1)), ("mixup", (0,))):
        for seed in seeds:
            found = result("detection", rung, seed, 40.0 + seed) | {"backbone": {"rung": rung, "seed": seed, "top1": TOPS[rung][seed]}}
            (out / "detection" / f"{rung}-{seed}").mkdir(parents=True)
            (out / "detection" / f"{rung}-{seed}" / "result.json").write_text(json.dumps(found))
    command = ("--checkpoints", place, "--detection", "shapes", "--out", out, "--seeds", 2, "--rungs", "baseline,mixup", "--pictures", 0)
    assert "holds no finished training run; finish it with" in call(*command)[2]
    status, _, error = call(*command, "--report-only")
    assert status == 0, error
    content = read(out / "transfer.json", TransferStudy)
    assert (content.finished, content.planned) == (3, 4)
    assert [rung.figure.n for rung in content.tasks[0].rungs if rung.figure] == [2, 1]


def test_an_error_of_the_second_task_comes_before_the_first_one_is_trained(
    ladder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    boxes, masks = branches()
    masks = transfer.Branch(masks.recipe.but("shapes.segmentation", batch_size=64), masks.location)
    plan = transfer.plan(ladder, (boxes, masks), seeds=2)
    prepare = tasks.prepare

    def warning(*given: Any) -> Job:
        logging.getLogger("trickzoo").warning("the same warning in each training run")
        return prepare(*given)

    monkeypatch.setattr(tasks, "prepare", warning)
    with pytest.raises(BadData, match="the batch of 64 is larger than the training set of 8 images"):
        transfer.run(plan, Machine(out=tmp_path / "study", device="cpu", workers=0), each=pytest.fail)
    assert caplog.text.count("the same warning") == 1
    assert not (tmp_path / "study").exists()


def test_each_task_has_its_own_splits(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the paper's pair has: VOC's trainval of both years and its test of 2007, beside ADE20K's train and val."""

    def plan(checkpoints: Path, branches: tuple[transfer.Branch, ...], **options: Any) -> transfer.Plan:
        found.extend(branch.location for branch in branches)
        raise BadOption("far enough")

    found: list[AnnotatedLocation] = []
    monkeypatch.setattr(transfer, "plan", plan)
    pair = ("--checkpoints", "ladder", "--detection", "voc", "--detection-data", "V", "--segmentation-data", "A", "--segmentation")
    boxes = ("--detection-train", "trainval", "--detection-year", "07+12", "--detection-val", "test", "--detection-val-year", "2007")
    shared = ("--train", "trainval", "--year", "07+12", "--val", "test", "--val-year", "2007")
    masks = ("--segmentation-train", "train", "--segmentation-val", "val")
    year = ("--segmentation-year", "2012", "--segmentation-val-year", "2011")
    wanted = AnnotatedLocation("voc", Path("V"), "07+12", "2007", "trainval", "test")
    ade20k = AnnotatedLocation("ade20k", Path("A"))
    for tokens, other in (
        (("ade20k", *boxes), ade20k),
        (("ade20k", *shared, *masks), ade20k),  # a year of both tasks is the boxes' alone, since ADE20K has none
        (("voc", *shared, *masks, *year), AnnotatedLocation("voc", Path("A"), "2012", "2011")),
    ):
        assert call(*pair, *tokens)[2] == "trickzoo: far enough\n"
        assert found == [wanted, other]
        found.clear()
    assert "--year has no effect: ade20k has no years" in call(*pair, "ade20k", *boxes, *year)[2]


def test_images_are_selected_as_in_a_fine_tuning(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Generated images of the other task are not selected."""

    def plan(checkpoints: Path, branches: tuple[transfer.Branch, ...], **options: Any) -> transfer.Plan:
        found.extend(branch.location.selection for branch in branches)
        raise BadOption("far enough")

    found: list[Selection] = []
    monkeypatch.setattr(transfer, "plan", plan)
    selected = ("--val-fraction", 0.4, "--split-seed", 3, "--skip-corrupt")
    own = ("--checkpoints", "ladder", "--detection", "own", "--detection-data", tmp_path)
    assert call(*own, "--segmentation", "shapes", *selected)[2] == "trickzoo: far enough\n"
    assert found == [Selection(val_fraction=0.4, split_seed=3, skip_corrupt=True), Selection()]
    message = "a selection of images has no effect: generated shapes"
    assert message in call("--checkpoints", "ladder", "--segmentation", "shapes", "--skip-corrupt")[2]
    exports.label_studio_coco(tmp_path)
    location = AnnotatedLocation("own", tmp_path, selection=Selection(val_fraction=0.4))
    val = open_splits(location, "detection").val
    shown = [name for name in val.names if any(name.endswith(each) and exports.TRUTH[each] for each in exports.TRUTH)]
    drawn = [example.caption for example in examples.draw("detection", location, [], 6)]
    assert [any(name in caption for name in shown) for caption in drawn] == [True] * len(shown)


def test_a_plan_reaches_the_processes_of_several_jobs(ladder: Path) -> None:
    branch = transfer.Branch(recipes.SHAPES_BOXES, AnnotatedLocation("shapes", images=8))
    plan = transfer.plan(ladder, (branch,), seeds=1)
    assert pickle.loads(pickle.dumps(plan)) == plan


def test_seeds_count_up_from_the_first(ladder: Path) -> None:
    plan = transfer.plan(ladder, branches()[:1], seeds=1, first_seed=1)
    assert [(trunk.rung, trunk.seed, trunk.top1) for trunk in plan.trunks] == [(rung, 1, tops[1]) for rung, tops in TOPS.items()]
    with pytest.raises(BadOption, match="--first-seed must be 0 or more, not -1"):
        transfer.plan(ladder, branches(), first_seed=-1)


def test_a_training_starts_from_the_backbone_of_its_rung_and_seed(ladder: Path, tmp_path: Path) -> None:
    """With a rate of nearly 0 the backbone's convolutions come out as they went in."""
    recipe = recipes.SHAPES_BOXES.but("still", epochs=1, warmup_steps=0, batch_size=4, lr=1e-30, weight_decay=0.0)
    plan = transfer.plan(ladder, (transfer.Branch(recipe, AnnotatedLocation("shapes", images=8)),), seeds=2, rungs=("cosine",))
    transfer.run(plan, Machine(out=tmp_path, workers=0, device="cpu"), each=quiet)
    for seed in (0, 1):
        body = detection.load(tmp_path / "detection" / f"cosine-{seed}" / "model.safetensors").backbone.body
        source = trickzoo.create(MODEL, weights=ladder / f"cosine-{seed}" / "model.safetensors")
        ours, theirs = body.state_dict(), source.state_dict()
        convolutions = [key for key, tensor in ours.items() if tensor.dim() == 4]
        assert len(convolutions) == 27
        assert all(torch.equal(ours[key], theirs[key]) for key in convolutions)


def test_a_plan_of_each_task(call: Call, ladder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """From what lies there, without any images; of a study that has not begun from a guess."""
    here = ("--checkpoints", ladder, "--out", tmp_path, "--seeds", 2, "--plan")
    for number, (rung, values) in enumerate(TOPS.items()):
        for seed, top1 in enumerate(values):
            place = tmp_path / "segmentation" / f"{rung}-{seed}"
            place.mkdir(parents=True)
            found = json.loads((ladder / f"{rung}-{seed}" / "result.json").read_text())
            backbone = {"rung": rung, "seed": seed, "top1": top1}
            own = {"task": "segmentation", "measure": "miou", "miou": 20.0 + number * (1 + seed), "backbone": backbone}
            (place / "result.json").write_text(json.dumps(found | own | {"recipe": {"name": "small.segmentation"}}))
    status, text, _ = call(*here)
    assert status == 0
    assert "segmentation: difference from the first rung, points: standard deviation 1.12 points" in text  # of 0.7071 and 1.4142
    (row,) = (line.split() for line in text.splitlines() if line.startswith("   30"))
    assert row[3:] == ["2.2", "hours"]  # 30 seeds of 3 rungs, 90 s each
    (outlook,) = json.loads(call(*here, "--json")[1])
    assert outlook["detectable"][-1]["seconds"] == 30 * 3 * 90 and f"{outlook['detectable'][-1]['points_holm']:.2f}" == row[2]
    assert not caplog.messages
    assert call(*here[:-2], 1, "--plan", "--plan-sd", 2)[0] == 0
    assert "the plan is without 3 finished training runs of rungs or seeds that the command does not name (seg" in caplog.messages[0]
    assert "--json has no effect: it belongs to --dry-run or --plan" in call(*here[:-1], "--json")[2]
    assert "--seeds must be from 1 to 100,000" in call("--checkpoints", ladder, "--plan", "--seeds", 10**20)[2]
    listed = (*here[:-1], "--segmentation", "shapes", "--rungs", "baseline,mixup", "--scratch", "--dry-run")
    status, text, _ = call(*listed)
    assert (status, f"left to do in {tmp_path}: 2 training runs" in text) == (0, True)
    found = json.loads(call(*listed, "--json")[1])
    states = {each["rung"]: each["states"] for each in found["trainings"]}
    assert states == {
        "baseline": dict.fromkeys("01", "done"),
        "mixup": dict.fromkeys("01", "done"),
        "scratch": dict.fromkeys("01", "to do"),
    }
    status, text, _ = call("--checkpoints", ladder, "--out", tmp_path / "none", "--plan", "--plan-sd", 3)
    assert (status, "standard deviation 3 points, a guess" in text) == (0, True)
    status, _, error = call("--checkpoints", ladder, "--out", tmp_path / "none", "--plan")
    assert (status, "guess it in points" in error, len(error.splitlines())) == (2, True, 1)


@contextmanager
def quiet(title: str) -> Iterator[Callable[[Progress], None]]:
    yield lambda progress: None


def test_a_study_that_another_run_is_doing_is_refused(ladder: Path, tmp_path: Path) -> None:
    plan = transfer.plan(ladder, branches()[:1], seeds=1, rungs=("mixup",))
    wanted = f"transfer is in use by process {os.getpid()} on .*; wait for it, or name another --out"
    with locked(tmp_path / "transfer", PartialState(cpu=True)), pytest.raises(InUse, match=wanted):
        transfer.run(plan, Machine(out=tmp_path / "transfer", workers=0, device="cpu"), each=quiet)
    assert not (tmp_path / "transfer" / "detection").exists()


def test_a_finished_study_in_a_read_only_folder_is_reported(
    call: Call, ladder: Path, tmp_path: Path, read_only: Callable[[Path], None]
) -> None:
    tokens = ("--checkpoints", ladder, "--segmentation", "shapes", *OPTIONS, "--out", tmp_path, "--rungs", "baseline", "--pictures", 0)
    assert call(*tokens, "--seeds", 1, "--scratch")[0] == 0
    (task,) = read(tmp_path / "transfer.json", TransferStudy).tasks
    assert task.scratch and task.scratch.seeds == (0,) and [rung.rung for rung in task.rungs] == ["baseline"]
    found = json.loads((tmp_path / "segmentation" / "scratch-0" / "result.json").read_text())
    assert (found["recipe"]["weights"], found["recipe"]["model"], found["backbone"]["top1"]) == (None, MODEL, None)
    read_only(tmp_path)
    status, text, _ = call(*tokens, "--seeds", 1)
    assert (status, text.count("already finished")) == (0, 1)
    for finding in transfer_words.answers(read(tmp_path / "transfer.json", TransferStudy)):
        assert finding in text
    assert f"{tmp_path} cannot be written, so its report was not renewed" in text
    status, _, error = call(*tokens, "--seeds", 2)
    assert (status, error.count("\n")) == (2, 1)
    assert f"{tmp_path} cannot be written: {tmp_path}: Read-only file system" in error


def test_a_stopped_study_goes_on(ladder: Path, tmp_path: Path) -> None:
    @contextmanager
    def stopping(title: str) -> Iterator[Callable[[Progress], None]]:
        yield lambda p: signal.raise_signal(signal.SIGTERM) if "2/4 detection, mixup" in title and p.step == 1 else None

    plan = transfer.plan(ladder, branches(), seeds=1, rungs=("baseline", "mixup"))
    settings = Machine(out=tmp_path, workers=0, device="cpu")
    with pytest.raises(Stopped, match="stopped at step 1 of 2"):
        transfer.run(plan, settings, each=stopping)
    lines: list[str] = []
    transfer.run(plan, settings, each=quiet, tell=lines.append)
    assert lines[0] == "1/4 detection, baseline, seed 0: already finished"
    assert lines[1].startswith("2/4 detection, mixup, seed 0: VOC AP50")
    plan = transfer.plan(ladder, branches()[:1], seeds=1, rungs=("mixup",))
    transfer.run(plan, Machine(out=tmp_path / "straight", workers=0, device="cpu"), each=quiet)
    ours, theirs = (json.loads((place / "detection/mixup-0/result.json").read_text()) for place in (tmp_path, tmp_path / "straight"))
    assert ours["per_class"] == theirs["per_class"]


def test_the_backbones_count_and_not_where_they_lie(call: Call, ladder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def study(checkpoints: object) -> tuple[int, str, str]:
        here = ("--checkpoints", checkpoints, "--segmentation", "shapes", *OPTIONS, "--seeds", 1, "--rungs", "baseline")
        return call(*here, "--pictures", 0)

    shutil.copytree(ladder, tmp_path / "ladder")
    assert study(tmp_path / "ladder")[0] == 0
    (tmp_path / "ladder").rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    status, text, _ = study("moved")
    assert (status, text.count("already finished")) == (0, 1)
    trained, weights = (
        tmp_path / "moved" / "transfer" / "segmentation" / "baseline-0",
        tmp_path / "moved" / "baseline-0" / "model.safetensors",
    )
    found = json.loads((trained / "result.json").read_text())
    assert found["weights_sha256"] == files.digest(weights)
    shutil.copy(ladder / "mixup-0" / "model.safetensors", weights)  # as if the ladder had been trained again
    for half_done in (False, True):
        if half_done:
            (trained / "result.json").unlink()
        status, _, error = study("moved")
        assert (status, len(error.splitlines())) == (2, 1)
        assert f"has another recipe: weights is {found['weights_sha256']} there, {files.digest(weights)} here; name another --out" in error


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        *(("ladder.json", content, "is not the summary of a ladder study") for content in ("{}", "[]", "null", '{"rungs": []}')),
        ("ladder.json", '{"rungs": [{"rung": "baseline"}]}', "is not the summary of a ladder study"),
        ("ladder.json", "{", "ladder.json cannot be read"),
        *(("baseline-0/result.json", content, "result.json is not a result file of a training") for content in ("{}", "[]", "null")),
        ("transfer/detection/baseline-0/result.json", "[]", "result.json is not a result file of a training"),
    ],
)
def test_files_that_say_something_else(name: str, content: str, message: str, call: Call, ladder: Path, tmp_path: Path) -> None:
    shutil.copytree(ladder, tmp_path / "ladder")
    path = tmp_path / "ladder" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    status, _, error = call("--checkpoints", tmp_path / "ladder", "--detection", "shapes", *OPTIONS, "--seeds", 1)
    assert (status, message in error, len(error.splitlines())) == (2, True, 1), error


def test_bad_input_ends_in_a_line(call: Call, ladder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(ladder, broken)
    (broken / "cosine-1" / "model.safetensors").unlink()
    stale = tmp_path / "stale"
    shutil.copytree(ladder, stale)
    trained_again = json.loads((stale / "mixup-1" / "result.json").read_text()) | {"top1": 60.0}
    (stale / "mixup-1" / "result.json").write_text(json.dumps(trained_again))
    other = tmp_path / "other" / "detection" / "baseline-0"
    other.mkdir(parents=True)
    here = ("--checkpoints", ladder, "--detection", "shapes", *OPTIONS, "--seeds", 2)
    result = {"recipe": {"name": "x", "model": MODEL, "data": "shapes"}, "seed": 0, "data_digest": "0"}
    (other / "result.json").write_text(json.dumps(result))
    cases = [
        (("--checkpoints", ladder), "name a set with --detection, with --segmentation, or with both"),
        (("--checkpoints", tmp_path, "--detection", "shapes"), "holds no ladder study: ladder.json is missing"),
        (("--checkpoints", broken, "--detection", "shapes", *OPTIONS, "--seeds", 2), "cosine-1 holds no finished training"),
        (("--checkpoints", stale, "--detection", "shapes", *OPTIONS, "--seeds", 2), "does not have the training in"),
        (("--checkpoints", ladder, "--detection", "voc"), "name the folder of images with --detection-data or --data"),
        (("--checkpoints", ladder, "--detection", "vco"), 'no layout "vco"; did you mean voc'),
        (("--checkpoints", ladder, "--detection", "lists", "--data", tmp_path), "lists has no annotations for detection, only for segment"),
        ((*here, "--data", tmp_path), "shapes are generated"),
        ((*here, "--rungs", "baseline,mixpu"), 'no rung "mixpu"; did you mean mixup'),
        ((*here, "--epohcs", 3), 'no field "epohcs"; did you mean epochs'),
        ((*here, "--crop", 32), 'no field "crop"'),
        ((*here, "--rungs", "baseline,baseline"), "--rungs names baseline twice"),
        ((*here, "--segmentation", "voc", "--segmentation-data", tmp_path, "--val-fraction", 0.2, "--dry-run"), "voc states its splits"),
        ((*here, "--lr0", 1), 'no field "lr0"; did you mean lr?'),
        ((*here, "--milestones", 3), "--milestones has no effect: it acts only with --schedule step; leave it out"),
        ((*here, "--detection-fpn-channels", 8, "--neck", "c4"), "--detection-fpn-channels has no effect: it acts only with --neck fpn"),
        ((*here, "--segmentation-epochs", 3), "--segmentation-epochs is for segmentation, which this study does not include; add"),
        ((*here, "--segmentation-data", tmp_path), "--segmentation-data is for segmentation, which this study does not include"),
        ((*here, "--segmentation-recipe", "nonsense"), "--segmentation-recipe is for segmentation, which this study does not include"),
        ((*here, "--segmentation-val", "test"), "--segmentation-val is for segmentation, which this study does not include"),
        ((*here, "--detection-trian", "all"), 'no field "detection-trian"; did you mean detection_train'),
        ((*here, "--model", "resnet18"), "leave --model out"),
        ((*here, "--detection-weights", "none"), "leave --detection-weights out"),
        ((*here, "--detection-recipe", "small.segmentation"), "is for segmentation, not for detection"),
        ((*here, "--out", tmp_path / "other"), "belongs to another training run: its data is 0"),
        ((*here, "--report-only", "--out", tmp_path / "none"), "there is no finished fine-tuning"),
    ]
    for tokens, message in cases:
        status, _, error = call(*tokens)
        assert (status, message in error, len(error.splitlines())) == (2, True, 1), (tokens, error)
