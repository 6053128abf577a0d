"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import cyclopts
from cyclopts import Group, Parameter, Token

import trickzoo as package
from trickzoo.addresses import check_local
from trickzoo.data.layouts import FOLDERS_IN_WORDS, HUB_IN_WORDS, YEARS_IN_WORDS
from trickzoo.data.selection import Selection
from trickzoo.errors import BadOption, NoEffect
from trickzoo.files import expanded
from trickzoo.recipes.ranges import Count, CountOrZero, Range
from trickzoo.training.device import Device as _Device
from trickzoo.training.machine import Tracker


def _exact(hint: Any, tokens: Sequence[Token]) -> Any:
    """Convert the words of an option as cyclopts does, with three differences.

    A number of another kind, such as 1.5, is not a whole number. A leading ~/ is the user's home folder, which shells do not replace in
    --out=~/runs. An empty text, as an unset variable of a script gives it, and a URL are refused: a path of them would be another one.
    """
    kinds = (hint, *get_args(hint))
    if Path in kinds or str in kinds:
        if any(not token.value.strip() for token in tokens):
            raise ValueError("the text is empty; write a value, or leave it out")
        tokens = [token.evolve(value=_local(token.value)) for token in tokens]
    if int in kinds:
        for token in tokens:
            if "." in token.value:
                raise ValueError(f'"{token.value}" is not a whole number')
    return cyclopts.convert(hint, tokens)


def _local(text: str) -> str:
    """Return a text with a leading ~/ replaced by the user's home folder. Raises BadOption for a URL."""
    check_local(text)
    return str(expanded(text)) if text.startswith("~/") else text


SETTINGS: dict[str, Any] = {
    "version": package.__version__,
    "version_flags": ("--version", "-V"),
    "help_format": "plaintext",
    "default_parameter": Parameter(converter=_exact),
}
"""Settings of every program."""
Flag = Parameter(negative="")


def within(kind: Any) -> Parameter:
    """Return the part of an option that refuses numbers outside of the range of a type, such as `ranges.Count`, or of a `Range`."""
    (allowed,) = (part for part in (kind, *get_args(kind)) if isinstance(part, Range))

    def check(_: Any, number: float | None) -> None:
        if number is not None and (fault := allowed.fault(number)):
            raise ValueError(fault)

    return Parameter(validator=check)


MACHINE = Group("This machine", sort_key=50)

Annotations = Annotated[Path | None, Parameter(help="With coco or own: a JSON file in COCO's format, in place of --data.")]
Backend = Annotated[
    Literal["eager", "auto", "onnxruntime", "openvino"],
    Parameter(help="Engine that runs a classifier or a segmenter on a CPU; auto takes the fastest that is installed. See trickzoo.deploy."),
]
Cache = Annotated[Path | None, Parameter(help="Folder of decoded images; by default resident/ in TRICKZOO_HOME.")]
Classes = Annotated[str | None, Parameter(help="Class names, if the weights have none: imagenet1k, imagenette or a text file.")]
ClassesOrFolders = Annotated[
    str | None, Parameter(help="Class names, for weights that have none: imagenet1k, imagenette, folders or a text file.")
]
Decode = Annotated[
    Literal["once", "always"], Parameter(help="once: keep decoded images in a memory-map; always: decode the files in every epoch.")
]
Device = Annotated[_Device, Parameter(help="auto uses an accelerator if there is one, otherwise the CPU.")]
DryRun = Annotated[bool, Flag, Parameter(help="Take three steps, print the expected time and memory, compare precisions, and stop.")]
GroupBy = Annotated[
    str | None,
    Parameter(
        help="With --val-fraction: a regular expression, such as 'patient[0-9]+'. Images in whose paths it matches the same text are "
        "never separated."
    ),
]
Json = Annotated[bool, Flag, Parameter(help="Print the result as JSON.")]
Overwrite = Annotated[bool, Flag, Parameter(help="Replace the file if it exists.")]
OwnImages = Annotated[
    str,
    Parameter(
        help=f"Class folders, in train/ and val/ or with --val-fraction, a CSV of path and label, {FOLDERS_IN_WORDS}, or {HUB_IN_WORDS}."
    ),
]
Pictures = Annotated[
    int, within(CountOrZero), Parameter(help="With --report: how many pictures of each kind it shows. The images' licence applies to them.")
]
PicturesOfTraining = Annotated[
    int,
    within(CountOrZero),
    Parameter(
        name="--pictures",
        help="Number of validation images with wrong and with uncertain predictions in the report; 0 for none. Their licence applies.",
    ),
]
Precision = Annotated[Literal["fp32", "bf16", "fp16"], Parameter(help="Precision of the network's arithmetic.")]
PrintRecipe = Annotated[bool, Flag, Parameter(help="Print the recipe as JSON, and stop.")]
Quiet = Annotated[bool, Flag, Parameter(name=("--quiet", "-q"), help="Print nothing but warnings and errors.")]
Report = Annotated[Path | None, Parameter(help="Write a report with tables and plots to this HTML file.")]
SplitFile = Annotated[
    Path | None, Parameter(help="List that divides the images, such as the split.csv of a training run with --val-fraction.")
]
TableFolder = Annotated[Path | None, Parameter(name="--images", help="With a CSV: the folder of its images, by default its own.")]
TrainingFolder = Annotated[
    Path | None, Parameter(name="--out", help="Folder for checkpoints, metrics and weights; by default runs/TASK-MODEL-DATA-RECIPE-SEED.")
]
ValYear = Annotated[str | None, Parameter(help="Year of the validation images, if it differs.")]
Workers = Annotated[int | None, within(CountOrZero), Parameter(help="Number of worker processes; by default one per core, at most 32.")]
Year = Annotated[str | None, Parameter(help=f"Year of {YEARS_IN_WORDS}, if the folder has several.")]

