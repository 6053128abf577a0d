"""Data sets through the datasets library: local folders in the layouts of the hub, streamed and copied."""

from __future__ import annotations

import builtins
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from PIL import Image

from tests.commands import Call, caller, evaluate
from tests.training import COSINE, SMALL, run, same
from trickzoo.cli.train import app
from trickzoo.data.augment import DRAWS
from trickzoo.data.classes import imagenet1k, synsets
from trickzoo.data.hub_stream import HubStream
from trickzoo.data.open import open_set
from trickzoo.data.readers import hub
from trickzoo.data.readers.imagenet import open_imagenet
from trickzoo.errors import BadData, BadOption
from trickzoo.recipes.recipe import Augmentation
from trickzoo.training.shares import Shares

CLASSES = ["c0", "c1", "c2", "c3"]
FEATURES = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=CLASSES), "note": datasets.Value("string")})
CARD = """---
dataset_info:
  splits:
  - name: train
    num_bytes: 0
    num_examples: {train}
  - name: validation
    num_bytes: 0
    num_examples: {validation}
---
"""


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's caches are the test's own, and its client does not try the network."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0, raising=False)  # 5 s after each epoch of a stream


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs `trickzoo-train`; (exit status, stdout, stderr)."""
    return caller(capsys, app)


def png(value: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 36), (value, value, value)).save(file, "PNG")
    return file.getvalue()


def publish(folder: Path, split: str, rows: list[dict[str, Any]], features: datasets.Features = FEATURES, files: int = 3) -> None:
    """Parquet files with the images' bytes in them, as a set on the hub has."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    whole = datasets.Dataset.from_list(rows, features=features)
    for i in range(files):
        whole.shard(files, i, contiguous=True).to_parquet(folder / "data" / f"{split}-{i:05d}-of-{files:05d}.parquet")


def rows_of(folder: Path) -> list[dict[str, Any]]:
    found = open_imagenet(folder)
    return [{"image": {"bytes": found.read(e), "path": None}, "label": CLASSES.index(e.label), "note": e.name} for e in found.entries]


@pytest.fixture
def published(colours: Path, tmp_path: Path) -> Path:
    """The colours as a set of the hub."""
    folder = tmp_path / "published"
    for split, source, files in (("train", "train", 3), ("validation", "val", 1)):
        publish(folder, split, rows_of(colours / source), files=files)
    (folder / "README.md").write_text(CARD.format(train=56, validation=20))
    return folder


def grey(tmp_path: Path, n: int = 12, card: int | None = 12) -> str:
    """Images that are told apart by their brightness."""
    rows = [{"image": {"bytes": png(10 * i), "path": f"{i}.png"}, "label": i % 4, "note": ""} for i in range(n)]
    publish(tmp_path / "grey", "train", rows)
    if card is not None:
        (tmp_path / "grey" / "README.md").write_text(CARD.format(train=card, validation=0))
    return f"hf:{tmp_path / 'grey'}"


PLAIN = Augmentation(area=(1.0, 1.0), aspect=(1.0, 1.0))


