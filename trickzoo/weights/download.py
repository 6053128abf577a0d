"""Downloads: the hub through its own client, anything else as a plain https file. What cannot be had or is wrong raises `Wrong`."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from trickzoo.errors import BadCheckpoint, BadOption, WeightsUnavailable
from trickzoo.files import Identity, examine, home
from trickzoo.weights import streams
from trickzoo.weights.record import Source
from trickzoo.weights.streams import Wrong, failure, first_line

REACH_SECONDS = 2.0
"""How long to wait for the first answer of a source; a second source after a silent first one gets half: no network is told within 3 s."""
READ_SECONDS = 10.0
"""How long to wait for more of a body."""

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, None)
"""Errors of a full disk; the writer of safetensors gives none."""


def offline() -> bool:
    """Whether the environment forbids the network (HF_HUB_OFFLINE, the hub client's own switch)."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


class Missing(Wrong):
    """A source does not have the file."""


class HubFile(NamedTuple):
    """A file of the hub's cache, verified; `commit` is that of the repository."""

    path: Path
    sha256: str
    commit: str
    identity: Identity


def agrees(got: str, wanted: str | None) -> bool:
    return wanted is None or got.startswith(wanted)


def _hub() -> Any:
    """The hub client. Raises BadOption if a variable of the environment keeps it from starting."""
    try:
        import huggingface_hub
        from huggingface_hub import constants, errors, file_download  # noqa: F401  # here it reads the environment

        return huggingface_hub
    except ValueError as error:
        guilty = [name for name, value in os.environ.items() if name.startswith("HF_") and f"'{value}'" in str(error)]
        raise BadOption(
            f"the hub client does not start ({error}); correct or unset {' or '.join(guilty) or 'its variables, HF_…'}"
        ) from None


def in_hub_cache(source: Source, revision: str | None) -> Path | None:
    """The file in the hub client's cache, if it is there."""
    hub = _hub()
    try:
        found = hub.try_to_load_from_cache(str(source.hub), str(source.file), hub_cache(), revision=revision or "main")
    except hub.errors.HFValidationError:  # a name that no repository can have; the download says so
        return None
    return Path(found) if isinstance(found, str) else None


def from_hub_cache(source: Source) -> Path:
    """As `in_hub_cache`; raises Missing if the file is not there."""
    if found := in_hub_cache(source, source.revision):
        return found
    raise Missing("not in the cache, and HF_HUB_OFFLINE forbids the network")


def commit_of(source: Source, path: Path) -> str:
    """The commit that a file of the hub's cache belongs to: the folder of the snapshot, above those of the file's own name."""
    return path.parents[str(source.file).count("/")].name


def hub_cache() -> str:
    """Folder of the hub client's cache: its own choice, but for a user without a home one inside ours."""
    own = os.environ.get("HF_HUB_CACHE") or str(_hub().constants.HF_HUB_CACHE)
    return str(home() / "hub") if own.startswith("~") else own


def _patience(seconds: float) -> float:
    own = os.environ.get("HF_HUB_ETAG_TIMEOUT")
    try:
        return float(own or seconds)
    except ValueError:
        raise BadOption(f"HF_HUB_ETAG_TIMEOUT is a number of seconds, not {own}; correct or unset it") from None


def from_hub(source: Source, revision: str | None, wanted: str | None, seconds: float, size: int | None = None) -> HubFile:
    """Download through the hub client. Raises Missing or Wrong with the reason; wrong bytes are deleted.

    `wanted` is the digest, `size` the number of bytes that are recorded for the file.
    """
    hub = _hub()
    assert source.hub is not None and source.file is not None
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or None
    timeout = _patience(seconds)
    session = streams.client()
    try:
        url = hub.hf_hub_url(source.hub, source.file, revision=revision, endpoint=endpoint)
        # Is anyone there? Asked bare and once: the client may first wait 3 s for its list of agents, or try again for most of a minute.
        status = session.head(url, timeout=timeout, follow_redirects=False).status_code
        if status == 429 or status >= 500:
            raise Wrong(f"the hub answered {status}")
        metadata = hub.get_hf_file_metadata(url, timeout=timeout)
        stated = _agreed(metadata, wanted, size)
        # By the revision's name, not the commit, so that the client remembers which commit it is and finds the file offline.
        with streams.bounded(session, min(size or metadata.size or streams.LARGEST, streams.LARGEST)):
            path = Path(
                hub.hf_hub_download(
                    source.hub, source.file, revision=revision, endpoint=endpoint, etag_timeout=timeout, cache_dir=hub_cache()
                )
            )
        if commit_of(source, path) != metadata.commit_hash:
            raise Wrong("the repository changed meanwhile; try again")
    except Wrong:
        raise
    except Exception as error:
        raise _hub_failure(error, hub.errors) from None
    wanted = wanted or stated
    got, identity = examine(path)
    if not agrees(got, wanted):
        path.resolve().unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise Wrong(f"wrong bytes: SHA-256 {wanted} wanted, {got} received")
    return HubFile(path, got, metadata.commit_hash, identity)


def _agreed(metadata: Any, wanted: str | None, size: int | None) -> str | None:
    """The digest that the hub states for a large file. Raises Wrong if the hub states anything else than what is recorded."""
    if metadata.commit_hash is None:
        raise Wrong("the answer names no commit; is this a hub?")
    stated: str | None = metadata.etag if metadata.etag is not None and len(metadata.etag) == 64 else None
    if wanted and stated and not agrees(stated, wanted):
        raise Wrong(f"the hub states SHA-256 {stated}, {wanted} is recorded")
    if size is not None and metadata.size is not None and metadata.size != size:
        raise Wrong(f"the hub states {metadata.size:,} bytes, {size:,} are recorded")
    return stated


def _hub_failure(error: Exception, errors: Any) -> Exception:
    """What a failure of the hub client means: Missing, Wrong, or WeightsUnavailable if the disk refuses."""
    if isinstance(error, errors.GatedRepoError):
        return Wrong("access to the repository must be asked for; log in with `hf auth login`")
    if isinstance(error, errors.LocalEntryNotFoundError):
        return Wrong("the hub stopped answering")
    if isinstance(error, (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.EntryNotFoundError)):
        what = "not found, or private" if (answer := _status(error)) == "401" else "not found"
        return Missing(f"{what} ({answer})")
    if isinstance(error, errors.HfHubHTTPError):
        return Wrong(f"the hub answered {_status(error)}")
    if isinstance(error, OSError) and error.errno is not None and not isinstance(error, (ConnectionError, TimeoutError)):
        return refused(hub_cache(), "HF_HUB_CACHE", error)
    if type(error).__module__.partition(".")[0].startswith("httpx"):  # the client's transport: httpx, httpx2, …
        return failure(error)
    return Wrong(first_line(error))


def from_url(source: Source, target: Path, wanted: str | None, seconds: float, size: int | None = None) -> tuple[str, Identity]:
    """Download a plain file to `target`, in a folder of the caller's own; its digest and identity. Raises Wrong for other bytes."""
    assert source.url is not None
    largest = min(size or streams.LARGEST, streams.LARGEST)
    streams.save(streams.client(), source.url, target, largest, _patience(seconds), READ_SECONDS)
    got, identity = examine(target)
    if not agrees(got, wanted):
        raise Wrong(f"wrong bytes: SHA-256 {wanted} wanted, {got} received")
    return got, identity


def fetch_hub_reference(reference: str) -> tuple[Path, dict[str, Any], str]:
    """The weight file, the parsed config.json and the commit of `hf-hub:user/name[@revision]`.

    Raises WeightsUnavailable if the hub has no such repository or cannot be reached, BadCheckpoint if the config is not what it should be.
    """
    repository, _, revision = reference.removeprefix("hf-hub:").partition("@")

    def get(filename: str, at: str | None) -> Path:
        source = Source(hub=repository, file=filename, revision=at)
        try:
            return from_hub_cache(source) if offline() else from_hub(source, at, None, REACH_SECONDS).path
        except Missing:
            raise
        except Wrong as error:
            with contextlib.suppress(Missing):  # the hub does not answer, but an earlier answer is here
                return from_hub_cache(source)
            raise WeightsUnavailable(f"{reference}: {filename}: {error}; pass weights=PATH to use a file") from None

    errors = []
    for filename in ("model.safetensors", "pytorch_model.bin"):
        try:
            path = get(filename, revision or None)
            break
        except Missing as error:
            errors.append(f"{filename}: {error}")
    else:
        raise WeightsUnavailable(f"{reference}: no weights could be had ({'; '.join(errors)}); pass weights=PATH to use a file")
    commit = path.parent.name
    try:
        config = json.loads(get("config.json", commit).read_text(encoding="utf-8"))
    except Missing:
        return path, {}, commit
    except (ValueError, RecursionError) as error:
        raise BadCheckpoint(f"{reference}: config.json cannot be read ({error}); pass weights=PATH to use a file") from None
    if not isinstance(config, dict):
        raise BadCheckpoint(f"{reference}: config.json is not an object; pass weights=PATH to use a file")
    return path, config, commit


def refused(folder: Path | str, variable: str, error: OSError) -> WeightsUnavailable:
    """What to say when the disk does not take a file."""
    remedy = (
        f"free some space, or set {variable} to a folder elsewhere" if error.errno in NO_ROOM else f"set {variable} to a folder of your own"
    )
    return WeightsUnavailable(f"{folder}: {error.strerror or error}; {remedy}")


def _status(error: Any) -> str:
    response = getattr(error, "response", None)
    return str(response.status_code) if response is not None else first_line(error)
