"""A network that was deployed: a function from images to logits."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from trickzoo.deployment.engines import Engine, Run
from trickzoo.errors import BadOption


@dataclass(frozen=True)
class Deployed:
    """A network in the engine that `trickzoo.deploy` prepared or chose.

    `deployed(images)` takes (N, C, H, W) float32 images, prepared as for the network, and returns its float32 logits. N may differ in each
    call. The result never has gradients. An image with a value that is not finite gets logits of NaN, in every engine.

    A `Deployed` can be pickled, and can be used after a fork: each process opens the engine at its first call. For worker processes that
    share the cores, `deployed.with_threads(1)` gives a copy with one thread each.

    Attributes:
        backend: the engine, "eager", "inductor", "onnxruntime" or "openvino".
        precision: "fp32", "bf16" or "int8".
        deviation: the largest absolute difference of the logits from those of the network in eager PyTorch, on the images of the check.
        disagreement: the fraction of predictions (the class of the largest logit) on these images that differ.
        scale: the largest absolute logit of the network in eager PyTorch on these images.
        threads: number of threads of each call; None for PyTorch's number at the first call in a process (`torch.get_num_threads()`).
        batch_size: the number of images at which the engines were timed.
        rates: images per second of each engine that was timed; empty if the caller named the engine.
        skipped: why an engine was not timed, by its name.
    """

    backend: str
    precision: str
    engine: Engine = field(repr=False)
    in_chans: int = field(repr=False)
    threads: int | None = None
    deviation: float = 0.0
    disagreement: float = 0.0
    scale: float = 0.0
    batch_size: int = 1
    rates: Mapping[str, float] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    _opened: dict[tuple[int, int], Run] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __call__(self, images: Tensor) -> Tensor:
        """Return the logits of (N, C, H, W) float32 images on the CPU. Raises BadOption for anything else, and for images of no pixels."""
        check_images(images, self.in_chans, f"the deployed network takes N×{self.in_chans}×H×W float32 images")
        key = (os.getpid(), self.threads or torch.get_num_threads())
        run = self._opened.get(key)
        if run is None:
            run = self._opened[key] = self.engine.open(key[1])
        logits = run(images)
        if not images.detach().sum().isfinite():  # one pass over the images; the sum of finite values may be infinite
            logits[~images.isfinite().flatten(1).all(1)] = torch.nan
        return logits

    def with_threads(self, threads: int | None) -> Deployed:
        """Return a copy that uses this number of threads in each call. Raises BadOption if it is less than 1."""
        if threads is not None and not (isinstance(threads, int) and threads >= 1):
            raise BadOption(f"threads must be 1 or more, not {threads!r}")
        return replace(self, threads=threads)

    @property
    def choice(self) -> str:
        """One sentence that says which engine runs the network and why."""
        if not self.rates:
            return f"{self.backend} was asked for"
        rates = ", ".join(f"{name} {rate:,.1f}" for name, rate in sorted(self.rates.items(), key=lambda item: -item[1]))
        left_out = "".join(f"; {name} left out: {reason}" for name, reason in self.skipped.items())
        return f"{self.backend} is the fastest at batch {self.batch_size} (images/s: {rates}{left_out})"

    def __str__(self) -> str:
        return (
            f"{self.choice}; {self.precision}, logits within {self.deviation:.2g} of eager's, "
            f"whose largest is {self.scale:.3g}; {self.disagreement:.2%} of the predictions differ"
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": {}}


def check_images(images: Any, channels: int, wanted: str) -> None:
    """Raise BadOption for anything but an (N, channels, H, W) float32 tensor of some pixels on the CPU. `wanted` begins the message."""
    if not isinstance(images, Tensor):
        raise BadOption(f"{wanted} in a tensor, not {type(images).__name__}")
    if images.ndim != 4 or images.shape[1] != channels or images.dtype != torch.float32 or 0 in images.shape[2:]:
        raise BadOption(f"{wanted}, not {'×'.join(map(str, images.shape))} {str(images.dtype).removeprefix('torch.')}")
    if images.device.type != "cpu":
        raise BadOption(f"{wanted} on the CPU, not on {images.device}")
