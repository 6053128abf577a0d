"""The ladder study: its statistics, its stops, what it refuses, and what its report says."""

from __future__ import annotations

import csv
import json
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file
from scipy import stats

from tests.commands import Call, caller
from trickzoo.cli import run, zoo
from trickzoo.data import training as data
from trickzoo.data.shapes import CLASSES, Shapes
from trickzoo.data.training import draw_once
from trickzoo.errors import BadOption, UnknownName
from trickzoo.recipes.collection import plain
from trickzoo.studies import ladder, report, summary
from trickzoo.studies.statistics import estimate, holm
from trickzoo.training import loop
from trickzoo.training.run import Settings

RUNGS = ("baseline", "cosine", "mixup")
FIELDS = {"size": "32", "epochs": "2", "batch_size": "8"}
MODEL = "mobilenet_v1_025"


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs `trickzoo ladder`; (exit status, stdout, stderr)."""
    return caller(capsys, zoo, "ladder", "--model", MODEL)


def plan(**options: Any) -> ladder.Plan:
    return ladder.plan("own", MODEL, **{"seeds": 2, "rungs": RUNGS, "changes": FIELDS, **options})


@contextmanager
def quiet(title: str) -> Iterator[Callable[[loop.Progress], None]]:
    yield lambda progress: None


def settings(folder: Path, out: Path) -> Settings:
    return Settings(folder, out, decode="once", cache=folder.with_name("cache"), workers=0, use_cpu=True)  # other tests read the folder too


@pytest.fixture(scope="session")
def straight(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small study that was run without a stop."""
    out = tmp_path_factory.mktemp("straight")
    ladder.run(plan(), settings(colours, out), each=quiet)
    return out


# ---------------------------------------------------------------------------------------------------------------------
# statistics


def test_estimates_are_students() -> None:
    before, after = np.array([70.1, 71.3, 69.8, 70.9]), np.array([71.0, 71.9, 71.2, 71.1])
    found, wanted = estimate((after - before).tolist()), stats.ttest_rel(after, before)
    assert found.interval == pytest.approx(tuple(wanted.confidence_interval(0.95)))
    assert found.p == pytest.approx(wanted.pvalue)
    by_hand = estimate([1.0, 2.0, 3.0])  # s = 1, t(0.975, 2) = 4.302653
    assert (by_hand.n, by_hand.mean, by_hand.s) == (3, 2.0, 1.0)
    assert by_hand.interval == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5))


def test_without_spread_there_is_no_interval() -> None:
    assert (estimate([70.0]).s, estimate([70.0]).interval, estimate([70.0]).p) == (None, None, None)
    assert (estimate([0.1 + 0.2, 0.3]).s, estimate([0.1 + 0.2, 0.3]).interval) == (0.0, None)
    with pytest.raises(ValueError, match="no values"):
        estimate([])


def test_holms_correction() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


# ---------------------------------------------------------------------------------------------------------------------
# what is run


def test_a_rung_is_compared_with_what_it_adds_to() -> None:
    whole = ladder.plan("imagenette128", "resnet18_d", teacher="resnet50_d", low_precision="bf16")
    bases = {step.rung: step.base for step in whole.steps}
    assert bases["baseline"] is None
    assert (bases["warmup"], bases["mixup"], bases["mixup_distillation"]) == ("linear_scaling", "label_smoothing", "mixup")
    changes = {step.rung: step.changes for step in whole.steps}
    assert changes["linear_scaling"]["batch_size"] == (64, 128)
    assert changes["mixup"] == {"mixup": (0.0, 0.2)}
    assert changes["d"] == {"model": ("resnet18_c", "resnet18_d")}
    assert not any(step.skipped for step in whole.steps)


def test_some_rungs_bring_the_changes_of_those_left_out() -> None:
    _, cosine, mixup = plan().steps
    assert (cosine.base, mixup.base) == ("baseline", "cosine")
    assert mixup.changes == {"smoothing": (0.0, 0.1), "mixup": (0.0, 0.2)}
    assert mixup.skipped == ("+ label smoothing",)
    assert cosine.skipped == ("+ large batch, linear scaling", "+ warm-up", "+ no bias decay")


