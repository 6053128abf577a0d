"""`trickzoo-eval coco | voc | ade20k | lists | shapes`, end to end."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import trickzoo
from tests import annotated, commands
from tests.annotated import detector, segmenter
from tests.commands import Call, caller
from tests.images import jpeg
from tests.processes import together
from trickzoo import detection, files, segmentation, tasks
from trickzoo.cli import evaluation
from trickzoo.data.annotated_transforms import FitAndFlip, Scale
from trickzoo.data.location import AnnotatedLocation
from trickzoo.data.readers.coco import open_coco
from trickzoo.data.readers.mask_lists import open_lists
from trickzoo.data.readers.voc import open_voc
from trickzoo.data.transforms import Normalisation
from trickzoo.detection.evaluate import detect
from trickzoo.detection.metrics import COCO_STATS
from trickzoo.recipes.collection import override
from trickzoo.recipes.finetune import SMALL_BOXES, SMALL_MASKS
from trickzoo.segmentation import count_files
from trickzoo.segmentation.evaluate import segment
from trickzoo.segmentation.metrics import ConfusionMatrix
from trickzoo.training import job as jobs
from trickzoo.training.machine import Machine

ANIMALS = ("cat", "cow", "dog")
QUICK = ("--device", "cpu", "--workers", 0)


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs `trickzoo-eval`; (exit status, stdout, stderr)."""
    return caller(capsys, evaluation)


def found_boxes(folder: Path, model: Any, n: int = 5) -> Path:
    """Images in VOC's layout, annotated with some of what a detector finds in them, so that its AP is neither 0 nor 100."""
    stems = [f"{i}" for i in range(n)]
    annotated.voc(folder, dict.fromkeys(stems, annotated.xml()), {"val": stems})
    (folder / "classes.txt").write_text("\n".join(ANIMALS))
    for stem in stems:
        found = detection.predict(model, Image.open(folder / "JPEGImages" / f"{stem}.jpg"))
        objects = [
            (model.classes[label - 1], (x0 + 1, y0 + 1, x1, y1))
            for (x0, y0, x1, y1), label in zip(found.boxes[3:40:4].tolist(), found.labels[3:40:4].tolist(), strict=True)
        ]
        (folder / "Annotations" / f"{stem}.xml").write_text(annotated.xml([*objects, ("cat", (9, 9, 8, 20))]))
    return folder


def found_masks(folder: Path, model: Any, n: int = 5) -> Path:
    """Images and lists, with masks of what a segmenter finds in them but for a part."""
    annotated.lists(folder, [0] * n, "0 sky\n1 road\n2 tree\n3 unlabelled\n")
    (folder / "train.txt").rename(folder / "val.txt")
    for i in range(n):
        mask = segmentation.predict(model, Image.open(folder / "train" / f"{i}.jpg"))
        mask[:8], mask[-3:] = (mask[:8] + 1) % 3, 3
        annotated.mask(folder / "trainannot" / f"{i}.png", mask)
    return folder


# ---------------------------------------------------------------------------------------------------------------------
# the figures


