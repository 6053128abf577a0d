"""Training steps of classifiers, against timm's loop and against the bare step.

timm's package contains its loaders, optimisers and networks, but not its training script. The loop is rebuilt here in the script's order,
without its logging, which favours timm. On a CPU, each variant runs in a process of its own; in those of trickzoo and of the bare step,
malloc is set as trickzoo's commands set it. Both read the same files with the same number of workers, crop and flip them and do nothing
else, and train with Nesterov SGD on label-smoothed targets. "decoded once" is `--decode once`. The bare step is forward, backward and
SGD's step on images that are in memory already. The start of the workers is not timed.

On a GPU the networks, sizes and batches are larger, and there is a comparison on images in memory alone. "compiled" is the same training
with accelerate's setting that compiles the network with inductor.
"""

from __future__ import annotations

import functools
import itertools
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
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
from benchmarks.speed import peak
from benchmarks.speed.harness import Comparison, OwnProcess
from trickzoo.classification.model import prepare
from trickzoo.classification.task import Classification
from trickzoo.data.loaders import Streamed, TrainingImages
from trickzoo.data.readers.imagenet import open_imagenet
from trickzoo.data.resident import Resident, decode_once, squash
from trickzoo.recipes.recipe import Augmentation, Recipe
from trickzoo.training import loop
from trickzoo.tricks.low_precision import DTYPES, Precision, emulates_bf16

WHAT = "training of a classifier"


@dataclass(frozen=True)
class Setting:
    """A training that is timed.

    Attributes:
        model: trickzoo's name of the network.
        upstream: timm's builder of the same network.
        precision: precision of the arithmetic.
        size: side of the images in pixels.
        batch: images in a step.
        timed: number of steps that are timed.
    """

    model: str
    upstream: Callable[..., nn.Module]
    precision: Precision
    size: int = 64
    batch: int = 64
    timed: int = 16

    @property
    def title(self) -> str:
        return f"{self.model}, {self.precision}, {self.size} × {self.size} pixels, batch {self.batch}"

    def recipe(self, data: str) -> Recipe:
        augmentation = Augmentation(area=AREA, jitter=0.0, pca=0.0)
        return Recipe(
            "benchmark",
            self.model,
            data,
            augmentation=augmentation,
            size=self.size,
            batch_size=self.batch,
            lr=0.01,
            precision=self.precision,
            smoothing=0.1,
            smoothing_form="uniform",
        )


UNSET = "trickzoo, decoded once, malloc's defaults"
"""The variant that shows what the setting of malloc does."""
WARM = 4
"""Number of steps before those that are timed."""
AREA = (0.35, 1.0)
CPU = (
    Setting("resnet18_d", functools.partial(timm.create_model, "resnet18d"), "fp32" if emulates_bf16() else "bf16"),
    Setting("mobilenet_v1_025", functools.partial(_gen_mobilenet_v1, "mobilenetv1_100", channel_multiplier=0.25), "fp32"),
    Setting("mobilenet_v1_100", functools.partial(timm.create_model, "mobilenetv1_100"), "fp32"),
)
"""timm has no name for a MobileNet v1 of 0.25. The standard convolutions of ResNet are faster in bf16 where the processor has it."""
GPU = Setting("resnet50_d", functools.partial(timm.create_model, "resnet50d"), "bf16", size=128, batch=256, timed=72)
"""With 16 workers, 32 batches can be ready before the timing begins, so more steps than that are timed."""
GPU_IN_MEMORY = Setting("resnet50_d", functools.partial(timm.create_model, "resnet50d"), "bf16", size=224, batch=256, timed=16)
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


def comparisons(data: Path, compiled: bool = False) -> Iterator[Comparison]:
    """Yield a comparison for each setting, on a folder with class folders in train/.

    `compiled` adds compiled trainings on images in memory, on a GPU.
    """
    on_gpu = torch.cuda.is_available()
    torch.backends.cudnn.benchmark = on_gpu  # as timm's training script sets it
    workers = os.cpu_count() or 1
    ours, others = (functools.partial, functools.partial) if on_gpu else (functools.partial(OwnProcess, each) for each in (True, False))
    files = open_imagenet(data, split="train")
    if on_gpu:
        yield _in_memory(GPU_IN_MEMORY, compiled=compiled)
    for setting in (GPU,) if on_gpu else CPU:
        with tempfile.TemporaryDirectory() as cache:
            side = round(setting.size * 8 / 7)
            once = decode_once(files, squash(side), f"squash{side}", Path(cache), workers=workers)
            variants = {
                "trickzoo, files": ours(_trickzoo, setting, Streamed(files, workers=workers)),
                "trickzoo, decoded once": ours(_trickzoo, setting, once),
                **({} if on_gpu else {UNSET: others(_trickzoo, setting, once)}),
                "timm, files": others(_timm, setting, data, len(files.classes), workers),
                "the bare step": ours(_bare, setting, len(files.classes)),
            }
            yield Comparison(setting.title, variants, setting.timed * setting.batch, _facts(setting, len(files.classes)))


