"""Downloads: the hub through its own client, anything else as a plain https file. What cannot be had or is wrong raises `Wrong`."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

from trickzoo.errors import BadCheckpoint, WeightsUnavailable
from trickzoo.files import digest
from trickzoo.weights.record import Source

REACH_SECONDS = 2.0
"""How long to wait for the first answer of a source; a second source after a silent first one gets half: no network is told within 3 s."""
READ_SECONDS = 10.0


def offline() -> bool:
    """Whether the environment forbids the network (HF_HUB_OFFLINE, the hub client's own switch)."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


class Wrong(Exception):
    """A source gave something that must not be used; the next source is tried."""


class Missing(Wrong):
    """A source does not have the file."""


class HubFile(NamedTuple):
    """A file of the hub's cache, verified; `commit` is that of the repository."""

    path: Path
    sha256: str
    commit: str


def agrees(got: str, wanted: str | None) -> bool:
    return wanted is None or got.startswith(wanted)


def in_hub_cache(source: Source, revision: str | None) -> Path | None:
    from huggingface_hub import errors, try_to_load_from_cache

    try:
        found = try_to_load_from_cache(str(source.hub), str(source.file), hub_cache(), revision=revision or "main")
    except errors.HFValidationError:  # a name that no repository can have; the download says so
        return None
    return Path(found) if isinstance(found, str) else None


def from_hub_cache(source: Source) -> Path:
    if found := in_hub_cache(source, source.revision):
        return found
    raise Missing("not in the cache, and HF_HUB_OFFLINE forbids the network")


def commit_of(source: Source, path: Path) -> str:
    """The commit that a file of the hub's cache belongs to: the folder of the snapshot, above those of the file's own name."""
    return path.parents[str(source.file).count("/")].name


def hub_cache() -> str | None:
    return os.environ.get("HF_HUB_CACHE")  # else the hub client's own choice


def from_hub(source: Source, revision: str | None, wanted: str | None, seconds: float) -> HubFile:
    """Download through the hub client. Raises Missing or Wrong with the reason; wrong bytes are deleted."""
    import huggingface_hub
    from huggingface_hub import errors

    assert source.hub is not None and source.file is not None
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or None
    cache = hub_cache() or huggingface_hub.constants.HF_HUB_CACHE
    timeout = float(os.environ.get("HF_HUB_ETAG_TIMEOUT") or seconds)
    try:
        url = huggingface_hub.hf_hub_url(source.hub, source.file, revision=revision, endpoint=endpoint)
        # Is anyone there? Asked bare and once: the client may first wait 3 s for its list of agents, or try again for most of a minute.
        status = huggingface_hub.get_session().head(url, timeout=timeout, follow_redirects=False).status_code
        if status == 429 or status >= 500:
            raise Wrong(f"the hub answered {status}")
        metadata = huggingface_hub.get_hf_file_metadata(url, timeout=timeout)
        commit = metadata.commit_hash
        if commit is None:
            raise Wrong("the answer names no commit; is this a hub?")
        stated = metadata.etag if metadata.etag is not None and len(metadata.etag) == 64 else None
        if wanted and stated and not agrees(stated, wanted):
            raise Wrong(f"the hub states SHA-256 {stated}, {wanted} is recorded")
        # By the revision's name, not the commit, so that the client remembers which commit it is and finds the file offline.
        path = Path(
            huggingface_hub.hf_hub_download(
                source.hub, source.file, revision=revision, endpoint=endpoint, etag_timeout=timeout, cache_dir=cache
            )
        )
        if commit_of(source, path) != commit:
            raise Wrong("the repository changed meanwhile; try again")
    except errors.GatedRepoError:
        raise Wrong("access to the repository must be asked for; log in with `hf auth login`") from None
    except errors.LocalEntryNotFoundError:
        raise Wrong("the hub stopped answering") from None
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.EntryNotFoundError) as error:
        what = "not found, or private" if (answer := _status(error)) == "401" else "not found"
        raise Missing(f"{what} ({answer})") from None
    except errors.HfHubHTTPError as error:
        raise Wrong(f"the hub answered {_status(error)}") from None
    except (errors.OfflineModeIsEnabled, errors.FileMetadataError, errors.HFValidationError) as error:
        raise Wrong(_first_line(error)) from None
    except OSError as error:
        if error.errno is not None and not isinstance(error, (ConnectionError, TimeoutError)):
            raise refused(cache, "HF_HUB_CACHE", error) from error
        raise Wrong(_first_line(error)) from None
    except Exception as error:
        if not type(error).__module__.partition(".")[0].startswith("httpx"):  # the client's transport: httpx, httpx2, …
            raise
        raise Wrong(_transport(error)) from None
    wanted = wanted or stated
    got = digest(path)
    if not agrees(got, wanted):
        path.resolve().unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise Wrong(f"wrong bytes: SHA-256 {wanted} wanted, {got} received")
    return HubFile(path, got, commit)


def from_url(source: Source, target: Path, wanted: str | None, seconds: float) -> str:
    """Download a plain https file to `target`, in a folder of the caller's own, and return its digest. Raises Wrong for other bytes."""
    import pooch
    import requests

    download = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=(seconds, READ_SECONDS))
    try:
        download(source.url, str(target), None)
    except requests.HTTPError as error:
        raise Wrong(f"the server answered {_status(error)}") from None
    except (requests.RequestException, ValueError) as error:
        raise Wrong(_transport(error)) from None
    got = digest(target)
    if not agrees(got, wanted):
        raise Wrong(f"wrong bytes: SHA-256 {wanted} wanted, {got} received")
    return got


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
    except ValueError as error:
        raise BadCheckpoint(f"{reference}: config.json cannot be read ({error}); pass weights=PATH to use a file") from None
    if not isinstance(config, dict):
        raise BadCheckpoint(f"{reference}: config.json is not an object; pass weights=PATH to use a file")
    return path, config, commit


def refused(folder: Path | str, variable: str, error: OSError) -> WeightsUnavailable:
    """What to say when the disk does not take a file."""
    return WeightsUnavailable(f"{folder}: {error.strerror or error}; free some space, or set {variable} to a folder elsewhere")


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].strip()


def _status(error: Any) -> str:
    response = getattr(error, "response", None)
    return str(response.status_code) if response is not None else _first_line(error)


def _transport(error: BaseException) -> str:
    """A network failure in a few words."""
    name = type(error).__name__.lower()
    text = str(error).lower()
    if "timeout" in name or "timed out" in text:
        return "timed out"
    if "refused" in text:
        return "connection refused"
    if "resolve" in text or "name or service" in text or "getaddrinfo" in text or "name resolution" in text:
        return "the host name cannot be resolved"
    if "incomplete" in text or "complete message body" in text:
        return "the download was cut short"
    return _first_line(error)
