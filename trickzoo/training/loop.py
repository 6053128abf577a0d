"""The training loop.

Nothing random depends on history: the order of an epoch is drawn from (seed, epoch), everything of a step from (seed, step). So a training
that was stopped anywhere goes on as if it had not been, and processes draw for the whole batch and take their share.
"""

from __future__ import annotations

import copy
import json
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from trickzoo.backbone import Backbone
from trickzoo.data.augment import DRAWS, augment
from trickzoo.data.training import Resident, TrainingImages
from trickzoo.errors import BadCheckpoint, BadData, BadOption, NoEffect, TrickzooError
from trickzoo.evaluation.classification import top_k_hits
from trickzoo.recipes.collection import plain
from trickzoo.recipes.recipe import Recipe
from trickzoo.training import checkpoint, objective, tracking
from trickzoo.training.schedule import learning_rate
from trickzoo.tricks.ema import ema_decay, update_average
from trickzoo.tricks.initialisation import initialise
from trickzoo.tricks.no_bias_decay import decay_groups
from trickzoo.tricks.progressive_size import training_size
from trickzoo.tricks.zero_gamma import zero_last_gammas
from trickzoo.weights.record import IMAGENET_MEAN, IMAGENET_STD


class Stopped(TrickzooError):
    """The training was asked to stop and has saved a checkpoint."""

    status = 130


@dataclass(frozen=True)
class Outcome:
    """What a training gave: its last evaluation, and the seconds that all its parts took together."""

    evaluation: dict[str, float]
    seconds: float


@dataclass
class Progress:
    """What the loop tells while it runs."""

    step: int
    steps: int
    epoch: int
    loss: float
    lr: float
    evaluation: dict[str, float] = field(default_factory=dict)


def prepare(recipe: Recipe, num_classes: int, seed: int, create: Callable[..., Backbone]) -> Backbone:
    """The recipe's network, with its weights, or initialised from the seed as the recipe says."""
    torch.manual_seed(seed)
    if recipe.pretrained is not None:
        if recipe.zero_gamma:
            raise BadOption("zero_gamma would undo the weights of pretrained; choose one of them")
        where = {"pretrained": True} if recipe.pretrained == "default" else {"weights": recipe.pretrained}
        return create(recipe.model, num_classes=num_classes, **where).train()
    model = create(recipe.model, num_classes=num_classes)
    initialise(model, form=recipe.init)
    if recipe.zero_gamma:
        zero_last_gammas(model)
    return model


def optimiser(recipe: Recipe, model: nn.Module) -> torch.optim.SGD:
    """Nesterov SGD as the recipe says."""
    groups: Any = model.parameters() if recipe.decay_biases_and_norms else decay_groups(model, recipe.weight_decay)
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay, nesterov=recipe.momentum > 0)


def check(recipe: Recipe, data: TrainingImages, val: Resident | None, processes: int, micro_batch: int) -> None:
    """Raise one clear error for a training that cannot work."""
    if recipe.batch_size > len(data):
        raise BadData(f"the batch of {recipe.batch_size} is larger than the training set of {len(data)} images; lower batch_size")
    if recipe.batch_size % (processes * micro_batch):
        raise BadOption(
            f"a batch of {recipe.batch_size} cannot be cut into {processes} processes × micro-batches of {micro_batch}; "
            "change batch_size or --micro-batch"
        )
    if recipe.warmup_epochs >= recipe.epochs:
        raise BadOption(
            f"{recipe.warmup_epochs:g} epochs of warm-up leave nothing of {recipe.epochs} epochs; change warmup_epochs or epochs"
        )
    if recipe.schedule == "step" and recipe.milestones and not any(0 < milestone < recipe.epochs for milestone in recipe.milestones):
        raise NoEffect("step decay", f"no milestone of {', '.join(f'{m:g}' for m in recipe.milestones)} is within {recipe.epochs} epochs")
    if len(data.classes) < 2:
        raise BadData(f"there is one class, {data.classes[0]}; two are the least")
    if data.labels is not None:
        counts = np.bincount(data.labels, minlength=len(data.classes))
        if counts.min() < 2:
            raise BadData(f"class {data.classes[int(counts.argmin())]} has {counts.min()} training images; two are the least")
    if val is not None and val.classes != data.classes:
        raise BadData("training and validation images have other classes")


