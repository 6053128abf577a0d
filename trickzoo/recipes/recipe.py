"""The schema of a recipe: everything that decides what a training gives, and nothing of the machine it runs on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

from trickzoo.recipes.acting import ActsOn
from trickzoo.recipes.ranges import BelowOne, Checked, Count, LowToHigh, NotNegative, Part, Positive, Probability


@dataclass(frozen=True)
class Augmentation(Checked):
    """Training augmentation (section 2.1); the defaults are the paper's.

    Attributes:
        area, aspect: random resized crop: range of the crop's part of the image's area, and of its aspect ratio.
        flip: probability of a horizontal flip.
        jitter: brightness, saturation and `jitter_third` are each scaled by U[1 - jitter, 1 + jitter].
        jitter_third: "hue" as the paper says, "contrast" as the released script does.
        pca: deviation of the PCA noise's coefficients.
        trivial: whether each image goes through one operation of TrivialAugment. Not in the paper.
        erasing: probability that a rectangle of an image is erased. Not in the paper.
    """

    area: Annotated[tuple[Part, Part], LowToHigh] = (0.08, 1.0)
    aspect: Annotated[tuple[Positive, Positive], LowToHigh] = (3 / 4, 4 / 3)
    flip: Probability = 0.5
    jitter: Probability = 0.4
    jitter_third: Literal["hue", "contrast"] = "hue"
    pca: NotNegative = 0.1
    trivial: bool = False
    erasing: Probability = 0.0


@dataclass(frozen=True)
class Recipe(Checked):
    """One training.

    Attributes:
        name: "<collection>.<model>.<rung>".
        model: the zoo's name of the network.
        data: what it is for: "imagenet1k", "places365", …; the command line names where it lies.
        size: side of the training and evaluation images in pixels; `crop` and `interpolation` of the evaluation.
        eval_size: side of the evaluation images where it is not `size`.
        start_size: side of the training images at first; it grows to `size` over the first `growth` of the epochs. None: `size` throughout.
        pretrained: weight, tag, model or file to start from, "default" for the model's default weight; the head is drawn anew if the
            classes differ. None: from scratch.
        batch_size: total over processes and accumulated micro-batches. `lr` is for this batch; see `tricks.linear_scaling`.
        warmup_epochs: part of `epochs`.
        schedule: "step" divides by 10 at `milestones`; "cosine" falls to 0.
        decay_biases_and_norms: whether weight decay acts on biases and normalisation too.
        smoothing: ε; 0 is none. mixup, cutmix: α; 0 is none. With several of them, each micro-batch takes one, evenly.
        teacher: weight, model or checkpoint to distil from.
        ema: decay of the averaged weights, which are then the ones evaluated and exported; 0 is none.
        *_form: where the paper and its released script differ, which of the two.
    """

    task: ClassVar[str] = "classification"

    name: str
    model: str
    data: str
    size: Count = 224
    eval_size: Count | None = None
    start_size: Count | None = None
    growth: Part = 0.8
    crop: Part = 0.875
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    epochs: Count = 120
    batch_size: Count = 256
    lr: Positive = 0.1
    momentum: BelowOne = 0.9
    weight_decay: NotNegative = 1e-4
    pretrained: str | None = None
    init: Literal["paper", "official", "he"] = "paper"
    augmentation: Augmentation = Augmentation()
    warmup_epochs: NotNegative = 0
    schedule: Literal["step", "cosine"] = "step"
    milestones: tuple[Positive, ...] = (30, 60, 90)
    cosine_form: Literal["paper", "official"] = "paper"
    zero_gamma: Annotated[bool, ActsOn("network", "trickzoo.tricks.zero_gamma:zero_last_gammas")] = False
    decay_biases_and_norms: bool = True
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    smoothing: BelowOne = 0.0
    smoothing_form: Literal["paper", "uniform"] = "paper"
    mixup: Annotated[NotNegative, ActsOn("batch", "trickzoo.tricks.mixup:mixup", 0.2)] = 0.0
    mixup_form: Literal["paper", "official"] = "paper"
    cutmix: Annotated[NotNegative, ActsOn("batch", "trickzoo.tricks.cutmix:cutmix", 1.0)] = 0.0
    teacher: str | None = None
    temperature: Positive = 20.0
    distillation_form: Literal["paper", "official"] = "paper"
    ema: BelowOne = 0.0

    def but(self, name: str, **changes: Any) -> Recipe:
        """A recipe like this one but for its name and some fields."""
        return replace(self, name=name, **changes)


@dataclass(frozen=True)
class Accuracy:
    """Top-1 and top-5 in percent."""

    top1: float
    top5: float | None = None


@dataclass(frozen=True)
class Rung:
    """A step of a ladder: what it adds, its recipe, the paper's figure for it, and the recipe that it adds to, where the ladder branches.

    `after` is the name of that recipe; None is the rung before.
    """

    title: str
    recipe: Recipe
    paper: Accuracy | None = None
    after: str | None = None


@dataclass(frozen=True)
class Ladder:
    """Recipes that differ from the one before in one thing, or from the one that `Rung.after` names."""

    title: str
    rungs: tuple[Rung, ...]
    source: str = ""
