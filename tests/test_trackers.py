"""Experiment trackers, through accelerate's own adapters, with stand-ins for the packages that these call."""

from __future__ import annotations

import json
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import accelerate.tracking
import pytest
from accelerate.utils import LoggerType
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.commands import Call, caller
from tests.training import COSINE, SMALL
from trickzoo.cli.train import app
from trickzoo.errors import BadOption
from trickzoo.training import trackers
from trickzoo.training.machine import Machine
from trickzoo.training.progress import Progress


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs `trickzoo-train`; (exit status, stdout, stderr)."""
    return caller(capsys, app, "--recipe", COSINE)


class Package(ModuleType):
    """A package of a tracker that keeps what it is told. `runs` are the settings of each run, `logged` its values with their steps."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__ = ModuleSpec(name, None)
        self.runs: list[dict[str, Any]] = []
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.settings: dict[str, Any] = {}
        self.finished = 0
        self.broken = ""
        self.config = SimpleNamespace(update=lambda values, **_: self.settings.update(values))  # wandb and trackio
        self.utils = SimpleNamespace(validation=SimpleNamespace(MAX_PARAM_VAL_LENGTH=6000, MAX_PARAMS_TAGS_PER_BATCH=100))  # mlflow
        self.log_params = self.settings.update

    def init(self, **options: Any) -> Any:
        """Start a run, as wandb and trackio do."""
        if self.broken:
            raise RuntimeError(f"{self.broken}\nand more")
        self.runs.append(options)
        return self

    def log(self, values: dict[str, float], step: int) -> None:
        """Keep values, as wandb and trackio do."""
        if step == 5 and self.broken == "later":
            raise OSError("gone")
        self.logged.append((step, values))

    def finish(self) -> None:
        """End the run, as wandb and trackio do."""
        self.finished += 1

    def search_experiments(self, **_: Any) -> list[Any]:
        """No experiment of MLflow is there."""
        return []

    def create_experiment(self, *, name: str, **_: Any) -> str:
        """Return the id of an experiment."""
        return f"of {name}"

    def start_run(self, **options: Any) -> Any:
        """Start a run, as MLflow does."""
        self.init(**options)
        return SimpleNamespace(info=SimpleNamespace(run_id=options["run_id"] or "its-id"))

    def log_metrics(self, values: dict[str, float], step: int) -> None:
        """Keep values, as MLflow does."""
        self.log(values, step)

    end_run = finish


def installed(name: str, monkeypatch: pytest.MonkeyPatch) -> Package:
    """A package that accelerate finds."""
    package = Package(name)
    monkeypatch.setitem(sys.modules, name, package)
    monkeypatch.setattr(accelerate.tracking, "_available_trackers", [LoggerType(name)])
    return package


@pytest.mark.parametrize("name", ["wandb", "mlflow", "trackio"])
def test_a_resumed_training_goes_on_in_its_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = installed(name, monkeypatch)
    machine = Machine(out=tmp_path / "run", tracker=name, device="cpu")  # type: ignore[arg-type]
    for steps, evaluation in ((range(1, 4), None), (range(3, 6), {"top1": 50.0, "n": 20})):
        with trackers.tracked(machine.accelerator("fp32"), name, machine.out, {"lr": 0.1}) as report:
            for step in steps:
                report(Progress(step, 5, 0, 1, 1.5, 0.1))
            if evaluation:
                report(Progress(5, 5, 0, 1, 1.5, 0.1, evaluation))
    first, second = package.runs
    assert [step for step, _ in package.logged] == [1, 2, 3, 3, 4, 5, 5]
    assert package.logged[0][1] == {"training/loss": 1.5, "training/lr": 0.1}
    assert package.logged[-1][1] == {"validation/top1": 50.0}
    assert (package.settings, package.finished) == ({"lr": 0.1}, 2)
    stored = json.loads((machine.out / "tracker.json").read_text())
    if name == "mlflow":
        assert (first["run_id"], second["run_id"], first["run_name"], first["experiment_id"]) == (None, "its-id", "run", "of trickzoo")
    else:
        assert first == second and (first["project"], first["resume"]) == ("trickzoo", "allow")
        assert stored == {"tracker": name, "run": first["id" if name == "wandb" else "name"]}


def test_a_tracker_that_cannot_start_ends_in_a_line_and_one_that_fails_later_in_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    package = installed("wandb", monkeypatch)
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    machine = Machine(out=tmp_path, tracker="wandb", device="cpu")
    package.broken = "no account"
    with (
        pytest.raises(BadOption, match=r"^--tracker wandb: no account$"),
        trackers.tracked(machine.accelerator("fp32"), "wandb", tmp_path, {}),
    ):
        pass
    (tmp_path / "tracker.json").write_text('{"tracker": "wandb", "run": "old"}')
    message = r"no account; to start another run, delete .*tracker\.json$"
    with pytest.raises(BadOption, match=message), trackers.tracked(machine.accelerator("fp32"), "wandb", tmp_path, {}):
        pass
    package.broken = ""
    with trackers.tracked(machine.accelerator("fp32"), "wandb", tmp_path, {}) as report:
        package.broken = "later"
        for step in range(4, 8):
            report(Progress(step, 9, 0, 1, 1.0, 0.1))
    assert (package.runs[0]["id"], package.runs[0]["project"]) == ("old", "mine")
    assert [step for step, _ in package.logged] == [4]
    assert [record.getMessage() for record in caplog.records] == ["wandb failed (gone); the training goes on without it"]


def test_a_training_tells_a_tracker_its_curves(call: Call, colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = installed("trackio", monkeypatch)
    options = ("--data", colours, *SMALL[:4], "--epochs", 1, *SMALL[6:], "--workers", 0, "--device", "cpu", "--out", tmp_path)
    status, _, err = call(*options, "--tracker", "trackio", "--tensorboard")
    assert (status, err) == (0, "")
    result = json.loads((tmp_path / "result.json").read_text())
    assert [step for step, values in package.logged if "training/loss" in values] == list(range(1, 8))
    assert package.logged[-1][1]["validation/top1"] == pytest.approx(result["top1"], abs=1e-3)
    assert (package.settings["lr"], package.settings["seed"], package.finished) == (result["recipe"]["lr"], 0, 1)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("training/loss")] == list(range(1, 8))


def test_a_tracker_that_is_not_installed(call: Call, colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    status, _, err = call("--data", colours, "--out", tmp_path / "run", "--tracker", "mlflow")
    assert (status, err) == (2, "trickzoo: --tracker mlflow: it is not installed; pip install 'trickzoo[mlflow]'\n")
    assert not (tmp_path / "run").exists()
