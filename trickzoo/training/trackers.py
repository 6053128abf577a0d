"""Experiment trackers beside the log of a training run: TensorBoard, and through accelerate Weights & Biases, MLflow and Trackio."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from trickzoo import result_files
from trickzoo.errors import BadOption, TrickzooError, first_line
from trickzoo.files import read_json, writing
from trickzoo.output_files import TRACKER
from trickzoo.training import stopping
from trickzoo.training.measures import metrics
from trickzoo.training.progress import Progress

log = logging.getLogger("trickzoo")

PROJECT = "trickzoo"
"""The name of the project, or of MLflow's experiment, unless WANDB_PROJECT, TRACKIO_PROJECT or MLFLOW_EXPERIMENT_NAME names another."""


@contextmanager
def tensorboard(folder: Path) -> Iterator[Callable[[Progress], None]]:
    """Yield a function that writes progress to `folder` for TensorBoard.

    Raises BadOption if TensorBoard is not installed or the name of the folder is not UTF-8, and NotWritten if a file cannot be written.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise BadOption("TensorBoard is not installed; pip install 'trickzoo[tensorboard]'") from None
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise BadOption(f"{folder}: TensorBoard writes only to folders whose names are UTF-8; name another --out") from None
    writer = None
    complain = threading.excepthook

    def report(p: Progress) -> None:
        nonlocal writer
        with writing(folder):
            if writer is None:  # `purge_step` hides what an interrupted run wrote after its last checkpoint
                writer = SummaryWriter(str(folder), purge_step=p.step)
            if p.evaluation:
                for name, value in metrics(p.evaluation).items():
                    writer.add_scalar(f"validation/{name}", value, p.step)
            else:
                writer.add_scalar("training/loss", p.loss, p.step)
                writer.add_scalar("training/lr", p.lr, p.step)

    def quietly(failed: threading.ExceptHookArgs) -> None:
        if not isinstance(failed.exc_value, OSError):  # the thread of TensorBoard raises an OSError again at the next call, or at `close`
            complain(failed)

    threading.excepthook = quietly
    try:
        yield report
    finally:
        try:
            if writer is not None:
                with writing(folder):
                    writer.close()
        finally:
            threading.excepthook = complain


@contextmanager
def tracked(accelerator: Accelerator, name: str, out: Path, config: dict[str, Any]) -> Iterator[Callable[[Progress], None]]:
    """Yield a function that sends progress to a tracker, from the main process alone.

    A tracker that fails during the training is left with a warning, and the training goes on.

    Args:
        accelerator: the accelerator, which was created with this tracker.
        name: "wandb", "mlflow" or "trackio".
        out: folder of the training, after which a new run is named. A resumed training run continues its run.
        config: what the tracker shows as the configuration.

    Raises BadOption, in all processes, if the tracker cannot be started.
    """
    error: TrickzooError | None = None
    if accelerator.is_main_process:
        try:
            _start(accelerator, name, out, config)
        except TrickzooError as found:
            error = found
    stopping.raise_in_all(error, accelerator)
    failed = False

    def report(p: Progress) -> None:
        nonlocal failed
        found = {f"validation/{key}": value for key, value in metrics(p.evaluation).items()} if p.evaluation else None
        try:
            if not failed:
                accelerator.log(found or {"training/loss": p.loss, "training/lr": p.lr}, step=p.step)
        except Exception as error:  # whatever the tracker raises: a training run does not end because of it
            failed = True
            log.warning("%s failed (%s); the training goes on without it", name, first_line(error))

    try:
        yield report
    finally:
        with contextlib.suppress(Exception):
            for tracker in accelerator.trackers:
                tracker.finish()
        accelerator.trackers.clear()  # otherwise `end_training` finishes them again


def _start(accelerator: Accelerator, name: str, out: Path, config: dict[str, Any]) -> None:
    """Start a run of a tracker, or go on in the run that the folder names."""
    run = _stored(out, name)
    settings: dict[str, dict[str, Any]] = {
        "wandb": {"id": run or secrets.token_hex(4), "name": out.name, "resume": "allow", "dir": str(out)},
        "trackio": {"name": run or f"{out.name}-{secrets.token_hex(2)}", "resume": "allow"},
        "mlflow": {"run_id": run, "run_name": out.name},
    }
    project = os.environ.get(f"{name.upper()}_PROJECT", PROJECT)
    out.mkdir(parents=True, exist_ok=True)
    try:
        accelerator.init_trackers(project, config, {name: settings[name]})
        if name == "mlflow":
            run = accelerator.get_tracker(name).tracker.info.run_id
    except Exception as error:  # whatever the tracker raises: no account, no connection, a setting of its own
        again = f"; to start another run, delete {out / TRACKER}" if run else ""
        raise BadOption(f"--tracker {name}: {first_line(error)}{again}") from None
    result_files.write_json(out / TRACKER, {"tracker": name, "run": run or settings[name].get("id") or settings[name]["name"]})


def _stored(out: Path, name: str) -> str | None:
    """Return the run that the folder names, or None if there is none, or one of another tracker."""
    try:
        found = read_json(out / TRACKER)
        return str(found["run"]) if found["tracker"] == name else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
