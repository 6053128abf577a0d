"""Boxes and masks over images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.ops import box_iou

from trickzoo import drawing
from trickzoo.drawing import OKABE_ITO, class_colours, colours, draw_boxes, draw_mask, palette

GREY = Image.new("RGB", (600, 500), (128, 128, 128))


def count(picture: Image.Image, colour: tuple[int, int, int]) -> int:
    return int((np.asarray(picture) == colour).all(-1).sum())


def test_colours_are_distinct_and_do_not_depend_on_their_number():
    assert len(set(colours(255))) == 255
    assert colours(40)[:11] == colours(11)
    assert colours(7) == OKABE_ITO and colours(0) == ()


def test_the_background_takes_no_colour():
    assert class_colours(("background", "cat", "dog"))[1:] == class_colours(("cat", "dog")) == OKABE_ITO[:2]
    assert palette(("background", "cat"), first=1) == [0] * 6 + list(OKABE_ITO[0])


def test_boxes_have_the_colour_of_their_class():
    picture = draw_boxes(GREY, [[50, 60, 150, 200], [300, 100, 590, 490]], [2, 1], ("cat", "dog"), [0.9, 0.8])
    assert picture.size == GREY.size
    pixels = np.asarray(picture)
    for (x0, y0, x1, y1), colour in (((50, 60, 150, 200), OKABE_ITO[1]), ((300, 100, 590, 490), OKABE_ITO[0])):
        for x, y in ((x0, y0), (x1 - 1, y1 - 1), (x0, y1 - 1), (x1 - 1, (y0 + y1) // 2)):
            assert tuple(pixels[y, x]) == colour
        assert tuple(pixels[(y0 + y1) // 2, (x0 + x1) // 2]) == (128, 128, 128)
        assert tuple(pixels[y1, x1]) == (128, 128, 128)
    assert (pixels[45:58, 52:110] == 0).all(-1).any()  # letters, above the box


def test_the_box_with_the_highest_score_is_on_top_and_names_do_not_overlap():
    boxes = [[50, 60, 150, 200]] * 2
    picture = draw_boxes(GREY, boxes, [1, 2], ("cat", "dog"), [0.9, 0.8])
    only = {label: draw_boxes(GREY, boxes[:1], [label], ("cat", "dog"), [score]) for label, score in ((1, 0.9), (2, 0.8))}
    assert np.array_equal(np.asarray(picture)[:200], np.asarray(only[1])[:200])  # the box, and the name above it
    for label, place in ((1, slice(30, 60)), (2, slice(201, 231))):
        name = np.asarray(picture)[place]
        assert (name == OKABE_ITO[label - 1]).all(-1).sum() > 700 and (name < 90).all(-1).sum() > 100
    assert not (np.asarray(picture)[:200] == OKABE_ITO[1]).all(-1).any() and count(only[2], OKABE_ITO[1]) > 700


def test_names_do_not_cover_each_other_in_a_crowd():
    random = np.random.default_rng(0)
    corners = random.integers(0, (560, 460), (60, 2))
    boxes = np.concatenate([corners, corners + 40], 1).astype(float)
    sizes = [(90.0, 24.0)] * len(boxes)
    places = list(drawing._places(boxes, sizes, (600, 500)))
    shown = [(x, y, x + 90, y + 24) for x, y in filter(None, places)]
    assert all(x >= 0 and y >= 0 and right <= 600 and below <= 500 for x, y, right, below in shown)
    overlaps = box_iou(torch.tensor(shown), torch.tensor(shown))
    assert overlaps.nonzero().tolist() == [[i, i] for i in range(len(shown))]
    assert places[0] is not None and 40 < len(shown) < 60  # a name without room is left out
    apart = list(drawing._places(boxes[:1].repeat(7, 0), sizes[:7], (600, 500)))
    assert apart[0] == (boxes[0, 0], boxes[0, 1] - 24) and apart[-1] is None


def test_pictures_for_reports_are_small_and_their_names_are_not():
    large = Image.new("RGB", (1200, 1000), (128, 128, 128))
    picture = draw_boxes(large, [[100, 120, 300, 400]], [1], ("cat",), side=240)
    assert picture.size == (240, 200) and tuple(np.asarray(picture)[60, 20]) == OKABE_ITO[0]
    letters = (np.asarray(picture) < 90).all(-1)
    assert np.ptp(np.flatnonzero(letters.any(1))) >= 12  # pixels
    assert draw_mask(large, np.zeros((1000, 1200)), ("background",), side=240).size == (240, 200)


@pytest.mark.parametrize("box", [[0, 0, 30, 20], [570, 470, 600, 500], [-40, -40, 700, 700], [5, 5, 5.2, 5.2]])
def test_names_stay_in_the_picture(box):
    dark = [
        (np.asarray(draw_boxes(GREY, [each], [1], ("a name that is long",))) < 90).all(-1).sum() for each in (box, [200, 200, 400, 400])
    ]
    assert dark[0] == dark[1] > 100  # not a letter is cut


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "CMYK", "1", "LA"])
def test_images_of_any_mode_and_none_is_changed(mode):
    image = Image.new("RGB", (48, 40), (90, 90, 90)).convert(mode)
    before = image.tobytes()
    boxed, masked = draw_boxes(image, [[8, 8, 40, 32]], [1], ("cat",)), draw_mask(image, np.zeros((40, 48)), ("background",))
    assert boxed.mode == masked.mode == "RGB"
    assert boxed.size == masked.size == (48 * 12, 40 * 12)
    assert tuple(np.asarray(boxed)[8 * 12, 9 * 12]) == OKABE_ITO[0]
    assert image.tobytes() == before


def test_an_image_without_boxes_or_classes_is_drawn_unchanged():
    assert np.array_equal(np.asarray(draw_boxes(GREY, np.zeros((0, 4)), [], ("cat",))), np.asarray(GREY))
    assert np.array_equal(np.asarray(draw_mask(GREY, np.full((500, 600), 255), ("cat", "dog"))), np.asarray(GREY))


def test_long_images_are_not_enlarged_without_bound():
    assert draw_boxes(Image.new("L", (1, 3000)), [[0, 0, 1, 9]], [1], ("cat",)).size == (1, 3000)


def test_masks_tint_classes_and_leave_the_rest():
    mask = np.zeros((500, 600), np.uint8)
    mask[:100], mask[100:150], mask[150:200] = 1, 2, 255
    picture = np.asarray(draw_mask(GREY, mask, ("background", "cat", "dog", "cow")))
    for row, colour in ((50, OKABE_ITO[0]), (120, OKABE_ITO[1])):
        assert np.abs(picture[row, 300] - (0.4 * 128 + 0.6 * np.array(colour))).max() <= 0.5
    assert (picture[150:500] == 128).all()
    legend = Image.fromarray(picture[500:])
    assert count(legend, OKABE_ITO[0]) > 100 and count(legend, OKABE_ITO[1]) > 100
    assert not count(legend, OKABE_ITO[2])  # no cow is there
    with pytest.raises(ValueError, match="600 × 500 pixels"):
        draw_mask(GREY, mask.T, ("background", "cat", "dog"))


def test_a_long_legend_has_more_rows():
    classes = [f"class number {i}" for i in range(40)]
    picture = draw_mask(GREY, np.arange(500 * 600).reshape(500, 600) % 40, classes)
    assert picture.width == 600 and picture.height > 700
    assert all(count(picture, colour) for colour in class_colours(classes))


@pytest.mark.parametrize("name", ["two\nlines", "$x_", "\x1b[2J", "caf\udce9", "", "日本 😀"])
def test_any_name_can_be_drawn(name: str) -> None:
    draw_boxes(GREY, [[50, 60, 150, 200]], [1], (name,), [0.9])
    draw_mask(GREY, np.zeros((500, 600), int), (name,))
