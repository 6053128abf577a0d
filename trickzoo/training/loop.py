"""The training loop, which is the same for every task.

Random numbers do not depend on what was drawn before: the order of an epoch follows from (seed, epoch), and everything else in a step from
(seed, step). A training run that was stopped at any step therefore resumes with the results of an uninterrupted one. Each process draws the
numbers of the whole batch and uses those of its share.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from trickzoo.errors import Diverged, NotFinite, NotWritten, StoppedByOtherProcess, TrickzooError
from trickzoo.output_files import BEST, LAST, METRICS
from trickzoo.training import draws, metrics_log, stopping
from trickzoo.training.progress import Outcome, Progress
from trickzoo.training.saving import Checkpoints
from trickzoo.training.shares import PROCESS, seed_of
from trickzoo.training.stopping import Stopped
from trickzoo.training.task import Task

log = logging.getLogger("trickzoo")


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
        BadCheckpoint: `last.pt` belongs to another training run, or is damaged.
        Diverged: the loss, the weights or the outputs are not finite; the message names the last good checkpoint.
        BadData: an image cannot be used.
        NotWritten: a checkpoint or a line of the log cannot be written.
        Stopped: SIGTERM, SIGINT or SIGHUP arrived; a checkpoint has been written.
        StoppedByOtherProcess: another process raised one of these errors.
    """
    with stopping.handle_signals():
        return _Training(task, out, seed, accelerator, save_every, evaluate_every, report).run(stop_after)


