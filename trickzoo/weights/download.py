"""Downloads files from the hub through its own client, and from any other url as plain files."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from trickzoo.errors import BadCheckpoint, BadOption, WeightsUnavailable, first_line
from trickzoo.files import Identity, examine, home, refusal
from trickzoo.weights import streams
from trickzoo.weights.record import Source
from trickzoo.weights.streams import SourceError, is_of_transport, network_error

OWN_FILE = "pass weights=PATH (--weights PATH on the command line)"
"""The remedy where a weight cannot be downloaded, in both ways that a reader may have asked for it."""
REACH_SECONDS = 2.0
"""Seconds to wait for the first answer of a source. After a source that did not answer, the next one gets half of this, so that a missing
network is reported within 3 s."""
READ_SECONDS = 10.0
"""Seconds to wait for the next part of a file."""

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, None)
"""The `errno` of a full disk. The writer of safetensors reports None."""


def offline() -> bool:
    """Return whether the environment variable HF_HUB_OFFLINE, which the hub client also reads, forbids the network."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


class Missing(SourceError):
    """The source does not have the file."""


class HubFile(NamedTuple):
    """A verified file in the hub client's cache.

    Attributes:
        path: the path of the file.
        sha256: its digest.
        commit: the commit of the hub repository that the file belongs to.
        identity: the identity of the file that was verified.
    """

    path: Path
    sha256: str
    commit: str
    identity: Identity


def digest_matches(got: str, expected: str | None) -> bool:
    """Return whether a digest begins with the expected digits; any digest does if none are known."""
    return expected is None or got.startswith(expected)


def _hub() -> Any:
    """Return the hub client. Raises BadOption if an environment variable prevents it from starting."""
    try:
        import huggingface_hub
        from huggingface_hub import constants, errors, file_download  # noqa: F401  # these modules read the environment when they are imported

        return huggingface_hub
    except ValueError as error:
        invalid = [name for name, value in os.environ.items() if name.startswith("HF_") and f"'{value}'" in str(error)]
        raise BadOption(
            f"the hub client does not start ({error}); correct or unset {' or '.join(invalid) or 'its variables, HF_…'}"
        ) from None


def in_hub_cache(source: Source, revision: str | None) -> Path | None:
    """Return the path of a source's file in the hub client's cache, None if it has none. Without a revision, "main" is looked up."""
    hub = _hub()
    try:
        found = hub.try_to_load_from_cache(str(source.hub), str(source.file), hub_cache(), revision=revision or "main")
    except hub.errors.HFValidationError:  # no repository can have this name; the download reports it
        return None
    return Path(found) if isinstance(found, str) else None


def from_hub_cache(source: Source) -> Path:
    """Return the path of a source's file in the hub client's cache. Raises Missing if the cache does not have it."""
    if found := in_hub_cache(source, source.revision):
        return found
    raise Missing("not in the cache, and HF_HUB_OFFLINE forbids the network")


def commit_of(source: Source, path: Path) -> str:
    """Return the commit that a file in the hub client's cache belongs to, which is the name of its snapshot folder."""
    return path.parents[str(source.file).count("/")].name


def hub_cache() -> str:
    """Return the folder of the hub client's cache. For a user without a home folder it is a folder inside `home()`."""
    own = os.environ.get("HF_HUB_CACHE") or str(_hub().constants.HF_HUB_CACHE)
    return str(home() / "hub") if own.startswith("~") else own


def _timeout(seconds: float) -> float:
    """Return the seconds to wait for an answer: HF_HUB_ETAG_TIMEOUT, or by default `seconds`."""
    own = os.environ.get("HF_HUB_ETAG_TIMEOUT")
    try:
        return float(own or seconds)
    except ValueError:
        raise BadOption(f"HF_HUB_ETAG_TIMEOUT must be a number of seconds, not {own}; correct or unset it") from None


def from_hub(source: Source, revision: str | None, expected: str | None, seconds: float, size: int | None = None) -> HubFile:
    """Download a file from the hub into the cache of the hub client, and verify it.

    Args:
        source: the repository and the file.
        revision: the branch, tag or commit; None for the default branch.
        expected: the recorded SHA-256 or its first digits. By default the digest that the hub states is checked.
        seconds: how long to wait for the first answer.
        size: the recorded size in bytes.

    Raises:
        Missing: if the hub does not have the file.
        SourceError: if it cannot be downloaded, or its bytes are not the expected ones, which are then deleted.
        WeightsUnavailable: if the file cannot be written.
    """
    hub = _hub()
    assert source.hub is not None and source.file is not None
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or None
    timeout = _timeout(seconds)
    session = streams.client()
    try:
        url = hub.hf_hub_url(source.hub, source.file, revision=revision, endpoint=endpoint)
        # Check with a single request whether the hub answers: the client itself may wait 3 s for its list of agents, or retry for a minute.
        status = session.head(url, timeout=timeout, follow_redirects=False).status_code
        if status == 429 or status >= 500:
            raise SourceError(f"the hub answered {status}")
        metadata = hub.get_hf_file_metadata(url, timeout=timeout)
        stated = _agreed(metadata, expected, size)
        # Ask for the revision by its name instead of its commit: the client then stores which commit it is, and finds the file offline.
        with streams.bounded(session, min(size or metadata.size or streams.LARGEST, streams.LARGEST), text=stated is None):
            path = Path(
                hub.hf_hub_download(
                    source.hub, source.file, revision=revision, endpoint=endpoint, etag_timeout=timeout, cache_dir=hub_cache()
                )
            )
        if commit_of(source, path) != metadata.commit_hash:
            raise SourceError("the repository changed meanwhile; try again")
    except SourceError:
        raise
    except Exception as error:
        raise _hub_failure(error, hub.errors) from None
    expected = expected or stated
    got, identity = examine(path)
    if not digest_matches(got, expected):
        path.resolve().unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise SourceError(f"wrong bytes: expected SHA-256 {expected}, received {got}")
    return HubFile(path, got, metadata.commit_hash, identity)


