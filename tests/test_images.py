"""Reading of image files: file types, formats, modes, EXIF orientations, and large or thin images."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch.nn import functional as F
from torchvision.transforms import v2

import trickzoo
from tests.images import jpeg
from trickzoo import drawing
from trickzoo.data import image_memory, images, listing
from trickzoo.data.annotated_transforms import DetectionSamples, FitAndFlip, Scale
from trickzoo.data.augment import DRAWS
from trickzoo.data.boxes import collect
from trickzoo.data.imageset import Decoded, ReadImage
from trickzoo.data.loaders import random_crops
from trickzoo.data.masks import SegmentationSet
from trickzoo.data.objects import Annotation, DetectionImage, Objects
from trickzoo.data.readers.imagenet import open_imagenet
from trickzoo.data.resident import squash
from trickzoo.data.transforms import middle, resize_and_crop
from trickzoo.detection import evaluate as detection
from trickzoo.errors import BadData, BadOption
from trickzoo.files import read_regular
from trickzoo.recipes.recipe import Augmentation
from trickzoo.segmentation import evaluate as segmentation
from trickzoo.segmentation.evaluate import classes_of_pixels
from trickzoo.weights.record import Preprocessing


def test_only_the_listed_formats_are_opened_whatever_a_file_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    Image.init()
    factory, accept = Image.OPEN["EPS"]

    def record(*args: Any) -> Any:
        opened.append(args)
        return factory(*args)

    monkeypatch.setitem(Image.OPEN, "EPS", (record, accept))
    for name, kind in (("a.jpg", "EPS"), ("b.png", "TGA"), ("c.tif", "PCX")):
        Image.new("RGB", (20, 10)).save(tmp_path / name, format=kind)
        with pytest.raises(BadData, match=f"{name} is not a readable image \\(no image format among JPEG, PNG"):
            images.read(tmp_path / name)
    assert not opened


@pytest.mark.parametrize("brand", ["heic", "mif1"])
def test_a_heic_image_is_named_with_the_remedy(tmp_path: Path, brand: str) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\0\0\0\x18ftyp" + brand.encode() + b"\0\0\0\0mif1heic")
    with pytest.raises(BadData, match=r"a.jpg is not a readable image \(no image format among .*: a HEIC image, .* convert it to JPEG\)"):
        images.read(tmp_path / "a.jpg")
    (tmp_path / "phone" / "more").mkdir(parents=True)
    (tmp_path / "phone" / "more" / "IMG_1.HEIC").touch()
    with pytest.raises(BadOption, match=r"phone holds no images; .*; convert HEIC images to JPEG$"):
        listing.images_at(tmp_path / "phone")


@pytest.mark.parametrize("kind", images.FORMATS)
def test_each_listed_format_is_read_under_each_of_its_suffixes(tmp_path: Path, kind: str) -> None:
    for suffix in images.FORMATS[kind]:
        Image.new("RGB", (20, 10), "red").save(tmp_path / f"whole{suffix}", format=kind)
        assert images.read(tmp_path / f"whole{suffix}").size == (20, 10)
        assert suffix in images.EXTENSIONS


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no FIFO")
@pytest.mark.timeout(20)
def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.jpg")
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "folder.jpg").mkdir()
    jpeg(tmp_path / "whole.jpg")
    (tmp_path / "link.jpg").symlink_to("whole.jpg")
    wrong = {"fifo": "not a regular file", "device": "not a regular file", "loop": "symbolic links", "folder": "directory"}
    for name, reason in wrong.items():
        for use in (images.read, images.size_of, images.content, listing.read_lines):
            with pytest.raises(BadData, match=f"{name}.jpg cannot be read \\(.*{reason}"):
                use(tmp_path / f"{name}.jpg")  # type: ignore[operator]
    assert images.read(tmp_path / "link.jpg").size == (40, 30)


def test_a_file_of_more_bytes_than_asked_for_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ten").write_bytes(b"0123456789")
    assert read_regular(tmp_path / "ten", at_most=10) == b"0123456789"
    with pytest.raises(OSError, match="more than 9 bytes"):
        read_regular(tmp_path / "ten", at_most=9)


# ---------------------------------------------------------------------------------------------------------------------
# modes


RAMP = np.linspace(0, 65535, 40 * 30).astype(np.uint16).reshape(30, 40)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "big-endian.tif", "a.pgm"])
def test_grey_of_16_bits_keeps_its_upper_byte(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "big-endian.tif":
        Image.frombytes("I;16B", (40, 30), RAMP.astype(">u2").tobytes()).save(path)
    elif name == "a.pgm":
        path.write_bytes(b"P5 40 30 65535\n" + RAMP.astype(">u2").tobytes())
    else:
        Image.fromarray(RAMP).save(path)
    assert np.array_equal(np.asarray(images.read(path)), np.repeat((RAMP // 256).astype(np.uint8)[..., None], 3, 2))


def test_grey_of_12_bits_is_told(tmp_path: Path) -> None:
    Image.fromarray(RAMP // 16).save(tmp_path / "dark.png")
    Image.fromarray(RAMP).save(tmp_path / "bright.png")
    (tmp_path / "dark.pgm").write_bytes(b"P5 40 30 65535\n" + (RAMP // 16).astype(">u2").tobytes())
    for name in ("dark.png", "dark.pgm"):
        (note,) = images.picture_notes(tmp_path, [name])
        assert f"{name} is grey of 16 bits, and its highest value is 4,095: the upper byte, which is used, has only 16 levels" in note
    assert images.picture_notes(tmp_path, ["bright.png"]) == images.picture_notes(tmp_path, ["missing.png"]) == ()


@pytest.mark.parametrize(("kind", "reason"), [(np.float32, "floating-point numbers"), (np.int32, "32-bit integers")])
def test_pixels_of_an_unknown_range_are_refused(tmp_path: Path, kind: type, reason: str) -> None:
    Image.fromarray((RAMP / 65535).astype(kind)).save(tmp_path / "a.tif")
    with pytest.raises(BadData, match=f"a.tif has {reason} for pixels"):
        images.read(tmp_path / "a.tif")
    with pytest.raises(BadData, match=f"the image has {reason}"):
        trickzoo.eval_transform(Preprocessing(size=8))(Image.fromarray((RAMP / 65535).astype(kind)))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "La", "P", "PA", "RGBA", "RGBa", "CMYK", "YCbCr", "I;16", "I;16B"])
def test_an_opened_image_of_any_mode_is_seen_by_all_as_its_colours(mode: str) -> None:
    if mode.startswith("I;16"):
        image, colour = Image.new(mode, (40, 30), 0x8000), (128, 128, 128)
    elif mode in ("La", "RGBa", "PA"):
        image = Image.new("RGBA", (40, 30), (200, 200, 200, 255))
        image = image.convert("LA").convert(mode) if mode != "RGBa" else image.convert(mode)
        colour = (200, 200, 200)
    else:
        image = Image.new("RGB", (40, 30), (255, 255, 255)).convert(mode)
        colour = (255, 255, 255)
    assert np.abs(np.asarray(images.rgb(image)).astype(int) - colour).max() <= 1
    pixels = trickzoo.eval_transform(Preprocessing(size=8, mean=(0, 0, 0), std=(1, 1, 1)))(image)
    assert (pixels * 255 - torch.tensor(colour)[:, None, None]).abs().max() <= 1


def test_a_transparent_palette_and_an_animation_are_read_as_colours(tmp_path: Path) -> None:
    palette = Image.new("RGB", (40, 30), "red").quantize(4)
    palette.save(tmp_path / "a.png", transparency=bytes([0, 128, 255, 255]))
    frames = [Image.new("RGB", (40, 30), colour) for colour in ("red", "blue")]
    for name in ("a.gif", "a.webp", "a.tif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **({"lossless": True} if name == "a.webp" else {}))
    frames[0].save(tmp_path / "a.mpo", format="MPO", save_all=True, append_images=frames[1:])
    for name in ("a.png", "a.gif", "a.webp", "a.tif", "a.mpo"):
        assert np.abs(np.asarray(images.read(tmp_path / name).image).astype(int) - (255, 0, 0)).max() <= 1, name


def test_a_model_of_one_input_channel_is_fed_grey_images() -> None:
    model = trickzoo.create("mobilenet_v1_025", pretrained="tz_imagenette128", in_chans=1)
    grey = Image.fromarray((RAMP // 256).astype(np.uint8)).resize((200, 200))
    transform = trickzoo.eval_transform(model)
    assert model.in_chans == 1
    preprocessing = model.weights.preprocessing
    assert preprocessing is not None
    mean, std = np.mean(preprocessing.mean), np.mean(preprocessing.std)
    expected = (resize_and_crop(preprocessing)(grey) / 255 - mean) / std
    assert torch.allclose(transform(grey), expected.float(), atol=1e-6)
    assert torch.allclose(transform(grey.convert("RGB")), expected.float(), atol=1e-6)
    assert model(transform(grey)[None]).shape == (1, model.num_classes)
    with pytest.raises(BadOption, match="4 input channels"):
        trickzoo.eval_transform(trickzoo.create("mobilenet_v1_025", pretrained="tz_imagenette128", in_chans=4))


# ---------------------------------------------------------------------------------------------------------------------
# orientation


def turned(path: Path, image: Image.Image, orientation: int) -> Path:
    """Write an image as a turned camera does: with pixels turned so that the EXIF orientation makes them upright."""
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]  # members of Image.Transpose
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.transpose(Image.Transpose(back)).save(path, exif=exif)
    return path


def quarters(size: tuple[int, int] = (40, 30)) -> Image.Image:
    """Return an image of four quarters in different colours, so that no two orientations are equal."""
    small = Image.fromarray(np.array([[(255, 0, 0), (0, 255, 0)], [(0, 0, 255), (255, 255, 255)]], np.uint8))
    return small.resize(size, Image.Resampling.NEAREST)


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_an_upright_picture_is_what_viewers_show(tmp_path: Path, orientation: int, suffix: str) -> None:
    path = turned(tmp_path / f"a{suffix}", quarters(), orientation)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(path).convert("RGB") if suffix == ".webp" else Image.open(path)))
    upright = images.read(path).upright()
    assert upright.size == upright.image.size == (40, 30) == images.size_of(path)
    assert np.array_equal(np.asarray(upright.image), expected)
    assert suffix == ".webp" or np.array_equal(expected, np.asarray(quarters()))
    assert suffix == ".tif" or upright.orientation == images.orientation_of(path) == orientation


@pytest.mark.parametrize("orientation", [2, 3, 6, 8])
@pytest.mark.parametrize("size", [(40, 30), (30, 30)])
def test_boxes_and_masks_lie_on_the_object_of_a_turned_image(tmp_path: Path, orientation: int, size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, "white")
    image.paste("red", (4, 6, 14, 12))
    path = turned(tmp_path / "a.png", image, orientation)
    mask = np.zeros(size[::-1], np.uint8)
    mask[6:12, 4:14] = 1
    Image.fromarray(mask).save(tmp_path / "m.png")
    entry = DetectionImage("a.png", 1, *size)
    boxes = collect(tmp_path, "made", ["block"], [(entry, [Annotation((4, 6, 14, 12), 1)])])
    assert np.array_equal(np.asarray(boxes.read(0)), np.asarray(image))
    assert len(boxes.faults.notes) == 1
    assert "1 image with an EXIF orientation (the first is a.png)" in boxes.faults.notes[0]
    masks = SegmentationSet(tmp_path, "made", ("background", "block"), (("a.png", "m.png"),))
    seen, classes = masks.read(0)
    assert (np.asarray(seen)[classes == 1] == (255, 0, 0)).all()
    assert masks.notes == boxes.faults.notes
    with Image.open(path) as stored:
        raw, raw_size = np.asarray(stored.convert("RGB")), stored.size
    if raw_size != size:  # an annotation for the stored pixels
        stated = collect(tmp_path, "made", ["block"], [(entry._replace(width=raw_size[0], height=raw_size[1]), [])])
        assert np.array_equal(np.asarray(stated.read(0)), raw)
    other = collect(tmp_path, "made", ["block"], [(entry._replace(width=99), [])])
    with pytest.raises(BadData, match=f"upright, by its EXIF orientation {orientation}\\) pixels and its annotation is for 99 × "):
        other.read(0)


def test_a_mask_with_an_orientation_of_its_own_is_turned_too(tmp_path: Path) -> None:
    image, mask = quarters(), np.kron([[1, 2], [3, 0]], np.ones((15, 20))).astype(np.uint8)
    turned(tmp_path / "a.png", image, 3)
    turned(tmp_path / "m.png", Image.fromarray(mask), 3)
    seen, classes = SegmentationSet(tmp_path, "made", ("a", "b", "c", "d"), (("a.png", "m.png"),)).read(0)
    assert np.array_equal(np.asarray(seen), np.asarray(image))
    assert np.array_equal(classes, mask)


@pytest.mark.parametrize(("names", "upright"), [(("cat", "dog"), True), (("n01440764", "n02102040"), False)])
def test_classifiers_see_upright_images_but_of_imagenets_classes(tmp_path: Path, names: tuple[str, ...], upright: bool) -> None:
    for name in names:
        (tmp_path / name).mkdir()
        turned(tmp_path / name / "a.png", quarters(), 6)
    found = open_imagenet(tmp_path)
    assert found.upright is upright
    sample = Decoded(found, squash(2), range(2))[0]
    expected = quarters((2, 2)) if upright else quarters((2, 2)).transpose(Image.Transpose.ROTATE_90)
    assert sample.pixels is not None
    assert sample.size == ((40, 30) if upright else (30, 40))
    assert sample.orientation == 6
    assert np.abs(sample.pixels.permute(1, 2, 0).numpy().astype(int) - np.asarray(expected)).max() < 100
    whole = Augmentation(area=(1.0, 1.0), aspect=(3 / 4, 4 / 3))
    (crop,) = random_crops([(ReadImage(0), "a", found.read(found.entries[0]), torch.zeros(DRAWS))], 2, whole, upright=upright)
    assert crop.pixels is not None
    assert np.abs(crop.pixels.permute(1, 2, 0).numpy().astype(int) - np.asarray(expected)).max() < 100


def test_damaged_exif_is_ignored(tmp_path: Path) -> None:
    quarters().save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff" + bytes(9))
    assert images.read(tmp_path / "a.jpg").orientation == 1


# ---------------------------------------------------------------------------------------------------------------------
# large and thin images


def test_a_large_jpeg_is_decoded_at_a_fraction_of_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quarters((403, 301)).save(tmp_path / "a.jpg", quality=95)
    quarters((403, 301)).save(tmp_path / "p.jpg", quality=95, progressive=True)
    quarters((403, 301)).convert("L").save(tmp_path / "a.png")
    whole = np.asarray(images.read(tmp_path / "a.jpg").image.reduce(4)).astype(int)
    monkeypatch.setattr(image_memory, "MAX_PIXELS", 8_000)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    picture = images.read(tmp_path / "a.jpg")
    assert picture.size == (403, 301)
    assert picture.image.size == (101, 76)
    assert np.abs(np.asarray(picture.image) - whole).mean() < 5
    with pytest.raises(BadData, match=r"a\.png would unpack to more than 20,000 pixels"):
        images.read(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)
    assert images.read(tmp_path / "a.png").image.size == (101, 76)
    monkeypatch.setattr(image_memory, "MAX_MEMORY", 300_000)  # of a progressive JPEG all coefficients are held, whatever it is decoded to
    assert images.read(tmp_path / "a.jpg").image.size == (101, 76)
    with pytest.raises(BadData, match=r"p\.jpg would unpack to 403 × 301 pixels.* save it as baseline JPEG"):
        images.read(tmp_path / "p.jpg")


def test_annotations_follow_an_image_that_is_decoded_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = Image.new("RGB", (400, 300), "white")
    image.paste("red", (40, 60, 140, 120))
    image.save(tmp_path / "a.jpg", quality=95)
    data = collect(tmp_path, "made", ["block"], [(DetectionImage("a.jpg", 1, 400, 300), [Annotation((40, 60, 140, 120), 1)])])
    transform = FitAndFlip(60, 100)
    whole = DetectionSamples(data, transform)[0]
    monkeypatch.setattr(image_memory, "MAX_PIXELS", 100_000)
    reduced = DetectionSamples(data, transform)[0]
    assert data.read(0).size == (200, 150)
    assert whole.boxes is not None and reduced.boxes is not None and whole.pixels is not None and reduced.pixels is not None
    assert torch.equal(whole.boxes, reduced.boxes)
    assert reduced.size == (400, 300)
    assert (whole.pixels.int() - reduced.pixels.int()).abs().float().mean() < 3


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_a_large_image_of_any_mode_is_reduced_as_its_colours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    gradient = Image.linear_gradient("L").resize((60, 40))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(gradient).astype(np.uint16) * 257)
    else:
        image = Image.merge("RGB", (gradient, gradient.rotate(180), gradient.rotate(90))).convert(mode)
    image.save(tmp_path / "a.png")
    whole = np.asarray(images.read(tmp_path / "a.png")).astype(int)
    monkeypatch.setattr(image_memory, "MAX_PIXELS", 60 * 40)
    assert np.array_equal(np.asarray(images.read(tmp_path / "a.png")), whole)
    monkeypatch.setattr(image_memory, "MAX_PIXELS", 60 * 40 - 1)
    means = whole.reshape(20, 2, 30, 2, 3).mean((1, 3))
    assert np.abs(np.asarray(images.read(tmp_path / "a.png")) - means).max() <= 0.5


@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_annotations_are_drawn_on_the_object_of_an_image_that_is_read_smaller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    image, mask = Image.new("RGB", (400, 300), "white"), np.zeros((300, 400), np.uint8)
    image.paste("red", (40, 60, 140, 120))
    mask[60:120, 40:140] = 1
    image.save(tmp_path / "a.png")
    Image.fromarray(mask).save(tmp_path / "m.png")
    monkeypatch.setattr(image_memory, "MAX_PIXELS", 100_000)
    colour: Any = drawing.OKABE_ITO[0]
    if task == "detection":
        boxes = [(DetectionImage("a.png", 1, 400, 300), [Annotation((40, 60, 140, 120), 1)])]
        _, (view,) = detection.compare(collect(tmp_path, "made", ["block"], boxes), 0, ())
    else:
        masks = SegmentationSet(tmp_path, "made", ("background", "block"), (("a.png", "m.png"),))
        _, (view,) = segmentation.compare(masks, 0, ())
        colour = np.rint(0.4 * np.asarray(Image.new("RGB", (1, 1), "red").convert("L")).item() + 0.6 * np.array(colour))
    rows, columns = (np.abs(np.asarray(view)[:360].astype(int) - colour).max(-1) <= 1).nonzero()  # read as 200 × 150, drawn as 480 × 360
    bottom, right = (np.percentile(places, 99) for places in (rows, columns))  # the box's name lies above it
    assert (bottom, right, columns.min()) == (pytest.approx(143, abs=3), pytest.approx(167, abs=3), pytest.approx(48, abs=3))


def test_a_thin_image_stays_small_however_long_it_is() -> None:
    preprocessing = Preprocessing(size=64, crop=1.0)
    for size in ((20_000, 1), (1, 20_000)):
        assert resize_and_crop(preprocessing)(Image.new("RGB", size)).shape == (3, 64, 64)
        assert Scale(480).image(Image.new("RGB", size)).numel() <= 3 * 1920
        assert FitAndFlip()(Image.new("RGB", size), Objects.of(()))[0].numel() <= 3 * 1000
        assert max(drawing.draw_mask(Image.new("RGB", size), np.zeros(size[::-1], np.uint8), ("background", "a")).size) <= drawing.LARGEST
    assert Scale(None).image(Image.new("RGB", (3_000, 2_000))).shape[1:].numel() <= 2**22
    assert Scale(None).image(Image.new("RGB", (300, 200))).shape == (3, 200, 300)
    assert middle(Image.new("RGB", (160, 10))).size == (160, 10)
    assert middle(quarters((401, 10))).size == (161, 10)
    whole = v2.Compose([v2.Resize(64), v2.CenterCrop(64)])(quarters((402, 10)))
    assert np.array_equal(
        np.asarray(whole),
        resize_and_crop(Preprocessing(size=64, crop=1.0, interpolation="bilinear"))(quarters((402, 10))).permute(1, 2, 0).numpy(),
    )


@pytest.mark.parametrize(("shape", "size"), [((1, 7, 15, 20), (61, 83)), ((2, 5, 48, 64), (30, 200)), ((1, 2, 1, 40), (1, 999))])
@pytest.mark.parametrize("at_once", [1, 500, 5_000])
def test_logits_enlarged_in_parts_give_the_classes_of_the_whole(shape: tuple[int, ...], size: tuple[int, int], at_once: int) -> None:
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    whole = F.interpolate(logits, size=size, mode="bilinear", align_corners=False).argmax(1)
    assert torch.equal(classes_of_pixels(logits, size, at_once=at_once), whole.byte())
