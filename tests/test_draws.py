"""Random draws of layers: they follow from the image's place in the batch, not from the process or from the size of micro-batches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler

from trickzoo.training import draws
from trickzoo.training.shares import Shares

BATCH, STEP = 8, 3
CUTS = pytest.mark.parametrize(("processes", "micro"), [(1, 8), (1, 2), (2, 4), (2, 1), (4, 2)])
"""Ways to divide the batch: the number of processes, and the images of a micro-batch."""


def divided(processes: int, micro: int) -> list[tuple[list[int], list[int]]]:
    """For each micro-batch of all processes: the places of its images in the batch, and their seeds at `STEP`."""
    found = []
    for rank in range(processes):
        shares = Shares(BATCH, BATCH, 0, 7, processes, rank, micro, stream=True)
        for part, (places, _) in zip(range(shares.rounds), shares.of_epochs(STEP), strict=True):
            found.append(((places - STEP * BATCH).tolist(), shares.layer_seeds(STEP, part)))
    return found


def boxes() -> list[Tensor]:
    """For each image of the batch the class of each of 40 to 75 boxes, 0 for background."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(0, 3, (40 + 5 * i,), generator=generator) for i in range(BATCH)]


@CUTS
def test_the_boxes_to_train_on_depend_on_the_image_alone(processes: int, micro: int) -> None:
    sampler, matched = BalancedPositiveNegativeSampler(16, 0.25), boxes()
    found: dict[int, tuple[Tensor, Tensor]] = {}
    for places, seeds in divided(processes, micro):
        torch.manual_seed(len(found))  # each process arrives with its own state of torch's generator
        with draws.image_seeds(seeds):
            chosen = draws.ImageSampler(sampler, stream=5)([matched[i] for i in places])
        found |= zip(places, zip(*chosen, strict=True), strict=True)
    assert sorted(found) == list(range(BATCH))
    ((_, seeds),) = divided(1, BATCH)
    for i, (objects, background) in found.items():
        torch.manual_seed(seeds[i] + 5)
        ((wanted_objects,), (wanted_background,)) = sampler([matched[i]])
        assert torch.equal(objects, wanted_objects) and torch.equal(background, wanted_background)
        assert (int(objects.sum()), int(background.sum())) == (4, 12)
        assert (matched[i][objects.bool()] > 0).all() and (matched[i][background.bool()] == 0).all()


def test_samplers_of_one_network_and_images_of_one_batch_choose_differently() -> None:
    sampler = BalancedPositiveNegativeSampler(16, 0.25)
    with draws.image_seeds([11, 12]):
        first, second = (draws.ImageSampler(sampler, stream)([boxes()[0]] * 2)[0] for stream in (0, 100))
    assert not torch.equal(first[0], second[0])
    assert not torch.equal(first[0], first[1])


def test_outside_of_a_training_the_sampler_draws_from_torchs_generator() -> None:
    sampler = BalancedPositiveNegativeSampler(16, 0.25)
    torch.manual_seed(3)
    wanted = sampler(boxes())
    torch.manual_seed(3)
    found = draws.ImageSampler(sampler, stream=0)(boxes())
    assert all(torch.equal(a, b) for ours, theirs in zip(found, wanted, strict=True) for a, b in zip(ours, theirs, strict=True))


@CUTS
def test_dropout_depends_on_the_image_alone(processes: int, micro: int) -> None:
    network = nn.Sequential(nn.Dropout(0.3), nn.Dropout(0.3))
    draws.seed_dropout(network)
    images = torch.ones(BATCH, 5, 20, 20)
    ((_, seeds),) = divided(1, BATCH)
    with draws.image_seeds(seeds):
        whole = network(images)
    for places, seeds in divided(processes, micro):
        with draws.image_seeds(seeds):
            assert torch.equal(network(images[places]), whole[places])
    kept = whole > 0
    assert kept.float().mean() == pytest.approx(0.7**2, abs=0.02), "the masks of the two layers are independent"
    torch.testing.assert_close(whole[kept], torch.full((int(kept.sum()),), 1 / 0.7**2))
    assert not torch.equal(whole[0], whole[1])
