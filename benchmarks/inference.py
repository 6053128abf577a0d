"""Images per second of inference on a CPU: trickzoo, timm, and ONNX Runtime and OpenVINO as their own documentation shows, in turns.

    python benchmarks/inference.py [--models resnet50_d inception_v3 mobilenet_v1_100] [--batches 1 16] [--threads 2] [--n 12]

All variants compute the same network with the same weights, and take and return torch tensors. The weights are random, and the statistics
of the BatchNorms are those of random images. Every variant's logits are compared with those of timm's network. Preparation and the first
calls are not timed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import openvino
import timm
import torch
from pairs import interleaved
from ratios import summary
from safetensors.torch import save_file
from torch import Tensor, nn

import trickzoo
from trickzoo import registry
from trickzoo.backbone import Backbone
from trickzoo.evidence import environment, write_json

RESULTS = Path(__file__).parent / "results"
SECONDS = 0.3
"""How long the calls in each turn take with timm's network. Waiting threads of the variant before disturb only the first of them."""
BOUNDS = {"bf16": 0.3, "int8": 1.0}
"""The largest difference of a logit as a fraction of the largest logit, of variants with these words in their names. The networks are not
trained, and rounding changes their logits more than those of a trained network."""
BOUND = 1e-3
"""The same for all other variants."""
TIMM, BY_HAND = ("timm", "timm channels_last", "timm compile"), ("ONNX Runtime by hand", "OpenVINO by hand")
THEIRS = {"mobilenet_v1_100": "mobilenetv1_100", "inception_v3": "inception_v3"}
"""timm's names of networks that are not ResNets."""
Run = Callable[[Tensor], Tensor]


def networks(name: str, size: int) -> tuple[nn.Module, Backbone]:
    """Return timm's network and trickzoo's with the same weights, in evaluation mode."""
    torch.manual_seed(0)
    theirs = timm.create_model(THEIRS.get(name) or name.removesuffix("_b").replace("_", ""))
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        theirs.train()(torch.randn(8, 3, size, size))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.safetensors"
        save_file(theirs.state_dict(), file)
        return theirs.eval(), trickzoo.create(name, weights=file)


def onnxruntime_by_hand(network: nn.Module, images: Tensor, threads: int) -> Run:
    """Return the network in ONNX Runtime, exported for the size of these images."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        torch.onnx.export(network, (images,), path, input_names=["images"], dynamo=True, external_data=False, verbose=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def openvino_by_hand(network: nn.Module, images: Tensor, threads: int) -> Run:
    """Return the network in OpenVINO, converted for the size of these images."""
    converted = openvino.convert_model(network, example_input=images, input=[tuple(images.shape)])
    hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.compile_model(converted, "CPU", hints)
    return lambda images: torch.from_numpy(compiled(images.numpy())[0])


def channels_last(network: Run) -> Run:
    """Return a function that calls a network with images in the channels-last memory format."""
    return lambda images: network(images.contiguous(memory_format=torch.channels_last))


def variants(name: str, batch: int, threads: int, compiled: bool) -> tuple[dict[str, Run], Tensor, dict[str, str]]:
    """Return each variant's function, the images, and what "auto" says of its choice."""
    size = registry.find(name).size
    theirs, ours = networks(name, size)
    images = torch.randn(batch, 3, size, size)
    calibration = torch.randn(16, 3, size, size)
    last = networks(name, size)[0].to(memory_format=torch.channels_last)
    auto = trickzoo.deploy(ours, batch_size=batch, threads=threads)
    found: dict[str, Run] = {
        "timm": theirs,
        "timm channels_last": channels_last(last),
        "trickzoo": ours,
        "deploy auto": auto,
        "deploy eager": trickzoo.deploy(ours, "eager", threads=threads),
        "deploy eager bf16": trickzoo.deploy(ours, "eager", "bf16", threads=threads, tolerance=1),
        "deploy onnxruntime": trickzoo.deploy(ours, "onnxruntime", threads=threads),
        "deploy onnxruntime int8": trickzoo.deploy(ours, "onnxruntime", "int8", images=calibration, threads=threads, tolerance=1),
        "deploy openvino": trickzoo.deploy(ours, "openvino", threads=threads),
        "deploy openvino bf16": trickzoo.deploy(ours, "openvino", "bf16", threads=threads, tolerance=1),
        "deploy openvino int8": trickzoo.deploy(ours, "openvino", "int8", images=calibration, threads=threads, tolerance=1),
        "ONNX Runtime by hand": onnxruntime_by_hand(theirs, images, threads),
        "OpenVINO by hand": openvino_by_hand(theirs, images, threads),
    }
    if compiled:
        found["timm compile"] = channels_last(torch.compile(last))
        found["deploy inductor"] = trickzoo.deploy(ours, "inductor", images=images, threads=threads)
    return found, images, {"auto": auto.choice}


