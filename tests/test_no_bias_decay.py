"""No bias decay: which parameters are decayed, in networks of any kind."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import nn
from torch.nn.utils import parametrizations, prune

import trickzoo
from trickzoo.errors import NoEffect
from trickzoo.tricks.no_bias_decay import decay_groups


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet50_d", "mobilenet_v1_025", "inception_v3"])
def test_no_bias_decay_exempts_all_but_matrices_and_kernels(name: str) -> None:
    decayed, exempt = decay_groups(trickzoo.create(name, num_classes=5, device="meta"), 1e-4)
    # Independent of modules and names: a weight of a convolution or linear layer is the only parameter with two dimensions or more.
    assert all(p.ndim >= 2 for p in decayed["params"])
    assert all(p.ndim == 1 for p in exempt["params"])
    count = len(list(trickzoo.create(name, num_classes=5, device="meta").parameters()))
    assert len(decayed["params"]) + len(exempt["params"]) == count
    assert (decayed["weight_decay"], exempt["weight_decay"]) == (1e-4, 0.0)


def test_no_bias_decay_takes_normalisation_of_any_kind_and_leaves_out_the_frozen() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.GroupNorm(2, 4), nn.LayerNorm([4, 2, 2]), nn.Flatten(), nn.Linear(16, 2))
    model[0].requires_grad_(False)
    decayed, exempt = decay_groups(model, 0.1)
    assert [p.shape for p in decayed["params"]] == [(2, 16)]
    assert len(exempt["params"]) == 5  # the layer norm's weight has three dimensions
    with pytest.raises(NoEffect):
        decay_groups(nn.Sequential(nn.Conv2d(3, 4, 1, bias=False)), 0.1)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch has deprecated the older of the two forms
@pytest.mark.parametrize(
    "norm", [parametrizations.weight_norm, parametrizations.spectral_norm, nn.utils.weight_norm, nn.utils.spectral_norm]
)
def test_no_bias_decay_decays_what_a_weight_is_computed_from(norm: Callable[[nn.Module], nn.Module]) -> None:
    layers = [norm(nn.Conv2d(3, 4, 3)), norm(nn.Linear(4, 2))]
    decayed, exempt = decay_groups(nn.Sequential(*layers, nn.BatchNorm2d(4)), 0.1)
    assert {id(p) for p in exempt["params"]} == {id(layer.bias) for layer in layers} | {id(p) for p in exempt["params"][2:]}
    assert len(exempt["params"]) == 4
    assert {p for layer in layers for p in layer.parameters() if p is not layer.bias} == {*decayed["params"]}


def test_no_bias_decay_decays_pruned_weights() -> None:
    layer = nn.Linear(4, 2)
    prune.l1_unstructured(layer, "weight", 0.5)
    assert decay_groups(layer, 0.1)[0]["params"] == [layer.weight_orig]


def test_no_bias_decay_decays_the_projections_of_attention() -> None:
    attention = nn.MultiheadAttention(4, 2, kdim=3, add_bias_kv=True)
    decayed, exempt = decay_groups(nn.Sequential(attention, nn.MultiheadAttention(4, 2)), 0.1)
    assert sorted(tuple(each.shape) for each in decayed["params"]) == [(4, 3), (4, 4), (4, 4), (4, 4), (4, 4), (12, 4)]
    assert all(each.ndim == 1 or each.shape == (1, 1, 4) for each in exempt["params"])


def test_no_bias_decay_takes_a_shared_parameter_once() -> None:
    """Otherwise an optimiser would step twice, or refuse the groups."""
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 4), nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 5))
    model[2].weight, model[2].bias, model[4].weight = model[1].weight, model[1].bias, model[0].weight
    decayed, exempt = decay_groups(model, 0.1)
    assert [id(p) for p in decayed["params"]] == [id(model[4].weight), id(model[1].weight)]
    assert {id(p) for p in decayed["params"] + exempt["params"]} == {id(p) for p in model.parameters()}
    assert len(decayed["params"] + exempt["params"]) == len(list(model.parameters()))