@dataclass(frozen=True)
class Shares:
    """Which images this process takes at each step, and with which draws: everything follows from seed, epoch and step."""

    recipe: Recipe
    n: int
    seed: int
    world: int
    rank: int
    micro: int
    stream: bool = False
    """The images come in an order of their own: indices count them over all epochs."""

    @property
    def per_epoch(self) -> int:
        """Steps of an epoch; what is left of the set is not used in it."""
        return self.n // self.recipe.batch_size

    @property
    def rounds(self) -> int:
        """Micro-batches of a process in a step."""
        return self.recipe.batch_size // (self.world * self.micro)

    def of_epoch(self, first_step: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Micro-batches from `first_step` to the end of its epoch, `rounds` a step: (micro,) indices and (micro, DRAWS) draws."""
        epoch, batch = first_step // self.per_epoch, self.recipe.batch_size
        order = epoch * self.n + torch.arange(self.n) if self.stream else torch.randperm(self.n, generator=_generator(self.seed, 0, epoch))
        for step in range(first_step, (epoch + 1) * self.per_epoch):
            start = (step - epoch * self.per_epoch) * batch
            draws = torch.rand((batch, DRAWS), generator=_generator(self.seed, 1, step))
            whole = (self.rounds, self.world, self.micro)
            mine = order[start : start + batch].view(whole)[:, self.rank]
            yield from zip(mine, draws.view(*whole, DRAWS)[:, self.rank], strict=True)


def train(
    recipe: Recipe,
    model: Backbone,
    data: TrainingImages,
    val: Resident | None,
    out: Path,
    *,
    seed: int,
    accelerator: Accelerator,
    micro_batch: int | None = None,
    teacher: nn.Module | None = None,
    save_every: int = 0,
    evaluate_every: int = 1,
    stop_after: int | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Outcome:
    """Train, or go on where `out/last.pt` stopped.

    Args:
        recipe, model: what to do, and the network from `prepare`; with `ema` it ends with the averaged weights.
        data, val: training images, and validation images decoded at the recipe's evaluation size.
        out: folder of checkpoints and `metrics.jsonl`.
        seed: of order, crops, augmentation and mixup.
        accelerator: device, precision and processes.
        micro_batch: images a process takes at once; the rest of its share of the batch is accumulated.
        teacher: network to distil from, on the device.
        save_every: steps between checkpoints, beside the one at each epoch's end; 0 is none.
        evaluate_every: epochs between evaluations; the last epoch always has one.
        stop_after: leave after this step, without a checkpoint.
        report: called after each step and each evaluation.

    Raises:
        BadCheckpoint: `last.pt` is of another training.
        BadData: the loss is not finite (the message names the last good checkpoint), or the data cannot be trained on.
        Stopped: SIGTERM or SIGINT came; a checkpoint is there.
    """
    world, rank = accelerator.num_processes, accelerator.process_index
    micro = micro_batch or recipe.batch_size // world
    check(recipe, data, val, world, micro)
    shares = Shares(recipe, len(data), seed, world, rank, micro, stream=data.labels is None)
    steps = shares.per_epoch * recipe.epochs
    device, classes = accelerator.device, len(data.classes)

    normalise, teachers = Normalisation.of(model), Normalisation.of(teacher)
    average = copy.deepcopy(model).to(device).requires_grad_(False) if recipe.ema else None
    net: nn.Module = model.to(device).to(memory_format=torch.channels_last)
    sgd = optimiser(recipe, net)
    net, sgd = accelerator.prepare(net, sgd)
    state = _resume(out, recipe, model, average, sgd, accelerator, data.digest, seed)
    step, best, evaluation = state["step"], state["best"], state["evaluation"]
    start = time.monotonic() - state["seconds"]

    def seconds() -> float:
        return time.monotonic() - start

    metrics = _Metrics(out / tracking.METRICS, step) if accelerator.is_main_process else None

    def save(name: str) -> None:
        if accelerator.is_main_process:
            content = {"recipe": plain(recipe), "seed": seed, "data_digest": data.digest, "seconds": seconds()}
            content |= {"step": step, "best": best, "evaluation": evaluation}
            checkpoint.save(out / name, content | _tensors(model, average, sgd, accelerator))

    with signals() as asked:
        while step < steps:
            epoch = step // shares.per_epoch
            net.train()
            plan, again = shares.of_epoch(step), shares.of_epoch(step)
            crops = data.crops(plan, size_at(recipe, epoch), recipe.augmentation, device, seed=seed)
            while True:
                lr = learning_rate(recipe, step, shares.per_epoch)
                for group in sgd.param_groups:
                    group["lr"] = lr
                torch.manual_seed(seed * 1_000_003 + step * world + rank)  # mixup and dropout
                total = 0.0
                for i in range(shares.rounds):
                    (_, draws), (images, labels) = next(again), next(crops)
                    images = normalise(augment(images, draws.to(device), recipe.augmentation))
                    images, target = objective.targets(recipe, images, labels, classes)
                    with _synchronised(net, i == shares.rounds - 1):
                        with accelerator.autocast():
                            logits = net(images)
                            soft = None if teacher is None else _predict(teacher, normalise.towards(teachers, images))
                        value = objective.loss(recipe, logits, target, soft) / shares.rounds
                        accelerator.backward(value)
                    total += value.item()
                if not math.isfinite(total):
                    good = out / checkpoint.LAST
                    raise BadData(
                        f"the loss is {total} at step {step} (epoch {epoch}); lower lr or lengthen warmup_epochs. "
                        f"The last good checkpoint: {good if good.exists() else 'none'}"
                    )
                sgd.step()
                sgd.zero_grad()
                if average is not None:
                    update_average(average, model, ema_decay(step, recipe.ema))
                step += 1
                report(Progress(step, steps, epoch, total, lr))
                if metrics:
                    metrics.write({"step": step, "epoch": epoch, "loss": total, "lr": lr})
                if step == stop_after:
                    return Outcome(evaluation, seconds())
                if step % shares.per_epoch == 0:  # the epoch's end evaluates before it saves
                    break
                stopping = _agreed(asked(), accelerator)
                if stopping or (save_every and step % save_every == 0):
                    save(checkpoint.LAST)
                if stopping:
                    raise Stopped(f"stopped at step {step} of {steps}; the same command goes on from {out / checkpoint.LAST}")
            if val is not None and (step == steps or (epoch + 1) % evaluate_every == 0):
                evaluation = evaluate(net if average is None else average, val, normalise, accelerator)
                report(Progress(step, steps, epoch, total, lr, evaluation))
                if metrics:
                    metrics.write({"step": step, "epoch": epoch, **evaluation})
            improved = evaluation.get("top1", 0.0) > best
            best = max(best, evaluation.get("top1", 0.0))
            save(checkpoint.LAST)
            if improved:
                save(checkpoint.BEST)
            if _agreed(asked(), accelerator) and step < steps:
                raise Stopped(f"stopped at step {step} of {steps}; the same command goes on from {out / checkpoint.LAST}")
    accelerator.unwrap_model(net, keep_fp32_wrapper=False)  # its forward no longer computes in the training's precision
    if average is not None:
        model.load_state_dict(average.state_dict())
    return Outcome(evaluation, seconds())


def _agreed(asked: bool, accelerator: Accelerator) -> bool:
    """Whether any process was asked to stop: a signal reaches them in different steps, and none may wait for one that has left."""
    if accelerator.num_processes == 1:
        return asked
    flag = torch.tensor(float(asked), device=accelerator.device)
    return bool(accelerator.reduce(flag, "sum").item())


def size_at(recipe: Recipe, epoch: int) -> int:
    """Side in pixels of the training images of a 0-based epoch."""
    if recipe.start_size is None:
        return recipe.size
    return training_size(epoch, recipe.epochs, recipe.start_size, recipe.size, growth=recipe.growth)


@dataclass(frozen=True)
class Normalisation:
    """What is subtracted and divided by, RGB, for images in 0…1: what a network's weights state, else ImageNet's."""

    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    @classmethod
    def of(cls, model: nn.Module | None) -> Normalisation:
        """The normalisation that a network was trained with."""
        stated = model.weights.preprocessing if isinstance(model, Backbone) and model.weights else None
        return cls(stated.mean, stated.std) if stated else cls()

    def __call__(self, images: Tensor) -> Tensor:
        """(n, 3, H, W) in 0…255 → a network's input."""
        return ((images.float() - 255 * _column(self.mean, images)) / (255 * _column(self.std, images))).contiguous(
            memory_format=torch.channels_last
        )

    def towards(self, other: Normalisation, images: Tensor) -> Tensor:
        """Images of one normalisation as another's. Mixed images are mixed alike."""
        if self == other:
            return images
        return (images * _column(self.std, images) + _column(self.mean, images) - _column(other.mean, images)) / _column(other.std, images)


def _column(values: tuple[float, float, float], images: Tensor) -> Tensor:
    return torch.tensor(values, device=images.device).view(3, 1, 1)


@torch.no_grad()
def _predict(teacher: nn.Module, images: Tensor) -> Tensor:
    return teacher(images)


@torch.inference_mode()
def evaluate(
    net: nn.Module, val: Resident, normalise: Normalisation, accelerator: Accelerator, *, batch_size: int = 256
) -> dict[str, float]:
    """Top-1 and top-5 in percent, each process on its share."""
    net.eval()
    n = len(val.labels)
    mine = torch.arange(accelerator.process_index, n, accelerator.num_processes)
    hits = torch.zeros(2, dtype=torch.long)
    for indices in mine.split(batch_size):
        images = normalise(val.take(indices).to(accelerator.device))
        with accelerator.autocast():
            logits = net(images)
        top = logits.float().topk(min(5, logits.shape[1])).indices.cpu().numpy()
        wanted = val.labels[indices.numpy()]
        hits += torch.tensor([top_k_hits(top, wanted, 1), top_k_hits(top, wanted, 5)])
    top1, top5 = (sum(column) for column in zip(*gather_object([hits.tolist()]), strict=True))
    return {"top1": 100 * top1 / n, "top5": 100 * top5 / n}


def _generator(*key: int) -> torch.Generator:
    """A generator whose stream depends on the whole key."""
    words = np.random.SeedSequence(key).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(words[0]) << 31 | int(words[1]) >> 1)


