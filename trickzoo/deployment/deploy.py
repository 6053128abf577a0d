"""Prepares a network for fast inference in one of several engines, and checks that it still computes the same."""

from __future__ import annotations

import contextlib
import copy
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from numbers import Real
from os import PathLike
from pathlib import Path
from typing import Literal, TypeAlias, cast, get_args

import torch
from torch import Tensor, nn

from trickzoo import registry
from trickzoo.backbone import Backbone, kind_in_words
from trickzoo.data.images import read
from trickzoo.data.shapes import Shapes
from trickzoo.data.transforms import Normalisation, eval_transform
from trickzoo.deployment.deployed import Deployed, check_images
from trickzoo.deployment.forms import Forms, Unavailable, check_available
from trickzoo.errors import NOT_FINITE, BadCheckpoint, BadOption, TrickzooError, check_choice, first_line
from trickzoo.folding import fold_norms
from trickzoo.segmentation.model import Segmenter
from trickzoo.weights.comparison import check_whole
from trickzoo.weights.record import Preprocessing
from trickzoo.wording import count

Backend: TypeAlias = Literal["eager", "onnxruntime", "openvino", "inductor"]
Precision: TypeAlias = Literal["fp32", "bf16", "int8"]
Images: TypeAlias = Tensor | Sequence[Tensor] | Sequence[str | PathLike[str]]

TOLERANCE: Mapping[str, float] = {"fp32": 1e-3, "bf16": 0.1, "int8": 0.05}
"""By default, the largest difference of a logit from eager's that is accepted, as a fraction of the largest absolute logit of eager. For
int8, the largest fraction of predictions that may differ from eager's."""
BATCH = 16
"""Largest number of images on which the logits are compared at once."""
DRAWN = 8
"""Number of generated images on which the logits are compared."""
BEYOND = 10
"""How many times the largest value of a normalised image the values of `images` may have."""
SECONDS = 3.0
"""How long "auto" times the engines."""
_TRACING = threading.Lock()


class DeviationTooLarge(TrickzooError, ValueError):
    """A deployed network computes something else than the network."""


@contextlib.contextmanager
def _by_itself() -> Iterator[None]:
    """Trace one network at a time, as torch requires, whatever device and precision the caller has set for other networks."""
    with _TRACING, torch.device("cpu"), torch.autocast("cpu", enabled=False):
        yield


