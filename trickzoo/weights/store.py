"""From a record to a verified file on this machine.

Hub files stay in the hub client's own cache, shared with every other program that uses it; files from a url are kept, as safetensors, below
`home()`. Beside them a stamp per weight says which bytes were verified: as long as a file's size, modification time and inode are those of
the stamp it is taken as it is, otherwise its digest is checked again.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from trickzoo.errors import BadCheckpoint, DigestMismatch, TrickzooError, WeightsUnavailable
from trickzoo.files import digest, home, write_atomically
from trickzoo.weights import manifest, pins
from trickzoo.weights.download import (
    REACH_SECONDS,
    Wrong,
    agrees,
    commit_of,
    from_hub,
    from_url,
    in_hub_cache,
    offline,
    refused,
)
from trickzoo.weights.record import Record, Source

log = logging.getLogger("trickzoo")


@dataclass(frozen=True)
class WeightFile:
    """A verified file.

    Attributes:
        sha256: digest of the file at `path`.
        source: where it came from. `revision`: commit of the hub repository.
        upstream_sha256: digest of the file that the source serves, where `path` is a conversion of it.
    """

    name: str
    path: Path
    sha256: str
    source: str
    revision: str | None = None
    upstream_sha256: str | None = None


@dataclass(frozen=True)
class _Stamp:
    """What was verified, and the file's identity then."""

    path: str
    sha256: str
    source: str
    revision: str | None
    upstream_sha256: str | None
    size: int
    mtime_ns: int
    inode: int


# ---------------------------------------------------------------------------------------------------------------------
# the public operations


def locate(record: Record) -> WeightFile | None:
    """The verified file if it is on this machine, without any network. Raises DigestMismatch if what is there is not what it should be."""
    return _stamped(record) or _found(record)


def is_here(record: Record) -> bool:
    """Whether a file of the weight is on this machine; it is not verified."""
    return _place(record) is not None


def size(record: Record) -> int | None:
    """Bytes of the file on this machine, else those that the record states, if it does."""
    if path := _place(record):
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
                silent = silent or "timed out" in str(error)
                log.info("%s: %s", source, error)
            else:
                _write_stamp(file)
                return file
        raise WeightsUnavailable(_advice(record, f"no source gave it ({'; '.join(reasons)})"))


def verify(record: Record) -> WeightFile | None:
    """As `locate`, but the digest is computed anew whatever the stamp says."""
    stamp = _read_stamp(record)
    if stamp is not None and Path(stamp.path).exists():
        return _check_again(record, stamp)
    return _found(record)


def is_unverified(record: Record, file: WeightFile) -> bool:
    """Whether the file was put in place by hand and neither manifest nor lock file has a digest for it: it is that of its first use."""
    source = next((source for source in record.sources if str(source) == file.source), None)
    return source is not None and source.hub is not None and file.revision is None and pins.wanted(record, source) is None


def remove(record: Record) -> list[Path]:
    """Delete the files and stamps of a weight, and return what was deleted. Files given by hand outside the caches stay."""
    gone = []
    stamp = _read_stamp(record)
    for source in record.sources:
        ours = stamp.revision if stamp and stamp.source == str(source) else None
        for revision in dict.fromkeys((pins.revision(record, source), ours)):
            if source.hub and (cached := in_hub_cache(source, revision)):
                gone += [cached.resolve(), cached]
    gone += [path for path in _folder(record).glob("*") if path.is_file() and path.name != ".lock"]
    gone.append(_stamp_path(record))
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
            file.name: {
                "source": file.source,
                "revision": file.revision,
                "sha256": file.upstream_sha256 or file.sha256,
                "size": file.path.stat().st_size if file.upstream_sha256 is None else None,
            }
            for file in files
        }
    )
    return files


# ---------------------------------------------------------------------------------------------------------------------
# what is on this machine


def _place(record: Record) -> Path | None:
    stamp = _read_stamp(record)
    if stamp is not None and Path(stamp.path).exists():
        return Path(stamp.path)
    for source in record.sources:
        if source.path is not None and (path := _packaged(source)):
            return path
        if (by_hand := _folder(record) / source.filename).is_file():
            return by_hand
        if source.hub is not None and (cached := in_hub_cache(source, pins.revision(record, source))):
            return cached
    return None


def _folder(record: Record) -> Path:
    return home() / "files" / record.name


def _stamp_path(record: Record) -> Path:
    return home() / "verified" / f"{record.name}.json"


