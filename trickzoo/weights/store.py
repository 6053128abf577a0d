"""From a record to a verified file on this machine.

Hub files stay in the hub client's own cache, shared with every other program that uses it; files from a url are kept, as safetensors, below
`home()`. Beside them a stamp per weight says which bytes were verified: as long as a file's size, modification time and inode are those of
the stamp it is taken as it is, otherwise its digest is checked again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from trickzoo.errors import BadCheckpoint, DigestMismatch, NotWritten, TrickzooError, WeightsUnavailable
from trickzoo.files import Identity, examine, home
from trickzoo.weights import manifest, pins, stamps
from trickzoo.weights.download import (
    REACH_SECONDS,
    agrees,
    commit_of,
    from_hub,
    from_url,
    in_hub_cache,
    offline,
    refused,
)
from trickzoo.weights.record import Record, Source
from trickzoo.weights.stamps import Stamp, WeightFile
from trickzoo.weights.streams import TimedOut, Wrong

log = logging.getLogger("trickzoo")


# ---------------------------------------------------------------------------------------------------------------------
# the public operations


def locate(record: Record) -> WeightFile | None:
    """The verified file if it is on this machine, without any network. Raises DigestMismatch if what is there is not what it should be."""
    return _stamped(record) or _found(record)


def is_here(record: Record) -> bool:
    """Whether a file of the weight is on this machine; it is not verified."""
    return _path(record) is not None


def size(record: Record) -> int | None:
    """Bytes of the file on this machine, else those that the record states, if it does."""
    if path := _path(record):
        return path.stat().st_size
    return next((source.size for source in record.sources if source.size is not None), None)


def is_packaged(record: Record) -> bool:
    """Whether the weight is a file of the package, or of the checkout that it is run from."""
    return any(source.path is not None and _packaged(source) is not None for source in record.sources)


def fetch(record: Record) -> WeightFile:
    """The verified file, downloaded if need be from the first source that has the right bytes.

    Raises WeightsUnavailable with every source's reason if none has, DigestMismatch if a cached file is not the recorded one.
    """
    if file := locate(record):
        return file
    folder = _folder(record)
    with _writable(folder), _locked(record):
        if file := locate(record):  # another process may just have fetched it
            return file
        for leftover in folder.glob(".*"):  # of a process that was killed
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            elif leftover.name != ".lock":
                leftover.unlink(missing_ok=True)
        if offline():
            raise WeightsUnavailable(_advice(record, "it is not in the cache and HF_HUB_OFFLINE forbids the network"))
        reasons = []
        silent = False
        for source in record.sources:
            seconds = REACH_SECONDS / 2 if silent else REACH_SECONDS
            try:
                file = _download(record, source, seconds)
            except Wrong as error:
                reasons.append(f"{source}: {error}")
                silent = silent or isinstance(error, TimedOut)
                log.info("%s: %s", source, error)
            else:
                stamps.write(file)
                return file
        raise WeightsUnavailable(_advice(record, f"no source gave it ({'; '.join(reasons)})"))


def verify(record: Record) -> WeightFile | None:
    """As `locate`, but the digest is computed anew whatever the stamp says."""
    stamp, source = _stamp(record)
    if stamp is not None and source is not None and source.path is None and Path(stamp.path).exists():
        return _check_again(record, source, stamp)
    return _found(record)


def is_unverified(record: Record, file: WeightFile) -> bool:
    """Whether the file was put in place by hand and neither manifest nor lock file has a digest for it: it is that of its first use."""
    source = next((source for source in record.sources if str(source) == file.source), None)
    return source is not None and source.hub is not None and file.revision is None and pins.wanted(record, source) is None


def remove(record: Record) -> list[Path]:
    """Delete the files and stamps of a weight, and return what was deleted. Files given by hand outside the caches stay."""
    gone = []
    stamp = stamps.read(record.name)
    for source in record.sources:
        ours = stamp.revision if stamp and stamp.source == str(source) else None
        for revision in dict.fromkeys((pins.revision(record, source), ours)):
            if source.hub and (cached := in_hub_cache(source, revision)):
                gone += [cached.resolve(), cached]
    gone += [path for path in _folder(record).glob("*") if path.is_file() and path.name != ".lock"]
    gone.append(stamps.place(record.name))
    existing = [path for path in gone if path.exists() or path.is_symlink()]
    for path in existing:
        path.unlink(missing_ok=True)
    return existing


def pin(records: list[Record]) -> list[WeightFile]:
    """Fetch each weight and write its revision and digest to the lock file; from then on only these bytes are accepted.

    Returns the files that are pinned: one that `is_unverified` is not.
    """
    files = [file for record in records if not is_unverified(record, file := fetch(record))]
    pins.write(
        {
            file.name: pins.Pin(
                source=file.source,
                revision=file.revision,
                sha256=file.upstream_sha256 or file.sha256,
                size=file.path.stat().st_size if file.upstream_sha256 is None else None,
            )
            for file in files
        }
    )
    return files


# ---------------------------------------------------------------------------------------------------------------------
# what is on this machine


class _Place(NamedTuple):
    """A file that is on this machine; `stated` is the digest that the hub named it by, `revision` the commit that it is of."""

    source: Source
    path: Path
    stated: str | None = None
    revision: str | None = None


def _places(record: Record) -> Iterator[_Place]:
    """Where files of the weight lie, in the order of its sources: in the package, put in place by hand, in the hub's cache."""
    for source in record.sources:
        if source.path is not None and (path := _packaged(source)):
            yield _Place(source, path)
        if (by_hand := _folder(record) / source.filename).is_file():
            yield _Place(source, by_hand)
        if source.hub is not None and (cached := in_hub_cache(source, pins.revision(record, source))):
            stated = cached.resolve().name  # the hub client names a large file's blob by the SHA-256 that the hub states
            yield _Place(source, cached, stated if len(stated) == 64 else None, commit_of(source, cached))


