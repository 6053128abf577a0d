"""Zero γ (section 3.1): each residual block is the identity at first, so that the network behaves like a shallow one."""

from __future__ import annotations

from torch import nn

from trickzoo.errors import NoEffect
from trickzoo.models.resnet import BasicBlock, Bottleneck


def zero_last_gammas(model: nn.Module) -> int:
    """Set γ of the last BatchNorm of every residual block to 0, in place, and return how many were set.

    The BatchNorm of the shortcut keeps its γ. In the released script only bottlenecks change: its option has no effect on the basic blocks
    of ResNet-18 and 34 B. Raises NoEffect if the model has no residual block.
    """
    last = [m.bn3 if isinstance(m, Bottleneck) else m.bn2 for m in model.modules() if isinstance(m, Bottleneck | BasicBlock)]
    if not last:
        raise NoEffect("zero gamma", "the model has no residual block that it acts on")
    for norm in last:
        nn.init.zeros_(norm.weight)
    return len(last)
