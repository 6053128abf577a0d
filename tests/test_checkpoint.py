"""Checkpoints: damaged ones are refused with a remedy, and those of older versions are read."""

from __future__ import annotations

import random
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training import RECIPE, Finished, run, same
from trickzoo import environment
from trickzoo.data.resident import Resident
from trickzoo.errors import BadCheckpoint
from trickzoo.recipes.collection import stored, to_dict
from trickzoo.training import checkpoint, metrics_log
from trickzoo.weights import pickles, tensors

SMALL: dict[str, Any] = {
    "recipe": to_dict(RECIPE), "seed": 0, "data_digest": "d", "model": {"w": torch.arange(24.0)}, "optimiser": {"state": {}}
}  # fmt: skip


def small(path: Path, step: int = 3) -> Path:
    """Write a checkpoint with small tensors, and return its path."""
    checkpoint.save(path, checkpoint.State(step=step), SMALL)
    return path


def whole(path: Path) -> bool | None:
    with path.open("rb") as file:
        return pickles.seal_is_whole(file)


def load(path: Path, **this: Any) -> dict[str, Any]:
    return checkpoint.load(path, RECIPE, **{"seed": 0, "data_digest": "d", **this})


def unsealed(path: Path) -> None:
    """Rewrite a checkpoint as older versions wrote it: without the digest and without the newer fields."""
    content = pickles.read_pickle(path)
    for name in ("loss_sum", "losses", "unevaluated", "commits", "draws", "teacher_sha256"):
        content.pop(name, None)
    torch.save(content, path)


def test_a_checkpoint_is_an_archive_that_torch_and_zip_tools_read(tmp_path: Path) -> None:
    path = small(tmp_path / "last.pt")
    assert whole(path)
    assert torch.equal(torch.load(path, weights_only=True)["model"]["w"], torch.arange(24.0))
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
    assert load(path)["step"] == 3


def test_any_flipped_bit_is_found(tmp_path: Path) -> None:
    content = small(tmp_path / "last.pt").read_bytes()
    draws = random.Random(0)
    for _ in range(150):
        place, bit = draws.randrange(len(content)), 1 << draws.randrange(8)
        damaged = bytearray(content)
        damaged[place] ^= bit
        (tmp_path / "last.pt").write_bytes(damaged)
        try:
            found = load(tmp_path / "last.pt")
        except BadCheckpoint as error:
            assert "last.pt" in str(error) and "\n" not in str(error)  # noqa: PT017
        else:  # the digest's name is hit, or the length of the comment that holds it: then each part's own checksum is right
            assert place >= len(content) - 98
            assert torch.equal(found["model"]["w"], SMALL["model"]["w"]) and found["step"] == 3


def test_any_truncated_file_is_refused(tmp_path: Path) -> None:
    content = small(tmp_path / "last.pt").read_bytes()
    draws = random.Random(0)
    for length in [0, 1, 4, len(content) - 1, len(content) - 80, *(draws.randrange(len(content)) for _ in range(40))]:
        (tmp_path / "last.pt").write_bytes(content[:length])
        with pytest.raises(BadCheckpoint, match=r"last\.pt .*; remove it to start again, or name another --out"):
            load(tmp_path / "last.pt")


@pytest.mark.parametrize("name", checkpoint.FIELDS)
@pytest.mark.parametrize("value", [None, "x"])
def test_a_missing_or_wrong_field_is_named(name: str, value: str | None, tmp_path: Path) -> None:
    content = {**SMALL, "step": 3, "best": 0.0, "evaluation": {}, "seconds": 1.0}
    content.pop(name) if value is None else content.update({name: [value]})
    torch.save(content, tmp_path / "last.pt")
    with pytest.raises(BadCheckpoint, match=rf"last\.pt is (damaged \(it has no {name}\)|not a training checkpoint)"):
        load(tmp_path / "last.pt")


@pytest.mark.parametrize("name", checkpoint.OPTIONAL)
def test_a_newer_field_of_the_wrong_type_is_named(name: str, tmp_path: Path) -> None:
    content = {**SMALL, "step": 3, "best": 0.0, "evaluation": {}, "seconds": 1.0, name: torch.zeros(0)}
    torch.save(content, tmp_path / "last.pt")
    with pytest.raises(BadCheckpoint, match=rf"last\.pt is damaged \(its {name} is not of the right type\)"):
        load(tmp_path / "last.pt")


