"""`trickzoo predict` with detectors and segmenters."""

from __future__ import annotations

import gc
import json
import shutil
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional

from tests.annotated import SIDE, damaged
from tests.commands import Call, caller
from tests.images import jpeg
from trickzoo import detection, segmentation
from trickzoo.cli import zoo
from trickzoo.data import image_memory, images
from trickzoo.data.annotated_transforms import fit
from trickzoo.data.picture import Picture
from trickzoo.detection import evaluate
from trickzoo.drawing import draw_boxes, draw_mask
from trickzoo.errors import BadData

SMALL = "mobilenet_v1_025.tz_imagenette128"


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs `trickzoo predict`; (exit status, stdout, stderr)."""
    return caller(capsys, zoo, "predict")


@pytest.fixture(scope="module")
def place(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a detector, a segmenter, a classifier and images; nobody is to write there."""
    folder = tmp_path_factory.mktemp("place")
    for name in ("boxes", "masks", "classes"):
        shutil.copy(trained / name / "model.safetensors", folder / f"{name}.safetensors")
    shutil.copy(trained / "a.jpg", folder)
    jpeg(folder / "other" / "a.jpg", 2, (160, 120))
    for mode in ("L", "RGBA", "P"):
        Image.open(folder / "a.jpg").convert(mode).save(folder / f"{mode}.png")
    (folder / "there").mkdir()
    (folder / "there" / "a.png").write_text("mine")
    (folder / "broken.jpg").write_text("x")
    (folder / "empty" / ".hidden").mkdir(parents=True)
    (folder / "empty" / "notes.txt").write_text("x")
    (folder / "empty" / ".hidden" / "a.jpg").write_bytes((folder / "a.jpg").read_bytes())
    return folder


def test_boxes_are_drawn_and_printed_in_the_files_pixels(call: Call, place: Path, tmp_path: Path) -> None:
    weights, out = place / "boxes.safetensors", tmp_path / "out"
    model = detection.load(weights)
    image = Image.open(place / "a.jpg")
    found = detection.predict(model, image)
    width, height = fit(160, 120, SIDE, 96)
    small = functional.resize(functional.pil_to_tensor(image), [height, width], antialias=True)
    with torch.inference_mode():
        (expected,) = model([small / 255])
    scale = np.array([160 / width, 120 / height] * 2)
    np.testing.assert_allclose(found.boxes, expected["boxes"].double().numpy() * scale, atol=1e-3)
    assert found.boxes.max() > 96

    threshold = float(np.median(found.scores))
    tokens = (place / "a.jpg", "--weights", weights, "--out", out, "--threshold", threshold)
    status, text, _ = call(*tokens, "--task", "detection", "--json")
    assert status == 0
    (row,) = json.loads(text)
    sure = found.scores >= threshold
    assert (row["image"], row["picture"]) == (str(place / "a.jpg"), str(out / "a.png"))
    assert 0 < len(row["boxes"]) == sure.sum() < len(sure)
    for box, corners, score, label in zip(row["boxes"], found.boxes[sure], found.scores[sure], found.labels[sure], strict=True):
        assert box == {"class": model.classes[label - 1], "score": pytest.approx(score, abs=1e-4), "box": pytest.approx(corners, abs=0.051)}
    drawn = draw_boxes(image, found.boxes[sure], found.labels[sure], model.classes, found.scores[sure])
    with Image.open(out / "a.png") as picture:
        assert picture.format == "PNG" and np.array_equal(np.asarray(picture), np.asarray(drawn))
    assert [file.name for file in out.iterdir()] == ["a.png"]

    status, text, _ = call(*tokens, "--overwrite")
    lines = text.splitlines()
    assert status == 0 and len(lines) == 1 + len(row["boxes"])
    assert lines[0] == f"{place / 'a.jpg'}: {len(row['boxes'])} boxes, {out / 'a.png'}"
    assert lines[1].split() == [
        row["boxes"][0]["class"],
        f"{row['boxes'][0]['score']:.3f}",
        *(f"{edge:.1f}" for edge in row["boxes"][0]["box"]),
    ]


