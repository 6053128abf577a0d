"""`trickzoo split`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from trickzoo import result_files
from trickzoo.cli.options import Flag, GroupBy
from trickzoo.cli.printing import say
from trickzoo.data.layouts import check_exists
from trickzoo.data.selection import Selection
from trickzoo.errors import BadOption
from trickzoo.files import new_folder, read_regular, write_atomically
from trickzoo.output_files import SPLIT

if TYPE_CHECKING:
    from trickzoo.data.imageset import ImageSet
    from trickzoo.data.selection import Selected


def split(
    source: Path,
    out: Path | None = None,
    /,
    *,
    val_fraction: Annotated[float, Parameter(help="Fraction of the images of each class that is for validation.")] = 0.2,
    split_seed: Annotated[int, Parameter(help="Selects another split.")] = 0,
    group_by: GroupBy = None,
    images: Annotated[Path | None, Parameter(help="If SOURCE is a CSV: the folder of its images, by default its own.")] = None,
    skip_corrupt: Annotated[bool, Flag, Parameter(help="Leave out and count files that cannot be read as images.")] = False,
) -> None:
    """Divide the images of SOURCE, class folders or a CSV of path and label, into training and validation images.

    OUT is a list (split.csv by default), for --split-file of trickzoo train and trickzoo eval, or a folder to which links to the images are
    written as train/CLASS/NAME and val/CLASS/NAME. Near duplicates are kept in the same split.
    """
    selection = Selection(val_fraction=val_fraction, split_seed=split_seed, group_by=group_by, skip_corrupt=skip_corrupt)
    place = out or Path(SPLIT)
    check_exists(source)
    if place.suffix == ".csv":
        result_files.check_outputs({"OUT": place}, (source,))
    elif place.suffix in (".txt", ".tsv", ".json"):
        raise BadOption(f"{place} ends in {place.suffix}; name a list that ends in .csv, or a new folder")
    elif source.resolve() in place.resolve().parents and source.is_dir():
        raise BadOption(f"{place} is inside {source}, whose images would then be there twice; name a folder elsewhere")
    elif place.exists():
        raise BadOption(f"{place} is there already; name a new folder, or a list that ends in .csv")
    from trickzoo.data.open import open_undivided
    from trickzoo.data.selection import select

    whole = open_undivided(source, folder=images)
    _, _, selected = select(selection, lambda: whole, lambda part: whole)
    if place.suffix == ".csv":
        if place.exists() and read_regular(place) != selected.table:
            raise BadOption(f"{place} exists already, with another split; name another list")
        write_atomically(place, selected.table)
    else:
        _link(whole, selected, place)
    for note in selected.notes:
        say(note)
    say(str(place))


def _link(whole: ImageSet, selected: Selected, place: Path) -> None:
    """Write the folder of links, complete or not at all. Raises BadOption for a class whose name cannot be the name of a folder."""
    for label in dict.fromkeys(label for _, label, _ in selected.rows):
        if Path(label).name != label or label == "..":
            raise BadOption(f'the class "{label}" cannot be the name of a folder; write a list that ends in .csv')
    with new_folder(place) as temporary:
        for name, label, part in selected.rows:
            link = temporary / part / label / name.removeprefix(f"{label}/")
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to((whole.root / name).absolute())
