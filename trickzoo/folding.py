"""Folds BatchNorm layers into the convolutions before them, for networks in evaluation mode."""

from __future__ import annotations

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torchvision.ops import FrozenBatchNorm2d


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, FrozenBatchNorm2d) or super().is_leaf_module(m, module_qualified_name)


def fold_norms(network: nn.Module) -> fx.GraphModule:
    """Return the graph of a network in evaluation mode, with every BatchNorm folded into the convolution before it.

    A convolution y = w * x + b that is followed by the normalisation γ (y - μ) / √(σ² + ε) + β becomes one convolution with the weights
    w γ / √(σ² + ε) and the bias (b - μ) γ / √(σ² + ε) + β. A BatchNorm stays if its input is not the output of a convolution, if something
    else uses that output too, if it has no statistics, or if one of the two has hooks or computes its weight, as after
    `torch.nn.utils.prune` or `weight_norm`.

    The graph shares the layers of `network`, whose convolutions are changed in place. Pass a copy to keep the network.
    """
    graph = _Tracer().trace(network)
    for node in graph.nodes:
        node.type = None  # annotations are texts here, with which PyTorch 2.8 and 2.9 cannot pickle the graph
    folded = fx.GraphModule(network, graph)
    layers = dict(folded.named_modules())
    calls = [node.target for node in graph.nodes if node.op == "call_module"]
    for node in list(graph.nodes):
        if node.op != "call_module" or not isinstance(norm := layers[node.target], nn.BatchNorm2d | FrozenBatchNorm2d):
            continue
        before = node.args[0]
        convolution = layers.get(before.target) if before.op == "call_module" else None
        if type(convolution) is not nn.Conv2d or len(before.users) > 1 or calls.count(before.target) > 1:
            continue
        if norm.running_mean is None or any(module._forward_hooks or module._forward_pre_hooks for module in (convolution, norm)):
            continue
        _fold(convolution, norm)
        node.replace_all_uses_with(before)
        graph.erase_node(node)
    folded.delete_all_unused_submodules()
    folded.recompile()
    return folded


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d | FrozenBatchNorm2d) -> None:
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None and variance is not None
    with torch.no_grad():
        convolution.weight, convolution.bias = fuse_conv_bn_weights(
            convolution.weight, convolution.bias, mean, variance, norm.eps, norm.weight, norm.bias
        )
