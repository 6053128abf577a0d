"""The commands of `trickzoo`; weights, help, evaluation and prediction have a test file each."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import trickzoo
from tests.commands import Call, caller
from trickzoo.cli import evaluation, finetune, train
from trickzoo.cli.common import preprocessing_of
from trickzoo.cli.networks import Preparation, matching
from trickzoo.errors import BadOption
from trickzoo.training.device import on_cpu
from trickzoo.weights import manifest
from trickzoo.weights.loaded import LoadedWeights
from trickzoo.weights.record import Preprocessing


def test_list(call: Call) -> None:
    status, out, _ = call("list", "resnet*_d", "--pretrained")
    assert status == 0
    depths = (18, 34, 50, 101, 152)
    assert [line.split()[0] for line in out.splitlines()] == ["model", *(f"resnet{depth}_d" for depth in depths)]
    status, out, _ = call("list", "--json")
    assert [row["model"] for row in json.loads(out)] == trickzoo.list_models() + trickzoo.list_networks()


def test_describe(call: Call) -> None:
    status, out, _ = call("describe", "resnet18_b")
    assert status == 0
    assert "resnet18 (also resnet18_b)" in out
    assert "11,689,512 parameters" in out
    for name in trickzoo.list_weights("resnet18"):
        assert name in out
    _, out, _ = call("describe", "resnet50_d.gluon_in1k")
    for part in ("79.080", "paper (recalled)", "818a1b1b", "timm/resnet50d.gluon_in1k", "apache-2.0", "zero_gamma"):
        assert part in out
    status, out, _ = call("describe", "resnet50_d", "--json")
    assert json.loads(out)["weights"][0]["source"]
    assert "no weights are published" in call("describe", "resnet34_c")[1]


def test_describe_a_file(call: Call, tmp_path: Path) -> None:
    record = manifest.find("mobilenet_v1_025.tz_imagenette128")
    (source,) = record.sources
    file = str(Path(__file__).parents[1] / str(source.path))
    status, out, _ = call("describe", file)
    assert status == 0
    for part in (
        file,
        "mobilenet_v1_025",
        "10 classes (tench,",
        "centre crop 128",
        f"{record.recipe}, 140 epochs",
        "seed          0",
        source.sha256,
    ):
        assert part in out
    assert json.loads(call("describe", file, "--json")[1])["training"]["seed"] == 0
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    status, _, error = call("describe", str(tmp_path / "other.safetensors"))
    assert (status, error.count("\n")) == (2, 1)
    assert "does not name its model" in error


@pytest.mark.parametrize("recipe", ["my loop", {}, {"name": "mine"}, {"name": "mine", "epochs": "ten"}])
def test_describe_a_file_with_a_training_of_ones_own(recipe: Any, call: Call, tmp_path: Path) -> None:
    model = trickzoo.create("mobilenet_v1_025", num_classes=3)
    trickzoo.export(model, tmp_path / "own.safetensors", training={"recipe": recipe, "seed": 7})
    status, out, _ = call("describe", str(tmp_path / "own.safetensors"))
    assert (status, "seed          7" in out, "recipe" in out) == (0, True, False)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (("list", "vgg*"), 'no model "vgg*"'),
        (("describe", "resnet50_e"), "did you mean resnet50"),
        (("describe", "resnet50_d.gluon"), "did you mean resnet50_d.gluon_in1k"),
        (("weights", "fetch"), "name a weight"),
        (
            ("weights", "fetch", "resnet152"),
            "no weights are published for resnet152; resnet152_b, resnet152_c, resnet152_d, resnet152_s have",
        ),
        (("weights", "fetch", "resnet50_e.*"), 'no weight "resnet50_e.*"'),
        (("weights", "path", "resnet50_d"), "is not on this machine; `trickzoo weights fetch"),
        (("weights", "list", "vgg*"), 'no weight "vgg*"'),
        (("export", "out.pth", "--model", "resnet18"), "connection refused"),
        (("predict", "--model", "resnet18"), "name one image"),
        (("predict", "nowhere.jpg", "--model", "resnet18"), "nowhere.jpg cannot be read (No such file"),
        (("fetch",), 'Unknown command "fetch"'),
    ],
)
def test_mistakes_end_in_one_message_and_status_2(call: Call, tokens: tuple[str, ...], message: str) -> None:
    status, out, err = call(*tokens)
    assert (status, out) == (2, "")
    assert err.startswith("trickzoo: ")
    assert message in err
    assert "Traceback" not in err


def test_a_command_can_run_twice_in_one_process() -> None:
    """Importing a command's module does not replace the program that it belongs to."""
    code = """
import sys
from trickzoo import cli
for words in (["list", "resnet18"], ["weights", "list", "resnet18_d*"]) * 2:
    sys.argv = ["trickzoo", *words]
    try:
        cli.trickzoo()
    except SystemExit as stop:
        assert stop.code == 0
"""
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert out.count("\nresnet18 ") == 2 and out.count("\nresnet18_d.ra2_in1k ") == 2


