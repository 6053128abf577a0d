"""Renames the tensors of state dicts between the zoo's layout and those of timm, torchvision and OpenMMLab.

A layout is the set of names (keys) that a library gives to the tensors of a network. The architecture determines it exactly, so the layout
of a file is the one whose set of names the file has. Only names are changed, never tensors.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any

from trickzoo.errors import BadOption
from trickzoo.registry import BASIC, Architecture
from trickzoo.weights.record import Layout

# Pairs of a pattern of the zoo's name and the upstream name that replaces it. The first pattern that matches is used.
Rules = tuple[tuple[str, str], ...]

_RESNET_BLOCKS: Rules = ((r"head\.fc\.", "fc."), (r"stem\.(conv1|bn1)\.", r"\1."))
_DEEP_STEM: Rules = (
    (r"stem\.conv1\.", "conv1.0."),
    (r"stem\.bn1\.", "conv1.1."),
    (r"stem\.conv2\.", "conv1.3."),
    (r"stem\.bn2\.", "conv1.4."),
    (r"stem\.conv3\.", "conv1.6."),
    (r"stem\.bn3\.", "bn1."),
)
_MMCV_STEM: Rules = (
    (r"stem\.conv1\.", "stem.0."),
    (r"stem\.bn1\.", "stem.1."),
    (r"stem\.conv2\.", "stem.3."),
    (r"stem\.bn2\.", "stem.4."),
    (r"stem\.conv3\.", "stem.6."),
    (r"stem\.bn3\.", "stem.7."),
)
_OPENMMLAB_STEM: Rules = tuple(
    (rf"stem\.{ours}{i + 1}\.", f"backbone.stem.{i}.{theirs}.") for i in range(3) for ours, theirs in (("conv", "conv"), ("bn", "bn"))
)
_MOBILENET: Rules = (
    (r"head\.fc\.", "classifier."),
    (r"stages\.4\.2\.conv\.", "conv_head."),
    (r"stages\.4\.2\.bn\.", "bn2."),
    (r"stem\.conv\.", "conv_stem."),
    (r"stem\.bn\.", "bn1."),
    (r"stages\.(\d+)\.(\d+)\.depthwise\.", r"blocks.\1.\2.conv_dw."),
    (r"stages\.(\d+)\.(\d+)\.pointwise\.", r"blocks.\1.\2.conv_pw."),
    (r"stages\.(\d+)\.(\d+)\.", r"blocks.\1.\2."),
)
_INCEPTION_PLACES = {
    "stem.0": "Conv2d_1a_3x3",
    "stem.1": "Conv2d_2a_3x3",
    "stem.2": "Conv2d_2b_3x3",
    "stages.0.1": "Conv2d_3b_1x1",
    "stages.0.2": "Conv2d_4a_3x3",
    "stages.1.1": "Mixed_5b",
    "stages.1.2": "Mixed_5c",
    "stages.1.3": "Mixed_5d",
    "stages.2.0": "Mixed_6a",
    "stages.2.1": "Mixed_6b",
    "stages.2.2": "Mixed_6c",
    "stages.2.3": "Mixed_6d",
    "stages.2.4": "Mixed_6e",
    "stages.3.0": "Mixed_7a",
    "stages.3.1": "Mixed_7b",
    "stages.3.2": "Mixed_7c",
    "aux_head": "AuxLogits",
    "head.fc": "fc",
}
_A = {
    "0.0": "branch1x1",
    "1.0": "branch5x5_1",
    "1.1": "branch5x5_2",
    "2.0": "branch3x3dbl_1",
    "2.1": "branch3x3dbl_2",
    "2.2": "branch3x3dbl_3",
    "3.1": "branch_pool",
}
_B = {"0.0": "branch3x3", "1.0": "branch3x3dbl_1", "1.1": "branch3x3dbl_2", "1.2": "branch3x3dbl_3"}
_C = {
    "0.0": "branch1x1",
    "1.0": "branch7x7_1",
    "1.1": "branch7x7_2",
    "1.2": "branch7x7_3",
    "2.0": "branch7x7dbl_1",
    "2.1": "branch7x7dbl_2",
    "2.2": "branch7x7dbl_3",
    "2.3": "branch7x7dbl_4",
    "2.4": "branch7x7dbl_5",
    "3.1": "branch_pool",
}
_D = {
    "0.0": "branch3x3_1",
    "0.1": "branch3x3_2",
    "1.0": "branch7x7x3_1",
    "1.1": "branch7x7x3_2",
    "1.2": "branch7x7x3_3",
    "1.3": "branch7x7x3_4",
}
_E = {
    "0.0": "branch1x1",
    "1.0": "branch3x3_1",
    "1.1.branches.0": "branch3x3_2a",
    "1.1.branches.1": "branch3x3_2b",
    "2.0": "branch3x3dbl_1",
    "2.1": "branch3x3dbl_2",
    "2.2.branches.0": "branch3x3dbl_3a",
    "2.2.branches.1": "branch3x3dbl_3b",
    "3.1": "branch_pool",
}
_INCEPTION_BRANCHES = {"5": _A, "6a": _B, "6": _C, "7a": _D, "7": _E}


def _inception_rules() -> Rules:
    rules = []
    for ours, theirs in _INCEPTION_PLACES.items():
        if theirs.startswith("Mixed_"):
            grid = theirs.removeprefix("Mixed_")
            branches = _INCEPTION_BRANCHES.get(grid) or _INCEPTION_BRANCHES[grid[0]]
            rules += [(re.escape(f"{ours}.branches.{b}."), f"{theirs}.{name}.") for b, name in branches.items()]
        else:
            rules.append((re.escape(f"{ours}."), f"{theirs}."))
    return tuple(rules)


_INCEPTION = _inception_rules()


def layouts(architecture: Architecture) -> dict[Layout, Rules]:
    """Return the upstream layouts by which a file of an architecture is recognised, with the renaming rules of each.

    A family whose rules are not written has none. Neither have the original bottleneck ResNets: the network that timm, torchvision and
    OpenMMLab call resnet50 has its stride in the 3x3 convolution, which is resnet50_b here. timm and torchvision use the same names for
    every network that both have.
    """
    if architecture.family == "mobilenet_v1":
        return {"timm": _MOBILENET}
    if architecture.family == "inception_v3":
        return {"timm": _INCEPTION, "torchvision": _INCEPTION}
    if architecture.family != "resnet" or is_original(architecture):
        return {}
    letter = architecture.options["letter"]
    blocks = _blocks("")
    openmmlab = ((r"head\.fc\.", "head.fc."), *_openmmlab_blocks(letter))
    if letter == "s":
        return {"timm": _DEEP_STEM + _RESNET_BLOCKS + blocks}
    if letter in ("c", "d"):
        mmcv = _MMCV_STEM + _RESNET_BLOCKS + (_shifted("") if letter == "d" else ()) + blocks
        return {"timm": _DEEP_STEM + _RESNET_BLOCKS + blocks, "openmmlab": _OPENMMLAB_STEM + openmmlab, "mmcv": mmcv}
    plain = _RESNET_BLOCKS + blocks
    return {"timm": plain, "torchvision": plain, "openmmlab": ((r"stem\.(conv1|bn1)\.", r"backbone.\1."), *openmmlab)}


def is_original(architecture: Architecture) -> bool:
    """Return whether this is a ResNet with original bottlenecks, whose 1x1 convolutions have a stride and a bias."""
    options = architecture.options
    return architecture.family == "resnet" and options["letter"] == "" and options["depth"] not in BASIC


def _blocks(prefix: str) -> Rules:
    return (
        (r"stages\.(\d+)\.(\d+)\.shortcut\.", rf"{prefix}layer<\1>.\2.downsample."),
        (r"stages\.(\d+)\.(\d+)\.", rf"{prefix}layer<\1>.\2."),
    )


def _shifted(prefix: str) -> Rules:
    """Return the rules for the shortcut of the first stage of OpenMMLab's D.

    It has neither pooling nor an identity in its place, so the names of its layers count from 0.
    """
    return tuple((rf"stages\.0\.0\.shortcut\.{i + 1}\.", f"{prefix}layer1.0.downsample.{i}.") for i in range(2))


def _openmmlab_blocks(letter: str) -> Rules:
    return (_shifted("backbone.") if letter == "d" else ()) + _blocks("backbone.")


def implied_options(architecture: Architecture, keys: Collection[str]) -> dict[str, Any]:
    """Return the options of `trickzoo.create` that the names of a file's tensors imply: every MobileNet v1 of timm has ReLU6."""
    return {"activation": "relu6"} if architecture.family == "mobilenet_v1" and "conv_stem.weight" in keys else {}


