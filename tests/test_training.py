"""The training loop: it learns, evaluates, stops when it diverges, and gives the same results with several processes."""

from __future__ import annotations

import hashlib
import json
import math
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator

import trickzoo
from tests.processes import together
from tests.training import RECIPE, run, train
from trickzoo.classification import objective, task
from trickzoo.classification.model import prepare
from trickzoo.data.resident import Resident
from trickzoo.data.transforms import Normalisation
from trickzoo.errors import BadOption, Diverged
from trickzoo.recipes.recipe import Augmentation
from trickzoo.training import checkpoint, loop, metrics_log
from trickzoo.training.machine import Machine
from trickzoo.training.progress import Progress

LONGER = RECIPE.but("test.longer", epochs=16, lr=0.02, mixup=0.0, augmentation=Augmentation(jitter=0.0, pca=0.0))


def test_it_learns_and_logs_every_step(resident: Resident, val: Resident, tmp_path: Path) -> None:
    told: list[Progress] = []
    run(resident, tmp_path, LONGER, val, report=told.append)
    evaluations = [progress.evaluation["top1"] for progress in told if progress.evaluation]
    assert len(evaluations) == 16
    assert evaluations[-1] > 80
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert len(losses) == told[-1].steps == 112
    assert np.mean(losses[-7:]) < np.mean(losses[:7])
    best = checkpoint.load(tmp_path / "best.pt", LONGER, data_digest=resident.digest, seed=0)
    assert best["evaluation"]["top1"] == max(evaluations)


def test_it_evaluates_every_second_epoch_and_after_the_last(resident: Resident, val: Resident, tmp_path: Path) -> None:
    told: list[Progress] = []
    run(resident, tmp_path, RECIPE.but("test.five", epochs=5), val, report=told.append, evaluate_every=2)
    assert [progress.epoch for progress in told if progress.evaluation] == [1, 3, 4]


def steps_of(resident: Resident, folder: Path, dies: int = 0) -> tuple[list[int], dict[str, Any]]:
    """Train for 20 steps without the statistics of batches; the steps that this process took, over all its starts, and the weights.

    BatchNorm is frozen, because each process would use the statistics of its share of the batch. The second process kills itself at the
    step `dies`, if it has not been started again.
    """
    recipe = RECIPE.but("no mixup", mixup=0.0, epochs=3)
    model = prepare(recipe, 4, 0)
    model.freeze(model).requires_grad_(True)
    accelerator = Accelerator(cpu=True)
    taken = folder / f"{accelerator.process_index}.steps"

    def tell(progress: Progress) -> None:
        if accelerator.process_index == 1 and progress.step == dies and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
            os.kill(os.getpid(), signal.SIGKILL)
        with taken.open("a") as file:
            print(progress.step, file=file)

    train(recipe, model, resident, None, folder, accelerator=accelerator, stop_after=20, save_every=4, report=tell)
    accelerator.end_training()
    return [int(step) for step in taken.read_text().split()], {key: tensor.numpy() for key, tensor in model.state_dict().items()}


def test_two_processes_give_the_same_as_one_and_restart_when_one_dies(resident: Resident, tmp_path: Path) -> None:
    ((_, one),) = together(steps_of, resident, tmp_path / "one", processes=1)
    (steps, two), _ = together(steps_of, resident, tmp_path / "two")
    (again, restarted), _ = together(steps_of, resident, tmp_path / "restarted", 10, restarts=1)
    for key in one:
        np.testing.assert_allclose(one[key], two[key], atol=1e-5, rtol=0)
    assert steps == list(range(1, 21))
    losses = [[row["loss"] for row in metrics_log.rows(tmp_path / name) if "loss" in row] for name in ("one", "two")]
    assert len(losses[0]) == 20
    assert losses[1] == pytest.approx(losses[0], rel=1e-4), "the log has the mean loss over processes"
    assert again[-12:] == list(range(9, 21)), "it resumes from the checkpoint at step 8"
    assert 8 in again[:-12]
    assert all(np.array_equal(restarted[key], two[key]) for key in two)


def digests(resident: Resident, folder: Path) -> list[str]:
    """Train with an average of the weights, validate on a single image, and return digests of the statistics of both networks."""
    one = replace(resident, pixels=resident.pixels[:1], sizes=resident.sizes[:1], labels=resident.labels[:1])
    recipe = RECIPE.but("averaged", ema=0.9)
    accelerator = Accelerator(cpu=True)
    model = prepare(recipe, 4, 0)
    training = task.Classification(recipe, model, resident, one, seed=0, accelerator=accelerator)
    loop.fit(training, folder, seed=0, accelerator=accelerator)
    training.finish()
    networks = (model, training.average)
    found = [hashlib.sha256(b"".join(buffer.numpy().tobytes() for buffer in network.buffers())).hexdigest() for network in networks]
    accelerator.end_training()
    return found


