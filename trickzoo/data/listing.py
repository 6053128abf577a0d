"""What people write beside their images: split files, class lists, folders of images by name."""

from __future__ import annotations

import functools
import logging
import os
import re
import unicodedata
from collections.abc import Container, Sequence
from pathlib import Path, PurePosixPath

from trickzoo.data import images
from trickzoo.errors import BadData, nearest
from trickzoo.files import read_regular

log = logging.getLogger("trickzoo")

NUMBERED = re.compile(r"([0-9]{1,6})[\s:,]+(.+)")
FLAGGED = re.compile(r"(.*\S)\s+(?:-1|0|1)")
"""A line of a list of one class, as VOC has them: a name, and whether the class is in the image."""
LONGEST = 255
"""Characters of a name that a message shows."""
COMMENT = re.compile(r"#(\s|$)")
BYTES = 16 << 20
"""Bytes that a list may have."""


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, stripped, without those that are blank or begin with "#" and a space.

    Raises BadData if the file cannot be read, is not in UTF-8, or has no such line.
    """
    try:
        stripped = (line.strip() for line in read_regular(path, at_most=BYTES).decode("utf-8-sig").splitlines())
        lines = [line for line in stripped if line and not COMMENT.match(line)]
    except OSError as error:
        raise BadData(f"{path} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise BadData(f"{path} is not a text file in UTF-8") from None
    if not lines:
        raise BadData(f"{path} is empty")
    return lines


def warn(sentence: str) -> None:
    """Log a warning about the images. Only the first of several processes logs it, because all of them open the same images."""
    if os.environ.get("RANK", "0") == "0":
        log.warning("%s", sentence)


def read_classes(path: Path) -> tuple[str, ...]:
    """Return the class names in a text file with one name a line.

    If every line begins with a number and the numbers count up from 0 or 1, they are indices: the names are returned without them, and a
    warning states so. Otherwise the names are returned as they are. Raises BadData for a name that occurs twice, and as `read_lines` does.
    """
    names = read_lines(path)
    numbered = [match for match in map(NUMBERED.fullmatch, names) if match]
    numbers = [int(match[1]) for match in numbered]
    if numbers in (list(range(len(names))), list(range(1, len(names) + 1))):
        names = [match[2] for match in numbered]
        _say_indices(path, numbers[0], tuple(names))
    no_twin(names, path)
    return tuple(names)


@functools.cache  # once for each file, although training and validation images read the same
def _say_indices(path: Path, first: int, names: tuple[str, ...]) -> None:
    shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    warn(f"{path}: the numbers before the names count up from {first} and are taken as indices; the classes are {shown}")


def read_split(folder: Path, split: str, known: Container[str]) -> list[str]:
    """The names in `folder/split.txt`, one a line, in the form that `same_form` gives. A name may have spaces in it.

    `known` has the names that there can be: they tell a name that ends in a number from a line of VOC's lists of one class.
    Raises BadData if the file is not there, is empty, has a name twice, or is a list of one class.
    """
    path = folder / f"{split}.txt"
    if not path.is_file():
        there = sorted(file.stem for file in folder.glob("*.txt"))
        what = f"{nearest(split, there) or '; there are ' + ', '.join(there[:8])}" if there else ", nor any other split"
        raise BadData(f'{folder} has no split "{split}"{what}')
    names = [same_form(line) for line in read_lines(path)]
    for name in names:
        if name not in known and (match := FLAGGED.fullmatch(name)) and match[1] in known:
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


def same_form(name: str) -> str:
    """A name in Unicode's composed form (NFC). Some systems decompose the accents of file names, and lists may have either form."""
    return unicodedata.normalize("NFC", name)


def by_stem(folder: Path, suffixes: Container[str]) -> dict[str, str]:
    """Name of each file directly in a folder that has one of the suffixes, by its name without the suffix, in the form of `same_form`.

    Raises BadData if the folder is not there, or if two files differ in their suffix alone.
    """
    if not folder.is_dir():
        raise BadData(f"{folder} is not there")
    found: dict[str, str] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in suffixes and (other := found.setdefault(same_form(path.stem), path.name)) != path.name:
            raise BadData(f"{folder} has {other} and {path.name}; lists name files without their suffix, so remove or rename one")
    return found


def images_by_stem(folder: Path) -> dict[str, str]:
    """File name of each image directly in a folder, by its name without the suffix. Raises what `by_stem` raises."""
    return by_stem(folder, images.EXTENSIONS)


class Files:
    """The files below a folder, found by the names that lists and annotations have for them.

    Folders are listed once, as they are needed. Nothing outside the folder is found, and a name may have either Unicode form.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._listed: dict[str, dict[str, tuple[str, bool]]] = {}

    def find(self, name: str) -> str | None:
        """The path below the folder of the file that `name` means, as the disk spells it; None if there is none."""
        path = PurePosixPath(name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or not path.parts:
            return None
        place, is_folder = "", True
        for part in path.parts:
            if not is_folder:
                return None
            listed = self._in(place)
            spelt, is_folder = listed.get(part) or listed.get(same_form(part)) or ("", False)
            if not spelt:
                return None
            place = f"{place}/{spelt}" if place else spelt
        return None if is_folder else place

    def require(self, name: str, source: str) -> str:
        """As `find`. Raises BadData in the name of `source`, which lists the file, if it is not there or would be outside the folder."""
        shown = name if len(name) <= LONGEST else f"{name[:LONGEST]}…"
        path = PurePosixPath(name.replace("\\", "/"))
        if not name or path.is_absolute() or ".." in path.parts:
            raise BadData(f'{source} names "{shown}"; paths below {self.root} are wanted')
        found = self.find(name)
        if found is None:
            raise BadData(f"{self.root / shown} is not there, and {source} lists it")
        return found

    def _in(self, place: str) -> dict[str, tuple[str, bool]]:
        """What is in a folder below the root: by its name, and by the composed form of it, the name and whether it is a folder."""
        if place not in self._listed:
            try:
                with os.scandir(self.root / place) as entries:
                    there = sorted((entry.name, entry.is_dir()) for entry in entries)
            except OSError as error:
                raise BadData(f"{self.root / place} cannot be read ({error.strerror})") from None
            self._listed[place] = {same_form(name): (name, is_folder) for name, is_folder in reversed(there)}
            self._listed[place] |= {name: (name, is_folder) for name, is_folder in there}
        return self._listed[place]
