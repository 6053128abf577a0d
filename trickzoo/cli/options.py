"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

Flag = Parameter(negative="")

Cache = Annotated[Path | None, Parameter(help="Folder of decoded images; by default resident/ in TRICKZOO_HOME.")]
Decode = Annotated[
    Literal["once", "always"], Parameter(help="once keeps decoded images in a memory-map, always reads the files each time.")
]
Device = Annotated[Literal["auto", "cpu"], Parameter(help="cpu leaves an accelerator unused.")]
DryRun = Annotated[bool, Flag, Parameter(help="Build everything, take three steps, say what the training will take, and stop.")]
EvaluateEvery = Annotated[int, Parameter(help="Epochs between evaluations; the last one always has one.")]
MicroBatch = Annotated[int | None, Parameter(help="Images a process takes at once; the rest of the batch is accumulated.")]
Precision = Annotated[Literal["fp32", "bf16", "fp16"], Parameter(help="Arithmetic of the network.")]
PrintRecipe = Annotated[bool, Flag, Parameter(help="Print the recipe as JSON, and stop.")]
SaveEvery = Annotated[int, Parameter(help="Steps between checkpoints, beside the one at each epoch's end.")]
TensorBoard = Annotated[bool, Flag, Parameter(help="Write curves for TensorBoard to OUT/tensorboard too.")]
Workers = Annotated[int | None, Parameter(help="Decoding processes; by default one a core, 8 at most.")]