def order(data: HubStream, epoch: int, *, seed: int = 0, start: int = 0, batch: int = 3) -> list[tuple[int, int]]:
    """(number, label) of each image of an epoch from a position on."""
    first = epoch * len(data)
    plan: Iterator[Any] = (
        (torch.arange(first + i, first + min(i + batch, len(data))), torch.zeros(min(batch, len(data) - i), 47))
        for i in range(start, len(data), batch)
    )
    crops = data.crops(plan, 8, PLAIN, torch.device("cpu"), seed=seed)
    return [(int(image.mean()) // 10, int(label)) for images, labels in crops for image, label in zip(images, labels, strict=True)]


def test_the_order_is_drawn_from_seed_and_epoch_alone(tmp_path: Path) -> None:
    name = grey(tmp_path)
    data = HubStream(name, workers=0, buffer=5)
    first, second = order(data, 0), order(data, 1)
    assert sorted(first) == sorted(second) == [(i, i % 4) for i in range(12)]
    assert first != second != sorted(second)
    assert order(data, 0) == first
    assert order(HubStream(name, workers=2, buffer=5), 1, batch=5) == second
    assert order(data, 1, start=7) == second[7:]
    assert order(data, 0, seed=1) != first
    assert (len(data), data.classes, data.labels) == (12, tuple(CLASSES), None)


def test_processes_share_what_one_process_takes(tmp_path: Path) -> None:
    name = grey(tmp_path)

    def taken(world: int, rank: int) -> list[list[float]]:
        plan = Shares(12, 4, DRAWS, 0, world, rank, 2, stream=True).of_epochs(3)
        return [
            images.mean((1, 2, 3)).tolist() for images, _ in HubStream(name, workers=0).crops(plan, 8, PLAIN, torch.device("cpu"), seed=0)
        ]

    one, two = taken(1, 0), (taken(2, 0), taken(2, 1))
    assert one == [batch for pair in zip(*two, strict=True) for batch in pair]


@pytest.mark.parametrize(("stop", "workers"), [(3, 0), (7, 0), (10, 0), (10, 2)])
def test_a_stopped_training_on_a_stream_goes_on_bit_for_bit(stop: int, workers: int, published: Path, tmp_path: Path) -> None:
    def stream() -> HubStream:
        return HubStream(f"hf:{published}", workers=workers, buffer=20)

    straight = run(stream(), tmp_path / "straight")
    run(stream(), tmp_path / "stopped", save_every=1, stop_after=stop)
    assert same(run(stream(), tmp_path / "stopped"), straight)
    assert (tmp_path / "stopped" / "metrics.jsonl").read_text() == (tmp_path / "straight" / "metrics.jsonl").read_text()


def test_a_split_is_copied_once_and_anew_when_it_changes(
    published: Path,
    colours: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = open_imagenet(colours)
    found = open_set(f"hf:{published}")
    assert [(found.read(entry), entry.label) for entry in found.entries] == [(files.read(entry), entry.label) for entry in files.entries]
    assert found.layout == "hub data set, split validation"
    assert len(open_set(f"hf:{published}", split="train").entries) == 56
    with monkeypatch.context() as patch:
        patch.setattr(hub, "_copy", lambda *_: pytest.fail("copied twice"))
        assert open_set(f"hf:{published}") == found
    publish(published, "validation", rows_of(colours / "val")[:7], files=1)
    assert len(open_set(f"hf:{published}").entries) == 7


def test_a_folder_of_images_is_a_set_too(colours: Path) -> None:
    found, files = open_set(f"hf:{colours}", split="train"), open_imagenet(colours, split="train")
    assert sorted((found.read(e), e.label) for e in found.entries) == sorted((files.read(e), e.label) for e in files.entries)


@pytest.mark.parametrize("decode", ["always", "once"])
def test_a_set_of_the_hub_trains_and_is_evaluated(
    decode: str,
    call: Call,
    published: Path,
    tmp_path: Path,
) -> None:
    out = tmp_path / "run"
    tokens = ("--recipe", COSINE, "--data", f"hf:{published}", "--out", out, *SMALL, "--workers", 0, "--decode", decode)
    status, text, error = call(*tokens)
    assert status == 0, error
    assert "56 images of 4 classes" in text
    weights = ("--model", "mobilenet_v1_025", "--weights", out / "model.safetensors")
    result = evaluate("--data", f"hf:{published}", *weights, out=tmp_path / "result.json")
    assert (result["n"], result["data"]["classes"]) == (20, 4)


def test_columns_are_found_by_kind_or_named(tmp_path: Path) -> None:
    features = datasets.Features(
        {"picture": datasets.Image(), "fine": datasets.ClassLabel(names=["x", "y"]), "coarse": datasets.ClassLabel(names=["z"])}
    )
    folder = tmp_path / "several"
    publish(folder, "test", [{"picture": {"bytes": png(i), "path": None}, "fine": i, "coarse": 0} for i in range(2)], features, files=1)
    with pytest.raises(BadData, match=r"several label columns \(fine, coarse\); name it with \?label=COLUMN"):
        open_set(f"hf:{folder}")
    found = open_set(f"hf:{folder}?label=fine&image=picture")
    assert found.classes == ("x", "y")
    assert found.layout == "hub data set, split test"
    for query, message in (("label=fin", 'no column "fin"; did you mean fine'), ("labl=fine", 'no option "labl"; did you mean label')):
        with pytest.raises((BadData, BadOption), match=message):
            open_set(f"hf:{folder}?{query}")
    with pytest.raises(BadData, match="has no train split; it has test"):
        open_set(f"hf:{folder}?label=fine", split="train")


def test_labels_without_names(tmp_path: Path) -> None:
    features = datasets.Features({"jpg": datasets.Image(), "cls": datasets.Value("int64")})
    publish(tmp_path / "plain", "train", [{"jpg": {"bytes": png(i), "path": None}, "cls": 9 + i} for i in range(3)], features)
    (tmp_path / "plain" / "README.md").write_text(CARD.format(train=3, validation=0))
    assert open_set(f"hf:{tmp_path / 'plain'}", split="train").classes == ("9", "10", "11")
    with pytest.raises(BadData, match="does not say which classes the labels in cls are, so it cannot be streamed; --decode once"):
        HubStream(f"hf:{tmp_path / 'plain'}")


def test_imagenets_names_in_words_are_its_synsets() -> None:
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    words = [info.label_name_to_description(synset) for synset in imagenet1k()]
    assert synsets(["tench, but not quite", *words[1:]]) == imagenet1k()
    assert synsets(words[::-1]) == tuple(words[::-1])
    assert synsets(imagenet1k()) == imagenet1k()
    assert synsets(["b", "a"]) == ("b", "a")


def test_sets_that_cannot_be_streamed(tmp_path: Path) -> None:
    name = grey(tmp_path, card=None)
    with pytest.raises(BadData, match="does not say how many images it has, so it cannot be streamed; --decode once"):
        HubStream(name)
    assert len(open_set(name, split="train").entries) == 12
    short = HubStream(grey(tmp_path, card=14), workers=0)
    with pytest.raises(BadData, match="ends before image 12 of the 14 images that its metadata states"):
        order(short, 0)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": None}, r"\(5.png\) has no label, which is a number or a word, in label"),
        ({"label": -1}, r"\(5.png\) has no label: -1 is not among the 4 classes"),
        ({"image": None}, r"has no image"),
        ({"image": {"bytes": b"broken", "path": "5.png"}}, r"\(5.png\) is not a readable image"),
    ],
)
def test_bad_rows_are_named(change: dict[str, Any], message: str, workers: int, tmp_path: Path) -> None:
    rows = [{"image": {"bytes": png(i), "path": f"{i}.png"}, "label": i % 4, "note": ""} for i in range(9)]
    rows[5] |= change
    publish(tmp_path / "bad", "train", rows)
    (tmp_path / "bad" / "README.md").write_text(CARD.format(train=9, validation=0))
    name = f"hf:{tmp_path / 'bad'}"
    with pytest.raises(BadData, match=message) as error:
        order(HubStream(name, workers=workers), 0)
    assert name in str(error.value)
    if "readable" not in message:
        with pytest.raises(BadData, match=message):
            open_set(name, split="train")
        assert [path.name for path in (tmp_path / "home" / "hub").iterdir() if path.is_dir()] == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes")
def test_images_are_read_from_regular_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "file.png").write_bytes(png(1))
    for name in ("file", "pipe"):
        rows = [{"image": {"bytes": None, "path": str(tmp_path / f"{name}.png")}, "label": 0, "note": ""}]
        publish(tmp_path / name, "train", rows, files=1)
        (tmp_path / name / "README.md").write_text(CARD.format(train=1, validation=0))
    images = open_set(f"hf:{tmp_path / 'file'}", split="train")
    assert images.read(images.entries[0]) == png(1)
    with pytest.raises(BadData, match=r"cannot be read: .*not a regular file"):
        open_set(f"hf:{tmp_path / 'pipe'}", split="train")


