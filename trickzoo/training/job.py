"""A training as it runs on a machine: settings, what is finished, evidence, rehearsal."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from trickzoo import evidence
from trickzoo.recipes.collection import plain
from trickzoo.recipes.ranges import Checked, Count, CountOrZero, Seed
from trickzoo.training import checkpoint, folder, loop, tracking
from trickzoo.training.processes import default_workers, peak_memory
from trickzoo.training.progress import Outcome, Progress
from trickzoo.tricks.low_precision import mixed_precision

RESULT, WEIGHTS = "result.json", "model.safetensors"
KEPT = ("recipe", "seed", "data", "data_digest", "commit", "versions")
"""The part of the evidence that a weight file keeps: enough to train it again."""


@dataclass(frozen=True, kw_only=True)
class Machine(Checked):
    """What any training is run with and its outcome does not depend on, but for the seed.

    Attributes:
        out: folder of checkpoints, metrics and weights.
        micro_batch: images a process takes at once; the rest of its share of the batch is accumulated.
        workers: decoding processes; None is one a core, eight at most.
        save_every: steps between checkpoints, beside the one at each epoch's end; 0 is none.
        evaluate_every: epochs between evaluations; the last epoch always has one.
        tensorboard: whether to write curves to `out/tensorboard` too.
    """

    out: Path
    seed: Seed = 0
    micro_batch: Count | None = None
    workers: CountOrZero | None = None
    save_every: CountOrZero = 0
    evaluate_every: Count = 1
    use_cpu: bool = False
    tensorboard: bool = False

    @property
    def decoders(self) -> int:
        """Decoding processes."""
        return default_workers() if self.workers is None else self.workers

    def accelerator(self, precision: Literal["fp32", "fp16", "bf16"]) -> Accelerator:
        """Device, precision and processes."""
        evidence.commit()  # the code that runs is today's; by the training's end the checkout may be another
        use_cpu = self.use_cpu or not torch.accelerator.is_available()
        AcceleratorState._reset_state()  # it would refuse a precision other than an earlier training's in this process
        accelerator = Accelerator(cpu=use_cpu, mixed_precision=mixed_precision(precision, accelerator=not use_cpu))
        accelerator.gradient_accumulation_steps = 1  # the loop accumulates; a launcher's setting would divide its gradients again
        return accelerator


@dataclass(frozen=True)
class Job:
    """A training with everything built, ready to run."""

    task: loop.Task
    machine: Machine
    accelerator: Accelerator


def run(job: Job, report: Callable[[Progress], None] = lambda progress: None, **also: Any) -> dict[str, Any]:
    """Train, write `model.safetensors`, `log.csv`, `curves.png` and `result.json` into the job's folder, and return the result.

    A training that is finished in that folder is not repeated: its result is returned.

    Args:
        job: what to train.
        report: called after each step and each evaluation.
        also: fields that the result has in addition.

    Raises BadCheckpoint if the folder holds another training, InUse if another run is writing to it, and what `loop.fit` raises.
    """
    task, machine, accelerator = job.task, job.machine, job.accelerator
    if done := finished(machine, task):  # asked before the folder is taken, which may be one that cannot be written
        return done
    with folder.held(machine.out, accelerator):
        return finished(machine, task) or _run(job, report, also)


def _run(job: Job, report: Callable[[Progress], None], also: dict[str, Any]) -> dict[str, Any]:
    task, machine, accelerator = job.task, job.machine, job.accelerator
    with _reporting(machine, accelerator, report) as tell:
        outcome = loop.fit(
            task,
            machine.out,
            seed=machine.seed,
            accelerator=accelerator,
            save_every=machine.save_every,
            evaluate_every=machine.evaluate_every,
            report=tell,
        )
    task.finish()
    found = _evidence(job, outcome, also)
    if accelerator.is_main_process:
        task.save(machine.out / WEIGHTS, {key: found[key] for key in KEPT if key in found})
        tracking.write_log(machine.out)
        tracking.plot_curves(machine.out, f"{task.recipe.name}, seed {machine.seed}", task.measure)
        evidence.write_json(machine.out / RESULT, found)  # the last file: where it is, the training is finished
    return found


def finished(machine: Machine, task: loop.Task) -> dict[str, Any] | None:
    """The result of this very training if it is finished in its folder. Raises BadCheckpoint if another one is."""
    path = machine.out / RESULT
    if not path.exists() or not path.with_name(WEIGHTS).exists():
        return None
    return checkpoint.result(path, task.recipe, seed=machine.seed, **task.identity)


@contextmanager
def _reporting(machine: Machine, accelerator: Accelerator, report: Callable[[Progress], None]) -> Iterator[Callable[[Progress], None]]:
    """Within the block, what the yielded function is told goes to `report`, and to TensorBoard if the settings ask for it."""
    board = machine.tensorboard and accelerator.is_main_process
    with tracking.tensorboard(machine.out / "tensorboard") if board else nullcontext(lambda progress: None) as write:

        def tell(progress: Progress) -> None:
            report(progress)
            write(progress)

        yield tell


def _evidence(job: Job, outcome: Outcome, also: dict[str, Any]) -> dict[str, Any]:
    """What a training found, with everything that its figures depend on, as the result file has it."""
    task = job.task
    figures = {key: round(value, 4) if isinstance(value, float) else value for key, value in outcome.evaluation.items()}
    return {
        "what": f"{task.activity} by {task.recipe.name}",
        **figures,
        **task.identity,
        **task.facts(),
        **also,
        "recipe": plain(task.recipe),
        "seed": job.machine.seed,
        "processes": job.accelerator.num_processes,
        "wall_seconds": round(outcome.seconds, 1),
        **evidence.environment(),
        **({"commit": outcome.commits[-1]} if outcome.commits else {}),
        **({"commits": list(outcome.commits)} if len(outcome.commits) > 1 else {}),
    }


@dataclass(frozen=True)
class Rehearsal:
    """What three steps say of a training: seconds of one, and peak memory in bytes."""

    seconds_per_step: float
    memory: int


def rehearse(job: Job) -> Rehearsal:
    """Take three steps and leave nothing behind."""
    task, accelerator = job.task, job.accelerator
    times: list[float] = []
    with tempfile.TemporaryDirectory() as place:
        loop.fit(
            task,
            Path(place),
            seed=job.machine.seed,
            accelerator=accelerator,
            stop_after=min(3, task.shares.per_epoch),
            report=lambda _: times.append(time.perf_counter()),
        )
    on_gpu = accelerator.device.type == "cuda"
    memory = torch.cuda.max_memory_allocated() if on_gpu else peak_memory()
    return Rehearsal((times[-1] - times[0]) / max(len(times) - 1, 1), memory)
