"""Limits the size and the duration of downloads, and explains network errors in a few words."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trickzoo.errors import first_line

SLOW_SECONDS = 20.0
SLOW_BYTES = 20_000
"""A download that receives fewer than SLOW_BYTES bytes in SLOW_SECONDS seconds is stopped."""
LARGEST = 2 << 30
"""The largest download in bytes if the size of a file is unknown. The largest weight of the zoo has a tenth of it."""
LARGEST_PACKED = 1 << 16
"""The largest compressed download in bytes. Hubs compress only small text files. Decompressed, this can be 64 MiB at most."""


class SourceError(Exception):
    """A source did not give the right file. The message is the reason, and the caller tries the next source."""


class TimedOut(SourceError):
    """A source did not answer, or sent its file too slowly."""


def client() -> Any:
    """Return the HTTP client of the hub client, which uses the proxies and certificates of the environment.

    Raises SourceError if it cannot be created.
    """
    import huggingface_hub

    try:
        return huggingface_hub.get_session()
    except Exception as error:  # each wrong setting of the environment raises an error of its own
        variables = ("SSL_CERT_FILE", "SSL_CERT_DIR")
        gone = [
            f"{name} names {place}, which does not exist"
            for name in variables
            if (place := os.environ.get(name)) and not os.path.exists(place)
        ]
        raise SourceError(f"no connection can be made: {'; '.join(gone) or first_line(error)}") from None


@contextlib.contextmanager
def bounded(session: Any, largest: int, *, text: bool = False) -> Iterator[None]:
    """Limit the responses that this thread receives from `session` within the block.

    Reading a response raises SourceError beyond `largest` bytes, and TimedOut if the bytes arrive too slowly. A compressed response, whose
    size after decompression is unknown, raises SourceError too, unless it is a small `text`.
    """
    transport = sys.modules[next(kind.__module__ for kind in type(session).__mro__ if kind.__name__ == "Client").partition(".")[0]]
    thread = threading.get_ident()

    class Bounded(transport.SyncByteStream):  # type: ignore[name-defined]
        def __init__(self, stream: Any, largest: int) -> None:
            self.stream, self.largest = stream, largest

        def __iter__(self) -> Iterator[bytes]:
            return _watched(self.stream, self.largest)

        def close(self) -> None:
            self.stream.close()

    def bind(response: Any) -> None:
        if threading.get_ident() == thread:
            packing = response.headers.get("content-encoding", "identity")
            if packing == "identity":
                response.stream = Bounded(response.stream, largest)
            elif text:
                response.stream = Bounded(response.stream, LARGEST_PACKED)
            else:
                raise SourceError(f"it sends the file compressed ({packing}), which is not supported")

    hooks = session.event_hooks
    session.event_hooks = {**hooks, "response": [*hooks["response"], bind]}
    try:
        yield
    finally:
        now = session.event_hooks
        session.event_hooks = {**now, "response": [hook for hook in now["response"] if hook is not bind]}


def _watched(stream: Any, largest: int) -> Iterator[bytes]:
    """Yield the parts of a stream. Raises SourceError beyond `largest` bytes, and TimedOut if they arrive too slowly."""
    total, recent, since = 0, 0, time.monotonic()
    for chunk in stream:
        total += len(chunk)
        recent += len(chunk)
        if total > largest:
            raise SourceError(f"it sends more than {largest:,} bytes, which the file should have at most")
        if (seconds := time.monotonic() - since) >= SLOW_SECONDS:
            if recent < SLOW_BYTES:
                raise TimedOut(f"it is too slow: {recent:,} bytes in {seconds:.0f} s")
            recent, since = 0, time.monotonic()
        yield chunk


def save(session: Any, url: str, target: Path, size: int | None, connect_seconds: float, read_seconds: float) -> None:
    """Download a url to a file, with a progress bar on a terminal.

    `size` is the size of the file in bytes, if it is known. `connect_seconds` and `read_seconds` limit the wait for a connection and for
    the next part. Raises SourceError if the server does not give the file, and OSError if it cannot be written.
    """
    from huggingface_hub.utils import tqdm  # the progress bar that hub files have

    timeout = (connect_seconds, read_seconds, read_seconds, None)
    request = {"headers": {"Accept-Encoding": "identity"}, "follow_redirects": True, "timeout": timeout}
    try:
        with bounded(session, min(size or LARGEST, LARGEST)), session.stream("GET", url, **request) as response, target.open("wb") as file:
            if response.status_code >= 400:
                raise SourceError(f"the server answered {response.status_code}")
            length = response.headers.get("content-length", "")
            total = int(length) if length.isdecimal() else None
            if size is not None and total is not None and total != size:
                raise SourceError(f"the server states {total:,} bytes, {size:,} are recorded")
            with tqdm(desc=target.name, total=total, unit="B", unit_scale=True, disable=None) as bar:
                for chunk in response.iter_raw():
                    file.write(chunk)
                    bar.update(len(chunk))
    except (SourceError, OSError):
        raise
    except Exception as error:  # of the transport
        raise network_error(error) from None


def is_of_transport(error: BaseException) -> bool:
    """Return whether an error comes from the HTTP library of the hub's client: httpx, httpx2, …"""
    return type(error).__module__.partition(".")[0].startswith("httpx")


def network_error(error: BaseException) -> SourceError:
    """Return a network error as SourceError or TimedOut, with the reason in a few words."""
    name = type(error).__name__.lower()
    text = str(error).lower()
    if "timeout" in name or "timed out" in text:
        return TimedOut("timed out")
    if "refused" in text:
        return SourceError("connection refused")
    if "resolve" in text or "name or service" in text or "getaddrinfo" in text or "name resolution" in text:
        return SourceError("the host name cannot be resolved")
    if "incomplete" in text or "complete message body" in text:
        return SourceError("the download was cut short")
    return SourceError(first_line(error))
