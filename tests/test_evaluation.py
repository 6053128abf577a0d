"""`trickzoo-eval imagenet` and `trickzoo predict`, end to end."""

from __future__ import annotations

import csv
import json
import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import sklearn.metrics as reference
import torch
from PIL import Image

import trickzoo
from tests.commands import call, evaluate
from tests.images import bomb, jpeg
from tests.processes import together
from trickzoo import files
from trickzoo.cli import evaluation, zoo
from trickzoo.data.classes import IMAGENETTE, imagenet1k
from trickzoo.weights.record import Preprocessing


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three images of each of Imagenette's classes."""
    for i, synset in enumerate(IMAGENETTE):
        for j in range(3):
            jpeg(tmp_path / "photos" / "val" / synset / f"{j}.JPEG", 10 * i + j)
    return tmp_path / "photos"


def test_result_file_carries_its_evidence(tiny: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tables = ("--per-class", tmp_path / "classes.csv", "--predictions", tmp_path / "predictions.csv")
    result = evaluate("--data", photos, "--model", "mobilenet_v1_025", "--weights", tiny, *tables, out=tmp_path / "out.json")
    assert result["n"] == 30
    assert result["top5_correct"] >= result["top1_correct"]
    low, high = result["top1_interval"]
    assert low <= result["top1"] <= high
    assert result["weights_sha256"] == files.digest(tiny)
    assert result["data"]["classes"] == 10
    assert "restricted" not in result
    whole = json.loads((tmp_path / "out.json").read_text())
    assert {"command", "date", "hardware", "versions"} < whole.keys()
    with (tmp_path / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 30
    assert sum(row["class"] == row["top1"] for row in rows) == result["top1_correct"]
    with (tmp_path / "classes.csv").open() as file:
        table = csv.DictReader(file)
        assert [row["class"] for row in table] == list(IMAGENETTE)
        assert table.fieldnames == ["class", "n", "top1", "top5", "precision", "f1"]
    text = capsys.readouterr().out
    assert "short side 32 (bicubic, antialiased), centre crop 32" in text
    assert "no figure is published" in text
    assert f"(95 % CI {low:.2f} to {high:.2f})" in text


def test_figures_of_classes_of_different_sizes_are_those_of_scikit_learn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("ant", "bee", "cow", "dog")
    for label, name in enumerate(names):
        for j in range(2 + 5 * label):
            jpeg(tmp_path / "photos" / name / f"{j}.jpg", 10 * label + j)
    torch.manual_seed(1)
    network = trickzoo.create("mobilenet_v1_025.tz_imagenette128", num_classes=4)
    prepared = Preprocessing(size=32)
    images = [trickzoo.eval_transform(prepared)(Image.open(path)) for path in sorted(tmp_path.glob("photos/*/*.jpg"))]
    network.head.fc.bias.data -= network.eval()(torch.stack(images)).mean(0).detach()  # so that it predicts several classes,
    network.head.fc.bias.data[3] -= 1e6  # and the last never
    trickzoo.export(network, tmp_path / "net.safetensors", classes=names, preprocessing=prepared)
    tokens = ("--per-class", tmp_path / "classes.csv", "--predictions", tmp_path / "predictions.csv")
    result = evaluate("--data", tmp_path / "photos", "--model", tmp_path / "net.safetensors", *tokens, out=tmp_path / "out.json")
    with (tmp_path / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    true, predicted = [row["class"] for row in rows], [row["top1"] for row in rows]
    assert len(set(predicted)) > 1 and "dog" not in predicted
    assert result["balanced_accuracy"] == pytest.approx(100 * reference.balanced_accuracy_score(true, predicted), abs=1e-4)
    assert result["macro_f1"] == pytest.approx(100 * reference.f1_score(true, predicted, average="macro"), abs=1e-4)
    wanted = reference.precision_recall_fscore_support(true, predicted, labels=names, zero_division=0)
    with (tmp_path / "classes.csv").open() as file:
        found = list(csv.DictReader(file))
    assert list(found[0]) == ["class", "n", "top1", "precision", "f1"]
    for name, row, precision, recall, f1, n in zip(names, found, *wanted, strict=True):
        assert (row["class"], int(row["n"])) == (name, n)
        figures = [float(row[column] or 0) for column in ("precision", "top1", "f1")]
        assert figures == pytest.approx([100 * precision, 100 * recall, 100 * f1], abs=1e-4)
    assert found[3]["precision"] == ""
    line = f"  balanced accuracy {result['balanced_accuracy']:.2f} %, macro F1 {result['macro_f1']:.2f} %\n"
    assert line in capsys.readouterr().out


def test_predictions_are_the_networks_own(tiny: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the order of its logits, also where all probabilities but one are 0."""
    model = trickzoo.create("mobilenet_v1_025", weights=tiny)
    transform, ties = trickzoo.eval_transform(model), 0
    for parameter in model.head.fc.parameters():
        parameter.data *= 1e5
    trickzoo.export(model, tmp_path / "sure.safetensors")
    tokens = ("--model", "mobilenet_v1_025", "--weights", tmp_path / "sure.safetensors")
    evaluate("--data", photos, *tokens, "--predictions", tmp_path / "p.csv", out=tmp_path / "o")
    capsys.readouterr()
    network = trickzoo.load(tmp_path / "sure.safetensors")
    with (tmp_path / "p.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert call(zoo, "predict", *(photos / "val" / row["image"] for row in rows), *tokens, "--json", "--workers", 0) == 0
    for row, predicted in zip(rows, json.loads(capsys.readouterr().out), strict=True):
        image = Image.open(photos / "val" / row["image"])
        with torch.inference_mode():
            logits = model(transform(image)[None])[0]
        order, probability = logits.argsort(descending=True), logits.softmax(0)
        ties += int((probability == 0).sum() > 5)
        assert [row[f"top{k}"] for k in range(1, 6)] == [IMAGENETTE[i] for i in order[:5]]
        assert [float(row[f"p{k}"]) for k in range(1, 6)] == pytest.approx(probability[order[:5]].tolist(), abs=2e-6)
        assert [each["class"] for each in predicted["top"]] == [IMAGENETTE[i] for i in order[:5]]
        assert [each["probability"] for each in predicted["top"]] == pytest.approx(probability[order[:5]].tolist(), abs=1e-6)
        assert [each.label for each in network.predict(image).found] == order.tolist()
    assert ties == len(rows)


def test_the_model_is_read_from_the_weight_file(tiny: Path, photos: Path, tmp_path: Path) -> None:
    by_file = evaluate("--data", photos, "--model", tiny, out=tmp_path / "a.json")
    assert by_file["model"] == "mobilenet_v1_025"
    named = evaluate("--data", photos, "--model", "mobilenet_v1_025", "--weights", tiny, out=tmp_path / "b.json")
    same = ("weights", "weights_sha256", "preprocessing", "top1", "top5", "ece")
    assert {key: by_file[key] for key in same} == {key: named[key] for key in same}


def test_a_subset_has_both_scores(photos: Path, tmp_path: Path) -> None:
    path = tmp_path / "thousand.safetensors"
    trickzoo.export(trickzoo.create("mobilenet_v1_025"), path)
    model = ("--model", "mobilenet_v1_025", "--weights", path)
    tokens = ("--data", photos, *model, "--size", 32, "--crop", 1.0, "--interpolation", "bilinear")
    result = evaluate(*tokens, out=tmp_path / "out.json")
    model = trickzoo.create("mobilenet_v1_025", weights=path)
    made = trickzoo.eval_transform(Preprocessing(size=32, crop=1.0, interpolation="bilinear"))
    transform = pickle.loads(pickle.dumps(made))  # as a worker process is sent it
    assert repr(transform) == repr(made) == "eval_transform(short side 32 (bilinear, antialiased), centre crop 32, ImageNet mean and std)"
    columns = [imagenet1k().index(synset) for synset in IMAGENETTE]
    among_all = among_ten = 0
    for i, synset in enumerate(IMAGENETTE):
        for j in range(3):
            with torch.inference_mode():
                logits = model(transform(Image.open(photos / "val" / synset / f"{j}.JPEG"))[None])[0]
            among_all += int(logits.argmax()) == columns[i]
            among_ten += int(logits[columns].argmax()) == i
    assert result["top1_correct"] == among_all
    assert result["restricted"]["top1_correct"] == among_ten
    assert result["restricted"]["classes"] == 10
    assert result["published"]["comparable"] is False


def test_one_class_has_no_score_among_its_classes(tiny: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The only class of the set would always be the prediction, for corrupted images too."""
    shutil.copytree(photos / "val" / IMAGENETTE[3], tmp_path / "one" / "val" / IMAGENETTE[3])
    tokens = ("--data", tmp_path / "one", "--model", tiny, "--corruptions", "contrast", "--severities", 5)
    result = evaluate(*tokens, out=tmp_path / "out.json")
    assert "restricted" not in result and "restricted_top1" not in result["robustness"]
    text = capsys.readouterr().out
    assert "among" not in text and f"top-5  {result['top5']:.3f} %" in text


def test_top5_is_printed_of_more_than_five_classes_only(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The top-5 accuracy among five classes or fewer is always 100 %, however many of them occur in the set."""
    for n, occurring, lines in ((4, 2, 0), (4, 1, 0), (4, 4, 0), (6, 2, 1), (6, 6, 1)):
        path, data = tmp_path / f"{n}.safetensors", tmp_path / f"{n}-{occurring}"
        preprocessing = Preprocessing(size=32, crop=1.0)
        network = trickzoo.create("mobilenet_v1_025", num_classes=n)
        trickzoo.export(network, path, classes=IMAGENETTE[:n], preprocessing=preprocessing, overwrite=True)
        for synset in IMAGENETTE[:occurring]:
            shutil.copytree(photos / "val" / synset, data / "val" / synset)
        result = evaluate("--data", data, "--model", path, out=tmp_path / "out.json")
        text = capsys.readouterr().out
        assert result["classes"] == n and text.count("top-5") == lines, (n, occurring)
        assert (f"among the {occurring} classes of this set" in text) == (1 < occurring < n)
    assert call(evaluation, "imagenet", "--data", data, "--model", path, "--model", tmp_path / "4.safetensors", "--skip-unknown") == 0
    assert re.search(r"6\.safetensors +\S+ +\S+ to +\S+ +\d\S+ ", text := capsys.readouterr().out)
    assert re.search(r"4\.safetensors +\S+ +\S+ to +\S+ +– ", text)


def test_several_models_in_one_run(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = []
    for name in ("a", "b"):
        torch.manual_seed(ord(name))
        path = files.home() / "files" / f"mobilenet_v1_025.{name}" / f"{name}.safetensors"
        trickzoo.export(trickzoo.create("mobilenet_v1_025", num_classes=10), path)
        manifest.append(
            f'[[weights]]\nname = "mobilenet_v1_025.{name}"\nlayout = "trickzoo"\nclasses = "imagenette"\nlicence = "mit"\n'
            f'[weights.preprocessing]\nsize = 32\n[[weights.source]]\npath = "{path.name}"\nsha256 = "{files.digest(path)}"\n'
        )
    (tmp_path / "manifest.toml").write_text("\n".join(manifest))
    monkeypatch.setenv("TRICKZOO_MANIFEST", str(tmp_path / "manifest.toml"))
    tokens = ("--data", photos, "--model", "mobilenet_v1_025.?", "--workers", 0, "--out", tmp_path / "o.json")
    assert call(evaluation, "imagenet", *tokens) == 0
    results = json.loads((tmp_path / "o.json").read_text())["results"]
    assert [r["weights"] for r in results] == ["mobilenet_v1_025.a", "mobilenet_v1_025.b"]
    assert results[0]["ece"] != results[1]["ece"]
    assert results[0]["data"]["digest"] == results[1]["data"]["digest"]
    assert re.search(r"weight +top-1 +95 %", capsys.readouterr().out)


def test_a_network_for_grey_images_gets_grey_images(tiny: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "grey.safetensors"
    trickzoo.export(trickzoo.create("mobilenet_v1_025", weights=tiny, in_chans=1), path)
    model = trickzoo.create(path, in_chans=1)
    for backend, workers in (("eager", 2), ("onnxruntime", 0)):
        table, tokens = tmp_path / f"{backend}.csv", ("--data", photos, "--model", path, "--device", "cpu")
        assert call(evaluation, "imagenet", *tokens, "--workers", workers, "--backend", backend, "--predictions", table) == 0
        with table.open() as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 30
        for row in rows:
            with torch.inference_mode():
                probability = model(trickzoo.eval_transform(model)(Image.open(photos / "val" / row["image"]))[None]).softmax(1)[0]
            assert float(row["p1"]) == pytest.approx(probability.max().item(), abs=1e-3)
            assert row["top1"] == IMAGENETTE[probability.argmax()]
    capsys.readouterr()
    assert call(zoo, "calibrate", path, "--data", photos, "--workers", 0) == 2  # the features were computed
    assert "no temperature fits" in capsys.readouterr().err
    assert call(evaluation, "imagenet", *tokens, "--corruptions", "fog") == 2
    assert f"--corruptions is for images in RGB, and {path} takes grey images; leave it out" in capsys.readouterr().err


@pytest.mark.parametrize(("backend", "workers"), [("eager", 2), ("onnxruntime", 2), pytest.param("openvino", 2, marks=pytest.mark.slow)])
def test_engines_and_workers_predict_the_same(backend: str, workers: int, tiny: Path, photos: Path, tmp_path: Path) -> None:
    found = []
    for name, count in (("eager", 0), (backend, workers)):
        tokens = ("--data", photos, "--model", tiny, "--device", "cpu", "--workers", count, "--backend", name)
        files = ("--predictions", tmp_path / f"{count}.csv", "--out", tmp_path / f"{count}.json")
        assert call(evaluation, "imagenet", *tokens, *files) == 0
        with (tmp_path / f"{count}.csv").open() as file:
            rows = list(csv.DictReader(file))
        (result,) = json.loads((tmp_path / f"{count}.json").read_text())["results"]
        found.append(([row["top1"] for row in rows], [float(row["p1"]) for row in rows], result))
    (classes, probabilities, eager), (other_classes, other_probabilities, result) = found
    assert classes == other_classes
    assert probabilities == pytest.approx(other_probabilities, abs=1e-5)
    assert eager["backend"] == {"name": "eager", "deviation": 0}
    assert result["backend"]["name"] == backend


def test_8_bit_integers_are_calibrated_on_a_folder_and_predict_nearly_the_same(tiny: Path, photos: Path, tmp_path: Path) -> None:
    found = {}
    for name, options in (("fp32", ()), ("int8", ("--backend", "onnxruntime", "--precision", "int8", "--calibration", photos))):
        tokens = ("--data", photos, "--model", tiny, "--device", "cpu", "--workers", 0, *options)
        assert call(evaluation, "imagenet", *tokens, "--predictions", tmp_path / "p.csv", "--out", tmp_path / "r.json") == 0
        with (tmp_path / "p.csv").open() as file:
            rows = list(csv.DictReader(file))
        (result,) = json.loads((tmp_path / "r.json").read_text())["results"]
        assert result["precision"] == name
        found[name] = [row["top1"] for row in rows], [row["p1"] for row in rows]
    (classes, sure), (other_classes, other_sure) = found["fp32"], found["int8"]
    assert sum(a == b for a, b in zip(classes, other_classes, strict=True)) >= 27  # of 30
    assert sure != other_sure


@pytest.mark.parametrize("shared", [0, 1, 30])
def test_images_of_the_evaluation_in_the_calibration_are_counted(
    shared: int, tiny: Path, photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for index, path in enumerate(sorted(photos.rglob("*.JPEG"))):
        link = jpeg(tmp_path / "calibration" / f"{index}.jpg", 100 + index)
        if index < shared:
            link.unlink()
            link.symlink_to(path)
    tokens = ("--backend", "onnxruntime", "--precision", "int8", "--calibration", tmp_path / "calibration", "--workers", 0)
    assert call(evaluation, "imagenet", "--data", photos, "--model", tiny, "--device", "cpu", *tokens) == 0
    said = {0: "", 1: "1 image of the evaluation is used", 30: "30 images of the evaluation are used"}[shared]
    assert said in caplog.text
    assert ("for the calibration too" in caplog.text) == bool(shared)


def test_two_processes_give_the_same_as_one(tiny: Path, photos: Path, tmp_path: Path) -> None:
    (photos / "val" / IMAGENETTE[3] / "1.JPEG").unlink()  # 29 images: an odd number for two
    tokens = ["imagenet", "--data", str(photos), "--model", "mobilenet_v1_025", "--weights", str(tiny)]
    one, two = tmp_path / "one", tmp_path / "two"
    evaluate(*tokens[1:], "--predictions", f"{one}.csv", out=Path(f"{one}.json"))
    own = ("--predictions", f"{two}.csv", "--out", f"{two}.json", "--workers", 0)
    assert together(call, evaluation, *tokens, *own) == [0, 0]
    assert Path(f"{two}.csv").read_text() == Path(f"{one}.csv").read_text()
    (a,), (b,) = (json.loads(Path(f"{path}.json").read_text())["results"] for path in (one, two))
    assert b.pop("processes") == 2
    for key in ("n", "top1_correct", "top5_correct", "top1_interval", "ece", "data"):
        assert a[key] == b[key]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "1.JPEG").write_bytes(b"\xff\xd8 no jpeg"), "n02102040/1.JPEG is not a readable"),
        (lambda folder: bomb(folder / "9.png"), r"n02102040/9.png would unpack to .* decompression bomb"),
    ],
    ids=["corrupt", "bomb"],
)
def test_bad_images_stop_the_run_or_are_counted(
    change: Any, message: str, tiny: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(photos / "val" / IMAGENETTE[1])
    tokens = ("--data", photos, "--model", "mobilenet_v1_025", "--weights", tiny)
    out = tmp_path / "out.json"
    assert call(evaluation, "imagenet", *tokens, "--workers", 0, "--out", out) == 2
    error = capsys.readouterr().err
    assert re.search(message, error)
    assert "--skip-corrupt" in error
    assert len(error.splitlines()) == 1
    assert not out.exists()
    result = evaluate(*tokens, "--skip-corrupt", out=out)
    (skipped,) = result["data"]["corrupt_left_out"]
    assert IMAGENETTE[1] in skipped["image"]
    assert result["n"] + len(result["data"]["corrupt_left_out"]) in (30, 31)
    assert "1 file left out that cannot be read as an image" in capsys.readouterr().out


def test_two_processes_stop_together_and_print_one_message(
    tiny: Path, photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (photos / "val" / IMAGENETTE[1] / "1.JPEG").write_bytes(b"no jpeg")
    tokens = ("--data", photos, "--model", "mobilenet_v1_025", "--weights", tiny, "--workers", 0)
    assert together(call, evaluation, "imagenet", *tokens) == [2, 2]
    assert len(re.findall("is not a readable", capfd.readouterr().err)) == 1


def test_files_that_are_not_images_are_counted_and_named(
    tiny: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    (photos / "val" / IMAGENETTE[1] / "notes.txt").write_text("x")
    (photos / "val" / "empty").mkdir()
    result = evaluate("--data", photos, "--model", "mobilenet_v1_025", "--weights", tiny, out=tmp_path / "out.json")
    assert result["data"]["corrupt_left_out"] == [{"image": f"{IMAGENETTE[1]}/notes.txt", "reason": "not an image"}]
    assert f"1 file is not read as images and left out (1 .txt): {IMAGENETTE[1]}/notes.txt" in caplog.text
    out = capsys.readouterr().out
    assert "1 file left out that cannot be read as an image" in out
    assert "1 empty class folder left out: empty" in out


def test_unknown_classes(tiny: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokens = ("--data", photos, "--model", "mobilenet_v1_025", "--weights", tiny)
    jpeg(photos / "val" / "n99999999" / "a.JPEG")
    jpeg(photos / "val" / "cats" / "a.JPEG")
    assert call(evaluation, "imagenet", *tokens, "--workers", 0) == 2
    error = capsys.readouterr().err
    assert "2 class folders are not among the model's 10 classes: cats, n99999999" in error
    assert "--skip-unknown" in error
    result = evaluate(*tokens, "--skip-unknown", out=tmp_path / "o.json")
    assert result["n"] == 30
    assert result["data"]["unknown_left_out"] == 2
    strange = tmp_path / "strange"
    jpeg(strange / "cats" / "a.JPEG")
    assert call(evaluation, "imagenet", "--data", strange, *tokens[2:]) == 2
    assert "not one of 1 class folder (cats) is among" in capsys.readouterr().err


def test_folders_of_some_indices_are_imagenets_to_a_model_of_its_classes(
    tiny: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ("--model", "mobilenet_v1_025", "--weights", tiny)
    few = tmp_path / "few" / "val"
    few.mkdir(parents=True)
    for synset in IMAGENETTE[:3]:
        (few / str(imagenet1k().index(synset))).symlink_to(photos / "val" / synset)
    result = evaluate("--data", few, *model, "--predictions", tmp_path / "p.csv", out=tmp_path / "o.json")
    assert (result["n"], result["data"]["layout"]) == (9, "class folders by index")
    with (tmp_path / "p.csv").open() as file:
        assert {row["class"] for row in csv.DictReader(file)} == set(IMAGENETTE[:3])
    (few / "1000").symlink_to(photos / "val" / IMAGENETTE[3])
    capsys.readouterr()
    assert call(evaluation, "imagenet", "--data", few, *model, "--workers", 0) == 2
    assert "1 class folder is not among the model's 10 classes: 1000; rename or remove them" in capsys.readouterr().err


MINE = ["--data", "PHOTOS", "--model", "mobilenet_v1_025", "--weights", "TINY"]


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (["--data", "nowhere", "--model", "resnet18"], "nowhere does not exist"),
        (["--data", "PHOTOS", "--model", "resnet50d"], 'no model "resnet50d"; did you mean resnet50_d'),
        (["--data", "PHOTOS", "--model", "mobilenet_v1_050"], "no weights are published for mobilenet_v1_050; mobilenet_v1_100, "),
        (["--data", "PHOTOS", "--model", "resnet18", "--weights", "gluon"], "did you mean resnet18.gluon_in1k"),
        (["--data", "PHOTOS", "--model", "resnet18"], "connection refused"),
        ([*MINE, "--classes", "imagenet1k"], "10 outputs, but the class list has 1,000"),
        ([*MINE, "--batch-size", "0"], "--batch-size must be 1"),
        ([*MINE, "--batch-size", "99999999999999999999"], "--batch-size must be at most 9,007,199,254,740,992"),
        ([*MINE, "--size", "0"], "--size must be 1 or more, not 0"),
        ([*MINE, "--size=-3"], "--size must be 1 or more, not -3"),
        ([*MINE, "--crop", "0"], "--crop must be above 0 and at most 1, not 0"),
        ([*MINE, "--crop", "1.5"], "--crop must be above 0 and at most 1, not 1.5"),
        (
            [*MINE, "--backend", "auto", "--precision", "fp16"],
            "--backend auto has no fp16 on a CPU; use --precision bf16 or fp32",
        ),
        ([*MINE, "--device", "cpu", "--precision", "fp16"], "--precision fp16 needs an accelerator; take --precision bf16 or fp32"),
        ([*MINE, "--precision", "int8"], "--precision int8 and --calibration FOLDER belong together"),
        ([*MINE, "--calibration", "PHOTOS"], "--precision int8 and --calibration FOLDER belong together"),
        ([*MINE, "--precision", "int8", "--calibration", "PHOTOS"], "--precision int8 needs --backend onnxruntime or openvino"),
        ([*MINE, "--workers=-1"], "--workers must be 0 or more, not -1"),
        (["--data", "PHOTOS", "--model", "resnet18", "--model", "resnet34", "--weights", "x"], "--weights is for one --model"),
        ([*MINE, "--out", "PHOTOS"], "is a folder; name a file"),
        ([*MINE, "--out", "r.json", "--per-class", "./r.json"], "--out and --per-class are both r.json; name a different path for each"),
        ([*MINE, "--per-class", "r.csv", "--predictions", "r.csv"], "--per-class and --predictions are both r.csv"),
        (["--data", "PHOTOS", "--model", "vgg*"], 'no model with a default weight "vgg*"'),
        (["--data", "PHOTOS"], "--model"),
        (["--data", "PHOTOS", "--model", "resnet18", "--precison", "fp32"], "--precison"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_mistakes_end_in_one_line_and_status_2(
    tokens: list[str], message: str, tiny: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"PHOTOS": str(photos), "TINY": str(tiny)}
    assert call(evaluation, "imagenet", *(places.get(token, token) for token in tokens)) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("trickzoo: ")
    assert "Traceback" not in error


def test_a_file_without_preprocessing_or_classes_must_be_told(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bare.safetensors"
    trickzoo.export(trickzoo.create("mobilenet_v1_025", num_classes=10, activation="relu6"), path, layout="timm")
    tokens = ["--data", photos, "--model", "mobilenet_v1_025", "--weights", path]
    assert call(evaluation, "imagenet", *tokens) == 2
    assert "10 outputs and does not state its classes" in capsys.readouterr().err
    tokens += ["--classes", "folders"]
    assert call(evaluation, "imagenet", *tokens) == 2
    assert "pass --size, --crop and --interpolation" in capsys.readouterr().err
    result = evaluate(*tokens, "--size", 32, "--crop", 1.0, "--interpolation", "bicubic", out=tmp_path / "o.json")
    assert result["n"] == 30


def test_weights_that_give_no_numbers_are_refused(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = trickzoo.create("mobilenet_v1_025")
    torch.nn.init.constant_(model.head.fc.weight, float("nan"))  # type: ignore[arg-type]
    trickzoo.export(model, tmp_path / "nan.safetensors")
    tokens = ("--weights", tmp_path / "nan.safetensors", "--size", 32, "--crop", 1.0, "--interpolation", "bicubic", "--workers", 0)
    assert call(evaluation, "imagenet", "--data", photos, "--model", "mobilenet_v1_025", *tokens) == 2
    assert "not finite" in capsys.readouterr().err


def test_predict_prints_bars_or_json(tiny: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = photos / "val" / IMAGENETTE[0] / "0.JPEG"
    assert call(zoo, "predict", image, image, "--model", "mobilenet_v1_025", "--weights", tiny) == 0
    text = capsys.readouterr().out
    assert text.count(str(image)) == 2
    assert "%" in text
    assert call(zoo, "predict", image, "--model", "mobilenet_v1_025", "--weights", tiny, "--json", "--top", 3) == 0
    (result,) = json.loads(capsys.readouterr().out)
    model = trickzoo.create("mobilenet_v1_025", weights=tiny)
    with torch.inference_mode():
        expected = model(trickzoo.eval_transform(model)(Image.open(image))[None])[0].softmax(0).topk(3)
    assert [row["probability"] for row in result["top"]] == pytest.approx(expected.values.tolist(), abs=1e-6)
    assert [row["class"] for row in result["top"]] == [IMAGENETTE[i] for i in expected.indices]
    (tmp_path / "broken.jpg").write_text("x")
    assert call(zoo, "predict", image, tmp_path / "broken.jpg", "--model", "mobilenet_v1_025", "--weights", tiny) == 2
    output = capsys.readouterr()
    assert "broken.jpg is not a readable image" in output.err
    assert output.out == ""
