"""Images of data sets of the hub (`readers.hub_source`). A split is copied once. A training run may also stream it (`data.hub_stream`)."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from pathlib import Path

import msgspec
from filelock import FileLock

from trickzoo.data.classes import classes_of_labels
from trickzoo.data.imageset import Entry, ImageSet
from trickzoo.data.readers.hub_source import Source, errors_as_bad_data, open_source
from trickzoo.errors import BadData
from trickzoo.files import home, write_atomically

log = logging.getLogger("trickzoo")

ENTRIES, IMAGES = "entries.json", "images"


def open_hub(text: str, split: str) -> ImageSet:
    """Open the images of a split. The first call copies the bytes of all image files into one file in the package's home.

    Two processes may call this at once: one copies, and the other waits. Raises what `open_source` raises, and BadData for a row without
    image or label.
    """
    source = open_source(text, split)
    place = home() / "hub" / source.digest[:32]
    kept = _kept(place)
    if kept is None:
        place.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(place.parent / f".{place.name}.lock"):
            kept = _kept(place)
            if kept is None:
                if place.exists():
                    log.warning("%s is copied again, because the copy in %s is damaged", text, place)
                kept = _copy(source, place)
    if not kept:
        raise BadData(f"{text}: the split {source.split} is empty")
    labels, order = classes_of_labels([label for _, label, _, _ in kept], source.classes)
    file = str((place / IMAGES).absolute())
    entries = tuple(Entry(name, label, offset, size, file) for (name, _, offset, size), label in zip(kept, labels, strict=True))
    return ImageSet(Path(text), f"hub data set, split {source.split}", entries, order=order)


Kept = list[tuple[str, int | str, int, int]]
"""For each image, its name, its label, and the offset and the size of its bytes in the copy."""


def _kept(place: Path) -> Kept | None:
    """Return the entries of a copy, or None if there is no copy or it is incomplete."""
    try:
        kept = msgspec.json.decode((place / ENTRIES).read_bytes(), type=Kept)
        size = (place / IMAGES).stat().st_size
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    return kept if size == sum(length for *_, length in kept) else None


def _copy(source: Source, place: Path) -> Kept:
    """Write images and entries to a temporary folder, and rename it once it is complete. Returns the entries."""
    scratch = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}."))
    try:
        entries: Kept = []
        with (scratch / IMAGES).open("wb") as file, errors_as_bad_data(source.name):
            for position, row in enumerate(source.rows):
                name, content = source.content(row, f"{source.split}/{position}")
                entries.append((name, source.label_of(row, name), file.tell(), len(content)))
                file.write(content)
        write_atomically(scratch / ENTRIES, msgspec.json.encode(entries))
        if place.exists():
            shutil.rmtree(place)
        os.replace(scratch, place)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return entries