def test_a_metric_that_is_not_a_number_is_refused(tmp_path: Path) -> None:
    torch.save({**SMALL, "step": 3, "best": 0.0, "evaluation": {"top1": "x"}, "seconds": 1.0}, tmp_path / "last.pt")
    with pytest.raises(BadCheckpoint, match="its evaluation has a metric that is not a number"):
        load(tmp_path / "last.pt")


@pytest.mark.parametrize(("name", "value"), [("seconds", 10**400), ("best", float("nan")), ("loss_sum", float("inf"))])
def test_a_number_that_is_not_finite_is_refused(name: str, value: float, tmp_path: Path) -> None:
    torch.save({**SMALL, "step": 3, "best": 0.0, "evaluation": {}, "seconds": 1.0, name: value}, tmp_path / "last.pt")
    with pytest.raises(BadCheckpoint, match=f"its {name} is not a finite number"):
        load(tmp_path / "last.pt")


@pytest.mark.parametrize("state", [{0: {"momentum_buffer": torch.zeros(1)}}, {10**6: {"momentum_buffer": torch.zeros(1)}}, {0: "x"}, []])
def test_an_optimiser_state_that_does_not_fit_is_refused(state: Any, resident: Resident, tmp_path: Path) -> None:
    run(resident, tmp_path, save_every=1, stop_after=2)
    content = pickles.read_pickle(tmp_path / "last.pt")
    content["optimiser"]["state"] = state
    torch.save(content, tmp_path / "last.pt")
    with pytest.raises(BadCheckpoint, match=r"last\.pt does not fit mobilenet_v1_025: .*; name another --out"):
        run(resident, tmp_path)


def test_an_intact_checkpoint_is_offered_instead_of_a_damaged_one(tmp_path: Path) -> None:
    small(tmp_path / "best.pt", step=2)
    path = small(tmp_path / "last.pt")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BadCheckpoint, match=r"copy .*best\.pt over it to resume from step 2, or name another --out"):
        load(path)
    (tmp_path / "best.pt").write_bytes(b"")
    with pytest.raises(BadCheckpoint, match=r"remove it to start again"):
        load(path)


def test_every_reader_of_checkpoints_finds_damage(tmp_path: Path) -> None:
    path = small(tmp_path / "last.pt")
    content = bytearray(path.read_bytes())
    content[content.index(torch.arange(24.0).numpy().tobytes()) + 5] ^= 1
    path.write_bytes(content)
    for read in (tensors.read_tensors, stored):
        with pytest.raises(BadCheckpoint, match=r"last\.pt is damaged \(its content does not have the SHA-256"):
            read(path)


def test_without_a_digest_the_checksums_of_the_archive_show_damage(tmp_path: Path) -> None:
    path = small(tmp_path / "last.pt")
    unsealed(path)
    assert whole(path) is None
    assert load(path)["step"] == 3
    content = bytearray(path.read_bytes())
    content[content.index(torch.arange(24.0).numpy().tobytes()) + 5] ^= 1
    path.write_bytes(content)
    with pytest.raises(BadCheckpoint, match=r"last\.pt is damaged \(.*data/0 is not as it was written\)"):
        load(path)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "last.pt").mkdir()
    with pytest.raises(BadCheckpoint, match=r"last\.pt cannot be read"):
        load(tmp_path / "last.pt")


