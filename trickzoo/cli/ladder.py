"""The command `trickzoo ladder`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from trickzoo.cli import options
from trickzoo.cli import running as cli
from trickzoo.cli.fields import LadderFields
from trickzoo.cli.options import Flag
from trickzoo.cli.printing import hush, say, say_json, table
from trickzoo.data.location import SHAPES, ImageLocation
from trickzoo.errors import BadOption
from trickzoo.recipes.collection import check_networks
from trickzoo.recipes.fields import check_effect
from trickzoo.studies import ladder as study
from trickzoo.studies.series import state
from trickzoo.training.machine import Machine
from trickzoo.wording import count, separated


def ladder(
    *,
    set_: Annotated[
        Literal["imagenette128", "cifar10", "shapes", "easy_shapes"] | None,
        Parameter(name="--set", help="The data set; shapes and easy_shapes are generated images. Leave it out for your own images."),
    ] = None,
    data: Annotated[str | None, Parameter(help="Where the images are, as for trickzoo train.")] = None,
    model: Annotated[str, Parameter(help="The model of the last rung. For a variant such as resnet50_d, the ladder starts from resnet50.")],
    seeds: Annotated[int, Parameter(help="Number of training runs of each rung. A confidence interval needs at least two.")] = 3,
    first_seed: Annotated[int, Parameter(help="Random seed of the first training of each rung; the others follow it.")] = 0,
    rungs: Annotated[
        str | None, Parameter(help="Run only these rungs, such as baseline,cosine,mixup. Each is compared with the next lower one.")
    ] = None,
    teacher: Annotated[str | None, Parameter(help="Weight, model or file to distil from. Without it distillation is left out.")] = None,
    low_precision: Annotated[Literal["bf16", "fp16"] | None, Parameter(help="Add the low-precision rung, in this precision.")] = None,
    out: Annotated[Path | None, Parameter(help="Folder of the study, by default runs/ladder-SET-MODEL.")] = None,
    decode: options.Decode = "once",
    cache: options.Cache = None,
    selecting: options.SelectionOptions = options.SelectionOptions(),
    running: options.StudyOptions = options.StudyOptions(),
    images: Annotated[int | None, Parameter(help="With generated images: number of training images, 10,000 by default.")] = None,
    val_images: Annotated[
        int | None, Parameter(help="With generated images: number of validation images, by default a fifth as many.")
    ] = None,
    planning: options.PlanningOptions = options.PlanningOptions(),
    report_only: Annotated[bool, Flag, Parameter(help="Write tables, plots and report of the finished runs; train nothing.")] = False,
    fields: LadderFields = LadderFields(),
) -> None:
    """Train every rung of the paper's ladder with several seeds, to find out which tricks help on these images.

    The fields of the recipe are those of the baseline, and therefore of every rung that does not change them.
    The same command resumes a stopped study; with more seeds or rungs it adds to the finished runs. OUT/report.html has the findings.
    """
    name = set_ or study.OWN
    wanted = separated(rungs or "")
    optional = {"teacher": teacher, "low_precision": low_precision}
    plan = study.plan(name, model, seeds=seeds, first_seed=first_seed, rungs=wanted, changes=fields.given, **optional)
    check_effect(fields.given, *(step.recipe for step in plan.steps))
    place = out or Path("runs") / f"ladder-{name}-{plan.model}"
    if planning.dry_run:
        if data is not None:
            _location(name, data, decode, cache, images, val_images, selecting).check_divisible()
        _list(plan, place, json=planning.json)
        return
    if planning.plan:
        _plan(plan, place, planning.plan_sd, json=planning.json)
        return
    hush(running.quiet)
    location = None if report_only else _location(name, data, decode, cache, images, val_images, selecting)
    machine = Machine(out=place, **running.machine_settings)
    if location is not None:
        for step in plan.steps:
            check_networks(step.recipe)
        location.check_exists()
    with cli.study(running.device) as shown:
        if location is not None:
            shown.tell(f"{plan.model} on {name}: {count(len(plan.steps), 'rung')} × {count(seeds, 'seed')} in {place}")
            study.run(plan, location, machine, each=shown.each, tell=shown.tell, jobs=running.jobs)
        if shown.chief:
            _report(plan, place, required=report_only)


def _location(
    name: str,
    data: str | None,
    decode: Literal["once", "always"],
    cache: Path | None,
    images: int | None,
    val_images: int | None,
    selecting: options.SelectionOptions,
) -> ImageLocation:
    """Return where the images of the set `name` are. Raises BadOption for generated images with a folder, and for others without one."""
    if name in SHAPES:
        if data is not None:
            raise BadOption(f"--set {name} generates its images; leave --data out")
        data = name
    if data is None:
        raise BadOption("name the folder of images with --data")
    return ImageLocation(data=data, decode=decode, cache=cache, images=images, val_images=val_images, selection=selecting.selection)


def _report(plan: study.Plan, out: Path, *, required: bool) -> None:
    """Print a study's findings, and write its tables, plots and report."""
    from trickzoo.studies import ladder_summary, report

    found = ladder_summary.summarise(plan, out)
    trainings = [study.folder(out, *run) for run in plan.runs]
    cli.report(found.findings, out, lambda: report.write_ladder(found, out), required=required, trainings=trainings)


def _plan(plan: study.Plan, out: Path, guess: float | None, *, json: bool) -> None:
    """Print which differences more seeds would detect, and at what cost."""
    from trickzoo.cli.planning import print_outlooks
    from trickzoo.studies import ladder_summary, outlook

    cli.warn_of_others(out, (study.folder(out, *run) for run in plan.runs), "plan")
    begun = any(state(study.folder(out, *run)) == "done" for run in plan.runs)
    found = outlook.of_ladder(ladder_summary.summarise(plan, out), guess) if begun else outlook.of_guess(len(plan.steps), guess)
    print_outlooks([found] if found else [], out, json=json)


def _list(plan: study.Plan, out: Path, *, json: bool) -> None:
    """Print the training runs of a study and the state of each."""
    states = {step.rung: [state(study.folder(out, step, seed)) for seed in plan.seeds] for step in plan.steps}
    left = sum(state != "done" for each in states.values() for state in each)
    if json:
        rungs = [
            {"rung": step.rung, "base": step.base, "changes": step.changes, "states": dict(zip(plan.seeds, states[step.rung], strict=True))}
            for step in plan.steps
        ]
        say_json({"model": plan.model, "out": str(out), "epochs": plan.steps[0].recipe.epochs, "left": left, "rungs": rungs})
        return
    rows = [(step.rung, step.base or "–", study.in_words(step.changes) or step.recipe.model, *states[step.rung]) for step in plan.steps]
    titles = ("rung", "compared with", "what it changes", *(f"seed {seed}" for seed in plan.seeds))
    table(titles, rows, left=titles, wrapped=("what it changes",))
    say(f"left to do in {out}: {count(left, 'training run')} of {count(plan.steps[0].recipe.epochs, 'epoch')}")
