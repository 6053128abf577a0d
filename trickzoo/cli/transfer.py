"""`trickzoo transfer`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from dataclasses import fields as fields_of
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from trickzoo.cli import options
from trickzoo.cli import running as cli
from trickzoo.cli.fields import TransferFields
from trickzoo.cli.options import Flag
from trickzoo.cli.printing import hush, say, say_json, table
from trickzoo.data.layouts import find_layout, find_reader, of_task
from trickzoo.data.location import AnnotatedLocation
from trickzoo.data.selection import Selection
from trickzoo.errors import BadOption
from trickzoo.recipes.collection import find_fine_tuning, override
from trickzoo.recipes.fields import check_effect, suggestion
from trickzoo.recipes.finetune import RECIPE_CLASSES, DetectionRecipe, SegmentationRecipe
from trickzoo.studies import transfer as study
from trickzoo.studies.results import SCRATCH
from trickzoo.studies.series import State, seeds_from, state
from trickzoo.training.machine import Machine
from trickzoo.wording import count, separated

Recipe = DetectionRecipe | SegmentationRecipe

SPLITS = ("train", "val", "year", "val_year")
"""Options that a task may have of its own, such as --detection-train. The option without a prefix is the default for both tasks."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Detection:
    """Images with boxes, and the recipe that trains the detectors."""

    layout: Annotated[
        str | None,
        Parameter(name="--detection", help=f"How the images with boxes are annotated: {', '.join(of_task('detection'))}."),
    ] = None
    data: Annotated[Path | None, Parameter(name="--detection-data", help="Folder of the images with boxes.")] = None
    recipe: Annotated[
        str | None, Parameter(name="--detection-recipe", help="Recipe of the detectors, as for trickzoo finetune --recipe.")
    ] = None
    train: Annotated[str | None, Parameter(name="--detection-train", help="Split to train detectors on.")] = None
    val: Annotated[str | None, Parameter(name="--detection-val", help="Split to validate detectors on.")] = None
    year: Annotated[str | None, Parameter(name="--detection-year", help="Year of the images with boxes.")] = None
    val_year: Annotated[
        str | None, Parameter(name="--detection-val-year", help="Year of the validation images with boxes, if it differs.")
    ] = None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Segmentation:
    """Images with masks, and the recipe that trains the segmenters."""

    layout: Annotated[
        str | None,
        Parameter(name="--segmentation", help=f"How the images with masks are annotated: {', '.join(of_task('segmentation'))}."),
    ] = None
    data: Annotated[Path | None, Parameter(name="--segmentation-data", help="Folder of the images with masks.")] = None
    recipe: Annotated[
        str | None, Parameter(name="--segmentation-recipe", help="Recipe of the segmenters, as for trickzoo finetune --recipe.")
    ] = None
    train: Annotated[str | None, Parameter(name="--segmentation-train", help="Split to train segmenters on.")] = None
    val: Annotated[str | None, Parameter(name="--segmentation-val", help="Split to validate segmenters on.")] = None
    year: Annotated[str | None, Parameter(name="--segmentation-year", help="Year of the images with masks.")] = None
    val_year: Annotated[
        str | None, Parameter(name="--segmentation-val-year", help="Year of the validation images with masks, if it differs.")
    ] = None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Both:
    """The images of both tasks, for all that a task does not state itself."""

    data: Annotated[Path | None, Parameter(help="Folder of the images, if both tasks use the same one.")] = None
    year: options.Year = None
    val_year: options.ValYear = None
    train: Annotated[str, Parameter(help="Split to train on, for a task whose own option names none.")] = "train"
    val: Annotated[str, Parameter(help="Split to validate on, for a task whose own option names none.")] = "val"
    images: Annotated[
        int | None,
        Parameter(help="With shapes: number of training images, 1,000 by default; a fifth as many are generated for validation."),
    ] = None


