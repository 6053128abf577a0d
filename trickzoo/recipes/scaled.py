"""The paper's ladder for small data sets and small machines: the same steps in the same order, on any images, for any model.

Differences from the paper: fewer epochs, small images, crops of at least a quarter of the image (8 % of a 64-pixel image show little), a
large batch of twice the first one, and as many epochs with mixup as without, so that all rungs cost the same.
"""

from __future__ import annotations

from typing import Any

from trickzoo import registry
from trickzoo.recipes.recipe import Augmentation, Ladder, Recipe, Rung
from trickzoo.tricks.linear_scaling import scaled_lr

BATCH = 64
"""Batch size of the baseline. The large batch is twice as large."""
RATES = {"mobilenet_v1": 0.2}
"""Learning rates of the baseline by family, if they differ from the paper's. They were chosen on a part of Imagenette's training split."""

EXAMPLES = ("resnet18_d", "resnet50_d", "mobilenet_v1_025", "mobilenet_v1_100", "inception_v3")
SIZES = {"imagenette128": 64, "cifar10": 32, "shapes": 64, "easy_shapes": 64}
WHOLE = ("cifar10", "shapes", "easy_shapes")
"""Sets that are evaluated without a centre crop, because their images are small and their objects reach to the edge."""
AUGMENTATION = dict.fromkeys(("shapes", "easy_shapes"), Augmentation(area=(0.9, 1.0), aspect=(1.0, 1.0), jitter=0.0, pca=0.0))
"""Shapes already have random sizes, positions, aspect ratios and colours, and are small: a crop of a quarter would often miss them."""
EPOCHS = {"imagenette128": 12, "cifar10": 12, "shapes": 6, "easy_shapes": 8}


def baseline(name: str, data: str, model: str, **changes: Any) -> Recipe:
    """Return the first recipe of the ladder: the paper's baseline, with its three milestones at the same fractions of the training."""
    epochs = changes.pop("epochs", EPOCHS.get(data, 12))
    first = Recipe(
        name,
        model,
        data,
        size=128 if model == "inception_v3" else SIZES.get(data, 64),  # Inception's unpadded grids need 75 pixels
        epochs=epochs,
        crop=1.0 if data in WHOLE else 0.875,
        milestones=(epochs / 4, epochs / 2, 3 * epochs / 4),
        batch_size=BATCH,
        lr=RATES.get(registry.find(model).family, scaled_lr(0.1, BATCH)),
        augmentation=AUGMENTATION.get(data, Augmentation(area=(0.25, 1.0))),
    )
    return first.but(name, **changes)


def ladder(data: str, model: str, *, teacher: str | None = None, low_precision: str | None = None, **changes: Any) -> Ladder:
    """Return the ladder of a model on a data set: heuristics (table 4), tweaks (table 5) and refinements (table 6).

    A rung that does not exist for the model is left out: zero γ without residual blocks, the tweaks where the model has no letter,
    low precision unless `low_precision` names "fp16" or "bf16", distillation without a teacher. A model with a letter climbs from the
    network without it. `changes` are fields of the baseline, such as `epochs=30`.
    """
    architecture = registry.find(model)
    model, (plain, *tweaked) = architecture.name, architecture.tweaked or (architecture.name,)
    first = baseline(f"{data}.{model}.baseline", data, plain, **changes)
    rungs = [Rung("baseline", first)]

    def step(title: str, rung: str, after: Rung | None = None, **replaced: Any) -> Rung:
        recipe = (after or rungs[-1]).recipe
        named = f"{data}.{model}.{rung}"
        rungs.append(Rung(title, recipe.but(named, **replaced), after=after.recipe.name if after else None))
        return rungs[-1]

    batch = 2 * first.batch_size
    step("+ large batch, linear scaling", "linear_scaling", batch_size=batch, lr=scaled_lr(first.lr, batch, per=first.batch_size))
    step("+ warm-up", "warmup", warmup_epochs=max(1, first.epochs / 24))
    if architecture.residual:
        step("+ zero gamma", "zero_gamma", zero_gamma=True)
    step("+ no bias decay", "no_bias_decay", decay_biases_and_norms=False)
    if low_precision is not None:
        step(f"+ {low_precision}", "low_precision", precision=low_precision)
    for name in tweaked:
        letter = name.rpartition("_")[2]
        step(f"+ ResNet-{letter.upper()}", letter, model=name)
    step("+ cosine decay", "cosine", schedule="cosine")
    smooth = step("+ label smoothing", "label_smoothing", smoothing=0.1)
    if teacher is not None:
        step("+ distillation", "distillation", teacher=teacher)
    mixed = step("+ mixup", "mixup", after=smooth, mixup=0.2)
    if teacher is not None:
        step("+ mixup and distillation", "mixup_distillation", after=mixed, teacher=teacher)
    return Ladder(f"{model} on {data}", tuple(rungs), "scaled")
