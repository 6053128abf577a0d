"""Gets the verified file of a weight: from this machine, or downloaded from the first source that has the right bytes."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from trickzoo.errors import WeightsUnavailable
from trickzoo.files import Identity
from trickzoo.weights import local, manifest, pins, stamps
from trickzoo.weights.download import OWN_FILE, REACH_SECONDS, from_hub, from_url, offline
from trickzoo.weights.record import Entry, Source
from trickzoo.weights.stamps import WeightFile
from trickzoo.weights.streams import SourceError, TimedOut

log = logging.getLogger("trickzoo")


def fetch(record: Entry) -> WeightFile:
    """Return the verified file of a weight, and download it if it is not on this machine.

    Raises WeightsUnavailable with the reason of every source if none gives the file, and DigestMismatch if a cached file is not the
    recorded one.
    """
    if file := local.locate(record):
        return file
    folder = local.folder(record)
    with local.writable(folder), _locked(record):
        if file := local.locate(record):  # another process may have fetched it meanwhile
            return file
        _delete_leftovers(folder)
        if offline():
            raise WeightsUnavailable(advice(record, "it is not in the cache and HF_HUB_OFFLINE forbids the network"))
        reasons = []
        silent = False
        for source in record.sources:
            seconds = REACH_SECONDS / 2 if silent else REACH_SECONDS
            try:
                file = _download(record, source, seconds)
            except SourceError as error:
                reasons.append(f"{source}: {error}")
                silent = silent or isinstance(error, TimedOut)
                log.info("%s: %s", source, error)
            else:
                stamps.write(file)
                return file
        raise WeightsUnavailable(advice(record, f"no source gave it ({'; '.join(reasons)})"))


def pin(records: Sequence[Entry]) -> list[WeightFile]:
    """Fetch each weight and write its revision and digest to the lock file, so that only these bytes are accepted from then on.

    Returns the files that were pinned. A file that is unverified (see `local.assurance`) is not pinned.
    """
    files = [file for record in records if local.assurance(record, file := fetch(record)) != "unverified"]
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


@contextlib.contextmanager
def _locked(record: Entry) -> Iterator[None]:
    """Let one process at a time fetch a weight. The operating system releases the lock when its holder dies."""
    from filelock import FileLock

    with FileLock(local.folder(record) / ".lock"):
        yield


def _delete_leftovers(folder: Path) -> None:
    """Delete the temporary files and folders of processes that were killed while they downloaded or converted a file."""
    for leftover in folder.glob(".*"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        elif leftover.name != ".lock":
            leftover.unlink(missing_ok=True)


def advice(record: Entry, problem: str) -> str:
    """Return a message: the problem, where a file that is put in place by hand belongs, and the files of its kind that need no network."""
    source = record.sources[0]
    origin = f"hub repository {source.hub}" if source.hub else str(source)
    here = [each.name for each in manifest.entries().values() if type(each) is type(record) and local.is_packaged(each)]
    inside = f" This installation contains {', '.join(here)}." if here else ""
    if source.path is not None:
        return f"{record.name}: {problem}; a checkout of the repository has {source.path}: copy it, and {OWN_FILE}.{inside}"
    put = f"put {source.filename} ({origin}) at {local.folder(record) / source.filename}"
    return f"{record.name}: {problem}; {put}, or {OWN_FILE}.{inside}"


def _download(record: Entry, source: Source, seconds: float) -> WeightFile:
    """Download, verify and, if it is pickled, convert the file of one source.

    `seconds` is how long to wait for the first answer. Raises SourceError with the reason if the source does not give the file.
    """
    if source.hub:
        expected, size = pins.expected_sha256(record, source), pins.size(record, source)
        hub = from_hub(source, pins.revision(record, source), expected, seconds, size)
        file = WeightFile(record.name, hub.path, hub.sha256, str(source), hub.commit, identity=hub.identity)
        return file if hub.path.suffix == ".safetensors" else local.converted(record, file)
    if source.url:
        return _download_url(record, source, seconds)
    raise SourceError("this installation does not contain it")


def _download_url(record: Entry, source: Source, seconds: float) -> WeightFile:
    """Download a plain file into a temporary folder, and give it its name only after it has been verified."""
    folder = local.folder(record)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as scratch:
        path = Path(scratch) / source.filename
        got, identity = from_url(source, path, pins.expected_sha256(record, source), seconds, pins.size(record, source))
        file = WeightFile(record.name, path, got, str(source), identity=identity)
        if path.suffix != ".safetensors":
            return local.converted(record, file)
        kept = folder / path.name
        os.replace(path, kept)
        moved = Identity.of(kept.stat())
        if moved._replace(ctime_ns=identity.ctime_ns) != identity:
            raise SourceError("the file was replaced while it was put in place")
        return replace(file, path=kept, identity=moved)
