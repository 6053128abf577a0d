"""Writes archives of torch.export."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from trickzoo.files import write_atomically

SHORTEST = 75
"""The shortest sides in pixels of float images whose height and width are dynamic: below, Inception V3 has no output."""


def program_of(module: nn.Module, example: tuple[Tensor, ...], dynamic: Sequence[Mapping[int, str]]) -> ExportedProgram:
    """Return a network in evaluation mode as a graph of torch.export, without the lines of Python that it comes from.

    Args:
        module: the network. It takes and returns tensors.
        example: one input of each kind. A dynamic axis of it must be longer than 1.
        dynamic: for each input the axes that may have any length, by the names of these lengths: `[{0: "batch"}]`. Axes with the same name
            must have the same length. All other axes keep the length in `example`.
    """
    named = [
        (axis >= 2 and tensor.is_floating_point(), name)
        for tensor, axes in zip(example, dynamic, strict=True)
        for axis, name in axes.items()
    ]
    lengths = {name: Dim(name, min=SHORTEST if side else None) for side, name in named}
    shapes = tuple({axis: lengths[name] for axis, name in axes.items()} for axes in dynamic)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch warns about its own code
        # Poolings with ceil_mode, as in ResNet-D, guard against lengths at which the last cell is dropped.
        program = torch.export.export(
            module, example, dynamic_shapes=shapes, strict=False, prefer_deferred_runtime_asserts_over_guards=True
        )
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it has the paths of this machine
    return program


def to_torch(
    module: nn.Module, example: tuple[Tensor, ...], path: Path, *, dynamic: Sequence[Mapping[int, str]], metadata: Mapping[str, str]
) -> None:
    """Write a network in evaluation mode to an archive for `torch.export.load`.

    The arguments are those of `program_of`; `metadata` are texts that are stored in the archive by keys, as `extra_files`.
    Raises NotWritten if the file cannot be written.
    """
    archive, program = io.BytesIO(), program_of(module, example, dynamic)
    _forget_assertions(program)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns about its own code
        torch.export.save(program, archive, extra_files=dict(metadata))
    write_atomically(path, archive.getvalue())


def _forget_assertions(program: ExportedProgram) -> None:
    """Remove, in place, the assertions on lengths that only the data tell.

    Torch assumes that such a length is 2 or more. A detector may find one box, or none, on a level, and computes the right result then.
    """
    for node in program.graph.nodes:
        if node.target is torch.ops.aten._assert_scalar.default:
            program.graph.erase_node(node)
    program.graph.eliminate_dead_code()
    program.graph_module.recompile()