def _path(record: Record) -> Path | None:
    stamp, _ = _stamp(record)
    if stamp is not None and Path(stamp.path).exists():
        return Path(stamp.path)
    return next((place.path for place in _places(record)), None)


def _folder(record: Record) -> Path:
    return home() / "files" / record.name


def _stamp(record: Record) -> tuple[Stamp, Source] | tuple[None, None]:
    """The stamp of the weight with the source that it names. None if the record now names other sources, or another revision of it."""
    stamp = stamps.read(record.name)
    source = next((source for source in record.sources if stamp is not None and str(source) == stamp.source), None)
    if stamp is None or source is None or not _is_at(source, pins.revision(record, source), stamp):
        return None, None
    return stamp, source


def _is_at(source: Source, revision: str | None, stamp: Stamp) -> bool:
    """Whether the stamped file is of this revision. Of a file put in place by hand nobody knows the revision: its digest must do."""
    if revision is None or stamp.revision is None or revision == stamp.revision:
        return True
    cached = in_hub_cache(source, revision)  # a branch or a tag
    return cached is not None and commit_of(source, cached) == stamp.revision


def _stamped(record: Record) -> WeightFile | None:
    stamp, source = _stamp(record)
    if stamp is None or source is None:
        return None
    try:
        found = os.stat(stamp.path)
    except OSError:
        return None
    if source.path is not None and not (stamp.is_of(found) and agrees(stamp.sha256, pins.wanted(record, source))):
        return None  # an update of the package brought another file, and with it another record
    if not stamp.is_of(found):
        return _check_again(record, source, stamp)
    return _as_recorded(record, source, stamp, Identity.of(found))


def _check_again(record: Record, source: Source, stamp: Stamp) -> WeightFile:
    path = Path(stamp.path)
    got, identity = _examine(path)
    if got != stamp.sha256:
        raise DigestMismatch(_mismatch(record, path, stamp.sha256, got))
    file = _as_recorded(record, source, stamp, identity)
    stamps.write(file)
    return file


def _as_recorded(record: Record, source: Source, stamp: Stamp, identity: Identity) -> WeightFile:
    """The stamped file, if it is still the one that manifest and lock file ask for."""
    sha256, wanted = stamp.upstream_sha256 or stamp.sha256, pins.wanted(record, source)
    if not agrees(sha256, wanted):
        raise DigestMismatch(_mismatch(record, Path(stamp.path), wanted or "", sha256))
    return WeightFile(record.name, Path(stamp.path), stamp.sha256, stamp.source, stamp.revision, stamp.upstream_sha256, identity)


def _found(record: Record) -> WeightFile | None:
    """A file that is here without a stamp: verified, converted if it is a pickle, and stamped."""
    place = next(_places(record), None)
    if place is None:
        return None
    got, identity = _examine(place.path)
    wanted = pins.wanted(record, place.source) or place.stated
    if not agrees(got, wanted):
        raise DigestMismatch(_mismatch(record, place.path, wanted or "", got))
    if wanted is None:
        _check_whole(record, place.path)
        log.warning("%s: no digest is known for %s; it is used as it is (sha256 %s)", record.name, place.path, got)
    file = WeightFile(record.name, place.path, got, str(place.source), place.revision, identity=identity)
    if place.path.suffix != ".safetensors":
        file = _converted(record, file)
    stamps.write(file)
    return file


