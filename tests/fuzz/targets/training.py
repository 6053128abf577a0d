"""Targets for files that trainings and studies write and read: checkpoints, results, logs, recipes and summaries."""

from __future__ import annotations

import functools
import io
import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from hypothesis import strategies as st
from msgspec import to_builtins
from torch import Tensor, nn

from tests import studies
from tests.fuzz.check import Target
from tests.fuzz.inputs import NUMBERS, WORDS, damaged, documents, pickles, saved, texts, zips
from tests.studies import simulate
from tests.training import RECIPE
from trickzoo.errors import TrickzooError
from trickzoo.output_files import LAST, METRICS
from trickzoo.recipes import collection
from trickzoo.recipes.collection import to_dict
from trickzoo.recipes.finetune import SMALL_BOXES, SMALL_MASKS, DetectionRecipe, SegmentationRecipe
from trickzoo.studies import ladder_summary, transfer, transfer_summary
from trickzoo.training import checkpoint, loop, metrics_log
from trickzoo.training.shares import Shares
from trickzoo.training.task import Task
from trickzoo.weights import header as headers
from trickzoo.weights import tensors
from trickzoo.weights.pickles import seal_zip


class Tiny(Task):
    """A training of a linear layer that takes milliseconds."""

    measure = "top1"

    def __init__(self) -> None:
        self.recipe, self.data_digest, self.val_digest = RECIPE, "d" * 64, "v" * 64
        torch.manual_seed(0)
        self.model: nn.Module = nn.Linear(2, 1)
        self.average: nn.Module | None = nn.Linear(2, 1)
        self.accelerator = Accelerator(cpu=True)
        self.shares = Shares.of(16, RECIPE, 1, 0, self.accelerator, None)

    def optimiser(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)

    def learning_rate(self, step: int) -> float:
        return 0.01

    def batches(self, first_step: int) -> Iterator[Tensor]:
        return (draws.expand(-1, 2) for _, draws in self.shares.of_epochs(first_step))

    def loss(self, net: nn.Module, batch: Tensor) -> Tensor:
        return net(batch).square().mean()

    def evaluate(self) -> dict[str, Any]:
        return {"top1": 50.0, "top5": 90.0, "n": 4}

    @property
    def data_in_words(self) -> str:
        return "16 pairs of numbers"

    def facts(self) -> dict[str, Any]:
        return {"n": 4}

    def save(self, path: Path, training: dict[str, Any]) -> None:
        path.touch()


def fit(out: Path) -> None:
    """Train, or resume the training in `out`."""
    task = Tiny()
    loop.fit(task, out, seed=0, accelerator=task.accelerator)


def half(out: Path) -> Path:
    """Train for one epoch of two, and return the folder."""
    task = Tiny()
    loop.fit(task, out, seed=0, accelerator=task.accelerator, stop_after=3)
    return out


@functools.cache
def _half() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        return {path.name: path.read_bytes() for path in half(Path(folder)).iterdir() if path.is_file()}


def _content() -> Any:
    return torch.load(io.BytesIO(_half()[LAST]), weights_only=True)


def _folder(folder: Path, name: str, content: bytes) -> Path:
    """Write the files of the stopped training, with `content` in place of the file `name`."""
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    for other, its in (_half() | {name: content}).items():
        (out / other).write_bytes(its)
    return out


def checkpoint_bytes(content: bytes, folder: Path) -> None:
    """A damaged `last.pt`, which is resumed, loaded as weights, and read as a recipe."""
    out = _folder(folder, LAST, content)
    for read in (fit, lambda out: tensors.read_tensors(out / LAST), lambda out: collection.find(str(out / LAST))):
        _refusing(read, out)


def _refusing(read: Any, path: Path) -> None:
    """Call one of several readers of a file. Another reader may accept what it refuses."""
    with suppress(TrickzooError):
        read(path)


def checkpoint_fields(content: bytes, folder: Path) -> None:
    """A `last.pt` with changed fields and a correct digest."""
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return
    out = _folder(folder, LAST, seal_zip(content))
    for read in (fit, lambda out: headers.model_of(out / LAST), lambda out: collection.find(str(out / LAST))):
        _refusing(read, out)


def metrics(content: bytes, folder: Path) -> None:
    """The `metrics.jsonl` of a training that resumes, and the `log.csv` made from it."""
    fit(_folder(folder, METRICS, content))
    metrics_log.write_log(folder / "out")


RESULT = {"recipe": to_dict(RECIPE), "seed": 0, "data_digest": "d", "val_digest": "v", "top1": 1.0, "n": 4, "weights_sha256": None}


def result(content: bytes, folder: Path) -> None:
    """The `result.json` of a finished training."""
    (folder / "result.json").write_bytes(content)
    checkpoint.result(folder / "result.json", RECIPE, seed=0, data_digest="d", val_digest="v")


