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

    The weights have a scale for each output channel, and the zero point 0. Each map has one scale and one zero point, so that its smallest
    and its largest value on the images are the ends of the range. QuantizeLinear and DequantizeLinear operators between the layers state
    them, and ONNX Runtime and OpenVINO fuse these into operators on integers.

    Weights take 7 of the 8 bits, because processors without VNNI instructions add two products in 16 bits, and with 8 bits these sums
    would overflow and change predictions without a word. Those of depthwise convolutions take 8 bits, because both engines add their
    products in 32 bits.

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
    eight_bits = {"quant_type": QuantType.QInt8, "axis": 0, "symmetric": True, "reduce_range": False}
    quantize_static(
        prepared,
        path,
        _Images(images, name),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        reduce_range=True,
        extra_options={"TensorQuantOverrides": {weight: [eight_bits] for weight in _depthwise_weights(prepared)}},
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )


def _depthwise_weights(path: Path) -> Iterator[str]:
    """Yield the names of the weights of the depthwise convolutions in an ONNX file."""
    import onnx

    graph = onnx.load(path).graph
    of_one_channel = {tensor.name for tensor in graph.initializer if len(tensor.dims) == 4 and tensor.dims[1] == 1}
    for node in graph.node:
        grouped = any(attribute.name == "group" and attribute.i > 1 for attribute in node.attribute)
        if node.op_type == "Conv" and grouped and node.input[1] in of_one_channel:
            yield node.input[1]
