"""`trickzoo tune`: successive halving over a grid of settings on a part of the training images."""

from __future__ import annotations

import csv
import json
import shlex
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.commands import Call
from tests.studies import Page
from trickzoo.classification.open import open_files
from trickzoo.data.location import ImageLocation
from trickzoo.data.selection import Selection
from trickzoo.errors import BadCheckpoint, BadOption, Diverged
from trickzoo.recipes.collection import find
from trickzoo.studies import tune, tune_report
from trickzoo.training.machine import Machine
from trickzoo.training.progress import Progress
from trickzoo.training.stopping import Stopped

GRID = {"model": ["mobilenet_v1_025"], "pretrained": ["none"], "size": ["32"], "epochs": ["2"], "batch_size": ["8"]}
RATES = ["0.02", "0.001", "1e15"]
"""The last one diverges."""


@contextmanager
def quiet(title: str) -> Iterator[Callable[[Progress], None]]:
    yield lambda progress: None


def plan(**options: Any) -> tune.Plan:
    """A small search, with these options changed."""
    return tune.plan(find("own.finetune"), **{"grid": {**GRID, "lr": RATES}, **options})


def settings(colours: Path, out: Path) -> tuple[ImageLocation, Machine]:
    location = ImageLocation(data=colours, decode="once", cache=colours.with_name("cache"), minival=0.2)
    return location, Machine(out=out, workers=0, device="cpu")


