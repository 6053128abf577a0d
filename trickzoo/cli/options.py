"""Options that several commands have."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from trickzoo.errors import BadOption

Flag = Parameter(negative="")

Cache = Annotated[Path | None, Parameter(help="Folder of decoded images; by default resident/ in TRICKZOO_HOME.")]
Decode = Annotated[
    Literal["once", "always"], Parameter(help="once keeps decoded images in a memory-map, always reads the files each time.")
]
Device = Annotated[Literal["auto", "cpu"], Parameter(help="cpu leaves an accelerator unused.")]
DryRun = Annotated[bool, Flag, Parameter(help="Build everything, take three steps, say what the training will take, and stop.")]
Precision = Annotated[Literal["fp32", "bf16", "fp16"], Parameter(help="Arithmetic of the network.")]
PrintRecipe = Annotated[bool, Flag, Parameter(help="Print the recipe as JSON, and stop.")]
Workers = Annotated[int | None, Parameter(help="Decoding processes; by default one a core, 8 at most.")]


def check_preprocessing(size: int | None, crop: float | None) -> None:
    """Raise BadOption for a `--size` or `--crop` that no image can be prepared with."""
    if size is not None and size < 1:
        raise BadOption(f"--size must be 1 or more, not {size}")
    if crop is not None and not 0 < crop <= 1:
        raise BadOption(f"--crop must be above 0 and at most 1, not {crop:g}")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Running:
    """How any training runs on this machine."""

    micro_batch: Annotated[int | None, Parameter(help="Images a process takes at once; the rest of the batch is accumulated.")] = None
    workers: Workers = None
    save_every: Annotated[int, Parameter(help="Steps between checkpoints, beside the one at each epoch's end.")] = 0
    device: Device = "auto"

    @property
    def of_machine(self) -> dict[str, Any]:
        """As `training.run.Machine` takes it."""
        rest = asdict(self)
        return {"use_cpu": rest.pop("device") == "cpu", **rest}


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Watched(Running):
    """How one training runs, and what it tells."""

    evaluate_every: Annotated[int, Parameter(help="Epochs between evaluations; the last one always has one.")] = 1
    tensorboard: Annotated[bool, Flag, Parameter(help="Write curves for TensorBoard to OUT/tensorboard too.")] = False


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Planning:
    """How many seeds a study needs."""

    plan: Annotated[
        bool,
        Flag,
        Parameter(help="Say which differences how many seeds detect, and in what time here, by the finished seeds; train nothing."),
    ] = False
    plan_sd: Annotated[
        float | None, Parameter(help="With --plan: a guess of the differences' standard deviation over seeds, in points.")
    ] = None

    def __post_init__(self) -> None:
        if self.plan_sd is not None and not self.plan:
            raise BadOption("--plan-sd is for --plan; add --plan, or leave it out")
        if self.plan_sd is not None and not 0 < self.plan_sd <= 100:
            raise BadOption(f"--plan-sd must be above 0 and at most 100 points, not {self.plan_sd:g}")
