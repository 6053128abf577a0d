"""`trickzoo transfer`."""

from __future__ import annotations

from dataclasses import fields as fields_of
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from cyclopts import Parameter

from trickzoo.cli import options
from trickzoo.cli.options import Flag
from trickzoo.cli.printing import say
from trickzoo.data.layouts import find_layout
from trickzoo.errors import BadOption, nearest
from trickzoo.recipes.collection import find_fine_tuning, override
from trickzoo.recipes.finetune import DetectionRecipe, SegmentationRecipe
from trickzoo.studies import transfer as study

Recipe = DetectionRecipe | SegmentationRecipe

SPLITS = ("train", "val", "year", "val_year")
"""Options of both tasks that each may have its own of: --detection-train."""


def transfer(
    *,
    checkpoints: Annotated[Path, Parameter(help="Folder of a finished `trickzoo ladder`, with its trainings.")],
    detection: Annotated[Literal["coco", "voc", "shapes"] | None, Parameter(help="How the images with boxes are annotated.")] = None,
    segmentation: Annotated[
        Literal["voc", "ade20k", "lists", "shapes"] | None, Parameter(help="How the images with masks are annotated.")
    ] = None,
    data: Annotated[Path | None, Parameter(help="Folder of the images, where one serves both tasks.")] = None,
    detection_data: Annotated[Path | None, Parameter(help="Folder of the images with boxes.")] = None,
    segmentation_data: Annotated[Path | None, Parameter(help="Folder of the images with masks.")] = None,
    detection_recipe: Annotated[str | None, Parameter(help="As trickzoo-finetune's --recipe.")] = None,
    segmentation_recipe: Annotated[str | None, Parameter(help="As trickzoo-finetune's --recipe.")] = None,
    seeds: Annotated[int, Parameter(help="How many trainings for each rung; seed s starts from the ladder's seed s.")] = 3,
    rungs: Annotated[str | None, Parameter(help="Only these, such as baseline,cosine,mixup.")] = None,
    year: Annotated[
        str | None,
        Parameter(help="Of VOC (2007, 2012, 07+12) or COCO, where there are several; of one task: --detection-year."),
    ] = None,
    val_year: Annotated[str | None, Parameter(help="Of the validation images, where it is another; --detection-val-year.")] = None,
    train: Annotated[str, Parameter(help="Split to train on; of one task: --detection-train.")] = "train",
    val: Annotated[str, Parameter(help="Split to validate on; of one task: --detection-val.")] = "val",
    out: Annotated[Path | None, Parameter(help="Folder of the study; by default CHECKPOINTS/transfer.")] = None,
    running: options.Running = options.Running(),
    images: Annotated[
        int | None, Parameter(help="With shapes: how many to train on, 1000 by default; a fifth as many are evaluated on.")
    ] = None,
    pictures: Annotated[
        int, Parameter(help="Validation images of each task that are drawn into the report, which then holds them; 0 for none.")
    ] = 3,
    planning: options.Planning = options.Planning(),
    report_only: Annotated[bool, Flag, Parameter(help="Write tables, plots and report of what is finished; train nothing.")] = False,
    **fields: Annotated[str, Parameter(help="Fields of the recipes that have them: --epochs 10; of one: --detection-epochs 10.")],
) -> None:
    """Fine-tune the backbone of every rung of a ladder study as a detector and as a segmenter: does the gain transfer?

    Everything but the backbone's weights is the same for all. After a stop the same command goes on where it was.
    OUT/report.html has the ladder and what became of it.
    """
    from trickzoo.data.location import AnnotatedLocation

    wanted = tuple(filter(None, (part.strip() for part in rungs.split(",")))) if rungs else ()
    folder = out or checkpoints / "transfer"
    if planning.plan:
        _plan(checkpoints, folder, range(seeds), wanted, planning.plan_sd)
        return
    branches: list[study.Branch] = []
    changes = {name.replace("-", "_"): text for name, text in fields.items()}
    shared: dict[str, Any] = {"train": train, "val": val, "year": year, "val_year": val_year}
    with_years = [each for each in (detection, segmentation) if each and find_layout(each).years]
    for kind, layout, own_data, name in (
        (DetectionRecipe, detection, detection_data, detection_recipe),
        (SegmentationRecipe, segmentation, segmentation_data, segmentation_recipe),
    ):
        if layout is None:
            _none_of(kind.task, {f"{kind.task}_data": own_data, f"{kind.task}_recipe": name, **changes})
            continue
        place = own_data or data
        if (place is None) != (layout == "shapes"):
            raise BadOption(
                "shapes are generated; leave the folder out" if place else f"name the folder of images with --{kind.task}-data or --data"
            )
        default = find_layout(layout).readers[kind.task].recipe
        recipe = cast(Recipe, find_fine_tuning(name or default, kind))
        own = {split: changes.pop(f"{kind.task}_{split}", _shared(shared, split, layout, with_years)) for split in SPLITS}
        drawn = images if layout == "shapes" or "shapes" not in (detection, segmentation) else None  # the other task's may be
        location = AnnotatedLocation(layout, place or Path(), images=drawn, **own)
        branches.append(study.Branch(override(recipe, {"data": layout, **_own(recipe, changes)}), location))
    _all_known(branches, changes)
    plan = study.plan(checkpoints, tuple(branches), seeds=seeds, rungs=wanted)
    if not report_only:
        _run(plan, folder, running)
    from trickzoo.training.processes import processes

    state = processes(use_cpu=running.device == "cpu")
    if state.is_main_process:
        _report(plan, folder, pictures)
    if state.num_processes > 1:
        state.destroy_process_group()


