"""Zero γ (section 3.1): each residual block starts as the identity, so that the network is shallow at first."""

from __future__ import annotations

from torch import nn

from trickzoo.errors import NoEffect
from trickzoo.models.resnet import BasicBlock, Bottleneck


def zero_last_gammas(model: nn.Module) -> int:
    """Set γ of the last BatchNorm of every residual block to 0, in place, and return how many were set.

    The shortcut's BatchNorm keeps its γ. The released script does so in bottlenecks alone: its option has no effect on the basic blocks of
    ResNet-18 and 34 B. Raises NoEffect if the model has no residual block.
    """
    last = [m.bn3 if isinstance(m, Bottleneck) else m.bn2 for m in model.modules() if isinstance(m, Bottleneck | BasicBlock)]
    if not last:
        raise NoEffect("zero gamma", "the model has no residual block that it acts on")
    for norm in last:
        nn.init.zeros_(norm.weight)
    return len(last)
