"""`trickzoo.load`: networks from files, folders of trainings and names, and what they predict and draw."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

import trickzoo
from tests.commands import Call, caller
from trickzoo import detection, segmentation
from trickzoo.backbone import Backbone
from trickzoo.cli import zoo
from trickzoo.data import image_memory
from trickzoo.data.images import read
from trickzoo.drawing import draw_boxes, draw_mask
from trickzoo.errors import BadCheckpoint, BadOption, NoWeights, WeightsUnavailable
from trickzoo.weights import named, tensors
from trickzoo.weights.record import METADATA_KEY, Preprocessing

PREPARED = Preprocessing(size=32, crop=1.0)


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs `trickzoo predict`; (exit status, stdout, stderr)."""
    return caller(capsys, zoo, "predict")


def test_a_classifier_predicts_as_its_network_does(trained: Path) -> None:
    loaded = trickzoo.load(trained / "classes")
    assert (loaded.task, loaded.classes) == ("classification", ("cat", "n01440764", "cow"))
    image = Image.open(trained / "a.jpg")
    with torch.inference_mode():
        expected = loaded.network(loaded.transform(image)[None]).softmax(1)[0]
    found = loaded.predict(image).found
    assert [each.label for each in found] == expected.argsort(descending=True).tolist()
    assert {each.label: each.score for each in found} == pytest.approx(dict(enumerate(expected.tolist())))
    assert {each.name for each in found} == {"cat", "tench", "cow"}
    assert loaded.predict(trained / "a.jpg") == loaded.predict(str(trained / "a.jpg")) == loaded.predict(image)
    turned = Image.open(trained / "b.jpg")
    assert loaded.predict(turned) == loaded.predict(trained / "b.jpg") == loaded.predict(ImageOps.exif_transpose(turned))


@pytest.mark.parametrize("file", ["classes", "boxes/model.safetensors", "masks/model.safetensors"])
def test_a_network_of_another_precision_predicts_the_same(file: str, trained: Path) -> None:
    loaded = trickzoo.load(trained / file)
    expected = loaded.predict(trained / "a.jpg").found
    loaded.network.double()
    found = loaded.predict(trained / "a.jpg").found
    assert [each.label for each in found] == [each.label for each in expected]
    assert [each.score for each in found] == pytest.approx([each.score for each in expected], abs=1e-4)


def test_a_path_may_begin_with_a_tilde_and_a_url_is_refused(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(trained))
    loaded = trickzoo.load("~/classes")
    assert loaded.predict("~/a.jpg") == loaded.predict(trained / "a.jpg")
    with pytest.raises(BadOption, match=r"https://example\.com/a\.jpg is a URL"):
        loaded.predict("https://example.com/a.jpg")


def test_a_detectors_labels_count_from_0_as_its_classes_do(trained: Path) -> None:
    loaded = trickzoo.load(trained / "boxes" / "model.safetensors")
    image = Image.open(trained / "a.jpg")
    expected = detection.predict(detection.load(trained / "boxes"), image)
    found = loaded.predict(image).found
    assert loaded.task == "detection" and len(found) == len(expected.scores) > 0
    for each, box, score, label, name in zip(found, expected.boxes, expected.scores, expected.labels, expected.names, strict=True):
        assert (each.label, each.name, each.score) == (label - 1, name, pytest.approx(score))
        assert loaded.classes[each.label] == each.name and each.box == pytest.approx(tuple(box))
    with torch.inference_mode():
        (raw,) = loaded.network([loaded.transform(image)])
    np.testing.assert_allclose(raw["scores"].numpy(), expected.scores, atol=1e-6)


def test_a_segmenters_mask_and_shares(trained: Path) -> None:
    loaded = trickzoo.load(trained / "masks")
    image = Image.open(trained / "a.jpg")
    prediction = loaded.predict(image)
    expected = segmentation.predict(segmentation.load(trained / "masks"), image)
    assert loaded.task == "segmentation" and prediction.mask is not None and np.array_equal(prediction.mask, expected)
    assert {type(each.score) for each in prediction.found} == {float}
    assert {each.label: each.score for each in prediction.found} == pytest.approx({i: (expected == i).mean() for i in np.unique(expected)})
    with torch.inference_mode():
        logits = loaded.network(loaded.transform(image)[None])
    mask = segmentation.evaluate.classes_of_pixels(logits, expected.shape)[0].numpy()
    assert np.array_equal(mask, expected)


