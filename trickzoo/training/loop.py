"""The training loop, the same for every task.

Nothing random depends on history: the order of an epoch is drawn from (seed, epoch), everything of a step from (seed, step). So a training
that was stopped anywhere goes on as if it had not been, and processes draw for the whole batch and take their share.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from trickzoo import evidence
from trickzoo.errors import BadCheckpoint, BadData, Elsewhere, NotWritten, TrickzooError
from trickzoo.recipes.collection import AnyRecipe, plain
from trickzoo.training import checkpoint, draws, stopping, tracking
from trickzoo.training.progress import Outcome, Progress
from trickzoo.training.shares import PROCESS, Shares, seed_of
from trickzoo.training.stopping import Stopped

log = logging.getLogger("trickzoo")


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
        teacher_sha256: of the file of the network that it distils from, if there is one.
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
    teacher_sha256: str | None = None

    @property
    def identity(self) -> dict[str, str | None]:
        """Digests of all that the outcome depends on beside recipe and seed, as `checkpoint.check` compares them."""
        return {name: getattr(self, name) for name in ("data_digest", "val_digest", "weights_sha256", "teacher_sha256")}

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
        BadCheckpoint: `last.pt` is of another training, or damaged.
        BadData: the loss is not finite (the message names the last good checkpoint), or the data cannot be trained on.
        Stopped: SIGTERM, SIGINT or SIGHUP came; a checkpoint is there.
        Elsewhere: another process raised one of these.
    """
    with stopping.signals():
        return _Training(task, out, seed, accelerator, save_every, evaluate_every, report).run(stop_after)


