"""The schema of a recipe: every setting that determines the result of a training run, and none that depends on the machine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from trickzoo.recipes.ranges import BelowOne, Checked, Count, Fraction, LowToHigh, NotNegative, Pattern, Positive, Probability
from trickzoo.recipes.trick_fields import ActsOn

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class Augmentation(Checked):
    """Training augmentation (section 2.1); the defaults are the paper's.

    Attributes:
        area: lowest and highest fraction of the image's area that the random crop covers.
        aspect: lowest and highest aspect ratio of the random crop, as width / height.
        flip: probability of a horizontal flip.
        jitter: brightness, saturation and `jitter_third` are each scaled by U[1 - jitter, 1 + jitter].
        jitter_third: "hue" as the paper says, "contrast" as the released script does.
        pca: standard deviation of the coefficients of the PCA noise.
        trivial: whether each image goes through one operation of TrivialAugment. Not in the paper.
        erasing: probability that a rectangle of an image is erased. Not in the paper.
    """

    area: Annotated[tuple[Fraction, Fraction], LowToHigh] = (0.08, 1.0)
    aspect: Annotated[tuple[Positive, Positive], LowToHigh] = (3 / 4, 4 / 3)
    flip: Probability = 0.5
    jitter: Probability = 0.4
    jitter_third: Literal["hue", "contrast"] = "hue"
    pca: NotNegative = 0.1
    trivial: bool = False
    erasing: Probability = 0.0


@dataclass(frozen=True)
class BaseRecipe(Checked):
    """Base of the recipes of all tasks, which have a name. The field `starts_from` names the weights that the training starts from."""

    starts_from: ClassVar[str] = "weights"

    name: str

    def but(self, name: str, **changes: Any) -> Self:
        """Return a copy of this recipe with another name and some fields changed."""
        return replace(self, name=name, **changes)


@dataclass(frozen=True)
class Recipe(BaseRecipe):
    """The recipe of a classifier's training.

    Attributes:
        name: name of the recipe, such as "paper.resnet50_d.mixup".
        model: the zoo's name of the network.
        data: name of the data set, such as "imagenet1k" or "places365"; the command line gives its location.
        size: side of the training and evaluation images in pixels.
        crop: fraction of the image that the centre crop of the evaluation keeps.
        interpolation: filter of the resizing in the evaluation.
        eval_size: side of the evaluation images in pixels, if it is not `size`.
        start_size: side of the first training images in pixels, which grows to `size` over the fraction `growth` of the epochs. None:
            `size` throughout.
        growth: fraction of the epochs over which the images grow from `start_size` to `size`.
        epochs: number of passes over the training images.
        pretrained: weights to start from: tag, model, file or hub reference; "default" is the model's default weight, or its only
            one. The head is initialised anew if the classes differ. None: from scratch.
        batch_size: images in a step, over all processes and micro-batches. `lr` is for this batch; see `tricks.linear_scaling`.
        lr: highest learning rate, for a batch of `batch_size` images.
        momentum: Nesterov momentum of SGD (0 for none), or β1 of AdamW.
        optimizer: "sgd", or "adamw", which needs about a hundredth of the learning rate.
        freeze: parts of a pretrained network that are not trained: "backbone" is all but the classifier, "stages:2" the stem and the
            first two stages.
        weight_decay: factor of the L2 penalty on the weights.
        init: initialisation of a network without pretrained weights; see `tricks.initialisation`.
        warmup_epochs: number of warm-up epochs, which are part of `epochs`. The warm-up takes at most half of the training.
        schedule: "step" divides the learning rate by 10 at the epochs in `milestones`; "cosine" lets it fall to 0.
        milestones: epochs at which a step schedule divides the learning rate by 10.
        zero_gamma: whether the last BatchNorm of each residual block starts with a γ of 0.
        decay_biases_and_norms: whether weight decay acts on biases and normalisation too.
        precision: precision of the network's arithmetic; fp16 needs an accelerator.
        balance: how classes of different sizes get the same weight: "sampler" takes equally many images of each class in an epoch, "loss"
            weighs the loss of each image by the inverse of the size of its class.
        smoothing: strength ε of label smoothing; 0 switches it off.
        mixup: parameter α of mixup; 0 switches it off. With CutMix too, each micro-batch uses one of the two with equal probability.
        cutmix: parameter α of CutMix; 0 switches it off.
        teacher: weight, model or checkpoint to distil from.
        temperature: temperature of the distillation.
        ema: decay of the averaged weights, which are then evaluated and exported; 0 switches averaging off.
        cosine_form: form of the cosine decay: "paper" ends just above 0, "official" (the released script) at 0.
        smoothing_form: form of label smoothing: "paper" divides ε among the other classes, "uniform" (the released script) among all.
        mixup_form: form of mixup: "paper" draws λ for each image, "official" (the released script) one λ for the batch.
        distillation_form: form of the loss of distillation: "paper" adds the two losses, "official" (the released script) takes their mean.
    """

    task: ClassVar[str] = "classification"
    starts_from: ClassVar[str] = "pretrained"

    model: str
    data: str
    size: Count = 224
    eval_size: Count | None = None
    start_size: Count | None = None
    growth: Fraction = 0.8
    crop: Fraction = 0.875
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    epochs: Count = 120
    batch_size: Count = 256
    lr: Positive = 0.1
    momentum: BelowOne = 0.9
    weight_decay: NotNegative = 1e-4
    optimizer: Literal["sgd", "adamw"] = "sgd"
    pretrained: str | None = None
    freeze: Annotated[str, Pattern(r"backbone|stages:[1-9]\d?", "backbone, or stages:N with a number from 1")] | None = None
    init: Literal["paper", "official", "he"] = "paper"
    augmentation: Augmentation = Augmentation()
    warmup_epochs: NotNegative = 0
    schedule: Literal["step", "cosine"] = "step"
    milestones: tuple[Positive, ...] = (30, 60, 90)
    cosine_form: Literal["paper", "official"] = "paper"
    zero_gamma: Annotated[bool, ActsOn("network", "trickzoo.tricks.zero_gamma:zero_last_gammas")] = False
    decay_biases_and_norms: bool = True
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    balance: Literal["sampler", "loss"] | None = None
    smoothing: BelowOne = 0.0
    smoothing_form: Literal["paper", "uniform"] = "paper"
    mixup: Annotated[NotNegative, ActsOn("batch", "trickzoo.tricks.mixup:mixup", 0.2)] = 0.0
    mixup_form: Literal["paper", "official"] = "paper"
    cutmix: Annotated[NotNegative, ActsOn("batch", "trickzoo.tricks.cutmix:cutmix", 1.0)] = 0.0
    teacher: str | None = None
    temperature: Positive = 20.0
    distillation_form: Literal["paper", "official"] = "paper"
    ema: BelowOne = 0.0


@dataclass(frozen=True)
class Accuracy:
    """Top-1 and top-5 in percent."""

    top1: float
    top5: float | None = None


@dataclass(frozen=True)
class Rung:
    """A step of a ladder, with the title of its change, its recipe and the paper's figure.

    `after` is the name of the recipe that the step builds on, if the ladder branches; None means the rung before it.
    """

    title: str
    recipe: Recipe
    paper: Accuracy | None = None
    after: str | None = None


@dataclass(frozen=True)
class Ladder:
    """A series of recipes. Each builds on the one before it, or on the one that `Rung.after` names. Most change one setting."""

    title: str
    rungs: tuple[Rung, ...]
    source: str = ""