def test_masks_are_drawn_and_their_shares_printed(call: Call, place: Path, tmp_path: Path) -> None:
    weights, out = place / "masks.safetensors", tmp_path / "out"
    status, text, _ = call(place / "a.jpg", "--weights", weights, "--out", out, "--json")
    assert status == 0
    (row,) = json.loads(text)
    model, image = segmentation.load(weights), Image.open(place / "a.jpg")
    mask = segmentation.predict(model, image)
    assert mask.shape == (120, 160) and mask.dtype == np.uint8
    shares = {name: (mask == i).mean() for i, name in enumerate(model.classes) if (mask == i).any()}
    assert row["shares"] == pytest.approx(shares, abs=1e-6)
    assert list(row["shares"].values()) == sorted(row["shares"].values(), reverse=True)
    with Image.open(out / "a.png") as picture:
        assert np.array_equal(np.asarray(picture), np.asarray(draw_mask(image, mask, model.classes)))
    text = call(place / "a.jpg", "--weights", weights, "--out", out, "--overwrite", "--task", "segmentation")[1]
    assert text.splitlines()[0] == f"{place / 'a.jpg'}: {out / 'a.png'}"
    first = next(iter(row["shares"]))
    assert text.splitlines()[1].split() == [first, f"{row['shares'][first]:.2%}"]


