"""The architectures of the zoo and their names, as data, so that listing them does not import torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from trickzoo.errors import UnknownName

OUTPUT_STRIDES = (8, 16, 32)
"""The strides that the last feature map of a network can have."""


@dataclass(frozen=True)
class Architecture:
    """One network of the zoo.

    Attributes:
        name: the name of the network.
        builder: "module:callable". The callable takes `options` and the options of `trickzoo.create`, and returns the network.
        family: the name of the file in `weights_manifest/` that holds its weights.
        summary: what distinguishes the network from others, in a few words.
        parameters: number of parameters with 1000 classes, without BatchNorm statistics.
        macs: multiply-adds of convolutions and linear layers for one image of `size` × `size` pixels.
        size: side of an input image in pixels, for which `macs` is counted.
        own_options: options of `trickzoo.create` that only its family has.
        output_strides: the members of `OUTPUT_STRIDES` that the network supports.
        options: arguments of the builder that distinguish this network from others of its family.
        aliases: other names of the same network.
        tweaked: names of the networks from the plainest one of its depth to this one, each with more tweaks of the paper's section 4.
        residual: whether the network has residual blocks.
    """

    name: str
    builder: str
    family: str
    summary: str
    parameters: int
    macs: int
    size: int = 224
    own_options: tuple[str, ...] = ()
    output_strides: tuple[int, ...] = OUTPUT_STRIDES
    options: Mapping[str, Any] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    tweaked: tuple[str, ...] = ()
    residual: bool = False

    def output_stride_from(self, finest: int) -> int:
        """Return the smallest supported output stride that is not below `finest`.

        A `finest` that is not in `OUTPUT_STRIDES` is returned unchanged, so that the builder refuses it.
        """
        return min(stride for stride in self.output_strides if stride >= finest) if finest in OUTPUT_STRIDES else finest


TWEAKS = {
    "": "stride in the first 1x1 convolution",
    "b": "stride in the 3x3 convolution",
    "c": "B and a stem of three 3x3 convolutions",
    "d": "C and average pooling in the shortcut",
    "s": "C with twice the channels in the stem",
}
BASIC_TWEAKS = {
    "": "basic blocks (B is the same network)",
    "c": "stem of three 3x3 convolutions",
    "d": "C and average pooling in the shortcut",
}

PATHS = {"": ("",), "b": ("", "b"), "c": ("", "b", "c"), "d": ("", "b", "c", "d"), "s": ("", "b", "c", "s")}
"""The letters from the plain network to each variant, each with one more tweak."""

BASIC = (18, 34)
"""The depths of the ResNets whose blocks are basic ones; the others have bottlenecks."""
_RESNETS = {
    # (depth, letter): (parameters, multiply-adds at 224)
    (18, ""): (11_689_512, 1_814_073_344),
    (18, "c"): (11_708_744, 2_053_713_920),
    (18, "d"): (11_708_744, 2_053_713_920),
    (34, ""): (21_797_672, 3_663_761_408),
    (34, "c"): (21_816_904, 3_903_401_984),
    (34, "d"): (21_816_904, 3_903_401_984),
    (50, ""): (25_575_912, 3_857_973_248),
    (50, "b"): (25_557_032, 4_089_184_256),
    (50, "c"): (25_576_264, 4_328_824_832),
    (50, "d"): (25_576_264, 4_328_824_832),
    (101, ""): (44_589_800, 7_570_194_432),
    (101, "b"): (44_549_160, 7_801_405_440),
    (101, "c"): (44_568_392, 8_041_046_016),
    (101, "d"): (44_568_392, 8_041_046_016),
    (152, ""): (60_252_648, 11_282_415_616),
    (152, "b"): (60_192_808, 11_513_626_624),
    (152, "c"): (60_212_040, 11_753_267_200),
    (152, "d"): (60_212_040, 11_753_267_200),
    (50, "s"): (25_680_808, 5_444_337_664),
    (101, "s"): (44_672_936, 9_156_558_848),
    (152, "s"): (60_316_584, 12_868_780_032),
}
_MOBILENETS = {
    # (multiplier, whether it has a convolution before the head): (parameters, multiply-adds at 224)
    (1.25, False): (6_270_840, 879_516_800),
    (1.0, True): (5_282_600, 620_120_576),
    (1.0, False): (4_231_976, 568_740_352),
    (0.75, False): (2_585_560, 325_400_448),
    (0.5, False): (1_331_592, 149_497_088),
    (0.25, False): (470_072, 41_030_272),
}


def _architectures() -> list[Architecture]:
    zoo = []
    for (depth, letter), (parameters, macs) in _RESNETS.items():
        name = f"resnet{depth}" + (f"_{letter}" if letter else "")
        zoo.append(
            Architecture(
                name=name,
                builder="trickzoo.models.resnet:resnet",
                family="resnet",
                summary=f"ResNet-{depth}{'-' + letter.upper() if letter else ''}: {(BASIC_TWEAKS if depth in BASIC else TWEAKS)[letter]}",
                parameters=parameters,
                macs=macs,
                options={"depth": depth, "letter": letter},
                aliases=(f"{name}_b",) if depth in BASIC and not letter else (),
                tweaked=tuple(f"resnet{depth}_{each}".rstrip("_") for each in PATHS[letter] if (depth, each) in _RESNETS),
                residual=True,
            )
        )
    for (multiplier, head_conv), (parameters, macs) in _MOBILENETS.items():
        zoo.append(
            Architecture(
                name=f"mobilenet_v1_{round(multiplier * 100):03d}{'h' if head_conv else ''}",
                builder="trickzoo.models.mobilenet:MobileNetV1",
                family="mobilenet_v1",
                summary=f"MobileNet v1, {multiplier:g} × the channels{', and a 1x1 convolution before the head' if head_conv else ''}",
                parameters=parameters,
                macs=macs,
                options={"multiplier": multiplier, "head_conv": head_conv},
                own_options=("activation",),
            )
        )
    zoo.append(
        Architecture(
            name="inception_v3",
            builder="trickzoo.models.inception:InceptionV3",
            family="inception_v3",
            summary="Inception V3",
            parameters=23_834_568,
            macs=5_713_216_096,
            size=299,
            own_options=("aux_head",),
            output_strides=(32,),
        )
    )
    return zoo


ARCHITECTURES: dict[str, Architecture] = {a.name: a for a in _architectures()}
ALIASES: dict[str, str] = {alias: a.name for a in ARCHITECTURES.values() for alias in a.aliases}


def natural(name: str) -> list[str | int]:
    """Return a sort key that puts resnet50 before resnet101."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def find(name: str) -> Architecture:
    """Return the architecture with this name or alias. Raises UnknownName with the nearest names."""
    canonical = ALIASES.get(name, name)
    if canonical not in ARCHITECTURES:
        raise UnknownName("model", name, [*ARCHITECTURES, *ALIASES])
    return ARCHITECTURES[canonical]


def match(pattern: str = "*") -> list[str]:
    """Return the names of the models whose name or alias matches a shell pattern, in natural order."""
    hits = {name for name in ARCHITECTURES if fnmatchcase(name, pattern)}
    hits |= {name for alias, name in ALIASES.items() if fnmatchcase(alias, pattern)}
    return sorted(hits, key=natural)