@pytest.fixture(scope="session")
def straight(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small search that was run without a stop."""
    out = tmp_path_factory.mktemp("tune")
    tune.run(plan(), *settings(colours, out), each=quiet)
    return out


def read(plan: tune.Plan, out: Path) -> list[list[tune.Outcome]]:
    """The outcomes of a finished search of two rounds."""
    first = tune.outcomes(plan, out, plan.settings, 0)
    return [first, tune.outcomes(plan, out, [each.setting for each in first if each.result][: plan.survivors(1)], 1)]


def figures(rounds: list[list[tune.Outcome]]) -> Any:
    """What a search found, without times."""
    return [[(each.setting, each.top1, each.failure) for each in outcomes] for outcomes in rounds]


# ---------------------------------------------------------------------------------------------------------------------
# what is run


@pytest.mark.parametrize(
    ("n", "epochs", "rounds", "expected"),
    [
        (2, 20, None, [(2, 20)]),
        (3, 20, None, [(3, 10), (2, 20)]),
        (6, 20, None, [(6, 5), (3, 10), (2, 20)]),
        (9, 40, None, [(9, 10), (5, 20), (3, 40)]),
        (9, 40, 4, [(9, 5), (5, 10), (3, 20), (2, 40)]),
        (9, 3, None, [(9, 2), (5, 3)]),
        (9, 1, None, [(9, 1)]),
        (9, 40, 1, [(9, 40)]),
    ],
)
def test_each_round_has_half_the_settings_and_twice_the_epochs(
    n: int, epochs: int, rounds: int | None, expected: list[tuple[int, int]]
) -> None:
    found = plan(grid={"epochs": [str(epochs)], "lr": [f"{0.01 * (i + 1):g}" for i in range(n)]}, rounds=rounds)
    shown = [(found.survivors(number), found.recipe(found.settings[0], number).epochs) for number in range(found.rounds)]
    assert shown == expected
    assert found.trainings == sum(each for each, _ in expected)
    assert found.epochs == tuple(each * length for each, length in expected)


def test_a_grid_is_every_combination_and_the_schedule_shrinks_with_it() -> None:
    found = plan(
        grid={"schedule": ["step"], "milestones": ["8,16"], "lr": ["0.1", "0.2"], "weight_decay": ["0", "1e-4"], "epochs": ["12", "20"]}
    )
    assert len(found.settings) == 8 and found.fields == ("lr", "weight_decay", "epochs")
    assert found.name(found.settings[1]) == "lr 0.1, weight_decay 0, epochs 20"
    whole = found.settings[1]
    assert found.recipe(whole, found.rounds - 1) == whole
    first = found.recipe(whole, 0)
    assert (first.epochs, first.warmup_epochs, first.milestones) == (5, 0.25, (2.0, 4.0))
    assert found.epochs == (4 * 3 + 4 * 5, 4 * 10, 2 * 20)


def test_without_values_three_rates_are_tried() -> None:
    assert [each.lr for each in plan(grid={"batch_size": ["128"]}).settings] == [0.0067, 0.02, 0.06]  # scaled with the batch
    assert [each.lr for each in plan(grid={"lr": ["0.125"]}).settings] == [0.042, 0.125, 0.38]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"grid": {"smoothing": ["0", "0.1"]}},
            "--smoothing takes one value; the options that take several are --lr, --weight-decay, --epochs",
        ),
        ({"grid": {"lr": ["fast", "0.1"]}}, "recipe field lr"),
        ({"grid": {"lr": ["0.1", "0.10"]}}, "the values give one setting"),
        ({"rounds": 3}, "--rounds must be from 1 to 2 for 3 settings of 2 epochs"),
        ({"grid": {"lr": ["0.1", "0.2"], "epochs": ["40"]}, "rounds": 2}, "--rounds must be from 1 to 1 for 2 settings of 40 epochs"),
    ],
)
def test_searches_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadOption, match=message):
        plan(**options)


def test_the_minival_is_cut_off_from_the_training_images(colours: Path) -> None:
    location, _ = settings(colours, Path())
    whole, val, _, _ = open_files(ImageLocation(data=colours))
    train, minival, selected, _ = open_files(location)
    assert sorted(train.names + minival.names) == sorted(whole.names)
    assert minival.root == whole.root != val.root
    assert {label: minival.strata.count(label) for label in whole.classes} == dict.fromkeys(whole.classes, 3)
    assert selected.facts["minival"]["val_fraction"] == 0.2
    divided = ImageLocation(data=colours / "train", selection=Selection(val_fraction=0.5), minival=0.2)
    _, held, _, _ = open_files(ImageLocation(data=colours / "train", selection=Selection(val_fraction=0.5)))
    assert not {*open_files(divided)[0].names, *open_files(divided)[1].names} & set(held.names)


def test_the_better_half_goes_on_and_what_diverges_is_left_out(straight: Path) -> None:
    first, last = read(plan(), straight)
    assert [each.top1 for each in first] == sorted((each.top1 for each in first), reverse=True)
    assert first[-1].setting.lr == 1e15 and first[-1].failure.startswith("the loss is ")
    assert {each.setting.lr for each in last} == {0.02, 0.001}
    assert all(each.result and each.result.n == 12 and each.result.n_train == 44 for each in last)
    assert sorted(place.name for place in straight.iterdir() if place.is_dir()) == ["round-1", "round-2"]


# ---------------------------------------------------------------------------------------------------------------------
# stops


def test_a_stopped_search_goes_on(straight: Path, colours: Path, tmp_path: Path) -> None:
    @contextmanager
    def stopping(title: str) -> Iterator[Callable[[Progress], None]]:
        def stop(progress: Progress) -> None:
            if "round 2, lr 0.02" in title and progress.step == 3:
                signal.raise_signal(signal.SIGTERM)

        yield stop

    with pytest.raises(Stopped):
        tune.run(plan(), *settings(colours, tmp_path), each=stopping)
    told: list[str] = []
    found = tune.run(plan(), *settings(colours, tmp_path), each=quiet, tell=told.append)
    assert [line for line in told if "round 1" in line and not line.endswith("already finished")] == []
    assert figures(found) == figures(read(plan(), straight))


@pytest.mark.slow
def test_two_jobs_find_what_one_finds(straight: Path, colours: Path, tmp_path: Path) -> None:
    found = tune.run(plan(), *settings(colours, tmp_path), each=quiet, jobs=2)
    assert figures(found) == figures(read(plan(), straight))


def test_a_search_whose_settings_all_diverge_ends_with_the_reason(colours: Path, tmp_path: Path) -> None:
    with pytest.raises(Diverged, match="every training run of round 1 failed; the first: the loss is"):
        tune.run(plan(grid={**GRID, "lr": ["1e15", "2e15"]}), *settings(colours, tmp_path), each=quiet)


def test_what_diverged_in_another_search_is_not_left_out(straight: Path, colours: Path, tmp_path: Path) -> None:
    """Its file alone remains, as of a search whose settings all diverged."""
    place = tmp_path / "round-1" / "lr-1e+15"
    place.mkdir(parents=True)
    shutil.copyfile(straight / "round-1" / "lr-1e+15" / tune.FAILED, place / tune.FAILED)
    with pytest.raises(BadCheckpoint, match=r"failed.json has another recipe: batch_size is 8 there, 4 here; name another --out"):
        tune.run(plan(grid={**GRID, "lr": RATES, "batch_size": ["4"]}), *settings(colours, tmp_path), each=quiet)
    with pytest.raises(BadCheckpoint, match=r"failed.json belongs to another training run: its seed is 0, not 1"):
        tune.run(plan(seed=1), *settings(colours, tmp_path), each=quiet)


def test_a_record_of_a_failure_without_its_reason_is_damaged(tmp_path: Path) -> None:
    some = plan(grid={**GRID, "lr": ["1e15", "2e15"]})
    place = tune.folder(tmp_path, some, some.settings[0], 0)
    place.mkdir(parents=True)
    for text in ("{}", "[]", '{"error": 1}', '{"error": ""}'):
        (place / tune.FAILED).write_text(text)
        with pytest.raises(BadCheckpoint, match=r"failed\.json does not say why a training run could not go on; move it away"):
            tune.outcomes(some, tmp_path, some.settings, 0)


# ---------------------------------------------------------------------------------------------------------------------
# the result


def outcome(plan: tune.Plan, number: int, index: int, top1: float, out: Path, straight: Path) -> tune.Outcome:
    """An outcome with this accuracy on 400 images."""
    setting = plan.settings[index]
    found = json.loads((straight / "round-2" / "lr-0.02" / "result.json").read_text()) | {"top1": top1, "n": 400}
    place = out / f"{number}-{index}-{top1}"
    place.mkdir()
    (place / "result.json").write_text(json.dumps(found))
    result = tune.read(place / "result.json", tune.ClassifierResult)
    return tune.Outcome(setting, plan.recipe(setting, number).epochs, result, "", place)


def test_findings_say_what_is_best_and_how_sure_that_is(straight: Path, tmp_path: Path) -> None:
    two = plan(grid={**GRID, "lr": ["0.01", "0.02", "0.03"]})
    rounds = [
        [outcome(two, 0, i, 50, tmp_path, straight) for i in range(3)],
        [outcome(two, 1, 1, 81.5, tmp_path, straight), outcome(two, 1, 2, 80, tmp_path, straight)],
    ]
    text = " ".join(tune_report.findings(two, rounds))
    assert text.startswith("The best setting is lr 0.02: top-1 81.50 % of 400 images (95 % CI 77.40 to 85.00) after 2 epochs.")
    assert "It is 1.50 points better than the second, lr 0.03." in text and "of the grid" not in text and "largest class" not in text
    assert "The accuracy above tends to be too high, because it is the best of several." in text
    for each, right in ((rounds[1][0], "aaab"), (rounds[1][1], "aabb")):
        rows = "".join(f"{i}.jpg,a,{letter}\n" for i, letter in enumerate(right))
        (each.place / "predictions.csv").write_text(f"image,class,top1\n{rows}")
    text = " ".join(tune_report.findings(two, rounds))
    assert "McNemar's exact p 1.000): the difference on these images is not significant at 0.05." in text
    poor = [rounds[0], [outcome(two, 1, 1, 27, tmp_path, straight), *rounds[1][1:]]]
    assert "not significantly more than the share of the largest class, 25.00 %" in " ".join(tune_report.findings(two, poor))
    best_is_last = [rounds[0], [outcome(two, 1, 0, 90, tmp_path, straight), rounds[1][0]]]
    assert "Its learning rate is the lowest of the grid; a lower one may be better still, such as --lr 0.01,0.0033." in " ".join(
        tune_report.findings(two, best_is_last)
    )


def test_equal_settings_do_not_depend_on_the_order_of_the_values(straight: Path, tmp_path: Path) -> None:
    found = json.loads((straight / "round-2" / "lr-0.02" / "result.json").read_text())
    for rates in (["0.01", "0.02", "0.03"], ["0.03", "0.02", "0.01"]):
        three = plan(grid={**GRID, "lr": rates})
        for setting, top1 in zip(sorted(three.settings, key=lambda each: each.lr), (80, 80, 70), strict=True):
            place = tune.folder(tmp_path, three, setting, 1)
            place.mkdir(parents=True, exist_ok=True)
            (place / "result.json").write_text(json.dumps(found | {"top1": top1}))
        outcomes = tune.outcomes(three, tmp_path, three.settings, 1)
        assert [each.setting.lr for each in outcomes] == [0.01, 0.02, 0.03]
        text = " ".join(tune_report.findings(three, [outcomes]))
        assert "The second, lr 0.02, is equally accurate." in text and "of the grid" not in text


def test_the_command_goes_on_and_writes_its_report(call: Call, straight: Path, colours: Path) -> None:
    options = (
        "--model",
        "mobilenet_v1_025",
        "--pretrained",
        "none",
        "--size",
        32,
        "--epochs",
        2,
        "--batch-size",
        8,
        "--lr",
        ",".join(RATES),
    )
    of_machine = ("--workers", 0, "--device", "cpu", "--cache", colours.with_name("cache"), "--out", straight)
    status, text, _ = call("tune", "--data", colours, *options, *of_machine)
    assert status == 0 and text.count("already finished") == 5
    assert "5 training runs of 7 epochs in all, as long as 3.5 training runs of 2 epochs" in text
    content = json.loads((straight / "tune.json").read_text())
    best = read(plan(), straight)[1][0].setting
    assert content["best"] == {"lr": best.lr} and content["recipe"]["lr"] == best.lr
    command = text.splitlines()[-1]
    assert command == content["command_of_the_best"]
    words = shlex.split(command)
    assert words[:6] == ["trickzoo", "train", "--recipe", "own.finetune", "--data", str(colours)]
    assert words[words.index("--lr") + 1] == f"{best.lr:g}"
    assert call(*words[1:], "--print-recipe")[0] == 0
    rows = list(csv.DictReader((straight / "tune.csv").open()))
    assert [row["result"] for row in rows if row["round"] == "2"] == ["best", ""]
    assert sum(row["result"] == "goes on" for row in rows) == 2
    page = (straight / "report.html").read_text(encoding="utf-8")
    table = Page(page).rows
    assert ["1", "1e+15", "1", "–", "–", "–", read(plan(), straight)[0][-1].failure] in table
    assert f"The best setting is lr {best.lr:g}: top-1" in page and "<svg" in page and "round 2, 2 epochs" in page
    shown = json.loads(call("tune", "--data", colours, *options, *of_machine, "--json")[1])
    assert shown["best"] == content["best"]


def test_a_dry_run_says_what_it_takes(call: Call, colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    status, text, _ = call("tune", "--data", colours, "--lr", "0.1,0.2,0.4", "--epochs", "10,20", "--dry-run", "--json")
    found = json.loads(text)
    assert (status, found["trainings"], found["epochs"]) == (0, 11, 21 + 30 + 40)
    assert [each["settings"] for each in found["rounds"]] == [6, 3, 2]
    status, text, _ = call("tune", "--data", colours, "--dry-run")
    assert (status, "runs/tune-resnet50_d-colours" in text, list(tmp_path.iterdir())) == (0, True, [])


def test_what_cannot_be_tuned(call: Call, colours: Path, tmp_path: Path) -> None:
    for words, said in (
        (("--data", "easy_shapes"), "easy_shapes are generated; name a folder of images with --data"),
        (("--data", colours, "--momentum", "0.8,0.9"), "--momentum takes one value"),
        (("--data", colours, "--minival", "1.5"), "minival must be above 0 and below 1, not 1.5"),
        (("--data", tmp_path / "gone"), "gone does not exist"),
        (("--data", colours, "--val-fraction", "0.3", "--dry-run"), "has validation images and cannot be divided; use it without"),
        (("--data", colours, "--temperature", "2"), "--temperature has no effect"),
        (("--data", colours, "--json", "--quiet"), "--json prints the result, and --quiet prints nothing"),
    ):
        status, _, err = call("tune", *words, "--out", tmp_path / "out")
        assert (status, said in err, err.count("\n")) == (2, True, 1), err
