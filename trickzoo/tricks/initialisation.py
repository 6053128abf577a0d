"""The paper's initialisation (section 2.1) and the released script's, which is another."""

from __future__ import annotations

import math
from typing import Literal

from torch import nn

Form = Literal["paper", "official", "he"]


def initialise(model: nn.Module, *, form: Form = "paper") -> None:
    """Initialise convolutions and linear layers in place; biases 0; BatchNorm γ 1 and β 0.

    "paper": Xavier uniform, bound √(6 / (fan_in + fan_out)). "official": MXNet's MSRAPrelu, normal with variance 2 / (1 + 0.25²) over the
    average of fan_in and fan_out. "he": normal with variance 2 / fan_out, as torchvision and timm, linear layers left alone.
    """
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(module.weight)
            if form == "paper":
                nn.init.xavier_uniform_(module.weight)
            elif form == "official":
                nn.init.normal_(module.weight, std=math.sqrt(2 / (1 + 0.25**2) / ((fan_in + fan_out) / 2)))
            elif isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None and not (form == "he" and isinstance(module, nn.Linear)):
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
