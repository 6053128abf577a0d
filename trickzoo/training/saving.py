"""The checkpoints of a training run in progress: when they are written, and how a training run resumes from them."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from trickzoo import environment
from trickzoo.errors import BadCheckpoint, NotWritten, TrickzooError, first_line
from trickzoo.output_files import BEST, LAST
from trickzoo.recipes.collection import to_dict
from trickzoo.training import checkpoint, stopping
from trickzoo.training.task import Task
from trickzoo.wording import count

log = logging.getLogger("trickzoo")


class Checkpoints:
    """The checkpoints of a training run: writes them, and reads the one that the training resumes from."""

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

        Raises NotWritten in the main process and StoppedByOtherProcess in the others if the file cannot be written.
        """
        error: TrickzooError | None = None
        state.seconds = self.seconds
        if self.accelerator.is_main_process:
            task, scaler = self.task, self.accelerator.scaler
            content = {"recipe": to_dict(task.recipe), "seed": self.seed, **task.identity, "metadata": task.metadata()}
            content |= {
                "processes": self.accelerator.num_processes,
                "micro_batch": task.shares.micro,
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

        Raises BadCheckpoint if the file is damaged, belongs to another training run, or is beyond the last of the `steps`.
        """
        path = self.out / LAST
        state = checkpoint.State()
        if path.exists():
            content = checkpoint.load(path, self.task.recipe, seed=self.seed, **self.task.identity)
            self._restore(path, content)
            state = checkpoint.State.of(content)
            if not 0 <= state.step <= steps:
                raise BadCheckpoint(f"{path} is at step {state.step} of a training run of {count(steps, 'step')}; name another --out")
            if content.get("draws") != checkpoint.DRAWS:
                log.warning(
                    "%s was written by an older version: from here on, mixup, dropout and sampled boxes use other random numbers", path
                )
            if state.step < steps:
                self._compare(path, content)
            self.steps[LAST] = state.step
            self.started -= state.seconds
        if (commit := environment.commit()) and commit not in state.commits[-1:]:
            state.commits.append(commit)
        return state

    def _compare(self, path: Path, content: dict[str, Any]) -> None:
        """Warn if the training goes on with other micro-batches, or with another number of processes."""
        if "micro_batch" not in content or "processes" not in content:
            return  # an older version wrote the checkpoint
        before = f"{content['micro_batch']} on {count(content['processes'], 'process')}"
        now = f"{self.task.shares.micro} on {count(self.accelerator.num_processes, 'process')}"
        if before != now:
            log.warning(
                "%s is of a training run with micro-batches of %s, and goes on with %s: the statistics of BatchNorm and the pairs of mixup "
                "depend on them",
                *(path, before, now),
            )

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
            raise BadCheckpoint(f"{path} does not fit {task.recipe.model}: {first_line(error)}; name another --out") from None

    def _optimiser_state(self, saved: dict[str, Any]) -> dict[int, dict[str, Any]]:
        """Return the state of each parameter in a saved optimiser. Raises ValueError unless all its tensors fit the parameters."""
        parameters = [parameter for group in self.optimiser.param_groups for parameter in group["params"]]
        state: dict[int, dict[str, Any]] = saved["state"]
        for index, values in state.items():
            for name, value in values.items():
                tensor = value if isinstance(value, Tensor) and value.layout is torch.strided and not value.is_meta else None
                shape = torch.Size() if name == "step" else parameters[index].shape  # AdamW counts its steps in a scalar
                if value is not None and (tensor is None or tensor.shape != shape):
                    raise ValueError(f"the optimiser's {name} of parameter {index} does not fit the parameter")
        return state

    def before(self, step: int) -> Path | None:
        """Return a checkpoint of an earlier step, or None. A checkpoint of this step holds the weights that gave the non-finite loss."""
        for name in (LAST, BEST):
            if self.steps.get(name) != step and (self.out / name).exists():
                return self.out / name
        return None