def _synchronised(net: nn.Module, last: bool) -> AbstractContextManager[Any]:
    """Processes exchange gradients in the last round of a step only."""
    return net.no_sync() if isinstance(net, DistributedDataParallel) and not last else nullcontext()


class _Note(list[int]):
    """A signal handler that only notes the signal, for every block that it comes in."""

    def __init__(self, outer: Any) -> None:
        self.outer = outer

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.append(number)
        if isinstance(self.outer, _Note):
            self.outer(number, frame)


@contextmanager
def signals() -> Iterator[Callable[[], bool]]:
    """Within the block SIGTERM and SIGINT only set a flag, which the yielded function reads. Of nested blocks each has its own."""
    note = _Note(signal.getsignal(signal.SIGTERM))
    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: bool(note)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Metrics:
    """A JSON line for each step and evaluation; lines beyond the step that a training goes on from are dropped."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        kept = [row for row in tracking.rows(path.parent) if row["step"] <= step] if step and path.exists() else []
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")

    def write(self, row: dict[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def _tensors(model: Backbone, average: nn.Module | None, sgd: torch.optim.Optimizer, accelerator: Accelerator) -> dict[str, Any]:
    return {
        "model": model.state_dict(),
        "average": average.state_dict() if average is not None else None,
        "optimiser": sgd.state_dict(),
        "scaler": accelerator.scaler.state_dict() if accelerator.scaler is not None else None,
    }


def _resume(
    out: Path,
    recipe: Recipe,
    model: Backbone,
    average: nn.Module | None,
    sgd: torch.optim.Optimizer,
    accelerator: Accelerator,
    data_digest: str,
    seed: int,
) -> dict[str, Any]:
    """What `last.pt` says, loaded into the objects; a fresh start without one."""
    path = out / checkpoint.LAST
    if not path.exists():
        return {"step": 0, "best": 0.0, "evaluation": {}, "seconds": 0.0}
    content = checkpoint.load(path, recipe, data_digest=data_digest, seed=seed)
    try:
        model.load_state_dict(content["model"])
        if average is not None:
            average.load_state_dict(content["average"])
    except RuntimeError as error:
        raise BadCheckpoint(f"{path} does not fit {model.name}: {str(error).splitlines()[0]}") from None
    sgd.load_state_dict(content["optimiser"])
    if accelerator.scaler is not None and content["scaler"] is not None:
        accelerator.scaler.load_state_dict(content["scaler"])
    return content