def test_fields_are_the_baselines() -> None:
    first, last = (step.recipe for step in plan(changes={"epochs": "24", "batch-size": "32", "jitter": "0"}).steps[::2])
    standard = plan(changes={}).steps[0].recipe
    assert (first.epochs, first.batch_size, first.lr, last.batch_size) == (24, 32, standard.lr / 2, 64)
    assert first.milestones == (6, 12, 18)
    assert first.augmentation.jitter == last.augmentation.jitter == 0


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"rungs": ("baseline", "cosin")}, UnknownName, 'no rung "cosin"; did you mean cosine'),
        ({"changes": {"schedule": "cosine"}, "rungs": ()}, BadOption, "rung cosine changes nothing"),
        ({"changes": {"name": "x"}}, BadOption, "leave --name out"),
        ({"changes": {"epoch": "3"}}, BadOption, "did you mean epochs"),
        ({"seeds": 0}, BadOption, "--seeds must be 1 or more"),
    ],
)
def test_plans_that_cannot_be(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        plan(**options)


def test_whole_ladders_come_first() -> None:
    assert [(step.rung, seed) for step, seed in plan().runs] == [(rung, seed) for seed in (0, 1) for rung in RUNGS]


def test_dry_run_lists_what_is_left(call: Call, straight: Path) -> None:
    tokens = ("--rungs", "baseline,cosine,mixup,label_smoothing", "--size", 32, "--epochs", 2, "--batch-size", 8, "--seeds", 2)
    status, text, _ = call(*tokens, "--out", straight, "--dry-run")
    assert status == 0
    assert "4 trainings" not in text
    assert "2 trainings of 2 epochs are left to do" in text
    (line,) = [line for line in text.splitlines() if line.startswith("label_smoothing")]
    assert "smoothing 0 → 0.1" in line
    assert line.count("to do") == 2


# ---------------------------------------------------------------------------------------------------------------------
# stops


def figures(out: Path) -> Any:
    """What a study found, without times."""
    content = summary.summarise(plan(), out)
    return [{key: rung[key] for key in ("rung", "seeds", "top1", "difference", "curves")} for rung in content["rungs"]]


@pytest.mark.parametrize(("step", "message"), [(3, "stopped at step 3 of 6"), (6, "stopped after 2 of 6 trainings")])
def test_a_stopped_study_goes_on(
    call: Call,
    step: int,
    message: str,
    straight: Path,
    colours: Path,
    tmp_path: Path,
) -> None:
    @contextmanager
    def stopping(title: str) -> Iterator[Callable[[loop.Progress], None]]:
        yield lambda p: signal.raise_signal(signal.SIGTERM) if "cosine, seed 0" in title and p.step == step else None

    with pytest.raises(loop.Stopped, match=message):
        ladder.run(plan(), settings(colours, tmp_path), each=stopping)
    assert not (tmp_path / "mixup-0").exists()
    fields = ("--size", 32, "--epochs", 2, "--batch-size", 8)
    common = ("--data", colours, "--rungs", ",".join(RUNGS), *fields, "--seeds", 2, "--out", tmp_path)
    status, text, _ = call(*common, "--workers", 0, "--device", "cpu", "--cache", colours.with_name("cache"))
    assert status == 0
    assert "1/6 baseline, seed 0: there already" in text
    assert "2/6 cosine, seed 0: " + ("top-1" if step == 3 else "there already") in text
    assert text.rstrip().endswith("report.html")
    assert figures(tmp_path) == figures(straight)
    for name in ("cosine-0", "mixup-1"):
        ours, theirs = load_file(tmp_path / name / "model.safetensors"), load_file(straight / name / "model.safetensors")
        assert all(np.array_equal(ours[key], theirs[key]) for key in theirs)


def test_a_finished_study_trains_nothing(straight: Path, colours: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trickzoo.training.run.run", lambda *_: pytest.fail("trained again"))
    ladder.run(plan(), settings(colours, straight), each=quiet)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recipe": plain(plan().steps[0].recipe.but("x", lr=7.0))}, "of another recipe: name is x there"),
        ({"seed": 5}, "its seed is 5, not 0"),
        ({"data_digest": "0"}, "its data is 0, not "),
        ({"val_digest": "0"}, "other validation images"),
        ({"recipe": None}, "not a result file of a training"),
    ],
)
def test_another_training_is_refused(
    change: dict[str, Any],
    message: str,
    call: Call,
    straight: Path,
    colours: Path,
    tmp_path: Path,
) -> None:
    shutil.copytree(straight / "baseline-0", tmp_path / "baseline-0")
    path = tmp_path / "baseline-0" / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    common = ("--rungs", "baseline,mixup", "--size", 32, "--epochs", 2, "--batch-size", 8, "--out", tmp_path)
    status, _, error = call("--data", colours, *common, "--workers", 0, "--cache", colours.with_name("cache"), "--device", "cpu")
    assert status == 2
    assert message in error
    assert len(error.splitlines()) == 1
    assert [place.name for place in tmp_path.iterdir() if place.is_dir() and "-" in place.name] == ["baseline-0"]


