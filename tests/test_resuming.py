"""A training run that was stopped or killed anywhere resumes exactly where it stopped, and only from its own checkpoint."""

from __future__ import annotations

import errno
import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.processes import forked
from tests.training import RECIPE, Finished, finished, run, same
from trickzoo.classification import task
from trickzoo.data.loaders import Streamed
from trickzoo.data.readers.imagenet import open_imagenet
from trickzoo.data.resident import Resident
from trickzoo.errors import BadCheckpoint, NotWritten
from trickzoo.recipes.collection import to_dict
from trickzoo.recipes.finetune import SMALL_MASKS
from trickzoo.recipes.recipe import Augmentation
from trickzoo.training import checkpoint, stopping
from trickzoo.training.progress import Progress


@pytest.fixture(scope="module")
def streamed(colours: Path) -> Streamed:
    return Streamed(open_imagenet(colours, split="train"), workers=0)


@pytest.fixture(scope="module")
def undisturbed_streamed(streamed: Streamed, val: Resident, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return finished(streamed, val, tmp_path_factory.mktemp("streamed"))


@pytest.mark.parametrize(("data", "straight"), [("resident", "undisturbed"), ("streamed", "undisturbed_streamed")])
@pytest.mark.parametrize("stop", [3, 7, 10], ids=["mid first epoch", "between epochs", "mid second epoch"])
def test_a_stopped_training_resumes_bit_for_bit(
    data: str, straight: str, stop: int, val: Resident, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    images, expected = request.getfixturevalue(data), request.getfixturevalue(straight)
    run(images, tmp_path, val=val, save_every=1, stop_after=stop)
    assert same(run(images, tmp_path, val=val), expected.weights)
    assert (tmp_path / "metrics.jsonl").read_text() == expected.log()


def test_a_training_that_is_killed_in_mid_epoch_resumes_bit_for_bit(resident: Resident, undisturbed: Finished, tmp_path: Path) -> None:
    def die(progress: Progress) -> None:
        if progress.step == 5:  # the checkpoint has four steps
            os.kill(os.getpid(), signal.SIGKILL)

    with forked(lambda: run(resident, tmp_path / "killed", save_every=1, report=die)) as process:
        process.join()
    assert process.exitcode == -signal.SIGKILL
    assert same(run(resident, tmp_path / "killed"), undisturbed.weights)


@pytest.mark.parametrize(("number", "step"), [(signal.SIGTERM, 4), (signal.SIGINT, 4), (signal.SIGHUP, 4), (signal.SIGTERM, 7)])
def test_a_signal_writes_a_checkpoint_from_which_the_training_resumes(
    number: signal.Signals,
    step: int,
    resident: Resident,
    val: Resident,
    undisturbed: Finished,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    before = signal.signal(number, signal.SIG_DFL)  # the tests may run under nohup, and a training respects that nohup ignores SIGHUP
    request.addfinalizer(lambda: signal.signal(number, before))
    with pytest.raises(stopping.Stopped, match=f"stopped at step {step} of 14; the same command resumes"):
        run(resident, tmp_path, val=val, report=lambda p: signal.raise_signal(number) if p.step == step else None)
    assert same(run(resident, tmp_path, val=val), undisturbed.weights)
    assert (tmp_path / "metrics.jsonl").read_text() == undisturbed.log()


def test_a_training_stopped_in_its_last_evaluation_resumes_with_that_evaluation(
    resident: Resident, val: Resident, undisturbed: Finished, tmp_path: Path
) -> None:
    with pytest.raises(stopping.Stopped, match="stopped at step 14 of 14; the same command resumes"):
        run(resident, tmp_path, val=val, report=lambda p: signal.raise_signal(signal.SIGTERM) if p.step == 14 else None)
    told: list[Progress] = []
    assert same(run(resident, tmp_path, val=val, report=told.append), undisturbed.weights)
    assert [progress.step for progress in told] == [14]
    assert (tmp_path / "metrics.jsonl").read_text() == undisturbed.log()
    contents = [checkpoint.load(folder / "last.pt", RECIPE, seed=0) for folder in (tmp_path, undisturbed.folder)]
    assert contents[0]["evaluation"] == contents[1]["evaluation"] != {}


def test_a_signal_after_the_last_evaluation_lets_the_training_finish(resident: Resident, val: Resident, tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.step == 14 and progress.evaluation:
            signal.raise_signal(signal.SIGTERM)

    run(resident, tmp_path, val=val, report=stop)
    assert "top1" in checkpoint.load(tmp_path / "last.pt", RECIPE, data_digest=resident.digest, seed=0)["evaluation"]


@pytest.mark.parametrize(("written", "file"), [(0, "metrics.jsonl"), (1, "last.pt")])
def test_a_full_disk_leaves_the_files_intact(
    written: int, file: str, resident: Resident, undisturbed: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(resident, tmp_path / "full", save_every=1, stop_after=4)
    before = {path.name: path.read_bytes() for path in (tmp_path / "full").iterdir()}
    room = iter([True] * written)

    def full(_: int) -> None:
        if not next(room, False):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(NotWritten, match=rf"{file} cannot be written \(No space left on device\)"):
            run(resident, tmp_path / "full", save_every=1)
    after = {path.name: path.read_bytes() for path in (tmp_path / "full").iterdir()}
    assert after.keys() == before.keys() == {"last.pt", "metrics.jsonl"}
    assert after[file] == before[file]
    assert same(run(resident, tmp_path / "full"), undisturbed.weights)


def test_an_evaluation_that_was_stopped_is_not_made_up_for_within_an_epoch(
    resident: Resident, val: Resident, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: Any) -> Any:
        raise stopping.Interrupted("a signal")

    with monkeypatch.context() as patch:
        patch.setattr(task, "predict_resident", stopped)
        with pytest.raises(stopping.Stopped):
            run(resident, tmp_path, val=val)
    run(resident, tmp_path, val=val, evaluate_every=2, save_every=1, stop_after=10)
    run(resident, tmp_path, val=val)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "top1" in row] == [14]


def test_resuming_with_other_validation_images_is_refused(resident: Resident, val: Resident, tmp_path: Path) -> None:
    run(resident, tmp_path, val=val, stop_after=9)
    with pytest.raises(BadCheckpoint, match="belongs to another training run: its validation data is"):
        run(resident, tmp_path, val=replace(val, digest="other"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 0.1}, "has another recipe: lr is 0.05 there, 0.1 here"),
        ({"augmentation": Augmentation(pca=0.0)}, "has another recipe: augmentation"),
        ({"model": "mobilenet_v1_050"}, "has another recipe: model is mobilenet_v1_025"),
    ],
)
def test_a_checkpoint_of_another_recipe_is_refused(change: dict[str, Any], message: str, resident: Resident, tmp_path: Path) -> None:
    run(resident, tmp_path, save_every=1, stop_after=2)
    with pytest.raises(BadCheckpoint, match=message):
        run(resident, tmp_path, RECIPE.but(RECIPE.name, **change))


def test_a_checkpoint_of_another_task_is_refused() -> None:
    content = {"seed": 0, "data_digest": "0", "recipe": to_dict(SMALL_MASKS)}
    with pytest.raises(BadCheckpoint, match=r"last\.pt has another recipe: a recipe has no field .*; name another --out"):
        checkpoint.check(Path("last.pt"), content, RECIPE, data_digest="0", seed=0)


def test_bad_checkpoints_are_refused(resident: Resident, tmp_path: Path) -> None:
    torch.save({"a": 1}, tmp_path / "last.pt")
    with pytest.raises(BadCheckpoint, match="not a training checkpoint"):
        run(resident, tmp_path)
    whole = (tmp_path / "last.pt").read_bytes()
    (tmp_path / "last.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadCheckpoint, match="not a PyTorch checkpoint"):
        run(resident, tmp_path)