def transfer(
    *,
    checkpoints: Annotated[Path, Parameter(help="Folder of a finished `trickzoo ladder`, with its training runs.")],
    detection: Detection = Detection(),
    segmentation: Segmentation = Segmentation(),
    both: Both = Both(),
    seeds: Annotated[int, Parameter(help="Number of training runs per rung. Seed s starts from the ladder's backbone of seed s.")] = 3,
    first_seed: Annotated[int, Parameter(help="The first of these seeds; the others follow it.")] = 0,
    rungs: Annotated[str | None, Parameter(help="Run only these rungs, such as baseline,cosine,mixup.")] = None,
    scratch: Annotated[bool, Flag, Parameter(help="Also train from random weights, to show the gain from pretraining.")] = False,
    out: Annotated[Path | None, Parameter(help="Folder of the study; by default CHECKPOINTS/transfer.")] = None,
    selecting: options.SelectionOptions = options.SelectionOptions(),
    running: options.StudyOptions = options.StudyOptions(),
    pictures: Annotated[
        int,
        Parameter(help="Validation images of each task that are drawn into the report, which then contains them; 0 for none."),
    ] = 3,
    planning: options.PlanningOptions = options.PlanningOptions(),
    report_only: Annotated[
        bool, Flag, Parameter(help="Write the tables, plots and report of the finished runs, and train nothing.")
    ] = False,
    fields: TransferFields = TransferFields(),
    **of_one_task: Annotated[str, Parameter(show=False, help="Fields of the recipe of one task.")],
) -> None:
    """Fine-tune the backbone of every rung of a ladder study as a detector and as a segmenter: does the gain transfer?

    Everything but the backbone's weights is the same for all rungs. Run the same command again to resume a study that was stopped.
    A field of the recipe can be set for one task only, as in --detection-epochs 10 and --segmentation-lr 0.01.
    OUT/report.html contains the ladder and the results of fine-tuning.
    """
    wanted = separated(rungs or "")
    folder = out or checkpoints / "transfer"
    if planning.plan:
        _plan(checkpoints, folder, seeds_from(first_seed, seeds), wanted, planning.plan_sd, json=planning.json)
        return
    changes = {name.replace("-", "_"): text for name, text in (fields.given | of_one_task).items()}
    branches = _branches({"detection": detection, "segmentation": segmentation}, both, selecting.selection, changes)
    plan = study.plan(checkpoints, branches, seeds=seeds, first_seed=first_seed, rungs=wanted, scratch=scratch, report_only=report_only)
    if planning.dry_run:
        for branch in plan.branches:
            branch.location.check_divisible(branch.recipe.task)
        _list(plan, folder, json=planning.json)
        return
    hush(running.quiet)
    machine = Machine(out=folder, **running.machine_settings)
    for branch in plan.branches if not report_only else ():
        branch.location.check_exists(branch.recipe.task)
    with cli.study(running.device) as shown:
        if not report_only:
            tasks = " and ".join(branch.recipe.task for branch in plan.branches)
            shown.tell(f"{count(len(plan.trunks), 'backbone')} of {plan.ladder.title}, {tasks}, in {folder}")
            study.run(plan, machine, each=shown.each, tell=shown.tell, jobs=running.jobs)
        if shown.chief:
            _report(plan, folder, pictures, required=report_only)


def _list(plan: study.Plan, out: Path, *, json: bool) -> None:
    """Print the fine-tunings of a study and the state of each."""
    seeds = list(dict.fromkeys(trunk.seed for trunk in plan.trunks))
    states: dict[tuple[str, str], list[State]] = {}
    for branch, trunk in plan.runs:
        states.setdefault((branch.recipe.task, trunk.rung), []).append(state(study.folder(out, branch, trunk)))
    left = sum(each != "done" for row in states.values() for each in row)
    if json:
        rows = [{"task": task, "rung": rung, "states": dict(zip(seeds, row, strict=True))} for (task, rung), row in states.items()]
        say_json({"out": str(out), "left": left, "trainings": rows})
        return
    titles = ("task", "rung", *(f"seed {seed}" for seed in seeds))
    table(titles, [(*key, *row) for key, row in states.items()], left=titles)
    epochs = " and ".join(f"{count(branch.recipe.epochs, 'epoch')} of {branch.recipe.task}" for branch in plan.branches)
    say(f"left to do in {out}: {count(left, 'training run')}, {epochs}")


def _branches(
    tasks: Mapping[str, Detection | Segmentation], both: Both, selection: Selection, changes: dict[str, str]
) -> tuple[study.Branch, ...]:
    """Return the recipe and the images of each task that is asked for. Raises BadOption for options that contradict each other."""
    layouts = [given.layout for given in tasks.values() if given.layout]
    branches = []
    for task, given in tasks.items():
        if given.layout is None:
            _check_unused(task, given, changes)
            continue
        default = find_reader(given.layout, task).recipe
        location = _location(task, given, both, selection, layouts)
        recipe = find_fine_tuning(given.recipe or default, RECIPE_CLASSES[task])
        changed = override(recipe, {"data": given.layout, **_changes_of(recipe, changes)})
        branches.append(study.Branch(changed, location))
    _check_fields(branches, changes)
    return tuple(branches)