class _Training:
    """A training run in progress: its epochs and steps. An error in one process stops all of them, as the module `stopping` describes."""

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
        self.checkpoints = Checkpoints(task, self.optimiser, out, accelerator, seed)
        self.state = self.checkpoints.resume(self.steps)
        self.batches: Iterator[Any] = iter(())
        self.log_error: TrickzooError | None = None
        """The error that kept this process from writing its log. It is raised where all processes synchronise next."""
        self.metrics: metrics_log.Metrics | None = None
        try:
            if accelerator.is_main_process:
                self.metrics = metrics_log.Metrics(out / METRICS, self.state.step)
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
        return Outcome(self.state.evaluation, self.checkpoints.seconds, tuple(self.state.commits))

    def _run(self, stop_after: int | None) -> None:
        state = self.state
        if state.unevaluated:
            self._end_epoch()
        while state.step < self.steps:
            self._epoch(stop_after)
            if state.step == stop_after:
                return
            self._end_epoch()

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
                self.checkpoints.save(LAST, state)

    def _step(self) -> None:
        """Take an optimiser step on the next batch, and record its loss and learning rate."""
        task, state, shares = self.task, self.state, self.task.shares
        lr = task.learning_rate(state.step)
        for group in self.optimiser.param_groups:
            group["lr"] = lr * group.get("factor", 1)
        # mixup and CutMix draw from the global generators
        draws.seed_generators(seed_of(self.seed, PROCESS, state.step, self.accelerator.process_index), self.accelerator.device)
        values, weights = [], []
        for part in range(shares.rounds):
            batch = self._next(part)
            weights.append(task.weight(batch) if shares.divided else 1.0)
            with _synchronised(self.net, part == shares.rounds - 1), draws.image_seeds(shares.layer_seeds(state.step, part)):
                value = task.loss(self.net, batch) * weights[-1] / shares.rounds
                self.accelerator.backward(value)
            values.append(value.detach())
        # reading the values once keeps a GPU from waiting for each micro-batch
        loss, weight = self._mean([sum(torch.stack(values).tolist()), sum(weights) / shares.rounds])
        if weight not in (0.0, 1.0):
            loss /= weight
            self._divide_gradients(weight)
        if not math.isfinite(loss):
            raise self._diverged(f"the loss is {loss}", state.step)
        self.optimiser.step()
        self.optimiser.zero_grad()
        task.stepped(state.step)
        epoch = state.step // self.per_epoch
        state.step += 1
        state.loss_sum, state.losses = state.loss_sum + loss, state.losses + 1
        self._record(Progress(state.step, self.steps, epoch, self.task.recipe.epochs, loss, lr), {"loss": loss, "lr": lr})

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
                        self.checkpoints.save(LAST, self.state)
                raise
            self.checkpoints.save(LAST, self.state)
            raise self._stopped()
        return batch

    def _divide_gradients(self, weight: float) -> None:
        """Divide the gradients by the mean weight of the micro-batches, so that they are those of the mean over the whole batch."""
        for group in self.optimiser.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad.div_(weight)

    def _mean(self, values: list[float]) -> list[float]:
        """Return the means of values over all processes."""
        if self.accelerator.num_processes == 1:
            return values
        return self.accelerator.reduce(torch.tensor(values, device=self.accelerator.device), "mean").tolist()

    def _end_epoch(self) -> None:
        """Evaluate if the epoch is due for it, and write the checkpoints.

        `best.pt` is written before `last.pt`: a training run that is killed in between resumes from the previous `last.pt`, and
        writes both again.
        """
        state, epoch = self.state, (self.state.step - 1) // self.per_epoch
        if stopping.any_process(not _is_finite(self.task), self.accelerator):  # the next loss would show it, but there may be none
            raise self._diverged("the weights are not finite", state.step - 1)
        state.unevaluated = False
        if state.step == self.steps or (epoch + 1) % self.evaluate_every == 0:
            self._evaluate(epoch)
        reached = state.evaluation.get(self.task.measure) or 0.0
        if reached > state.best:
            state.best = reached
            self.checkpoints.save(BEST, state)
        self.checkpoints.save(LAST, state)
        self._raise_log_error()
        if state.step < self.steps and stopping.any_process(stopping.stop_requested(), self.accelerator):
            raise self._stopped()

    def _evaluate(self, epoch: int) -> None:
        """Evaluate the model.

        If the evaluation fails or a signal stops it, the checkpoint notes that, and the resumed training run begins with this evaluation.
        Outputs that are not finite are an error only after the last step: statistics of BatchNorm may not have settled before.
        """
        state = self.state
        _share_buffers(self.task, self.accelerator)
        state.unevaluated = True
        try:
            found = self.task.evaluate()
        except NotFinite:  # in all processes, because it is found in the outputs of all
            if state.step == self.steps:
                raise self._diverged("the outputs of the network are not finite", state.step - 1) from None
            state.unevaluated = False
            if self.accelerator.is_main_process:
                log.warning("the outputs of the network are not finite after epoch %d, which therefore has no metrics", epoch + 1)
            return
        except TrickzooError as error:
            self.checkpoints.save(LAST, state)
            if isinstance(error, stopping.Interrupted):
                raise self._stopped() from None
            raise
        state.unevaluated = False
        if found is not None:
            state.evaluation = found
            lr = self.task.learning_rate(state.step - 1)
            loss = state.loss_sum / max(state.losses, 1)
            self._record(Progress(state.step, self.steps, epoch, self.task.recipe.epochs, loss, lr, found), found)

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
        last = self.checkpoints.out / LAST
        stopped = Stopped(f"stopped at step {self.state.step} of {self.steps}; the same command resumes from {last}")
        return stopping.for_this_process(stopped, self.accelerator)

    def _diverged(self, what: str, step: int) -> TrickzooError:
        """Return the error for a network that is not usable after, or in, a 0-based step."""
        diverged = Diverged(
            f"{what} at step {step} (epoch {step // self.per_epoch}); start again in another --out, with a lower lr or a longer warm-up. "
            f"The last good checkpoint: {self.checkpoints.before(self.state.step) or 'none'}"
        )
        return stopping.for_this_process(diverged, self.accelerator)


def _is_finite(task: Task) -> bool:
    """Return whether all weights and statistics of the network, and of its average, are finite."""
    networks = (task.model, task.average) if task.average is not None else (task.model,)
    return all(bool(value.isfinite().all()) for network in networks for value in network.state_dict().values())


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
