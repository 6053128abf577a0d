"""Recipes of torchvision and timm as published, built from the public classes of both libraries, and the loop that trains by them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from timm.data import Mixup, create_transform
from timm.data.distributed_sampler import RepeatAugSampler
from timm.loss import BinaryCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset, RandomSampler
from torchvision.transforms import InterpolationMode, v2

from trickzoo.data.images import decode
from trickzoo.data.imageset import ImageSet
from trickzoo.weights.record import IMAGENET_MEAN, IMAGENET_STD

SIZE, BATCH = 64, 64
AREA = (0.25, 1.0)
"""Lowest and highest fraction of an image that a crop covers. Both recipes were published with at least 8 %, of larger images."""


@dataclass(frozen=True)
class Published:
    """The values of a published recipe that depend on the batch and the length of the training, and its weight decay."""

    batch: int
    lr: float
    epochs: int
    warmup_epochs: int
    weight_decay: float


@dataclass(frozen=True)
class Parts:
    """What a published recipe consists of, for a training of a certain length.

    Attributes:
        transform: PIL image → (3, size, size) normalised float.
        mix: (n, 3, H, W) images and (n,) labels → mixed images and (n, K) targets.
        loss: logits and targets → loss.
        schedule: called with the number of steps taken, sets the learning rate of the next.
        average: the averaged weights that are evaluated in place of the last, and how many steps they are only copied for.
    """

    transform: Callable[[Image.Image], Tensor]
    mix: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    loss: Callable[[Tensor, Tensor], Tensor]
    optimiser: torch.optim.Optimizer
    schedule: Callable[[int], None]
    average: tuple[AveragedModel, int] | None = None


def torchvision_v2(net: nn.Module, classes: int, per_epoch: int, epochs: int, lr: float, size: int = SIZE) -> Parts:
    """Return torchvision's V2 recipe of ResNet-50 (references/classification, `ResNet50_Weights.IMAGENET1K_V2`).

    The published average is updated every 32 steps with a decay that its script derives from batch and epochs. Here it is updated at each
    step, and its horizon is the same fraction of the training: with so few images, 32 steps are a large part of an epoch.
    """
    of, steps = V2.published, per_epoch * epochs
    norms = {id(p) for module in net.modules() if isinstance(module, nn.BatchNorm2d) for p in module.parameters()}
    groups = [
        {"params": [p for p in net.parameters() if id(p) not in norms], "weight_decay": of.weight_decay},
        {"params": [p for p in net.parameters() if id(p) in norms], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.SGD(groups, lr=lr, momentum=0.9)
    warm = max(1, round(steps * of.warmup_epochs / of.epochs))
    schedule = SequentialLR(optimiser, [LinearLR(optimiser, 0.01, total_iters=warm), CosineAnnealingLR(optimiser, steps - warm)], [warm])
    published_steps = of.epochs * math.ceil(1_281_167 / of.batch)
    horizon = steps * of.epochs / (2e-5 * of.batch) / published_steps  # 2e-5: one minus its --model-ema-decay
    return Parts(
        v2.Compose(
            [
                v2.RandomResizedCrop(size, scale=AREA, interpolation=InterpolationMode.BILINEAR, antialias=True),
                v2.RandomHorizontalFlip(),
                v2.TrivialAugmentWide(interpolation=InterpolationMode.BILINEAR),
                v2.PILToTensor(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(IMAGENET_MEAN, IMAGENET_STD),
                v2.RandomErasing(0.1),
            ]
        ),
        v2.RandomChoice([v2.MixUp(alpha=0.2, num_classes=classes), v2.CutMix(alpha=1.0, num_classes=classes)]),
        nn.CrossEntropyLoss(label_smoothing=0.1),
        optimiser,
        lambda _: schedule.step(),
        (AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(1 - 1 / max(horizon, 1)), use_buffers=True), warm),
    )


def timm_a3(net: nn.Module, classes: int, per_epoch: int, epochs: int, lr: float, size: int = SIZE) -> Parts:
    """Return the recipe A3 of "ResNet strikes back" (arXiv 2110.00476, table 2), with the interpolation and limits of timm's script."""
    of = A3.published
    optimiser = create_optimizer_v2(net, "lamb", lr=lr, weight_decay=of.weight_decay)
    schedule, _ = create_scheduler_v2(
        optimiser,
        "cosine",
        num_epochs=epochs,
        warmup_epochs=epochs * of.warmup_epochs / of.epochs,  # type: ignore[arg-type] # a fraction will do, as steps are counted
        warmup_lr=lr / 80,  # 1e-4 of 8e-3
        min_lr=lr / 8000,
        step_on_epochs=False,
        updates_per_epoch=per_epoch,
    )
    return Parts(
        create_transform(size, is_training=True, scale=AREA, auto_augment="rand-m6-mstd0.5-inc1", interpolation="random"),
        Mixup(mixup_alpha=0.1, cutmix_alpha=1.0, label_smoothing=0.0, num_classes=classes),
        BinaryCrossEntropy(smoothing=0.0, target_threshold=0.2),
        optimiser,
        schedule.step_update,
    )


