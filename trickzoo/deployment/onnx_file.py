"""Writes ONNX files. No other module of trickzoo does."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trickzoo.deployment.extras import require
from trickzoo.deployment.torch_file import program_of
from trickzoo.files import write_atomically

OPSET = 18
"""Version of ONNX's operators in the files. ONNX Runtime has it since 1.14, and newer operators are not needed."""


def to_onnx(
    module: nn.Module,
    example: tuple[Tensor, ...],
    path: Path,
    *,
    inputs: Sequence[str],
    outputs: Sequence[str],
    dynamic: Sequence[Mapping[int, str]],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a network in evaluation mode to an ONNX file, with its BatchNorms folded into the convolutions before them.

    Args:
        module: the network. It takes and returns tensors.
        example: one input of each kind. A dynamic axis of it must be longer than 1.
        path: the file.
        inputs: names of the inputs.
        outputs: names of the outputs.
        dynamic: for each input the axes that may have any length, by the names of these lengths: `[{0: "batch"}]`. Axes with the same name
            must have the same length. All other axes keep the length in `example`.
        metadata: texts that are stored in the file by keys.

    Raises BadOption if the packages onnx or onnxscript are missing, and NotWritten if the file cannot be written.
    """
    require(path, "onnx", "onnx", "onnxscript")
    import onnx

    program = program_of(module, example, dynamic)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter's dependencies warn about themselves
        exported = torch.onnx.export(
            program, input_names=list(inputs), output_names=list(outputs), opset_version=OPSET, optimize=True, verbose=False
        )
    assert exported is not None
    model = exported.model_proto
    _name_lengths(model.graph, dynamic)
    _pad_pools(model.graph)
    _forget_sources(model)
    onnx.helper.set_model_props(model, dict(metadata or {}))
    onnx.checker.check_model(model)
    write_atomically(path, model.SerializeToString())


def join(first: bytes, second: bytes, path: Path, *, metadata: Mapping[str, str]) -> None:
    """Write an ONNX file in which the output of one network is the input of another.

    Args:
        first: the content of an ONNX file with one output. Its inputs are those of the result.
        second: the content of an ONNX file with one input. Its outputs are those of the result.
        path: the file.
        metadata: texts that are stored in the file by keys.

    Raises NotWritten if the file cannot be written.
    """
    import onnx

    before = onnx.load_model_from_string(first)
    after = onnx.compose.add_prefix(onnx.load_model_from_string(second), "network.", rename_outputs=False)
    before.ir_version = after.ir_version
    model = onnx.compose.merge_models(before, after, io_map=[(before.graph.output[0].name, after.graph.input[0].name)])
    _forget_sources(model)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model)
    write_atomically(path, model.SerializeToString())


def _name_lengths(graph: Any, dynamic: Sequence[Mapping[int, str]]) -> None:
    """Give the dynamic axes of a graph's inputs and outputs the names in `dynamic`, in place of torch's symbols."""
    names = {
        value.type.tensor_type.shape.dim[axis].dim_param: name
        for value, axes in zip(graph.input, dynamic, strict=True)
        for axis, name in axes.items()
    }
    for value in (*graph.input, *graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = names.get(dim.dim_param, dim.dim_param)


def _pad_pools(graph: Any) -> None:
    """Pad average poolings that round their shape up, in place, so that rounding it down gives the same shape and the same means.

    OpenVINO refuses a map that is smaller than the kernel of a pooling, unless it is padded. In a network it then returns the result of the
    call before, without an error. The padding is left out of the means.
    """
    import onnx

    for node in graph.node:
        if node.op_type != "AveragePool":
            continue
        values = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        kernel = values["kernel_shape"]
        if not values.get("ceil_mode") or values.get("count_include_pad") or any(values.get("pads", ())) or values["strides"] != kernel:
            continue
        values |= {"ceil_mode": 0, "pads": [0] * len(kernel) + [side - 1 for side in kernel]}
        del node.attribute[:]
        node.attribute.extend(onnx.helper.make_attribute(name, value) for name, value in values.items())


def _forget_sources(model: Any) -> None:
    """Remove, in place, what torch notes about the origin of each node: the lines of Python with the paths of this machine."""
    graph = model.graph
    del graph.value_info[:]  # the shapes of intermediate values, which contain torch's symbols
    for part in (model, graph, *model.functions, *graph.node, *graph.initializer, *graph.input, *graph.output):
        del part.metadata_props[:]
