"""The recipes of the weights that the zoo trained itself, one for Imagenette-128 in little time, and one for a user's own images."""

from __future__ import annotations

from trickzoo.recipes.recipe import Augmentation, Recipe

RESNET18_D = Recipe(
    "zoo.resnet18_d.tz_imagenette128",
    "resnet18_d",
    "imagenette128",
    size=128,
    start_size=48,
    growth=0.9,
    epochs=50,
    batch_size=64,
    lr=0.1,
    weight_decay=5e-4,
    init="he",
    augmentation=Augmentation(area=(0.35, 1.0), jitter=0.0, pca=0.0),
    warmup_epochs=1,
    schedule="cosine",
    zero_gamma=True,
    decay_biases_and_norms=False,
    precision="bf16",
    smoothing=0.1,
    mixup=0.2,
)

MOBILENET_025 = RESNET18_D.but(
    "zoo.mobilenet_v1_025.tz_imagenette128",
    model="mobilenet_v1_025",
    epochs=140,
    lr=0.4,
    warmup_epochs=2,
    zero_gamma=False,
    precision="fp32",
    mixup=0.0,
)
"""Depthwise convolutions are faster in fp32 on a CPU. A small network needs a higher learning rate and more epochs; it does not overfit, so
mixup is left out."""

MOBILENET_100 = MOBILENET_025.but("zoo.mobilenet_v1_100.tz_imagenette128", model="mobilenet_v1_100", epochs=60)
"""An epoch takes three times as long as one of MobileNet 0.25, so there are fewer. Of learning rates 0.1, 0.2 and 0.4, the last reached
the highest accuracy on images held out from the training images (`benchmarks/results/weights/settings_mobilenet_v1_100.json`)."""

RECORD = RESNET18_D.but(
    "record.resnet18_d",
    epochs=30,
    size=96,
    eval_size=128,
    zero_gamma=False,
    mixup=0.0,
)
"""A short training run on Imagenette-128. Zero γ and mixup are left out: in the ladder of ResNet-18-D over 30 epochs, both lower the
accuracy."""

FINE_TUNE = Recipe(
    "own.finetune",
    "resnet50_d",
    "own",
    pretrained="default",
    epochs=20,
    batch_size=64,
    lr=0.01,
    augmentation=Augmentation(area=(0.25, 1.0), jitter=0.2, jitter_third="contrast", pca=0.0),
    warmup_epochs=1,
    schedule="cosine",
    decay_biases_and_norms=False,
    smoothing=0.1,
    smoothing_form="uniform",
)
"""Fine-tuning on your own images. Pretrained weights need only a tenth of the learning rate, and crops that keep most of the object."""

RECIPES = (RESNET18_D, MOBILENET_025, MOBILENET_100, RECORD, FINE_TUNE)
