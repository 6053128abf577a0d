"""Values out of range: one error, whichever way a recipe or a setting is made."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from tests.commands import Call, caller
from trickzoo import tasks
from trickzoo.cli.train import app
from trickzoo.data.location import AnnotatedLocation, ImageLocation
from trickzoo.errors import BadOption, NoEffect
from trickzoo.recipes import collection
from trickzoo.recipes import finetune as recipes
from trickzoo.recipes.finetune import DetectionRecipe, SegmentationRecipe
from trickzoo.recipes.ranges import Range
from trickzoo.recipes.recipe import Augmentation, BaseRecipe, Recipe
from trickzoo.studies import ladder
from trickzoo.studies import transfer as transfer_study
from trickzoo.training.machine import Machine
from trickzoo.training.progress import Progress

BAD: dict[type[Any], list[tuple[dict[str, Any], str]]] = {
    Augmentation: [
        ({"area": (2.0, 1.0)}, "area must be above 0 and at most 1, not 2"),
        ({"area": (0.0, 1.0)}, "area must be above 0 and at most 1, not 0"),
        ({"area": (0.9, 0.5)}, "area must go from low to high, not from 0.9 to 0.5"),
        ({"aspect": (0.0, 1.0)}, "aspect must be above 0, not 0"),
        ({"flip": 7.0}, "flip must be from 0 to 1, not 7"),
        ({"jitter": -3.0}, "jitter must be from 0 to 1, not -3"),
        ({"pca": -0.1}, "pca must be 0 or more, not -0.1"),
        ({"erasing": 1.1}, "erasing must be from 0 to 1, not 1.1"),
    ],
    Recipe: [
        ({"size": 0}, "size must be 1 or more, not 0"),
        ({"eval_size": 0}, "eval_size must be 1 or more, not 0"),
        ({"start_size": 0}, "start_size must be 1 or more, not 0"),
        ({"growth": 0.0}, "growth must be above 0 and at most 1, not 0"),
        ({"crop": 0.0}, "crop must be above 0 and at most 1, not 0"),
        ({"crop": 2.0}, "crop must be above 0 and at most 1, not 2"),
        ({"epochs": 0}, "epochs must be 1 or more, not 0"),
        ({"batch_size": 0}, "batch_size must be 1 or more, not 0"),
        ({"lr": -1.0}, "lr must be above 0, not -1"),
        ({"lr": math.nan}, "lr must be a finite number, not nan"),
        ({"lr": math.inf}, "lr must be a finite number, not inf"),
        ({"momentum": -1.0}, "momentum must be 0 or more and below 1, not -1"),
        ({"momentum": 1.0}, "momentum must be 0 or more and below 1, not 1"),
        ({"weight_decay": -1.0}, "weight_decay must be 0 or more, not -1"),
        ({"warmup_epochs": -1.0}, "warmup_epochs must be 0 or more, not -1"),
        ({"milestones": (30.0, -60.0)}, "milestones must be above 0, not -60"),
        ({"smoothing": 1.0}, "smoothing must be 0 or more and below 1, not 1"),
        ({"mixup": -0.2}, "mixup must be 0 or more, not -0.2"),
        ({"cutmix": -1.0}, "cutmix must be 0 or more, not -1"),
        ({"temperature": 0.0}, "temperature must be above 0, not 0"),
        ({"ema": 1.0}, "ema must be 0 or more and below 1, not 1"),
    ],
    DetectionRecipe: [
        ({"lr": 0.0}, "lr must be above 0, not 0"),
        ({"warmup_steps": -1}, "warmup_steps must be 0 or more, not -1"),
        ({"warmup_start": 2.0}, "warmup_start must be from 0 to 1, not 2"),
        ({"power": -1.0}, "power must be 0 or more, not -1"),
        ({"short": 0}, "short must be 1 or more, not 0"),
        ({"long": 0}, "long must be 1 or more, not 0"),
        ({"flip": -1.0}, "flip must be from 0 to 1, not -1"),
        ({"fpn_channels": 0}, "fpn_channels must be 1 or more, not 0"),
        ({"representation_size": 0}, "representation_size must be 1 or more, not 0"),
        ({"anchors": (0, 16, 32, 64, 128)}, "anchors must be 1 or more, not 0"),
        ({"proposals": 0}, "proposals must be 1 or more, not 0"),
        ({"rois": 0}, "rois must be 1 or more, not 0"),
    ],
    SegmentationRecipe: [
        ({"base": 0}, "base must be 1 or more, not 0"),
        ({"scale": (0.0, 1.0)}, "scale must be above 0, not 0"),
        ({"scale": (2.0, 1.0)}, "scale must go from low to high, not from 2 to 1"),
        ({"crop": 0}, "crop must be 1 or more, not 0"),
        ({"blur": 2.0}, "blur must be from 0 to 1, not 2"),
        ({"short": 0}, "short must be 1 or more, not 0"),
        ({"aux": -1.0}, "aux must be 0 or more, not -1"),
        ({"head_lr": 0.0}, "head_lr must be above 0, not 0"),
    ],
    Machine: [
        ({"seed": -1}, "seed must be from 0 to 4294967295, not -1"),
        ({"micro_batch": 0}, "micro_batch must be 1 or more, not 0"),
        ({"workers": -1}, "workers must be 0 or more, not -1"),
        ({"save_every": -1}, "save_every must be 0 or more, not -1"),
        ({"evaluate_every": 0}, "evaluate_every must be 1 or more, not 0"),
    ],
    ImageLocation: [
        ({"side": 0, "decode": "once"}, "side must be 1 or more, not 0"),
        ({"images": 4, "data": "shapes"}, "images must be 5 or more, not 4"),
    ],
    AnnotatedLocation: [({"images": 0}, "images must be 1 or more, not 0")],
}
FIRST: dict[type[Any], dict[str, Any]] = {
    Augmentation: {},
    Recipe: {"name": "r", "model": "resnet18", "data": "own"},
    DetectionRecipe: {"name": "r", "model": "resnet18", "data": "own"},
    SegmentationRecipe: {"name": "r", "model": "resnet18", "data": "own"},
    Machine: {"out": Path("out")},
    ImageLocation: {"data": "own"},
    AnnotatedLocation: {"layout": "shapes"},
}
CASES = [pytest.param(kind, *case, id=f"{kind.__name__}-{case[0]}") for kind, cases in BAD.items() for case in cases]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs `trickzoo-train`; (exit status, stdout, stderr)."""
    return caller(capsys, app)


