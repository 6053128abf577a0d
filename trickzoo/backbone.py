"""The contract that every backbone keeps.

A backbone is `stem` → `pool` → `stages` → `head`. It gives logits, a last feature map, or a pyramid of maps whose channels and
strides `feature_info` declares; the strides hold at every input size: a map of stride s has ceil(H / s) × ceil(W / s) cells.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trickzoo.errors import BadOption

if TYPE_CHECKING:
    from typing_extensions import Self

    from trickzoo.weights.loaded import LoadedWeights


class FeatureInfo(NamedTuple):
    """One map of the pyramid. `name` is also the path of the module that makes it."""

    name: str
    channels: int
    stride: int


class Head(nn.Module):
    """Global average pool, dropout, linear classifier. With `num_classes=0` it ends after the pool."""

    def __init__(
        self,
        features: int,
        num_classes: int,
        drop_rate: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.drop_rate = drop_rate
        self.fc = nn.Linear(features, num_classes, device=device, dtype=dtype) if num_classes else nn.Identity()

    def pool(self, features: Tensor) -> Tensor:
        """(N, C, h, w) → (N, C)."""
        return F.adaptive_avg_pool2d(features, 1).flatten(1)

    def forward(self, features: Tensor) -> Tensor:
        return self.fc(F.dropout(self.pool(features), self.drop_rate, self.training))


class Backbone(nn.Module):
    """Base of the zoo's networks; a subclass sets `stem`, `stages`, `head` and `feature_info`, and `pool` if it has one.

    Attributes:
        name: the zoo's name of the architecture, set by `trickzoo.create`.
        options: what `trickzoo.create` built it with that its weights depend on, such as the activation.
        weights: where the loaded weights come from and how to feed them (`LoadedWeights`), None for a random network.
        num_classes, num_features: width of the logits and of the last feature map.
        feature_info: (name, channels, stride) of each map of `forward_pyramid`, finest first.
    """

    name: str = ""
    options: Mapping[str, Any] = MappingProxyType({})
    weights: LoadedWeights | None = None
    feature_info: tuple[FeatureInfo, ...]
    stem: nn.Module
    stages: nn.ModuleList
    head: Head

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.pool: nn.Module = nn.Identity()
        self._frozen: list[nn.Module] = []

    @property
    def in_chans(self) -> int:
        """Channels of the images that it takes."""
        return next(self.stem.parameters()).shape[1]

    @property
    def num_features(self) -> int:
        """Channels of the last feature map."""
        return self.feature_info[-1].channels

    def forward_features(self, x: Tensor) -> Tensor:
        """(N, in_chans, H, W) → the last feature map (N, num_features, h, w)."""
        x = self.pool(self.stem(x))
        for stage in self.stages:
            x = stage(x)
        return x

    def forward_head(self, features: Tensor, *, pre_logits: bool = False) -> Tensor:
        """(N, num_features, h, w) → (N, num_classes) logits, or the (N, num_features) pooled vector with `pre_logits`."""
        return self.head.pool(features) if pre_logits else self.head(features)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_chans, H, W) float → (N, num_classes) logits."""
        return self.forward_head(self.forward_features(x))

    def forward_pyramid(self, x: Tensor) -> dict[str, Tensor]:
        """(N, in_chans, H, W) → {name: (N, channels, ceil(H / stride), ceil(W / stride))}, as `feature_info` declares."""
        x = self.stem(x)
        maps = {"stem": x}
        x = self.pool(x)
        for i, stage in enumerate(self.stages):
            x = maps[f"stages.{i}"] = stage(x)
        return maps

    def reset_head(self, num_classes: int) -> Self:
        """Replace the classifier by a new one of `num_classes` outputs (0: none), on the same device and in the same dtype."""
        if num_classes < 0:
            raise BadOption(f"num_classes must be 0 or more, not {num_classes}")
        like = next(self.parameters())
        self.head.fc = nn.Linear(self.num_features, num_classes, device=like.device, dtype=like.dtype) if num_classes else nn.Identity()
        self.head.train(self.training)
        self.num_classes = num_classes
        if self.weights is not None:
            self.weights = replace(self.weights, classes=None)
        return self

    def freeze(self, *modules: nn.Module) -> Self:
        """Freeze parts of this network: `model.freeze(model.stem, *model.stages[:2])`.

        Their parameters take no gradient and their BatchNorms keep their statistics, also after `model.train()`.
        """
        own = set(self.modules())
        for module in modules:
            if module not in own:
                raise BadOption(f"freeze: {type(module).__name__} is not a part of this {type(self).__name__}")
            module.requires_grad_(False)
            module.eval()
            self._frozen.append(module)
        return self

    def unfreeze(self) -> Self:
        """Undo every `freeze`."""
        frozen, self._frozen = self._frozen, []
        for module in frozen:
            module.requires_grad_(True)
            module.train(self.training)
        return self

    def train(self, mode: bool = True) -> Self:
        """As `nn.Module.train`, but frozen parts stay in evaluation mode."""
        super().train(mode)
        for module in self._frozen:
            for part in module.modules():
                part.training = False
        return self

    def __prepare_scriptable__(self) -> NoReturn:
        """What torch calls before it scripts a module. Raises BadOption, because torch has deprecated TorchScript."""
        raise BadOption(
            f"{self.name or type(self).__name__} cannot be scripted, because torch has deprecated TorchScript; "
            "use torch.export, torch.compile or torch.onnx.export"
        )

    def init_weights(self) -> Self:
        """Initialise in place: He normal (fan out) for convolutions, 1 and 0 for BatchNorm, torch's default for the classifier."""
        for module in self.modules():
            init_module(module)
        return self


_NOTHING = torch.empty(0, device="meta")


def init_module(module: nn.Module) -> None:
    """Initialise the module's own parameters and buffers, not its children's. On the meta device there is nothing to initialise."""
    if next(module.parameters(recurse=False), _NOTHING).is_meta:
        return
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, (nn.BatchNorm2d, nn.Linear)):
        module.reset_parameters()


def dilation_plan(strides: tuple[int, ...], output_stride: int, *, entering: int) -> list[tuple[int, int, int]]:
    """(stride, dilation of the first block, dilation of the others) per stage, so that the network ends at `output_stride`.

    `entering` is the stride of the first stage's input. A stage that would go below `output_stride` keeps its resolution and dilates
    instead; its first block still has the dilation of the stage before, as in the official implementation (GluonCV `resnetv1b`).
    """
    total, dilation, plan = entering, 1, []
    for stride in strides:
        first = dilation
        if stride > 1 and total * stride > output_stride:
            dilation, stride = dilation * stride, 1
        total *= stride
        plan.append((stride, first, dilation))
    return plan


def check_output_stride(output_stride: int, supported: tuple[int, ...], what: str) -> None:
    """Raise BadOption if the architecture `what` cannot have this output stride."""
    if output_stride not in supported:
        allowed = " or ".join(map(str, supported))
        raise BadOption(f"{what}: output_stride must be {allowed}, not {output_stride}")
