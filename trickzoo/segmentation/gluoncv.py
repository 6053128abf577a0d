"""Imports the FCN segmenters of GluonCV, the implementation of the paper's authors, from MXNet's `.params` files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from trickzoo import registry
from trickzoo.data.readers import ade20k, voc
from trickzoo.errors import BadCheckpoint, BadOption
from trickzoo.recipes.collection import to_dict
from trickzoo.recipes.finetune import ADE20K_MASKS, VOC_MASKS
from trickzoo.segmentation.task import build
from trickzoo.training import network_file
from trickzoo.weights import convert
from trickzoo.weights.gluoncv import NORM, Candidate, Params, check_number, fill, find, names_of_resnet, trained_shapes
from trickzoo.wording import count

KNOWN = {21: (VOC_MASKS, (voc.BACKGROUND, *voc.CLASSES)), 150: (ADE20K_MASKS, ade20k.CLASSES)}
"""The recipe and the classes of GluonCV's segmenters, by the number of classes."""


def import_segmenter(params: Params, out: Path, classes: tuple[str, ...] | None = None) -> str:
    """Write the FCN in a file of GluonCV to a .safetensors file that `segmentation.load` reads, and return the name of its backbone.

    The logits are those of GluonCV's network, to rounding. Without `classes` those of VOC or ADE20K are taken, by their number.
    Raises BadCheckpoint if the network is not an FCN on a backbone of the zoo, and BadOption if the classes are unknown or too many or few.
    """
    for sign, method in (("head.psp.", "PSPNet"), ("head.aspp.", "DeepLab"), ("head.sa.", "DANet")):
        if any(name.startswith(sign) for name in params.arrays):
            raise BadCheckpoint(f"{params.path} is a {method}; of GluonCV's segmenters, trickzoo has FCN only")
    aux = any(name.startswith("auxlayer.") for name in params.arrays)
    architecture, names, _ = find(params, _candidates(aux), "FCN")
    outputs = params.arrays["head.block.4.weight"].shape[0]
    check_number(params, classes, outputs)
    recipe, known = KNOWN.get(outputs, (VOC_MASKS, None))
    names_of_classes = classes or known
    if names_of_classes is None:
        raise BadOption(
            f"{params.path} has {count(outputs, 'class')}, not those of VOC or ADE20K; name a file of its classes with --classes"
        )
    recipe = recipe.but("gluoncv.fcn", model=architecture.name, align_corners=True, aux=recipe.aux if aux else 0.0)
    model = build(replace(recipe, weights=None), outputs)
    fill(model, names, params.arrays, params.path)
    network_file.save(model, recipe, names_of_classes, out, {**params.origin, "recipe": to_dict(recipe)})
    return architecture.name


def _candidates(aux: bool) -> Iterator[Candidate]:
    """Yield an FCN for each ResNet whose layers have timm's names at GluonCV."""
    for architecture in registry.ARCHITECTURES.values():
        if architecture.family == "resnet" and "timm" in convert.layouts(architecture):
            shapes = trained_shapes(architecture)
            names = {f"backbone.{ours}": theirs for ours, theirs in names_of_resnet(architecture, list(shapes)).items()}
            for ours, theirs in (("head", "head.block"), *([("aux_head", "auxlayer.block")] if aux else [])):
                names |= {f"{ours}.{layer}": f"{theirs}.{layer}" for layer in ("0.weight", "4.weight", "4.bias")}
                names |= {f"{ours}.1.{last}": f"{theirs}.1.{mxnet}" for last, mxnet in NORM.items()}
            yield Candidate(architecture, names, {f"backbone.{key}": shape for key, shape in shapes.items()})