@pytest.mark.parametrize(("kind", "change", "message"), CASES)
def test_a_value_out_of_range_is_refused(kind: type[Any], change: dict[str, Any], message: str) -> None:
    with pytest.raises(BadOption) as error:
        kind(**FIRST[kind] | change)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (Augmentation, {"jitter_third": "hew"}, 'jitter_third must be "hue" or "contrast", not "hew"'),
        (Recipe, {"schedule": "cosin"}, 'schedule must be "step" or "cosine", not "cosin"'),
        (Recipe, {"balance": "los"}, 'balance must be "sampler" or "loss", not "los"'),
        (Recipe, {"mixup_form": "papr"}, 'mixup_form must be "paper" or "official", not "papr"'),
        (DetectionRecipe, {"schedule": "stp"}, 'schedule must be "step" or "poly", not "stp"'),
        (Machine, {"device": "gpu"}, 'device must be "auto", "cpu", "cuda" or "mps", not "gpu"'),
        (ImageLocation, {"decode": "twice"}, 'decode must be "once" or "always", not "twice"'),
    ],
)
def test_a_misspelt_choice_is_refused(kind: type[Any], change: dict[str, Any], message: str) -> None:
    with pytest.raises(BadOption) as error:
        kind(**FIRST[kind] | change)
    assert str(error.value) == message


@pytest.mark.parametrize(("kind", "change", "message"), [case for case in CASES if issubclass(case.values[0], BaseRecipe)])
def test_from_text_and_from_files_too(kind: type[Any], change: dict[str, Any], message: str, tmp_path: Path) -> None:
    recipe = kind(**FIRST[kind] | ({"anchors": (8, 16, 32, 64, 128)} if kind is DetectionRecipe else {}))
    text = {name: ",".join(map(str, value)) if isinstance(value, tuple) else str(value) for name, value in change.items()}
    with pytest.raises(BadOption) as error:
        collection.override(recipe, text)
    assert str(error.value) == message
    (tmp_path / "r.json").write_text(json.dumps(collection.to_dict(recipe) | change))
    with pytest.raises(BadOption) as error:
        collection.stored(tmp_path / "r.json", kind)
    assert str(error.value) == f"{tmp_path / 'r.json'}: {message}"


def test_a_field_within_a_field() -> None:
    with pytest.raises(BadOption) as error:
        collection.override(Recipe("r", "resnet18", "own"), {"aspect": "0,1"})
    assert str(error.value) == "aspect must be above 0, not 0"


