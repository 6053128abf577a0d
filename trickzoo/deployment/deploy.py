"""Prepares a network for fast inference in one of several engines, and checks that it still computes the same."""

from __future__ import annotations

import copy
import functools
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from trickzoo import registry
from trickzoo.backbone import Backbone
from trickzoo.data.images import read
from trickzoo.data.shapes import Shapes
from trickzoo.data.transforms import Normalisation, eval_transform
from trickzoo.deployment.deployed import Deployed
from trickzoo.deployment.engines import INPUT, OUTPUT, Eager, Engine, OnnxRuntime, OpenVino
from trickzoo.deployment.folding import fold_norms
from trickzoo.deployment.onnx_file import to_onnx
from trickzoo.errors import BadOption, TrickzooError, nearest
from trickzoo.segmentation.model import Segmenter

Backend: TypeAlias = Literal["eager", "onnxruntime", "openvino"]
Precision: TypeAlias = Literal["fp32"]
Images: TypeAlias = Tensor | Sequence[str | PathLike[str]]

TOLERANCE: Mapping[str, float] = {"fp32": 1e-3}
"""The largest difference of a logit from eager's, as a fraction of the largest absolute logit of eager."""
EXTRAS: Mapping[str, str] = {"onnxruntime": "onnx", "openvino": "openvino"}
"""The extra of trickzoo that installs an engine."""
DRAWN = 8
"""Number of generated images on which the logits are compared."""
SECONDS = 3.0
"""How long "auto" times the engines."""


class DeviationTooLarge(TrickzooError, ValueError):
    """A deployed network computes something else than the network."""


class NotInstalled(BadOption):
    """The package of an engine is not installed."""


def deploy(
    model: nn.Module,
    backend: Backend | Literal["auto"] = "auto",
    precision: Precision = "fp32",
    *,
    images: Images | None = None,
    batch_size: int = 1,
    threads: int | None = None,
    tolerance: float | None = None,
) -> Deployed:
    """Prepare a network for fast inference.

    The BatchNorms are folded into the convolutions. `model` is copied and stays as it is.

    Args:
        model: a backbone or a segmenter on the CPU, with float32 parameters. It is used in evaluation mode, whatever its mode.
        backend: the engine: "eager" (PyTorch), "onnxruntime", "openvino", or "auto" for the fastest of those that are installed.
        precision: "fp32".
        images: the images on which the logits are compared: a (N, C, H, W) tensor prepared for the network, or paths of image files, which
            are prepared as the weights of a backbone require. By default they are eight drawings of `trickzoo.data.shapes`, normalised as
            the weights require.
        batch_size: the usual number of images in a call, at which "auto" times the engines. A call may have any number of images.
        threads: number of threads; None for PyTorch's number (`torch.get_num_threads()`) when a process makes its first call.
        tolerance: the largest difference of a logit from eager's that is accepted, as a fraction of the largest absolute logit of eager;
            by default 0.001 for fp32.

    Returns:
        A function with the network's input and output. `print` shows the engine, the reason for it, and the deviation.

    Raises:
        BadOption: for a network, an engine or a value that is not supported, or an engine that is not installed.
        BadData: if an image cannot be read.
        DeviationTooLarge: if the logits differ by more than the tolerance.
    """
    _check(model, backend, precision, batch_size, threads)
    network = copy.deepcopy(model).eval()
    checked = _prepared(model, images)
    with torch.no_grad():
        expected = torch.cat([network(part) for part in checked.split(16)])
    source = _Source(fold_norms(network), checked[:1])
    bound = TOLERANCE[precision] if tolerance is None else tolerance

    def build(name: str) -> Deployed:
        in_chans = checked.shape[1]
        return _compared(Deployed(name, precision, source.engine(name), in_chans, threads), checked, expected, bound)

    if backend != "auto":
        return build(backend)
    candidates: dict[str, Deployed] = {}
    skipped: dict[str, str] = {}
    for name in get_args(Backend):
        try:
            candidates[name] = build(name)
        except (NotInstalled, DeviationTooLarge) as error:
            skipped[name] = str(error)
    rates = _rates(candidates, checked, batch_size)
    return replace(candidates[max(rates, key=rates.__getitem__)], batch_size=batch_size, rates=rates, skipped=skipped)