@functools.cache
def _ladder() -> Any:
    """The summary of a ladder study."""
    with tempfile.TemporaryDirectory() as folder:
        return simulate(Path(folder), {"baseline": [50.0, 51.0], "cosine": [52.0, 53.0]})


def prepare_ladder(folder: Path) -> None:
    simulate(folder, {"baseline": [50.0, 51.0], "cosine": [52.0, 53.0]})
    for place in folder.glob("*-*"):
        (place / "model.safetensors").touch()


def ladder(content: bytes, folder: Path) -> None:
    """The `ladder.json` that a transfer study starts from."""
    (folder / "ladder.json").write_bytes(content)
    branch = transfer.Branch(SMALL_BOXES, None)  # type: ignore[arg-type]
    _ = transfer.plan(folder, (branch,), seeds=1).runs


def ladder_result(content: bytes, folder: Path) -> None:
    """The `result.json` of a training in a ladder study, which its summary reads."""
    (folder / "cosine-1" / "result.json").write_bytes(content)
    ladder_summary.summarise(studies.plan(rungs=("baseline", "cosine"), seeds=2), folder)


def _results() -> Any:
    with tempfile.TemporaryDirectory() as folder:
        prepare_ladder(Path(folder))
        return json.loads((Path(folder) / "cosine-1" / "result.json").read_text())


TRANSFERRED = {
    "task": "detection",
    "backbone": {"rung": "cosine", "seed": 0, "top1": 52.0},
    "measure": "voc_ap50",
    "voc_ap50": 40.0,
    "seed": 0,
    "data_digest": "d",
    "val_digest": "v",
    "recipe": to_dict(SMALL_BOXES),
    "n": 5,
    "n_train": 9,
    "wall_seconds": 3.0,
    "command": "trickzoo transfer",
    "hardware": "CPU",
    "platform": "P",
    "processes": 1,
    "versions": {"torch": "2"},
}


def transfer_result(content: bytes, folder: Path) -> None:
    """The `result.json` of a fine-tuning in a transfer study."""
    path = folder / "detection" / "cosine-0" / "result.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    found = transfer_summary.read(folder, _ladder())
    transfer_summary.summarise(_ladder(), found)


def recipe(content: bytes, folder: Path) -> None:
    """A recipe in a JSON file."""
    path = folder / "recipe.json"
    path.write_bytes(content)
    _refusing(lambda path: collection.find(str(path)), path)
    for kind in (DetectionRecipe, SegmentationRecipe):
        _refusing(lambda path, kind=kind: collection.find_fine_tuning(str(path), kind), path)


def fields(content: bytes, folder: Path) -> None:
    """Fields of a recipe as on the command line: a line `name=text` for each."""
    pairs = [line.split("=", 1) for line in content.decode("utf-8", "replace").splitlines() if "=" in line]
    for first in (RECIPE, SMALL_BOXES, SMALL_MASKS):
        changes = dict(pairs)
        _refusing(lambda _, first=first, changes=changes: collection.override(first, changes), folder)


FIELDS = "epochs=5\nbatch_size=16\nmilestones=3,4\njitter=0\nteacher=none\nlr=.1\narea=0.5,1\nmodel=resnet18\nanchors=8,16\nshort=64\n"

_LAST = st.deferred(lambda: st.one_of(damaged([_half()[LAST]]), zips([_half()[LAST]])))


def _text(tree: Any) -> bytes:
    return json.dumps(tree).encode()


TARGETS = (
    Target("checkpoint bytes", _LAST, checkpoint_bytes, lambda: _half()[LAST]),
    Target("checkpoint fields", st.deferred(lambda: pickles(_content())), checkpoint_fields, lambda: saved(_content())),
    Target("metrics.jsonl", st.deferred(lambda: texts(_half()[METRICS].decode())), metrics, lambda: _half()[METRICS]),
    Target("result.json", documents(RESULT), result, lambda: _text(RESULT)),
    Target(
        "ladder.json", st.deferred(lambda: documents(to_builtins(_ladder()))), ladder, lambda: _text(to_builtins(_ladder())), prepare_ladder
    ),
    Target("ladder result", st.deferred(lambda: documents(_results())), ladder_result, lambda: _text(_results()), prepare_ladder),
    Target("transfer result", documents(TRANSFERRED), transfer_result, lambda: _text(TRANSFERRED)),
    Target(
        "recipe", documents(to_dict(RECIPE), to_dict(SMALL_BOXES), to_dict(SMALL_MASKS), RESULT), recipe, lambda: _text(to_dict(RECIPE))
    ),
    Target("recipe fields", texts(FIELDS, words=(*NUMBERS, *WORDS)), fields, FIELDS.encode),
)
