"""The initialisation of the paper (section 2.1), and that of its released script, which differs."""

from __future__ import annotations

import math
from typing import Literal, get_args

from torch import nn

from trickzoo.errors import check_choice

Form = Literal["paper", "official", "he"]


def initialise(model: nn.Module, *, form: Form = "paper") -> None:
    """Initialise convolutions and linear layers in place. Biases become 0, γ of BatchNorm 1, and β 0.

    "paper": Xavier's uniform distribution with the bound √(6 / (fan_in + fan_out)). "official": MXNet's MSRAPrelu, a normal distribution
    with variance 2 / (1 + 0.25²) divided by the average of fan_in and fan_out. "he": a normal distribution with variance 2 / fan_out, as in
    torchvision and timm; linear layers keep their weights.

    Raises BadOption for another form.
    """
    check_choice("initialisation: form", form, get_args(Form))
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
