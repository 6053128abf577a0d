"""Training steps of classifiers, against timm's loop and against the bare step.

timm's package contains its loaders, optimisers and networks, but not its training script. The loop is rebuilt here in the script's order,
without its logging, which favours timm. Both read the same files with the same number of workers, crop and flip them and do nothing else,
and train with Nesterov SGD on label-smoothed targets. "decoded once" is `--decode once`. The bare step is forward, backward and SGD's step
on images that are in memory already. The start of the workers is not timed.
"""

from __future__ import annotations

import functools
import itertools
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import timm
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from timm.data import create_dataset, create_loader
from timm.loss import LabelSmoothingCrossEntropy
from timm.models.efficientnet import _gen_mobilenet_v1
from timm.optim import create_optimizer_v2
from torch import Tensor, nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

import trickzoo
from benchmarks.speed.harness import Comparison
from trickzoo.classification import task
from trickzoo.data.loaders import Streamed, TrainingImages, decode_once, squash
from trickzoo.data.readers.imagenet import open_imagenet
from trickzoo.recipes.recipe import Augmentation, Recipe
from trickzoo.tricks.low_precision import DTYPES

WHAT = "training of a classifier on images of 64 × 64 pixels, batch 64"
MODELS: dict[str, tuple[Callable[..., nn.Module], str]] = {
    "resnet18_d": (functools.partial(timm.create_model, "resnet18d"), "bf16"),
    "mobilenet_v1_025": (functools.partial(_gen_mobilenet_v1, "mobilenetv1_100", channel_multiplier=0.25), "fp32"),
    "mobilenet_v1_100": (functools.partial(timm.create_model, "mobilenetv1_100"), "fp32"),
}
"""timm's builder of each network, and the precision. timm has no name for a MobileNet v1 of 0.25."""
SIZE, BATCH, WARM, TIMED = 64, 64, 4, 24
AREA = (0.35, 1.0)
OPERATIONS = {
    "convolutions, backward": ("aten::convolution_backward",),
    "convolutions, forward": ("aten::mkldnn_convolution", "aten::_slow_conv2d_forward", "aten::cudnn_convolution"),
    "BatchNorm": (
        "aten::native_batch_norm",
        "aten::native_batch_norm_backward",
        "aten::cudnn_batch_norm",
        "aten::cudnn_batch_norm_backward",
    ),
    "ReLU": ("aten::clamp_min_", "aten::relu_", "aten::threshold_backward"),
    "conversions and copies": ("aten::copy_", "aten::_to_copy"),
}
"""PyTorch's operations of each kind, in a profile of a step."""


def comparisons(data: Path) -> Iterator[Comparison]:
    """Yield a comparison for each network, on a folder with class folders in train/."""
    workers = os.cpu_count() or 1
    files = open_imagenet(data, split="train")
    with tempfile.TemporaryDirectory() as cache:
        side = round(SIZE * 8 / 7)
        once = decode_once(files, squash(side), f"squash{side}", Path(cache), workers=workers)
        for name, (upstream, precision) in MODELS.items():
            augmentation = Augmentation(area=AREA, jitter=0.0, pca=0.0)
            settings = {
                "size": SIZE,
                "batch_size": BATCH,
                "lr": 0.01,
                "precision": precision,
                "smoothing": 0.1,
                "smoothing_form": "uniform",
            }
            recipe = Recipe("benchmark", name, data.name, augmentation=augmentation, **settings)
            variants = {
                "trickzoo, files": functools.partial(_trickzoo, recipe, Streamed(files, workers=workers)),
                "trickzoo, decoded once": functools.partial(_trickzoo, recipe, once),
                "timm, files": functools.partial(_timm, recipe, upstream, data, len(files.classes), workers),
                "the bare step": functools.partial(_bare, recipe, len(files.classes)),
            }
            shares = _shares(recipe, len(files.classes))
            yield Comparison(f"{name}, {precision}", variants, TIMED * BATCH, {"shares_of_the_bare_step": shares})


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _trickzoo(recipe: Recipe, images: TrainingImages) -> float:
    """Return the seconds of the timed steps."""
    AcceleratorState._reset_state()
    accelerator = Accelerator(mixed_precision="no" if recipe.precision == "fp32" else recipe.precision)
    model = task.prepare(recipe, len(images.classes), 0, trickzoo.create)
    times: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        task.train(
            recipe,
            model,
            images,
            None,
            Path(folder),
            seed=0,
            accelerator=accelerator,
            stop_after=WARM + TIMED,
            report=lambda _: times.append(time.perf_counter()),
        )
    return times[-1] - times[WARM - 1]


def _timm(recipe: Recipe, build: Callable[..., nn.Module], folder: Path, classes: int, workers: int) -> float:
    """Return the seconds of the timed steps."""
    device = _device()
    torch.manual_seed(0)
    network = build(num_classes=classes).to(device).to(memory_format=torch.channels_last).train()
    optimiser = create_optimizer_v2(network, "sgd", lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay)
    loader = create_loader(
        create_dataset("", str(folder), split="train", is_training=True),
        (3, SIZE, SIZE),
        BATCH,
        is_training=True,
        scale=AREA,
        color_jitter=0.0,
        interpolation="bilinear",
        num_workers=workers,
        use_prefetcher=device.type == "cuda",
        pin_memory=device.type == "cuda",
        device=device,
    )
    loss_of = LabelSmoothingCrossEntropy(recipe.smoothing)
    return _stepped(recipe, network, optimiser, loss_of, loader)


def _bare(recipe: Recipe, classes: int) -> float:
    """Return the seconds of as many steps on one batch in memory."""
    device = _device()
    torch.manual_seed(0)
    network = trickzoo.create(recipe.model, num_classes=classes).to(device).to(memory_format=torch.channels_last).train()
    optimiser = torch.optim.SGD(network.parameters(), lr=recipe.lr, momentum=recipe.momentum, nesterov=True)
    images = torch.rand(BATCH, 3, SIZE, SIZE, device=device).contiguous(memory_format=torch.channels_last)
    target = torch.randint(0, classes, (BATCH,), device=device)
    loss_of = functools.partial(F.cross_entropy, label_smoothing=recipe.smoothing)
    return _stepped(recipe, network, optimiser, loss_of, itertools.repeat((images, target)))


def _shares(recipe: Recipe, classes: int) -> dict[str, float]:
    """Return the percentage of the bare step's time that each kind of operation takes."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        _bare(recipe, classes)
    shares = dict.fromkeys((*OPERATIONS, "others"), 0.0)
    events = profiled.key_averages()
    total = sum(event.self_cpu_time_total for event in events)
    for event in events:
        kind = next((kind for kind, names in OPERATIONS.items() if event.key in names), "others")
        shares[kind] += 100 * event.self_cpu_time_total / total
    return {kind: round(share, 1) for kind, share in shares.items()}


def _stepped(
    recipe: Recipe,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    loss_of: Callable[[Tensor, Tensor], Tensor],
    batches: Iterable[tuple[Tensor, Tensor]],
) -> float:
    """Take the first steps, and return the seconds of the timed ones."""
    device, low = _device(), recipe.precision != "fp32"
    start = 0.0
    for step, (images, target) in enumerate(itertools.islice(batches, WARM + TIMED), 1):
        images, target = images.to(device).contiguous(memory_format=torch.channels_last), target.to(device)
        with torch.autocast(device.type, DTYPES.get(recipe.precision, torch.float32), enabled=low):
            loss = loss_of(network(images), target)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        loss.item()
        if step == WARM:
            start = time.perf_counter()
    return time.perf_counter() - start
