"""Published training recipes side by side: the same network, images, epochs and evaluation, three seeds.

    python -m benchmarks.recipes --data imagenette128 --runs runs/recipes

The recipes of torchvision ("V2", the script references/classification with the settings of its ResNet-50 IMAGENET1K_V2) and timm ("A3" of
"ResNet strikes back", arXiv 2110.00476) are built from the classes of these packages. The differences from the published settings are that
crops cover at least a quarter of the image, because the images are small, that a step has 128 images, that the warm-up takes the same
fraction of the training, that the averaging of V2 spans the same fraction of the training, and that all arithmetic is in fp32.

The learning rate of each recipe is the best of three, after a short training on nine tenths of the training images, judged on the rest.
Trainings that are in --runs are not repeated.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from timm.data import Mixup, create_transform
from timm.data.distributed_sampler import RepeatAugSampler
from timm.loss import BinaryCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import InterpolationMode, v2

import trickzoo
from trickzoo import classification, tasks
from trickzoo.classification.open import open_files
from trickzoo.classification.task import judge
from trickzoo.data.images import decode
from trickzoo.data.imageset import ImageSet
from trickzoo.data.location import ImageLocation
from trickzoo.data.transforms import Normalisation
from trickzoo.evidence import environment, write_json
from trickzoo.recipes.recipe import Recipe
from trickzoo.recipes.scaled import ladder
from trickzoo.recipes.zoo import MOBILENET_025
from trickzoo.studies.statistics import estimate, holm
from trickzoo.training import job
from trickzoo.training.machine import Machine

RESULT = Path(__file__).parent / "results" / "recipes_imagenette128_mobilenet_v1_025.json"
MODEL, SIZE, BATCH = "mobilenet_v1_025", 64, 128
AREA = (0.25, 1.0)
EPOCHS, GRID_EPOCHS = 30, 8
MINIVAL = 0.1
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
OURS = "trickzoo"
SPAN = 600 / (0.00002 * 1024 * 32) / (600 * 1_281_167 / 1024 / 32)
"""Number of steps over which V2 averages the weights, as a fraction of all steps: of 1 / (1 - decay) updates, one in 32 steps of 1,024
images, where 1 - decay is 0.00002 × 1,024 × 32 / 600 epochs."""


@dataclass(frozen=True)
class Place:
    """Where a training runs: its images, its folder, its seed and its length in epochs."""

    location: ImageLocation
    out: Path
    seed: int
    epochs: int

    @property
    def machine(self) -> Machine:
        return Machine(out=self.out, seed=self.seed, workers=1, evaluate_every=self.epochs, device="cpu")


@dataclass(frozen=True)
class Published:
    """A published recipe: its source, the rates that are tried, and a function that trains and returns the top-1 accuracy in percent."""

    source: str
    rates: tuple[float, ...]
    train: Callable[[Place, float], float]


def zoo(place: Place, lr: float) -> float:
    """Train by the recipe of the zoo's own MobileNet 0.25, at 64 pixels throughout and with a warm-up of the same fraction."""
    warmup = MOBILENET_025.warmup_epochs * place.epochs / MOBILENET_025.epochs
    recipe = MOBILENET_025.but("zoo", size=SIZE, start_size=None, epochs=place.epochs, lr=lr, warmup_epochs=warmup)
    return _ours(recipe, place)


def paper(place: Place, lr: float) -> float:
    """Train by the last rung of the paper's ladder; `lr` is the rate of its baseline, for 64 images."""
    top = ladder("imagenette128", MODEL, epochs=place.epochs, lr=lr, weight_decay=5e-4).rungs[-1].recipe
    return _ours(top, place)


def _ours(recipe: Recipe, place: Place) -> float:
    return float(job.run(tasks.prepare(recipe, place.location, place.machine))["top1"])


# ---------------------------------------------------------------------------------------------------------------------
# the recipes of other packages


class Images(Dataset[tuple[Tensor, int]]):
    """Training images that are decoded once and kept in memory."""

    def __init__(self, images: ImageSet, classes: tuple[str, ...], transform: Callable[[Any], Tensor]) -> None:
        self.images = [_decoded(images, index) for index in range(len(images.entries))]
        self.labels = [classes.index(entry.label) for entry in images.entries]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), self.labels[index]


def _decoded(images: ImageSet, index: int) -> Any:
    picture = decode(images.content(index), images.place(images.entries[index]))
    return (picture.upright() if images.upright else picture).image.copy()


