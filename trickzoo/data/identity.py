"""What tells one set of images from another.

The digest of a set has two parts, as in "4f…e1-09…c3". The first covers the names of the images and, where each file is read before a
training starts, their contents. The second covers the labels and the classes and, where the contents are not read before, the size and the
time of modification of each file: copy such a set with its times (cp -p, rsync -t, tar) to go on with a training elsewhere. Files of older
versions hold the first part alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from trickzoo.data.imageset import ImageSet


def contents_digest(images: ImageSet) -> str:
    """SHA-256 over names and contents of the files of a set."""
    return digest_of((entry.name, hashlib.sha256(images.read(entry)).digest()) for entry in images.entries)


def digest_of(contents: Iterable[tuple[str, bytes]]) -> str:
    """SHA-256 over names of images and the SHA-256 of their contents."""
    whole = hashlib.sha256()
    for name, digest in contents:
        whole.update(name_bytes(name) + b"\0" + digest)
    return whole.hexdigest()


def names_digest(images: ImageSet) -> str:
    """SHA-256 over the names of the files of a set."""
    whole = hashlib.sha256()
    for entry in images.entries:
        whole.update(name_bytes(entry.name) + b"\0")
    return whole.hexdigest()


def set_digest(first: str, classes: Sequence[str], labels: Iterable[str] = (), stamps: Iterable[str] = ()) -> str:
    """The digest of a set, from its first part and what the second part covers."""
    second = hashlib.sha256()
    for part in (classes, labels, stamps):
        for text in part:
            second.update(name_bytes(text) + b"\0")
        second.update(b"\1")
    return f"{first}-{second.hexdigest()[:32]}"


def same_set(digest: str, other: str) -> bool:
    """Whether two digests are of one set. Where one of them is of an older version, the first parts decide."""
    if "-" in digest and "-" in other:
        return digest == other
    return digest.partition("-")[0] == other.partition("-")[0]


def name_bytes(name: str) -> bytes:
    """The bytes of a name, also of a file whose name is no UTF-8."""
    return name.encode("utf-8", "surrogatepass")
