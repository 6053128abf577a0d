"""`trickzoo-eval imagenet` and `trickzoo predict`, end to end."""

from __future__ import annotations

import csv
import json
import pickle
import re
import shutil
from pathlib import Path

import pytest
import sklearn.metrics as reference
import torch
from PIL import Image

import trickzoo
from tests.commands import call, evaluate
from tests.images import jpeg
from trickzoo import files
from trickzoo.cli import evaluation, zoo
from trickzoo.data.classes import IMAGENETTE, imagenet1k
from trickzoo.weights.record import Preprocessing


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


def test_the_table_of_classes_has_those_of_the_macro_f1(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "two").mkdir()
    for folder in sorted(photos.glob("val/*"))[:2]:
        folder.rename(tmp_path / "two" / folder.name)
    table = ("--per-class", tmp_path / "classes.csv")
    result = evaluate("--data", tmp_path / "two", "--model", "mobilenet_v1_025.tz_imagenette128", *table, out=tmp_path / "out.json")
    with (tmp_path / "classes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row for row in rows if row["n"] == "0" and row["top1"] == row["top5"] == ""], "classes that are only predicted"
    assert result["macro_f1"] == pytest.approx(sum(float(row["f1"]) for row in rows) / len(rows), abs=1e-4)


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