Step = Callable[[nn.Module, Tensor, Tensor], None]
"""Takes a step of a training on a batch of images and labels."""


def torchvision_v2(place: Place, lr: float) -> float:
    """Train by torchvision's recipe V2."""
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(SIZE, scale=AREA, interpolation=InterpolationMode.BILINEAR, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.TrivialAugmentWide(interpolation=InterpolationMode.BILINEAR),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
            v2.RandomErasing(0.1),
        ]
    )

    def begin(net: nn.Module, steps: int, classes: int) -> tuple[Step, nn.Module]:
        norms = [p for module in net.modules() if isinstance(module, nn.BatchNorm2d) for p in module.parameters(recurse=False)]
        others = [p for p in net.parameters() if all(p is not norm for norm in norms)]
        groups = [{"params": others, "weight_decay": 2e-5}, {"params": norms, "weight_decay": 0.0}]
        optimiser = SGD(groups, lr=lr, momentum=0.9)
        warm = max(1, round(steps * 5 / 600))
        parts = [LinearLR(optimiser, 0.01, total_iters=warm), CosineAnnealingLR(optimiser, steps - warm)]
        schedule = SequentialLR(optimiser, parts, [warm])
        mix = v2.RandomChoice([v2.MixUp(alpha=0.2, num_classes=classes), v2.CutMix(alpha=1.0, num_classes=classes)])
        loss_of = nn.CrossEntropyLoss(label_smoothing=0.1)
        average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(max(0.0, 1 - 1 / (SPAN * steps))), use_buffers=True)

        def step(net: nn.Module, images: Tensor, labels: Tensor) -> None:
            images, targets = mix(images, labels)
            optimiser.zero_grad()
            loss_of(net(images), targets).backward()
            optimiser.step()
            schedule.step()
            average.update_parameters(net)

        return step, average.module

    return _theirs(place, transform, begin, repeats=4)


def timm_a3(place: Place, lr: float) -> float:
    """Train by timm's procedure A3."""
    transform = create_transform(
        SIZE,
        is_training=True,
        scale=AREA,
        color_jitter=None,
        auto_augment="rand-m6-mstd0.5-inc1",
        interpolation="bicubic",
        mean=MEAN,
        std=STD,
    )

    def begin(net: nn.Module, steps: int, classes: int) -> tuple[Step, nn.Module]:
        optimiser = create_optimizer_v2(net, "lamb", lr=lr, weight_decay=0.02)
        warm = round(steps * 5 / 100)
        schedule = CosineLRScheduler(optimiser, steps, lr_min=1e-6, warmup_t=warm, warmup_lr_init=lr / 80, t_in_epochs=False)
        mix = Mixup(mixup_alpha=0.1, cutmix_alpha=1.0, label_smoothing=0.0, num_classes=classes)
        loss_of = BinaryCrossEntropy(smoothing=0.0, target_threshold=0.2)
        done = 0

        def step(net: nn.Module, images: Tensor, labels: Tensor) -> None:
            nonlocal done
            images, targets = mix(images, labels)
            optimiser.zero_grad()
            loss_of(net(images), targets).backward()
            schedule.step_update(done)
            optimiser.step()
            done += 1

        return step, net

    return _theirs(place, transform, begin)


def _theirs(place: Place, transform: Any, begin: Callable[[nn.Module, int, int], tuple[Step, nn.Module]], *, repeats: int = 1) -> float:
    """Train with the transform and the steps of another package, and return the top-1 accuracy in percent of the network it evaluates."""
    recipe = MOBILENET_025.but("evaluation", size=SIZE, start_size=None)
    accelerator = place.machine.accelerator("fp32")
    val = classification.open_data(recipe, place.location, place.machine).val
    files, _, _, _ = open_files(place.location)
    torch.manual_seed(place.seed)
    net = trickzoo.create(MODEL, num_classes=len(val.classes)).to(memory_format=torch.channels_last).train()
    images = Images(files, val.classes, transform)
    repeated = RepeatAugSampler(images, num_replicas=1, rank=0, num_repeats=repeats) if repeats > 1 else None
    loader = DataLoader(images, BATCH, shuffle=repeated is None, sampler=repeated, drop_last=True, num_workers=0)
    step, evaluated = begin(net, place.epochs * len(loader), len(val.classes))
    for epoch in range(place.epochs):
        if repeated:
            repeated.set_epoch(epoch + 1000 * place.seed)
        for batch, labels in loader:
            step(net, batch.contiguous(memory_format=torch.channels_last), labels)
    return 100 * float(judge(evaluated.eval(), val, Normalisation(MEAN, STD), accelerator).right.mean())