def test_processes_evaluate_the_same_network_even_with_one_image_for_two(resident: Resident, tmp_path: Path) -> None:
    found = together(digests, resident, tmp_path / "out")
    assert len(found) == 2
    assert len({*found[0], *found[1]}) == 1  # `finish` copies the average into the model


@pytest.mark.parametrize(("step", "good"), [(0, "none"), (4, "last.pt"), (5, "last.pt")])
def test_a_non_finite_loss_stops_and_names_the_last_good_checkpoint(
    step: int, good: str, resident: Resident, val: Resident, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([1.0] * step)
    monkeypatch.setattr(objective, "loss", lambda recipe, logits, *_: logits.mean() * 0 + next(losses, math.nan))
    with pytest.raises(Diverged, match=rf"the loss is nan at step {step} \(epoch 0\).*another --out.*checkpoint: .*{good}"):
        run(resident, tmp_path, val=val, save_every=3)


def test_a_checkpoint_with_a_non_finite_loss_is_not_a_good_one(resident: Resident, tmp_path: Path) -> None:
    with pytest.raises(Diverged, match=r"the loss is (nan|inf) at step 1 .*The last good checkpoint: none"):
        run(resident, tmp_path, RECIPE.but("wild", lr=1e15, warmup_epochs=0), save_every=1)
    assert (tmp_path / "last.pt").exists()


@pytest.mark.parametrize(("factor", "what"), [(1e9, "the outputs of the network"), (math.inf, "the weights")])
def test_a_network_that_diverges_in_the_last_step_has_no_result(
    factor: float, what: str, resident: Resident, val: Resident, tmp_path: Path
) -> None:
    """There is no further loss to show it: the training would end with the accuracy of a network whose outputs are NaN."""
    model = prepare(RECIPE, len(resident.classes), 0)

    @torch.no_grad()
    def diverge(progress: Progress) -> None:
        for weights in model.parameters() if progress.step == progress.steps else ():
            weights.mul_(factor)

    with pytest.raises(Diverged, match=rf"{what} are not finite at step 13 \(epoch 1\); start again.*The last good checkpoint: .*last\.pt"):
        train(RECIPE, model, resident, val, tmp_path, report=diverge)
    assert checkpoint.load(tmp_path / "last.pt", RECIPE, seed=0)["step"] == 7


def test_outputs_that_are_not_finite_in_an_earlier_epoch_have_no_metrics(
    resident: Resident, val: Resident, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Statistics of BatchNorm that have not settled may give them, and the training goes on as if there were no evaluation."""
    model = prepare(RECIPE, len(resident.classes), 0)
    kept: list[torch.Tensor] = []

    @torch.no_grad()
    def change(progress: Progress) -> None:
        statistics = model.stem.bn.running_var
        if progress.step == 7:
            kept.append(statistics.clone())
            statistics.fill_(-1.0)
        elif progress.step == 8:
            statistics.copy_(kept.pop())

    train(RECIPE, model, resident, val, tmp_path, report=change)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "top1" in row] == [14]
    assert "the outputs of the network are not finite after epoch 1, which therefore has no metrics" in caplog.text


def test_the_accumulation_setting_of_a_launcher_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    assert Machine(out=tmp_path, device="cpu").accelerator("fp32").gradient_accumulation_steps == 1


@pytest.mark.parametrize("micro_batch", [3, -4])
def test_a_batch_that_cannot_be_divided(micro_batch: int, resident: Resident, tmp_path: Path) -> None:
    with pytest.raises(BadOption, match=f"cannot be divided into 1 processes × micro-batches of {micro_batch}"):
        run(resident, tmp_path, micro_batch=micro_batch)


def test_images_are_normalised_for_the_weights_of_each_network() -> None:
    images = 255 * torch.rand(2, 3, 8, 8)
    half = Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    torch.testing.assert_close(half(images), images / 127.5 - 1)
    imagenet = Normalisation.of(trickzoo.create("mobilenet_v1_025"))
    torch.testing.assert_close(imagenet.towards(half, imagenet(images)), half(images))
    assert imagenet.towards(imagenet, images) is images


def test_micro_batches_of_one_image_with_a_last_map_of_one_pixel_are_refused(resident: Resident, tmp_path: Path) -> None:
    with pytest.raises(BadOption, match=r"one image of 32 × 32 pixels gives BatchNorm a single value of each channel; take micro-batches"):
        run(resident, tmp_path, micro_batch=1)
    assert not tmp_path.joinpath("metrics.jsonl").exists()
    run(resident, tmp_path, RECIPE.but("larger", size=64, epochs=1, mixup=0.0), micro_batch=1, stop_after=1)
