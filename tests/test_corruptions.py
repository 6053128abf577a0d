"""Common corruptions: each against its formula, computed in another way, and the evaluation on them."""

from __future__ import annotations

import colorsys
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

import trickzoo
from tests.commands import Call, caller, evaluate
from tests.images import jpeg
from trickzoo.cli import evaluation
from trickzoo.data import corruption_functions
from trickzoo.data.corruption_names import GROUPS, KINDS, Corruption, parse
from trickzoo.data.corruptions import FUNCTIONS, Corrupted, corrupt
from trickzoo.data.transforms import normalise
from trickzoo.errors import BadOption, UnknownName

SIDE = 48
RANDOM = np.random.default_rng(0)
PICTURE = np.clip(ndimage.gaussian_filter(RANDOM.normal(128, 500, (SIDE, SIDE, 3)), (4, 4, 0)), 0, 255).astype(np.uint8)
GREY = np.full((120, 120, 3), 102, np.uint8)


def made(kind: str, severity: int, pixels: Any = PICTURE) -> Any:
    """An image with a corruption, from −1 to 1 around 8 bits, as numbers."""
    return corrupt(pixels, Corruption(kind, severity)).astype(float)


def setting(kind: str, severity: int) -> Any:
    """The settings of a kind at a severity."""
    return FUNCTIONS[kind][1][severity - 1]


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_is_always_corrupted_in_the_same_way(kind: str) -> None:
    copies = [corrupt(PICTURE, Corruption(kind, severity)) for severity in range(1, 6)]
    assert all(copy.dtype == np.uint8 and copy.shape == PICTURE.shape for copy in copies)
    assert np.array_equal(copies[2], corrupt(PICTURE.copy(), Corruption(kind, 3)))
    changes = [np.abs(copy.astype(float) - PICTURE).mean() for copy in copies]
    assert min(changes) > 0.5 and len(set(changes)) == 5
    other = PICTURE.copy()
    other[0, 0, 0] ^= 1
    assert kind not in (*GROUPS["noise"], "glass_blur", "fog") or not np.array_equal(copies[2], corrupt(other, Corruption(kind, 3)))


def test_noise_has_the_papers_spread() -> None:
    for severity, deviation in ((1, 0.08), (2, 0.12), (3, 0.18)):
        assert made("gaussian_noise", severity, GREY).std() == pytest.approx(255 * deviation, rel=0.03)
        assert made("gaussian_noise", severity, GREY).mean() == pytest.approx(102 - 0.5, abs=1)
    for severity, photons in enumerate((60, 25, 12, 5), 1):  # Poisson's variance is its mean; bright values are cut off from here on
        assert made("shot_noise", severity, GREY).std() == pytest.approx(255 * math.sqrt(0.4 / photons), rel=0.05)
    for severity, amount in enumerate((0.03, 0.06, 0.09, 0.17, 0.27), 1):
        noisy = made("impulse_noise", severity, GREY)
        black, white = (noisy == 0).mean(), (noisy == 255).mean()
        assert black == pytest.approx(amount / 2, rel=0.1) and white == pytest.approx(amount / 2, rel=0.1)
        assert black + white + (noisy == 102).mean() == pytest.approx(1)


@pytest.mark.parametrize(("severity", "radius", "deviation"), [(1, 3, 0.1), (3, 6, 0.5)])
def test_defocus_is_the_mean_over_a_disk(severity: int, radius: int, deviation: float) -> None:
    offsets = np.hypot(*np.mgrid[-12:13, -12:13])
    disk = ndimage.gaussian_filter((offsets <= radius).astype(float), deviation, radius=1)
    blurred = ndimage.correlate(PICTURE.astype(float), (disk / disk.sum())[..., None], mode="mirror")
    assert np.abs(made("defocus_blur", severity) + 0.5 - blurred).max() < 1.5