def _check(model: nn.Module, backend: str, precision: str, batch_size: int, threads: int | None) -> None:
    """Raise BadOption for a network or a value that `deploy` does not support."""
    for option, value, known in (("backend", backend, ("auto", *get_args(Backend))), ("precision", precision, get_args(Precision))):
        if value not in known:
            raise BadOption(f'deploy: no {option} "{value}"{nearest(value, known)}; there are {", ".join(known)}')
    if batch_size < 1 or (threads is not None and threads < 1):
        raise BadOption(f"deploy: batch_size and threads must be 1 or more, not {batch_size} and {threads}")
    if not isinstance(model, Backbone | Segmenter):
        raise BadOption(
            f"deploy takes a backbone or a segmenter, not a {type(model).__name__}; `trickzoo export` writes detectors for other programs"
        )
    for parameter in model.parameters():
        if parameter.dtype != torch.float32 or parameter.device.type != "cpu":
            kind = str(parameter.dtype).removeprefix("torch.")
            raise BadOption(
                f'deploy takes a network of float32 on the CPU, not of {kind} on {parameter.device}; call model.float().to("cpu")'
            )


def _prepared(model: nn.Module, images: Images | None) -> Tensor:
    """Return (N, C, H, W) images that are prepared for a network."""
    trunk = model.trunk if isinstance(model, Segmenter) else model
    assert isinstance(trunk, Backbone)
    if isinstance(images, Tensor):
        if images.ndim != 4 or images.shape[1] != trunk.in_chans or images.dtype != torch.float32 or not len(images):
            raise BadOption(f"deploy: images must be N×{trunk.in_chans}×H×W float32, not {'×'.join(map(str, images.shape))} {images.dtype}")
        return images
    if images is not None:
        if isinstance(model, Segmenter):
            raise BadOption("deploy: for a segmenter, images must be a tensor that is prepared for it, not paths")
        if not images:
            raise BadOption("deploy: images is empty; name one image or more, or leave it out")
        transform = eval_transform(trunk)
        return torch.stack([transform(read(Path(path)).upright().image) for path in images])
    stated = trunk.weights.preprocessing if trunk.weights else None
    size = stated.size if stated else registry.find(trunk.name).size
    drawings, _ = Shapes("val", DRAWN, size).arrays()
    normalised = Normalisation.of(trunk)(torch.from_numpy(drawings).permute(0, 3, 1, 2))
    return normalised[:, torch.arange(trunk.in_chans) % 3].contiguous()


class _Source:
    """What the engines are made from: a network with folded BatchNorms, and one image for it."""

    def __init__(self, network: nn.Module, image: Tensor) -> None:
        self.network, self.image = network, image

    @functools.cached_property
    def onnx(self) -> bytes:
        """The content of the network's ONNX file. The number and the size of the images may be any."""
        side = [max(length, 128) for length in self.image.shape[2:]]
        example = torch.zeros(2, self.image.shape[1], *side)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.onnx"
            dynamic = [{0: "batch", 2: "height", 3: "width"}]
            to_onnx(self.network, (example,), path, inputs=[INPUT], outputs=[OUTPUT], dynamic=dynamic)
            return path.read_bytes()

    def engine(self, name: str) -> Engine:
        """Return the network in the form of an engine. Raises NotInstalled if its package is missing."""
        for package in (name, "onnx", "onnxscript") if name in EXTRAS else ():
            if find_spec(package) is None:
                raise NotInstalled(f"{name} needs the package {package}; pip install 'trickzoo[{EXTRAS[name]}]'")
        if name == "onnxruntime":
            return OnnxRuntime(self.onnx)
        if name == "openvino":
            return OpenVino(self.onnx)
        return Eager(copy.deepcopy(self.network).to(memory_format=torch.channels_last))


def _compared(deployed: Deployed, images: Tensor, expected: Tensor, tolerance: float) -> Deployed:
    """Return the deployed network with its deviation. Raises DeviationTooLarge if it exceeds the tolerance."""
    found = torch.cat([deployed(part) for part in images.split(16)])
    scale = float(expected.abs().max())
    deviation = float((found - expected).abs().max())
    if not deviation <= tolerance * scale:
        raise DeviationTooLarge(
            f"{deployed.backend} in {deployed.precision} changes a logit by {deviation:.3g}, and {tolerance * scale:.3g} is accepted "
            f"({tolerance:g} of the largest logit, {scale:.3g}); use another backend or precision, or a larger tolerance"
        )
    disagreement = float((found.argmax(1) != expected.argmax(1)).float().mean())
    return replace(deployed, deviation=deviation, disagreement=disagreement, scale=scale)


def _rates(candidates: Mapping[str, Deployed], images: Tensor, batch_size: int) -> dict[str, float]:
    """Return the images per second of each candidate, which are called in turns for a few seconds."""
    batch = images[torch.arange(batch_size) % len(images)]
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for run in candidates.values():
        run(batch)
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end or not all(times.values()):
        for name, run in candidates.items():
            start = time.perf_counter()
            run(batch)
            times[name].append(time.perf_counter() - start)
    return {name: batch_size / sorted(found)[len(found) // 2] for name, found in times.items()}
