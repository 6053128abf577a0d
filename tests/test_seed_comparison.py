"""`trickzoo compare` of several training runs on each side: two recipes over seeds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from tests.commands import Call, caller
from trickzoo.cli import zoo
from trickzoo.recipes.recipe import Recipe
from trickzoo.studies.seed_comparison import compare, trainings

FIRST, SECOND = {0: 70.0, 1: 72.5, 2: 69.0, 3: 71.25}, {0: 73.0, 1: 74.0, 2: 73.5, 3: 73.75}


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs `trickzoo compare`; (exit status, stdout, stderr)."""
    return caller(capsys, zoo, "compare")


def written(folder: Path, seed: int, top1: float, changes: dict[str, Any] | None = None, **recipe: Any) -> Path:
    """Write the result of a training. `changes` are other fields of the file."""
    content = {
        "seed": seed,
        "n": 400,
        "n_train": 1600,
        "data_digest": "d",
        "val_digest": "v",
        "wall_seconds": 1.0,
        "command": "trickzoo train",
        "recipe": {"name": folder.name, "model": "resnet18_d", "mixup": 0.0, "augmentation": {"flip": 0.5}, **recipe},
        "top1": top1,
        **(changes or {}),
    }
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The runs a-0 to a-3 and b-0 to b-3, which differ in mixup and the probability of a flip."""
    for seed, top1 in FIRST.items():
        written(tmp_path / f"a-{seed}", seed, top1)
    for seed, top1 in SECOND.items():
        written(tmp_path / f"b-{seed}", seed, top1, mixup=0.2, augmentation={"flip": 0.0})
    return tmp_path


def test_the_difference_is_that_of_the_paired_t_test(folder: Path) -> None:
    found = compare(trainings(f"{folder}/a-*"), trainings(f"{folder}/b-*"))
    expected = stats.ttest_rel(list(SECOND.values()), list(FIRST.values()))
    assert (found.first, found.second, found.measure) == (FIRST, SECOND, "top1")
    assert found.difference.p == pytest.approx(expected.pvalue)
    assert found.difference.interval == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert found.changes == {"mixup": (0.0, 0.2), "flip": (0.5, 0.0)}
    assert not found.notes


def test_runs_are_paired_by_seed_and_not_by_their_order(folder: Path) -> None:
    some = compare(trainings(f"{folder}/a-3,{folder}/a-0"), trainings(f"{folder}/b-0,{folder}/b-2,{folder}/b-3"))
    assert (some.difference.seeds, some.difference.values) == ((0, 3), (3.0, 2.5))


def test_the_command_prints_both_recipes_and_the_outcome(call: Call, folder: Path) -> None:
    status, text, _ = call(f"{folder}/a-*", f"{folder}/b-*")
    assert status == 0
    assert text.splitlines()[:3] == [
        "first: top-1 70.69 % (70.00, 72.50, 69.00, 71.25 with the seeds 0, 1, 2, 3)",
        "second: top-1 73.56 % (73.00, 74.00, 73.50, 73.75 with the seeds 0, 1, 2, 3)",
        "recipe: mixup 0 → 0.2, flip 0.5 → 0",
    ]
    assert "difference +2.88 (95 % CI +0.89 to +4.86, n = 4 seeds, p = 0.019): the second is better" in text
    assert "(n = 1 seed, no interval)" in call(f"{folder}/a-*", folder / "b-1")[1]
    found = json.loads(call(f"{folder}/b-*", f"{folder}/a-*", "--json")[1])
    assert (found["measure"], found["first"]["2"], found["difference"]["verdict"]) == ("top1", 73.5, "hurt")


def test_detectors_are_compared_by_their_measure(folder: Path) -> None:
    for name, shift in (("c", 0.0), ("d", 5.0)):
        for seed in (0, 1):
            written(folder / f"{name}-{seed}", seed, 1.0, {"measure": "coco_ap", "coco_ap": 20.0 + seed + shift})
    found = compare(trainings(f"{folder}/c-*"), trainings(f"{folder}/d-*"))
    assert (found.measure, found.difference.values) == ("coco_ap", (5.0, 5.0))


def test_other_differences_between_the_sides_are_said(folder: Path) -> None:
    for seed in (0, 1):
        written(folder / f"e-{seed}", seed, 70.0, {"data_digest": "other", "hardware": "another machine", "versions": {"torch": "2.9.0"}})
    notes = compare(trainings(f"{folder}/a-*"), trainings(f"{folder}/e-*")).notes
    assert notes == (
        "The difference is over the seeds that both have: 0, 1.",
        "The training images of the two differ.",
        "The environment of the training runs differs, which can change a result too: machine (another machine; unknown hardware), "
        "torch (2.9.0; unknown).",
    )


def test_weights_that_changed_between_the_sides_are_said(folder: Path) -> None:
    """The recipes name the same file, so that they alone do not show it."""
    for name, digest in (("old", "a"), ("new", "b")):
        for seed in (0, 1):
            changes = {"weights_sha256": digest * 64, "teacher_sha256": digest * 64}
            written(folder / f"{name}-{seed}", seed, 70.0 + seed, changes, pretrained="own.pth", teacher=f"{name}.pth")
    found = compare(trainings(f"{folder}/old-*"), trainings(f"{folder}/new-*"))
    assert found.notes == ("The two differ in the weights that they start from: the file of this name has changed.",)
    assert found.changes == {"teacher": ("old.pth", "new.pth")}


def test_digests_of_older_versions_are_compared_as_far_as_they_go(folder: Path) -> None:
    for seed in (0, 1):
        written(folder / f"f-{seed}", seed, 70.0, {"data_digest": f"d{'-labels' * seed}", "val_digest": "v-labels"})
    assert compare(trainings(f"{folder}/a-[01]"), trainings(f"{folder}/f-*")).notes == ()


def test_fields_that_an_older_version_did_not_write_have_their_defaults(folder: Path) -> None:
    default = Recipe("", "", "")
    for seed, fields in ((0, {"growth": default.growth}), (1, {"augmentation": {"flip": 0.5, "jitter": default.augmentation.jitter}})):
        written(folder / f"g-{seed}", seed, 70.0, **fields)
    assert compare(trainings(f"{folder}/a-*"), trainings(f"{folder}/g-*")).changes == {}


def test_a_folder_with_brackets_in_its_name_is_not_a_pattern(folder: Path) -> None:
    for seed in (0, 1):
        written(folder / f"run[{seed}]", seed, 70.0)
    assert trainings(f"{folder}/run[0],{folder}/run[1]") == [folder / "run[0]", folder / "run[1]"]


def test_what_cannot_be_compared(call: Call, folder: Path) -> None:
    written(folder / "validation-0", 0, 70.0, {"val_digest": "other"})
    written(folder / "weights-4", 4, 70.0, {"weights_sha256": "other"})
    written(folder / "late-9", 9, 70.0)
    written(folder / "boxes-0", 0, 70.0, {"measure": "coco_ap", "coco_ap": 1.0})
    written(folder / "nothing-0", 0, 70.0, {"measure": "miou", "miou": None})
    (folder / "begun-5").mkdir()
    both = f"{folder}/a-*"
    for second, message in (
        (f"{folder}/a-0,{folder}/b-1", "differ in more than their seeds (mixup: 0.0 and 0.2, flip: 0.5 and 0.0); name runs of one recipe"),
        (f"{folder}/a-0,{folder}/weights-4", "differ in more than their seeds (weights_sha256)"),
        (f"{folder}/a-0,{folder}/a-0", "have the same seed, 0; name each seed once"),
        (folder / "validation-0", "have different validation images"),
        (folder / "late-9", "no seed is on both sides (0, 1, 2, 3, and 9); train both recipes with the same seeds"),
        (folder / "boxes-0", "a-0 is judged by top-1 and"),
        (folder / "nothing-0", "nothing-0/result.json is not a result file of a training run; name another folder (it has no miou)"),
        (folder / "begun-5", "begun-5 holds no result.json of a finished training"),
        (f"{folder}/x-*", f"nothing matches {folder}/x-*; name folders of training runs"),
    ):
        status, out, err = call(both, second)
        assert (status, out, message in err, err.count("\n")) == (2, "", True, 1), err
    assert "--out and --draws are for two networks" in call(both, both, "--out", folder / "a.csv")[2]
    assert "put a pattern that names several training runs in quotes" in call(*sorted(folder.glob("a-*")), folder / "b-0")[2]