def _examine(path: Path) -> tuple[str, Identity]:
    try:
        return examine(path)
    except OSError as error:
        raise BadCheckpoint(f"{path} cannot be read ({error.strerror or error})") from None


def _check_whole(record: Record, path: Path) -> None:
    """Refuse a file that is not safetensors from end to end, though it is called so; a pickle is read when it is converted."""
    import safetensors

    if path.suffix != ".safetensors":
        return
    try:
        with safetensors.safe_open(path, framework="np"):
            pass
    except safetensors.SafetensorError as error:
        remedy = f"`trickzoo weights rm {record.name}` deletes it, then fetch it again"
        raise BadCheckpoint(f"{path} is not a whole safetensors file ({error}); {remedy}") from None


def _packaged(source: Source) -> Path | None:
    """A file inside the package, or in the checkout that it is run from."""
    places = (folder / str(source.path) for folder in (manifest.PACKAGE, manifest.PACKAGE.parent))
    return next((path for path in places if path.is_file()), None)


# ---------------------------------------------------------------------------------------------------------------------
# what is said of it


def _mismatch(record: Record, path: Path, wanted: str, got: str) -> str:
    packaged = any(source.path is not None and _packaged(source) == path for source in record.sources)
    remedy = "install trickzoo again" if packaged else f"`trickzoo weights rm {record.name}` deletes it, then fetch it again"
    return f"{path} is not the recorded file of {record.name}: SHA-256 {wanted} wanted, {got} found; {remedy}"


def _advice(record: Record, problem: str) -> str:
    source = record.sources[0]
    origin = f"hub repository {source.hub}" if source.hub else str(source)
    return f"{record.name}: {problem}; put {source.filename} ({origin}) at {_folder(record) / source.filename}, or pass weights=PATH."


# ---------------------------------------------------------------------------------------------------------------------
# downloads


@contextlib.contextmanager
def _locked(record: Record) -> Iterator[None]:
    """One process at a time fetches a weight; the lock goes when its holder dies."""
    from filelock import FileLock

    with FileLock(_folder(record) / ".lock"):
        yield


@contextlib.contextmanager
def _writable(folder: Path) -> Iterator[None]:
    """Turn what the disk refuses into one clear error."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        if isinstance(error, TrickzooError) and not isinstance(error, NotWritten):
            raise
        raise refused(folder, "TRICKZOO_HOME", error) from error


def _download(record: Record, source: Source, seconds: float) -> WeightFile:
    if source.hub:
        wanted, size = pins.wanted(record, source), pins.size(record, source)
        hub = from_hub(source, pins.revision(record, source), wanted, seconds, size)
        file = WeightFile(record.name, hub.path, hub.sha256, str(source), hub.commit, identity=hub.identity)
        return file if hub.path.suffix == ".safetensors" else _converted(record, file)
    if source.url:
        return _url_file(record, source, seconds)
    raise Wrong("not part of this installation; the repository has it")


def _url_file(record: Record, source: Source, seconds: float) -> WeightFile:
    """Download into a folder of its own, verify, and only then give the file its name."""
    folder = _folder(record)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as scratch:
        path = Path(scratch) / source.filename
        got, identity = from_url(source, path, pins.wanted(record, source), seconds, pins.size(record, source))
        file = WeightFile(record.name, path, got, str(source), identity=identity)
        if path.suffix != ".safetensors":
            return _converted(record, file)
        kept = folder / path.name
        os.replace(path, kept)
        moved = Identity.of(kept.stat())
        if moved._replace(ctime_ns=identity.ctime_ns) != identity:
            raise Wrong("the file was replaced while it was put in place")
        return replace(file, path=kept, identity=moved)


def _converted(record: Record, file: WeightFile) -> WeightFile:
    """The safetensors form of a pickled checkpoint, written once, below `home()`."""
    from trickzoo.weights import tensors

    target = _folder(record) / (file.path.name + ".safetensors")
    with _writable(target.parent):
        read = tensors.to_safetensors(file.path, target)
        sha256, identity = examine(target)
    if read != file.identity:
        target.unlink(missing_ok=True)
        raise DigestMismatch(f"{file.path} was replaced after it had been verified; try again")
    return replace(file, path=target, sha256=sha256, upstream_sha256=file.sha256, identity=identity)