def _read_stamp(record: Record) -> _Stamp | None:
    try:
        return _Stamp(**json.loads(_stamp_path(record).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # none, or of another version: the file is verified anew
        return None


def _write_stamp(file: WeightFile) -> None:
    stat = file.path.stat()
    stamp = _Stamp(
        path=str(file.path),
        sha256=file.sha256,
        source=file.source,
        revision=file.revision,
        upstream_sha256=file.upstream_sha256,
        size=stat.st_size,
        mtime_ns=stat.st_mtime_ns,
        inode=stat.st_ino,
    )
    try:
        write_atomically(home() / "verified" / f"{file.name}.json", json.dumps(asdict(stamp)).encode())
    except OSError as error:  # a read-only cache still serves; it is only verified each time
        log.info("no stamp written for %s: %s", file.name, error)


def _stamped(record: Record) -> WeightFile | None:
    stamp = _read_stamp(record)
    if stamp is None:
        return None
    try:
        stat = os.stat(stamp.path)
    except OSError:
        return None
    changed = (stat.st_size, stat.st_mtime_ns, stat.st_ino) != (stamp.size, stamp.mtime_ns, stamp.inode)
    source = next((source for source in record.sources if str(source) == stamp.source), None)
    if source is not None and source.path is not None and (changed or not agrees(stamp.sha256, pins.wanted(record, source))):
        return None  # an update of the package brought another file, and with it another record
    if changed:
        return _check_again(record, stamp)
    return _as_pinned(record, stamp)


def _check_again(record: Record, stamp: _Stamp) -> WeightFile:
    path = Path(stamp.path)
    if (got := digest(path)) != stamp.sha256:
        raise DigestMismatch(_mismatch(record, path, stamp.sha256, got))
    file = _as_pinned(record, stamp)
    _write_stamp(file)
    return file


def _as_pinned(record: Record, stamp: _Stamp) -> WeightFile:
    """The stamped file, if it is still the one that manifest and lock file ask for."""
    sha256 = stamp.upstream_sha256 or stamp.sha256
    for source in record.sources:
        if str(source) == stamp.source and not agrees(sha256, wanted := pins.wanted(record, source)):
            raise DigestMismatch(_mismatch(record, Path(stamp.path), wanted or "", sha256))
    return WeightFile(record.name, Path(stamp.path), stamp.sha256, stamp.source, stamp.revision, stamp.upstream_sha256)


def _found(record: Record) -> WeightFile | None:
    """A file that is here without a stamp: in the package, in the hub's cache, or put in place by hand."""
    for source in record.sources:
        if source.path is not None and (path := _packaged(source)):
            return _accept(record, source, path)
        by_hand = _folder(record) / source.filename
        if by_hand.is_file():
            with _writable(by_hand.parent):
                return _accept(record, source, by_hand)
        if source.hub and (cached := in_hub_cache(source, pins.revision(record, source))):
            stated = cached.resolve().name  # the hub client names a large file's blob by the SHA-256 that the hub states
            return _accept(record, source, cached, stated=stated if len(stated) == 64 else None, revision=commit_of(source, cached))
    return None


def _accept(record: Record, source: Source, path: Path, *, stated: str | None = None, revision: str | None = None) -> WeightFile:
    """Verify a file that was found, convert it if it is a pickle, and stamp it."""
    got = digest(path)
    wanted = pins.wanted(record, source) or stated
    if not agrees(got, wanted):
        raise DigestMismatch(_mismatch(record, path, wanted or "", got))
    if wanted is None:
        _check_whole(record, path)
        log.warning("%s: no digest is known for %s; it is used as it is (sha256 %s)", record.name, path, got)
    file = WeightFile(record.name, path, got, str(source), revision)
    if path.suffix != ".safetensors":
        file = _converted(record, file)
    _write_stamp(file)
    return file


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
    except TrickzooError:
        raise
    except OSError as error:
        raise refused(folder, "TRICKZOO_HOME", error) from error


def _download(record: Record, source: Source, seconds: float) -> WeightFile:
    if source.hub:
        wanted = pins.wanted(record, source)
        path, got, commit = from_hub(source, pins.revision(record, source), wanted, seconds)
        file = WeightFile(record.name, path, got, str(source), commit)
        return file if path.suffix == ".safetensors" else _converted(record, file)
    if source.url:
        return _url_file(record, source, seconds)
    raise Wrong("not part of this installation; the repository has it")


def _url_file(record: Record, source: Source, seconds: float) -> WeightFile:
    """Download into a folder of its own, verify, and only then give the file its name."""
    folder = _folder(record)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as scratch:
        path = Path(scratch) / source.filename
        file = WeightFile(record.name, path, from_url(source, path, pins.wanted(record, source), seconds), str(source))
        if path.suffix != ".safetensors":
            return _converted(record, file)
        kept = folder / path.name
        os.replace(path, kept)
        return replace(file, path=kept)


def _converted(record: Record, file: WeightFile) -> WeightFile:
    """The safetensors form of a pickled checkpoint, written once, below `home()`."""
    from trickzoo.weights import convert

    target = _folder(record) / (file.path.name + ".safetensors")
    with _writable(target.parent):
        convert.to_safetensors(file.path, target)
    return replace(file, path=target, sha256=digest(target), upstream_sha256=file.sha256)
