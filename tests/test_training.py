"""The training loop: it learns, resumes exactly where it stopped, and gives the same results with several processes."""

from __future__ import annotations

import copy
import errno
import hashlib
import json
import math
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from accelerate import Accelerator

import trickzoo
from tests.processes import forked, together
from tests.training import RECIPE, Finished, finished, run, same, train
from trickzoo.classification import objective, task
from trickzoo.classification.model import prepare
from trickzoo.data.loaders import Streamed
from trickzoo.data.readers.imagenet import open_imagenet
from trickzoo.data.resident import Resident
from trickzoo.data.transforms import Normalisation
from trickzoo.errors import BadCheckpoint, BadOption, Diverged, NotWritten
from trickzoo.recipes.collection import to_dict
from trickzoo.recipes.finetune import COCO_BOXES, SMALL_MASKS, FineTuningRecipe
from trickzoo.recipes.recipe import Augmentation, Recipe
from trickzoo.training import checkpoint, loop, metrics_log, stopping
from trickzoo.training.machine import Machine
from trickzoo.training.progress import Progress
from trickzoo.training.schedule import fine_tuning_rate, learning_rate, notes
from trickzoo.training.shares import PROCESS, seed_of
from trickzoo.tricks.cutmix import cutmix
from trickzoo.tricks.mixup import mixup

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


