"""BatchNorms are folded into convolutions without a change of the logits, and stay where that is impossible."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.utils.prune
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

import trickzoo
from tests.checkpoints import randomise_norms
from tests.deployment import logits
from trickzoo.folding import fold_norms


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("name", ["resnet18_d", "resnet50", "mobilenet_v1_025", "inception_v3"])
def test_folding_changes_no_logit(name: str, frozen: bool) -> None:
    network = trickzoo.create(name, num_classes=7)
    randomise_norms(network)
    if frozen:
        trickzoo.factory.freeze_norms(network)
    images = torch.randn(1, 3, 80, 75)
    expected = logits(network.eval(), images)
    folded = fold_norms(copy.deepcopy(network))
    assert not [layer for layer in folded.modules() if isinstance(layer, nn.BatchNorm2d | FrozenBatchNorm2d)]
    torch.testing.assert_close(logits(folded, images), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_a_norm_stays_if_it_cannot_be_folded() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.conv, self.used_twice = nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
            self.second, self.third = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(self.first(x))
            return self.second(x) + x + self.third(self.used_twice(x)) + self.used_twice(x)

    network = Odd().eval()
    randomise_norms(network)
    images = torch.randn(2, 3, 4, 4)
    expected = logits(network, images)
    folded = fold_norms(copy.deepcopy(network))
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in folded.modules()) == 3
    torch.testing.assert_close(logits(folded, images), expected)


def weight_norm(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    nn.utils.parametrizations.weight_norm(convolution)


def prune(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    nn.utils.prune.l1_unstructured(convolution, "weight", 0.5)


def hook_of_a_norm(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    norm.register_forward_hook(lambda module, inputs, output: 2 * output)


def hook_of_a_convolution(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    convolution.register_forward_hook(lambda module, inputs, output: output + 1)


def no_statistics(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    norm.running_mean = norm.running_var = None


@pytest.mark.parametrize("change", [weight_norm, prune, hook_of_a_norm, hook_of_a_convolution, no_statistics])
def test_a_norm_stays_if_its_convolution_or_itself_was_changed(change: Callable[[nn.Conv2d, nn.BatchNorm2d], None]) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)).eval()
    randomise_norms(network)
    with torch.no_grad():
        change(network[0], network[1])  # type: ignore[arg-type]
        images = torch.randn(2, 3, 9, 9)
        expected = network(images)
        folded = fold_norms(copy.deepcopy(network))
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in folded.modules()) == 1
    torch.testing.assert_close(logits(folded, images), expected)