def test_a_half_done_training_of_another_recipe_is_refused(call: Call, straight: Path, colours: Path, tmp_path: Path) -> None:
    shutil.copytree(straight / "mixup-1", tmp_path / "mixup-1", ignore=shutil.ignore_patterns("result.json"))
    common = ("--rungs", "baseline,mixup", "--size", 32, "--epochs", 3, "--batch-size", 8, "--out", tmp_path)
    status, _, error = call("--data", colours, *common, "--workers", 0, "--cache", colours.with_name("cache"), "--device", "cpu")
    assert (status, "of another recipe: epochs is 2 there, 3 here" in error) == (2, True)
    assert not (tmp_path / "baseline-0").exists()


def test_what_cannot_be_trained_is_told_before_anything_is(call: Call, colours: Path, tmp_path: Path) -> None:
    place = ("--cache", colours.with_name("cache"), "--out", tmp_path / "out")
    common = ("--data", colours, "--size", 32, "--workers", 0, "--device", "cpu", *place)
    for tokens, message in (
        (("--epochs", 2, "--batch-size", 32), "batch of 64 is larger than the training set of 56"),
        (("--epochs", 2, "--batch-size", 8, "--low-precision", "fp16"), "fp16"),
        (("--epochs", 2, "--batch-size", 8, "--teacher", "resnet5"), "resnet5"),
        (("--epochs", 1, "--batch-size", 8), "warm-up leave nothing of 1 epochs"),
    ):
        status, _, error = call(*common, *tokens)
        assert (status, message in error) == (2, True), error
        assert not (tmp_path / "out").exists()
    assert "name the folder of images with --data" in call()[2]
    assert "leave --data out" in call("--set", "shapes", "--data", colours)[2]
    assert "holds no finished training" in call("--report-only", "--out", tmp_path)[2]


# ---------------------------------------------------------------------------------------------------------------------
# the report


