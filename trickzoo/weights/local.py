"""Finds, verifies and deletes the files of a weight on this machine, without any network.

Hub files stay in the hub client's own cache, which other programs share. Files from a url and conversions are kept below `home()`. For each
weight a stamp records which bytes were verified: while the size, the modification time and the inode of a file are those of its stamp, the
file is taken as verified. Otherwise its digest is computed again.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from trickzoo.errors import BadCheckpoint, DigestMismatch, NotWritten, TrickzooError
from trickzoo.files import Identity, examine, home, open_regular, utf8_path
from trickzoo.weights import manifest, pins, stamps
from trickzoo.weights.download import commit_of, digest_matches, in_hub_cache, write_error
from trickzoo.weights.record import Entry, Source
from trickzoo.weights.stamps import Stamp, WeightFile

log = logging.getLogger("trickzoo")


def locate(record: Entry) -> WeightFile | None:
    """Return the verified file of a weight, or None if the weight is not on this machine.

    Raises DigestMismatch if the file is not the recorded one, and BadCheckpoint if it cannot be read.
    """
    return _stamped(record) or _unstamped(record)


def verify(record: Entry) -> WeightFile | None:
    """Do the same as `locate`, but compute the digest of the file even if its stamp is valid."""
    stamp, source = _stamp(record)
    if stamp is not None and source is not None and source.path is None and Path(stamp.path).exists():
        return _check_again(record, source, stamp)
    return _unstamped(record)


def is_here(record: Entry) -> bool:
    """Return whether a file of the weight is on this machine. The file is not verified."""
    return _path(record) is not None


def size(record: Entry) -> int | None:
    """Return the size in bytes of the file on this machine, else the size that the record states, else None."""
    if path := _path(record):
        return path.stat().st_size
    return next((source.size for source in record.sources if source.size is not None), None)


def is_packaged(record: Entry) -> bool:
    """Return whether the weight is a file of the package, or of the checkout that the package is run from."""
    return any(_packaged(source) is not None for source in record.sources)


def assurance(record: Entry, file: WeightFile) -> str:
    """Return which digest a file of the weight has been compared with.

    "pinned" is the full SHA-256 in the manifest or the lock file, "8 digits" (or more) its beginning, and "stated by the hub" the SHA-256
    that the hub stated when the file was downloaded. "unverified" is a file that the user put in place by hand and whose digest is recorded
    nowhere: it is only compared with the state that it had when it was first used.
    """
    source = next((source for source in record.sources if str(source) == file.source), None)
    expected = pins.expected_sha256(record, source) if source is not None else None
    if expected is not None:
        return "pinned" if len(expected) == 64 else f"{len(expected)} digits"
    return "stated by the hub" if file.revision is not None else "unverified"


def remove(record: Entry) -> list[Path]:
    """Delete the files and the stamp of a weight, and return the paths that were deleted. Files outside the caches are kept."""
    gone = []
    stamp = stamps.read(record.name)
    for source in record.sources:
        ours = stamp.revision if stamp and stamp.source == str(source) else None
        for revision in dict.fromkeys((pins.revision(record, source), ours)):
            if source.hub and (cached := in_hub_cache(source, revision)):
                gone += [cached.resolve(), cached]
    gone += [path for path in folder(record).glob("*") if path.is_file() and path.name != ".lock"]
    gone.append(stamps.place(record.name))
    existing = [path for path in gone if path.exists() or path.is_symlink()]
    for path in existing:
        path.unlink(missing_ok=True)
    return existing


def folder(record: Entry) -> Path:
    """Return the folder of the weight's files that do not lie in the hub client's cache."""
    return home() / "files" / record.name


def converted(record: Entry, file: WeightFile) -> WeightFile:
    """Write the safetensors form of a verified pickled checkpoint into `folder(record)` and return it.

    Raises BadCheckpoint if the file is not a checkpoint, DigestMismatch if it was replaced after it had been verified, and
    WeightsUnavailable if the new file cannot be written.
    """
    from trickzoo.weights import tensors

    target = folder(record) / (file.path.name + ".safetensors")
    with writable(target.parent):
        read = tensors.to_safetensors(file.path, target)
        sha256, identity = examine(target)
    if read != file.identity:
        target.unlink(missing_ok=True)
        raise DigestMismatch(f"{file.path} was replaced after it had been verified; try again")
    return replace(file, path=target, sha256=sha256, upstream_sha256=file.sha256, identity=identity)


@contextlib.contextmanager
def writable(folder: Path) -> Iterator[None]:
    """Create the folder, and within the block raise WeightsUnavailable, with a remedy, for what the operating system refuses."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        if isinstance(error, TrickzooError) and not isinstance(error, NotWritten):
            raise
        raise write_error(folder, "TRICKZOO_HOME", error) from error


