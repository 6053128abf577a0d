"""Converts a network to the forms that the engines need."""

from __future__ import annotations

import copy
import functools
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, fx, nn
from torch.export import Dim

from trickzoo.deployment.engines import INPUT, OUTPUT, Eager, Engine, Inductor, OnnxRuntime, OpenVino
from trickzoo.deployment.int8 import quantise
from trickzoo.deployment.onnx_file import to_onnx
from trickzoo.errors import BadOption
from trickzoo.tricks.low_precision import warn_if_emulated

PRECISIONS: Mapping[str, tuple[str, ...]] = {
    "eager": ("fp32", "bf16"),
    "onnxruntime": ("fp32", "int8"),
    "openvino": ("fp32", "bf16", "int8"),
    "inductor": ("fp32", "bf16"),
}
"""The precisions of each engine on a CPU."""
EXTRAS: Mapping[str, str] = {"onnxruntime": "onnx", "openvino": "openvino"}
"""The extra of trickzoo that installs an engine."""


class Unavailable(BadOption):
    """An engine is not installed, does not have the precision, or cannot take the network."""


def check_available(backend: str, precision: str) -> None:
    """Raise Unavailable if an engine is not installed, or does not have the precision."""
    if precision not in PRECISIONS[backend]:
        able = [name for name, known in PRECISIONS.items() if precision in known]
        raise Unavailable(f"{backend} has no {precision}, which {', '.join(able)} have")
    if backend == "inductor" and not shutil.which(compiler := os.environ.get("CXX", "g++")):
        raise Unavailable(f"inductor needs a C++ compiler, and there is no {compiler}; install it, or name another one in CXX")
    if backend in EXTRAS:
        for package in (backend, "onnx", "onnxscript", *(["onnxruntime"] if precision == "int8" else [])):
            if find_spec(package) is None:
                raise Unavailable(f"{backend} needs the package {package}; pip install 'trickzoo[{EXTRAS[backend]}]'")
    if backend == "openvino" and precision == "bf16":
        import openvino

        if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise Unavailable("openvino has no bf16 on this processor, where it would compute in fp32 instead; use fp32")


class Forms:
    """A network in the forms that the engines need, each of which is made once.

    Args:
        network: the graph of the network with folded BatchNorms.
        images: batches of images for it, with which it is quantised. The size of the first is that of compiled code.
    """

    def __init__(self, network: fx.GraphModule, images: Sequence[Tensor]) -> None:
        self.network, self.images, self.shape = network, images, images[0].shape

    def engine(self, backend: str, precision: str) -> Engine:
        """Return the network in the form of an engine."""
        if backend == "onnxruntime":
            return OnnxRuntime(self.onnx_int8 if precision == "int8" else self.onnx)
        if backend == "openvino":
            return OpenVino(self.onnx_int8 if precision == "int8" else self.onnx, bf16=precision == "bf16")
        warn_if_emulated(precision)
        kind = torch.bfloat16 if precision == "bf16" else torch.float32
        network = _InPrecision(copy.deepcopy(self.network), kind)
        return Eager(network) if backend == "eager" else Inductor(self._package(network), (self.shape[2], self.shape[3]))

    @functools.cached_property
    def onnx(self) -> bytes:
        """The content of the network's ONNX file."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.onnx"
            height, width = (max(side, 128) for side in self.shape[2:])  # short sides are special cases for the exporter
            example = torch.zeros(2, self.shape[1], height, width, dtype=torch.float32)
            dynamic = [{0: "batch", 2: "height", 3: "width"}]
            to_onnx(self.network, (example,), path, inputs=[INPUT], outputs=[OUTPUT], dynamic=dynamic)
            return path.read_bytes()

    @functools.cached_property
    def onnx_int8(self) -> bytes:
        """The content of the network's ONNX file with 8-bit integers."""
        with tempfile.TemporaryDirectory() as folder:
            source, path = Path(folder) / "network.onnx", Path(folder) / "int8.onnx"
            source.write_bytes(self.onnx)
            quantise(source, self.images, INPUT, path)
            return path.read_bytes()

    def _package(self, network: nn.Module) -> bytes:
        """Return the content of a package that AOTInductor compiles."""
        from torch._inductor import aoti_compile_and_package

        example = torch.zeros(2, *self.shape[1:], dtype=torch.float32).contiguous(memory_format=torch.channels_last)
        with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
            program = torch.export.export(network, (example,), dynamic_shapes=({0: Dim("batch")},))
            path = str(Path(folder) / "network.pt2")
            aoti_compile_and_package(program, package_path=path, inductor_configs={"freezing": True})
            return Path(path).read_bytes()


class _InPrecision(nn.Module):
    """A network whose parameters are converted to a type and to the channels-last memory format. Input and output are of float32."""

    def __init__(self, network: nn.Module, kind: torch.dtype) -> None:
        super().__init__()
        self.network = network.to(kind).to(memory_format=torch.channels_last)
        self.kind = kind

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images.to(self.kind)).float()