def _location(task: str, given: Detection | Segmentation, both: Both, selection: Selection, layouts: Sequence[str]) -> AnnotatedLocation:
    """Return where the images of a task lie. `layouts` are those of all tasks asked for.

    A year for both tasks applies to the layouts that have years, a number of images for both to the generated ones, and a selection to
    those that are not generated, if there are any.
    """
    assert given.layout is not None
    layout, folder = find_layout(given.layout), given.data or both.data
    if folder is None and not layout.generated:
        raise BadOption(f"name the folder of images with --{task}-data or --data")
    if folder is not None and layout.generated:
        raise BadOption(f"{given.layout} are generated; leave the folder out")
    default = asdict(both)
    if not layout.years and any(find_layout(each).years for each in layouts):
        default |= {"year": None, "val_year": None}
    if not layout.generated and any(find_layout(each).generated for each in layouts):
        default["images"] = None
    if layout.generated and not all(find_layout(each).generated for each in layouts):
        selection = Selection()
    own = {name: value for name in SPLITS if (value := getattr(given, name)) is not None}
    named = {name: default[name] for name in (*SPLITS, "images")} | own
    return AnnotatedLocation(given.layout, folder or Path(), selection=selection, **named)


def _check_unused(task: str, given: Detection | Segmentation, changes: Mapping[str, str]) -> None:
    """Raise BadOption for an option of a task that is not asked for: it would have no effect."""
    options_given = [name for name, value in asdict(given).items() if value is not None]
    for name in (*options_given, *(name.removeprefix(f"{task}_") for name in changes if name.startswith(f"{task}_"))):
        raise BadOption(f"--{task}-{_option(name)} is for {task}, which this study does not include; add --{task}, or leave it out")


def _changes_of(recipe: Recipe, changes: Mapping[str, str]) -> dict[str, str]:
    """Return the changes to fields of this recipe: those with its task's name, such as "detection_epochs", replace those without."""
    names = {field.name for field in fields_of(recipe)}
    both = {name: text for name, text in changes.items() if name in names}
    return both | {name: changes[f"{recipe.task}_{name}"] for name in names if f"{recipe.task}_{name}" in changes}


def _check_fields(branches: list[study.Branch], changes: Mapping[str, str]) -> None:
    """Raise BadOption for a change to a field that no recipe has, or that the study sets itself, and NoEffect for one that all ignore."""
    known = {f"{prefix}{f.name}": f.name for b in branches for f in fields_of(b.recipe) for prefix in ("", f"{b.recipe.task}_")}
    for name in changes:
        field = known.get(name)
        if branches and field is None:
            near = suggestion(name, [*known, *(f"{branch.recipe.task}_{split}" for branch in branches for split in SPLITS)])
            raise BadOption(f'a recipe has no field "{_option(name)}"{near}')
        if field in ("name", "model", "weights", "data"):
            raise BadOption(f"the study sets {field} itself; leave --{_option(name)} out")
        if field is not None:
            theirs = [b.recipe for b in branches if name in (field, f"{b.recipe.task}_{field}") and hasattr(b.recipe, field)]
            check_effect([field], *theirs, prefix=_option(name.removesuffix(field)))


def _option(name: str) -> str:
    return name.replace("_", "-")


def _report(plan: study.Plan, out: Path, pictures: int, *, required: bool) -> None:
    """Print a summary of the study, and write its tables, plots and report."""
    from trickzoo.studies import report, transfer_summary, transfer_words

    asked: transfer_summary.Results = {branch.recipe.task: {} for branch in plan.branches}
    results = {**asked, **transfer_summary.read(out, plan.ladder)}
    seeds, rungs = (list(dict.fromkeys(getattr(trunk, of) for trunk in plan.trunks)) for of in ("seed", "rung"))
    scratch = SCRATCH in rungs
    rungs = [rung for rung in rungs if rung != SCRATCH]
    found = transfer_summary.summarise(plan.ladder, results, seeds=seeds, rungs=rungs, scratch=scratch)

    def write() -> Path:
        return report.write_transfer(found, plan.ladder, out, study.examples(plan, out, pictures))

    said = (*transfer_words.answers(found), *transfer_words.totals(found))
    cli.report(said, out, write, required=required, trainings=[study.folder(out, *run) for run in plan.runs])


def _plan(checkpoints: Path, out: Path, seeds: tuple[int, ...], rungs: tuple[str, ...], guess: float | None, *, json: bool) -> None:
    """Print what more seeds would detect: in each task with finished fine-tunings, or in any task if there are none."""
    from trickzoo.cli.planning import print_outlooks
    from trickzoo.studies import outlook, transfer_summary

    ladder = study.read_ladder(checkpoints, rungs)
    known = [rung.rung for rung in ladder.rungs]
    results = transfer_summary.read(out, ladder)
    named = [out / task / f"{rung}-{seed}" for task in results for rung in (*(rungs or known), SCRATCH) for seed in seeds]
    cli.warn_of_others(out, named, "plan")
    tasks = transfer_summary.summarise(ladder, results, seeds=seeds, rungs=rungs).tasks if results else ()
    found = [each for task in tasks if (each := outlook.of_task(task, guess))]
    if not results and (any_task := outlook.of_guess(len(rungs or known), guess)):
        found = [any_task]
    print_outlooks(found, out, json=json)
