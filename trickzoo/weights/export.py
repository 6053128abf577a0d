"""Writes weight files in the zoo's layout or an upstream one."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trickzoo import registry
from trickzoo.backbone import Backbone, kind_in_words
from trickzoo.errors import BadOption, printable
from trickzoo.result_files import check_overwrite
from trickzoo.weights import convert
from trickzoo.weights.comparison import INCEPTION_SIDE, SIDE, check_as_built, other_layers, random_image
from trickzoo.weights.header import header
from trickzoo.weights.load import built_again, changed
from trickzoo.weights.record import Layout, Preprocessing
from trickzoo.weights.tensors import save_atomically
from trickzoo.wording import count


def export(
    model: Backbone,
    path: str | PathLike[str],
    *,
    layout: Layout = "trickzoo",
    overwrite: bool = False,
    training: dict[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    classes: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
) -> None:
    """Write a network's tensors to a .safetensors or .pth file.

    Args:
        model: the network.
        path: the file.
        layout: the library whose tensor names the file uses. In the layout "trickzoo" the file also has a header with the model, its
            classes, its preprocessing and its training, so that `create(path)` and the evaluation need no further options.
        overwrite: whether to replace the file if it exists.
        training: the recipe, the random seed and what else describes the training; by default that of the weights that were loaded.
        classes: names of the classes in the order of the outputs, for a network that was trained elsewhere; by default those of the weights
            that were loaded. They are a list or a tuple of different strings.
        preprocessing: how the evaluation prepares an image; by default that of the weights that were loaded.
        dtype: type to which floating point tensors are rounded in the file: float16, bfloat16, float32 or float64. float16 halves a file of
            float32. `create` converts them back.

    Raises:
        BadOption: if `model` is not a backbone, if the file exists, if the classes are not as many as the outputs, if a value is too large
            for `dtype`, or if the network does not exist in the layout, computes something else there, or has other layers than `create`
            builds or computes something else with them.
        NotWritten: if the file cannot be written.
    """
    if not isinstance(model, Backbone):
        own = "; trickzoo.detection.save and trickzoo.segmentation.save write those of a task"
        remedy = own if hasattr(model, "class_layers") else "; torch.save keeps the state_dict() of others"
        raise BadOption(f"export takes a classifier of trickzoo, not {kind_in_words(model, remedy)}")
    architecture = registry.find(model.name)
    path = check_new(path, (".safetensors", ".pth"), overwrite)
    state = model.state_dict()
    names = convert.key_map(architecture, layout, state)
    for option, value in convert.implied_options(architecture, names.keys()).items():
        if getattr(model, option) != value:
            raise BadOption(
                f"this {model.name} has {getattr(model, option)}, but {layout}'s has {value} and would compute something else; "
                "export it in the layout trickzoo"
            )
    if layout != "trickzoo" and (stride := model.feature_info[-1].stride) != 32:
        raise BadOption(
            f"this {model.name} has the output stride {stride}, which files in the layout {layout} do not state, so that it would compute "
            "something else when it is opened; export it in the layout trickzoo, or create it with output_stride=32 first"
        )
    if layout != "trickzoo" and not (classes is preprocessing is None):
        raise BadOption(f"files in the layout {layout} hold neither classes nor preprocessing; leave them out, or use the layout trickzoo")
    if classes is not None:
        check_classes(model.name, count(model.num_classes, "output"), model.num_classes, classes)
    if different := changed(model):
        raise other_layers(state, different[0], f"{model.name} that trickzoo.create builds")
    check_as_built(model, built_again(model), _logits, model.name, "trickzoo.create")
    if lacking := state.keys() - names.values():
        raise BadOption(f"{layout}'s {model.name} has no {min(lacking)} and {len(lacking) - 1} more; export it in the layout trickzoo")
    tensors = {theirs: state[ours] for theirs, ours in names.items()}
    if dtype is not None:
        tensors = {key: _rounded(key, tensor, dtype) if tensor.is_floating_point() else tensor for key, tensor in tensors.items()}
    save_atomically(tensors, path, header(model, training, classes, preprocessing) if layout == "trickzoo" else {"format": "pt"})


def _logits(model: Backbone) -> list[Tensor]:
    """Return the logits of a random image, or the averaged features without a classifier."""
    side = INCEPTION_SIDE if model.name == "inception_v3" else SIDE
    return [model(random_image(model, model.in_chans, side))]


def check_new(path: str | PathLike[str], endings: tuple[str, ...], overwrite: bool) -> Path:
    """Return the path of a weight file to write. Raises BadOption for another ending, and if the file exists and must not be replaced."""
    path = Path(path)
    if path.suffix not in endings:
        raise BadOption(f"{path}: the name of a weight file must end in {' or '.join(endings)}")
    check_overwrite(path, overwrite)
    return path


def check_classes(name: str, outputs: str, number: int, classes: Sequence[str]) -> None:
    """Raise BadOption unless `classes` is a list or tuple of `number` different strings. `outputs` says what there is one name for."""
    if not isinstance(classes, (list, tuple)) or not all(isinstance(each, str) for each in classes):
        raise BadOption("classes are a list of strings, in the order of the outputs")
    twice = next((f', with "{printable(each)}" twice' for each in classes if classes.count(each) > 1), "")
    if len(classes) != number or twice:
        raise BadOption(f"{name} has {outputs}; name as many classes, each once, not {len(classes)}{twice}")


def _rounded(key: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    if dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        raise BadOption(f"dtype must be float16, bfloat16, float32 or float64, not {str(dtype).removeprefix('torch.')}")
    rounded = tensor.to(dtype)
    if bool((rounded.isinf() & tensor.isfinite()).any()):
        raise BadOption(f"{key} has values of {float(tensor.abs().max()):.3g}, which {dtype} cannot hold; take torch.bfloat16")
    return rounded
