"""RoIAlign beside torchvision's, its gradient too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign

import trickzoo
from trickzoo.detection.pooling import RoIAlign

SHAPE = (384, 640)


def both(strides: tuple[int, ...], cells: int) -> tuple[RoIAlign, MultiScaleRoIAlign]:
    levels = [info for info in trickzoo.create("resnet18_d").feature_info if info.stride in strides]
    return RoIAlign(levels, cells), MultiScaleRoIAlign([info.name for info in levels], cells, sampling_ratio=2)


def maps_of(pool: RoIAlign, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """Maps of 5 channels of two images; the one that is not pooled stands first, and another order of names does not matter."""
    assert pool.scales is not None
    torch.manual_seed(0)
    found = {"other": torch.rand(2, 5, 3, 3)}
    for name, scale in zip(pool.featmap_names, pool.scales, strict=True):
        found[name] = torch.randn(2, 5, *(round(side * scale) for side in SHAPE), dtype=dtype, requires_grad=True)
    return found


@pytest.mark.parametrize(("cells", "sampling_ratio"), [((7, 7), 3), ((4, 6), 2), ((5, 5), -1)])
def test_changed_settings_are_those_of_torchvision(cells: tuple[int, int], sampling_ratio: int) -> None:
    pool, reference = both((4, 8, 16, 32), 7)
    for each in (pool, reference):
        each.output_size, each.sampling_ratio = cells, sampling_ratio
    maps, where = maps_of(pool), boxes()
    ours, theirs = (each(maps, where, [SHAPE, SHAPE]) for each in (pool, reference))
    assert ours.shape == (44, 5, *cells)
    torch.testing.assert_close(ours, theirs)


def boxes() -> list[Tensor]:
    """Boxes of every size in two images: some reach over the border, some are a point, one is the whole image."""
    torch.manual_seed(1)
    height, width = SHAPE
    corners = torch.rand(40, 2, dtype=torch.float64) * torch.tensor([width, height]) * 1.1 - 24
    sides = torch.rand(40, 2, dtype=torch.float64) ** 2 * 600
    odd = torch.tensor([[0, 0, width, height], [5, 7, 5, 7], [-90, -90, 4, 4], [width, height, width + 40, height + 9]]).double()
    every = torch.cat([odd, torch.cat([corners, corners + sides], 1)])
    return [every[:17], every[17:]]


@pytest.mark.parametrize(("strides", "cells"), [((4, 8, 16, 32), 7), ((16,), 14)])
def test_features_and_gradients_equal_torchvisions(strides: tuple[int, ...], cells: int) -> None:
    pool, reference = both(strides, cells)
    maps, where = maps_of(pool), boxes()
    ours, theirs = (each(maps, where, [SHAPE, SHAPE]) for each in (pool, reference))
    assert ours.shape == (44, 5, cells, cells)
    torch.testing.assert_close(ours, theirs)
    assert reference.scales == pool.scales
    weights = torch.randn_like(theirs)
    leaves = [maps[name] for name in pool.featmap_names]
    found, expected = (torch.autograd.grad((each * weights).sum(), leaves) for each in (ours, theirs))
    for each, other in zip(found, expected, strict=True):
        assert other.any()
        torch.testing.assert_close(each, other)


def test_images_may_have_no_boxes() -> None:
    pool, reference = both((4, 8, 16, 32), 7)
    maps, (first, second) = maps_of(pool), boxes()
    none = torch.zeros(0, 4, dtype=torch.float64)
    torch.testing.assert_close(pool(maps, [none, second], []), reference(maps, [none, second], [SHAPE, SHAPE]))
    torch.testing.assert_close(pool(maps, [first, none], []), reference(maps, [first, none], [SHAPE, SHAPE]))
    empty = pool(maps, [none, none], [])
    assert empty.shape == (0, 5, 7, 7)
    empty.sum().backward()
    assert all(not maps[name].grad.any() for name in pool.featmap_names)  # type: ignore[union-attr]


def test_low_precision_keeps_the_type_of_the_maps() -> None:
    """In bfloat16 the positions are computed in float32, as by torchvision."""
    pool, reference = both((4, 8, 16, 32), 7)
    maps, where = maps_of(pool, torch.bfloat16), [each.float() for each in boxes()]
    found, exact = pool(maps, where, []), reference({name: each.float() for name, each in maps.items()}, where, [SHAPE, SHAPE])
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, exact.bfloat16())


def test_a_box_that_is_not_a_number_spoils_only_itself() -> None:
    """A training that diverges ends with the message about its loss, not with an index out of range."""
    pool, _ = both((4, 8, 16, 32), 7)
    maps, where = maps_of(pool), boxes()
    expected = pool(maps, where, [])
    where[0][1] = torch.nan
    found = pool(maps, where, [])
    assert found[1].isnan().all()
    found[1] = expected[1]
    torch.testing.assert_close(found, expected)


GRADIENTS = """
import hashlib, torch
from tests.test_pooling import both, boxes, maps_of
for number in (1, 2, 2):
    torch.set_num_threads(number)
    pool, _ = both((4, 8, 16, 32), 7)
    maps = maps_of(pool, torch.float32)
    pool(maps, [each.float() for each in boxes()], []).square().sum().backward()
    print(hashlib.sha256(b"".join(maps[name].grad.numpy().tobytes() for name in pool.featmap_names)).hexdigest())
"""


def test_the_gradient_is_the_same_to_the_last_bit_on_any_number_of_threads() -> None:
    """In a process of its own: after several threads have computed, other tests could not fork this one."""
    command = [sys.executable, "-c", GRADIENTS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[1], check=True)
    assert len(done.stdout.split()) == 3 and len({*done.stdout.split()}) == 1, done.stdout
