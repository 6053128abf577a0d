"""The network of a recipe: its initialisation or pretrained weights, the order of its classes, and its teacher."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor, nn

from trickzoo.backbone import Backbone
from trickzoo.data.classes import class_list, synsets
from trickzoo.errors import NOT_FINITE, BadCheckpoint, BadOption, shortened
from trickzoo.factory import create
from trickzoo.modes import evaluating
from trickzoo.recipes.recipe import Recipe
from trickzoo.recipes.trick_fields import actions
from trickzoo.tricks.initialisation import initialise
from trickzoo.weights.named import existing, is_file
from trickzoo.wording import count


def prepare(recipe: Recipe, num_classes: int, seed: int) -> Backbone:
    """Build the recipe's network with its pretrained weights, or initialise it from the seed as the recipe says.

    Raises BadOption if the recipe has an option that would undo its pretrained weights.
    """
    torch.manual_seed(seed)
    starting = actions(recipe, "network")
    if recipe.pretrained is not None:
        for action in starting:
            raise BadOption(f"{action.field} would undo the weights of pretrained; choose one of them")
        where = {"pretrained": True} if recipe.pretrained == "default" else {"weights": recipe.pretrained}
        model = create(recipe.model, num_classes=num_classes, **where).train()
        return model if recipe.freeze is None else freeze(model, recipe.freeze)
    if recipe.freeze is not None:
        raise BadOption("freeze would keep random weights; name the weights to start from with pretrained")
    model = create(recipe.model, num_classes=num_classes)
    initialise(model, form=recipe.init)
    for action in starting:
        action.function(model, **action.options)
    return model


def freeze(model: Backbone, parts: str) -> Backbone:
    """Freeze parts of a pretrained network, in place: "backbone" all but the classifier, "stages:2" the stem and the first two stages.

    Raises BadOption if the network has fewer stages.
    """
    stages = len(model.stages)
    count = stages if parts == "backbone" else int(parts.partition(":")[2])
    if count > stages:
        raise BadOption(f"{model.name} has {stages} stages; freeze stages:{stages} at most, or backbone")
    return model.freeze(model.stem, *model.stages[:count])


def load(path: str | PathLike[str]) -> Backbone:
    """Load a classifier that `trickzoo train` wrote, for RGB or for grey images, in evaluation mode.

    Raises BadCheckpoint if the file contains something else or is damaged, or if its network is for another number of channels.
    """
    return check_channels(create(existing(path), in_chans=None))


def check_channels(model: Backbone) -> Backbone:
    """Return a loaded classifier. Raises BadCheckpoint unless it takes RGB or grey images."""
    if model.in_chans not in (1, 3):
        raise BadCheckpoint(
            f"{_named(model)} is for inputs of {model.in_chans} channels, and images have 1 or 3; "
            f"open it in Python with trickzoo.create(FILE, in_chans={model.in_chans}), and prepare its input yourself"
        )
    return model


def logits_of(model: Backbone, image: Tensor, network: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """Return the (num_classes,) float32 logits in evaluation mode of a (C, H, W) image that is prepared for the network, on the CPU.

    `network` computes them in place of the model, as `trickzoo.deploy` returns it.
    Raises BadCheckpoint if they are not finite.
    """
    with evaluating(model):
        like = next(model.parameters())
        x = image[None].to(like.device)
        logits = (model(x.to(like.dtype)) if network is None else network(x))[0].float().cpu()
    if not logits.isfinite().all():
        raise BadCheckpoint(f"{_named(model)} {NOT_FINITE}")
    return logits


def _named(model: Backbone) -> str:
    return model.weights.name if model.weights else model.name


def reorder_outputs(model: Backbone, classes: Sequence[str]) -> bool:
    """Reorder a network's outputs to the order of these classes, and return True.

    If its weights are for other classes, nothing is changed and False is returned. Weights that name no classes are assumed to be for
    these.
    """
    if model.weights is None or model.weights.classes is None:
        return True
    theirs = synsets(class_list(model.weights.classes))
    if set(theirs) != set(classes):
        return False
    place = {name: i for i, name in enumerate(theirs)}
    order = [place[name] for name in classes]
    for module in model.modules():
        if isinstance(module, nn.Linear):  # every linear layer is a classifier; Inception V3 may have two
            module.weight.data, module.bias.data = module.weight.data[order], module.bias.data[order]
    model.weights = replace(model.weights, classes=tuple(classes))
    return True


def load_teacher(recipe: Recipe, classes: tuple[str, ...]) -> Backbone | None:
    """Load the recipe's teacher: a weight of the zoo, a model with its default weight, or a file that trickzoo wrote.

    Raises BadOption if it was trained for other classes.
    """
    if recipe.teacher is None:
        return None
    teacher = create(Path(recipe.teacher)) if is_file(recipe.teacher) else create(recipe.teacher, pretrained=True)
    if teacher.num_classes != len(classes):
        raise BadOption(
            f"the teacher {recipe.teacher} has {count(teacher.num_classes, 'class')}, the data {len(classes)}; they must be the same"
        )
    if not reorder_outputs(teacher, classes):
        assert teacher.weights is not None
        theirs = class_list(teacher.weights.classes or ())
        raise BadOption(
            f"the teacher {recipe.teacher} has other classes ({shortened(theirs, 3)}) than the data ({shortened(classes, 3)}); "
            "name a teacher that was trained on the same"
        )
    return teacher.requires_grad_(False)