# ---------------------------------------------------------------------------------------------------------------------
# where files lie


class _Place(NamedTuple):
    """A file on this machine that has not been verified.

    Attributes:
        source: the source of the record that the file belongs to.
        path: the path of the file.
        stated: the SHA-256 that the hub stated for the file, if it lies in the hub's cache.
        revision: the commit of the hub repository, if the file lies in the hub's cache.
    """

    source: Source
    path: Path
    stated: str | None = None
    revision: str | None = None


def _places(record: Entry) -> Iterator[_Place]:
    """Yield the files of a weight in the order of its sources: in the package, put in place by hand, in the hub's cache."""
    for source in record.sources:
        if path := _packaged(source):
            yield _Place(source, path)
        if (by_hand := folder(record) / source.filename).is_file():
            yield _Place(source, by_hand)
        if source.hub is not None:
            yield from _cached(record, source)


def _cached(record: Entry, source: Source) -> Iterator[_Place]:
    """Yield the file of a hub source in the hub client's cache, if it exists.

    A file of another commit on the main branch, which timm may have downloaded, serves as well if it has the recorded SHA-256.
    """
    revision, expected = pins.revision(record, source), pins.expected_sha256(record, source)
    for place in dict.fromkeys((revision, None)):
        if cached := in_hub_cache(source, place):
            stated = cached.resolve().name  # the hub client names the blob of a large file by the SHA-256 that the hub states
            if place == revision or stated == expected:
                yield _Place(source, cached, stated if len(stated) == 64 else None, commit_of(source, cached))
                return


def _path(record: Entry) -> Path | None:
    """Return the path of an unverified file of the weight, the stamped file first."""
    stamp, _ = _stamp(record)
    if stamp is not None and os.path.exists(stamp.path):  # unlike `Path.exists`, this raises no error for text that cannot be a path
        return Path(stamp.path)
    return next((place.path for place in _places(record)), None)


def _packaged(source: Source) -> Path | None:
    """Return the file of a `path` source in the package, or in the checkout that the package is run from."""
    if source.path is None:
        return None
    places = (folder / source.path for folder in (manifest.PACKAGE, manifest.PACKAGE.parent))
    return next((path for path in places if path.is_file()), None)


# ---------------------------------------------------------------------------------------------------------------------
# verification


def _stamp(record: Entry) -> tuple[Stamp, Source] | tuple[None, None]:
    """Return the stamp of a weight and its source. Both are None if the record no longer has that source or names another revision."""
    stamp = stamps.read(record.name)
    source = next((source for source in record.sources if stamp is not None and str(source) == stamp.source), None)
    if stamp is None or source is None or not _is_at(source, pins.revision(record, source), stamp):
        return None, None
    return stamp, source


def _is_at(source: Source, revision: str | None, stamp: Stamp) -> bool:
    """Return whether the stamped file is of this revision.

    The revision of a file that was put in place by hand is unknown; only its digest can be checked, so the answer is True.
    """
    if revision is None or stamp.revision is None or revision == stamp.revision:
        return True
    if source.sha256 == (stamp.upstream_sha256 or stamp.sha256):
        return True
    cached = in_hub_cache(source, revision)  # the revision may be the name of a branch or of a tag
    return cached is not None and commit_of(source, cached) == stamp.revision


