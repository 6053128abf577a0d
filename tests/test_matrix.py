"""Every trick changes a training, which resumes bit for bit after a stop, and whose network can be exported."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

import trickzoo
from tests import training
from tests.training import same
from trickzoo.classification.model import prepare
from trickzoo.data.resident import Resident
from trickzoo.errors import BadOption, NoEffect, TrickzooError
from trickzoo.recipes.recipe import Augmentation, Recipe
from trickzoo.recipes.trick_fields import marked_fields
from trickzoo.tricks.linear_scaling import scaled_lr

NO_AUGMENTATION = Augmentation(area=(1.0, 1.0), aspect=(1.0, 1.0), flip=0.0, jitter=0.0, pca=0.0)
PLAIN = Recipe(
    "test.plain",
    "mobilenet_v1_025",
    "colours",
    size=32,
    epochs=2,
    batch_size=8,
    lr=0.01,
    milestones=(),
    init="he",
    augmentation=NO_AUGMENTATION,
)


def augmented(**changes: Any) -> dict[str, Any]:
    """Return the change of a recipe that sets these augmentations and switches the others off."""
    return {"augmentation": Augmentation(**{"area": (1.0, 1.0), "aspect": (1.0, 1.0), "flip": 0.0, "jitter": 0.0, "pca": 0.0} | changes)}


TRICKS: dict[str, dict[str, Any]] = {
    "linear scaling": {"batch_size": 16, "lr": scaled_lr(0.01, 16, per=8)},
    "warm-up": {"warmup_epochs": 1},
    "no bias decay": {"decay_biases_and_norms": False},
    "low precision": {"precision": "bf16"},
    "step decay": {"milestones": (1,)},
    "cosine": {"schedule": "cosine"},
    "label smoothing": {"smoothing": 0.1},
    "distillation": {"teacher": "given"},
    "initialisation": {"init": "paper"},
    "crop": augmented(area=(0.3, 1.0)),
    "flip": augmented(flip=0.5),
    "colour jitter": augmented(jitter=0.4),
    "PCA noise": augmented(pca=0.1),
    "trivial augment": augmented(trivial=True),
    "random erasing": augmented(erasing=0.5),
    "ema": {"ema": 0.9},
    "progressive size": {"start_size": 16},
}
NETWORKS = {"zero_gamma": "resnet18_d"}
"""Networks for the tricks that have no effect on the plain one."""
TRICKS |= {
    name: {name: mark.typical} | ({"model": NETWORKS[name]} if name in NETWORKS else {}) for name, mark in marked_fields(Recipe).items()
}


def train(recipe: Recipe, data: Resident, out: Path, **options: Any) -> trickzoo.backbone.Backbone:
    teacher = None
    if recipe.teacher is not None:
        torch.manual_seed(1)
        teacher = trickzoo.create("mobilenet_v1_025", num_classes=4).eval()
    model = prepare(recipe, 4, 0)
    precision = "no" if recipe.precision == "fp32" else recipe.precision
    AcceleratorState._reset_state()  # otherwise accelerate refuses another precision than that of an earlier training
    accelerator = Accelerator(cpu=True, mixed_precision=precision)
    training.train(recipe, model, data, None, out, accelerator=accelerator, teacher=teacher, **options)
    return model


@pytest.fixture(scope="session")
def few(resident: Resident) -> Resident:
    """Eight images of each class: four steps in an epoch."""
    chosen = np.concatenate([np.flatnonzero(resident.labels == label)[:8] for label in range(4)])
    return replace(resident, pixels=resident.pixels[chosen], sizes=resident.sizes[chosen], labels=resident.labels[chosen])


@pytest.fixture(scope="session")
def plain(few: Resident, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, torch.Tensor]]:
    """The weights of trainings without tricks, by model."""
    recipes = [PLAIN, PLAIN.but("test.plain.resnet", model="resnet18_d")]
    return {recipe.model: train(recipe, few, tmp_path_factory.mktemp("plain")).state_dict() for recipe in recipes}


@pytest.fixture(scope="session")
def exported() -> set[str]:
    """The forms of the networks that were exported. The export takes long, and depends on the form of a network only."""
    return set()


def form(model: trickzoo.backbone.Backbone) -> str:
    """All of a network but the values of its tensors: its operations, layers, hooks, and the shapes and types of its tensors."""
    tensors = [(key, tensor.shape, tensor.stride(), tensor.dtype) for key, tensor in model.state_dict().items()]
    hooks = [(name, part._forward_hooks, part._forward_pre_hooks) for name, part in model.named_modules()]
    return f"{torch.fx.symbolic_trace(model).graph} {model} {tensors} {hooks}"


@pytest.mark.parametrize("trick", TRICKS)
def test_it_trains_resumes_and_is_exported(
    trick: str,
    few: Resident,
    plain: dict[str, dict[str, torch.Tensor]],
    exported: set[str],
    tmp_path: Path,
) -> None:
    recipe = PLAIN.but(f"test.{trick}", **TRICKS[trick])
    model = train(recipe, few, tmp_path / "straight")
    assert not same(model.state_dict(), plain[recipe.model]), "the trick has no effect"
    step = 3 if recipe.batch_size == 8 else 1
    train(recipe, few, tmp_path / "stopped", save_every=step, stop_after=step)
    assert same(train(recipe, few, tmp_path / "stopped").state_dict(), model.state_dict())

    if form(model.eval()) in exported:
        return
    images = torch.rand(2, 3, 32, 32)
    expected = model(images).detach()
    program = torch.export.export(model, (images,))
    torch.testing.assert_close(program.module()(images), expected)
    check_onnx(program, images, expected, tmp_path / "model.onnx")
    exported.add(form(model))


def check_onnx(program: torch.export.ExportedProgram, images: torch.Tensor, expected: torch.Tensor, path: Path) -> None:
    """Convert an exported network to ONNX, and compare its logits."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings of dependencies of the exporter
        onnx = torch.onnx.export(program, verbose=False)
    onnx.save(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"zero_gamma": True}, NoEffect, "zero gamma has no effect: the model has no residual block"),
        ({"start_size": 32}, NoEffect, "progressive size has no effect: 32 pixels do not grow to 32"),
        ({"mixup": 0.2, "batch_size": 1, "size": 64}, NoEffect, "mixup has no effect: the batch has one image"),
        ({"cutmix": 1.0, "batch_size": 1, "size": 64}, NoEffect, "cutmix has no effect: the batch has one image"),
        ({"mixup": -1.0}, BadOption, "mixup must be 0 or more, not -1"),
        ({"smoothing": 1.5}, BadOption, "smoothing must be 0 or more and below 1, not 1.5"),
        ({"ema": 1.0}, BadOption, "ema must be 0 or more and below 1, not 1"),
        ({"milestones": (5,)}, NoEffect, "step decay has no effect: no milestone"),
        ({"pretrained": "default", "zero_gamma": True}, BadOption, "zero_gamma would undo the weights"),
    ],
    ids=str,
)
def test_a_trick_without_effect_is_refused(
    change: dict[str, Any],
    error: type[TrickzooError],
    message: str,
    resident: Resident,
    tmp_path: Path,
) -> None:
    with pytest.raises(error, match=message):
        train(PLAIN.but("test.nothing", **change), resident, tmp_path)