def test_micro_batches_give_the_same_weights_as_the_whole_batch(resident: Resident, tmp_path: Path) -> None:
    recipe = RECIPE.but("no mixup", mixup=0.0)
    weights = []
    for micro in (8, 2):
        model = prepare(recipe, 4, 0)
        model.freeze(model)  # BatchNorm is frozen, because its statistics are those of a micro-batch
        model.requires_grad_(True)
        train(recipe, model, resident, None, tmp_path / str(micro), micro_batch=micro)
        weights.append(model.state_dict())
    for key in weights[0]:
        torch.testing.assert_close(weights[0][key], weights[1][key], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("changes", "micro"),
    [
        ({"mixup": 0.4, "balance": "loss", "teacher": "given", "temperature": 5.0, "ema": 0.5}, 4),
        ({"mixup": 0.4, "mixup_form": "official", "smoothing_form": "uniform", "distillation_form": "official", "teacher": "given"}, 8),
        ({"mixup": 0.0, "cutmix": 1.0, "balance": "loss", "optimizer": "adamw", "lr": 0.0005, "teacher": "given", "ema": 0.9}, 2),
        ({"mixup": 0.0, "balance": "sampler", "decay_biases_and_norms": True, "weight_decay": 0.01, "ema": 0.5}, 4),
    ],
    ids=str,
)
def test_the_steps_of_many_tricks_together_are_those_of_a_loop_written_by_hand(changes: dict[str, Any], micro: int, tmp_path: Path) -> None:
    recipe = RECIPE.but("together", **{"pretrained": "tz_imagenette128", "lr": 0.005, "weight_decay": 0.05, **changes})
    labels, k = np.repeat(np.arange(4), (12, 7, 4, 3)), 4
    pixels = np.random.default_rng(0).integers(0, 256, (26, 3, 40, 40)).astype(np.uint8)
    data = Resident(pixels, np.full((26, 2), 40), labels, tuple("abcd"), "digest")
    model, other = (prepare(recipe, k, seed) for seed in (0, 1))
    model.freeze(model).requires_grad_(True)  # the statistics of micro-batches of 1 × 1 pixels would amplify rounding errors
    teacher = other.eval() if recipe.teacher else None
    accelerator = Accelerator(cpu=True)
    training = task.Classification(recipe, model, data, None, seed=0, accelerator=accelerator, micro_batch=micro, teacher=teacher)
    network, average = copy.deepcopy(model), copy.deepcopy(model)

    named = dict(network.named_parameters())
    exempt = [] if recipe.decay_biases_and_norms else [name for name, each in named.items() if name.endswith("bias") or each.ndim == 1]
    groups = [
        {"params": [each for name, each in named.items() if name not in exempt], "weight_decay": recipe.weight_decay},
        {"params": [named[name] for name in exempt], "weight_decay": 0.0},
    ]
    options = {"momentum": 0.9, "nesterov": True} if recipe.optimizer == "sgd" else {"betas": (0.9, 0.999)}
    optimiser = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[recipe.optimizer](groups, lr=1.0, **options)
    of_classes = len(labels) / (k * torch.from_numpy(np.bincount(labels)))
    wanted, steps = [], 2 * (26 // 8)
    batches = (batch for first in (0, steps // 2) for batch in training.batches(first))
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(recipe, step, steps // 2)
        torch.manual_seed(seed_of(0, PROCESS, step, 0))
        total = 0.0
        for _ in range(8 // micro):
            images, classes = next(batches)
            mixing = torch.eye(micro)  # the shares of the images in each mixed one
            if recipe.mixup:
                images, mixing = mixup(images, mixing, recipe.mixup, form=recipe.mixup_form)
            elif recipe.cutmix:
                images, mixing = cutmix(images, mixing, recipe.cutmix)
            weight = of_classes[classes] if recipe.balance == "loss" else torch.ones(micro)
            hit = torch.nn.functional.one_hot(classes, k)
            off = 0.1 / (k - 1) if recipe.smoothing_form == "paper" else 0.1 / k
            target = mixing @ (weight[:, None] * (hit * (0.9 if recipe.smoothing_form == "paper" else 0.9 + off) + (1 - hit) * off)).float()
            logits = network(images)
            loss = -(target * logits.log_softmax(1)).sum() / micro
            if teacher is not None:
                t = recipe.temperature
                of_images = -(teacher(images).div(t).softmax(1).detach() * logits.div(t).log_softmax(1)).sum(1)
                soft = t**2 * (mixing @ weight.float() * of_images).sum() / micro
                loss = loss + soft if recipe.distillation_form == "paper" else 0.5 * loss + 0.5 * soft
            (loss * micro / 8).backward()
            total += loss.item() * micro / 8
        wanted.append(total)
        optimiser.step()
        optimiser.zero_grad()
        decay = min(recipe.ema, (1 + step) / (10 + step))
        with torch.no_grad():
            for mean, value in zip(average.parameters(), network.parameters(), strict=True):
                mean.copy_(decay * mean + (1 - decay) * value)
    found: list[float] = []
    loop.fit(training, tmp_path, seed=0, accelerator=accelerator, report=lambda progress: found.append(progress.loss))
    assert found == pytest.approx(wanted, rel=1e-4)
    for one, two in ((model, network), *([(training.average, average)] if recipe.ema else [])):
        for key, value in dict(one.named_parameters()).items():
            torch.testing.assert_close(value, dict(two.named_parameters())[key], atol=1e-4, rtol=1e-3, msg=key)


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


def test_the_accumulation_setting_of_a_launcher_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    assert Machine(out=tmp_path, device="cpu").accelerator("fp32").gradient_accumulation_steps == 1


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


def test_the_learning_rate_of_each_step_follows_the_recipe() -> None:
    recipe = Recipe("r", "resnet50", "x", epochs=120, lr=0.4, warmup_epochs=5, schedule="cosine")
    rates = [learning_rate(recipe, step, 100) for step in range(12_000)]
    assert rates[0] == pytest.approx(0.4 / 500)
    assert max(rates) == rates[499] == rates[500] == pytest.approx(0.4)
    assert rates[500 + 11_500 // 2] == pytest.approx(0.2)
    assert 0 < rates[-1] < 1e-7
    steps = recipe.but("s", schedule="step")
    assert [learning_rate(steps, epoch * 100, 100) for epoch in (29, 30, 60, 90, 119)] == pytest.approx([0.4, 0.04, 0.004, 0.0004, 0.0004])
    assert math.isclose(learning_rate(steps, 3 * 100 - 1, 100), 0.4 * 300 / 500)


@pytest.mark.parametrize("schedule", ["cosine", "step"])
def test_a_warm_up_takes_at_most_half_of_the_training(schedule: Literal["cosine", "step"]) -> None:
    recipe = Recipe("r", "resnet50", "x", epochs=1, lr=0.4, warmup_epochs=5, schedule=schedule)
    rates = [learning_rate(recipe, step, 10) for step in range(10)]
    assert rates[:6] == pytest.approx([0.08, 0.16, 0.24, 0.32, 0.4, 0.4])
    assert notes(recipe, 10) == ["the warm-up is shortened from 50 steps to 5, because the training has only 10 steps"]
    assert notes(replace(recipe, epochs=10), 10) == notes(replace(recipe, warmup_epochs=0.5), 10) == []
    assert learning_rate(recipe, 0, 1) == 0.4  # a single step has no warm-up


@pytest.mark.parametrize("recipe", [COCO_BOXES.but("short", epochs=2), SMALL_MASKS.but("short", epochs=2, warmup_steps=1000)])
def test_the_warm_up_of_a_fine_tuning_takes_at_most_half_of_it(recipe: FineTuningRecipe) -> None:
    factors = [fine_tuning_rate(recipe, step, 10) / fine_tuning_rate(replace(recipe, warmup_steps=0), step, 10) for step in range(20)]
    assert factors == pytest.approx([1 / 3 + 2 / 3 * step / 10 for step in range(10)] + [1.0] * 10)
    assert notes(recipe, 10) == ["the warm-up is shortened from 1,000 steps to 10, because the training has only 20 steps"]


def test_micro_batches_of_one_image_with_a_last_map_of_one_pixel_are_refused(resident: Resident, tmp_path: Path) -> None:
    with pytest.raises(BadOption, match=r"one image of 32 × 32 pixels gives BatchNorm a single value of each channel; take micro-batches"):
        run(resident, tmp_path, micro_batch=1)
    assert not tmp_path.joinpath("metrics.jsonl").exists()
    run(resident, tmp_path, RECIPE.but("larger", size=64, epochs=1, mixup=0.0), micro_batch=1, stop_after=1)
