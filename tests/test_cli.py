"""The commands of `trickzoo`; evaluation and prediction are in test_evaluation.py."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

import trickzoo
from tests.commands import Call, caller
from tests.hub import Hub
from trickzoo import files
from trickzoo.cli import evaluation, finetune, mistakes, train, zoo
from trickzoo.cli.common import preprocessing_of
from trickzoo.cli.imagenet import _models as models_of
from trickzoo.cli.reference import commands
from trickzoo.errors import BadOption
from trickzoo.files import home
from trickzoo.recipes.collection import override
from trickzoo.recipes.fields import SYNONYMS, described
from trickzoo.recipes.finetune import DetectionRecipe, SegmentationRecipe
from trickzoo.recipes.recipe import Augmentation, Recipe
from trickzoo.training.device import on_cpu
from trickzoo.weights import manifest, pins, publish
from trickzoo.weights.loaded import LoadedWeights
from trickzoo.weights.record import Preprocessing

OURS = "mobilenet_v1_025.tz_imagenette128"
"""A weight that is a file of the package."""


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs `trickzoo`; (exit status, stdout, stderr)."""
    return caller(capsys, zoo)


def test_list(call: Call) -> None:
    status, out, _ = call("list", "resnet*_d", "--pretrained")
    assert status == 0
    depths = (18, 34, 50, 101, 152)
    assert [line.split()[0] for line in out.splitlines()] == ["model", *(f"resnet{depth}_d" for depth in depths)]
    status, out, _ = call("list", "--json")
    assert [row["model"] for row in json.loads(out)] == trickzoo.list_models()


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


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A hub that has mobilenet_v1_025.mine, and a manifest that records it."""
    path = tmp_path / "mine.safetensors"
    publish.export(trickzoo.create("mobilenet_v1_025", num_classes=10, activation="relu6"), path, layout="timm")
    (tmp_path / "manifest.toml").write_text(
        '[[weights]]\nname = "mobilenet_v1_025.mine"\nlayout = "timm"\nclasses = "imagenette"\nlicence = "mit"\n'
        '[weights.preprocessing]\nsize = 32\n[[weights.source]]\nhub = "me/mine"\nfile = "model.safetensors"\n'
    )
    monkeypatch.setenv("TRICKZOO_MANIFEST", str(tmp_path / "manifest.toml"))
    with Hub() as hub:
        hub.add("me/mine", "model.safetensors", path.read_bytes())
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        yield hub


def test_weights_are_fetched_verified_pinned_and_removed(call: Call, hub: Hub, tmp_path: Path) -> None:
    name = "mobilenet_v1_025.mine"
    assert call("weights", "list", "*.mine", "--cached")[1].split() == ["weight", "top-1", "at", "size", "SHA-256", "licence", "here"]
    status, out, _ = call("weights", "fetch", name)
    assert status == 0
    path = Path(out.strip())
    assert path.read_bytes() == (tmp_path / "mine.safetensors").read_bytes()
    assert call("weights", "path", name)[1].strip() == str(path)
    assert call("weights", "list", "*.mine", "--cached")[1].splitlines()[1].split()[0] == name
    assert call("weights", "verify")[1].startswith(f"{name}  right (stated by the hub)  ")
    status, out, _ = call("weights", "lock")
    assert files.digest(path) in out
    assert json.loads(pins.lock_file().read_text())[name]["sha256"] == files.digest(path)
    assert call("weights", "verify")[1].startswith(f"{name}  right (pinned)  ")

    real = path.resolve()
    real.write_bytes(real.read_bytes()[:-1] + b"x")
    status, out, err = call("weights", "verify", name)
    assert (status, out.split()) == (2, [name, "WRONG"])
    assert f"trickzoo weights rm {name}" in err
    assert call("weights", "rm", name)[0] == 0
    assert not path.exists()
    assert "was not on this machine" in call("weights", "rm", name)[1]
    assert call("weights", "fetch", name)[0] == 0


def test_a_weight_by_hand_is_unverified_and_not_pinned(call: Call, hub: Hub, tmp_path: Path) -> None:
    name = "mobilenet_v1_025.mine"
    path = home() / "files" / name / "model.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"a photograph")
    status, out, err = call("weights", "verify", name)
    assert (status, out.split()) == (2, [name, "WRONG"])
    assert f"`trickzoo weights rm {name}`" in err
    path.write_bytes((tmp_path / "mine.safetensors").read_bytes())
    status, out, _ = call("weights", "verify", name)
    assert (status, out.split()) == (0, [name, "unverified", files.digest(path), str(path)])
    status, out, err = call("weights", "lock", name)
    assert (status, out.split()[:2]) == (2, ["0", "pinned"])
    assert f"{name}: put in place by hand" in err
    assert call("weights", "rm", name)[0] == call("weights", "lock", name)[0] == 0


@pytest.mark.parametrize("variable", ["TRICKZOO_HOME", "TRICKZOO_LOCK"])
def test_a_lock_file_that_cannot_be_written_is_named(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(variable, str(tmp_path / "file" if variable == "TRICKZOO_HOME" else tmp_path / "file" / "x.json"))
    status, _, err = call("weights", "lock", OURS)
    assert status == 2
    assert f"{pins.lock_file()} cannot be written (" in err
    assert err.count("\n") == 1


def test_rm_says_what_goes_and_what_stays(call: Call) -> None:
    path = Path(call("weights", "path", OURS)[1].strip())
    assert call("weights", "rm", OURS)[:2] == (0, f"{OURS}: part of the trickzoo installation, not deleted\n")
    assert path.exists()
    other = home() / "files" / "resnet18.tv_in1k" / "model.safetensors"
    other.parent.mkdir(parents=True)
    other.touch()
    assert call("weights", "rm", "resnet18.tv_in1k")[1] == "resnet18.tv_in1k: 1 file deleted\n"


def test_the_size_listed_is_the_files_else_the_records_else_that_of_float32(
    call: Call, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def listed(name: str) -> int:
        (line,) = call("weights", "list", name)[1].splitlines()[1:]
        return int(line.partition(" MB")[0].split()[-1])

    name = "mobilenet_v1_025.mine"
    assert listed(name) == 2
    assert listed(OURS) == 1  # float16
    sized = tmp_path / "sized.toml"
    sized.write_text((tmp_path / "manifest.toml").read_text() + "size = 7_000_000\n")
    monkeypatch.setenv("TRICKZOO_MANIFEST", str(sized))
    assert listed(name) == 7
    by_hand = home() / "files" / name / "model.safetensors"
    by_hand.parent.mkdir(parents=True)
    by_hand.write_bytes(bytes(5_000_000))
    assert listed(name) == 5


def test_export_writes_what_upstream_reads(call: Call, tmp_path: Path) -> None:
    model = timm.create_model("resnet18", num_classes=7).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)  # type: ignore[arg-type]
    state = model.state_dict()
    save_file(state, tmp_path / "timm.safetensors")
    source = ("--model", "resnet18", "--weights", tmp_path / "timm.safetensors")
    ours, back, pickled = tmp_path / "ours.safetensors", tmp_path / "back.safetensors", tmp_path / "back.pth"
    assert call("export", ours, *source)[0] == 0
    assert call("export", back, "--model", "resnet18", "--weights", ours, "--layout", "timm")[0] == 0
    assert call("export", pickled, "--model", "resnet18", "--weights", ours, "--layout", "torchvision")[0] == 0
    for found in (load_file(back), torch.load(pickled, weights_only=True)):
        assert found.keys() == state.keys()
        assert all(torch.equal(found[key], state[key]) for key in state)
    half = tmp_path / "half.safetensors"
    assert call("export", half, "--model", "resnet18", "--weights", ours, "--dtype", "float16")[0] == 0
    assert half.stat().st_size < 0.51 * ours.stat().st_size
    rounded, whole = (trickzoo.create("resnet18", weights=path).state_dict() for path in (half, ours))
    assert all(torch.equal(rounded[key], whole[key].half().to(whole[key])) for key in whole)
    status, _, err = call("export", back, *source)
    assert (status, "exists; name another file, or overwrite it with --overwrite" in err) == (2, True)
    assert call("export", back, *source, "--overwrite")[0] == 0
    assert "must end in .safetensors or .pth" in call("export", tmp_path / "a.bin", *source)[2]
    files = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert files == {"back.pth", "back.safetensors", "half.safetensors", "ours.safetensors", "timm.safetensors"}


@pytest.mark.parametrize(
    ("model", "layout", "message"),
    [
        ("resnet50", "timm", "resnet50 has its stride in the first 1x1; timm's network of that depth has it in the 3x3: name resnet50_b"),
        ("resnet50_d", "torchvision", "does not exist in torchvision; name one of its layouts, trickzoo, timm"),
        ("mobilenet_v1_025", "timm", "this mobilenet_v1_025 has relu, but timm's has relu6"),
    ],
)
def test_export_refuses_what_would_compute_something_else(call: Call, model: str, layout: str, message: str, tmp_path: Path) -> None:
    ours, out = tmp_path / "ours.safetensors", tmp_path / "out.safetensors"
    publish.export(trickzoo.create(model), ours)
    status, _, err = call("export", out, "--model", model, "--weights", ours, "--layout", layout)
    assert status == 2
    assert message in err
    assert not out.exists()


def test_our_own_files_say_what_they_are(tmp_path: Path) -> None:
    record = manifest.find("resnet18.tv_in1k")
    model = trickzoo.create("resnet18")
    model.weights = LoadedWeights("resnet18.tv_in1k", tmp_path, "0" * 64, "imagenet1k", record.preprocessing, record)
    publish.export(model, tmp_path / "ours.safetensors")
    again = trickzoo.create("resnet18", weights=tmp_path / "ours.safetensors").weights
    assert again is not None
    assert (again.preprocessing, again.classes) == (record.preprocessing, "imagenet1k")


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


@pytest.mark.parametrize(
    ("words", "command"),
    [
        ("lis", "trickzoo"),
        ("list --pretraine", "trickzoo list"),
        ("weights fetc", "trickzoo weights"),
        ("weights fetch --al", "trickzoo weights fetch"),
        ("ladder --model resnet18 --seeds three", "trickzoo ladder"),
    ],
)
def test_a_mistake_in_the_words_points_to_the_help_of_its_command(call: Call, words: str, command: str) -> None:
    status, _, err = call(*words.split())
    assert status == 2
    assert err.endswith(f"(`{command} --help` lists the options)\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "train --recipe own.finetune --learning-rate 3",
            "there is no option --learning-rate; did you mean --lr? (`trickzoo train --help`",
        ),
        ("train --img_size=3", "there is no option --img_size; did you mean --size?"),
        ("train --epoch 3", "there is no option --epoch; did you mean --epochs?"),
        ("train --resume x", "there is no option --resume; the same command resumes a training that was stopped"),
        ("finetune voc --Conf 3", "there is no option --Conf (`trickzoo finetune"),
        ("predict x --conf 3", "there is no option --conf; did you mean --threshold?"),
        ("ladder --model resnet18 --teachr x", "there is no option --teachr; did you mean --teacher?"),
        ("train --recipe own.finetune --temperature 3", "--temperature has no effect: it acts only with --teacher; leave it out"),
        ("train --recipe own.finetune --milestones 3", "--milestones has no effect: it acts only with --schedule step; leave it out"),
        ("finetune voc --task segmentation --warmup-start 0.1", "--warmup-start has no effect: it acts only with --warmup-steps"),
        ("eval imagenet --data . --model resnet18 --json --quiet", "--json prints the result, and --quiet prints nothing"),
        ("train --recipe own.finetune --data . --device gpu", 'Invalid value "gpu" for --device'),
    ],
)
def test_what_a_mistaken_option_is_answered(call: Call, words: str, said: str) -> None:
    status, _, err = call(*words.split())
    assert (status, said in err, err.count("\n")) == (2, True, 1), err


def test_every_synonym_leads_to_an_option_that_a_command_has() -> None:
    found = [argument for _, command in commands(zoo) for argument in command.assemble_argument_collection()]
    names = {name.lstrip("-").replace("-", "_") for argument in found for name in argument.names}
    assert {*mistakes.OTHERS.values(), *SYNONYMS.values()} <= names
    assert not names & SYNONYMS.keys()


@pytest.mark.parametrize(
    ("words", "kinds", "own"),
    [
        ("train", [Recipe], {"data"}),
        ("finetune", [DetectionRecipe, SegmentationRecipe], {"data"}),
        ("ladder", [Recipe], {"data", "name", "model", "teacher"}),
        ("transfer", [DetectionRecipe, SegmentationRecipe], {"data", "name", "model", "weights"}),
    ],
)
def test_help_states_every_field_of_the_recipes(
    call: Call, words: str, kinds: list[Any], own: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    text = call(words, "--help")[1]
    for kind in kinds:
        nested = [Augmentation] if kind is Recipe else []
        names = {field.name for each in (kind, *nested) for field in fields(each)} - {"augmentation"}
        assert names == described(kind).keys()
        for name, field in described(kind).items():
            assert len(field.meaning) > 10 and field.meaning.endswith((".", "?")), name
            if name not in own:
                (line,) = [line for line in text.splitlines() if line.startswith(f"│ --{name.replace('_', '-')} ")]
                assert field.meaning[1:] in line
                assert field.values in line


def test_the_default_of_a_field_in_words_is_read_as_that_default() -> None:
    for kind in (Recipe, DetectionRecipe, SegmentationRecipe):
        recipe = kind("mine", "resnet18", "own")
        texts = {name: field.default for name, field in described(kind).items() if field.default and name not in ("aspect", "warmup_start")}
        texts = {name: text for name, text in texts.items() if not (name == "milestones" and text == "none")}
        assert override(recipe, texts) == recipe


def test_the_help_of_a_command_is_its_whole_docstring(call: Call) -> None:
    for names, command in commands(zoo):
        text = " ".join(call(*names, "--help")[1].split())
        assert " ".join(str(command.default_command.__doc__).split()) in text


def test_the_programs_of_their_own_are_commands_too(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
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


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_knows_commands_and_fields(call: Call, shell: str) -> None:
    status, text, _ = call("completion", shell)
    assert status == 0
    assert "finetune" in text and "warmup-epochs" in text


def test_weights_are_listed_as_json(call: Call) -> None:
    found = json.loads(call("weights", "list", "mobilenet_v1_025*", "--json")[1])
    assert {(row["name"], row["here"]) for row in found} >= {(OURS, True)}
    assert set(trickzoo.list_weights("mobilenet_v1_025*")) == {row["name"] for row in found}


def test_an_accelerator_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BadOption, match="--device cuda: PyTorch finds no such device; take --device cpu"):
        on_cpu("cuda")
    assert on_cpu("cpu")


def test_help_and_the_answer_to_a_mistake_never_import_torch() -> None:
    code = '''
import sys
from trickzoo import cli
from trickzoo.cli import finetune, train

def walk(app, path=()):
    names = [name for name in app if not name.startswith("-")]
    yield path
    for name in names:
        yield from walk(app[name], (*path, name))

asked = 0
for app in (cli.zoo, cli.evaluation, train.app, finetune.app):
    for path in walk(app):
        for words, status in ((["--help"], 0), (["-h"], 0), (["--no-such-option", "x"], 2)):
            try:
                cli.run(app, [*path, *words])
            except SystemExit as stop:
                wanted = status if app in (cli.zoo, cli.evaluation) or not status else stop.code
                assert stop.code == wanted, (path, words, stop.code)
                asked += 1
mistakes = """
trickzoo list resnet5
trickzoo describe resnet50_e
trickzoo weights fetch resnet50_d.x
trickzoo weights path vgg
trickzoo predict pyproject.toml --model resnet50_e
trickzoo predict pyproject.toml --model resnet50_d --weights gluon
trickzoo predict gone.jpg --model resnet50_d
trickzoo predict pyproject.toml --weights gone.safetensors
trickzoo predict pyproject.toml --model resnet50_d --top 0
trickzoo export x.pth --model resnet50_d.gluon
trickzoo ladder --model resnet50_e
trickzoo ladder --model resnet50_d --data . --teacher resnet50_e
trickzoo ladder --model resnet50_d --data gone
trickzoo ladder --model resnet50_d --data . --workers -1
trickzoo transfer --checkpoints gone --detection vos
trickzoo-eval imagenet --data . --model resnet50_e
trickzoo-eval imagenet --data . --model gone.safetensors
trickzoo-eval imagenet --data gone --model resnet50_d
trickzoo-eval voc --data . --weights gone.safetensors
trickzoo-train --recipe imagenette128.resnet18_d.mixu
trickzoo-train --recipe imagenette128.resnet18_d.mixup --data . --model resnet18_e
trickzoo-train --recipe imagenette128.resnet18_d.mixup --data . --pretrained gone.pth
trickzoo-train --recipe imagenette128.resnet18_d.mixup --data gone
trickzoo-train --recipe imagenette128.resnet18_d.mixup --data . --micro-batch 0
trickzoo-finetune vos
trickzoo-finetune voc --task detection --data . --model resnet18_e
trickzoo-finetune voc --task detection --data . --weights x.tag
trickzoo-finetune voc --task detection --data gone
"""
apps = {"trickzoo": cli.zoo, "trickzoo-eval": cli.evaluation, "trickzoo-train": train.app, "trickzoo-finetune": finetune.app}
for line in mistakes.splitlines():
    if words := line.split():
        try:
            cli.run(apps[words[0]], words[1:])
        except SystemExit as stop:
            assert stop.code == 2, words
try:
    cli.run(train.app, [])
except SystemExit as stop:
    assert not stop.code
assert asked >= 40, asked
heavy = {"torch", "torchvision", "timm", "accelerate", "matplotlib", "scipy"} & sys.modules.keys()
assert not heavy, heavy
'''
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert all(line.startswith("trickzoo: ") for line in done.stderr.splitlines()), done.stderr


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
        ({"size": 48}, 60, 48, "bilinear"),
        ({"crop": 0.5}, 128, 64, "bilinear"),
        ({"size": 32, "crop": 1.0, "interpolation": "bicubic"}, 32, 32, "bicubic"),
    ],
    ids=str,
)
def test_what_is_said_of_the_images_replaces_what_the_weights_say(
    given: dict[str, Any], short_side: int, size: int, interpolation: str, tmp_path: Path
) -> None:
    """The stated short side belongs to the stated size and crop: it stays where the interpolation alone is another."""
    model = trickzoo.create("mobilenet_v1_025", num_classes=2)
    model.weights = LoadedWeights("mine", tmp_path, preprocessing=MINE)
    found = preprocessing_of(model, **given)
    assert (found.short_side, found.size, found.interpolation) == (short_side, size, interpolation)
    assert (found.mean, found.std) == (MINE.mean, MINE.std)


def test_a_size_that_no_image_can_have(tmp_path: Path) -> None:
    model = trickzoo.create("mobilenet_v1_025", num_classes=2)
    model.weights = LoadedWeights("mine", tmp_path, preprocessing=MINE)
    with pytest.raises(BadOption, match="this preprocessing is not possible: size must be at most 4,096 pixels"):
        preprocessing_of(model, size=30_000)


def test_a_path_is_no_pattern(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for place in ("lr=[0.1,0.2]/model.safetensors", "what?/m*.pth", "[a].safetensors"):
        Path(place).parent.mkdir(exist_ok=True)
        Path(place).touch()
        assert models_of([place, str(tmp_path / place), f"./{place}"]) == [place, str(tmp_path / place), f"./{place}"]
    assert models_of(["gone/[a].safetensors"]) == ["gone/[a].safetensors"]
    assert "resnet50_d" in models_of(["resnet*_d"])