@dataclass(frozen=True)
class Peer:
    """A recipe of another library.

    Attributes:
        published: the values as published.
        parts: returns the parts of a training of a certain length.
        factors: the learning rates that are tried, as multiples of the published rate after scaling.
        repeats: how often an image occurs in a row, each time with another augmentation.
    """

    published: Published
    parts: Callable[..., Parts]
    factors: tuple[float, ...]
    repeats: int = 1

    def rate(self, factor: float = 1, batch: int = BATCH) -> float:
        """Return the published learning rate, scaled linearly to a batch, times a factor."""
        return factor * self.published.lr * batch / self.published.batch


V2 = Peer(Published(batch=1024, lr=0.5, epochs=600, warmup_epochs=5, weight_decay=2e-5), torchvision_v2, (1 / 4, 1, 4), repeats=4)
A3 = Peer(Published(batch=2048, lr=8e-3, epochs=100, warmup_epochs=5, weight_decay=0.02), timm_a3, (1, 4, 16, 64))
PEERS = {"torchvision_v2": V2, "timm_a3": A3}


class Decoded(Dataset[tuple[Tensor, int]]):
    """Decoded images in memory, which a recipe transforms anew in each epoch."""

    def __init__(self, files: ImageSet, labels: Sequence[int]) -> None:
        self.images = [decode(files.content(index), files.place(entry)).image for index, entry in enumerate(files.entries)]
        self.labels = labels
        self.transform: Callable[[Image.Image], Tensor]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), int(self.labels[index])


def fit(
    peer: Peer, net: nn.Module, images: Decoded, classes: int, *, seed: int, epochs: int, lr: float, batch: int = BATCH, workers: int = 1
) -> nn.Module:
    """Train a network by a peer's recipe, and return what is evaluated: the network, or its average."""
    repeated = RepeatAugSampler(images, num_replicas=1, rank=0, num_repeats=peer.repeats) if peer.repeats > 1 else None
    sampler = repeated or RandomSampler(images)
    per_epoch = (repeated.num_selected_samples if repeated else len(images)) // batch
    parts = peer.parts(net, classes, per_epoch, epochs, lr)
    images.transform = parts.transform
    loader = DataLoader(images, batch, sampler=sampler, num_workers=workers, drop_last=True, persistent_workers=workers > 0)
    steps = 0
    net.train()
    for epoch in range(epochs):
        if repeated:
            repeated.set_epoch(seed * epochs + epoch)  # the order follows from this number alone
        for pixels, labels in loader:
            mixed, target = parts.mix(pixels, labels)
            loss = parts.loss(net(mixed.contiguous(memory_format=torch.channels_last)), target)
            parts.optimiser.zero_grad()
            loss.backward()
            parts.optimiser.step()
            steps += 1
            parts.schedule(steps)
            if parts.average:
                average, copied = parts.average
                if steps <= copied:
                    average.n_averaged.zero_()
                average.update_parameters(net)
    return parts.average[0].module if parts.average else net
