"""The interface that every backbone implements.

A backbone is `stem` → `pool` → `stages` → `head`. It returns logits, the last feature map, or a pyramid of feature maps, whose channels and
strides `feature_info` states. The strides are exact at every input size: a map of stride s has ceil(H / s) × ceil(W / s) cells.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from numbers import Integral
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trickzoo.errors import BadOption
from trickzoo.foreign import OwnNames

if TYPE_CHECKING:
    from typing_extensions import Self

    from trickzoo.weights.loaded import LoadedWeights


class FeatureInfo(NamedTuple):
    """One feature map of the pyramid.

    Attributes:
        name: the path of the module that outputs the map.
        channels: number of channels.
        stride: stride of the map in pixels of the input.
    """

    name: str
    channels: int
    stride: int


class Head(nn.Module):
    """Global average pooling, dropout and a linear classifier. With `num_classes=0` it has no classifier."""

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
        """Average a feature map over its cells: (N, C, h, w) → (N, C)."""
        return F.adaptive_avg_pool2d(features, 1).flatten(1)

    def forward(self, features: Tensor) -> Tensor:
        return self.fc(F.dropout(self.pool(features), self.drop_rate, self.training))


PARTS = {
    **dict.fromkeys(("fc", "classifier"), "this part is head.fc, which reset_head(n) replaces"),
    **dict.fromkeys(("conv1", "conv_stem", "bn1", "act1"), "this part is in stem"),
    "maxpool": "this part is pool",
    **dict.fromkeys(("avgpool", "global_pool"), "this part is in head"),
    "blocks": "these parts are in stages",
    **{f"layer{i + 1}": f"this part is stages[{i}]" for i in range(4)},
    "drop_rate": "the rate of its dropout is head.drop_rate",
}
"""Where a backbone has the parts that the networks of timm and torchvision have under these names."""
METHODS = {
    "reset_classifier": "reset_head(n) replaces the classifier",
    "get_classifier": "the classifier is head.fc",
    **dict.fromkeys(("forward_intermediates", "get_intermediate_layers"), "forward_pyramid(x) returns the feature maps"),
    **dict.fromkeys(("features", "extract_features"), "forward_features(x) returns the last feature map"),
    "set_grad_checkpointing": "torch.utils.checkpoint.checkpoint_sequential can run its stages",
    "head_hidden_size": "num_features is the number of features before the classifier",
    "default_cfg": "pretrained_cfg has the preprocessing of its weights",
}
"""What takes the place of other members of the networks of timm and torchvision."""


class Backbone(OwnNames):
    """Base class of the zoo's networks. A subclass sets `stem`, `stages`, `head` and `feature_info`, and `pool` if it has one.

    Attributes:
        name: the zoo's name of the architecture, set by `trickzoo.create`.
        options: the options of `trickzoo.create` on which the weights depend, such as the activation.
        weights: where the weights come from and how to prepare images for them (`LoadedWeights`); None without loaded weights.
        num_classes: number of logits, 0 without a classifier.
        num_features: number of channels of the last feature map.
        feature_info: name, channels and stride of each map of `forward_pyramid`, finest first.
    """

    _parts = MappingProxyType(PARTS)
    _members = MappingProxyType(METHODS)
    _other_tensors = "trickzoo.create(…, weights=FILE) reads files in the names of timm, torchvision and wrapped networks"
    name: str = ""
    options: Mapping[str, Any] = MappingProxyType({})
    weights: LoadedWeights | None = None
    feature_info: tuple[FeatureInfo, ...]
    stem: nn.Module
    stages: nn.ModuleList
    head: Head

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Identity()  # `print` shows the parts in the order in which they are first set
        self.pool: nn.Module = nn.Identity()
        self._frozen: set[nn.Module] = set()

    @property
    def in_chans(self) -> int:
        """The number of input channels."""
        return next(n for module in self.stem.modules() if (n := getattr(module, "in_channels", 0)))

    @property
    def num_classes(self) -> int:
        """The number of logits, 0 without a classifier. It is right even if `head` or `head.fc` was replaced without `reset_head`."""
        outputs = [n for module in self.head.modules() if (n := getattr(module, "out_features", 0))]  # also of quantised layers
        return outputs[-1] if outputs else 0

    @property
    def pretrained_cfg(self) -> dict[str, Any]:
        """The preprocessing of the weights in timm's form, for `timm.data.resolve_model_data_config`; empty if they state none."""
        stated = self.weights.preprocessing if self.weights else None
        return stated.timm_form(self.in_chans) if stated else {}

    @property
    def num_features(self) -> int:
        """The number of channels of the last feature map."""
        return self.feature_info[-1].channels

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last feature map: (N, in_chans, H, W) → (N, num_features, h, w)."""
        x = self.pool(self.stem(x))
        for stage in self.stages:
            x = stage(x)
        return x

    def forward_head(self, features: Tensor, *, pre_logits: bool = False) -> Tensor:
        """Return the (N, num_classes) logits of an (N, num_features, h, w) map, or with `pre_logits` its (N, num_features) average."""
        return self.head.pool(features) if pre_logits else self.head(features)

    def forward(self, x: Tensor) -> Tensor:
        """Return the (N, num_classes) logits of (N, in_chans, H, W) float images."""
        return self.forward_head(self.forward_features(x))

    def forward_pyramid(self, x: Tensor) -> dict[str, Tensor]:
        """Return the feature maps of (N, in_chans, H, W) images by the names in `feature_info`.

        Each has the shape (N, channels, ceil(H / stride), ceil(W / stride)).
        """
        x = self.stem(x)
        maps = {"stem": x}
        x = self.pool(x)
        for i, stage in enumerate(self.stages):
            x = maps[f"stages.{i}"] = stage(x)
        return maps

    def reset_head(self, num_classes: int) -> Self:
        """Replace the classifier by a new one with `num_classes` outputs, or by none if that is 0, and return the network.

        The new classifier has the device and the dtype of the network. Raises BadOption unless `num_classes` is a whole number from 0.
        """
        if not isinstance(num_classes, Integral) or isinstance(num_classes, bool) or num_classes < 0:
            raise BadOption(f"num_classes must be 0 or more, not {num_classes!r}")
        like = next(self.parameters())
        self.head.fc = nn.Linear(self.num_features, num_classes, device=like.device, dtype=like.dtype) if num_classes else nn.Identity()
        self._frozen.discard(self.head)  # the new classifier is trained, and its dropout acts
        self.head.train(self.training)
        if self.weights is not None:
            self.weights = replace(self.weights, classes=None)
        return self

    def freeze(self, *modules: nn.Module) -> Self:
        """Freeze parts of this network, as in `model.freeze(model.stem, *model.stages[:2])`, and return the network.

        The parameters of frozen parts get no gradient, and their BatchNorms keep their statistics, even after `model.train()`.
        Raises BadOption without parts, or if a module is not a part of this network.
        """
        if not modules:
            raise BadOption("freeze takes the parts to freeze, such as model.stem; model.freeze(model) freezes the whole network")
        for part in self._inside("freeze", modules):
            for parameter in part.parameters(recurse=False):
                parameter.requires_grad_(False)
            part.training = False
            self._frozen.add(part)
        return self

    def unfreeze(self, *modules: nn.Module) -> Self:
        """Undo `freeze` for parts of this network, as in `model.unfreeze(model.stages[-1])`, and return the network.

        Without parts, everything that `freeze` has frozen is unfrozen. Raises BadOption if a module is not a part of this network.
        """
        for part in self._all_frozen() & set(self._inside("unfreeze", modules or (self,))):
            for parameter in part.parameters(recurse=False):
                parameter.requires_grad_(True)
            part.training = self.training
            self._frozen.remove(part)
        return self

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """Return the parameters that form a layer, for timm's layer-wise learning rates: `create_optimizer_v2(model, layer_decay=0.7, …)`.

        The layers are the stem, each block (each stage if `coarse`), and the head. The values are regular expressions of their names.
        """
        return {"stem": r"stem\.", "blocks": r"stages\.(\d+)" if coarse else r"stages\.(\d+)\.(\d+)"}

    def _inside(self, method: str, modules: tuple[nn.Module, ...]) -> list[nn.Module]:
        """Return the modules and those inside them. Raises BadOption if one is not a part of this network."""
        own = set(self.modules())
        for module in modules:
            if not isinstance(module, nn.Module) or module not in own:
                raise BadOption(
                    f"{method}: {type(module).__name__} is not a part of this {type(self).__name__}; "
                    "name modules, such as model.stem or *model.stages[:2]"
                )
        return [part for module in modules for part in module.modules()]

    def train(self, mode: bool = True) -> Self:
        """Set training mode, or evaluation mode if `mode` is False, and return the network. Frozen parts stay in evaluation mode."""
        super().train(mode)
        for part in self._all_frozen():
            part.training = False
        return self

    def _all_frozen(self) -> set[nn.Module]:
        """Return the frozen modules, after adding those that took over the parameters of one, as `SyncBatchNorm` does of a BatchNorm."""
        for child in [child for part in self._frozen for child in part.children()]:
            own = [*child.parameters(recurse=False)]
            if own and not any(parameter.requires_grad for parameter in own):
                self._frozen.add(child)
        return self._frozen

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute. Raises BadOption for a part under a name of timm or torchvision, and for a linear layer as `head`."""
        if name == "head" and isinstance(value, nn.Linear):
            raise BadOption("head averages the last feature map before it classifies; reset_head(n) or head.fc replaces its linear layer")
        super().__setattr__(name, value)

    def __prepare_scriptable__(self) -> NoReturn:
        """Raise BadOption, because torch has deprecated TorchScript. Torch calls this method before it scripts a module."""
        raise BadOption(
            f"{self.name or type(self).__name__} cannot be scripted, because torch has deprecated TorchScript; "
            "use torch.export, torch.compile or torch.onnx.export"
        )

    def init_weights(self) -> Self:
        """Initialise all parameters in place, and return the network.

        Convolutions are drawn from He's normal distribution (fan out), BatchNorm gets scale 1 and shift 0, and the classifier is
        initialised as PyTorch does by default.
        """
        for module in self.modules():
            init_module(module)
        return self