def key_map(architecture: Architecture, layout: Layout, our_keys: Iterable[str]) -> dict[str, str]:
    """Return a dictionary from each upstream name to the zoo's name.

    It has one entry for each of `our_keys`, but none for the biases of an original bottleneck's 1x1 convolutions in the layout "mmcv",
    which lacks them. Raises BadOption if the architecture does not exist in that layout.
    """
    if layout == "trickzoo":
        return {key: key for key in our_keys}
    known = layouts(architecture)
    if is_original(architecture) and layout == "mmcv":
        # Only a record names this layout: a file with these names may as well be of the B network.
        known, our_keys = {"mmcv": _RESNET_BLOCKS + _blocks("")}, [key for key in our_keys if not re.search(r"conv\d\.bias$", key)]
    if layout not in known:
        name = architecture.name
        if is_original(architecture):
            raise BadOption(f"{name} has its stride in the first 1x1; {layout}'s network of that depth has it in the 3x3: name {name}_b")
        raise BadOption(f"{name} does not exist in {layout}; name one of its layouts, {', '.join(('trickzoo', *known))}")
    rules = [(re.compile(pattern), theirs) for pattern, theirs in known[layout]]
    parts = [key.rpartition(".") for key in our_keys]
    modules = {module: _renamed(architecture, layout, rules, f"{module}.") for module in {module for module, _, _ in parts}}
    return {f"{modules[module]}{tensor}": f"{module}.{tensor}" for module, _, tensor in parts}


def _renamed(architecture: Architecture, layout: Layout, rules: Iterable[tuple[re.Pattern[str], str]], module: str) -> str:
    """Return the upstream name of a module; both names end with a dot."""
    for pattern, theirs in rules:
        if pattern.match(module):
            return re.sub(r"<(\d+)>", lambda m: str(int(m[1]) + 1), pattern.sub(theirs, module, count=1))
    raise AssertionError(f"{architecture.name}: no {layout} name for {module}")


def is_optional(our_key: str) -> bool:
    """Return whether a file may hold this tensor or not: step counters of BatchNorm, which old files lack, and classifiers."""
    return our_key.endswith(".num_batches_tracked") or our_key.startswith(("head.", "aux_head."))


def detected_map(architecture: Architecture, keys: Collection[str], our_keys: Collection[str]) -> dict[str, str] | None:
    """Return the `key_map` of the layout whose names a file has, apart from optional tensors; None if it has the names of no layout.

    Every name must match exactly; the layout is never guessed from some of them.
    """
    candidates: list[Layout] = ["trickzoo", *layouts(architecture)]
    for layout in candidates:
        names = key_map(architecture, layout, our_keys)
        if all(key in names for key in keys) and all(key in keys for key, ours in names.items() if not is_optional(ours)):
            return names
    return None
