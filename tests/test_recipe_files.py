"""Recipe files of users and of strangers: one line names the fault, whatever the file contains."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.commands import Call, caller
from trickzoo.cli import train
from trickzoo.errors import BadCheckpoint, BadOption, TrickzooError
from trickzoo.recipes.collection import find, find_fine_tuning, from_dict, override, stored, to_dict
from trickzoo.recipes.finetune import SegmentationRecipe

PLAIN = to_dict(find("own.finetune"))


def write(path: Path, **changes: Any) -> Path:
    path.write_text(json.dumps(PLAIN | changes), encoding="utf-8")
    return path


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs `trickzoo-train`; (exit status, stdout, stderr)."""
    return caller(capsys, train.app)


@pytest.mark.parametrize(
    "name",
    [
        "../../x",
        "/abs/x",
        "..",
        ".hidden",
        "a/b",
        "a\\b",
        "",
        " ",
        "-x",
        "x" * 101,
        "é" * 60,
        "a\0b",
        "a\nb",
        "\x1b[2J",
        "\u202egpj",
        "\ud83d",
    ],
    ids=ascii,
)
def test_a_name_that_no_folder_can_have_is_refused(name: str, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "r.json", name=name)
    for made in (lambda: stored(path), lambda: override(find("own.finetune"), {"name": name})):
        with pytest.raises(BadOption, match="a recipe cannot be called"):
            made()
    status, out, err = call("--recipe", path, "--data", "shapes", "--images", 100, "--dry-run", "--device", "cpu")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("trickzoo: ")
    assert len(err) < 400
    assert sorted(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["own.finetune", "price in $ and %", "[red]x", "größe 2×", "日本", "x" * 100, "a.b-c_d+1"])
def test_any_other_name_will_do(name: str, tmp_path: Path) -> None:
    assert stored(write(tmp_path / "r.json", name=name)).name == name


def test_files_with_older_names_can_still_be_read() -> None:
    assert from_dict(PLAIN | {"name": "exp/1"}).name == "exp/1"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 100_000, "is not a JSON file (it is nested too deeply)"),
        (b'{"name":' * 100_000, "is not a JSON file (it is nested too deeply)"),
        (b'{"name": "a", "name": "b"}', 'is not a JSON file (it has the key "name" twice)'),
        (b"\xff\xfe\x00", "is not a JSON file (it is neither UTF-8 nor UTF-16 text)"),
        (b'{"epochs": ' + b"9" * 5000 + b"}", "is not a JSON file (Exceeds the limit"),
        (b"", "is not a JSON file (Expecting value"),
        (b"[]", "holds no recipe"),
        (b"null", "holds no recipe"),
        (b'{"recipe": []}', "holds no recipe"),
        (b'{"epochs": 3}', "a recipe must state its name, model, data"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_json_that_is_not_a_recipe_is_refused_in_one_line(content: bytes, message: str, tmp_path: Path, call: Call) -> None:
    path = tmp_path / "r.json"
    path.write_bytes(content)
    status, out, err = call("--recipe", path, "--data", "shapes")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"trickzoo: {path}") and message in err


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_editors_encodings_are_read(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(json.dumps(PLAIN | {"name": "größe"}, ensure_ascii=False), encoding=encoding)
    assert stored(tmp_path / "r.json").name == "größe"


@pytest.mark.parametrize("kind", ["folder", "fifo", "missing", "long"])
def test_a_path_that_is_not_a_file_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / ("x" * 300 + ".json" if kind == "long" else "r.json")
    if kind == "folder":
        path.mkdir()
    if kind == "fifo":
        os.mkfifo(path)
    with pytest.raises(BadCheckpoint, match="does not exist" if kind in ("missing", "long") else "cannot be read"):
        stored(path)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("epochs", 10**400, "epochs"),
        ("epochs", 10**16, "epochs must be at most 9,007,199,254,740,992"),
        ("epochs", True, 'epochs must be a whole number, 1 or more, not "true"'),
        ("lr", 10**400, "Number out of range"),
        ("lr", float("nan"), "lr must be a finite number"),
        ("lr", 1e400, "lr must be a finite number"),
        ("augmentation", None, "Expected `object`"),
        ("augmentation", {"flip": "x"}, "augmentation.flip"),
        ("milestones", 5, 'milestones must be numbers with commas: above 0, not "5"'),
        ("\x1b[2J", 1, 'a recipe has no field "\\x1b[2J"'),
        ("name", 3, 'name must be text, not "3"'),
        ("precision", "\ud800", 'a recipe has the text "\\ud800", which is not Unicode'),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_field_of_another_type_or_size_is_named(field: str, value: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(TrickzooError) as error:
        stored(write(tmp_path / "r.json", **{field: value}))
    assert str(tmp_path) in str(error.value)
    assert message in str(error.value)


@pytest.mark.parametrize("name", ["own.finetune", "small.segmentation", "cifar10.resnet34.cosine"])
def test_a_recipe_takes_precedence_over_a_folder_of_its_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(reference: str) -> Any:
        return find_fine_tuning(reference, SegmentationRecipe) if name == "small.segmentation" else find(reference)

    expected = read(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    (tmp_path / name / "result.json").write_text(json.dumps({"recipe": to_dict(expected) | {"epochs": 3}}))
    assert read(name) == expected
    assert read(f"./{name}").epochs == 3
