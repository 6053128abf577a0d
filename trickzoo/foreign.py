"""How networks answer to names of timm and torchvision that they do not have."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from torch import Tensor, nn

from trickzoo.errors import BadCheckpoint, BadOption, shortened

OWN_TENSORS = "load the state dict of the network itself, which for a wrapper is that of its attribute module"
"""The remedy for tensors under other names."""


class OwnNames(nn.Module):
    """A network that says what takes the place of a name of timm or torchvision, and never ignores such a name without a word.

    A subclass sets these attributes. They begin with an underscore so that they hide no part of a user's subclass.

    Attributes:
        _parts: where the network has its parts, and what it has instead of settings, by their names in timm and torchvision.
        _members: what takes the place of other members, by their names in timm and torchvision.
        _other_tensors: the remedy for tensors under other names.
    """

    _parts: ClassVar[Mapping[str, str]] = MappingProxyType({})
    _members: ClassVar[Mapping[str, str]] = MappingProxyType({})
    _other_tensors: ClassVar[str] = OWN_TENSORS

    def __getattr__(self, name: str) -> Tensor | nn.Module:
        """Return a part or a parameter. The AttributeError for a name of another library says what takes its place."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if instead := self._parts.get(name) or self._members.get(name):
                raise AttributeError(f"a {type(self).__name__} of trickzoo has no {name}; {instead}") from None
            raise

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute. Raises BadOption for a part under a name of timm or torchvision, which this network would never use.

        A user's subclass may use such a name.
        """
        if name in self._parts and name not in self._modules and type(self).__module__.startswith("trickzoo."):
            raise BadOption(f"a {type(self).__name__} of trickzoo has no {name}; {self._parts[name]}")
        super().__setattr__(name, value)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load tensors under the names of `state_dict()`, as every module does. Raises BadCheckpoint if none has such a name."""
        check_tensor_names(self, state_dict, self._other_tensors)
        return super().load_state_dict(state_dict, strict, assign)


def check_tensor_names(network: nn.Module, state_dict: Mapping[str, Any], remedy: str = OWN_TENSORS) -> None:
    """Raise BadCheckpoint, with the remedy, if no tensor has a name of the network.

    With `strict=False`, torch would load nothing, without an error.
    """
    if isinstance(state_dict, Mapping) and state_dict and not state_dict.keys() & network.state_dict().keys():
        name = getattr(network, "name", "") or type(network).__name__
        raise BadCheckpoint(f"none of these tensors has a name of {name} ({shortened([*map(str, state_dict)], 2)}); {remedy}")
