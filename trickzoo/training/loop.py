"""The training loop, which is the same for every task.

Random numbers do not depend on what was drawn before: the order of an epoch follows from (seed, epoch), and everything else in a step from
(seed, step). A training that was stopped at any step therefore resumes with the results of an uninterrupted one. Each process draws the
numbers of the whole batch and uses those of its share.
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
from trickzoo.errors import BadCheckpoint, BadData, NotWritten, StoppedByOtherProcess, TrickzooError
from trickzoo.recipes.collection import AnyRecipe, plain
from trickzoo.training import checkpoint, draws, stopping, tracking
from trickzoo.training.progress import Outcome, Progress
from trickzoo.training.shares import PROCESS, Shares, seed_of
from trickzoo.training.stopping import Stopped

log = logging.getLogger("trickzoo")


class Task(ABC):
    """Interface of a task: the network, its images, its loss and its evaluation, as the loop and the job use them.

    Attributes:
        activity: name of the training in result files, such as "fine-tuning".
        measure: name of the figure of `evaluate` that selects the best checkpoint; higher is better.
        recipe: recipe of the training, which checkpoints store.
        model: network to train. The loop moves it to the device.
        shares: assignment of the images of each step to processes and micro-batches.
        data_digest: digest of the training images and their labels.
        val_digest: digest of the validation images and their labels; None if there are no validation images.
        average: network that holds the averaged weights, which checkpoints store too; None if the recipe does not average weights.
        weights_sha256: SHA-256 of the weight file that the model started from; None if it started from scratch.
        teacher_sha256: SHA-256 of the weight file of the teacher network; None if the training does not distil.
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
        """Digests of the inputs that the outcome depends on besides the recipe and the seed, as arguments of `checkpoint.check`."""
        return {name: getattr(self, name) for name in ("data_digest", "val_digest", "weights_sha256", "teacher_sha256")}

    @abstractmethod
    def optimiser(self) -> torch.optim.Optimizer:
        """Build the optimiser of the model, which is on its device already.

        The loop sets the learning rate of each parameter group to that of the step, times the group's "factor" if it has one.
        """

    @abstractmethod
    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a 0-based step."""

    @abstractmethod
    def batches(self, first_step: int) -> Iterator[Any]:
        """Yield the micro-batches of this process, from the 0-based `first_step` to the end of its epoch or of a later one.

        The loop calls it again if there are steps left. Going on over the end of an epoch keeps worker processes and what they have read.
        """

    @abstractmethod
    def loss(self, net: nn.Module, batch: Any) -> Tensor:
        """Return the mean loss of a micro-batch, a scalar. `net` is the model, wrapped for several processes and for the precision."""

    def stepped(self, step: int) -> None:  # noqa: B027, most tasks have nothing to do here
        """Do what the task has to do after each step of the optimiser. `step` is 0-based."""

    def metadata(self) -> dict[str, str]:
        """Return the header of a weight file of the model. Checkpoints store it too, unless they cannot be loaded as weights."""
        return {}

    @abstractmethod
    def evaluate(self) -> dict[str, Any] | None:
        """Evaluate the model on the validation images, and return the figures in percent. None if there are no validation images.

        Each process evaluates its share of the images, and all return the same figures.
        """

    def finish(self) -> None:  # noqa: B027, most tasks have nothing to do here
        """Do what the task has to do after the last step, before the network is saved."""

    @property
    @abstractmethod
    def data_in_words(self) -> str:
        """Numbers of training images and of classes, such as "9,469 images of 10 classes"."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on the images that the user should read before the training starts, one line each."""
        return ()

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Return what the result file states besides the figures: numbers of images, and digests of data and weights."""

    @abstractmethod
    def save(self, path: Path, training: dict[str, Any]) -> None:
        """Write the network as a weight file. `training` is the description of the training that the header of the file stores."""


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
    """Train a network, or resume the training from `out/last.pt`.

    Args:
        task: the network, its images, its loss and its evaluation.
        out: folder of checkpoints and of `metrics.jsonl`.
        seed: random seed.
        accelerator: device, precision and processes.
        save_every: number of steps between checkpoints; 0 means one at the end of each epoch only, which is written in any case.
        evaluate_every: number of epochs between evaluations. The last epoch always ends with an evaluation.
        stop_after: number of the step after which to return early, without a checkpoint.
        report: called after each step and each evaluation.

    Raises:
        BadCheckpoint: `last.pt` belongs to another training, or is damaged.
        BadData: the loss is not finite (the message names the last good checkpoint), or an image cannot be used.
        NotWritten: the disk refuses a checkpoint or a line of the log.
        Stopped: SIGTERM, SIGINT or SIGHUP arrived; a checkpoint has been written.
        StoppedByOtherProcess: another process raised one of these errors.
    """
    with stopping.handle_signals():
        return _Training(task, out, seed, accelerator, save_every, evaluate_every, report).run(stop_after)


class _Training:
    """A training in progress: its epochs and steps. An error in one process stops all of them, as the module `stopping` describes."""

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
        self.checkpoints = _Checkpoints(task, self.optimiser, out, accelerator, seed)
        self.state = self.checkpoints.resume(self.steps)
        self.batches: Iterator[Any] = iter(())
        self.log_error: TrickzooError | None = None
        """The error that kept this process from writing its log. It is raised where all processes synchronise next."""
        self.metrics: tracking.Metrics | None = None
        try:
            if accelerator.is_main_process:
                self.metrics = tracking.Metrics(out / tracking.METRICS, self.state.step)
        except TrickzooError as error:
            self.log_error = error
        self._raise_log_error()

    def run(self, stop_after: int | None) -> Outcome:
        """Train the remaining epochs."""
        try:
            self._run(stop_after)
        finally:
            self.batches = iter(())  # ends the worker processes
            if self.metrics:
                self.metrics.close()
        self.accelerator.unwrap_model(self.net, keep_fp32_wrapper=False)  # removes the autocast wrapper of the forward method
        return self._outcome()

    def _run(self, stop_after: int | None) -> None:
        state = self.state
        if state.unevaluated:
            self._end_epoch()
        while state.step < self.steps:
            self._epoch(stop_after)
            if state.step == stop_after:
                return
            self._end_epoch()

    def _outcome(self) -> Outcome:
        return Outcome(self.state.evaluation, self.checkpoints.seconds, tuple(self.state.commits))

    def _epoch(self, stop_after: int | None) -> None:
        """Take the remaining steps of an epoch."""
        state = self.state
        if state.step % self.per_epoch == 0:
            state.loss_sum, state.losses = 0.0, 0
        self.net.train()
        while True:
            self._step()
            if state.step == stop_after or state.step % self.per_epoch == 0:
                return
            if self.save_every and state.step % self.save_every == 0:
                self.checkpoints.save(checkpoint.LAST, state)

    def _step(self) -> None:
        """Take an optimiser step on the next batch, and record its loss and learning rate."""
        task, state, shares = self.task, self.state, self.task.shares
        lr = task.learning_rate(state.step)
        for group in self.optimiser.param_groups:
            group["lr"] = lr * group.get("factor", 1)
        # mixup and CutMix draw from the global generators
        draws.seed_generators(seed_of(self.seed, PROCESS, state.step, self.accelerator.process_index), self.accelerator.device)
        values = []
        for part in range(shares.rounds):
            batch = self._next(part)
            with _synchronised(self.net, part == shares.rounds - 1), draws.image_seeds(shares.layer_seeds(state.step, part)):
                value = task.loss(self.net, batch) / shares.rounds
                self.accelerator.backward(value)
            values.append(value.detach())
        loss = self._mean(sum(torch.stack(values).tolist()))  # reading the values once keeps a GPU from waiting for each micro-batch
        if not math.isfinite(loss):
            raise stopping.for_this_process(self._diverged(loss), self.accelerator)
        self.optimiser.step()
        self.optimiser.zero_grad()
        task.stepped(state.step)
        epoch = state.step // self.per_epoch
        state.step += 1
        state.loss_sum, state.losses = state.loss_sum + loss, state.losses + 1
        self._record(Progress(state.step, self.steps, epoch, loss, lr), {"loss": loss, "lr": lr})

    def _next(self, part: int) -> Any:
        """Return the next micro-batch, number `part` of its step.

        Raises, in every process, the error of a process that cannot read its micro-batch, or Stopped if a signal arrived. A checkpoint is
        written first, unless the step is under way.
        """
        batch, error = None, self.log_error
        if error is None:
            try:
                batch = next(self.batches, None)
                if batch is None:
                    self.batches = self.task.batches(self.state.step)
                    batch = next(self.batches)
            except TrickzooError as found:
                error = found
        # one exchange answers both questions, because each exchange makes all processes wait
        if stopping.any_process(error is not None or (part == 0 and stopping.stop_requested()), self.accelerator):
            try:
                stopping.raise_in_all(error, self.accelerator)
            except TrickzooError:
                if self.state.step and part == 0:  # after the first micro-batch, BatchNorm has statistics of an incomplete step
                    with contextlib.suppress(NotWritten, StoppedByOtherProcess):  # a full disk may be the cause of the error
                        self.checkpoints.save(checkpoint.LAST, self.state)
                raise
            self.checkpoints.save(checkpoint.LAST, self.state)
            raise self._stopped()
        return batch

    def _mean(self, loss: float) -> float:
        """Return the mean of a loss over all processes."""
        if self.accelerator.num_processes == 1:
            return loss
        return float(self.accelerator.reduce(torch.tensor(loss, device=self.accelerator.device), "mean").item())

    def _end_epoch(self) -> None:
        """Evaluate if the epoch is due for it, and write the checkpoints.

        `best.pt` is written before `last.pt`: a training that is killed in between resumes from the previous `last.pt`, and
        writes both again.
        """
        state, epoch = self.state, (self.state.step - 1) // self.per_epoch
        if state.step == self.steps or (epoch + 1) % self.evaluate_every == 0:
            self._evaluate(epoch)
        reached = state.evaluation.get(self.task.measure) or 0.0
        if reached > state.best:
            state.best = reached
            self.checkpoints.save(checkpoint.BEST, state)
        self.checkpoints.save(checkpoint.LAST, state)
        self._raise_log_error()
        if state.step < self.steps and stopping.any_process(stopping.stop_requested(), self.accelerator):
            raise self._stopped()

    def _evaluate(self, epoch: int) -> None:
        """Evaluate the model.

        If the evaluation fails or a signal stops it, the checkpoint notes that, and the resumed training begins with this evaluation.
        """
        state = self.state
        _share_buffers(self.task, self.accelerator)
        state.unevaluated = True
        try:
            found = self.task.evaluate()
        except TrickzooError as error:
            self.checkpoints.save(checkpoint.LAST, state)
            if isinstance(error, stopping.Interrupted):
                raise self._stopped() from None
            raise
        state.unevaluated = False
        if found is not None:
            state.evaluation = found
            lr = self.task.learning_rate(state.step - 1)
            self._record(Progress(state.step, self.steps, epoch, state.loss_sum / max(state.losses, 1), lr, found), found)

    def _record(self, progress: Progress, row: dict[str, Any]) -> None:
        """Report progress, and write a line to the log."""
        try:
            self.report(progress)
            if self.metrics:
                self.metrics.write({"step": progress.step, "epoch": progress.epoch, **row})
        except TrickzooError as error:
            self.log_error = error

    def _raise_log_error(self) -> None:
        stopping.raise_in_all(self.log_error, self.accelerator)

    def _stopped(self) -> TrickzooError:
        last = self.checkpoints.out / checkpoint.LAST
        stopped = Stopped(f"stopped at step {self.state.step} of {self.steps}; the same command resumes from {last}")
        return stopping.for_this_process(stopped, self.accelerator)

    def _diverged(self, loss: float) -> BadData:
        step = self.state.step
        return BadData(
            f"the loss is {loss} at step {step} (epoch {step // self.per_epoch}); start again in another --out, with a lower lr or a "
            f"longer warm-up. The last good checkpoint: {self.checkpoints.before(step) or 'none'}"
        )


class _Checkpoints:
    """The checkpoints of a training: writes them, and reads the one that the training resumes from."""

    def __init__(self, task: Task, optimiser: torch.optim.Optimizer, out: Path, accelerator: Accelerator, seed: int) -> None:
        self.task, self.optimiser, self.out, self.accelerator, self.seed = task, optimiser, out, accelerator, seed
        self.started = time.monotonic()
        self.steps: dict[str, int] = {}
        """The step of each checkpoint, by file name, that this run has written or resumed from."""

    @property
    def seconds(self) -> float:
        """Duration of the training so far, including the runs that it was resumed from."""
        return time.monotonic() - self.started

    def save(self, name: str, state: checkpoint.State) -> None:
        """Write a checkpoint in the main process. All processes must call this together.

        Raises NotWritten in the main process and StoppedByOtherProcess in the others if the disk refuses the file.
        """
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
        stopping.raise_in_all(error, self.accelerator)
        self.steps[name] = state.step

    def resume(self, steps: int) -> checkpoint.State:
        """Load `last.pt` into the model and the optimiser, and return its state; return a new state if there is no `last.pt`.

        Raises BadCheckpoint if the file is damaged, belongs to another training, or is beyond the last of the `steps`.
        """
        path = self.out / checkpoint.LAST
        state = checkpoint.State()
        if path.exists():
            content = checkpoint.load(path, self.task.recipe, seed=self.seed, **self.task.identity)
            self._restore(path, content)
            state = checkpoint.State.of(content)
            if not 0 <= state.step <= steps:
                raise BadCheckpoint(f"{path} is at step {state.step} of a training of {steps} steps; name another --out")
            if content.get("draws") != checkpoint.DRAWS:
                log.warning(
                    "%s was written by an older version: from here on, mixup, dropout and sampled boxes use other random numbers", path
                )
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
            own = self.optimiser.state_dict()  # the settings of its groups follow from the recipe, which is the same
            self.optimiser.load_state_dict({**own, "state": self._optimiser_state(content["optimiser"])})
            if scaler is not None and content.get("scaler") is not None:
                scaler.load_state_dict(content["scaler"])
        except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
            first = next(iter(str(error).splitlines()), type(error).__name__)
            raise BadCheckpoint(f"{path} does not fit {task.recipe.model}: {first}; name another --out") from None

    def _optimiser_state(self, saved: dict[str, Any]) -> dict[int, dict[str, Any]]:
        """Return the state of each parameter in a saved optimiser. Raises ValueError unless all its tensors fit the parameters."""
        parameters = [parameter for group in self.optimiser.param_groups for parameter in group["params"]]
        state: dict[int, dict[str, Any]] = saved["state"]
        for index, values in state.items():
            for name, value in values.items():
                tensor = value if isinstance(value, Tensor) and value.layout is torch.strided and not value.is_meta else None
                if value is not None and (tensor is None or tensor.shape != parameters[index].shape):
                    raise ValueError(f"the optimiser's {name} of parameter {index} does not fit the parameter")
        return state

    def before(self, step: int) -> Path | None:
        """Return a checkpoint of an earlier step, or None. A checkpoint of this step holds the weights that gave the non-finite loss."""
        for name in (checkpoint.LAST, checkpoint.BEST):
            if self.steps.get(name) != step and (self.out / name).exists():
                return self.out / name
        return None


def _share_buffers(task: Task, accelerator: Accelerator) -> None:
    """Copy the buffers of the main process, such as BatchNorm statistics, to all processes, so that all evaluate the same network.

    Checkpoints hold the buffers of the main process. DistributedDataParallel would copy them in each forward pass, but in an evaluation the
    processes do not all make the same number of forward passes.
    """
    if accelerator.num_processes > 1:
        for module in (task.model, task.average):
            for buffer in module.buffers() if module is not None else ():
                broadcast(buffer)


def _synchronised(net: nn.Module, last: bool) -> AbstractContextManager[Any]:
    """Return a block in which a backward pass exchanges gradients between processes only if it is the last one of the step."""
    return net.no_sync() if isinstance(net, DistributedDataParallel) and not last else nullcontext()