def test_missing_sets_are_refused(tmp_path: Path) -> None:
    for name in ("hf:nobody/nothing", f"hf:{tmp_path / 'nowhere'}", "hf:nobody/nothing@main"):
        with pytest.raises(BadData, match=rf"^{name} cannot be read: ") as error:
            open_set(name)
        assert "\n" not in str(error.value)
    (tmp_path / "torn" / "data").mkdir(parents=True)
    (tmp_path / "torn" / "data" / "train-0.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(BadData, match="torn cannot be read"):
        open_set(f"hf:{tmp_path / 'torn'}", split="train")


def test_without_the_datasets_library_the_error_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == "datasets":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(BadOption, match=r"hf:a/b needs the datasets library; pip install 'trickzoo\[hub-data\]'"):
        open_set("hf:a/b")


def test_a_training_refuses_the_stream_of_another_set(published: Path, colours: Path, tmp_path: Path) -> None:
    first = HubStream(f"hf:{published}")
    assert HubStream(f"hf:{published}").digest == first.digest
    assert HubStream(f"hf:{published}", buffer=5).digest != first.digest
    publish(published, "train", rows_of(colours / "train")[::-1])
    assert HubStream(f"hf:{published}").digest != first.digest


DAMAGED = {
    "no YAML": "---\ndataset_info: [\n---\n",
    "a mapping within a word": "---\ndataset_ name: label\n  dtype: image\n---\n",
    "features without a kind": "---\ndataset_info:\n  features:\n  - name: image\n    features:\n  - name: label\n    features:\n---\n",
    "a number for the features": "---\ndataset_info:\n  features: 3\n---\n",
    "a number for the splits": "---\ndataset_info:\n  splits: 3\n---\n",
    "a list of files that is a number": "---\nconfigs:\n- config_name: default\n  data_files: 3\n---\n",
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_card_is_refused_in_a_line(name: str, tmp_path: Path) -> None:
    text = grey(tmp_path, n=4)
    (tmp_path / "grey" / "README.md").write_text(DAMAGED[name])
    with pytest.raises(BadData, match="grey cannot be read: ") as error:
        open_set(text, split="train")
    assert "\n" not in str(error.value)


def test_class_names_of_a_card_are_text(tmp_path: Path) -> None:
    text = grey(tmp_path, n=4)
    names = "        names:\n          '0': 1\n          '1': 2\n          '2': 3\n          '3': 4\n"
    card = "dataset_info:\n  features:\n  - name: image\n    dtype: image\n  - name: label\n    dtype:\n      class_label:\n"
    note = "  - name: note\n    dtype: string\n"
    (tmp_path / "grey" / "README.md").write_text(f"---\n{card}{names}{note}---\n")
    with pytest.raises(BadData, match="the names of the classes of label are not all text"):
        open_set(text, split="train")
