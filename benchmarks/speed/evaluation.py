"""Evaluating a classifier from the files to the predictions, against the loop of timm's validation script.

timm's package contains its data sets, loaders, transforms and networks, but not the script. The loop is rebuilt here in the script's order,
without its logging and its accuracy, which favours timm. Each variant runs in a process of its own; in those of trickzoo,
malloc is set as its commands set it. timm's loop uses channels_last and the number of loader processes that is the fastest here.
"""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from accelerate import PartialState
from numpy.typing import NDArray
from safetensors.torch import save_file
from timm.data import create_dataset, create_loader

import trickzoo
from benchmarks.speed.harness import Comparison, OwnProcess, interleaved
from trickzoo.backbone import Backbone
from trickzoo.classification import evaluate
from trickzoo.data.batches import not_none
from trickzoo.data.imageset import Decoded, ImageSet
from trickzoo.data.open import open_set
from trickzoo.data.transforms import normalise, resize_and_crop
from trickzoo.deployment.deploy import deploy
from trickzoo.deployment.deployed import Deployed
from trickzoo.weights.record import Preprocessing

WHAT = "evaluation of a classifier from JPEG files to predictions, images of about 500 × 375 pixels, 224 × 224 for the network"
MODELS = {"mobilenet_v1_100": ("mobilenetv1_100", 512), "resnet50_d": ("resnet50d", 256)}
"""timm's name of each network, and the number of images."""
PREPROCESSING = Preprocessing(size=224, crop=0.875, interpolation="bicubic")


def comparisons(data: Path) -> Iterator[Comparison]:
    """Yield a comparison for each network, on copies of the first images of a folder with class folders."""
    images = open_set(data)
    for name, (upstream, n) in MODELS.items():
        with tempfile.TemporaryDirectory() as folder:
            for entry in images.entries[:: max(len(images.entries) // n, 1)][:n]:
                copy = Path(folder) / entry.label / Path(entry.name).name
                copy.parent.mkdir(exist_ok=True)
                shutil.copy(images.place(entry), copy)
            yield _comparison(name, upstream, open_set(folder))


def _comparison(name: str, upstream: str, images: ImageSet) -> Comparison:
    torch.manual_seed(0)
    theirs = timm.create_model(upstream, num_classes=len(images.classes)).eval().to(memory_format=torch.channels_last)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.safetensors"
        save_file({key: value.contiguous() for key, value in theirs.state_dict().items()}, file)
        ours = trickzoo.create(name, weights=file, num_classes=len(images.classes))
    cores = os.cpu_count() or 1
    seconds = {workers: interleaved({"": functools.partial(_timm, theirs, images, workers)}, 1)[""] for workers in range(1, cores + 1)}
    workers = min(seconds, key=seconds.__getitem__)
    deployed = deploy(ours, images=_prepared(images), batch_size=evaluate.BATCH, threads=1)
    variants: dict[str, Callable[[], Any]] = {
        "trickzoo, deployed": OwnProcess(True, _trickzoo, ours, images, cores, deployed),
        "trickzoo, eager": OwnProcess(True, _trickzoo, ours, images, cores, None),
        "timm": OwnProcess(False, _timm, theirs, images, workers),
    }
    expected = variants["timm"]()
    agreement = {variant: round(float((variants[variant]() == expected).mean()), 4) for variant in variants}
    facts = {"agreement_with_timm": agreement, "timm_workers": workers, "deployed": str(deployed)}
    return Comparison(name, variants, len(images.entries), facts)


def _prepared(images: ImageSet) -> torch.Tensor:
    """Return the first images, prepared for the network."""
    first = Decoded(images, resize_and_crop(PREPROCESSING), range(evaluate.BATCH))
    return normalise(torch.stack([not_none(first[i].pixels) for i in range(len(first))]), PREPROCESSING)


def _trickzoo(model: Backbone, images: ImageSet, workers: int, network: Deployed | None) -> NDArray[np.int64]:
    """Return the most probable class of each image."""
    state = PartialState(cpu=True)
    return evaluate.predict(model, images, images.classes, PREPROCESSING, state=state, workers=workers, network=network).top[:, 0]


@torch.inference_mode()
def _timm(model: torch.nn.Module, images: ImageSet, workers: int) -> NDArray[np.int64]:
    """Return the most probable class of each image."""
    loader = create_loader(
        create_dataset("", str(images.root)),
        (3, PREPROCESSING.size, PREPROCESSING.size),
        batch_size=64,
        use_prefetcher=False,
        interpolation=PREPROCESSING.interpolation,
        num_workers=workers,
        crop_pct=PREPROCESSING.crop,
        device=torch.device("cpu"),
    )
    return torch.cat([model(batch.contiguous(memory_format=torch.channels_last)).argmax(1) for batch, _ in loader]).numpy()