@pytest.mark.parametrize("name", ["classes", "boxes", "masks"])
def test_predictions_of_a_network_that_is_trained_further_are_those_of_evaluation_mode(trained: Path, name: str) -> None:
    """BatchNorm would otherwise use the statistics of the one image, and change its own."""
    loaded = trickzoo.load(trained / name)
    expected, before = loaded.predict(trained / "a.jpg").found, {key: t.clone() for key, t in loaded.network.state_dict().items()}
    modes = [module.training for module in loaded.network.train().modules()]
    assert loaded.predict(trained / "a.jpg").found == expected
    assert all(torch.equal(tensor, before[key]) for key, tensor in loaded.network.state_dict().items())
    assert [module.training for module in loaded.network.modules()] == modes


@pytest.mark.parametrize("threshold", [-0.1, 1.5, 50, float("nan")])
def test_a_threshold_is_a_probability(trained: Path, threshold: float) -> None:
    with pytest.raises(BadOption, match="threshold must be from 0 to 1"):
        trickzoo.load(trained / "boxes").predict(trained / "a.jpg", threshold)


def test_found_below_the_threshold_is_left_out(trained: Path) -> None:
    for name in ("classes", "boxes", "masks"):
        loaded = trickzoo.load(trained / name)
        whole = loaded.predict(trained / "a.jpg")
        limit = sorted(each.score for each in whole.found)[len(whole.found) // 2]
        sure = loaded.predict(trained / "a.jpg", threshold=limit)
        assert sure.found == tuple(each for each in whole.found if each.score >= limit) != ()
        assert np.array_equal(sure.mask, whole.mask)


@pytest.mark.parametrize("name", ["a.jpg", "b.jpg"])
def test_predictions_are_drawn(trained: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large image is reduced when it is decoded; b.jpg is turned upright too."""
    upright = read(trained / name).upright()
    size = upright.image.size
    detector, segmenter = (trickzoo.load(trained / folder) for folder in ("boxes", "masks"))
    boxes, mask = (loaded.predict(trained / name) for loaded in (detector, segmenter))
    assert mask.mask is not None
    drawn = detector.draw(trained / name, boxes)
    edges, labels, scores = zip(*((each.box, each.label + 1, each.score) for each in boxes.found), strict=True)
    assert np.array_equal(drawn, draw_boxes(upright.image, edges, labels, detector.classes, scores))
    assert np.array_equal(detector.draw(upright, boxes), drawn)
    assert np.array_equal(segmenter.draw(trained / name, mask), draw_mask(upright.image, mask.mask, segmenter.classes))
    monkeypatch.setattr(image_memory, "MAX_PIXELS", size[0] * size[1] // 3)
    small = read(trained / name).upright()
    assert min(small.scale) >= 2
    reduced = np.array(edges) / (2 * small.scale)
    assert np.array_equal(detector.draw(trained / name, boxes), draw_boxes(small.image, reduced, labels, detector.classes, scores))
    below = np.asarray(Image.fromarray(mask.mask).resize(small.image.size, Image.Resampling.NEAREST))
    assert np.array_equal(segmenter.draw(trained / name, mask), draw_mask(small.image, below, segmenter.classes))
    kept = segmenter.predict_picture(small)
    assert kept.mask is not None and kept.mask.shape == small.image.size[::-1]
    assert np.array_equal(segmenter.draw(small, kept), draw_mask(small.image, kept.mask, segmenter.classes))


def test_a_classifiers_prediction_cannot_be_drawn(trained: Path) -> None:
    loaded = trickzoo.load(trained / "classes")
    with pytest.raises(BadOption, match="only the boxes of a detector and the mask of a segmenter can be drawn"):
        loaded.draw(trained / "a.jpg", loaded.predict(trained / "a.jpg"))
    with pytest.raises(BadOption, match="the prediction has no boxes; pass one of this detector"):
        trickzoo.load(trained / "boxes").draw(trained / "a.jpg", loaded.predict(trained / "a.jpg"))


def test_a_loaded_network_is_printed_in_one_line(trained: Path) -> None:
    assert repr(trickzoo.load(trained / "classes")) == "Network(classification: mobilenet_v1_025, 3 classes: cat, n01440764, cow)"
    assert repr(trickzoo.load(trained / "boxes")).startswith("Network(detection: FasterRCNN, ")


@pytest.mark.parametrize("name", ["classes", "boxes", "masks"])
def test_a_loaded_network_can_be_pickled(name: str, trained: Path) -> None:
    loaded = trickzoo.load(trained / name)
    again = pickle.loads(pickle.dumps(loaded))
    image = Image.open(trained / "a.jpg")
    assert again.predict(image).found == loaded.predict(image).found
    assert torch.equal(again.transform(image), loaded.transform(image))


def test_create_takes_a_file_or_the_folder_of_a_training(trained: Path) -> None:
    for path in (trained / "classes", str(trained / "classes" / "model.safetensors")):
        model = trickzoo.create(path)
        assert (model.name, model.num_classes, model.weights.classes) == ("mobilenet_v1_025", 3, ("cat", "n01440764", "cow"))
    with pytest.raises(BadOption, match="is a file with weights; leave pretrained and weights out"):
        trickzoo.create(trained / "classes", pretrained=True)


@pytest.mark.parametrize("name", ["a.jpg", "b.jpg"])
def test_what_is_found_in_a_large_image_is_in_its_own_pixels(trained: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large image is reduced when it is decoded; b.jpg is turned upright too."""
    with Image.open(trained / name) as stored:
        size = ImageOps.exif_transpose(stored).size
        monkeypatch.setattr(image_memory, "MAX_PIXELS", stored.width * stored.height // 3)
    small = Image.fromarray(np.asarray(read(trained / name).upright()))
    scale = size[0] / small.width
    assert scale >= 2
    detector, segmenter = (trickzoo.load(trained / folder) for folder in ("boxes", "masks"))
    found, reduced = detector.predict(trained / name).found, detector.predict(small).found
    assert len(found) == len(reduced) > 0
    for each, other in zip(found, reduced, strict=True):
        assert each.box == pytest.approx([scale * edge for edge in other.box or ()])
    mask, below = segmenter.predict(trained / name).mask, segmenter.predict(small).mask
    assert mask is not None and below is not None and mask.shape == size[::-1]
    assert np.array_equal(mask, np.asarray(Image.fromarray(below).resize(size, Image.Resampling.NEAREST)))


def test_a_weight_of_the_zoo_is_loaded_by_its_name() -> None:
    loaded = trickzoo.load("mobilenet_v1_025.tz_imagenette128")
    assert loaded.task == "classification" and loaded.classes[0] == "n01440764"
    assert loaded.predict(Image.new("RGB", (20, 30))).found[0].name
    with pytest.raises(NoWeights, match=r"name one of its own: mobilenet_v1_025\.tz_imagenette128; .* have one$"):
        trickzoo.load("mobilenet_v1_025")
    with pytest.raises(WeightsUnavailable, match=r"resnet50_d\.gluon_in1k"):
        trickzoo.load("resnet50_d")
    with pytest.raises(WeightsUnavailable, match="hf-hub:nobody/nothing"):
        trickzoo.load("hf-hub:nobody/nothing")


def test_what_cannot_be_loaded(trained: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.safetensors"
    trickzoo.export(trickzoo.create("mobilenet_v1_025", num_classes=3), bare)
    other, wrong = trickzoo.create("mobilenet_v1_025", num_classes=3), tmp_path / "wrong.safetensors"
    own = {METADATA_KEY: json.dumps({"model": other.name, "classes": ["a", "b"], "preprocessing": {"size": 32}})}
    tensors.save_atomically(other.state_dict(), wrong, own)
    named_only = tmp_path / "named.safetensors"
    trickzoo.export(other, named_only, classes=("a", "b", "c"))
    with pytest.raises(BadOption, match=r"or overwrite it with --overwrite \(overwrite=True in Python\)"):
        trickzoo.export(other, named_only, classes=("a", "b", "c"))
    for path, message in (
        (named_only, r"named.safetensors does not name its preprocessing; write it with trickzoo\.export"),
        (wrong, r"names 2 classes for 3 outputs; write it with trickzoo\.export\(…, classes=…\)"),
        (bare, "does not name its classes and its preprocessing; write it with trickzoo.export"),
        (tmp_path, "holds no finished training run; name its last.pt"),
        (trained, "holds no training itself; name one of those in it: .*classes"),
        (tmp_path / "gone.safetensors", "does not exist"),
    ):
        with pytest.raises(BadCheckpoint, match=message):
            trickzoo.load(path)
    for image in (np.zeros((20, 30, 3), np.uint8), [trained / "a.jpg"]):
        with pytest.raises(BadOption, match=r"expected an image of Pillow, not (ndarray|list)"):
            trickzoo.load(trained / "classes").predict(image)  # type: ignore[arg-type]


def test_a_folder_without_trainings_is_not_taken_for_weights(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that has the name of what a user types by chance changes nothing, unless it holds trainings."""
    monkeypatch.chdir(tmp_path)
    for name in ("default", "none", "runs"):
        (tmp_path / name / "notes").mkdir(parents=True)
        assert not named.is_file(name)
    (tmp_path / "runs" / "one").symlink_to(trained / "classes")
    assert named.is_file("runs")


@pytest.mark.parametrize("checkpoint", ["last.pt", "best.pt"])
def test_the_folder_of_an_unfinished_training_is_told(checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if it is named without a slash, as a model or a tag is."""
    monkeypatch.chdir(tmp_path)
    Path("stopped").mkdir()
    Path("stopped", checkpoint).write_bytes(b"")
    for load in (trickzoo.load, named.check, lambda name: trickzoo.create("resnet18", weights=name)):
        with pytest.raises(BadCheckpoint, match=r"stopped holds no finished training run; name its last\.pt or best\.pt"):
            load("stopped")


def test_a_network_is_loaded_onto_a_device() -> None:
    name = "mobilenet_v1_025.tz_imagenette128"
    assert {each.device.type for each in trickzoo.load(name, device="meta").network.parameters()} == {"meta"}
    assert {each.device.type for each in trickzoo.load(name).network.parameters()} == {"cpu"}


@pytest.mark.parametrize("name", trickzoo.list_networks())
def test_a_network_is_loaded_without_memory(name: str) -> None:
    with torch.device("meta"):
        assert all(tensor.is_meta for tensor in trickzoo.load(name).network.state_dict().values())


def test_networks_that_do_not_come_from_a_file_predict_too() -> None:
    """A detector's boxes are named by their labels."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 70, 3), dtype=np.uint8))
    detector = detection.faster_rcnn("mobilenet_v1_025", num_classes=3, min_size=64, max_size=96)
    found = detection.predict(detector, image)
    with torch.no_grad():
        (raw,) = detector.eval()([torch.from_numpy(np.array(image.resize((90, 64)))).permute(2, 0, 1) / 255])
    assert len(found.names) == len(found.scores) == len(raw["scores"]) > 0
    assert set(found.names) <= {"1", "2"}
    segmenter = segmentation.fcn("mobilenet_v1_025", num_classes=3)
    assert segmentation.predict(segmenter, image).shape == (50, 70)


def test_a_classifier_whose_logits_are_not_finite_predicts_nothing(trained: Path, tmp_path: Path, call: Call) -> None:
    model, file = trickzoo.create(trained / "classes"), tmp_path / "nan.safetensors"
    torch.nn.init.constant_(model.head.fc.bias, torch.nan)  # type: ignore[arg-type]
    trickzoo.export(model, file)
    message = f"{file} gives logits that are not finite; the weights are damaged"
    with pytest.raises(BadCheckpoint) as error:
        trickzoo.load(file).predict(trained / "a.jpg")
    assert str(error.value) == message
    assert call(trained / "a.jpg", "--weights", file) == (2, "", f"trickzoo: {message}\n")


def of_channels(in_chans: int, file: Path) -> Backbone:
    """Write a classifier for images of this number of channels."""
    model = trickzoo.create("mobilenet_v1_025", num_classes=3, in_chans=in_chans).eval()
    trickzoo.export(model, file, classes=("cat", "n01440764", "cow"), preprocessing=PREPARED)
    return trickzoo.create(file, in_chans=in_chans)


def test_a_classifier_of_grey_images_is_opened_by_its_header(
    trained: Path, tmp_path: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    file, onnx = tmp_path / "grey.safetensors", tmp_path / "grey.onnx"
    model = of_channels(1, file)
    with torch.inference_mode():
        expected = model(trickzoo.eval_transform(model)(Image.open(trained / "a.jpg"))[None]).softmax(1)[0].sort(descending=True)
    loaded = trickzoo.load(file)
    assert loaded.network.in_chans == 1
    found = loaded.predict(trained / "a.jpg").found
    assert [each.label for each in found] == expected.indices.tolist()
    assert [each.score for each in found] == pytest.approx(expected.values.tolist())
    for out in (onnx, tmp_path / "again.pth"):
        assert caller(capsys, zoo, "export")(out, "--model", file) == (0, f"{out}\n", "")
    same = trickzoo.create("mobilenet_v1_025", weights=tmp_path / "again.pth", in_chans=1)
    assert torch.equal(same.stem.conv.weight, model.stem.conv.weight)
    for tokens in (("--weights", file), ("--model", "mobilenet_v1_025", "--weights", file), ("--model", file), ("--model", onnx)):
        status, text, err = call(trained / "a.jpg", *tokens, "--json")
        assert (status, err) == (0, "")
        assert [row["probability"] for row in json.loads(text)[0]["top"]] == pytest.approx(expected.values.tolist(), abs=1e-5)


def test_a_classifier_of_four_channels_is_opened_in_python(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "four.safetensors"
    assert of_channels(4, file).in_chans == 4
    message = f"{file} is for inputs of 4 channels, and images have 1 or 3; open it in Python with trickzoo.create(FILE, in_chans=4)"
    with pytest.raises(BadCheckpoint) as error:
        trickzoo.load(file)
    assert str(error.value).startswith(message)
    for command, *tokens in (("export", tmp_path / "x.onnx", "--model", file), ("predict", trained / "a.jpg", "--weights", file)):
        status, _, err = caller(capsys, zoo, command)(*tokens)
        assert status == 2 and err.startswith(f"trickzoo: {message}")


@pytest.mark.parametrize(("task", "key"), [("boxes", "roi_heads.box_predictor.cls_score.bias"), ("masks", "backbone.stem.bn.running_var")])
def test_a_detector_or_segmenter_with_weights_that_are_not_finite_is_not_loaded(
    task: str, key: str, trained: Path, tmp_path: Path, call: Call
) -> None:
    content, file = tensors.read_tensors(trained / task / "model.safetensors"), tmp_path / "nan.safetensors"
    damaged = content.tensors | {key: torch.full_like(content.tensors[key], torch.nan)}
    tensors.save_atomically(damaged, file, content.metadata)
    message = f"{file} has weights that are not finite; the weights are damaged"
    with pytest.raises(BadCheckpoint) as error:
        trickzoo.load(file)
    assert str(error.value) == message
    assert call(trained / "a.jpg", "--weights", file, "--out", tmp_path / "out") == (2, "", f"trickzoo: {message}\n")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("task", ["boxes", "masks"])
def test_a_detector_or_segmenter_whose_logits_are_not_finite_predicts_nothing(task: str, trained: Path, tmp_path: Path, call: Call) -> None:
    """Its weights are finite, and it would find no box, or predict one class everywhere."""
    content, file = tensors.read_tensors(trained / task / "model.safetensors"), tmp_path / "huge.safetensors"
    huge = {key: tensor * 1e9 if tensor.is_floating_point() else tensor for key, tensor in content.tensors.items()}
    tensors.save_atomically(huge, file, content.metadata)
    message = "trickzoo: the network gives logits that are not finite; the weights are damaged\n"
    assert call(trained / "a.jpg", "--weights", file, "--out", tmp_path / "out") == (2, "", message)