def test_programs_such_as_trickzoo_train_are_also_commands(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("train") == caller(capsys, train.app)()
    assert call("finetune", "voc", "--task", "detection", "--print-recipe") == caller(capsys, finetune.app)(
        "voc", "--task", "detection", "--print-recipe"
    )
    assert call("eval", "imagenet", "--data", "gone", "--model", "resnet18") == caller(capsys, evaluation)(
        "imagenet", "--data", "gone", "--model", "resnet18"
    )
    assert call("-V")[1] == call("--version")[1] == f"{trickzoo.__version__}\n"


def test_python_m_trickzoo_is_the_command() -> None:
    out = subprocess.run([sys.executable, "-m", "trickzoo", "list", "resnet18"], check=True, capture_output=True, text=True).stdout
    assert out.splitlines()[1].split()[0] == "resnet18"


def test_a_missing_accelerator_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BadOption, match="--device cuda: PyTorch finds no such device; use --device cpu, or auto for the one that it finds"):
        on_cpu("cuda")
    with pytest.raises(BadOption, match='--device must be "auto", "cpu", "cuda" or "mps", not "gpu"'):
        on_cpu("gpu")  # type: ignore[arg-type]
    assert on_cpu("cpu")


def test_creating_a_network_with_weights_imports_no_library_that_it_does_not_need() -> None:
    code = """
import sys, torch
before = {*sys.modules}
import trickzoo
trickzoo.create("mobilenet_v1_025", pretrained="tz_imagenette128")
found = {name.partition(".")[0] for name in sys.modules.keys() - before}
assert not found & {"torchvision", "PIL", "timm", "accelerate", "scipy", "matplotlib", "huggingface_hub", "filelock", "rich"}, found
"""
    subprocess.run([sys.executable, "-c", code], check=True)


MINE = Preprocessing(size=64, crop=0.8, resize=100, interpolation="bilinear", mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))


@pytest.mark.parametrize(
    ("given", "short_side", "size", "interpolation"),
    [
        ({}, 100, 64, "bilinear"),
        ({"interpolation": "bicubic"}, 100, 64, "bicubic"),
        ({"size": 64, "crop": 0.8}, 100, 64, "bilinear"),
        ({"size": 48}, 60, 48, "bilinear"),
        ({"crop": 0.5}, 128, 64, "bilinear"),
        ({"size": 32, "crop": 1.0, "interpolation": "bicubic"}, 32, 32, "bicubic"),
    ],
    ids=str,
)
def test_preparation_options_replace_the_preprocessing_of_the_weights(
    given: dict[str, Any], short_side: int, size: int, interpolation: str, tmp_path: Path
) -> None:
    """The stated short side belongs to the stated size and crop: it stays where only the interpolation is another."""
    model = trickzoo.create("mobilenet_v1_025", num_classes=2)
    model.weights = LoadedWeights("mine", tmp_path, preprocessing=MINE)
    found = preprocessing_of(model, Preparation(**given))
    assert (found.short_side, found.size, found.interpolation) == (short_side, size, interpolation)
    assert (found.mean, found.std) == (MINE.mean, MINE.std)


def test_a_size_that_no_image_can_have(tmp_path: Path) -> None:
    model = trickzoo.create("mobilenet_v1_025", num_classes=2)
    model.weights = LoadedWeights("mine", tmp_path, preprocessing=MINE)
    with pytest.raises(BadOption, match="this preprocessing is not possible: size must be at most 4,096 pixels"):
        preprocessing_of(model, Preparation(size=30_000))


def test_a_path_is_not_taken_for_a_pattern(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for place in ("lr=[0.1,0.2]/model.safetensors", "what?/m*.pth", "[a].safetensors"):
        Path(place).parent.mkdir(exist_ok=True)
        Path(place).touch()
        assert matching([place, str(tmp_path / place), f"./{place}"]) == [place, str(tmp_path / place), f"./{place}"]
    assert matching(["gone/[a].safetensors"]) == ["gone/[a].safetensors"]
    assert "resnet50_d" in matching(["resnet*_d"])