RECIPES: Mapping[str, Published] = {
    OURS: Published("the recipe of the zoo's own MobileNet 0.25: cosine decay, warm-up, label smoothing", (0.1, 0.2, 0.4), zoo),
    "the paper": Published("all tricks of arXiv 1812.01187: the last rung of the ladder", (0.1, 0.2, 0.4), paper),
    "torchvision V2": Published("torchvision's recipe of ResNet50_Weights.IMAGENET1K_V2", (0.0625, 0.25, 1.0), torchvision_v2),
    "timm A3": Published("procedure A3 of ResNet strikes back, arXiv 2110.00476", (5e-4, 2e-3, 8e-3), timm_a3),
}


# ---------------------------------------------------------------------------------------------------------------------
# the study


def trained(name: str, lr: float, place: Place) -> dict[str, Any]:
    """Train if the folder holds no result yet, and return top-1 accuracy and seconds."""
    path = place.out.with_name(f"{place.out.name}.json")
    if not path.exists():
        start = time.perf_counter()
        top1 = RECIPES[name].train(place, lr)
        write_json(path, {"top1": round(top1, 4), "wall_seconds": round(time.perf_counter() - start, 1)})
        print(f"{path.stem}: top-1 {top1:.2f} %", flush=True)
    return json.loads(path.read_text(encoding="utf-8"))


def rates(data: Path, runs: Path, epochs: int) -> Iterator[dict[str, Any]]:
    """Yield the accuracy of each recipe with each of its learning rates on images cut from the training split."""
    location = ImageLocation(data=data, decode="once", minival=MINIVAL)
    for name, recipe in RECIPES.items():
        for lr in recipe.rates:
            out = runs / f"{name.replace(' ', '_')}-lr{lr:g}"
            yield {"recipe": name, "lr": lr, "top1": trained(name, lr, Place(location, out, 0, epochs))["top1"]}


def main() -> None:
    """Run the trainings that are left, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--grid-epochs", type=int, default=GRID_EPOCHS)
    parser.add_argument("--result", type=Path, default=RESULT)
    args = parser.parse_args()
    grid = list(rates(args.data, args.runs, args.grid_epochs))
    best = {name: max((row for row in grid if row["recipe"] == name), key=lambda row: row["top1"])["lr"] for name in RECIPES}
    location = ImageLocation(data=args.data, decode="once")
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in RECIPES}
    for seed in range(args.seeds):
        for name in RECIPES:
            out = args.runs / f"{name.replace(' ', '_')}-{seed}"
            found[name].append(trained(name, best[name], Place(location, out, seed, args.epochs)))
    write_json(args.result, {**summary(found, best), "epochs": args.epochs, "grid_epochs": args.grid_epochs, "grid": grid, **environment()})


def summary(found: Mapping[str, list[dict[str, Any]]], best: Mapping[str, float]) -> dict[str, Any]:
    """Return a row for each recipe, with its paired difference to trickzoo's over the seeds, and Holm's p over these differences."""
    base = [each["top1"] for each in found[OURS]]
    rows = []
    for name, each in found.items():
        top1 = [result["top1"] for result in each]
        row: dict[str, Any] = {"recipe": name, "source": RECIPES[name].source, "lr": best[name], "top1": top1}
        row["wall_seconds"] = [result["wall_seconds"] for result in each]
        level = estimate(top1)
        row |= {"mean": round(level.mean, 3), "interval": level.interval}
        if name != OURS:
            difference = estimate([round(a - b, 4) for a, b in zip(top1, base, strict=True)])
            row["difference"] = {"mean": round(difference.mean, 3), "interval": difference.interval, "p": difference.p}
        rows.append(row)
    compared = [row["difference"] for row in rows if "difference" in row and row["difference"]["p"] is not None]
    for difference, p in zip(compared, holm([each["p"] for each in compared]), strict=True):
        difference["p_holm"] = p
    return {
        "what": f"top-1 accuracy in percent of {MODEL} at {SIZE} pixels, by recipe, and paired differences to trickzoo's",
        "model": MODEL,
        "size": SIZE,
        "seeds": len(base),
        "rows": rows,
    }


if __name__ == "__main__":
    main()