def _in_memory(setting: Setting, images: int = 2048, classes: int = 1000, *, compiled: bool = False) -> Comparison:
    """Return a comparison on random images. timm's loop and the bare step take the same batch in each step, without crops and flips."""
    side = round(setting.size * 8 / 7)
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, (images, 3, side, side), dtype=np.uint8)
    labels = np.arange(images) % classes
    resident = Resident(pixels, np.full((images, 2), side), labels, tuple(map(str, range(classes))), "random")
    variants = {
        "trickzoo, random images": functools.partial(_trickzoo, setting, resident),
        **({"trickzoo, random images, compiled": functools.partial(_trickzoo, setting, resident, "inductor")} if compiled else {}),
        "timm, one batch": functools.partial(_timm_in_memory, setting, classes),
        "the bare step": functools.partial(_bare, setting, classes),
    }
    return Comparison(f"{setting.title}, random images", variants, setting.timed * setting.batch, _facts(setting, classes))


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _trickzoo(setting: Setting, images: TrainingImages, compiler: str | None = None) -> float:
    """Return the seconds of the timed steps."""
    AcceleratorState._reset_state()
    recipe = setting.recipe("benchmark")
    accelerator = Accelerator(mixed_precision="no" if recipe.precision == "fp32" else recipe.precision, dynamo_backend=compiler)
    model = prepare(recipe, len(images.classes), 0)
    times: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        loop.fit(
            Classification(recipe, model, images, None, seed=0, accelerator=accelerator),
            Path(folder),
            seed=0,
            accelerator=accelerator,
            stop_after=WARM + setting.timed,
            report=lambda _: times.append(time.perf_counter()),
        )
    return times[-1] - times[WARM - 1]


def _timm(setting: Setting, folder: Path, classes: int, workers: int) -> float:
    """Return the seconds of the timed steps of timm's loop on files."""
    device = _device()
    loader = create_loader(
        create_dataset("", str(folder), split="train", is_training=True),
        (3, setting.size, setting.size),
        setting.batch,
        is_training=True,
        scale=AREA,
        color_jitter=0.0,
        interpolation="bilinear",
        num_workers=workers,
        use_prefetcher=device.type == "cuda",
        pin_memory=device.type == "cuda",
        device=device,
    )
    epochs = itertools.chain.from_iterable(itertools.repeat(loader))
    return _stepped(setting, *_of_timm(setting, classes), epochs)


def _timm_in_memory(setting: Setting, classes: int) -> float:
    """Return the seconds of the timed steps of timm's loop on one batch in memory."""
    return _stepped(setting, *_of_timm(setting, classes), itertools.repeat(_batch(setting, classes)))


def _of_timm(setting: Setting, classes: int) -> tuple[nn.Module, torch.optim.Optimizer, nn.Module]:
    """Return timm's network, optimiser and loss."""
    torch.manual_seed(0)
    recipe = setting.recipe("benchmark")
    network = setting.upstream(num_classes=classes).to(_device()).to(memory_format=torch.channels_last).train()
    optimiser = create_optimizer_v2(network, "sgd", lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay)
    return network, optimiser, LabelSmoothingCrossEntropy(recipe.smoothing)


def _bare(setting: Setting, classes: int) -> float:
    """Return the seconds of as many steps on one batch in memory."""
    torch.manual_seed(0)
    recipe = setting.recipe("benchmark")
    network = trickzoo.create(setting.model, num_classes=classes).to(_device()).to(memory_format=torch.channels_last).train()
    optimiser = torch.optim.SGD(network.parameters(), lr=recipe.lr, momentum=recipe.momentum, nesterov=True)
    loss_of = functools.partial(F.cross_entropy, label_smoothing=recipe.smoothing)
    return _stepped(setting, network, optimiser, loss_of, itertools.repeat(_batch(setting, classes)))


def _batch(setting: Setting, classes: int) -> tuple[Tensor, Tensor]:
    """Return a batch of random images and labels on the device."""
    images = torch.rand(setting.batch, 3, setting.size, setting.size, device=_device()).contiguous(memory_format=torch.channels_last)
    return images, torch.randint(0, classes, (setting.batch,), device=_device())


def _facts(setting: Setting, classes: int) -> dict[str, Any]:
    """Return what the bare step's time consists of, and on a GPU the arithmetic of an image and the rate of a large matrix product."""
    if not torch.cuda.is_available():
        return {"shares_of_the_bare_step": _shares(setting, classes)}
    network = trickzoo.create(setting.model, num_classes=classes)
    return peak.facts(network, setting.size, DTYPES.get(setting.precision, torch.float32), training=True)


def _shares(setting: Setting, classes: int) -> dict[str, float]:
    """Return the percentage of the bare step's time that each kind of operation takes."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        _bare(setting, classes)
    shares = dict.fromkeys((*OPERATIONS, "others"), 0.0)
    events = profiled.key_averages()
    total = sum(event.self_cpu_time_total for event in events)
    for event in events:
        kind = next((kind for kind, names in OPERATIONS.items() if event.key in names), "others")
        shares[kind] += 100 * event.self_cpu_time_total / total
    return {kind: round(share, 1) for kind, share in shares.items()}


def _stepped(
    setting: Setting,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    loss_of: Callable[[Tensor, Tensor], Tensor],
    batches: Iterable[tuple[Tensor, Tensor]],
) -> float:
    """Take the first steps, and return the seconds of the timed ones."""
    device, low = _device(), setting.precision != "fp32"
    start = 0.0
    for step, (images, target) in enumerate(itertools.islice(batches, WARM + setting.timed), 1):
        images, target = images.to(device).contiguous(memory_format=torch.channels_last), target.to(device)
        with torch.autocast(device.type, DTYPES.get(setting.precision, torch.float32), enabled=low):
            loss = loss_of(network(images), target)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        loss.item()
        if step == WARM:
            start = time.perf_counter()
    return time.perf_counter() - start