class _Training:
    """A training under way: its epochs and steps. What is raised in one process is raised in all of them, see `stopping`."""

    def __init__(
        self,
        task: Task,
        out: Path,
        seed: int,
        accelerator: Accelerator,
        save_every: int,
        evaluate_every: int,
        report: Callable[[Progress], None],
    ) -> None:
        self.task, self.seed, self.accelerator = task, seed, accelerator
        self.save_every, self.evaluate_every, self.report = save_every, evaluate_every, report
        self.per_epoch = task.shares.per_epoch
        self.steps = self.per_epoch * task.recipe.epochs
        net = task.model.to(accelerator.device).to(memory_format=torch.channels_last)
        self.net, self.optimiser = accelerator.prepare(net, task.optimiser())
        self.keeper = _Keeper(task, self.optimiser, out, accelerator, seed)
        self.state = self.keeper.resume(self.steps)
        self.failed: TrickzooError | None = None
        """What kept this process from writing its log; raised where all processes meet next."""
        self.metrics: tracking.Metrics | None = None
        try:
            if accelerator.is_main_process:
                self.metrics = tracking.Metrics(out / tracking.METRICS, self.state.step)
        except TrickzooError as error:
            self.failed = error
        self._raise_failure()

    def run(self, stop_after: int | None) -> Outcome:
        """Do the epochs that are left."""
        state = self.state
        if state.unevaluated:
            self._end_epoch()
        while state.step < self.steps:
            self._epoch(stop_after)
            if state.step == stop_after:
                return self._outcome()
            self._end_epoch()
        self.accelerator.unwrap_model(self.net, keep_fp32_wrapper=False)  # its forward no longer computes in the training's precision
        return self._outcome()

    def _outcome(self) -> Outcome:
        return Outcome(self.state.evaluation, self.keeper.seconds, tuple(self.state.commits))

    def _epoch(self, stop_after: int | None) -> None:
        """Take the steps that are left of an epoch."""
        state = self.state
        if state.step % self.per_epoch == 0:
            state.loss_sum, state.losses = 0.0, 0
        self.net.train()
        batches = self.task.batches(state.step)
        while True:
            self._step(batches)
            if state.step == stop_after or state.step % self.per_epoch == 0:
                return
            if self.save_every and state.step % self.save_every == 0:
                self.keeper.save(checkpoint.LAST, state)

    def _step(self, batches: Iterator[Any]) -> None:
        """Take an optimiser step on the next batch, and tell of it."""
        task, state, shares = self.task, self.state, self.task.shares
        lr = task.learning_rate(state.step)
        for group in self.optimiser.param_groups:
            group["lr"] = lr * group.get("factor", 1)
        torch.manual_seed(seed_of(self.seed, PROCESS, state.step, self.accelerator.process_index))  # mixup, CutMix
        total = 0.0
        for part in range(shares.rounds):
            batch = self._next(batches, part)
            with _synchronised(self.net, part == shares.rounds - 1), draws.of_images(shares.layer_seeds(state.step, part)):
                value = task.loss(self.net, batch) / shares.rounds
                self.accelerator.backward(value)
            total += value.item()
        loss = self._mean(total)
        if not math.isfinite(loss):
            raise stopping.everywhere(self._diverged(loss), self.accelerator)
        self.optimiser.step()
        self.optimiser.zero_grad()
        task.stepped(state.step)
        epoch = state.step // self.per_epoch
        state.step += 1
        state.loss_sum, state.losses = state.loss_sum + loss, state.losses + 1
        self._tell(Progress(state.step, self.steps, epoch, loss, lr), {"loss": loss, "lr": lr})

    def _next(self, batches: Iterator[Any], part: int) -> Any:
        """The next micro-batch, if every process has one and none was asked to stop."""
        batch, error = None, self.failed
        if error is None:
            try:
                batch = next(batches)
            except TrickzooError as found:
                error = found
        # one exchange for both questions, as each costs all processes a wait
        if stopping.agreed(error is not None or (part == 0 and stopping.asked()), self.accelerator):
            try:
                stopping.agree(error, self.accelerator)
            except TrickzooError:
                if self.state.step and part == 0:  # later BatchNorm has seen a part of the step
                    with contextlib.suppress(NotWritten, Elsewhere):  # the full disk may be the very error
                        self.keeper.save(checkpoint.LAST, self.state)
                raise
            self.keeper.save(checkpoint.LAST, self.state)
            raise self._stopped()
        return batch

    def _mean(self, loss: float) -> float:
        """The mean over processes."""
        if self.accelerator.num_processes == 1:
            return loss
        return float(self.accelerator.reduce(torch.tensor(loss, device=self.accelerator.device), "mean").item())

    def _end_epoch(self) -> None:
        """Evaluate if it is time to, and write checkpoints: the best one first, since a training that is killed goes on from the last."""
        state, epoch = self.state, (self.state.step - 1) // self.per_epoch
        if state.step == self.steps or (epoch + 1) % self.evaluate_every == 0:
            self._evaluate(epoch)
        reached = state.evaluation.get(self.task.measure) or 0.0
        if reached > state.best:
            state.best = reached
            self.keeper.save(checkpoint.BEST, state)
        self.keeper.save(checkpoint.LAST, state)
        self._raise_failure()
        if state.step < self.steps and stopping.agreed(stopping.asked(), self.accelerator):
            raise self._stopped()

    def _evaluate(self, epoch: int) -> None:
        """Evaluate. A training that cannot, or is asked to stop meanwhile, begins with this evaluation when it goes on."""
        state = self.state
        _share_buffers(self.task, self.accelerator)
        state.unevaluated = True
        try:
            found = self.task.evaluate()
        except TrickzooError as error:
            self.keeper.save(checkpoint.LAST, state)
            if isinstance(error, stopping.Interrupted):
                raise self._stopped() from None
            raise
        state.unevaluated = False
        if found is not None:
            state.evaluation = found
            lr = self.task.learning_rate(state.step - 1)
            self._tell(Progress(state.step, self.steps, epoch, state.loss_sum / max(state.losses, 1), lr, found), found)

    def _tell(self, progress: Progress, row: dict[str, Any]) -> None:
        """Report progress, and write a line into the log."""
        try:
            self.report(progress)
            if self.metrics:
                self.metrics.write({"step": progress.step, "epoch": progress.epoch, **row})
        except TrickzooError as error:
            self.failed = error

    def _raise_failure(self) -> None:
        stopping.agree(self.failed, self.accelerator)

    def _stopped(self) -> TrickzooError:
        last = self.keeper.out / checkpoint.LAST
        stopped = Stopped(f"stopped at step {self.state.step} of {self.steps}; the same command goes on from {last}")
        return stopping.everywhere(stopped, self.accelerator)

    def _diverged(self, loss: float) -> BadData:
        step = self.state.step
        return BadData(
            f"the loss is {loss} at step {step} (epoch {step // self.per_epoch}); begin anew in another --out, with a lower lr or a longer "
            f"warm-up. The last good checkpoint: {self.keeper.before(step) or 'none'}"
        )