def test_boxes_are_judged_as_by_hand(call: Call, tmp_path: Path) -> None:
    path, out = tmp_path / "model.safetensors", tmp_path / "result.json"
    model = detector(path, ANIMALS)
    folder = found_boxes(tmp_path / "set", model)
    status, text, _ = call("voc", "--data", folder, "--model", path, "--out", out, "--per-class", tmp_path / "classes.csv", *QUICK)
    assert status == 0
    data = open_voc(folder, "val")
    expected = detect(model, data, FitAndFlip(annotated.SIDE, 96), Accelerator(cpu=True)).summary()
    result = json.loads(out.read_text())
    assert {key: result[key] for key in expected} == expected
    assert 0 < result["voc"]["AP50 all-point"] < 100 and 0 < result["coco"]["AP"] < 100
    assert (result["n"], result["model"], result["short"], result["long"]) == (5, "mobilenet_v1_025", annotated.SIDE, 96)
    assert result["weights_sha256"] == files.digest(path) and result["data"]["digest"] == data.digest
    assert (
        result["data"]["notes"] == ["5 boxes without area dropped (the first in JPEGImages/0.jpg)"] and result["data"]["notes"][0] in text
    )
    assert result["versions"]["pycocotools"] and result["hardware"]
    for name, value in result["voc"].items():
        assert f"VOC {name}" in text and f"{value:.2f} %" in text
    assert all(f"COCO {name} " in text for name in COCO_STATS)
    with (tmp_path / "classes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == [*ANIMALS]
    assert [int(row["objects"]) for row in rows] == np.bincount(data.objects.labels, minlength=4)[1:].tolist()
    for row in rows:
        assert row["COCO AP"] == str(expected["per_class"][row["class"]]["COCO AP"] or "")


def test_boxes_are_written_as_coco_wants_them(call: Call, tmp_path: Path) -> None:
    """The model has the classes in another order than the set."""
    path, boxes, out = tmp_path / "model.safetensors", tmp_path / "boxes.json", tmp_path / "result.json"
    model = detector(path, ("toothbrush", "motorcycle"))
    annotated.coco(tmp_path / "set", split="val2017")
    stated = tmp_path / "set" / "annotations" / "instances_val2017.json"
    content = json.loads(stated.read_text())
    number_of = {"toothbrush": 90, "motorcycle": 4}
    for image in content["images"]:
        found = detection.predict(model, Image.open(tmp_path / "set" / "val2017" / image["file_name"]))
        content["annotations"] += [
            {
                "id": 1000 * image["id"] + i,
                "image_id": image["id"],
                "category_id": number_of[model.classes[found.labels[i] - 1]],
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": (x1 - x0) * (y1 - y0),
                "iscrowd": 0,
            }
            for i, (x0, y0, x1, y1) in enumerate(found.boxes.tolist())
            if i % 4 == 1
        ]
    stated.write_text(json.dumps(content))
    assert open_coco(tmp_path / "set", "val").classes == model.classes[::-1]
    assert call("coco", "--data", tmp_path / "set", "--model", path, "--predictions", boxes, "--out", out, *QUICK)[0] == 0
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(stated))
        judged = COCOeval(truth, truth.loadRes(str(boxes)), "bbox")
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
    result = json.loads(out.read_text())
    stats = {
        name: None if value < 0 else pytest.approx(100 * value, abs=1e-4) for name, value in zip(COCO_STATS, judged.stats, strict=True)
    }
    assert result["coco"] == stats
    assert 1 < result["coco"]["AP"] < 100
    assert list(result["per_class"]) == ["toothbrush", "motorcycle"]
    assert result["data"]["digest"] == open_coco(tmp_path / "set", "val").digest


