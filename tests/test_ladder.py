"""The ladder study: what it runs, its stops, and what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accelerate import PartialState
from safetensors.numpy import load_file

import trickzoo
from tests.commands import Call, caller
from tests.studies import FIELDS, MODEL, RUNGS, plan, simulate
from trickzoo.cli import zoo
from trickzoo.data.location import ImageLocation
from trickzoo.errors import BadCheckpoint, BadOption, UnknownName
from trickzoo.recipes.collection import to_dict
from trickzoo.studies import ladder, ladder_summary, power
from trickzoo.training.folder import locked
from trickzoo.training.machine import Machine
from trickzoo.training.progress import Progress
from trickzoo.training.stopping import Stopped


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs `trickzoo ladder`; (exit status, stdout, stderr)."""
    return caller(capsys, zoo, "ladder", "--model", MODEL)


@contextmanager
def quiet(title: str) -> Iterator[Callable[[Progress], None]]:
    yield lambda progress: None


def settings(folder: Path, out: Path) -> tuple[ImageLocation, Machine]:
    cache = folder.with_name("cache")  # other tests read the folder too
    return ImageLocation(data=folder, decode="once", cache=cache), Machine(out=out, workers=0, device="cpu")


@pytest.fixture(scope="session")
def straight(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small study that was run without a stop."""
    out = tmp_path_factory.mktemp("straight")
    ladder.run(plan(), *settings(colours, out), each=quiet)
    return out


# ---------------------------------------------------------------------------------------------------------------------
# what is run


def test_a_rung_is_compared_with_what_it_adds_to() -> None:
    whole = ladder.plan("imagenette128", "resnet18_d", teacher="resnet50_d", low_precision="bf16")
    bases = {step.rung: step.base for step in whole.steps}
    assert bases["baseline"] is None
    assert (bases["warmup"], bases["mixup"], bases["mixup_distillation"]) == ("linear_scaling", "label_smoothing", "mixup")
    changes = {step.rung: step.changes for step in whole.steps}
    assert changes["linear_scaling"]["batch_size"] == (64, 128)
    assert changes["mixup"] == {"mixup": (0.0, 0.2)}
    assert changes["d"] == {"model": ("resnet18_c", "resnet18_d")}
    assert not any(step.skipped for step in whole.steps)


@pytest.mark.parametrize(("model", "lr"), [("resnet18_d", 0.025), ("inception_v3", 0.025), ("mobilenet_v1_025", 0.2)])
def test_the_baseline_has_the_papers_rate_but_for_mobilenets(model: str, lr: float) -> None:
    assert ladder.plan("imagenette128", model).steps[0].recipe.lr == pytest.approx(lr)


def test_some_rungs_bring_the_changes_of_those_left_out() -> None:
    _, cosine, mixup = plan().steps
    assert (cosine.base, mixup.base) == ("baseline", "cosine")
    assert mixup.changes == {"smoothing": (0.0, 0.1), "mixup": (0.0, 0.2)}
    assert mixup.skipped == ("+ label smoothing",)
    assert cosine.skipped == ("+ large batch, linear scaling", "+ warm-up", "+ no bias decay")


def test_fields_are_the_baselines() -> None:
    first, last = (step.recipe for step in plan(changes={"epochs": "24", "batch-size": "32", "jitter": "0"}).steps[::2])
    standard = plan(changes={}).steps[0].recipe
    assert (first.epochs, first.batch_size, first.lr, last.batch_size) == (24, 32, standard.lr / 2, 64)
    assert first.milestones == (6, 12, 18)
    assert first.augmentation.jitter == last.augmentation.jitter == 0
    smoothed = plan(changes={"smoothing": "0.2", "lr": "0.1", "warmup-epochs": "0"}, rungs=("baseline", "cosine"))
    assert [step.recipe.smoothing for step in smoothed.steps] == [0.2, 0.2]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"rungs": ("baseline", "cosin")}, UnknownName, 'no rung "cosin"; did you mean cosine'),
        ({"rungs": ("cosine", "baseline", "cosine")}, BadOption, "--rungs names cosine twice; name each rung once"),
        ({"changes": {"schedule": "cosine"}, "rungs": ()}, BadOption, "rung cosine changes nothing"),
        (
            {"changes": {"smoothing": "0.2"}},
            BadOption,
            "the rung mixup would change smoothing from 0.2, which the options set, to 0.1; leave",
        ),
        ({"changes": {"warmup_epochs": "2"}}, BadOption, "rung cosine would change warmup_epochs from 2, .* leave --warmup-epochs out, or"),
        ({"changes": {"name": "x"}}, BadOption, "leave --name out"),
        ({"changes": {"epoch": "3"}}, BadOption, "did you mean epochs"),
        ({"seeds": 0}, BadOption, "--seeds must be from 1 to 100,000, not 0"),
        ({"seeds": 10**20}, BadOption, "--seeds must be from 1 to 100,000"),
        ({"first_seed": -1}, BadOption, "--first-seed must be 0 or more"),
    ],
)
def test_plans_that_cannot_be(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        plan(**options)


def test_seeds_count_up_from_the_first(call: Call, tmp_path: Path) -> None:
    tokens = ("--rungs", "baseline,mixup", "--seeds", 2, "--first-seed", 7, "--out", tmp_path, "--dry-run")
    assert "seed 7" in call(*tokens)[1]
    assert plan(seeds=3, first_seed=7).seeds == (7, 8, 9)


def test_whole_ladders_come_first() -> None:
    assert [(step.rung, seed) for step, seed in plan().runs] == [(rung, seed) for seed in (0, 1) for rung in RUNGS]


def test_pretrained_weights_are_suggested_for_small_sets(colours: Path, tmp_path: Path) -> None:
    said: list[str] = []
    ladder.run(
        plan(rungs=("baseline",), seeds=1, changes={**FIELDS, "epochs": "1"}), *settings(colours, tmp_path), each=quiet, tell=said.append
    )
    assert said[0].startswith("56 training images are few") and said[0].endswith(": add --pretrained tz_imagenette128 --lr 0.02")
    assert "--pretrained default" in (ladder.start_from_weights(ladder.plan("own", "inception_v3"), 100) or "")
    for chosen, images in (
        (plan(), ladder.FEW),
        (plan(changes={**FIELDS, "pretrained": "default"}), 100),
        (ladder.plan("imagenette128", MODEL), 100),
        (ladder.plan("own", "resnet18_d"), 100),  # its steps change the network
        (ladder.plan("own", "mobilenet_v1_050"), 100),  # has no weights
    ):
        assert ladder.start_from_weights(chosen, images) is None


def test_a_message_of_all_trainings_is_said_once(colours: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one = plan(rungs=("baseline", "mixup"), seeds=1, changes={**FIELDS, "epochs": "1", "pretrained": "tz_imagenette128"})
    ladder.run(one, *settings(colours, tmp_path), each=quiet)
    said = [record.getMessage() for record in caplog.records]
    assert [message.partition(":")[2] for message in said] == [
        " mobilenet_v1_025.tz_imagenette128 has no classifier for 4 classes, so the classifier is initialised anew"
    ]


def test_weights_that_were_trained_anew_are_other_weights(colours: Path, trained: Path, tmp_path: Path) -> None:
    start, out = tmp_path / "start", tmp_path / "study"
    shutil.copytree(trained / "classes", start)
    one = plan(rungs=("baseline",), seeds=1, changes={**FIELDS, "epochs": "1", "pretrained": str(start)})
    ladder.run(one, *settings(colours, out), each=quiet)
    ladder.run(one, *settings(colours, out), each=quiet)  # only reads the result
    trickzoo.export(trickzoo.create("mobilenet_v1_025", num_classes=3), start / "model.safetensors", overwrite=True)
    with pytest.raises(BadCheckpoint, match="has another recipe: pretrained is"):
        ladder.run(one, *settings(colours, out), each=quiet)


def test_dry_run_lists_what_is_left(call: Call, straight: Path) -> None:
    tokens = ("--rungs", "baseline,cosine,mixup,label_smoothing", "--size", 32, "--epochs", 2, "--batch-size", 8, "--seeds", 2)
    status, text, _ = call(*tokens, "--out", straight, "--dry-run")
    assert status == 0
    assert "4 training runs" not in text
    assert f"left to do in {straight}: 2 training runs of 2 epochs" in text
    (line,) = [line for line in text.splitlines() if line.startswith("label_smoothing")]
    assert "smoothing 0 → 0.1" in line
    assert line.count("to do") == 2
    found = json.loads(call(*tokens, "--out", straight, "--dry-run", "--json")[1])
    assert (found["left"], found["epochs"]) == (2, 2)
    (rung,) = [each for each in found["rungs"] if each["rung"] == "label_smoothing"]
    assert (rung["base"], rung["changes"], rung["states"]) == ("cosine", {"smoothing": [0.0, 0.1]}, {"0": "to do", "1": "to do"})
    assert "--json has no effect: it belongs to --dry-run or --plan" in call(*tokens, "--out", straight, "--json")[2]


def test_a_result_names_the_share_of_the_largest_class(straight: Path, colours: Path) -> None:
    found = json.loads((straight / "mixup-1" / "result.json").read_text())
    images = [len(list(folder.iterdir())) for folder in (colours / "val").iterdir()]
    assert (found["majority"], found["num_classes"]) == (pytest.approx(100 * max(images) / sum(images), abs=1e-4), len(images))
    content = ladder_summary.summarise(plan(), straight)
    assert (content.majority, content.num_classes) == (found["majority"], found["num_classes"])


# ---------------------------------------------------------------------------------------------------------------------
# --plan


PLANNED = ("--rungs", ",".join(RUNGS), "--size", 32, "--epochs", 2, "--batch-size", 8)


def test_a_plan_from_finished_seeds(call: Call, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = simulate(tmp_path, {"baseline": [70.0, 71.0, 70.4], "cosine": [73.1, 73.6, 73.3], "mixup": [73.9, 74.5, 73.3]})
    status, text, _ = call(*PLANNED, "--seeds", 3, "--out", tmp_path, "--plan")
    assert status == 0
    pooled = np.sqrt(np.mean([rung.difference.s**2 for rung in content.rungs[1:] if rung.difference]))
    assert f"standard deviation {pooled:.2f} points over seeds" in text
    assert "pooled over 2 comparisons, n = 3 seeds" in text
    (row,) = (line.split() for line in text.splitlines() if line.startswith("   10"))
    assert row == [
        "10",
        f"{power.detectable(pooled, 10):.2f}",
        f"{power.detectable(pooled, 10, 0.025):.2f}",
        "45",
        "minutes",
    ]
    needed, strict = power.seeds_for(1.0, pooled), power.seeds_for(1.0, pooled, 0.025)
    assert f"1 point: {needed} seeds, " in text and f"; after Holm {strict} seeds" in text
    (found,) = json.loads(call(*PLANNED, "--seeds", 3, "--out", tmp_path, "--plan", "--json")[1])
    assert found["sd"] == pytest.approx(pooled) and found["needed"][0] == {"points": 1.0, "seeds": needed, "seeds_holm": strict}
    ten = {
        "seeds": 10,
        "points": power.detectable(pooled, 10),
        "points_holm": power.detectable(pooled, 10, 0.025),
        "seconds": 10 * 3 * 90.0,
    }
    assert found["detectable"][3] == pytest.approx(ten)
    assert not caplog.messages
    assert call(*PLANNED, "--seeds", 2, "--out", tmp_path, "--plan")[0] == 0
    (said,) = caplog.messages
    assert "the plan is without 3 finished training runs of rungs or seeds that the command does not name (baseline-2, cosine-2, " in said


def test_a_plan_from_a_guess(call: Call, tmp_path: Path) -> None:
    status, text, _ = call(*PLANNED, "--out", tmp_path / "none", "--plan", "--plan-sd", "2.0")
    assert (status, "standard deviation 2 points, a guess" in text, "take" in text) == (0, True, False)
    assert f"2 points: {power.seeds_for(2.0, 2.0)} seeds; after Holm {power.seeds_for(2.0, 2.0, 0.025)} seeds" in text
    one = call(*PLANNED, "--rungs", "baseline,mixup", "--out", tmp_path / "none", "--plan", "--plan-sd", "2.0")[1]
    assert ("After Holm:" in text, "after Holm" in one.lower()) == (True, False)  # one comparison needs no correction
    assert not (tmp_path / "none").exists()
    for tokens, message in (
        (("--plan",), "give no standard deviation over seeds; guess it in points, for example with --plan-sd 2"),
        (("--plan-sd", "2"), "--plan-sd is for --plan"),
        (("--plan", "--plan-sd", "nan"), "--plan-sd must be a finite number, not nan"),
    ):
        status, _, error = call(*PLANNED, "--out", tmp_path / "none", *tokens)
        assert (status, message in error, len(error.splitlines())) == (2, True, 1), error


# ---------------------------------------------------------------------------------------------------------------------
# stops


def figures(out: Path) -> Any:
    """What a study found, without times."""
    content = ladder_summary.summarise(plan(), out)
    return [(rung.rung, rung.seeds, rung.top1, rung.difference, rung.curves) for rung in content.rungs]


@pytest.mark.parametrize(("step", "message"), [(3, "stopped at step 3 of 6"), (6, "stopped after 2 of 6 training runs")])
def test_a_stopped_study_goes_on(
    call: Call,
    step: int,
    message: str,
    straight: Path,
    colours: Path,
    tmp_path: Path,
) -> None:
    @contextmanager
    def stopping(title: str) -> Iterator[Callable[[Progress], None]]:
        def stop(progress: Progress) -> None:
            if "cosine, seed 0" in title and progress.step == step and (step < progress.steps or progress.evaluation):
                signal.raise_signal(signal.SIGTERM)

        yield stop

    with pytest.raises(Stopped, match=message):
        ladder.run(plan(), *settings(colours, tmp_path), each=stopping)
    assert not (tmp_path / "mixup-0").exists()
    fields = ("--size", 32, "--epochs", 2, "--batch-size", 8)
    common = ("--data", colours, "--rungs", ",".join(RUNGS), *fields, "--seeds", 2, "--out", tmp_path)
    status, text, _ = call(*common, "--workers", 0, "--device", "cpu", "--cache", colours.with_name("cache"))
    assert status == 0
    assert "1/6 baseline, seed 0: already finished" in text
    assert "2/6 cosine, seed 0: " + ("top-1" if step == 3 else "already finished") in text
    assert ("cosine, seed 0: resumed in epoch" in text) == (step == 3)
    assert text.rstrip().endswith("report.html")
    assert figures(tmp_path) == figures(straight)
    for name in ("cosine-0", "mixup-1"):
        ours, theirs = load_file(tmp_path / name / "model.safetensors"), load_file(straight / name / "model.safetensors")
        assert all(np.array_equal(ours[key], theirs[key]) for key in theirs)


@pytest.mark.slow
def test_two_jobs_give_the_results_of_one(call: Call, straight: Path, colours: Path, tmp_path: Path) -> None:
    """Two jobs are stopped after the first training, and one job runs the rest."""
    told = []

    def tell(line: str) -> None:
        told.append(line)
        if "top-1" in line:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Stopped, match=r"stopped after [12] of 6 training runs; the same command resumes it"):
        ladder.run(plan(), *settings(colours, tmp_path), each=quiet, tell=tell, jobs=2)
    assert {"1/6 baseline, seed 0: started", "2/6 cosine, seed 0: started"} <= set(told)
    assert not (tmp_path / "mixup-1").exists()
    ladder.run(plan(), *settings(colours, tmp_path), each=quiet)
    assert figures(tmp_path) == figures(straight)
    for name in ("baseline-0", "cosine-0", "mixup-0"):
        ours, theirs = load_file(tmp_path / name / "model.safetensors"), load_file(straight / name / "model.safetensors")
        assert all(np.array_equal(ours[key], theirs[key]) for key in theirs)


def test_jobs_that_cannot_be(call: Call, colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "--jobs must be 1 or more, not 0" in call("--data", colours, "--jobs", 0)[2]
    monkeypatch.setattr(PartialState(), "num_processes", 2)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(BadOption, match="--jobs starts processes of its own; leave it out, or start the study without torchrun"):
        ladder.run(plan(), *settings(colours, tmp_path), each=quiet, jobs=2)


def test_a_finished_study_trains_nothing(straight: Path, colours: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trickzoo.training.job.run", lambda *_: pytest.fail("trained again"))
    ladder.run(plan(), *settings(colours, straight), each=quiet)


def test_a_finished_study_in_a_read_only_folder_is_reported(
    call: Call, straight: Path, colours: Path, tmp_path: Path, read_only: Callable[[Path], None]
) -> None:
    shutil.copytree(straight, tmp_path / "out")
    read_only(tmp_path)
    fields = ("--rungs", ",".join(RUNGS), "--size", 32, "--epochs", 2, "--batch-size", 8, "--out", tmp_path / "out")
    of_images = ("--data", colours, "--cache", colours.with_name("cache"), "--workers", 0, "--device", "cpu")
    status, text, _ = call("--seeds", 2, *fields, *of_images)
    finding = ladder_summary.summarise(plan(), straight).findings[0]
    assert (status, text.count("already finished"), finding in text) == (0, 6, True)
    assert f"{tmp_path / 'out'} cannot be written, so its report was not renewed" in text
    for more in (("--seeds", 2, *fields, "--report-only"), ("--seeds", 3, *fields, *of_images)):
        status, _, error = call(*more)
        assert (status, error.count("\n")) == (2, 1)
        assert "out cannot be written: " in error and "Read-only file system" in error


def test_only_the_main_process_reports(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    simulate(tmp_path, {rung: [50.0, 51.0] for rung in RUNGS})
    there = sorted(tmp_path.rglob("*"))
    report = ("--report-only", "--out", tmp_path, "--seeds", 2, "--rungs", ",".join(RUNGS), "--size", 32, "--epochs", 2, "--batch-size", 8)
    with monkeypatch.context() as patch:
        patch.setattr("accelerate.PartialState.is_main_process", False)
        assert call(*report) == (0, "", "")
    assert sorted(tmp_path.rglob("*")) == there
    assert str(tmp_path / "report.html") in call(*report)[1]


def test_a_report_says_which_finished_trainings_it_leaves_out(call: Call, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    simulate(tmp_path, {rung: [50.0, 51.0] for rung in RUNGS})
    report = ("--report-only", "--out", tmp_path, "--size", 32, "--epochs", 2, "--batch-size", 8, "--quiet")
    assert call(*report, "--seeds", 2, "--rungs", ",".join(RUNGS))[0] == 0
    assert not caplog.messages
    assert call(*report, "--seeds", 1, "--rungs", "baseline,mixup")[0] == 0
    (said,) = caplog.messages
    assert (
        "the report is without 4 finished training runs of rungs or seeds" in said and "(baseline-1, cosine-0, cosine-1, mixup-1)" in said
    )


def test_a_dry_run_refuses_to_divide_what_is_divided(call: Call, colours: Path, tmp_path: Path) -> None:
    status, out, error = call("--data", colours, "--val-fraction", 0.3, "--out", tmp_path, "--dry-run")
    assert (status, out) == (2, "")
    assert f"{colours} has validation images and cannot be divided; use it without" in error
    assert "does not exist" in call("--data", tmp_path / "gone", "--dry-run")[2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recipe": to_dict(plan().steps[0].recipe.but("x", lr=7.0))}, "has another recipe: name is x there"),
        ({"seed": 5}, "its seed is 5, not 0"),
        ({"data_digest": "0"}, "its data is 0, not "),
        ({"val_digest": "0"}, "belongs to another training run: its validation data is 0"),
        ({"recipe": None}, "not a result file of a training"),
        ({"val_digest": ["0"]}, "not a result file of a training"),
    ],
)
def test_another_training_is_refused(
    change: dict[str, Any],
    message: str,
    call: Call,
    straight: Path,
    colours: Path,
    tmp_path: Path,
) -> None:
    shutil.copytree(straight / "baseline-0", tmp_path / "baseline-0")
    path = tmp_path / "baseline-0" / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    common = ("--rungs", "baseline,mixup", "--size", 32, "--epochs", 2, "--batch-size", 8, "--out", tmp_path)
    status, _, error = call("--data", colours, *common, "--workers", 0, "--cache", colours.with_name("cache"), "--device", "cpu")
    assert status == 2
    assert message in error
    assert len(error.splitlines()) == 1
    assert [place.name for place in tmp_path.iterdir() if place.is_dir() and "-" in place.name] == ["baseline-0"]


def test_a_half_done_training_of_another_recipe_is_refused(call: Call, straight: Path, colours: Path, tmp_path: Path) -> None:
    shutil.copytree(straight / "mixup-1", tmp_path / "mixup-1", ignore=shutil.ignore_patterns("result.json"))
    common = ("--rungs", "baseline,mixup", "--size", 32, "--epochs", 3, "--batch-size", 8, "--out", tmp_path)
    status, _, error = call("--data", colours, *common, "--workers", 0, "--cache", colours.with_name("cache"), "--device", "cpu")
    assert (status, "has another recipe: epochs is 2 there, 3 here" in error) == (2, True)
    assert not (tmp_path / "baseline-0").exists()


def test_what_cannot_be_trained_is_told_before_anything_is(call: Call, colours: Path, tmp_path: Path) -> None:
    place = ("--cache", colours.with_name("cache"), "--out", tmp_path / "out")
    common = ("--data", colours, "--size", 32, "--workers", 0, "--device", "cpu", *place)
    for tokens, message in (
        (("--epochs", 2, "--batch-size", 32), "batch of 64 is larger than the training set of 56"),
        (("--epochs", 2, "--batch-size", 8, "--low-precision", "fp16"), "fp16"),
        (("--epochs", 2, "--batch-size", 8, "--teacher", "resnet5"), "resnet5"),
        (("--epochs", 2, "--temperature", 4), "--temperature has no effect: it acts only with --teacher; leave it out"),
        (("--rungs", "baseline,cosine", "--mixup-form", "official"), "--mixup-form has no effect: it acts only with --mixup"),
    ):
        status, _, error = call(*common, *tokens)
        assert (status, message in error) == (2, True), error
        assert not (tmp_path / "out").exists()
    assert "name the folder of images with --data" in call()[2]
    assert "leave --data out" in call("--set", "shapes", "--data", colours)[2]
    assert "holds no finished training" in call("--report-only", "--out", tmp_path)[2]


@pytest.mark.parametrize("name", ["result.json", "last.pt"])
def test_the_folder_of_a_training_is_not_that_of_a_study(name: str, call: Call, colours: Path, tmp_path: Path) -> None:
    place = tmp_path / "training"
    place.mkdir()
    (place / name).touch()
    status, _, error = call("--data", colours, "--out", place, "--batch-size", 8, "--workers", 0, "--device", "cpu")
    assert (status, error) == (2, f"trickzoo: {place} holds a training run itself, whose report would be replaced; name another --out\n")
    assert {path.name for path in place.iterdir()} == {name}


def test_a_study_that_another_run_is_doing_is_refused(call: Call, colours: Path, tmp_path: Path) -> None:
    with locked(tmp_path, PartialState(cpu=True)):
        status, _, error = call("--data", colours, "--out", tmp_path, "--batch-size", 8, "--workers", 0, "--device", "cpu")
    assert status == 2
    assert f"{tmp_path} is in use by process {os.getpid()} on" in error
    assert error.count("\n") == 1
