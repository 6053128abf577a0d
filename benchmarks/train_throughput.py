"""Images per second of training, against the loop of timm's training script on the same model, images, batch and precision, in turns.

    python benchmarks/train_throughput.py --data imagenette128 [--model resnet18_d] [--size 64] [--batch-size 64] [--precision fp32] [--n 7]

timm's package ships its loaders, optimisers and networks but not the script, so its loop is rebuilt here from those parts in the script's
order, without logging, which favours it. Both read the same files with the same number of workers, crop, flip and nothing else, and train
with Nesterov SGD on label-smoothed targets; start-up is left out. "resident" is `--decode once`, and "bare" is the step alone: forward
pass, loss, backward pass and optimiser on a batch that is in memory already. No loop over these steps can be faster than that.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import tempfile
import time
from pathlib import Path

import timm
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from ratios import summary
from timm.data import create_dataset, create_loader
from timm.loss import LabelSmoothingCrossEntropy
from timm.models.efficientnet import _gen_mobilenet_v1
from timm.optim import create_optimizer_v2

import trickzoo
from trickzoo.classification import task
from trickzoo.data.loaders import Streamed, TrainingImages, decode_once, squash
from trickzoo.data.readers.imagenet import open_imagenet
from trickzoo.evidence import environment, write_json
from trickzoo.recipes.recipe import Augmentation, Recipe

RESULTS = Path(__file__).parent / "results"
WARM, TIMED = 3, 12
AREA = (0.35, 1.0)


def accelerated(recipe: Recipe) -> Accelerator:
    """Device and precision of the recipe."""
    AcceleratorState._reset_state()
    return Accelerator(mixed_precision="no" if recipe.precision == "fp32" else recipe.precision)


def bare(recipe: Recipe, images: TrainingImages) -> float:
    """Images per second of the step alone, on one batch that is normalised already."""
    accelerator = accelerated(recipe)
    model = task.prepare(recipe, len(images.classes), 0, trickzoo.create)
    training = task.Classification(recipe, model, images, None, seed=0, accelerator=accelerator)
    batch = next(iter(training.batches(0)))
    network = model.to(accelerator.device).to(memory_format=torch.channels_last).train()
    network, optimiser = accelerator.prepare(network, training.optimiser())
    start = 0.0
    for step in range(1, WARM + TIMED + 1):
        loss = training.loss(network, batch)
        accelerator.backward(loss)
        optimiser.step()
        optimiser.zero_grad()
        loss.item()
        if step == WARM:
            start = time.perf_counter()
    return TIMED * recipe.batch_size / (time.perf_counter() - start)


def ours(recipe: Recipe, images: TrainingImages) -> float:
    """Images per second of trickzoo's loop."""
    accelerator = accelerated(recipe)
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
    return TIMED * recipe.batch_size / (times[-1] - times[WARM - 1])


def timms(name: str, classes: int) -> torch.nn.Module:
    """The network of timm that has the zoo's name. Narrow MobileNets have no name there."""
    if name.startswith("mobilenet_v1"):
        return _gen_mobilenet_v1("mobilenetv1_100", channel_multiplier=int(name[-3:]) / 100, num_classes=classes)
    return timm.create_model(name.replace("_", ""), num_classes=classes)


def theirs(recipe: Recipe, folder: Path, classes: int, workers: int) -> float:
    """Images per second of timm's loop."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    network = timms(recipe.model, classes)
    network = network.to(device).to(memory_format=torch.channels_last).train()
    optimiser = create_optimizer_v2(network, "sgd", lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay)
    loader = create_loader(
        create_dataset("", str(folder), split="train", is_training=True),
        (3, recipe.size, recipe.size),
        recipe.batch_size,
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
    kind = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[recipe.precision]
    scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "fp16")
    start = 0.0
    for step, (images, target) in enumerate(itertools.islice(loader, WARM + TIMED), 1):
        images, target = images.to(device).contiguous(memory_format=torch.channels_last), target.to(device)
        with torch.autocast(device.type, kind, enabled=recipe.precision != "fp32"):
            loss = loss_of(network(images), target)
        scaler.scale(loss).backward()
        scaler.step(optimiser)
        scaler.update()
        optimiser.zero_grad()
        loss.item()
        if step == WARM:
            start = time.perf_counter()
    return TIMED * recipe.batch_size / (time.perf_counter() - start)


def main() -> None:
    """Run, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="resnet18_d")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--precision", default="fp32", choices=["fp32", "fp16", "bf16"])
    parser.add_argument("--n", type=int, default=7)
    args = parser.parse_args()
    recipe = Recipe(
        "benchmark",
        args.model,
        args.data.name,
        size=args.size,
        batch_size=args.batch_size,
        lr=0.01,
        precision=args.precision,
        smoothing=0.1,
        smoothing_form="uniform",
        augmentation=Augmentation(area=AREA, jitter=0.0, pca=0.0),
    )
    workers = min(8, os.cpu_count() or 1)
    files = open_imagenet(args.data, split="train")
    rates: dict[str, list[float]] = {"bare": [], "streamed": [], "resident": [], "timm": []}
    with tempfile.TemporaryDirectory() as cache:
        side = round(args.size * 8 / 7)
        resident = decode_once(files, squash(side), f"squash{side}", Path(cache), workers=workers)
        for turn in range(args.n + 1):
            found = {
                "bare": bare(recipe, resident),
                "streamed": ours(recipe, Streamed(files, workers=workers)),
                "resident": ours(recipe, resident),
                "timm": theirs(recipe, args.data, len(files.classes), workers),
            }
            if turn:  # the first turn warms caches up
                for name, rate in found.items():
                    rates[name].append(rate)
            print({name: round(rate, 1) for name, rate in found.items()}, flush=True)
    result = {
        "what": f"training {args.model} at {args.size} pixels, batch {args.batch_size}, {args.precision}: images per second, and ratios "
        "of trickzoo to timm's loop and to the bare step in the same turn",
        "n": args.n,
        **{f"{name}_images_per_second_median": round(statistics.median(found), 1) for name, found in rates.items()},
        **{
            f"{name}_to_{other}": summary([a / b for a, b in zip(rates[name], rates[other], strict=True)])
            for other in ("timm", "bare")
            for name in ("streamed", "resident")
        },
        **environment(),
    }
    write_json(RESULTS / f"train_throughput_{args.model}_{args.precision}.json", result)
    print({key: value for key, value in result.items() if "_to_" in key})


if __name__ == "__main__":
    main()