@_by_itself()
def deploy(
    model: nn.Module,
    backend: Backend | Literal["auto"] = "auto",
    precision: Precision = "fp32",
    *,
    images: Images | None = None,
    preprocessing: Preprocessing | None = None,
    batch_size: int = 1,
    threads: int | None = None,
    tolerance: float | None = None,
) -> Deployed:
    """Prepare a network for fast inference on a CPU.

    The BatchNorms are folded into the convolutions. `model` is copied and stays as it is.

    Args:
        model: a backbone or a segmenter on the CPU, with float32 parameters. It is used in evaluation mode, whatever its mode.
        backend: the engine: "eager" (PyTorch), "onnxruntime", "openvino", "inductor" (PyTorch's compiler, which takes minutes), or "auto"
            for the fastest of those that are installed. "auto" tries "inductor" only if neither ONNX Runtime nor OpenVINO can be used.
        precision: "fp32", "bf16" (not in ONNX Runtime) or "int8" (in ONNX Runtime and OpenVINO).
        images: the images on which the deployed network is compared with `model`: a (N, C, H, W) tensor prepared for the network, several
            such tensors, whose sizes may differ, or paths of image files, which are prepared as the weights of a backbone require. By
            default they are eight drawings of `trickzoo.data.shapes`, normalised as the weights require. For int8 they are required, and
            the network is also calibrated on them: pass a few dozen typical images.
        preprocessing: how images are prepared for the network; by default as the weights of the backbone require.
        batch_size: the usual number of images in a call, at which "auto" times the engines. A call may have any number of images.
        threads: number of threads; None for PyTorch's number (`torch.get_num_threads()`) when a process makes its first call.
        tolerance: for fp32 and bf16, the largest difference of a logit from the network's that is accepted, as a fraction of the network's
            largest absolute logit; by default 0.001 and 0.1. For int8, the largest fraction of predictions that may differ; by default
            0.05.

    Returns:
        A function with the network's input and output. `print` shows the engine, the reason for it, and the deviation.

    Raises:
        Unavailable: for an engine that is not installed, does not have the precision, or cannot take the network; with "auto", if no engine
            can be used.
        BadOption: for a network or a value that is not supported.
        BadData: if an image cannot be read.
        BadCheckpoint: if the network's logits are not finite.
        DeviationTooLarge: if the logits or predictions differ by more than the tolerance. "auto" leaves out such an engine instead.
    """
    _check_settings(backend, precision, preprocessing, batch_size, threads, tolerance)
    _check_network(model, precision, images)
    if backend != "auto":
        check_available(backend, precision)
    try:
        network = copy.deepcopy(model).eval()
    except RuntimeError as error:
        raise BadOption(
            f"{_trunk(model).name} has weights that are computed, which cannot be copied; torch.nn.utils.prune.remove and "
            "remove_weight_norm make them parameters"
        ) from error
    checked = _prepared(model, images, preprocessing)
    with torch.no_grad():
        expected = [network(part) for part in checked]
    if not all(part.isfinite().all() for part in expected):
        raise BadCheckpoint(f"{_trunk(model).name} {NOT_FINITE}")
    with _conversion(f"torch.fx cannot trace {_trunk(model).name}", "its code must not depend on the values and sizes of images"):
        forms = Forms(fold_norms(network), checked)
    bound = TOLERANCE[precision] if tolerance is None else tolerance

    def build(name: str) -> Deployed:
        check_available(name, precision)
        with _conversion(f"{name} cannot take {_trunk(model).name}", 'use backend="eager"'):
            engine = forms.engine(name, precision)
        deployed = Deployed(name, precision, engine, checked[0].shape[1], threads)
        return _compared(deployed, checked, expected, bound)

    if backend != "auto":
        return build(backend)
    candidates: dict[str, Deployed] = {}
    skipped: dict[str, str] = {}
    for name in get_args(Backend):
        if name == "inductor" and candidates.keys() - {"eager"}:
            skipped[name] = 'it takes minutes to compile; trickzoo.deploy tries it with backend="inductor"'
            continue
        try:
            candidates[name] = build(name)
        except (Unavailable, DeviationTooLarge) as error:
            skipped[name] = str(error)
    if not candidates:
        raise Unavailable(f"no engine runs this network in {precision}: {'; '.join(skipped.values())}")
    rates = _rates(candidates, checked[0], batch_size)
    return replace(candidates[max(rates, key=rates.__getitem__)], batch_size=batch_size, rates=rates, skipped=skipped)


@contextlib.contextmanager
def _conversion(problem: str, remedy: str) -> Iterator[None]:
    """Raise Unavailable, with the reason, for whatever torch's tracers and exporters raise; their errors have no common class."""
    try:
        yield
    except TrickzooError:
        raise
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise Unavailable(f"{problem} ({first_line(cause)}); {remedy}") from error


def _check_settings(
    backend: str, precision: str, preprocessing: Preprocessing | None, batch_size: int, threads: int | None, tolerance: float | None
) -> None:
    """Raise BadOption for a value that `deploy` does not support."""
    for option, value, known in (("backend", backend, ("auto", *get_args(Backend))), ("precision", precision, get_args(Precision))):
        check_choice(f"deploy: {option}", value, known)
    if not all(isinstance(number, int) and number >= 1 for number in (batch_size, 1 if threads is None else threads)):
        raise BadOption(f"deploy: batch_size and threads must be 1 or more, not {batch_size!r} and {threads!r}")
    if tolerance is not None and (not isinstance(tolerance, Real) or tolerance != tolerance):
        raise BadOption(f"deploy: tolerance must be a number, not {tolerance!r}")
    if not isinstance(preprocessing, Preprocessing | None):
        raise BadOption(f"deploy: preprocessing must be a trickzoo.weights.record.Preprocessing, not {type(preprocessing).__name__}")


def _check_network(model: nn.Module, precision: str, images: Images | None) -> None:
    """Raise BadOption for a network that `deploy` does not support."""
    if not isinstance(model, Backbone | Segmenter):
        raise BadOption(
            "deploy takes a backbone or a segmenter, not " + kind_in_words(model, "; `trickzoo export` writes detectors for other programs")
        )
    check_whole(model, _trunk(model).name)
    for parameter in model.parameters():
        if parameter.dtype != torch.float32 or parameter.device.type != "cpu":
            kind = str(parameter.dtype).removeprefix("torch.")
            raise BadOption(
                f'deploy takes a network of float32 on the CPU, not of {kind} on {parameter.device}; call model.float().to("cpu")'
            )
    for name, layer in model.named_modules():
        if any(isinstance(part, torch.ScriptObject) for part in vars(layer).values()):  # the weights of torch's quantised layers
            raise BadOption(
                f"deploy takes a network of float32, and {name.removesuffix('._packed_params')} is quantised; pass the network as it was "
                'before, with precision="int8"'
            )
    if precision == "int8" and images is None:
        raise BadOption("deploy: int8 is calibrated on your images; pass some dozens of them in images")
    if precision == "int8" and model.num_classes < 2:
        raise BadOption("deploy: int8 is checked on predictions, so it needs a network of two classes or more")