def test_images_of_any_mode_and_a_default_folder(call: Call, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = [place / f"{mode}.png" for mode in ("L", "RGBA", "P")]
    for weights in ("boxes", "masks"):
        status, text, _ = call(*files, "--weights", place / f"{weights}.safetensors", "--overwrite", "--json")
        assert status == 0 and [row["picture"] for row in json.loads(text)] == [f"predictions/{mode}.png" for mode in ("L", "RGBA", "P")]
    assert sorted(file.name for file in (tmp_path / "predictions").iterdir()) == ["L.png", "P.png", "RGBA.png"]


def test_nothing_found(call: Call, place: Path, tmp_path: Path) -> None:
    tokens = (place / "a.jpg", "--weights", place / "boxes.safetensors", "--threshold", 1, "--out", tmp_path)
    first, *rest = call(*tokens)[1].splitlines()
    assert first == f"{place / 'a.jpg'}: 0 boxes, {tmp_path / 'a.png'}"
    assert rest == ["no box has a score of --threshold or more; a lower --threshold shows more boxes"]
    assert (tmp_path / "a.png").is_file()


def test_the_model_is_read_from_a_classifiers_file(call: Call, place: Path) -> None:
    tokens = ("--classes", place / "names.txt", "--size", 32, "--crop", 1, "--interpolation", "bicubic", "--json")
    (place / "names.txt").write_text("cat\ndog\ncow\n")
    status, text, _ = call(place / "a.jpg", "--weights", place / "classes.safetensors", *tokens)
    assert status == 0 and {row["class"] for row in json.loads(text)[0]["top"]} == {"cat", "dog", "cow"}
    (place / "names.txt").unlink()


def test_brackets_in_names_are_printed(call: Call, place: Path, tmp_path: Path) -> None:
    image = jpeg(tmp_path / "a[red] :cat:.jpg")
    (tmp_path / "names.txt").write_text("cat [red]\ndog [/]\ncow [x]\n")
    tokens = ("--classes", tmp_path / "names.txt", "--size", 32, "--crop", 1, "--interpolation", "bicubic")
    status, text, _ = call(image, "--weights", place / "classes.safetensors", *tokens)
    assert status == 0
    assert all(name in text for name in (str(image), "cat [red]", "dog [/]", "cow [x]"))


def test_a_folder_stands_for_its_images(call: Call, place: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photographs"
    files = [folder / "b" / "2.JPG", folder / "b" / "3.png", folder / "1.jpg"]
    for file in files:
        jpeg(file)
    (tmp_path / "classes.txt").write_text("cat\ncow\ndog\n")
    prepared = ("--size", 32, "--crop", 1.0, "--interpolation", "bilinear", "--classes", tmp_path / "classes.txt")
    tokens = ("--weights", place / "classes.safetensors", "--json", *prepared)
    by_folder, one_by_one = (json.loads(call(*images, *tokens)[1]) for images in ([folder], files[-1:] + files[:-1]))
    assert [row["image"] for row in by_folder] == [str(file) for file in (files[-1], *files[:-1])]
    assert by_folder == one_by_one


@pytest.mark.parametrize(("weights", "options"), [("boxes", ("picture",)), ("masks", ("picture", "mask"))])
def test_pictures_keep_the_subfolders_of_a_folder(
    call: Call, place: Path, tmp_path: Path, weights: str, options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("0.jpg", "left/0.jpg", "right/far/0.jpg"):
        jpeg(Path("frames") / name)
    written = ("--out", "pictures", *(("--masks", "numbers") if "mask" in options else ()))
    status, text, err = call("frames", "frames/left/0.jpg", "--weights", place / f"{weights}.safetensors", *written, "--json")
    assert status == 0, err
    rows = {row["image"]: row for row in json.loads(text)}
    for option, folder in zip(options, ("pictures", "numbers"), strict=False):
        assert {image: row[option] for image, row in rows.items()} == {
            f"frames/{place}.jpg": f"{folder}/{place}.png" for place in ("0", "left/0", "right/far/0")
        }
        assert sorted(map(str, Path(folder).rglob("*.png"))) == sorted(row[option] for row in rows.values())


@pytest.mark.parametrize(
    ("weights", "tokens", "words"),
    [
        ("boxes", ("--task", "segmentation"), "boxes.safetensors is for detection, not for segmentation; name a file that"),
        ("classes", ("--task", "detection"), "classes.safetensors is for classification, not for detection; name a file that"),
        (None, ("--task", "detection"), "--task detection needs --weights FILE, a model.safetensors that `trickzoo finetune` wrote"),
        (None, (), "name a model with --model, or with --weights a file"),
        ("nowhere", (), "nowhere.safetensors does not exist"),
        (
            "boxes",
            ("--backend", "openvino"),
            "--backend is for classification and segmentation, and boxes.safetensors is for detection; leave it out",
        ),
        ("boxes", ("--model", "resnet18"), "--model is for classification, and boxes.safetensors is for detection; leave it out"),
        ("masks", ("--threshold", 0.3), "--threshold is for detection, and masks.safetensors is for segmentation; leave it out"),
        ("classes", ("--out", "x"), "--out is for detection and segmentation, and classes.safetensors is for classification"),
        ("classes", ("empty",), f"empty holds no images; their names end in {', '.join(sorted(images.EXTENSIONS))}"),
        ("boxes", ("empty",), f"empty holds no images; their names end in {', '.join(sorted(images.EXTENSIONS))}"),
        ("boxes", ("nowhere.jpg", "--out", "new"), "nowhere.jpg cannot be read"),
        ("masks", ("nowhere.jpg", "--out", "new"), "nowhere.jpg cannot be read"),
        ("classes", ("--size", 0), "--size must be 1 or more, not 0"),
        ("classes", ("--crop", 7), "--crop must be above 0 and at most 1, not 7"),
        ("boxes", ("--threshold", 2), "--threshold must be from 0 to 1, not 2"),
        ("boxes", ("--out", "there"), "there/a.png exists already; replace it with --overwrite"),
        ("boxes", ("other/a.jpg",), "a.jpg and other/a.jpg would both be drawn into predictions/a.png"),
        ("boxes", ("L.png", "--out", ".", "--overwrite"), "L.png is one of the images"),
        ("boxes", ("broken.jpg", "--out", "new"), "broken.jpg is not a readable image"),
        ("masks", ("--out", "L.png"), "L.png/a.png cannot be written"),
    ],
)
def test_mistakes_end_in_one_line(
    weights: str | None, tokens: tuple[Any, ...], words: str, call: Call, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    before = sorted(place.rglob("*"))
    images = () if "broken.jpg" in tokens else ("a.jpg",)
    status, out, err = call(*images, *tokens, *(("--weights", f"{weights}.safetensors") if weights else ()))
    assert (status, out) == (2, "")
    assert words in err and err.count("\n") == 1 and err.startswith("trickzoo: ")
    assert sorted(place.rglob("*")) == before


def test_files_with_a_damaged_header_end_in_one_line(call: Call, place: Path, tmp_path: Path) -> None:
    for name, words in damaged(tmp_path).items():
        status, out, err = call(place / "a.jpg", "--weights", tmp_path / f"{name}.safetensors", "--out", tmp_path / "out")
        assert (status, out) == (2, ""), err
        assert words in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("task", [detection, segmentation], ids=["detection", "segmentation"])
def test_an_opened_image_of_any_mode_gives_what_its_colours_give(place: Path, task: Any) -> None:
    model = task.load(place / ("boxes.safetensors" if task is detection else "masks.safetensors"))
    grey = Image.open(place / "L.png")
    sixteen = Image.fromarray(np.asarray(grey).astype(np.uint16) * 256 + 7)
    expected = task.predict(model, grey.convert("RGB"))
    for image in (grey, sixteen, grey.convert("LA"), grey.convert("RGBA"), grey.convert("P"), grey.convert("CMYK").convert("L")):
        found = task.predict(model, image)
        assert all(np.array_equal(mine, theirs) for mine, theirs in zip(found, expected, strict=True))
    with pytest.raises(BadData, match="the image has floating-point numbers"):
        task.predict(model, Image.fromarray(np.zeros((20, 30), np.float32)))


class OnApple(torch.Tensor):
    """A tensor as on a GPU of Apple, which has no float64, and whose memory NumPy cannot read."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.numpy:
            raise TypeError("NumPy cannot read this tensor")
        found = super().__torch_function__(func, types, args, kwargs or {})
        if isinstance(found, torch.Tensor) and found.dtype == torch.float64:
            raise TypeError("there is no float64")
        return found.as_subclass(torch.Tensor) if func is torch.Tensor.cpu else found


def test_boxes_are_found_on_a_device_without_float64(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, image = detection.load(place / "boxes.safetensors"), Image.open(place / "a.jpg")
    expected, to_input = detection.predict(model, image), evaluate.to_input
    monkeypatch.setattr(evaluate, "to_input", lambda *given: to_input(*given).as_subclass(OnApple))
    found = detection.predict(model, image)
    assert len(expected.boxes) and all(np.array_equal(mine, theirs) for mine, theirs in zip(found, expected, strict=True))


def test_detections_have_the_names_of_their_classes(place: Path) -> None:
    model = detection.load(place / "boxes.safetensors")
    found = detection.predict(model, Image.open(place / "a.jpg"))
    boxes, scores, labels = found
    assert (boxes is found.boxes, scores is found.scores, labels is found.labels) == (True, True, True)
    assert set(labels.tolist()) <= {1, 2}
    assert found.names == tuple({1: "cat", 2: "dog"}[label] for label in labels.tolist())


@pytest.mark.parametrize("weights", ["boxes", "masks", "classes"])
def test_a_photograph_is_turned_upright_and_the_output_says_so(call: Call, place: Path, tmp_path: Path, weights: str) -> None:
    upright = Image.open(place / "a.jpg").resize((120, 160))
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.save(tmp_path / "upright.png")
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    tokens = ["--model", SMALL] if weights == "classes" else ["--weights", place / f"{weights}.safetensors", "--out", tmp_path / "out"]
    status, text, _ = call(tmp_path / "turned.png", tmp_path / "upright.png", *tokens, "--json")
    assert status == 0
    turned, straight = json.loads(text)
    assert turned.pop("exif_orientation") == 6
    assert {k: v for k, v in turned.items() if k not in ("image", "picture")} == {
        k: v for k, v in straight.items() if k not in ("image", "picture")
    }
    overwrite = ["--overwrite"] if weights != "classes" else []
    text = call(tmp_path / "turned.png", *tokens, *overwrite)[1]
    assert "turned upright, EXIF orientation 6" in text.splitlines()[0]


@pytest.mark.parametrize("weights", ["classes", "boxes"])
def test_images_of_12_bits_are_told(call: Call, place: Path, tmp_path: Path, weights: str, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("dark.png", "darker.jpg"):  # the format is that of the content, whatever the suffix says
        Image.fromarray(np.full((40, 60), 4095, np.uint16)).save(tmp_path / name, format="PNG")
    options = () if weights == "classes" else ("--out", tmp_path / "out")
    status, _, _ = call(
        place / "a.jpg", tmp_path / "dark.png", tmp_path / "darker.jpg", "--weights", place / f"{weights}.safetensors", *options
    )
    (message,) = caplog.messages
    assert status == 0
    assert "dark.png is grey of 16 bits, and its highest value is 4,095" in message
    assert message.endswith("; 1 other image is as dark")


def test_a_large_image_gives_boxes_in_the_files_pixels(call: Call, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.open(place / "a.jpg").resize((640, 480)).save(tmp_path / "a.jpg", quality=95)
    tokens = (tmp_path / "a.jpg", "--weights", place / "boxes.safetensors", "--threshold", 0, "--json", "--out")
    whole = json.loads(call(*tokens, tmp_path / "1")[1])[0]["boxes"]
    monkeypatch.setattr(image_memory, "MAX_PIXELS", 80_000)
    reduced = json.loads(call(*tokens, tmp_path / "2")[1])[0]["boxes"]
    assert reduced[0]["box"] == pytest.approx(whole[0]["box"], abs=25)
    assert max(edge for row in reduced for edge in row["box"]) > 320
    Image.open(place / "a.jpg").resize((640, 17)).save(tmp_path / "a.jpg", quality=95)
    monkeypatch.setattr(image_memory, "MAX_PIXELS", 1_000)
    assert images.read(tmp_path / "a.jpg").image.size == (160, 5)  # 17 rows are not divisible by 4
    narrow = json.loads(call(*tokens, tmp_path / "3")[1])[0]["boxes"]
    assert max(row["box"][2] for row in narrow) == 640 and max(row["box"][3] for row in narrow) == 17


def test_photographs_are_not_all_kept_in_memory(call: Call, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[weakref.ref[Any]] = []
    most = 0

    def read(path: Path) -> Picture:
        nonlocal most
        picture = images.decode(path.read_bytes(), str(path))
        kept.append(weakref.ref(picture))
        gc.collect()
        most = max(most, sum(each() is not None for each in kept))
        return picture

    monkeypatch.setattr(images, "read", read)
    assert call(*[place / "a.jpg"] * 8, "--model", SMALL)[0] == 0
    assert (len(kept), most) == (8, 1)