def simulate(out: Path, tops: dict[str, list[float]], **options: Any) -> dict[str, Any]:
    """The summary of a study with these accuracies by seed."""
    study = plan(rungs=tuple(tops), seeds=max(map(len, tops.values())), **options)
    for step in study.steps:
        for seed, top1 in enumerate(tops[step.rung]):
            place = ladder.folder(out, step, seed)
            place.mkdir(parents=True, exist_ok=True)
            found = {
                "top1": top1,
                "n": 2000,
                "n_train": 9000,
                "recipe": plain(step.recipe),
                "seed": seed,
                "data_digest": "d",
                "val_digest": "v",
            }
            made = {
                "wall_seconds": 90.0,
                "command": "trickzoo ladder",
                "hardware": "<2 × CPU>",
                "platform": "P",
                "processes": 1,
                "commit": "c0ffee+",
            }
            (place / "result.json").write_text(json.dumps({**found, **made, "versions": {"torch": "2"}}))
            rows = [{"step": epoch, "epoch": epoch, "top1": top1 - 10 + 5 * epoch} for epoch in range(3)]
            (place / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return summary.summarise(study, out)


TOPS = {
    "baseline": [70.0, 71.0, 70.4],
    "warmup": [70.3, 70.8, 70.6],
    "no_bias_decay": [69.0, 69.6, 69.3],
    "cosine": [73.1, 73.6, 73.3],
    "mixup": [73.9, 74.5, 74.3],
}


def test_findings_claim_no_more_than_the_intervals(tmp_path: Path) -> None:
    content = simulate(tmp_path, TOPS)
    rungs = {rung["rung"]: rung for rung in content["rungs"]}
    for rung in list(TOPS)[1:]:
        wanted = stats.ttest_rel(TOPS[rung], TOPS[rungs[rung]["base"]])
        assert rungs[rung]["difference"]["interval"] == pytest.approx(list(wanted.confidence_interval(0.95)))
        low, high = rungs[rung]["difference"]["interval"]
        assert rungs[rung]["difference"]["verdict"] == ("helped" if low > 0 else "hurt" if high < 0 else "not told from noise")
    total, helped, hurt, unclear, looks, _ = content["findings"]
    assert total.startswith("All tricks together raise top-1 accuracy by 3.77 points, from 70.47 % to 74.23 % (95 % interval +3.")
    assert "cosine decay (+4.03), mixup (+0.90)" in helped
    assert "no bias decay (−1.27)" in hurt
    assert "warm-up (+0.10)" in unclear
    assert "4 looks" in looks
    assert "Holm's correction" in looks


@pytest.mark.parametrize(
    ("tops", "sentence"),
    [
        ({"baseline": [70.0], "mixup": [72.0]}, "by +2.00 points, from 70.00 % to 72.00 %, in one training of each. One says nothing"),
        ({"baseline": [70.0, 70.5], "mixup": [72.0, 72.5]}, "alike for all 2 seeds"),
        ({"baseline": [70.0, 72.0], "mixup": [71.0, 72.1]}, "make no difference that can be told from noise"),
        ({"baseline": [74.0, 74.1, 74.2], "mixup": [71.0, 71.2, 71.1]}, "All tricks together lower top-1 accuracy by 3.00 points"),
        ({"baseline": [70.0, 70.1, 70.2], "cosine": [71.0, 71.2, 71.1]}, "The steps from baseline to cosine decay together raise"),
        ({"baseline": [70.0, 70.1, 70.2], "mixup": [71.0, 71.11]}, "raise top-1 accuracy by 1.00 points (95 %"),
    ],
)
def test_the_first_sentence(tops: dict[str, list[float]], sentence: str, tmp_path: Path) -> None:
    assert sentence in simulate(tmp_path, tops)["findings"][0]


class Page(HTMLParser):
    """Cells of the tables, visible text, and every address that the page refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.text, self.addresses, self.inside = "", [], False
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attributes if name in ("src", "href", "xlink:href", "srcset", "data")]
        assert tag not in ("script", "link", "iframe", "img", "object")
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.inside = True
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, text: str) -> None:
        self.text += text
        if self.inside:
            self.rows[-1][-1] += text


def test_every_figure_of_the_report_is_the_jsons(tmp_path: Path) -> None:
    path = report.write_ladder(simulate(tmp_path, TOPS), tmp_path)
    content, page = json.loads((tmp_path / "ladder.json").read_text()), Page(path.read_text(encoding="utf-8"))
    for finding in content["findings"]:
        assert finding in page.text
    rows = page.rows[1 : 1 + len(content["rungs"])]
    for row, rung in zip(rows, content["rungs"], strict=True):
        top1, difference = rung["top1"], rung["difference"]
        wanted = [top1["mean"], *top1["interval"], top1["s"], top1["n"]]
        if difference:
            wanted += [difference["mean"], *difference["interval"], difference["p"], difference["p_holm"]]
        wanted.append(sum(rung["wall_seconds"]) / len(rung["wall_seconds"]) / 60)
        shown = [float(number.replace("−", "-")) for number in re.findall(r"[+−]?\d+\.?\d*", " ".join(row[1:]))]
        assert row[0].startswith(rung["title"])
        assert shown == pytest.approx(wanted, abs=0.0051)
        assert ("helped" in row[5], "hurt" in row[5]) == (rung["rung"] in ("cosine", "mixup"), rung["rung"] == "no_bias_decay")
    seeds = page.rows[2 + len(content["rungs"]) :]
    assert [[float(cell) for cell in row[1:]] for row in seeds] == list(TOPS.values())
    for part in ("<2 × CPU>", "c0ffee+", "with changes", "last epoch", "mixup 0 → 0.2", "no epoch was chosen"):
        assert part in page.text


def test_the_report_needs_nothing_else(tmp_path: Path) -> None:
    text = report.write_ladder(simulate(tmp_path, TOPS), tmp_path).read_text(encoding="utf-8")
    assert [address for address in Page(text).addresses if not address.startswith("#")] == []
    assert not re.findall(r"@import|url\((?!#)", text)
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert "prefers-color-scheme: dark" in text
    assert {file.name for file in tmp_path.iterdir() if file.is_file()} == {
        *("ladder.json", "ladder.csv", "ladder.png", "ladder.svg", "report.html")
    }
    with Image.open(tmp_path / "ladder.png") as image:
        assert image.width > 1000


def test_the_table_as_csv(tmp_path: Path) -> None:
    content = simulate(tmp_path, TOPS | {"mixup": [73.9, 74.5]})
    report.write_ladder(content, tmp_path)
    rows = list(csv.DictReader((tmp_path / "ladder.csv").open()))
    assert [float(row["top1_mean"]) for row in rows] == pytest.approx([rung["top1"]["mean"] for rung in content["rungs"]])
    assert (rows[0]["difference_mean"], rows[-1]["top1_seed_2"], rows[-1]["difference_n"]) == ("", "", "2")
    assert float(rows[-1]["difference_high"]) == pytest.approx(content["rungs"][-1]["difference"]["interval"][1])
    assert "not finished: 14 of 15 trainings" in " ".join(content["findings"])


def test_a_rung_that_was_not_run_yet(tmp_path: Path) -> None:
    content = simulate(tmp_path, {"baseline": [70.0, 71.0], "cosine": [], "mixup": [72.0]})
    page = Page(report.write_ladder(content, tmp_path).read_text(encoding="utf-8"))
    assert "not run" in page.rows[2][1]
    assert "3 of 6 trainings" in page.text
    assert content["rungs"][2]["difference"] is None  # what it adds to is not there


# ---------------------------------------------------------------------------------------------------------------------
# generated shapes


def test_shapes_are_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = Shapes("train", 12, size=32)

    def draw(these: Shapes) -> data.Resident:
        return draw_once(these, data.squash(32), "squash32", tmp_path, workers=0)

    first = draw(shapes)
    images, labels = shapes.arrays()
    np.testing.assert_array_equal(first.pixels, images.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(first.labels, labels)
    assert "not photographs" in first.description
    digests = {
        draw(Shapes(split, n, size, seed)).digest for split in ("train", "val") for n, size, seed in ((12, 32, 0), (4, 32, 0), (12, 32, 1))
    }
    assert len(digests) == 6
    monkeypatch.setattr(data, "_decode", lambda *_: pytest.fail("drawn twice"))
    assert draw(shapes).digest == first.digest


def test_results_on_shapes_say_that_they_are_generated(call: Call, tmp_path: Path) -> None:
    small = ("--images", 60, "--seeds", 1, "--rungs", "baseline,mixup", "--epochs", 2, "--batch-size", 16, "--size", 32)
    status, text, _ = call("--set", "shapes", *small, "--workers", 0, "--device", "cpu", "--out", tmp_path)
    assert status == 0
    assert "generated, not photographs" in text
    found = json.loads((tmp_path / "mixup-0" / "result.json").read_text())
    assert found["recipe"]["data"] == "shapes"
    assert (found["n_train"], found["n"]) == (60, 12)
    assert "60 train images of 32 pixels" in found["data"]
    assert "12 val images of 32 pixels" in found["data"]
    assert "generated" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert b"generated shapes" in (tmp_path / "mixup-0" / "model.safetensors").read_bytes()[:20_000]


def test_shapes_are_written_by_what_they_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(zoo, ["shapes", str(tmp_path / "images"), "--n", "2", "--first", "3", "--size", "32"])
    drawn = Shapes("val", 5, size=32)
    names = [f"{CLASSES[drawn.label(index)]}-{index}.png" for index in (3, 4)]
    assert [Path(line).name for line in capsys.readouterr().out.split()] == names
    with Image.open(tmp_path / "images" / names[1]) as image:
        np.testing.assert_array_equal(np.asarray(image), drawn.draw(4).image)
