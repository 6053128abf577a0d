"""The command `trickzoo export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from trickzoo.weights import named
from trickzoo.weights.record import Layout


def export(
    out: Path,
    /,
    *,
    model: Annotated[str, Parameter(help="Model, or weight of a model.")],
    weights: Annotated[str | None, Parameter(help="Tag, file or hf-hub: reference; by default the model's default weight.")] = None,
    layout: Annotated[Layout, Parameter(help="Library whose names the tensors in the file have.")] = "trickzoo",
    dtype: Annotated[
        Literal["float32", "float16", "bfloat16"] | None, Parameter(help="Data type to round the tensors to; float16 halves the file.")
    ] = None,
    overwrite: Annotated[bool, Parameter(negative="", help="Replace the file if it exists.")] = False,
) -> None:
    """Write a model's weights to OUT, a .safetensors or .pth file, with the tensor names of trickzoo, timm or torchvision."""
    named.check(model, weights)
    import torch  # only now, because it takes seconds

    from trickzoo.cli.common import loaded
    from trickzoo.cli.printing import say
    from trickzoo.weights import publish

    publish.export(loaded(model, weights), out, layout=layout, overwrite=overwrite, dtype=getattr(torch, dtype) if dtype else None)
    say(str(out))