def test_glass_copies_from_pixel_to_pixel_in_order() -> None:
    side, reach = 12, 2
    image = np.arange(side * side)
    picture = image.reshape(side, side).copy()
    steps = np.random.default_rng(4).integers(-reach, reach, size=(side - 2 * reach, side - 2 * reach, 2))
    for i, row in enumerate(range(side - reach, reach, -1)):
        for j, column in enumerate(range(side - reach, reach, -1)):
            across, down = steps[i, j]
            picture[row, column] = picture[row + down, column + across]
    assert np.array_equal(corruption_functions._moved(np.random.default_rng(4), side, reach), picture.ravel())


def test_motion_draws_a_line_that_fades() -> None:
    point = np.zeros((61, 61))
    point[30, 30] = 1
    for degrees in (0, 30, -45, -90):
        line = corruption_functions._moving(point, 10, 3, degrees)
        assert line.sum() == pytest.approx(1)
        rows, columns = np.nonzero(line)
        along = (30 - rows) * math.sin(math.radians(degrees)) + (30 - columns) * math.cos(math.radians(degrees))
        across = (30 - rows) * math.cos(math.radians(degrees)) - (30 - columns) * math.sin(math.radians(degrees))
        assert along.min() == 0 and 19 < along.max() <= 21 and np.abs(across).max() <= 1
    assert corruption_functions._moving(point, 10, 3, 0)[30, 27] / line[30, 30] == pytest.approx(math.exp(-9 / 18))
    flat = np.arange(0, 256, 15, dtype=np.uint8)[:, None, None, None].repeat(4, 1).repeat(4, 2).repeat(3, 3)
    assert all(np.array_equal(made("motion_blur", severity, each), each) for each in flat for severity in (1, 2, 5))
    blurred = 65535 / 255 * corruption_functions._moving(PICTURE.astype(float), 15, 5, np.random.default_rng(3).uniform(-45, 45))
    expected = np.floor(np.round(blurred) / 257)  # ImageMagick rounds to 16 bits, and cuts them down to 8 when it writes the file
    assert np.array_equal(corruption_functions.motion_blur(PICTURE, np.random.default_rng(3), 15, 5), expected)


def test_enlargements_are_scipys() -> None:
    image = PICTURE / 255
    for factor in (1.0, 1.11, 1.3, 2.5):
        part = math.ceil(SIDE / factor)
        first = (SIDE - part) // 2
        large = ndimage.zoom(image[first : first + part, first : first + part], (factor, factor, 1), order=1)
        cut = (len(large) - SIDE) // 2
        ours = corruption_functions._enlarged(torch.from_numpy(image), factor).numpy()
        np.testing.assert_allclose(ours, large[cut : cut + SIDE, cut : cut + SIDE], atol=1e-6)
    mean = np.mean([corruption_functions._enlarged(torch.from_numpy(image), 1 + 0.03 * k).numpy() for k in range(11)] + [image], axis=0)
    assert np.abs(made("zoom_blur", 5) + 0.5 - 255 * mean).max() < 1


class Recorded:
    """A generator of random numbers that gives them one by one, by the place in the height map that is filled."""

    def __init__(self) -> None:
        self.drawn: list[Any] = []

    def uniform(self, low: float, high: float, shape: tuple[int, ...]) -> Any:
        """Draw and record."""
        self.drawn.append(np.random.default_rng(len(self.drawn)).uniform(low, high, shape))
        return self.drawn[-1]