def test_masks_are_judged_as_by_hand_and_written(call: Call, tmp_path: Path) -> None:
    path, out, masks = tmp_path / "model.safetensors", tmp_path / "result.json", tmp_path / "masks"
    model = segmenter(path, ("sky", "road", "tree"))
    folder = found_masks(tmp_path / "set", model)
    masks.mkdir()  # an empty folder may be there
    tokens = ("--out", out, "--per-class", tmp_path / "classes.csv", "--predictions", masks)
    status, text, _ = call("lists", "--data", folder, "--model", path, *tokens, *QUICK)
    assert status == 0
    data, result = open_lists(folder, "val"), json.loads(out.read_text())
    normalise = Normalisation.of(model.backbone)
    expected = segment(model, data, Scale(annotated.SIDE), normalise, Accelerator(cpu=True)).summary()
    assert {key: result[key] for key in expected} == expected
    assert 0 < result["miou"] < 100 and result["n"] == 5
    assert f"{result['miou']:.2f} %" in text and "mean IoU" in text and "pixel accuracy" in text
    read = ConfusionMatrix(data.classes)
    for index in range(len(data)):
        _, truth = data.read(index)
        with Image.open(masks / f"{index}.png") as mask:
            assert mask.mode == "P" and mask.size == (40, 30)
            assert mask.getpalette()[:3] == [230, 159, 0]
            read.add(torch.from_numpy(np.asarray(mask).copy()), torch.from_numpy(truth))
    assert read.summary() == expected
    assert sorted(file.name for file in masks.iterdir()) == [*(f"{i}.png" for i in range(5)), "predictions.csv"]
    assert count_files.mean_iou(count_files.read(masks / "predictions.csv"), np.ones((1, 5), np.int64))[0, 0] == pytest.approx(
        result["miou"] / 100, abs=1e-6
    )
    with (tmp_path / "classes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["pixels"]) for row in rows] == read.counts.sum(1).tolist()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["classes.csv", "masks", "model.safetensors", "result.json", "set"]


@pytest.mark.parametrize(
    ("backend", "workers", "precision"),
    [
        pytest.param("onnxruntime", 2, "fp32", marks=pytest.mark.slow),
        ("openvino", 2, "fp32"),
        pytest.param("openvino", 0, "fp32", marks=pytest.mark.slow),
        ("eager", 0, "bf16"),
    ],
)
def test_engines_predict_the_same_masks(backend: str, workers: int, precision: str, call: Call, tmp_path: Path) -> None:
    path, out = tmp_path / "model.safetensors", tmp_path / "result.json"
    folder = found_masks(tmp_path / "set", segmenter(path, ("sky", "road", "tree")))
    for i, size in enumerate([(70, 31), (33, 64)]):  # each image has its own size in the network
        with Image.open(folder / "train" / f"{i}.jpg") as image, Image.open(folder / "trainannot" / f"{i}.png") as mask:
            image.resize(size).save(folder / "train" / f"{i}.jpg")
            mask.resize(size, Image.Resampling.NEAREST).save(folder / "trainannot" / f"{i}.png")
    results, found = [], []
    for name, chosen in (("expected", ()), ("found", ("--backend", backend, "--workers", workers, "--precision", precision))):
        tokens = ("--out", out, "--predictions", tmp_path / name, *QUICK[:2], *(chosen or QUICK[2:]))
        status, text, err = call("lists", "--data", folder, "--model", path, *tokens)
        assert status == 0, err
        results.append(json.loads(out.read_text()))
        found.append([np.asarray(Image.open(tmp_path / name / f"{i}.png")) for i in range(5)])
    differ = [(a != b).mean() for a, b in zip(*found, strict=True)]
    assert max(differ) < (0.001 if precision == "fp32" else 0.1)
    assert results[0]["backend"] == {"name": "eager", "deviation": 0}
    assert results[1]["backend"]["name"] == backend and results[1]["precision"] == precision
    if backend != "eager":
        assert 0 < results[1]["backend"]["deviation"] < 1e-3
        assert f"{backend} was asked for; fp32, logits within" in text


def test_ade20ks_masks_have_its_numbers(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    model = segmenter(path, [f"class {i}" for i in range(1, 151)])
    image = jpeg(tmp_path / "set" / "images" / "validation" / "a.jpg")
    found = segmentation.predict(model, Image.open(image))
    annotated.mask(tmp_path / "set" / "annotations" / "validation" / "a.png", found + 1)
    tokens = ("--out", tmp_path / "o.json", "--predictions", tmp_path / "masks", *QUICK)
    assert call("ade20k", "--data", tmp_path / "set", "--model", path, *tokens)[0] == 0
    assert json.loads((tmp_path / "o.json").read_text())["miou"] == 100
    assert np.array_equal(np.asarray(Image.open(tmp_path / "masks" / "a.png")), found + 1)


@pytest.mark.parametrize("recipe", [SMALL_BOXES, SMALL_MASKS], ids=lambda recipe: recipe.task)
def test_a_training_has_the_figures_of_its_file(recipe: Any, call: Call, tmp_path: Path) -> None:
    sizes = {"short": "64", "long": "64", "fpn_channels": "16", "representation_size": "16"}
    if recipe.task == "segmentation":
        sizes = {"short": "64", "base": "64", "crop": "48"}
    tiny = override(
        recipe, {**sizes, "weights": "none", "epochs": "1", "warmup_steps": "0", "batch_size": "4", "lr": "0.01", "data": "shapes"}
    )
    machine = Machine(out=tmp_path / "run", device="cpu", workers=0)
    job = tasks.prepare(tiny, AnnotatedLocation("shapes", images=20), machine)
    trained = jobs.run(job)
    path, out = tmp_path / "run" / "model.safetensors", tmp_path / "o.json"
    status, text, _ = call("shapes", "--images", 4, "--weights", path, "--out", out, *QUICK)
    assert status == 0 and "generated shapes" in text
    result = json.loads(out.read_text())
    ours = result["voc"]["AP50 all-point"] if recipe.task == "detection" else result["miou"]
    assert (ours, result["data"]["digest"], result["n"]) == (trained[job.task.measure], trained["val_digest"], trained["n"])
    assert result["training"]["seed"] == 0 and result["data"]["notes"] == []
    text = call("shapes", "--images", 20, "--split", "train", "--model", path, *QUICK)[1]
    assert "the model was trained on these very images" in text


@pytest.mark.parametrize("task", ["voc", "lists"])
def test_workers_compute_the_same(task: str, call: Call, tmp_path: Path) -> None:
    path, results = tmp_path / "model.safetensors", []
    if task == "voc":
        folder = found_boxes(tmp_path / "set", detector(path, ANIMALS))
    else:
        folder = found_masks(tmp_path / "set", segmenter(path, ("sky", "road", "tree")))
    for workers in (0, 2):
        out = tmp_path / f"{workers}.json"
        assert call(task, "--data", folder, "--model", path, "--out", out, "--device", "cpu", "--workers", workers)[0] == 0
        found = json.loads(out.read_text())
        results.append({key: value for key, value in found.items() if key not in ("command", "commit", "date", "wall_seconds")})
    assert results[0] == results[1]


def test_sides_are_the_users_where_they_are_given(call: Call, tmp_path: Path) -> None:
    path, out = tmp_path / "model.safetensors", tmp_path / "o.json"
    folder = found_boxes(tmp_path / "set", detector(path, ANIMALS))
    assert call("voc", "--data", folder, "--model", path, "--short", 32, "--long", 40, "--out", out, *QUICK)[0] == 0
    result = json.loads(out.read_text())
    model = detection.load(path, short=32, long=40)
    expected = detect(model, open_voc(folder, "val"), FitAndFlip(32, 40), Accelerator(cpu=True)).summary()
    assert (result["short"], result["long"]) == (32, 40)
    assert {key: result[key] for key in expected} == expected
    assert result["training"]["recipe"]["short"] == annotated.SIDE
    sizes = []
    model.transform.register_forward_hook(lambda module, inputs, outputs: sizes.append(outputs[0].image_sizes[0]))
    detection.predict(model, Image.new("RGB", (40, 30)))
    assert sizes == [(30, 40)]  # the network itself resizes no more


def test_a_folder_of_masks_of_images_that_share_a_name(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    folder = found_masks(tmp_path / "set", segmenter(path, ("sky", "road", "tree")), 2)
    jpeg(folder / "other" / "0.jpg")
    with (folder / "val.txt").open("a") as file:
        file.write("other/0.jpg trainannot/0.png\n")
    assert call("lists", "--data", folder, "--model", path, "--predictions", tmp_path / "masks", *QUICK)[0] == 0
    names = sorted(file.relative_to(tmp_path / "masks").as_posix() for file in (tmp_path / "masks").rglob("*.png"))
    assert names == ["other/0.jpg.png", "train/0.jpg.png", "train/1.jpg.png"]


@pytest.mark.parametrize("layout", ["voc", "lists"])
def test_two_processes_give_the_same_as_one(layout: str, call: Call, tmp_path: Path) -> None:
    path, one, two = tmp_path / "model.safetensors", tmp_path / "one", tmp_path / "two"
    if layout == "voc":
        folder, name = found_boxes(tmp_path / "set", detector(path, ANIMALS)), "boxes.json"
    else:
        folder, name = found_masks(tmp_path / "set", segmenter(path, ("sky", "road", "tree"))), "masks"
    results, written = [], []
    for out in (one, two):
        own = ("--out", out / "o.json", "--predictions", out / name)
        tokens = (layout, "--data", folder, "--model", path, *own, *QUICK)
        if out == one:
            assert call(*tokens)[0] == 0
        else:
            assert together(commands.call, evaluation, *tokens) == [0, 0]
        results.append(json.loads((out / "o.json").read_text()))
        (out / "o.json").unlink()
        written.append({file.relative_to(out).as_posix(): file.read_bytes() for file in out.rglob("*") if file.is_file()})
    assert [result.pop("processes") for result in results] == [1, 2]
    for key in ("command", "date", "device", "wall_seconds"):
        for result in results:
            del result[key]
    assert results[0] == results[1]
    assert written[0] == written[1]
    boxes, masks = ["boxes.json", "boxes.truth.json"], [*(f"masks/{i}.png" for i in range(5)), "masks/predictions.csv"]
    assert sorted(written[0]) == (boxes if layout == "voc" else masks)


# ---------------------------------------------------------------------------------------------------------------------
# mistakes


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a detector, a segmenter, and a set for each; nobody is to write there."""
    tmp_path = tmp_path_factory.mktemp("place")
    trickzoo.export(trickzoo.create("mobilenet_v1_025", num_classes=3), tmp_path / "classes.safetensors")
    found_boxes(tmp_path / "voc", detector(tmp_path / "boxes.safetensors", ANIMALS), 1)
    found_masks(tmp_path / "lists", segmenter(tmp_path / "masks.safetensors", ("sky", "road", "tree")), 1)
    detector(tmp_path / "others.safetensors", ("cat", "crow", "dog"))
    detector(tmp_path / "more.safetensors", ("cat", "cow", "dog", "fox"))
    segmenter(tmp_path / "order.safetensors", ("road", "sky", "tree"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "0.png").write_text("mine")
    return tmp_path


@pytest.mark.parametrize(
    ("layout", "model", "tokens", "words"),
    [
        ("lists", "boxes", (), "boxes.safetensors is for detection, and lists has annotations for segmentation; name a file"),
        ("coco", "masks", (), "masks.safetensors is for segmentation, and coco has annotations for detection"),
        (
            "voc",
            "classes",
            (),
            "classes.safetensors is for classification, and voc has annotations for detection and segmentation; "
            "`trickzoo eval imagenet` evaluates classifiers",
        ),
        ("voc", "nowhere", (), "nowhere.safetensors does not exist"),
        ("voc", "others", (), 'voc has the class "cow", which the model does not have; did you mean crow?'),
        ("voc", "more", (), 'voc has no class "fox", which the model has'),
        ("lists", "order", (), 'lists has "sky" as class 0, and the model has "road"; renumber the masks'),
        ("lists", "masks", ("--long", 9), "--long is not for segmentation; masks.safetensors takes only --short"),
        ("lists", "masks", ("--short", 0), "--short must be 1 or more, not 0"),
        ("voc", "boxes", ("--short", 200), "a short side of 200 and a long side of 96"),
        ("voc", "boxes", ("--split", "test"), "test"),
        ("voc", "boxes", ("--precision", "fp16"), "--precision fp16 needs an accelerator; take --precision bf16 or fp32"),
        (
            "voc",
            "boxes",
            ("--backend", "openvino"),
            "--backend is for classification and segmentation, and boxes.safetensors is for detection; leave it out",
        ),
        ("lists", "masks", ("--backend", "onnxruntime", "--precision", "bf16"), "onnxruntime has no bf16, which eager, openvino, inductor"),
        ("voc", "boxes", ("--out", "full"), "full is a folder; name a file"),
        ("voc", "boxes", ("--out", "r.json", "--per-class", "r.json"), "--out and --per-class are both r.json; name a different path for "),
        ("lists", "masks", ("--out", "r", "--predictions", "r"), "--out and --predictions are both r; name a different path for each"),
        ("voc", "boxes", ("--predictions", "full"), "full is a folder; name a file"),
        ("lists", "masks", ("--predictions", "full"), "full already contains files; name a new folder"),
        ("lists", "masks", ("--predictions", "masks.safetensors"), "masks.safetensors is a file; name a new folder"),
        ("shapes", "boxes", ("--split", "test"), "--split"),
        ("annotations", "boxes", ("--split", "test"), "--split has no effect: --annotations names the file of one split; leave it out"),
        ("shapes", "boxes", ("--images", 0), "images must be 1 or more, not 0"),
    ],
)
def test_mistakes_end_in_one_line(
    layout: str, model: str, tokens: tuple[Any, ...], words: str, place: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    data = () if layout == "shapes" else ("--data", place / layout)
    if layout == "annotations":
        layout, data = "coco", ("--annotations", place / "voc.json")
    before = sorted(place.rglob("*"))
    status, out, err = call(layout, *data, "--model", f"{model}.safetensors", *QUICK, *tokens)
    assert (status, out) == (2, "")
    assert words in err and err.count("\n") == 1 and err.startswith("trickzoo: ")
    assert sorted(place.rglob("*")) == before


def test_files_with_a_damaged_header_end_in_one_line(call: Call, place: Path, tmp_path: Path) -> None:
    for name, words in annotated.damaged(tmp_path).items():
        status, out, err = call("voc", "--data", place / "voc", "--model", tmp_path / f"{name}.safetensors", *QUICK)
        assert (status, out) == (2, ""), err
        assert words in err and err.count("\n") == 1


def test_a_broken_image_leaves_no_masks(call: Call, place: Path, tmp_path: Path) -> None:
    place = Path(shutil.copytree(place, tmp_path / "copy"))
    jpeg(place / "lists" / "train" / "1.jpg").write_bytes(b"no jpeg")
    with (place / "lists" / "val.txt").open("a") as file:
        file.write("train/1.jpg trainannot/0.png\n")
    before = sorted(place.rglob("*"))
    tokens = ("--predictions", place / "new", "--out", place / "o.json", *QUICK)
    status, _, err = call("lists", "--data", place / "lists", "--model", place / "masks.safetensors", *tokens)
    assert status == 2 and "train/1.jpg is not a readable image" in err
    assert sorted(place.rglob("*")) == before


def test_help_does_not_import_torch() -> None:
    code = (
        "import sys; from trickzoo.cli import evaluation;"
        "[evaluation(tokens, result_action='return_value') for tokens in (['--help'], ['voc', '--help'], ['shapes', '--help'])];"
        "assert not {'torch', 'torchvision', 'accelerate'} & sys.modules.keys()"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    for word in ("ade20k", "lists", "--predictions", "--images"):
        assert word in out
