"""Static quantisation of ONNX files to 8 bits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from numpy.typing import NDArray
from torch import Tensor


class _Images:
    """Calibration images in the form that ONNX Runtime's quantisation expects."""

    def __init__(self, images: Sequence[Tensor], name: str) -> None:
        self.batches: Iterator[Tensor] = iter(images)
        self.name = name

    def get_next(self) -> dict[str, NDArray] | None:
        """Return the next batch by the name of the input, or None after the last one."""
        batch = next(self.batches, None)
        return None if batch is None else {self.name: batch.contiguous().numpy()}


def quantise(source: Path, images: Sequence[Tensor], name: str, path: Path) -> None:
    """Write an ONNX file whose convolutions, additions, poolings and linear layers compute with 8-bit integers.

    The weights have a scale for each output channel, and the zero point 0. They take 7 of the 8 bits, because processors without VNNI
    instructions add two products in 16 bits, and with 8 bits these sums would overflow and change predictions without a word. Each map
    has one scale and one zero point, so that its smallest and its largest value on the images are the ends of the range. QuantizeLinear
    and DequantizeLinear operators between the layers state them, and ONNX Runtime and OpenVINO fuse these into operators on integers.

    Args:
        source: the ONNX file of a network of float32.
        images: batches of (n, C, H, W) float32 images prepared for the network, which represent those of the later use.
        name: the name of the network's input.
        path: the file to write.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = path.with_suffix(".prepared.onnx")
    quant_pre_process(source, prepared, skip_symbolic_shape=True)
    quantize_static(
        prepared,
        path,
        _Images(images, name),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        reduce_range=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
