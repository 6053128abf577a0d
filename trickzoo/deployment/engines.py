"""The engines that a deployed network can run in.

An engine consists of plain data that can be pickled. `open` makes it ready in the process that uses it, because the sessions of ONNX
Runtime and OpenVINO survive neither a fork nor pickling.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from trickzoo.errors import BadOption

INPUT, OUTPUT = "images", "logits"
"""Names of the input and the output in ONNX files."""

Run = Callable[[Tensor], Tensor]
"""(N, C, H, W) float32 images → float32 logits. The tensor that it returns is new in each call."""


class Engine(Protocol):
    """A network in the form that an engine needs."""

    def open(self, threads: int) -> Run:
        """Prepare the network for calls in this process with this number of threads."""


@dataclass(frozen=True)
class Eager:
    """PyTorch itself.

    Attributes:
        network: the network, with parameters in the channels-last memory format, in which PyTorch's convolutions are fastest.
    """

    network: nn.Module

    def open(self, threads: int) -> Run:
        """Return a function that calls the network."""
        return _with_torch(self.network, threads)


@dataclass(frozen=True)
class Inductor:
    """Machine code that PyTorch's compiler made for this CPU.

    Attributes:
        package: the content of a package of AOTInductor, whose input is in the channels-last memory format.
        sides: height and width of the images. The machine code is for this size alone, because the size decides whether the poolings of
            ResNet-D have an incomplete last cell.
    """

    package: bytes
    sides: tuple[int, int]

    def open(self, threads: int) -> Run:
        """Return a function that calls the machine code."""
        from torch._inductor import aoti_load_package

        with tempfile.NamedTemporaryFile(suffix=".pt2") as file:
            file.write(self.package)
            file.flush()
            run = _with_torch(aoti_load_package(file.name), threads)

        def run_if_it_fits(images: Tensor) -> Tensor:
            if images.shape[2:] != self.sides:
                height, width = self.sides
                raise BadOption(f"this network was compiled for images of {height}×{width} pixels, not {images.shape[2]}×{images.shape[3]}")
            return run(images)

        return run_if_it_fits


def _with_torch(network: Run, threads: int) -> Run:
    def run(images: Tensor) -> Tensor:
        with torch.no_grad(), torch.autocast("cpu", enabled=False), torch_threads(threads):
            return network(images.detach().contiguous(memory_format=torch.channels_last))

    return run


@dataclass(frozen=True)
class OnnxRuntime:
    """ONNX Runtime on the CPU.

    Attributes:
        model: the content of the ONNX file.
    """

    model: bytes

    def open(self, threads: int) -> Run:
        """Return a function that runs a new session."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(self.model, options, providers=["CPUExecutionProvider"])

        def run(images: Tensor) -> Tensor:
            (found,) = session.run([OUTPUT], {INPUT: images.detach().contiguous().numpy()})
            return torch.from_numpy(found)

        return run


@dataclass(frozen=True)
class OpenVino:
    """OpenVINO on the CPU.

    Attributes:
        model: the content of the ONNX file.
        bf16: whether to compute in bfloat16.
    """

    model: bytes
    bf16: bool = False

    def open(self, threads: int) -> Run:
        """Return a function that runs a new compiled model, one call at a time."""
        import openvino

        core = openvino.Core()
        options: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "bf16" if self.bf16 else "f32",
            "ENABLE_CPU_PINNING": False,  # otherwise every process pins its threads to the same cores
            "CPU_RUNTIME_CACHE_CAPACITY": 0,  # otherwise the machine code for every size of images stays in memory
        }
        request = core.compile_model(core.read_model(BytesIO(self.model)), "CPU", options).create_infer_request()
        lock = threading.Lock()

        def run(images: Tensor) -> Tensor:
            with lock:
                found = request.infer([images.detach().contiguous().numpy()], share_inputs=True, share_outputs=True)
                return torch.from_numpy(found[0].copy())  # the next call reuses the memory of the output

        return run


@contextlib.contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Let PyTorch use this number of threads within the block."""
    before = torch.get_num_threads()
    if before == threads:
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