def _shared(shared: dict[str, Any], split: str, layout: str, with_years: list[Any]) -> Any:
    """Return an option of both tasks for one of them: a year is only for the layouts that have years, if one of the two does."""
    return None if split in ("year", "val_year") and with_years and layout not in with_years else shared[split]


def _none_of(task: str, given: dict[str, Any]) -> None:
    """Raise BadOption for an option of a task that is not asked for: it would have no effect."""
    for name, value in given.items():
        if name.startswith(f"{task}_") and value is not None:
            raise BadOption(f"--{_option(name)} is for {task}, which is not asked for; name its images with --{task}, or leave it out")


def _own(recipe: Recipe, changes: dict[str, str]) -> dict[str, str]:
    """Of the changes, those to fields that this recipe has: "epochs" of any, "detection_epochs" of a detector's, which counts for more."""
    names = {field.name for field in fields_of(recipe)}
    both = {name: text for name, text in changes.items() if name in names}
    return both | {name: changes[f"{recipe.task}_{name}"] for name in names if f"{recipe.task}_{name}" in changes}


def _all_known(branches: list[study.Branch], changes: dict[str, str]) -> None:
    known = {f"{prefix}{f.name}": f.name for b in branches for f in fields_of(b.recipe) for prefix in ("", f"{b.recipe.task}_")}
    for name in changes:
        field = known.get(name)
        if branches and field is None:
            near = nearest(name, [*known, *(f"{branch.recipe.task}_{split}" for branch in branches for split in SPLITS)])
            raise BadOption(f'a recipe has no field "{_option(name)}"{near}')
        if field in ("name", "model", "weights", "data"):
            raise BadOption(f"the study names {field} itself; leave --{_option(name)} out")


def _option(name: str) -> str:
    return name.replace("_", "-")


def _run(plan: study.Plan, out: Path, running: options.Running) -> None:
    from trickzoo.cli.running import progress_bar
    from trickzoo.training.job import Machine
    from trickzoo.training.processes import processes

    chief = processes(use_cpu=running.device == "cpu").is_main_process

    def tell(line: str) -> None:
        if chief:
            say(line, flush=True)

    settings = Machine(out=out, **running.of_machine)
    tell(f"{len(plan.trunks)} backbones of {plan.ladder.title}, {' and '.join(b.recipe.task for b in plan.branches)}, in {out}")
    study.run(plan, settings, each=lambda title: progress_bar(chief, f"{title}: ", evaluations=False), tell=tell)


def _report(plan: study.Plan, out: Path, pictures: int) -> None:
    """Write the study's tables, plots and report, and print what was found in short: the report says all of it."""
    from trickzoo.studies import report, transfer_summary, transfer_words

    asked: transfer_summary.Results = {branch.recipe.task: {} for branch in plan.branches}
    results = {**asked, **transfer_summary.read(out, plan.ladder)}
    seeds, rungs = (list(dict.fromkeys(getattr(trunk, of) for trunk in plan.trunks)) for of in ("seed", "rung"))
    found = transfer_summary.summarise(plan.ladder, results, seeds=seeds, rungs=rungs)
    path = report.write_transfer(found, plan.ladder, out, study.examples(plan, out, pictures))
    for line in ("", *transfer_words.answers(found), *transfer_words.totals(found), "", str(path)):
        say(line)


def _plan(checkpoints: Path, out: Path, seeds: range, rungs: tuple[str, ...], guess: float | None) -> None:
    """Print what more seeds would show in each task that has finished fine-tunings, or in any."""
    from trickzoo.cli.planning import print_outlooks
    from trickzoo.studies import outlook, transfer_summary

    ladder = study.read_ladder(checkpoints, rungs)
    results = transfer_summary.read(out, ladder)
    tasks = transfer_summary.summarise(ladder, results, seeds=seeds, rungs=rungs).tasks if results else ()
    found = [each for task in tasks if (each := outlook.of_task(task, guess))]
    if not results and (any_task := outlook.of_guess(len(rungs or ladder.rungs), guess)):
        found = [any_task]
    if not found:
        raise BadOption(f"{out} holds no two finished seeds to take a spread from; name a guess in points, such as --plan-sd 2")
    print_outlooks(found)
