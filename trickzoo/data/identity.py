"""Digests that identify sets of images.

The digest of a set has two parts, as in "4f…e1-09…c3". The first part covers the names of the images and, if all files are read before the
training starts, their contents. The second part covers the labels and the classes, the side of images that are decoded once if it is not
the usual one, and, if the contents are not read before, the size and the modification time of each file. To resume a training run on such a
set elsewhere, copy the set with its times (cp -p, rsync -t, tar). Files of older versions contain the first part only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trickzoo.data.imageset import ImageSet


def contents_digest(images: ImageSet) -> str:
    """Return the SHA-256 over the names and the contents of the files of a set, which are all read."""
    return digest_of((entry.name, hashlib.sha256(images.read(entry)).digest()) for entry in images.entries)


def digest_of(contents: Iterable[tuple[str, bytes]]) -> str:
    """Return the SHA-256 over the names of images and the SHA-256 digests of their contents."""
    whole = hashlib.sha256()
    for name, digest in contents:
        whole.update(name_bytes(name) + b"\0" + digest)
    return whole.hexdigest()


def names_digest(images: ImageSet) -> str:
    """Return the SHA-256 over the names of the files of a set."""
    whole = hashlib.sha256()
    for entry in images.entries:
        whole.update(name_bytes(entry.name) + b"\0")
    return whole.hexdigest()


def set_digest(first: str, classes: Sequence[str], labels: Iterable[str] = (), stamps: Iterable[str] = ()) -> str:
    """Return the digest of a set, from its first part and from what the second part covers."""
    second = hashlib.sha256()
    for part in (classes, labels, stamps):
        for text in part:
            second.update(name_bytes(text) + b"\0")
        second.update(b"\1")
    return f"{first}-{second.hexdigest()[:32]}"


def files_digest(images: ImageSet) -> str:
    """Return the digest of a set whose contents are not read: its names, labels and classes, and the size and time of each file."""
    return set_digest(names_digest(images), images.classes, (entry.label for entry in images.entries), images.stamps())


def same_set(digest: str, other: str) -> bool:
    """Return whether two digests are of the same set.

    If one of them has the first part only, as in an evaluation or a file of an older version, only the first parts are compared.
    """
    if "-" in digest and "-" in other:
        return digest == other
    return digest.partition("-")[0] == other.partition("-")[0]


def brief(digest: str) -> str:
    """Return the first digits of both parts of a digest, for a message."""
    return "-".join(part[:8] for part in digest.split("-"))


def name_bytes(name: str) -> bytes:
    """Return the bytes of a name, including that of a file whose name is not UTF-8."""
    return name.encode("utf-8", "surrogatepass")