def test_a_training_of_an_older_version_resumes_with_a_warning(
    resident: Resident, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = RECIPE.but("test.old", mixup=0.0)  # without mixup both versions draw the same random numbers
    run(resident, tmp_path / "old", recipe, save_every=1, stop_after=9)
    unsealed(tmp_path / "old" / "last.pt")
    again = run(resident, tmp_path / "old", recipe)
    assert "was written by an older version: from here on, mixup, dropout and sampled boxes use other random numbers" in caplog.text
    assert same(again, run(resident, tmp_path / "straight", recipe))


def test_a_training_that_goes_on_with_other_micro_batches_says_so(
    resident: Resident, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(resident, tmp_path, save_every=1, stop_after=4)
    run(resident, tmp_path, save_every=1, stop_after=8)
    assert not caplog.messages
    run(resident, tmp_path, micro_batch=4)
    (message,) = caplog.messages
    assert message.startswith(
        f"{tmp_path / 'last.pt'} is of a training run with micro-batches of 8 on 1 process, and goes on with 4 on 1 process: the statistics"
    )
    run(resident, tmp_path, micro_batch=2)  # nothing is left to train
    assert len(caplog.messages) == 1


def test_a_training_with_a_replaced_weight_file_is_refused(tmp_path: Path) -> None:
    recipe = RECIPE.but("test.distilled", pretrained="w.safetensors", teacher="t.safetensors")
    content = {**SMALL, "recipe": to_dict(recipe), "weights_sha256": "a", "teacher_sha256": "b"}

    def check(recipe: Any = recipe, content: dict[str, Any] = content, **digests: str) -> None:
        checkpoint.check(Path("last.pt"), content, recipe, seed=0, data_digest="d", **digests)

    check(weights_sha256="a", teacher_sha256="b")
    check(recipe.but(recipe.name, teacher="elsewhere/t.safetensors"), weights_sha256="a", teacher_sha256="b")
    with pytest.raises(BadCheckpoint, match=r"last\.pt has another recipe: pretrained is a there, c here"):
        check(weights_sha256="c", teacher_sha256="b")
    with pytest.raises(BadCheckpoint, match=r"last\.pt has another recipe: teacher is b there, c here"):
        check(weights_sha256="a", teacher_sha256="c")
    old = {key: value for key, value in content.items() if not key.endswith("sha256")}
    check(content=old, weights_sha256="c", teacher_sha256="c")


def test_the_best_checkpoint_is_written_before_the_last(
    resident: Resident, val: Resident, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training that is killed between the two resumes from the previous `last.pt`, and writes both again."""
    written: list[str] = []
    save = checkpoint.save

    def note(path: Path, *content: Any) -> None:
        written.append(path.name)
        save(path, *content)

    monkeypatch.setattr(checkpoint, "save", note)
    run(resident, tmp_path, RECIPE.but("test.one", epochs=1), val)
    assert written == ["best.pt", "last.pt"]


def test_every_commit_of_a_training_is_kept(resident: Resident, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for commit, stop in (("a", 3), ("a", 5), ("b+", 8)):
        monkeypatch.setattr(environment, "commit", lambda commit=commit: commit)
        run(resident, tmp_path, save_every=1, stop_after=stop)
    assert load(tmp_path / "last.pt", data_digest=resident.digest)["commits"] == ["a", "b+"]


@pytest.mark.parametrize("line", ["{", "[1]", '{"step": "x", "epoch": 0}', '{"step": 2, "epoch": 0, "loss": 1.0}', "\x00\xff", "1" * 5000])
def test_a_damaged_log_is_set_aside(
    line: str, resident: Resident, undisturbed: Finished, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(resident, tmp_path / "out", save_every=1, stop_after=4)
    path = tmp_path / "out" / "metrics.jsonl"
    rows = path.read_text().splitlines()
    path.write_text("\n".join([rows[0], line, *rows[2:], ""]), encoding="utf-8")
    damaged = path.read_text(encoding="utf-8")
    assert same(run(resident, tmp_path / "out"), undisturbed.weights)
    assert path.with_name("metrics.jsonl.damaged").read_text(encoding="utf-8") == damaged
    assert "metrics.jsonl has 1 lines that cannot be read" in caplog.text
    assert [row["step"] for row in metrics_log.rows(tmp_path / "out")] == [1, *range(3, 15)]
    metrics_log.write_log(tmp_path / "out")


def test_empty_and_short_files_have_no_digest(tmp_path: Path) -> None:
    for content in (b"", b"x" * 80, b"trickzoo sha256 " + b"0" * 64):
        (tmp_path / "f").write_bytes(content)
        assert whole(tmp_path / "f") is None