def _agreed(metadata: Any, expected: str | None, size: int | None) -> str | None:
    """Return the SHA-256 that the hub states for a large file, None for a small one.

    Raises SourceError if the hub states another digest or size than the recorded one.
    """
    if metadata.commit_hash is None:
        raise SourceError("the server does not answer like the Hugging Face Hub: it names no commit")
    stated: str | None = metadata.etag if metadata.etag is not None and len(metadata.etag) == 64 else None
    if expected and stated and not digest_matches(stated, expected):
        raise SourceError(f"the hub states SHA-256 {stated}, but {expected} is recorded")
    if size is not None and metadata.size is not None and metadata.size != size:
        raise SourceError(f"the hub states {metadata.size:,} bytes, {size:,} are recorded")
    return stated


def _hub_failure(error: Exception, errors: Any) -> Exception:
    """Convert an error of the hub client to Missing, SourceError, or WeightsUnavailable if the file cannot be written."""
    if isinstance(error, errors.GatedRepoError):
        return SourceError("the repository is gated; request access on its page and log in with `hf auth login`")
    if isinstance(error, errors.LocalEntryNotFoundError):
        return SourceError("the hub stopped answering")
    if isinstance(error, (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.EntryNotFoundError)):
        what = "not found, or private" if (answer := _status(error)) == "401" else "not found"
        return Missing(f"{what} ({answer})")
    if isinstance(error, errors.HfHubHTTPError):
        return SourceError(f"the hub answered {_status(error)}")
    if isinstance(error, OSError) and error.errno is not None and not isinstance(error, (ConnectionError, TimeoutError)):
        return write_error(hub_cache(), "HF_HUB_CACHE", error)
    if is_of_transport(error):
        return network_error(error)
    return SourceError(first_line(error))


def from_url(source: Source, target: Path, expected: str | None, seconds: float, size: int | None = None) -> tuple[str, Identity]:
    """Download a plain file to `target`, and return its SHA-256 and its identity.

    `target` must be in a folder that no other process writes to. `expected` is the recorded SHA-256 or its first digits, `seconds` how long
    to wait for the first answer, `size` the recorded size in bytes. Raises SourceError if the file cannot be downloaded or has other bytes.
    """
    assert source.url is not None
    streams.save(streams.client(), source.url, target, size, _timeout(seconds), READ_SECONDS)
    got, identity = examine(target)
    if not digest_matches(got, expected):
        raise SourceError(f"wrong bytes: expected SHA-256 {expected}, received {got}")
    return got, identity


def fetch_hub_reference(reference: str) -> tuple[Path, dict[str, Any], str]:
    """Return the weight file, the parsed config.json ({} if there is none) and the commit of `hf-hub:user/name[@revision]`.

    Raises WeightsUnavailable if the hub has no such repository or cannot be reached, and BadCheckpoint if config.json is not a JSON object.
    """
    repository, _, revision = reference.removeprefix("hf-hub:").partition("@")

    def get(filename: str, at: str | None) -> Path:
        source = Source(hub=repository, file=filename, revision=at)
        try:
            return from_hub_cache(source) if offline() else from_hub(source, at, None, REACH_SECONDS).path
        except Missing:
            raise
        except SourceError as error:
            with contextlib.suppress(Missing):  # the hub does not answer, but the file may be in the cache
                return from_hub_cache(source)
            raise WeightsUnavailable(f"{reference}: {filename}: {error}; {OWN_FILE} to use a file") from None

    errors = []
    for filename in ("model.safetensors", "pytorch_model.bin"):
        try:
            path = get(filename, revision or None)
            break
        except Missing as error:
            errors.append(f"{filename}: {error}")
    else:
        raise WeightsUnavailable(f"{reference}: no weights could be downloaded ({'; '.join(errors)}); {OWN_FILE} to use a file")
    commit = path.parent.name
    try:
        config = json.loads(get("config.json", commit).read_text(encoding="utf-8"))
    except Missing:
        return path, {}, commit
    except (ValueError, RecursionError) as error:
        raise BadCheckpoint(f"{reference}: config.json cannot be read ({error}); {OWN_FILE} to use a file") from None
    if not isinstance(config, dict):
        raise BadCheckpoint(f"{reference}: config.json is not an object; {OWN_FILE} to use a file")
    return path, config, commit


def write_error(folder: Path | str, variable: str, error: OSError) -> WeightsUnavailable:
    """Return the error for a folder that cannot be written to; `variable` is the environment variable that names the folder."""
    remedy = (
        f"free some space, or set {variable} to a folder elsewhere" if error.errno in NO_ROOM else f"set {variable} to a folder of your own"
    )
    return WeightsUnavailable(f"{folder}: {refusal(Path(folder), error)}; {remedy}")


def _status(error: Any) -> str:
    response = getattr(error, "response", None)
    return str(response.status_code) if response is not None else first_line(error)
