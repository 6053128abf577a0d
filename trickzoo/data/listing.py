"""What people write beside their images: split files, class lists, folders of images by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from trickzoo.data import images
from trickzoo.errors import BadData, nearest
from trickzoo.files import read_regular

NUMBERED = re.compile(r"(\d+)[\s:,]+(.+)")


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not blank, stripped. Raises BadData if it cannot be read or has none."""
    try:
        lines = [line.strip() for line in read_regular(path).decode("utf-8-sig").splitlines() if line.strip()]
    except OSError as error:
        raise BadData(f"{path} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise BadData(f"{path} is not a text file in UTF-8") from None
    if not lines:
        raise BadData(f"{path} is empty")
    return lines


def read_classes(path: Path) -> tuple[str, ...]:
    """Class names, one a line, with or without their number (from 0 or 1 on) before them. Raises BadData for one that occurs twice."""
    names = read_lines(path)
    numbered = [match for match in map(NUMBERED.fullmatch, names) if match]
    first = int(numbered[0][1]) if numbered else 0
    if len(numbered) == len(names):
        if [int(match[1]) for match in numbered] != list(range(first, first + len(names))) or first > 1:
            raise BadData(f"{path}: the numbers before the classes do not count up from 0 or 1")
        names = [match[2] for match in numbered]
    no_twin(names, path)
    return tuple(names)


def read_split(folder: Path, split: str) -> list[str]:
    """The names in `folder/split.txt`, one a line. Raises BadData if it is not there, is empty, or is no such list."""
    path = folder / f"{split}.txt"
    if not path.is_file():
        there = sorted(file.stem for file in folder.glob("*.txt"))
        what = f"{nearest(split, there) or '; there are ' + ', '.join(there[:8])}" if there else ", nor any other split"
        raise BadData(f'{folder} has no split "{split}"{what}')
    names = read_lines(path)
    if any(len(name.split()) > 1 for name in names):
        raise BadData(f"{path} does not have one name a line: a list of one class? Name a split such as train")
    no_twin(names, path)
    return names


def no_twin(names: Sequence[str], path: Path) -> None:
    """Raise BadData for a name that occurs twice in a list of the file `path`."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise BadData(f"{path} has {name} twice")
        seen.add(name)


def images_by_stem(folder: Path) -> dict[str, str]:
    """File name of each image directly in a folder, by its name without the suffix. Raises BadData if the folder is not there."""
    if not folder.is_dir():
        raise BadData(f"{folder} is not there")
    return {path.stem: path.name for path in sorted(folder.iterdir()) if path.suffix.lower() in images.EXTENSIONS}


def below(root: Path, name: str, source: str) -> str:
    """`name` if it is a path below `root`. Raises BadData if it leads elsewhere: lists and annotations come from anywhere."""
    path = PurePosixPath(name.replace("\\", "/"))
    if not name or path.is_absolute() or ".." in path.parts:
        raise BadData(f'{source} names "{name}"; paths below {root} are wanted')
    return path.as_posix()