def test_fog_is_a_height_map_by_the_diamond_square_algorithm() -> None:
    record, side, decay = Recorded(), 8, 2.0
    found = corruption_functions._plasma(record, side, decay)  # type: ignore[arg-type]
    heights, step, wibble, draws = np.zeros((side, side)), side, 100.0, iter(record.drawn)
    while step > 1:
        half = step // 2
        squares, right, down = next(draws), next(draws), next(draws)
        for i in range(0, side, step):
            for j in range(0, side, step):
                corners = [heights[(i + a) % side, (j + b) % side] for a in (0, step) for b in (0, step)]
                heights[i + half, j + half] = sum(corners) / 4 + wibble * squares[i // step, j // step]
        before = heights.copy()
        for i in range(0, side, step):
            for j in range(0, side, step):
                for (row, column), noise in (((i, j + half), right), ((i + half, j), down)):
                    near = [before[(row + a) % side, (column + b) % side] for a, b in ((half, 0), (-half, 0), (0, half), (0, -half))]
                    heights[row, column] = sum(near) / 4 + wibble * noise[i // step, j // step]
        step, wibble = half, wibble / decay
    heights = (heights - heights.min()) / (heights.max() - heights.min())
    np.testing.assert_allclose(found, heights, atol=1e-12)
    image = PICTURE / 255
    thin, cloud = made("fog", 1) / 255, (made("fog", 1) / 255) * (image.max() + 1.5) / image.max() - image
    assert thin.max() <= image.max() and cloud.min() > -0.05 and cloud.max() < 1.5 + 0.05


def test_weather_brightens() -> None:
    bright = made("brightness", 3)
    for row, column in ((0, 0), (13, 40), (30, 7)):
        hue, saturation, value = colorsys.rgb_to_hsv(*(PICTURE[row, column] / 255))
        expected = 255 * np.array(colorsys.hsv_to_rgb(hue, saturation, min(value + 0.3, 1)))
        assert np.abs(bright[row, column] + 0.5 - expected).max() < 1
    assert (made("brightness", 2, np.zeros((4, 4, 3), np.uint8)) == int(0.2 * 255)).all()


@pytest.mark.parametrize("severity", [1, 5])
def test_snow_falls_on_a_whitened_image(severity: int) -> None:
    """The flakes are cut down to whole numbers before and after they move."""
    mean, spread, flake, threshold, radius, deviation, kept = setting("snow", severity)
    random, part = np.random.default_rng(3), math.ceil(SIDE / flake)
    first = (SIDE - part) // 2
    noise = random.normal(mean, spread, size=(SIDE, SIDE))[first : first + part, first : first + part]
    layer = ndimage.zoom(noise, flake, order=1)
    cut = (len(layer) - SIDE) // 2
    layer = layer[cut : cut + SIDE, cut : cut + SIDE]
    layer = np.floor(255 * np.clip(np.where(layer < threshold, 0, layer), 0, 1))
    layer = np.floor(corruption_functions._moving(layer, radius, deviation, random.uniform(-135, -45)) + 1e-3)
    grey = (PICTURE * [0.299, 0.587, 0.114]).sum(2, keepdims=True)
    image = kept * PICTURE + (1 - kept) * np.maximum(PICTURE, 1.5 * grey + 127.5) + (layer + layer[::-1, ::-1])[..., None]
    difference = corruption_functions.snow(PICTURE, np.random.default_rng(3), *setting("snow", severity)) - np.floor(np.clip(image, 0, 255))
    assert layer.max() > 50 and np.abs(difference).max() <= 1 and np.abs(difference).mean() < 0.01


def test_contrast_and_the_digital_kinds() -> None:
    mean = PICTURE.mean((0, 1))
    assert np.abs(made("contrast", 4) + 0.5 - (mean + 0.1 * (PICTURE - mean))).max() < 1
    blocks = PICTURE[:40, :40].reshape(10, 4, 10, 4, 3).mean((1, 3))
    small = corruption_functions.pixelate(PICTURE[:40, :40], RANDOM, 0.25)
    assert np.abs(small - np.repeat(np.repeat(blocks, 4, 0), 4, 1)).max() <= 1
    assert [setting("jpeg_compression", level) for level in range(1, 6)] == [25, 18, 15, 10, 7]
    assert setting("pixelate", 5) == 0.25 and setting("contrast", 5) == 0.05


def test_elastic_displacements_are_smooth_and_the_turn_is_affine() -> None:
    field = RANDOM.uniform(-1, 1, (31, 40))
    for deviation in (2.44, 19.5):  # the longer filter reaches beyond the mirrored field
        expected = ndimage.gaussian_filter(field, deviation, mode="reflect", truncate=3)
        np.testing.assert_allclose(corruption_functions._smooth(field, deviation), expected, atol=1e-12)
    still = corruption_functions.elastic_transform(PICTURE, np.random.default_rng(0), 0, 2, 0)
    assert np.abs(still.astype(int) - PICTURE).max() <= 1
    turned = corruption_functions.elastic_transform(PICTURE, np.random.default_rng(7), 0, 2, 6)
    before = np.array([[40, 40], [40, 8], [8, 8]], float)
    after = before + np.random.default_rng(7).uniform(-6, 6, size=(3, 2))
    matrix = np.linalg.lstsq(np.c_[after[:, ::-1], np.ones(3)], before[:, ::-1], rcond=None)[0].T  # of (row, column)
    channels = PICTURE.transpose(2, 0, 1).astype(float)
    expected = np.stack([ndimage.affine_transform(channel, matrix, order=1, mode="mirror") for channel in channels], 2)
    assert np.abs(turned + 0.5 - expected).max() < 1.01


def test_names_of_kinds_groups_and_severities() -> None:
    assert len(KINDS) == 14 and len(parse("all")) == 70
    assert parse("fog, noise", "5,1") == tuple(Corruption(kind, level) for kind in (*GROUPS["noise"], "fog") for level in (1, 5))
    for kinds, severities, error, message in (
        ("fogg", "1", UnknownName, 'no corruption "fogg"; did you mean fog'),
        ("frost", "1", BadOption, "frost needs photographs of frost"),
        ("fog", "0", BadOption, '--severities has "0"; name whole numbers from 1 to 5'),
        (",", "1", BadOption, "name at least one kind"),
    ):
        with pytest.raises(error, match=message):
            parse(kinds, severities)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs `trickzoo-eval`; (exit status, stdout, stderr)."""
    return caller(capsys, evaluation)


def test_the_evaluation_on_corrupted_images(tiny: Path, tmp_path: Path, run: Call) -> None:
    for i, synset in enumerate(trickzoo.create("mobilenet_v1_025", weights=tiny).weights.classes[:4]):  # type: ignore[union-attr, index]
        jpeg(tmp_path / "photos" / "val" / synset / "0.JPEG", i)
    tokens = ("--data", tmp_path / "photos", "--model", "mobilenet_v1_025", "--weights", tiny, "--batch-size", 4)
    plain = evaluate(*tokens, out=tmp_path / "plain.json")
    corrupting = ("--corruptions", "contrast,jpeg_compression", "--severities", "1,5")
    result = evaluate(*tokens, *corrupting, "--report", tmp_path / "report.html", out=tmp_path / "out.json")
    assert {key: result[key] for key in ("top1", "top5", "ece", "restricted")} == {
        key: plain[key] for key in ("top1", "top5", "ece", "restricted")
    }
    found = result["robustness"]
    assert [(each["kind"], each["severity"]) for each in found["corruptions"]] == [
        (kind, level) for kind in ("contrast", "jpeg_compression") for level in (1, 5)
    ]
    assert found["top1"] == pytest.approx(np.mean([each["top1"] for each in found["corruptions"]]), abs=1e-3)
    assert "frost" in found["left_out"]
    assert "Corrupted images" in (tmp_path / "report.html").read_text() and "jpeg compression" in (tmp_path / "report.html").read_text()

    model = trickzoo.create("mobilenet_v1_025", weights=tiny)
    transform = trickzoo.eval_transform(model)
    to_uint8 = Corrupted(transform.to_uint8, [Corruption("contrast", 5)])  # type: ignore[attr-defined]
    hits = 0
    for path in sorted((tmp_path / "photos").rglob("*.JPEG")):
        copies = to_uint8(Image.open(path))
        with torch.inference_mode():
            logits = model(normalise(copies, model.weights.preprocessing))[1]  # type: ignore[union-attr, arg-type]
        hits += model.weights.classes[int(logits.argmax())] == path.parent.name  # type: ignore[union-attr, index]
    assert found["corruptions"][1]["top1"] == 25 * hits

    status, out, _ = run("imagenet", *tokens, *corrupting, "--workers", 0)
    assert status == 0 and "frost is left out: it needs photographs" in out and "jpeg compression" in out
    for wrong, message in (
        (("--severities", "1"), "--severities needs --corruptions"),
        (("--corruptions", "haze"), 'no corruption "haze"'),
    ):
        status, out, err = run("imagenet", *tokens, *wrong)
        assert (status, out, message in err, err.count("\n")) == (2, "", True, 1), err