MOST_CALIBRATION = 256
"""Largest number of images on which 8-bit integers are calibrated."""


def check_calibration(precision: str | None, calibration: Path | None) -> None:
    """Raise BadOption if `--precision int8` and `--calibration` are not given together."""
    if (precision == "int8") != (calibration is not None):
        raise BadOption("--precision int8 and --calibration FOLDER belong together; name both or neither")


def calibration_images(folder: Path | None) -> list[Path] | None:
    """Return images in a folder for the calibration, spread evenly over all of them, or None without a folder."""
    from trickzoo.data.listing import images_at

    if folder is None:
        return None
    found = images_at(folder)
    return found[:: -(-len(found) // MOST_CALIBRATION)]


def check_printing(*, json: bool, quiet: bool) -> None:
    """Raise BadOption if `--json` and `--quiet` are both given."""
    if json and quiet:
        raise BadOption("--json prints the result, and --quiet prints nothing; leave one of them out")


def check_pictures(pictures: int, report: Path | None) -> None:
    """Raise BadOption for pictures without a report."""
    if pictures and report is None:
        raise BadOption("--pictures is for the page that --report writes; name it too")


def number_or_folder(images: str | None, *, generated: bool) -> tuple[int | None, Path | None]:
    """Return the value of `--images` as a number if the images are generated, and otherwise as a folder.

    Raises BadOption for a number that is none.
    """
    if images is None or not generated:
        return None, Path(images) if images else None
    try:
        return int(images), None
    except ValueError:
        raise BadOption(f'--images is the number of generated images, not "{images}"') from None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class PrintingOptions:
    """What an evaluation prints."""

    json: Json = False
    quiet: Quiet = False

    def __post_init__(self) -> None:
        check_printing(json=self.json, quiet=self.quiet)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SelectionOptions:
    """Which images are for training, which for validation, and which are left out."""

    val_fraction: Annotated[
        float | None,
        Parameter(
            help="If the images have no splits: take this fraction of each class for validation. Training lists them in OUT/split.csv."
        ),
    ] = None
    split_seed: Annotated[int, Parameter(help="With --val-fraction: selects another split.")] = 0
    group_by: GroupBy = None
    split_file: Annotated[Path | None, Parameter(help="Divide the images as this list says, such as a training run's split.csv.")] = None
    skip_corrupt: Annotated[
        bool, Flag, Parameter(help="Leave out and count images that cannot be read. Every image is decoded once before the start.")
    ] = False

    @property
    def selection(self) -> Selection:
        """The options as the data layer takes them. Raises BadOption for options that exclude each other."""
        return Selection(**asdict(self))


@Parameter(name="*", group=MACHINE)
@dataclass(frozen=True, kw_only=True)
class MachineOptions:
    """The use of this machine by any training run."""

    micro_batch: Annotated[
        int | None, Parameter(help="Images per forward pass on each process; gradients are accumulated over the batch.")
    ] = None
    workers: Workers = None
    save_every: Annotated[int, Parameter(help="Steps between checkpoints within an epoch; 0 saves only at the end of each epoch.")] = 0
    device: Device = "auto"
    quiet: Quiet = False

    @property
    def machine_settings(self) -> dict[str, Any]:
        """The options of each training run, as keyword arguments of `training.machine.Machine`."""
        return {name: value for name, value in asdict(self).items() if name not in ("quiet", "jobs")}


@Parameter(name="*", group=MACHINE)
@dataclass(frozen=True, kw_only=True)
class StudyOptions(MachineOptions):
    """The use of this machine by the training runs of a study."""

    jobs: Annotated[
        int,
        within(Count),
        Parameter(help="Training runs at once, each in a process of its own; they share the cores, or the GPU. Not under torchrun."),
    ] = 1


@Parameter(name="*", group=MACHINE)
@dataclass(frozen=True, kw_only=True)
class TrainingOptions(MachineOptions):
    """The use of this machine by a single training run, and what it records."""

    evaluate_every: Annotated[int, Parameter(help="Epochs between evaluations; the last epoch is always evaluated.")] = 1
    tensorboard: Annotated[bool, Flag, Parameter(help="The same as --tracker tensorboard.")] = False
    tracker: Annotated[
        Tracker | None,
        Parameter(
            help="Also send the curves to this tracker. tensorboard writes files to OUT/tensorboard. Resuming continues the same run."
        ),
    ] = None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class PlanningOptions:
    """Options that list the training runs of a study, or plan the number of its seeds, and train nothing."""

    dry_run: Annotated[bool, Flag, Parameter(help="List the training runs without starting them.")] = False
    plan: Annotated[
        bool,
        Flag,
        Parameter(help="Estimate from the finished seeds which differences more seeds would detect, and in what time; train nothing."),
    ] = False
    plan_sd: Annotated[
        float | None,
        within(Range("above 0 and at most 100 points", lambda sd: 0 < sd <= 100)),
        Parameter(help="With --plan: assumed standard deviation of the differences over seeds, in points."),
    ] = None
    json: Annotated[bool, Flag, Parameter(help="With --dry-run or --plan: print JSON.")] = False

    def __post_init__(self) -> None:
        if self.plan_sd is not None and not self.plan:
            raise BadOption("--plan-sd is for --plan; add --plan, or leave it out")
        if self.json and not (self.dry_run or self.plan):
            raise NoEffect("--json", "it belongs to --dry-run or --plan")