def _stamped(record: Entry) -> WeightFile | None:
    """Return the file that the stamp names, verified again if it changed; None if there is no stamp or no file."""
    stamp, source = _stamp(record)
    if stamp is None or source is None:
        return None
    try:
        found = os.stat(stamp.path)
    except OSError:
        return None
    if source.path is not None and not (stamp.is_of(found) and digest_matches(stamp.sha256, pins.expected_sha256(record, source))):
        return None  # an update of the package replaced both the file and its record
    if not stamp.is_of(found):
        return _check_again(record, source, stamp)
    return _as_recorded(record, source, stamp, Identity.of(found))


def _check_again(record: Entry, source: Source, stamp: Stamp) -> WeightFile:
    """Compute the digest of the stamped file, and stamp it anew. Raises DigestMismatch if the digest has changed."""
    path = Path(stamp.path)
    got, identity = _examine(path)
    if got != stamp.sha256:
        raise _mismatch(record, path, stamp.sha256, got)
    file = _as_recorded(record, source, stamp, identity)
    stamps.write(file)
    return file


def _as_recorded(record: Entry, source: Source, stamp: Stamp, identity: Identity) -> WeightFile:
    """Return the stamped file. Raises DigestMismatch if the manifest or the lock file now states another digest."""
    sha256, expected = stamp.upstream_sha256 or stamp.sha256, pins.expected_sha256(record, source)
    if not digest_matches(sha256, expected):
        raise _mismatch(record, Path(stamp.path), expected or "", sha256)
    return WeightFile(record.name, Path(stamp.path), stamp.sha256, stamp.source, stamp.revision, stamp.upstream_sha256, identity)


def _unstamped(record: Entry) -> WeightFile | None:
    """Find a file that has no valid stamp, verify it, convert it if it is pickled, and stamp it."""
    place = next(_places(record), None)
    if place is None:
        return None
    got, identity = _examine(place.path)
    expected = pins.expected_sha256(record, place.source) or place.stated
    if not digest_matches(got, expected):
        raise _mismatch(record, place.path, expected or "", got)
    if expected is None:
        _check_whole(record, place.path)
        log.warning("%s: no digest is known for %s; the file is used unverified (sha256 %s)", record.name, place.path, got)
    file = WeightFile(record.name, place.path, got, str(place.source), place.revision, identity=identity)
    if place.path.suffix != ".safetensors":
        file = converted(record, file)
    stamps.write(file)
    return file


def _examine(path: Path) -> tuple[str, Identity]:
    """Return the SHA-256 and the identity of a file. Raises BadCheckpoint if it cannot be read."""
    try:
        return examine(path)
    except OSError as error:
        raise BadCheckpoint(f"{path} cannot be read ({error.strerror or error})") from None


def _check_whole(record: Entry, path: Path) -> None:
    """Raise BadCheckpoint for a damaged .safetensors file. A pickled file is checked when it is converted."""
    import safetensors

    if path.suffix != ".safetensors":
        return
    try:
        with open_regular(path) as file, safetensors.safe_open(utf8_path(path, file), framework="np"):
            pass
    except safetensors.SafetensorError as error:
        remedy = f"`trickzoo weights rm {record.name}` deletes it, then fetch it again"
        raise BadCheckpoint(f"{path} is not a whole safetensors file ({error}); {remedy}") from None


def _mismatch(record: Entry, path: Path, expected: str, got: str) -> DigestMismatch:
    packaged = any(_packaged(source) == path for source in record.sources)
    remedy = "install trickzoo again" if packaged else f"`trickzoo weights rm {record.name}` deletes it, then fetch it again"
    return DigestMismatch(f"{path} is not the recorded file of {record.name}: expected SHA-256 {expected}, found {got}; {remedy}")
