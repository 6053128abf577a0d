"""Inference on a CPU, against timm, and against ONNX Runtime and OpenVINO as their own documentation shows.

All variants compute the same network with the same weights, and take and return torch tensors. The weights are random, with the BatchNorm
statistics of the images. Each variant's logits are compared with those of timm's network. Preparation and the first calls are not timed.
"""

from __future__ import annotations

import functools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import onnxruntime
import openvino
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import trickzoo
from benchmarks.speed import peak
from benchmarks.speed.harness import Comparison, interleaved
from trickzoo import registry
from trickzoo.backbone import Backbone
from trickzoo.tricks.low_precision import emulates_bf16

WHAT = "inference on random images of the network's own size"
MODELS = {"resnet50_d": "resnet50d", "inception_v3": "inception_v3", "mobilenet_v1_100": "mobilenetv1_100"}
"""timm's name of each network."""
BATCHES = (1, 16)
SECONDS = 0.3
"""How long the calls in each round take with timm's network."""
BOUNDS = {"bf16": 0.25, "int8": 1.0}
"""The largest difference of a logit as a fraction of the largest logit, of variants with these words in their names."""
BOUND = 1e-3
"""The same for all other variants."""
Run = Callable[[Tensor], Tensor]


def comparisons(compiled: bool = False) -> Iterator[Comparison]:
    """Yield a comparison for each network and batch size. `compiled` adds torch.compile and inductor, which compile for minutes."""
    torch.set_grad_enabled(False)
    for name in MODELS:
        for batch in BATCHES:
            yield _comparison(name, batch, os.cpu_count() or 1, compiled)


def _comparison(name: str, batch: int, threads: int, compiled: bool) -> Comparison:
    runs, images, auto = _variants(name, batch, threads, compiled)
    expected = runs["timm"](images)
    scale = float(expected.abs().max())
    deviation = {label: float(f"{float((run(images) - expected).abs().max()) / scale:.2g}") for label, run in runs.items()}
    for label, found in deviation.items():
        bound = next((bound for word, bound in BOUNDS.items() if word in label), BOUND)
        assert found <= bound, f"{label} differs from timm by {found:.2g} of the largest logit"
    calls = max(1, round(SECONDS / statistics.median(interleaved({"timm": lambda: runs["timm"](images)}, 3)["timm"])))

    def repeated(run: Run) -> float:
        run(images)  # the threads of the variant before still wait actively during this call
        start = time.perf_counter()
        for _ in range(calls):
            run(images)
        return time.perf_counter() - start

    variants = {label: functools.partial(repeated, run) for label, run in runs.items()}
    rates = peak.facts(trickzoo.create(name), registry.find(name).size, torch.float32, training=False)
    return Comparison(f"{name}, batch {batch}", variants, calls * batch, {"deviation": deviation, "auto": auto, **rates})


def _variants(name: str, batch: int, threads: int, compiled: bool) -> tuple[dict[str, Run], Tensor, str]:
    """Return each variant's function, the images, and what "auto" says of its choice."""
    size = registry.find(name).size
    theirs, ours = _networks(name, size)
    images = torch.randn(batch, 3, size, size)
    calibration = torch.randn(16, 3, size, size)
    last = _networks(name, size)[0].to(memory_format=torch.channels_last)
    auto = trickzoo.deploy(ours, batch_size=batch, threads=threads)
    found: dict[str, Run] = {
        "trickzoo, deploy auto": auto,
        "trickzoo, eager": ours,
        "trickzoo, deploy onnxruntime": trickzoo.deploy(ours, "onnxruntime", threads=threads),
        "trickzoo, deploy openvino": trickzoo.deploy(ours, "openvino", threads=threads),
        "trickzoo, deploy onnxruntime int8": trickzoo.deploy(ours, "onnxruntime", "int8", images=calibration, threads=threads, tolerance=1),
        "trickzoo, deploy openvino int8": trickzoo.deploy(ours, "openvino", "int8", images=calibration, threads=threads, tolerance=1),
        "timm": theirs,
        "timm, channels_last": _channels_last(last),
        "ONNX Runtime by hand": _onnxruntime_by_hand(theirs, images, threads),
        "OpenVINO by hand": _openvino_by_hand(theirs, images, threads),
    }
    if not emulates_bf16():
        found["trickzoo, deploy openvino bf16"] = trickzoo.deploy(ours, "openvino", "bf16", threads=threads)
    if compiled:
        found["timm, compile"] = _channels_last(torch.compile(last))
        found["trickzoo, deploy inductor"] = trickzoo.deploy(ours, "inductor", images=images, threads=threads)
    return found, images, auto.choice


def _networks(name: str, size: int) -> tuple[nn.Module, Backbone]:
    """Return timm's network and trickzoo's with the same weights, in evaluation mode."""
    torch.manual_seed(0)
    theirs = timm.create_model(MODELS[name])
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    theirs.train()(torch.randn(8, 3, size, size))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.safetensors"
        save_file(theirs.state_dict(), file)
        return theirs.eval(), trickzoo.create(name, weights=file)


def _onnxruntime_by_hand(network: nn.Module, images: Tensor, threads: int) -> Run:
    """Return the network in ONNX Runtime, exported for the size of these images."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        torch.onnx.export(network, (images,), path, input_names=["images"], dynamo=True, external_data=False, verbose=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def _openvino_by_hand(network: nn.Module, images: Tensor, threads: int) -> Run:
    """Return the network in OpenVINO, converted for the size of these images."""
    converted = openvino.convert_model(network, example_input=images, input=[tuple(images.shape)])
    hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.compile_model(converted, "CPU", hints)
    return lambda images: torch.from_numpy(compiled(images.numpy())[0])


def _channels_last(network: Run) -> Run:
    """Return a function that calls a network with images in the channels-last memory format."""
    return lambda images: network(images.contiguous(memory_format=torch.channels_last))