@pytest.mark.parametrize("kind", list(BAD), ids=lambda kind: kind.__name__)
def test_every_number_has_a_range(kind: type[Any]) -> None:
    """But for stages, of which the model says how many it has, and strides, which are three."""

    def parts(hint: Any) -> set[Any]:
        return {hint}.union(*(parts(each) for each in get_args(hint)))

    assert is_dataclass(kind)
    hints = get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        found = parts(hints[field.name])
        if found & {int, float} and field.name not in ("trainable_stages", "output_stride"):
            assert any(isinstance(each, Range) for each in found), field.name


def test_the_ends_of_the_ranges_are_allowed() -> None:
    Augmentation(area=(1.0, 1.0), aspect=(1.0, 1.0), flip=1.0, jitter=1.0, pca=0.0, erasing=1.0)
    Recipe("r", "resnet18", "own", size=1, crop=1.0, growth=1.0, epochs=1, batch_size=1, momentum=0.0, weight_decay=0.0, milestones=())
    recipes.SMALL_BOXES.but("r", warmup_steps=0, warmup_start=1.0, power=0.0, anchors=None)
    recipes.SMALL_MASKS.but("r", scale=(1.0, 1.0), short=None, aux=0.0)
    Machine(out=Path(), seed=2**32 - 1, micro_batch=1, workers=0, save_every=0, evaluate_every=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"side": 99}, "--side has no effect: "),
        ({"side": 99, "decode": "once", "data": "shapes"}, "--side has no effect: "),
        ({"images": 7}, "--images has no effect: "),
    ],
    ids=str,
)
def test_locations_without_effect_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(NoEffect, match=message):
        ImageLocation(**FIRST[ImageLocation] | options)
    with pytest.raises(NoEffect, match="--images has no effect"):
        AnnotatedLocation("voc", images=7)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (("--lr=-1",), "lr must be above 0, not -1"),
        (("--aspect", "0,1"), "aspect must be above 0, not 0"),
        (("--seed=-1",), "seed must be from 0 to 4294967295, not -1"),
        (("--evaluate-every", 0), "evaluate_every must be 1 or more, not 0"),
        (("--side", 999), "--side has no effect: "),
        (("--images", 7), "--images has no effect: "),
    ],
    ids=str,
)
def test_commands_report_a_value_out_of_range_in_one_line(call: Call, tokens: tuple[Any, ...], message: str, tmp_path: Path) -> None:
    status, out, error = call("--recipe", "own.finetune", "--data", tmp_path / "nowhere", *tokens)
    assert (status, out, len(error.splitlines())) == (2, "", 1)
    assert error.startswith(f"trickzoo: {message}")


@pytest.mark.parametrize(
    ("option", "remedy"), [("--out", "name another place"), ("--cache", "name another folder with --cache, or set TRICKZOO_HOME")]
)
def test_a_place_that_cannot_be_written_is_told_before_images_are_read(
    call: Call, option: str, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trickzoo.classification.open.open_set", lambda *_, **__: pytest.fail("the images were opened"))
    (tmp_path / "file").touch()
    common = ("--recipe", "own.finetune", "--data", tmp_path, "--device", "cpu")
    for place in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/nowhere/below")):
        status, _, error = call(*common, option, place)
        assert (status, len(error.splitlines())) == (2, 1)
        assert f"trickzoo: {place} cannot be written: " in error
        assert f"{tmp_path / 'file'} is a file; {remedy}" in error or place.is_relative_to("/proc")


def test_fine_tuning_and_the_studies_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("classification", "detection", "segmentation"):
        monkeypatch.setattr(f"trickzoo.{package}.open_data", lambda *_: pytest.fail("the images were opened"))
    (tmp_path / "file").touch()
    place = Machine(out=tmp_path / "file", device="cpu")
    branch = transfer_study.Branch(recipes.SMALL_BOXES, AnnotatedLocation("shapes"))
    trunk = transfer_study.Trunk("baseline", 0, "mobilenet_v1_025", tmp_path / "model.safetensors", 50.0)
    for run in (
        lambda: tasks.prepare(branch.recipe, branch.location, place),
        lambda: ladder.run(ladder.plan("own", "mobilenet_v1_025"), ImageLocation(data="own"), place, each=quiet),
        lambda: transfer_study.run(transfer_study.Plan({}, (trunk,), (branch,)), place, each=quiet),
    ):
        with pytest.raises(BadOption, match="file cannot be written: "):
            run()


@contextmanager
def quiet(title: str) -> Iterator[Callable[[Progress], None]]:
    yield lambda progress: None
