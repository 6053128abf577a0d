"""The ladder of the paper (arXiv 1812.01187): each rung builds on an earlier one.

Most rungs change one setting. Mixup also trains for 200 epochs, and table 7 adds three refinements at once.

The figures are the paper's top-1 and top-5 accuracy in percent on the ImageNet-1k validation set (table 7: Places365). They are recalled
and not checked against its pages. Momentum and weight decay come from the released script, because the paper states neither.
"""

from __future__ import annotations

from trickzoo.recipes.recipe import Accuracy, Ladder, Recipe, Rung
from trickzoo.tricks.linear_scaling import scaled_lr

SOURCE = "Bag of Tricks, arXiv 1812.01187 (recalled)"
BATCH = 1024
LR = scaled_lr(0.1, BATCH)


def _heuristics(batch: int, figures: tuple[tuple[float, float], ...]) -> Ladder:
    """Return table 4: the heuristics of efficient training on ResNet-50, at one batch size."""
    name = f"paper.resnet50.bs{batch}"
    scaled = Recipe(f"{name}.linear_scaling", "resnet50", "imagenet1k", batch_size=batch, lr=scaled_lr(0.1, batch))
    warmed_up = scaled.but(f"{name}.warmup", warmup_epochs=5)
    zero_gamma = warmed_up.but(f"{name}.zero_gamma", zero_gamma=True)
    no_decay = zero_gamma.but(f"{name}.no_bias_decay", decay_biases_and_norms=False)
    fp16 = no_decay.but(f"{name}.fp16", precision="fp16")
    steps = (
        ("linear scaling", scaled),
        ("+ warm-up", warmed_up),
        ("+ zero gamma", zero_gamma),
        ("+ no bias decay", no_decay),
        ("+ fp16", fp16),
    )
    rungs = tuple(Rung(title, recipe, Accuracy(*figure)) for (title, recipe), figure in zip(steps, figures, strict=True))
    return Ladder(f"Table 4: heuristics on ResNet-50, batch {batch}", rungs, SOURCE)


TABLE_4_BS256 = _heuristics(256, ((75.87, 92.70), (76.03, 92.81), (76.19, 93.03), (76.16, 92.97), (76.15, 93.09)))
TABLE_4_BS1024 = _heuristics(1024, ((75.17, 92.54), (75.93, 92.84), (76.37, 92.96), (76.03, 92.86), (76.21, 92.97)))


def efficient(model: str, *, data: str = "imagenet1k", size: int = 224, zero_gamma: bool = True) -> Recipe:
    """Return the last recipe of table 4 for a network: batch 1024, warm-up, zero gamma (if `zero_gamma`), no bias decay, fp16."""
    return Recipe(
        f"paper.{model}.efficient",
        model,
        data,
        size=size,
        batch_size=BATCH,
        lr=LR,
        warmup_epochs=5,
        zero_gamma=zero_gamma,
        decay_biases_and_norms=False,
        precision="fp16",
    )


TABLE_5 = Ladder(
    "Table 5: model tweaks, efficient training",
    (
        Rung("ResNet-50", efficient("resnet50"), Accuracy(76.21, 92.97)),
        Rung("ResNet-50-B", efficient("resnet50_b"), Accuracy(76.66, 93.28)),
        Rung("ResNet-50-C", efficient("resnet50_c"), Accuracy(76.87, 93.48)),
        Rung("ResNet-50-D", efficient("resnet50_d"), Accuracy(77.16, 93.52)),
    ),
    SOURCE,
)

TEACHER = "resnet152_d.gluon_in1k"
"""The paper trains its own teacher, a ResNet-152-D, with cosine decay and label smoothing, and with mixup for the rung with mixup."""


def _refinements(first: Recipe, title: str, figures: tuple[tuple[float, float], ...]) -> Ladder:
    """Return table 6. After label smoothing the rows branch: distillation and mixup are alternatives, and the last row has both."""
    name = f"paper.{first.model}"
    cosine = first.but(f"{name}.cosine", schedule="cosine")
    smooth = cosine.but(f"{name}.label_smoothing", smoothing=0.1)
    distill = smooth.but(f"{name}.distill", teacher=TEACHER)
    mixup = smooth.but(f"{name}.mixup", mixup=0.2, epochs=200)
    both = mixup.but(f"{name}.distill_mixup", teacher=TEACHER)
    steps = (
        ("efficient", first, None),
        ("+ cosine decay", cosine, None),
        ("+ label smoothing", smooth, None),
        ("+ distill w/o mixup", distill, None),
        ("+ mixup w/o distill", mixup, smooth.name),
        ("+ distill with mixup", both, None),
    )
    rungs = tuple(Rung(step, recipe, Accuracy(*figure), after) for (step, recipe, after), figure in zip(steps, figures, strict=True))
    return Ladder(f"Table 6: refinements, {title}", rungs, SOURCE)


TABLE_6_RESNET50_D = _refinements(
    efficient("resnet50_d"),
    "ResNet-50-D",
    ((77.16, 93.52), (77.91, 93.81), (78.31, 94.09), (78.67, 94.36), (79.15, 94.58), (79.29, 94.63)),
)
TABLE_6_INCEPTION_V3 = _refinements(
    efficient("inception_v3", size=299, zero_gamma=False),
    "Inception V3",
    ((77.50, 93.60), (78.19, 94.06), (78.40, 94.13), (78.26, 94.01), (78.77, 94.39), (78.34, 94.16)),
)
TABLE_6_MOBILENET = _refinements(
    efficient("mobilenet_v1_100", zero_gamma=False),
    "MobileNet",
    ((71.90, 90.53), (72.83, 91.00), (72.93, 91.14), (71.97, 90.89), (73.28, 91.30), (72.51, 91.02)),
)

_PLACES = efficient("resnet50_d", data="places365").but("paper.places365.resnet50_d.efficient")
TABLE_7 = Ladder(
    "Table 7: Places365, ResNet-50-D",
    (
        Rung("efficient", _PLACES, Accuracy(56.34, 86.87)),
        Rung(
            "best: + cosine decay, label smoothing, mixup",
            _PLACES.but("paper.places365.resnet50_d.best", schedule="cosine", smoothing=0.1, mixup=0.2, epochs=200),
            Accuracy(56.70, 87.33),
        ),
    ),
    SOURCE,
)

LADDERS = (TABLE_4_BS256, TABLE_4_BS1024, TABLE_5, TABLE_6_RESNET50_D, TABLE_6_INCEPTION_V3, TABLE_6_MOBILENET, TABLE_7)
