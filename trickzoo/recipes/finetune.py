"""Recipes that fine-tune a backbone as a detector or a segmenter: the released ones of the paper's authors, and small ones.

The released scripts are GluonCV's train_faster_rcnn.py and segmentation/train.py; the paper itself gives neither rate nor epochs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from trickzoo.recipes.ranges import BelowOne, Count, CountOrZero, LowToHigh, NotNegative, Positive, Probability
from trickzoo.recipes.recipe import BaseRecipe


@dataclass(frozen=True)
class FineTuningRecipe(BaseRecipe):
    """The fields of the recipes of both tasks.

    Attributes:
        name: name of the recipe, such as "small.detection" or "small.segmentation".
        model: the zoo's name of the backbone.
        data: layout of the data set; the command line gives its location.
        weights: weights of the backbone: tag, model, file or hub reference; "default" is the model's default weight, or its only
            one. The file or folder of a training run of the same task gives the whole network. None: a random backbone.
        epochs: number of passes over the training images.
        batch_size: images in a step, over all processes and micro-batches. `lr` is for this batch; see `tricks.linear_scaling`.
        lr: highest learning rate, for a batch of `batch_size` images.
        momentum: momentum of SGD (0 for none), or β1 of AdamW.
        optimizer: "sgd", or "adamw", which needs about a hundredth of the learning rate.
        weight_decay: factor of the L2 penalty on the weights.
        warmup_steps: number of steps over which the learning rate rises linearly from `warmup_start` × `lr` to `lr`, at most
            half of the training.
        warmup_start: fraction of `lr` at which the warm-up starts.
        schedule: "step" divides the learning rate by 10 at the epochs in `milestones`; "poly" multiplies it by
            (1 - step / steps) ** `power`.
        milestones: epochs at which a step schedule divides the learning rate by 10.
        power: exponent of the schedule "poly".
        trainable_stages: how many of the last stages are trained; "all" includes the stem. None: the default of the network.
        norms: whether the backbone's BatchNorms are "frozen" or "live". None: the default of the network.
        precision: precision of the network's arithmetic; fp16 needs an accelerator.
    """

    model: str
    data: str
    weights: str | None = "default"
    epochs: Count = 20
    batch_size: Count = 16
    lr: Positive = 0.01
    momentum: BelowOne = 0.9
    weight_decay: NotNegative = 1e-4
    optimizer: Literal["sgd", "adamw"] = "sgd"
    warmup_steps: CountOrZero = 0
    warmup_start: Probability = 1 / 3
    schedule: Literal["step", "poly"] = "poly"
    milestones: tuple[Positive, ...] = ()
    power: NotNegative = 0.9
    trainable_stages: int | Literal["all"] | None = None
    norms: Literal["frozen", "live"] | None = None
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"


@dataclass(frozen=True)
class DetectionRecipe(FineTuningRecipe):
    """The recipe of a Faster R-CNN.

    Attributes:
        short: short side of the images in pixels; it is less where the long side would exceed `long`.
        long: largest long side of the images in pixels.
        flip: probability of a horizontal flip.
        neck: "fpn" or "c4", as for `detection.faster_rcnn`.
        fpn_channels: channels of the feature pyramid.
        representation_size: width of the layers in the head of the feature pyramid.
        anchors: sides of the square anchors in pixels. None: the default of the network.
        proposals: number of boxes in each image that the RPN passes on in training, after non-maximum suppression. The number of boxes
            before the suppression changes in proportion.
        rois: proposals of each image that the head is trained on.
        settings: the released recipe, "voc" or "coco", that gives all other settings of the RPN and of non-maximum suppression.
    """

    task: ClassVar[str] = "detection"

    short: Count = 600
    long: Count = 1000
    flip: Probability = 0.5
    neck: Literal["fpn", "c4"] = "fpn"
    fpn_channels: Count = 256
    representation_size: Count = 1024
    anchors: tuple[Count, ...] | None = None
    proposals: Count = 2000
    rois: Count = 512
    settings: Literal["voc", "coco"] = "voc"

    @property
    def sides(self) -> dict[str, int | None]:
        """The sides in pixels of the images that are evaluated."""
        return {"short": self.short, "long": self.long}

    @property
    def sides_in_words(self) -> str:
        """The sides of the images that are evaluated, in words."""
        return f"short side {self.short}, long side at most {self.long}"


@dataclass(frozen=True)
class SegmentationRecipe(FineTuningRecipe):
    """The recipe of a segmenter.

    Attributes:
        head: name of the head, as for `segmentation.segmenter`.
        base: the long side of a training image is drawn from `base` × `scale`, in pixels.
        scale: lowest and highest factor of `base`.
        crop: side in pixels of the square that is cut out of a training image.
        flip: probability of a horizontal flip.
        blur: probability that a training image is blurred.
        short: short side of an evaluation image in pixels; None keeps that of the file.
        output_stride: output stride of the backbone. Inception V3 always has 32.
        aux: weight of the loss of the auxiliary head; 0 leaves the head out.
        align_corners: whether logits are enlarged with the centres of the corner cells on the corner pixels, as in GluonCV.
        head_lr: factor of the learning rate for both heads.
    """

    task: ClassVar[str] = "segmentation"

    head: str = "fcn"
    base: Count = 520
    scale: Annotated[tuple[Positive, Positive], LowToHigh] = (0.5, 2.0)
    crop: Count = 480
    flip: Probability = 0.5
    blur: Probability = 0.5
    short: Count | None = 480
    output_stride: int = 8
    aux: NotNegative = 0.5
    align_corners: bool = False
    head_lr: Positive = 10.0

    @property
    def sides(self) -> dict[str, int | None]:
        """The sides in pixels of the images that are evaluated."""
        return {"short": self.short}

    @property
    def sides_in_words(self) -> str:
        """The sides of the images that are evaluated, in words."""
        return f"short side {self.short}" if self.short else "images in the files' sizes"


VOC_BOXES = DetectionRecipe(
    "paper.detection.voc",
    "resnet50_d",
    "voc",
    epochs=20,
    batch_size=4,
    lr=0.001,
    weight_decay=5e-4,
    schedule="step",
    milestones=(14, 20),
    neck="c4",
    rois=128,
)
COCO_BOXES = VOC_BOXES.but(
    "paper.detection.coco",
    data="coco",
    epochs=26,
    batch_size=8,
    lr=0.01,
    weight_decay=1e-4,
    warmup_steps=1000,
    milestones=(17, 23),
    short=800,
    long=1333,
    settings="coco",
)
COCO_PYRAMID = COCO_BOXES.but("paper.detection.coco_fpn", neck="fpn", rois=512)
VOC_MASKS = SegmentationRecipe("paper.segmentation.voc", "resnet50_d", "voc", epochs=50)
ADE20K_MASKS = VOC_MASKS.but("paper.segmentation.ade20k", data="ade20k", epochs=120)

SMALL_BOXES = DetectionRecipe(
    "small.detection",
    "mobilenet_v1_025",
    "own",
    epochs=20,
    batch_size=8,
    lr=0.02,
    warmup_steps=50,
    short=192,
    long=320,
    fpn_channels=64,
    representation_size=256,
    anchors=(16, 32, 64, 128, 256),
    proposals=300,
    rois=64,
    trainable_stages="all",
    norms="live",
)
SMALL_MASKS = SegmentationRecipe(
    "small.segmentation",
    "mobilenet_v1_025",
    "own",
    epochs=30,
    batch_size=8,
    lr=0.02,
    base=192,
    scale=(0.75, 2.0),
    crop=160,
    blur=0.0,
    short=160,
    output_stride=16,
)
"""For images and machines that are small: minutes on two CPU cores."""

SHAPES_BOXES = SMALL_BOXES.but(
    "shapes.detection", data="shapes", epochs=8, warmup_steps=20, short=96, long=96, anchors=(8, 16, 32, 64, 96), proposals=100, rois=32
)
SHAPES_MASKS = SMALL_MASKS.but(
    "shapes.segmentation", data="shapes", epochs=8, base=96, scale=(1.0, 1.5), crop=96, short=96, output_stride=8
)
"""For the generated shapes, which are 96 pixels wide."""

EASY_SHAPES_BOXES = SHAPES_BOXES.but("easy_shapes.detection", data="easy_shapes", epochs=5, lr=0.05)
EASY_SHAPES_MASKS = SHAPES_MASKS.but("easy_shapes.segmentation", data="easy_shapes", epochs=12, lr=0.1, head_lr=2.0, scale=(1.0, 1.2))
"""For the generated shapes that are easy: trainings of a minute or less that end with a useful network."""

RECIPES: dict[str, DetectionRecipe | SegmentationRecipe] = {
    recipe.name: recipe
    for recipe in (
        *(VOC_BOXES, COCO_BOXES, COCO_PYRAMID, VOC_MASKS, ADE20K_MASKS, SMALL_BOXES, SMALL_MASKS),
        *(SHAPES_BOXES, SHAPES_MASKS, EASY_SHAPES_BOXES, EASY_SHAPES_MASKS),
    )
}

RECIPE_CLASSES: dict[str, type[DetectionRecipe] | type[SegmentationRecipe]] = {
    "detection": DetectionRecipe,
    "segmentation": SegmentationRecipe,
}
"""The class of the recipes of each task."""