class _Keeper:
    """Writes the checkpoints of a training, and reads the one that it goes on from."""

    def __init__(self, task: Task, optimiser: torch.optim.Optimizer, out: Path, accelerator: Accelerator, seed: int) -> None:
        self.task, self.optimiser, self.out, self.accelerator, self.seed = task, optimiser, out, accelerator, seed
        self.started = time.monotonic()
        self.steps: dict[str, int] = {}
        """Of the checkpoints that this part of the training wrote or went on from."""

    @property
    def seconds(self) -> float:
        """That all parts of the training took together."""
        return time.monotonic() - self.started

    def save(self, name: str, state: checkpoint.State) -> None:
        """Write a checkpoint, in the first process. Raises NotWritten there, and Elsewhere in the others, if the disk refuses."""
        error: TrickzooError | None = None
        state.seconds = self.seconds
        if self.accelerator.is_main_process:
            task, scaler = self.task, self.accelerator.scaler
            content = {"recipe": plain(task.recipe), "seed": self.seed, **task.identity, "metadata": task.metadata()}
            content |= {
                "model": task.model.state_dict(),
                "average": task.average.state_dict() if task.average is not None else None,
                "optimiser": self.optimiser.state_dict(),
                "scaler": scaler.state_dict() if scaler is not None else None,
            }
            try:
                checkpoint.save(self.out / name, state, content)
            except NotWritten as found:
                error = found
        stopping.agree(error, self.accelerator)
        self.steps[name] = state.step

    def resume(self, steps: int) -> checkpoint.State:
        """The state in `last.pt`, whose tensors are loaded into model and optimiser; a fresh one without it."""
        path = self.out / checkpoint.LAST
        state = checkpoint.State()
        if path.exists():
            content = checkpoint.load(path, self.task.recipe, seed=self.seed, **self.task.identity)
            self._restore(path, content)
            state = checkpoint.State.of(content)
            if not 0 <= state.step <= steps:
                raise BadCheckpoint(f"{path} is at step {state.step} of a training of {steps} steps; name another --out")
            if content.get("draws") != checkpoint.DRAWS:
                log.warning("%s is of an older version: mixup, dropout and sampled boxes are drawn otherwise from here on", path)
            self.steps[checkpoint.LAST] = state.step
            self.started -= state.seconds
        if (commit := evidence.commit()) and commit not in state.commits[-1:]:
            state.commits.append(commit)
        return state

    def _restore(self, path: Path, content: dict[str, Any]) -> None:
        task, scaler = self.task, self.accelerator.scaler
        try:
            task.model.load_state_dict(content["model"])
            if task.average is not None:
                task.average.load_state_dict(content["average"])
            self.optimiser.load_state_dict(content["optimiser"])
            if scaler is not None and content.get("scaler") is not None:
                scaler.load_state_dict(content["scaler"])
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            first = next(iter(str(error).splitlines()), type(error).__name__)
            raise BadCheckpoint(f"{path} does not fit {task.recipe.model}: {first}; name another --out") from None

    def before(self, step: int) -> Path | None:
        """A checkpoint of an earlier step: one of this very step holds the weights that gave the loss."""
        for name in (checkpoint.LAST, checkpoint.BEST):
            if self.steps.get(name) != step and (self.out / name).exists():
                return self.out / name
        return None


def _share_buffers(task: Task, accelerator: Accelerator) -> None:
    """Give every process the first one's BatchNorm statistics, which are the ones that checkpoints keep: all evaluate the same network.

    The wrapper for the processes would do so in each forward pass, but not all processes have as many of them.
    """
    if accelerator.num_processes > 1:
        for module in (task.model, task.average):
            for buffer in module.buffers() if module is not None else ():
                broadcast(buffer)


def _synchronised(net: nn.Module, last: bool) -> AbstractContextManager[Any]:
    """Processes exchange gradients in the last round of a step only."""
    return net.no_sync() if isinstance(net, DistributedDataParallel) and not last else nullcontext()
