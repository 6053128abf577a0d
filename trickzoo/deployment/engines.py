"""The engines that a deployed network can run in.

An engine consists of plain data that can be pickled. `open` makes it ready in the process that uses it, because the sessions of ONNX
Runtime and OpenVINO survive neither a fork nor pickling.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Protocol

import torch
from torch import Tensor, nn

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
    """PyTorch itself. The parameters of the network determine the precision."""

    network: nn.Module

    def open(self, threads: int) -> Run:
        """Return a function that calls the network in the channels-last memory format, in which PyTorch's convolutions are fastest."""
        network = self.network
        dtype = next(network.parameters()).dtype

        def run(images: Tensor) -> Tensor:
            with torch.no_grad(), torch_threads(threads):
                return network(images.to(dtype, memory_format=torch.channels_last)).float()

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
            "ENABLE_CPU_PINNING": False,  # else every process pins its threads to the same cores
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