def _trunk(model: nn.Module) -> Backbone:
    trunk = model.trunk if isinstance(model, Segmenter) else model
    assert isinstance(trunk, Backbone)
    return trunk


def _prepared(model: nn.Module, images: Images | None, preprocessing: Preprocessing | None) -> list[Tensor]:
    """Return (n, C, H, W) images that are prepared for a network, in batches."""
    trunk = _trunk(model)
    if isinstance(images, Sequence) and images and all(isinstance(part, Tensor) for part in images):
        return [batch for part in images for batch in _prepared(model, cast(Tensor, part), preprocessing)]
    stated = preprocessing or (trunk.weights.preprocessing if trunk.weights else None)
    normalisation = Normalisation(stated.mean, stated.std) if stated else Normalisation()
    if isinstance(images, Tensor):
        check_images(images, trunk.in_chans, f"deploy: images must be N×{trunk.in_chans}×H×W float32")
        if not len(images):
            raise BadOption("deploy: images is empty; pass one image or more, or leave it out")
        images = images.detach()
        if not images.isfinite().all():
            raise BadOption("deploy: images must be finite, and some values are not; leave such images out")
        _check_range(images, normalisation, trunk.name)
        return list(images.split(BATCH))
    if isinstance(images, str | PathLike):
        raise BadOption(f'deploy: images must be paths or a tensor, not one path; pass sorted(Path("{images}").iterdir()) for a folder')
    if images is not None:
        if isinstance(model, Segmenter):
            raise BadOption("deploy: for a segmenter, images must be a tensor that is prepared for it, or several, not paths")
        transform = eval_transform(trunk) if preprocessing is None else eval_transform(preprocessing, channels=trunk.in_chans)
        prepared = []
        for path in images:
            if not isinstance(path, str | PathLike):
                raise BadOption(f"deploy: images must be paths, a tensor or several tensors, and one is {type(path).__name__}")
            prepared.append(transform(read(Path(path)).upright().image))
        if not prepared:
            raise BadOption("deploy: images is empty; name one image or more, or leave it out")
        return list(torch.stack(prepared).split(BATCH))
    drawings, _ = Shapes("val", DRAWN, stated.size if stated else registry.find(trunk.name).size).arrays()
    normalised = normalisation(torch.from_numpy(drawings).permute(0, 3, 1, 2))
    return [normalised[:, torch.arange(trunk.in_chans) % 3].contiguous()]


def _check_range(images: Tensor, normalisation: Normalisation, name: str) -> None:
    """Raise BadOption for images whose values are so large that they are not normalised, such as those in 0…255."""
    found, usual = float(images.abs().max()), normalisation.largest
    if found > BEYOND * usual:
        raise BadOption(
            f"deploy: images have values up to {found:g}, and images that are normalised for {name} have values up to {usual:.3g}; "
            "prepare them as in the evaluation, by trickzoo.eval_transform"
        )


def _compared(deployed: Deployed, images: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float) -> Deployed:
    """Return the deployed network with its deviation on images. Raises DeviationTooLarge if it exceeds the tolerance."""
    found = [deployed(part) for part in images]
    scale = max(float(part.abs().max()) for part in expected)
    pairs = list(zip(found, expected, strict=True))
    deviation = float(torch.stack([(ours - theirs).abs().max() for ours, theirs in pairs]).max())  # NaN if one of them is
    disagreement = float(torch.cat([(ours.argmax(1) != theirs.argmax(1)).flatten() for ours, theirs in pairs]).double().mean())
    what = f"{deployed.backend} in {deployed.precision}"
    if deployed.precision == "int8" and not disagreement <= tolerance:
        raise DeviationTooLarge(
            f"{what} changes {disagreement:.1%} of the predictions on {count(sum(map(len, images)), 'image')}, "
            f"and {tolerance:.1%} are accepted; calibrate with more images, or use another precision"
        )
    if deployed.precision != "int8" and not deviation <= tolerance * scale:
        raise DeviationTooLarge(
            f"{what} changes a logit by {deviation:.3g}, and {tolerance * scale:.3g} is accepted ({tolerance:g} of the largest logit, "
            f"{scale:.3g}); use another backend or precision, or in Python a larger tolerance"
        )
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