def deviations(runs: dict[str, Run], images: Tensor) -> dict[str, float]:
    """Return each variant's largest difference of a logit from timm's, as a fraction of the largest. Stops the run if it is too large."""
    expected = runs["timm"](images)
    scale = float(expected.abs().max())
    found = {name: float((run(images) - expected).abs().max()) / scale for name, run in runs.items()}
    for name, deviation in found.items():
        bound = next((bound for word, bound in BOUNDS.items() if word in name), BOUND)
        if not deviation <= bound:
            raise SystemExit(f"{name} differs from timm by {deviation:.2g} of the largest logit")
    return {name: float(f"{deviation:.2g}") for name, deviation in found.items()}


def measure(name: str, batch: int, threads: int, n: int, compiled: bool) -> dict[str, Any]:
    """Return the images per second of every variant, and the ratios between them, of one network at one batch size."""
    runs, images, said = variants(name, batch, threads, compiled)
    deviation = deviations(runs, images)
    calls = max(1, round(SECONDS / statistics.median(interleaved({"timm": lambda: runs["timm"](images)}, 3)["timm"])))

    def turn(run: Run) -> Callable[[], None]:
        def action() -> None:
            for _ in range(calls):
                run(images)

        return action

    times = interleaved({label: turn(run) for label, run in runs.items()}, n, warmup=2)
    rates = {label: round(calls * batch / statistics.median(found), 2) for label, found in times.items()}

    def best(labels: tuple[str, ...]) -> str:
        return max((label for label in labels if label in rates), key=lambda label: rates[label])

    pairs = {
        "auto to timm": ("deploy auto", "timm"),
        "auto to timm's best": ("deploy auto", best(TIMM)),
        "auto to the best engine by hand": ("deploy auto", best(BY_HAND)),
        "int8 to fp32 in ONNX Runtime": ("deploy onnxruntime int8", "deploy onnxruntime"),
        "int8 to fp32 in OpenVINO": ("deploy openvino int8", "deploy openvino"),
    }
    return {
        "model": name,
        "batch": batch,
        "images_per_second": rates,
        "ratios": {
            label: {"of": ours, "to": theirs, **summary([b / a for a, b in zip(times[ours], times[theirs], strict=True)])}
            for label, (ours, theirs) in pairs.items()
        },
        "deviation": deviation,
        **said,
    }


def main() -> None:
    """Run, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["resnet50_d", "inception_v3", "mobilenet_v1_100"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 16])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--n", type=int, default=12)
    parser.add_argument("--no-compile", dest="compiled", action="store_false", help="leave out torch.compile and inductor")
    parser.add_argument("--out", type=Path, default=RESULTS / "inference.json")
    args = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    torch.set_num_threads(args.threads)
    rows = []
    with torch.no_grad():
        for name in args.models:
            for batch in args.batches:
                rows.append(measure(name, batch, args.threads, args.n, args.compiled))
                print({key: rows[-1][key] for key in ("model", "batch", "images_per_second", "auto")}, flush=True)
                print({label: (ratio["median"], ratio["range"]) for label, ratio in rows[-1]["ratios"].items()}, flush=True)
    result = {
        "what": "inference: images per second of each variant (median), ratios of variants in the same turn, and the largest difference of "
        "a logit from timm's as a fraction of the largest logit",
        "threads": args.threads,
        "n": args.n,
        "rows": rows,
        **environment(),
    }
    write_json(args.out, result)


if __name__ == "__main__":
    main()
