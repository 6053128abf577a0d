"""Compares what two networks with the same tensors compute. The tensors do not state activations, strides, epsilons and the like."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from trickzoo.errors import BadOption
from trickzoo.modes import evaluating

SIDE, INCEPTION_SIDE = 97, 107
"""Sides in pixels of an image on which other strides, dilations and paddings make a difference. Inception V3 needs the larger one."""


def random_image(network: nn.Module, channels: int, side: int) -> Tensor:
    """Return a (1, channels, side, side) image of random numbers with the device and the type of the network. It is always the same."""
    like = next(network.parameters())
    return torch.randn(1, channels, side, side, generator=torch.Generator().manual_seed(0)).to(like.device, like.dtype)


def are_apart(expected: Tensor, actual: Tensor, tolerance: float) -> bool:
    """Return whether finite outputs differ in shape, or by more than the tolerance, a fraction of their own and of the largest value."""
    if expected.shape != actual.shape:
        return True
    return not torch.allclose(expected, actual, rtol=tolerance, atol=tolerance * float(expected.abs().max()))


def other_layers(names: Iterable[str], tensor: str, built: str) -> BadOption:
    """Return the error for a network that has other tensors than the one that would be loaded from its file.

    Args:
        names: the names of the tensors of the network that is to be written.
        tensor: one that is missing, additional or of another shape.
        built: the network that would be loaded, in words.
    """
    computed = any(".parametrizations." in key or key.endswith(("_orig", "_g")) for key in names)
    remedy = (
        "torch.nn.utils.prune.remove, remove_weight_norm or parametrize.remove_parametrizations makes computed weights parameters"
        if computed
        else "torch.save keeps its state_dict()"
    )
    return BadOption(f"{tensor} is not as in the {built}, so that the file could not be loaded; {remedy}")


def check_whole(network: nn.Module, what: str) -> None:
    """Raise BadOption if tensors of a network, which the message calls `what`, are spread over processes, as torch's FSDP leaves them."""
    for key, tensor in network.state_dict().items():
        if hasattr(tensor, "full_tensor"):  # a DTensor, whose module takes time to import
            raise BadOption(
                f"{key} of this {what} is spread over processes; load torch.distributed.checkpoint.state_dict.get_model_state_dict(model, "
                "options=StateDictOptions(full_state_dict=True)) into a new network, and pass that"
            )


@torch.no_grad()
def check_as_built(model: Any, built: Any, outputs: Callable[[Any], Iterable[Tensor]], name: str, builder: str) -> None:
    """Raise BadOption if a network gives other outputs in evaluation mode than the one that would be loaded from its file.

    Args:
        model: the network that is to be written.
        built: a new network with the same names and shapes of tensors. It gets the tensors of `model`.
        outputs: returns outputs of a network. Outputs that are not finite, as after a training run that diverged, are not compared.
        name, builder: what the message calls the network and what builds it.
    """
    check_whole(model, name)
    built.load_state_dict(model.state_dict(), assign=True)
    like = next(model.parameters())
    with evaluating(model), torch.autocast(like.device.type, enabled=False):
        own = copy.copy(model)  # with the network's hooks, but with neither its compiled call nor the `forward` that accelerate gave it
        vars(own).pop("forward", None)
        pairs = [(a.float(), b.float()) for a, b in zip(outputs(built.to(like.device).eval()), outputs(own), strict=True)]
    tolerance = 1e-3 if like.device.type == "cpu" and like.element_size() >= 4 else 1e-2  # GPUs round fp32 to TF32
    if any(are_apart(a, b, tolerance) for a, b in pairs if a.isfinite().all() and b.isfinite().all()):
        raise BadOption(
            f"this {name} computes something else than the one that {builder} builds, as with a hook or another activation, stride or "
            "epsilon, which the file could not state; torch.save keeps its state_dict()"
        )
