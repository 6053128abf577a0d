"""The settings of a training run that are not part of its recipe. Importing them does not import torch."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from trickzoo import environment
from trickzoo.data.layouts import is_hub
from trickzoo.errors import BadOption
from trickzoo.files import file_name
from trickzoo.recipes.collection import AnyRecipe
from trickzoo.recipes.ranges import Checked, Count, CountOrZero, Seed
from trickzoo.training.device import Device, on_cpu

if TYPE_CHECKING:
    from accelerate import Accelerator

Tracker = Literal["tensorboard", "wandb", "mlflow", "trackio"]
"""An experiment tracker."""


def default_out(recipe: AnyRecipe, data: Path | str, seed: int) -> Path:
    """Return the folder that a training run writes to if the user names none: runs/TASK-MODEL-DATA-RECIPE-SEED.

    DATA is the name of the folder or file of the images. Path separators and other characters that file names lack become dashes.
    """
    place = str(data) if is_hub(data) else Path(os.path.abspath(data)).name
    parts = (recipe.task, recipe.model, place, recipe.name)
    return Path("runs") / file_name("-".join(re.sub(r"[^\w.+-]+", "-", part).strip("-.") for part in parts if part), f"-{seed}")


@dataclass(frozen=True, kw_only=True)
class Machine(Checked):
    """Settings of a training run that are not part of its recipe. Apart from `seed` and `micro_batch`, they do not change the outcome.

    Attributes:
        out: folder of checkpoints, metrics and weights.
        seed: random seed.
        micro_batch: number of images that a process takes at once; gradients accumulate over the micro-batches of a step. None takes the
            whole share of the process at once.
        workers: number of worker processes; None means one for each core, but at most 32.
        save_every: number of steps between checkpoints; 0 means one at the end of each epoch only, which is written in any case.
        evaluate_every: number of epochs between evaluations. The last epoch always ends with an evaluation.
        device: kind of device to train on; "auto" is an accelerator if there is one, otherwise the CPU.
        tensorboard: whether to write curves for TensorBoard to `out/tensorboard` as well.
        tracker: an experiment tracker that gets the curves too; "tensorboard" is the same as `tensorboard`.

    Raises BadOption for a value out of range, and for a tracker that is not installed.
    """

    out: Path
    seed: Seed = 0
    micro_batch: Count | None = None
    workers: CountOrZero | None = None
    save_every: CountOrZero = 0
    evaluate_every: Count = 1
    device: Device = "auto"
    tensorboard: bool = False
    tracker: Tracker | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tracker is not None and find_spec(self.tracker) is None:
            raise BadOption(f"--tracker {self.tracker}: it is not installed; pip install 'trickzoo[{self.tracker}]'")

    @property
    def external(self) -> str | None:
        """The tracker that runs through accelerate. The curves for TensorBoard are files of the training."""
        return None if self.tracker == "tensorboard" else self.tracker

    @property
    def decoders(self) -> int:
        """Number of decoding processes."""
        from trickzoo.training.processes import default_workers

        return default_workers() if self.workers is None else self.workers

    def accelerator(self, precision: Literal["fp32", "fp16", "bf16"]) -> Accelerator:
        """Return the device, the precision and the processes as accelerate holds them."""
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState

        from trickzoo.training.processes import keep_freed_memory
        from trickzoo.tricks.low_precision import mixed_precision

        environment.commit()  # reads the commit now, because the checkout may change before the training ends
        use_cpu = on_cpu(self.device)
        if use_cpu:
            keep_freed_memory()
        AcceleratorState._reset_state()  # otherwise accelerate refuses another precision than that of an earlier training
        mixed = mixed_precision(precision, accelerator=not use_cpu)
        accelerator = Accelerator(cpu=use_cpu, mixed_precision=mixed, log_with=self.external)
        accelerator.gradient_accumulation_steps = 1  # the loop accumulates; a setting of the launcher would divide its gradients again
        return accelerator
