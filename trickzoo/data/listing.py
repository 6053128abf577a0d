"""Reading split files and class lists, and finding the files that they name.

Commands that open no image import this module, so the reading of images, which imports NumPy and Pillow, is imported in the functions that
use it.
"""

from __future__ import annotations

import functools
import glob
import logging
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Container, Hashable, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import TypeVar

from trickzoo.addresses import URL
from trickzoo.environment import is_first_process
from trickzoo.errors import BadData, BadOption, nearest, shortened
from trickzoo.files import read_regular, reading

log = logging.getLogger("trickzoo")
T = TypeVar("T")

NUMBERED = re.compile(r"([0-9]{1,6})(\s*[:,\t]\s*|\s+)(.+)")
FLAGGED = re.compile(r"(.*\S)\s+(?:-1|0|1)")
"""A line of one of VOC's lists for a single class: the name of an image, and whether the class is in it."""
LONGEST = 255
"""How many characters of a name a message shows."""
EVERY = "**/*"
"""The pattern of all files in and below a folder."""
CLASS_LIST = "classes.txt"
"""The name of the file that lists the classes of a folder, one per line."""
COMMENT = re.compile(r"#(\s|$)")
NO_IMAGES = {"thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin"}
"""Files and folders that systems and file managers add to a folder. Like files whose names begin with a dot, they are ignored."""
BYTES = 16 << 20
"""How many bytes a list may have."""


