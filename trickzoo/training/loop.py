"""The training loop, the same for every task.

Nothing random depends on history: the order of an epoch is drawn from (seed, epoch), everything of a step from (seed, step). So a training
that was stopped anywhere goes on as if it had not been, and processes draw for the whole batch and take their share.
"""

from __future__ import annotations

import json
import math
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from trickzoo.errors import BadCheckpoint, BadData, BadOption, TrickzooError
from trickzoo.files import write_atomically
from trickzoo.recipes.collection import AnyRecipe, plain
from trickzoo.training import checkpoint, schedule, tracking


class Stopped(TrickzooError):
    """The training was asked to stop and has saved a checkpoint."""

    status = 130


@dataclass(frozen=True)
class Outcome:
    """What a training gave: its last evaluation, and the seconds that all its parts took together."""

    evaluation: dict[str, Any]
    seconds: float


@dataclass
class Progress:
    """What the loop tells while it runs. `loss` is the step's; with an evaluation it is the epoch's mean, as far as this process saw it."""

    step: int
    steps: int
    epoch: int
    loss: float
    lr: float
    evaluation: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Shares:
    """Which images this process takes at each step, and with which draws: everything follows from seed, epoch and step."""

    n: int
    batch_size: int
    draws: int
    """Uniform draws of an image."""
    seed: int
    world: int
    rank: int
    micro: int
    stream: bool = False
    """The images come in an order of their own: indices count them over all epochs."""

    @classmethod
    def of(cls, n: int, recipe: AnyRecipe, draws: int, seed: int, accelerator: Accelerator, micro: int | None, **options: Any) -> Shares:
        """The shares of this process. Raises BadData or BadOption if the batch cannot be had, and what `schedule.check` raises."""
        world, size = accelerator.num_processes, recipe.batch_size
        micro = size // world if micro is None else micro
        if size > n:
            raise BadData(f"the batch of {size} is larger than the training set of {n} images; lower batch_size")
        if micro < 1 or size % (world * micro):
            raise BadOption(
                f"a batch of {size} cannot be cut into {world} processes × micro-batches of {micro}; change batch_size or --micro-batch"
            )
        shares = cls(n, size, draws, seed, world, accelerator.process_index, micro, **options)
        schedule.check(recipe, shares.per_epoch)
        return shares

    @property
    def per_epoch(self) -> int:
        """Steps of an epoch; what is left of the set is not used in it."""
        return self.n // self.batch_size

    @property
    def rounds(self) -> int:
        """Micro-batches of a process in a step."""
        return self.batch_size // (self.world * self.micro)

    def of_epoch(self, first_step: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Micro-batches from `first_step` to the end of its epoch, `rounds` a step: (micro,) indices and (micro, draws) draws."""
        epoch, batch = first_step // self.per_epoch, self.batch_size
        order = epoch * self.n + torch.arange(self.n) if self.stream else torch.randperm(self.n, generator=_generator(self.seed, 0, epoch))
        for step in range(first_step, (epoch + 1) * self.per_epoch):
            start = (step - epoch * self.per_epoch) * batch
            draws = torch.rand((batch, self.draws), generator=_generator(self.seed, 1, step))
            whole = (self.rounds, self.world, self.micro)
            mine = order[start : start + batch].view(whole)[:, self.rank]
            yield from zip(mine, draws.view(*whole, self.draws)[:, self.rank], strict=True)


class Task(ABC):
    """What is trained and on what. The loop and the job know no more of a task than this.

    Attributes:
        activity: what the training is called in result files.
        measure: name of the figure of `evaluate` that is highest for the best checkpoint.
        recipe: the checkpoints are of it.
        model: the network; the loop moves it to the device.
        shares: the images of each step.
        data_digest: tells the training images from others.
        val_digest: the same of the validation images, if there are any.
        average: averaged weights, which checkpoints keep too; None without.
        weights_sha256: of the file that the model started from, if it did from one.
    """

    activity: str = "training"
    measure: str
    recipe: AnyRecipe
    model: nn.Module
    shares: Shares
    data_digest: str
    val_digest: str | None = None
    average: nn.Module | None = None
    weights_sha256: str | None = None

    @abstractmethod
    def optimiser(self) -> torch.optim.Optimizer:
        """For the model on its device. A group's learning rate is the step's × its `factor`, 1 where it has none."""

    @abstractmethod
    def learning_rate(self, step: int) -> float:
        """Of a 0-based step."""

    @abstractmethod
    def batches(self, first_step: int) -> Iterator[Any]:
        """Micro-batches of this process, from `first_step` to the end of its epoch."""

    @abstractmethod
    def loss(self, net: nn.Module, batch: Any) -> Tensor:
        """Mean loss of a micro-batch; `net` is the model, prepared for the processes and the precision."""

    def stepped(self, step: int) -> None:  # noqa: B027, most tasks have nothing to do here
        """Called after the optimiser's step."""

    def metadata(self) -> dict[str, str]:
        """What a weight file of the model says of it, and checkpoints too; nothing where a checkpoint is no such file."""
        return {}

    @abstractmethod
    def evaluate(self) -> dict[str, Any] | None:
        """Figures in percent, each process on its share; None if there is nothing to evaluate on."""

    def finish(self) -> None:  # noqa: B027, most tasks have nothing to do here
        """Called after the last step, before the network is saved."""

    @property
    @abstractmethod
    def data_in_words(self) -> str:
        """How many training images of how many classes there are: "9,469 images of 10 classes"."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of the images before the training starts, one line each."""
        return ()

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """What the result file says beside the figures: numbers of images, digests of data and weights."""

    @abstractmethod
    def save(self, path: Path, training: dict[str, Any]) -> None:
        """Write the network as a weight file. `training` is the evidence that the file's header keeps."""


def fit(
    task: Task,
    out: Path,
    *,
    seed: int,
    accelerator: Accelerator,
    save_every: int = 0,
    evaluate_every: int = 1,
    stop_after: int | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Outcome:
    """Train, or go on where `out/last.pt` stopped.

    Args:
        task: what to train.
        out: folder of checkpoints and `metrics.jsonl`.
        seed: of whatever is drawn at random.
        accelerator: device, precision and processes.
        save_every: steps between checkpoints, beside the one at each epoch's end; 0 is none.
        evaluate_every: epochs between evaluations; the last epoch always has one.
        stop_after: leave after this step, without a checkpoint.
        report: called after each step and each evaluation.

    Raises:
        BadCheckpoint: `last.pt` is of another training.
        BadData: the loss is not finite (the message names the last good checkpoint), or the data cannot be trained on.
        Stopped: SIGTERM or SIGINT came; a checkpoint is there.
    """
    world, rank, shares = accelerator.num_processes, accelerator.process_index, task.shares
    steps = shares.per_epoch * task.recipe.epochs
    net = task.model.to(accelerator.device).to(memory_format=torch.channels_last)
    net, optimiser = accelerator.prepare(net, task.optimiser())
    state = _resume(task, optimiser, out, accelerator, seed)
    step, best, evaluation = state["step"], state["best"], state["evaluation"]
    start = time.monotonic() - state["seconds"]

    def seconds() -> float:
        return time.monotonic() - start

    metrics = _Metrics(out / tracking.METRICS, step) if accelerator.is_main_process else None
    saved = {checkpoint.LAST: step}

    def save(name: str) -> None:
        saved[name] = step
        if accelerator.is_main_process:
            content = {"recipe": plain(task.recipe), "seed": seed, "data_digest": task.data_digest, "val_digest": task.val_digest}
            content |= {"step": step, "best": best, "evaluation": evaluation, "seconds": seconds()}
            content |= {"weights_sha256": task.weights_sha256, "metadata": task.metadata()}
            checkpoint.save(out / name, content | _tensors(task, optimiser, accelerator))

    with signals() as asked:
        while step < steps:
            epoch = step // shares.per_epoch
            net.train()
            batches = task.batches(step)
            losses: list[float] = []
            while True:
                lr = task.learning_rate(step)
                for group in optimiser.param_groups:
                    group["lr"] = lr * group.get("factor", 1)
                torch.manual_seed(seed * 1_000_003 + step * world + rank)  # mixup, dropout, the choice of proposals
                total = 0.0
                for i in range(shares.rounds):
                    try:
                        batch = next(batches)
                    except BadData:
                        if step and i == 0:  # later BatchNorm has seen a part of the step
                            save(checkpoint.LAST)
                        raise
                    with _synchronised(net, i == shares.rounds - 1):
                        value = task.loss(net, batch) / shares.rounds
                        accelerator.backward(value)
                    total += value.item()
                if not math.isfinite(total):
                    # one of this very step holds the weights that gave it
                    older = (out / name for name in (checkpoint.LAST, checkpoint.BEST) if saved.get(name) != step)
                    raise BadData(
                        f"the loss is {total} at step {step} (epoch {epoch}); begin anew in another --out, with a lower lr or a longer "
                        f"warm-up. The last good checkpoint: {next((path for path in older if path.exists()), 'none')}"
                    )
                optimiser.step()
                optimiser.zero_grad()
                task.stepped(step)
                step += 1
                losses.append(total)
                report(Progress(step, steps, epoch, total, lr))
                if metrics:
                    metrics.write({"step": step, "epoch": epoch, "loss": total, "lr": lr})
                if step == stop_after:
                    return Outcome(evaluation, seconds())
                if step % shares.per_epoch == 0:  # the epoch's end evaluates before it saves
                    break
                stopping = agreed(asked(), accelerator)
                if stopping or (save_every and step % save_every == 0):
                    save(checkpoint.LAST)
                if stopping:
                    raise Stopped(f"stopped at step {step} of {steps}; the same command goes on from {out / checkpoint.LAST}")
            if step == steps or (epoch + 1) % evaluate_every == 0:
                _share_buffers(task, accelerator)
                found = task.evaluate()
                if found is not None:
                    evaluation = found
                    report(Progress(step, steps, epoch, sum(losses) / len(losses), lr, evaluation))
                    if metrics:
                        metrics.write({"step": step, "epoch": epoch, **evaluation})
            reached = evaluation.get(task.measure) or 0.0
            improved = reached > best
            best = max(best, reached)
            save(checkpoint.LAST)
            if improved:
                save(checkpoint.BEST)
            if agreed(asked(), accelerator) and step < steps:
                raise Stopped(f"stopped at step {step} of {steps}; the same command goes on from {out / checkpoint.LAST}")
    accelerator.unwrap_model(net, keep_fp32_wrapper=False)  # its forward no longer computes in the training's precision
    return Outcome(evaluation, seconds())


def agreed(asked: bool, accelerator: Accelerator) -> bool:
    """Whether any process was asked to stop: a signal reaches them in different steps, and none may wait for one that has left."""
    if accelerator.num_processes == 1:
        return asked
    flag = torch.tensor(float(asked), device=accelerator.device)
    return bool(accelerator.reduce(flag, "sum").item())


def _share_buffers(task: Task, accelerator: Accelerator) -> None:
    """Give every process the first one's BatchNorm statistics, which are the ones that checkpoints keep: all evaluate the same network.

    The wrapper for the processes would do so in each forward pass, but not all processes have as many of them.
    """
    if accelerator.num_processes > 1:
        for module in (task.model, task.average):
            for buffer in module.buffers() if module is not None else ():
                broadcast(buffer)


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
    """A JSON line for each step and evaluation; lines beyond the step that a training goes on from are dropped.

    Raises BadOption if the disk refuses.
    """

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        kept = [row for row in tracking.rows(path.parent) if row["step"] <= step] if step and path.exists() else []
        with self._plainly():
            write_atomically(path, "".join(json.dumps(row) + "\n" for row in kept).encode())

    def write(self, row: dict[str, Any]) -> None:
        with self._plainly(), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    @contextmanager
    def _plainly(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise BadOption(f"{self.path} cannot be written ({error.strerror or error}); make room, or name another --out") from None


def _tensors(task: Task, optimiser: torch.optim.Optimizer, accelerator: Accelerator) -> dict[str, Any]:
    return {
        "model": task.model.state_dict(),
        "average": task.average.state_dict() if task.average is not None else None,
        "optimiser": optimiser.state_dict(),
        "scaler": accelerator.scaler.state_dict() if accelerator.scaler is not None else None,
    }


def _resume(task: Task, optimiser: torch.optim.Optimizer, out: Path, accelerator: Accelerator, seed: int) -> dict[str, Any]:
    """What `last.pt` says, loaded into the objects; a fresh start without one."""
    path = out / checkpoint.LAST
    if not path.exists():
        return {"step": 0, "best": 0.0, "evaluation": {}, "seconds": 0.0}
    same = {"data_digest": task.data_digest, "val_digest": task.val_digest, "weights_sha256": task.weights_sha256}
    content = checkpoint.load(path, task.recipe, seed=seed, **same)
    try:
        task.model.load_state_dict(content["model"])
        if task.average is not None:
            task.average.load_state_dict(content["average"])
    except RuntimeError as error:
        raise BadCheckpoint(f"{path} does not fit {task.recipe.model}: {str(error).splitlines()[0]}") from None
    optimiser.load_state_dict(content["optimiser"])
    if accelerator.scaler is not None and content["scaler"] is not None:
        accelerator.scaler.load_state_dict(content["scaler"])
    return content
