"""The help of the commands, and the messages for wrong words and options."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from cyclopts import App, ArgumentCollection

from docs.pages.commands import commands
from tests.commands import Call
from trickzoo.cli import usage_errors, zoo
from trickzoo.recipes.collection import override
from trickzoo.recipes.fields import SYNONYMS, described
from trickzoo.recipes.finetune import DetectionRecipe, SegmentationRecipe
from trickzoo.recipes.recipe import Augmentation, Recipe


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
        ("finetune own --imgsz 640", "there is no option --imgsz; did you mean --short?"),
        ("train --initial-checkpoint a.pth", "there is no option --initial-checkpoint; did you mean --pretrained?"),
        ("train --reprob 0.2", "there is no option --reprob; did you mean --erasing?"),
        ("train --epoch 3", "there is no option --epoch; did you mean --epochs?"),
        ("train --resume x", "there is no option --resume; the same command resumes a training run that was stopped"),
        ("finetune voc --Conf 3", "there is no option --Conf (`trickzoo finetune"),
        ("train photos", "no option precedes photos; images are named with --data (`trickzoo train --help`"),
        ("list one two", "no option precedes two (`trickzoo list --help`"),
        ("finetune --data photos", "LAYOUT is missing; own recognises what annotation tools export (`trickzoo finetune --help`"),
        ("train --data", "--data requires an argument"),
        ("finetune own --pretrained none", "there is no option --pretrained; did you mean --weights?"),
        ("train --weights none", "there is no option --weights; did you mean --pretrained?"),
        (
            "train --recipe own.finetune --data photos --model mobilenet_v1_050",
            "have them; --pretrained takes a tag, or none to train from scratch",
        ),
        ("predict https://a.b/c.jpg --model resnet18", "https://a.b/c.jpg is a URL; name a file or folder on this machine"),
        (
            "train --data https://huggingface.co/datasets/a/b",
            "for this repository of the hub, write hf:a/b, or a/b where OWNER/NAME is expected (`trickzoo train",
        ),
        ("predict x --model https://huggingface.co/a/b.c", "for this repository of the hub, write hf-hub:a/b.c"),
        ("predict x --model hf_hub:timm/x", "the weights of that name on the hub are hf-hub:timm/x"),
        ("predict x --model a/b.c", "a/b.c does not exist; the weights of that name on the hub are hf-hub:a/b.c"),
        ("predict x --weights file:///a/b.pth", "is a URL; write /a/b.pth"),
        ("train --data=", "Invalid value for --data: the text is empty; write a value, or leave it out"),
        ("train --recipe own.finetune --out=", "Invalid value for --out: the text is empty"),
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


def test_a_leading_tilde_is_the_home_folder_also_where_shells_leave_it(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert f"trickzoo: {tmp_path}/photos does not exist" in call("train", "--recipe", "own.finetune", "--data=~/photos")[2]
    assert f"trickzoo: {tmp_path}/x.jpg cannot be read" in call("predict", "~/x.jpg", "--model", "resnet18")[2]


def test_every_synonym_leads_to_an_option_that_a_command_has() -> None:
    found = [argument for _, command in commands(zoo) for argument in command.assemble_argument_collection()]
    names = {name.lstrip("-").replace("-", "_") for argument in found for name in argument.names}
    assert {*usage_errors.OPTION_SYNONYMS.values(), *SYNONYMS.values()} <= names
    assert not names & SYNONYMS.keys()


@pytest.mark.parametrize("columns", ["0", "1"])
def test_help_is_printed_on_a_terminal_of_any_width(call: Call, columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert call("list", "--help")[1].startswith("Usage")


@pytest.mark.parametrize(
    ("words", "kinds", "own"),
    [
        ("train", [Recipe], {"data"}),
        ("tune", [Recipe], {"data"}),
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


def test_the_help_of_a_command_is_its_whole_docstring_with_lines_as_long_as_the_terminal(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "2000")
    for names, command in commands(zoo):
        lines = [line.strip() for line in call(*names, "--help")[1].splitlines()]
        paragraphs = [" ".join(paragraph.split()) for paragraph in str(command.default_command.__doc__).split("\n\n")]
        assert [line for line in lines if line in paragraphs] == paragraphs


@pytest.mark.parametrize(
    ("words", "usage"),
    [
        ("predict", "trickzoo predict [OPTIONS] [IMAGES...]"),
        ("list", "trickzoo list [OPTIONS] [PATTERN]"),
        ("weights fetch", "trickzoo weights fetch [NAMES...]"),
        ("split", "trickzoo split [OPTIONS] SOURCE [OUT]"),
        ("export", "trickzoo export --model STR [OPTIONS] OUT"),
    ],
)
def test_the_usage_names_the_arguments_as_their_descriptions_do(call: Call, words: str, usage: str) -> None:
    assert call(*words.split(), "--help")[1].startswith(f"Usage: {usage}\n")


def test_help_states_the_value_of_a_field_in_the_default_recipe(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    for command in ("train", "tune"):
        text = call(command, "--help")[1]
        assert "Number of passes over the training images. Values: 1 or more. [own.finetune: 20]" in text
        assert "Values: hue, contrast. [own.finetune: contrast]" in text
        assert "Weights to start from: tag, model, file or hub reference" in text and "[own.finetune: default]" in text
    text = call("finetune", "--help")[1]
    assert "Values: 1 or more for detection; 1 or more, none for segmentation. [if the recipe states none: 480 or 600]" in text


def test_every_option_of_every_command_has_a_help_text() -> None:
    for names, command in commands(zoo):
        for argument in command.assemble_argument_collection():
            assert argument.parameter.help or not argument.name.startswith("--"), (names, argument.name)


@pytest.mark.parametrize("words", [["train", "--help"], ["eval", "--help", "voc"], ["weights", "fetch", "--al"]])
def test_the_options_of_a_command_are_read_once(call: Call, monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    assembled: list[App] = []
    assemble = App.assemble_argument_collection

    def counted(app: App, **settings: Any) -> ArgumentCollection:
        assembled.append(app)
        return assemble(app, **settings)

    monkeypatch.setattr(App, "assemble_argument_collection", counted)
    call(*words)
    assert len(assembled) == 1


def test_flags_before_and_after_the_command_mean_the_same(call: Call) -> None:
    assert call("--help", "weights", "list") == call("weights", "list", "--help") == call("weights", "-h", "list")
    assert call("weights", "list", "-V") == call("-V")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_has_commands_and_recipe_fields(call: Call, shell: str) -> None:
    status, text, _ = call("completion", shell)
    assert status == 0
    assert "finetune" in text and "warmup-epochs" in text


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
        for words, status in ((["-h"], 0), (["--no-such-option", "x"], 2)):
            try:
                cli.run(app, [*path, *words])
            except SystemExit as stop:
                wanted = status if app in (cli.zoo, cli.evaluation) or not status else stop.code
                assert stop.code == wanted, (path, words, stop.code)
                asked += 1
heavy = {"numpy", "PIL"} & sys.modules.keys()
assert not heavy, heavy
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
trickzoo probe --data . --weights resnet50_e
trickzoo probe --data gone --weights resnet50_d
trickzoo tune --data . --model resnet50_e
trickzoo tune --data gone --lr 0.1,x
trickzoo tune --data gone
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
plans = ("ladder --set shapes --model resnet18_d --dry-run", "tune --data . --dry-run")
for app, words in ((train.app, []), *((cli.zoo, plan.split()) for plan in plans)):
    try:
        cli.run(app, words)
    except SystemExit as stop:
        assert not stop.code, words
assert asked >= 80, asked
heavy = {"torch", "torchvision", "timm", "accelerate", "matplotlib", "scipy"} & sys.modules.keys()
assert not heavy, heavy
'''
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert all(line.startswith("trickzoo: ") for line in done.stderr.splitlines()), done.stderr


@pytest.mark.parametrize("words", [["list"], ["describe", "resnet50_d"], ["predict", "gone.jpg", "--model", "resnet50_e"]], ids=" ".join)
def test_commands_that_open_no_image_import_neither_numpy_nor_pillow(words: list[str]) -> None:
    code = f"""
import sys
from trickzoo import cli
try:
    cli.run(cli.zoo, {words})
except SystemExit as stop:
    assert stop.code in (None, 0, 2), stop.code
print(*sorted({{"numpy", "PIL", "torch"}} & sys.modules.keys()), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == ""