def read_text(path: Path, *, at_most: int = BYTES) -> str:
    """Return the content of a text file of at most so many bytes. Raises BadData if it cannot be read, is longer, or is not UTF-8."""
    try:
        return read_regular(path, at_most=at_most).decode("utf-8-sig")
    except OSError as error:
        raise BadData(f"{path} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise BadData(f"{path} is not a text file in UTF-8; save it as UTF-8") from None


def read_lines(path: Path) -> list[str]:
    """Return the stripped lines of a text file, without blank lines and comments, which begin with "#" and a space.

    Raises BadData if the file cannot be read, is not UTF-8, or has no other lines.
    """
    stripped = (line.strip() for line in read_text(path).splitlines())
    lines = [line for line in stripped if line and not COMMENT.match(line)]
    if not lines:
        raise BadData(f"{path} is empty")
    return lines


def images_at(path: Path) -> list[Path]:
    """Return the path of an image, or the paths of the files that a pattern matches, or of the images in and below a folder.

    Hidden files in folders are left out. Raises BadOption if a folder holds no images, or if a pattern matches no file.
    """
    if not path.exists() and glob.has_magic(str(path)):
        matched = sorted(Path(file) for file in glob.glob(str(path), recursive=True) if Path(file).is_file())
        if not matched:
            raise BadOption(f"{path} matches no file")
        return matched
    if not path.is_dir():
        return [path]
    from trickzoo.data.images import EXTENSIONS, is_image_name

    found = [file for file in visible(path, EVERY) if is_image_name(file) and file.is_file()]
    if not found:
        heic = any(file.suffix.lower() in (".heic", ".heif") for file in visible(path, EVERY))
        remedy = "; convert HEIC images to JPEG" if heic else ""
        raise BadOption(f"{path} holds no images; their names end in {', '.join(sorted(EXTENSIONS))}{remedy}")
    return found


def warn(sentence: str) -> None:
    """Log a warning about the images. Only the first of several processes logs it, because all of them open the same images."""
    if is_first_process():
        log.warning("%s", sentence)


def read_classes(path: Path) -> tuple[str, ...]:
    """Return the class names in a text file with one name per line.

    If every line begins with a number and the numbers count up from 0 or 1, they are indices: the names are returned without them, and a
    warning states so. Numbers that count from 1 and are separated by blanks only, as in "1 storey", could also be parts of the names.
    Otherwise the names are returned as they are. Raises BadData for such ambiguous numbers, for a name that occurs twice, and as
    `read_lines` does.
    """
    names = read_lines(path)
    numbered = [match for match in map(NUMBERED.fullmatch, names) if match]
    numbers = [int(match[1]) for match in numbered]
    if numbers in (list(range(len(names))), list(range(1, len(names) + 1))):
        if numbers[0] == 1 and not any(match[2].strip(" ") for match in numbered):
            first = numbered[0]
            raise BadData(
                f'{path}: the numbers before the names could be indices or parts of the names; write "{first[1]}: {first[3]}" if they are '
                f'indices, "{first[1]}: {first[0]}" if they are parts of the names'
            )
        names = [match[3] for match in numbered]
        _say_indices(path, numbers[0], tuple(names))
    check_unique(names, path)
    return tuple(names)


@functools.cache  # once for each file, although training and validation images read the same
def _say_indices(path: Path, first: int, names: tuple[str, ...]) -> None:
    shown = shortened(names, 3)
    warn(f"{path}: the numbers before the names count up from {first} and are taken as indices; the classes are {shown}")


def read_split(folder: Path, split: str, known: Container[str]) -> list[str]:
    """Return the names in `folder/split.txt`, one per line, in Unicode's composed form. A name may contain spaces.

    `known` contains the possible names. They distinguish a name that ends in a number from a line of VOC's lists for a single class.
    Raises BadData if the file does not exist, is empty, has a name twice, or is a list for a single class.
    """
    path = folder / f"{split}.txt"
    if not path.is_file():
        there = [file.stem for file in visible(folder, "*.txt")]
        what = f"{nearest(split, there) or '; there are ' + ', '.join(there[:8])}" if there else ", nor any other split"
        raise BadData(f'{folder} has no split "{split}"{what}')
    names = [same_form(line) for line in read_lines(path)]
    for name in names:
        if name not in known and (match := FLAGGED.fullmatch(name)) and match[1] in known:
            raise BadData(f"{path} does not have one name per line: a list of one class? Name a split such as train")
    check_unique(names, path)
    return names


def check_unique(names: Sequence[str], path: Path) -> None:
    """Raise BadData for a name that occurs twice in a list from the file `path`."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise BadData(f"{path} has {name} twice")
        seen.add(name)


def same_form(name: str) -> str:
    """Return a name in Unicode's composed form (NFC). Some systems decompose the accents of file names; lists may use either form."""
    return unicodedata.normalize("NFC", name)


def is_hidden(name: str) -> bool:
    """Return whether a file or a folder of this name is not part of a set of images."""
    return name.startswith(".") or name.lower() in NO_IMAGES


def visible(folder: Path, pattern: str = "*") -> list[Path]:
    """Return what matches a pattern in a folder, sorted, without hidden files and folders; nothing if the folder does not exist."""
    return sorted(path for path in folder.glob(pattern) if not any(map(is_hidden, path.relative_to(folder).parts)))


def folder_called(root: Path, names: Sequence[str]) -> Path | None:
    """Return the folder in `root` with the first of these names that exists, in upper or lower case; None if none exists."""
    there = {path.name.lower(): path for path in visible(root) if path.is_dir()}
    return next((there[name.lower()] for name in names if name.lower() in there), None)


def equal_groups(items: Iterable[T], key: Callable[[T], Hashable]) -> list[list[T]]:
    """Return the groups of at least two items that have the same key, in order."""
    groups: dict[Hashable, list[T]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return [group for group in groups.values() if len(group) > 1]


def by_stem(folder: Path, suffixes: Container[str], *, pattern: str = "*") -> dict[str, str]:
    """Return the names of the files directly in a folder that have one of the suffixes, by their stems in Unicode's composed form.

    With the pattern `EVERY`, the files in its subfolders are returned too, by their paths below the folder.
    Raises BadData if the folder does not exist, or if the names of two files differ only in their suffix.
    """
    if not folder.is_dir():
        raise BadData(f"{folder} does not exist")
    found: dict[str, str] = {}
    for path in visible(folder, pattern):
        name, stem = path.relative_to(folder).as_posix(), path.relative_to(folder).with_suffix("").as_posix()
        if path.suffix.lower() in suffixes and (other := found.setdefault(same_form(stem), name)) != name:
            raise BadData(f"{folder} has {other} and {name}; lists name files without their suffix, so remove or rename one")
    return found


def images_by_stem(folder: Path, *, pattern: str = "*") -> dict[str, str]:
    """Return the names of the images in a folder, by their stems. The pattern and the errors are those of `by_stem`."""
    from trickzoo.data.images import EXTENSIONS

    return by_stem(folder, EXTENSIONS, pattern=pattern)


class Files:
    """The files below a folder, found by the names that lists and annotations use.

    Each folder is listed once, when it is needed. Files outside the root are never found. Names may have composed or decomposed accents.

    Args:
        root: the folder.
        remedy: the end of the message for a name that lies outside of it, or does not exist in it.
    """

    def __init__(self, root: Path, remedy: str = "") -> None:
        self.root, self.remedy = root, remedy
        self._listed: dict[str, dict[str, tuple[str, bool]]] = {}
        self._stems: dict[str, dict[str, list[str]]] = {}

    def find(self, name: str) -> str | None:
        """Return the path of the file `name` relative to the root, as it is spelt on the disk, or None if there is no such file.

        The name is relative to the root, or is the absolute path of a file below it.
        """
        path = self._below(name)
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
        """Return the path of the file `name` relative to the root, as it is spelt on the disk.

        Raises BadData, which names the list `source`, if the file does not exist or would lie outside the root.
        """
        shown = name if len(name) <= LONGEST else f"{name[:LONGEST]}…"
        path = self._below(name)
        if not name or path.is_absolute() or ".." in path.parts:
            raise BadData(f'{source} names "{shown}"; the path must be below {self.root}{self.remedy}')
        if URL.match(name):
            raise BadData(f"{source} names the URL {shown}; download the images, and write their paths")
        found = self.find(name)
        if found is None:
            raise BadData(f"{self.root / shown} does not exist, but {source} lists it{self.remedy}")
        return found

    def require_image(self, name: str, source: str) -> str:
        """Return the path of the image `name` as `require` does. The suffix may be missing: "a1" is a1.jpg if there is no file a1.

        Raises BadData as `require` does, and if the names of several images differ from `name` in their suffix only.
        """
        path = self._below(name)
        if self.find(name) is not None or path.is_absolute() or ".." in path.parts or not os.path.isdir(self.root / path.parent):
            return self.require(name, source)
        fitting = self._images_in("" if path.parent.name == "" else path.parent.as_posix()).get(same_form(path.name), [])
        if len(fitting) > 1:
            raise BadData(f"{source} names {path.name}, which could be {shortened(fitting, 3)}; write the suffix")
        return self.require((path.parent / fitting[0]).as_posix() if fitting else name, source)

    def _below(self, name: str) -> PurePosixPath:
        """Return a name as a path relative to the root, if it is the absolute path of something below it; otherwise the path itself."""
        path = PurePosixPath(name.replace("\\", "/"))
        for root in self._roots if path.is_absolute() else ():
            if path.is_relative_to(root):
                return path.relative_to(root)
        return path

    @functools.cached_property
    def _roots(self) -> tuple[str, ...]:
        """The forms that the path of the root may have in an absolute path, computed once because a list may have many of these."""
        return tuple(root.as_posix() for root in (self.root, self.root.absolute(), self.root.resolve()))

    def _in(self, place: str) -> dict[str, tuple[str, bool]]:
        """Return what a folder below the root contains.

        The keys are the names on the disk and their composed forms; the values are the name on the disk and whether it is a folder.
        """
        if place not in self._listed:
            with reading(self.root / place), os.scandir(self.root / place) as entries:
                there = sorted((entry.name, entry.is_dir()) for entry in entries)
            self._listed[place] = {same_form(name): (name, is_folder) for name, is_folder in reversed(there)}
            self._listed[place] |= {name: (name, is_folder) for name, is_folder in there}
        return self._listed[place]

    def _images_in(self, place: str) -> dict[str, list[str]]:
        """Return the names of the images directly in a folder below the root, by their stems in Unicode's composed form."""
        from trickzoo.data.images import is_image_name

        if place not in self._stems:
            found: dict[str, list[str]] = defaultdict(list)
            for name in sorted({spelt for spelt, is_folder in self._in(place).values() if not is_folder}):
                if is_image_name(name):
                    found[same_form(PurePosixPath(name).stem)].append(name)
            self._stems[place] = found
        return self._stems[place]