def kind_in_words(model: Any, remedy: str = "") -> str:
    """Return how a message names something that is not a backbone: its type, and the remedy.

    If it is a wrapper, the remedy is the attribute that holds the network: "DataParallel around it; pass its attribute module".
    """
    name, inside = type(model).__name__, attribute_with_network(model)
    return f"{name}{remedy}" if inside is None else f"{name} around it; pass its attribute {inside}"


def attribute_with_network(model: Any) -> str | None:
    """Return the attribute in which a wrapper holds a network, such as "module" of a DataParallel; None for anything else."""
    return next((name for name in ("module", "_orig_mod", "network") if isinstance(getattr(model, name, None), nn.Module)), None)


_NOTHING = torch.empty(0, device="meta")


def init_module(module: nn.Module) -> None:
    """Initialise the parameters and buffers of a module, without those of its children. A module on the meta device is left as it is."""
    if next(module.parameters(recurse=False), _NOTHING).is_meta:
        return
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, (nn.BatchNorm2d, nn.Linear)):
        module.reset_parameters()


def dilation_plan(strides: tuple[int, ...], output_stride: int, *, entering: int) -> list[tuple[int, int, int]]:
    """Return the stride, the dilation of the first block and the dilation of the other blocks of each stage.

    `strides` are the strides of the stages without dilation, and `entering` is the stride of the first stage's input. A stage that would
    make the stride larger than `output_stride` gets stride 1 and a larger dilation instead. Its first block still has the dilation of the
    stage before, as in the official implementation (GluonCV `resnetv1b`).
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
    """Raise BadOption if the output stride is not one that the architecture named `what` supports."""
    if output_stride not in supported:
        allowed = " or ".join(map(str, supported))
        raise BadOption(f"{what}: output_stride must be {allowed}, not {output_stride!r}")
