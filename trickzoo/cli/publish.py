"""The command `trickzoo publish`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from trickzoo.cli.options import Flag
from trickzoo.cli.printing import say
from trickzoo.weights.named import existing


def publish(
    file: Path,
    /,
    *,
    repo: Annotated[str, Parameter(help="Repository of the hub, OWNER/NAME. It is created if it does not exist.")],
    licence: Annotated[str, Parameter(help="SPDX identifier of the licence of the weights, such as apache-2.0.")],
    evaluation: Annotated[
        tuple[Path, ...], Parameter(help="Result file of an evaluation of FILE, written with --out; repeat for several.", negative="")
    ] = (),
    dataset: Annotated[
        str | None, Parameter(help="The evaluation's data set on the hub, OWNER/NAME; by default that of FILE's class list.")
    ] = None,
    task_id: Annotated[
        str | None,
        Parameter(help="Task in the eval.yaml of the data set, if it is a benchmark of the hub, whose leaderboard gets the metric."),
    ] = None,
    private: Annotated[bool, Flag, Parameter(help="Create the repository as a private one.")] = False,
    folder: Annotated[Path | None, Parameter(help="Write the files of the repository to this new folder, and publish nothing.")] = None,
) -> None:
    """Publish FILE, a weight file that trickzoo wrote, as a repository of the Hugging Face Hub.

    The repository gets the weights, a card, a config.json with a record of the weights, and the results of evaluations. If timm has a
    classifier's network, `timm.create_model("hf-hub:OWNER/NAME")` loads it. Trickzoo reads every repository with
    `weights="hf-hub:OWNER/NAME"`. The repository changes in one commit: if anything fails, it does not change.
    """
    file = existing(file)
    from trickzoo import publication  # only now, because torch takes seconds to import
    from trickzoo.weights.push import push

    with tempfile.TemporaryDirectory(prefix="trickzoo-publish-") as scratch:
        place = folder or Path(scratch) / "repository"
        files = publication.prepare(file, repo, place, licence=licence, evaluations=evaluation, data=dataset, task_id=task_id)
        if folder is not None:
            for path in files:
                say(str(path))
        else:
            say(push(repo, place, files, private=private))
