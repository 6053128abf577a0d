"""Bodies of answers from the network, bounded in size and in time, and what a failure of the transport means in a few words."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SLOW_SECONDS = 20.0
SLOW_BYTES = 20_000
"""A body that brings fewer bytes than these in as many seconds is given up."""
LARGEST = 2 << 30
"""Bytes of a file whose size nobody states; the largest weight of the zoo has a tenth of them."""
LARGEST_PACKED = 1 << 20
"""Bytes of a body that is sent compressed, as hubs send small texts: its size when unpacked is not known."""


class Wrong(Exception):
    """A source gave something that must not be used; the next source is tried."""


class TimedOut(Wrong):
    """A source was silent, or too slow, for too long."""


def client() -> Any:
    """The http client of the hub client, which has the proxies and certificates of the environment. Raises Wrong if it cannot be made."""
    import huggingface_hub

    try:
        return huggingface_hub.get_session()
    except Exception as error:  # each of the environment's settings fails in its own way
        variables = ("SSL_CERT_FILE", "SSL_CERT_DIR")
        gone = [
            f"{name} names {place}, which does not exist"
            for name in variables
            if (place := os.environ.get(name)) and not os.path.exists(place)
        ]
        raise Wrong(f"no connection can be made: {'; '.join(gone) or first_line(error)}") from None


@contextlib.contextmanager
def bounded(session: Any, largest: int) -> Iterator[None]:
    """Inside the block, answers to this thread end with Wrong beyond `largest` bytes, with TimedOut when they come too slowly."""
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
            packed = response.headers.get("content-encoding", "identity") != "identity"
            response.stream = Bounded(response.stream, min(largest, LARGEST_PACKED) if packed else largest)

    hooks = session.event_hooks
    session.event_hooks = {**hooks, "response": [*hooks["response"], bind]}
    try:
        yield
    finally:
        now = session.event_hooks
        session.event_hooks = {**now, "response": [hook for hook in now["response"] if hook is not bind]}


def _watched(stream: Any, largest: int) -> Iterator[bytes]:
    total, recent, since = 0, 0, time.monotonic()
    for chunk in stream:
        total += len(chunk)
        recent += len(chunk)
        if total > largest:
            raise Wrong(f"it sends more than {largest:,} bytes, which the file should have at most")
        if (seconds := time.monotonic() - since) >= SLOW_SECONDS:
            if recent < SLOW_BYTES:
                raise TimedOut(f"it is too slow: {recent:,} bytes in {seconds:.0f} s")
            recent, since = 0, time.monotonic()
        yield chunk


def save(session: Any, url: str, target: Path, largest: int, connect_seconds: float, read_seconds: float) -> None:
    """Write the body of a plain address to a file. Raises Wrong if the server does not give it, OSError if the disk refuses."""
    from huggingface_hub.utils import tqdm  # the bar of files from the hub

    timeout = (connect_seconds, read_seconds, read_seconds, None)
    request = {"headers": {"Accept-Encoding": "identity"}, "follow_redirects": True, "timeout": timeout}
    try:
        with bounded(session, largest), session.stream("GET", url, **request) as response, target.open("wb") as file:
            if response.status_code >= 400:
                raise Wrong(f"the server answered {response.status_code}")
            length = response.headers.get("content-length", "")
            total = int(length) if length.isdecimal() else None
            with tqdm(desc=target.name, total=total, unit="B", unit_scale=True, disable=None) as bar:
                for chunk in response.iter_raw():
                    file.write(chunk)
                    bar.update(len(chunk))
    except (Wrong, OSError):
        raise
    except Exception as error:  # of the transport
        raise failure(error) from None


def first_line(error: BaseException) -> str:
    """The first line of a message, or the kind of an error without one."""
    return (str(error) or type(error).__name__).splitlines()[0].strip().rstrip(".")


def failure(error: BaseException) -> Wrong:
    """A failure of the transport in a few words."""
    name = type(error).__name__.lower()
    text = str(error).lower()
    if "timeout" in name or "timed out" in text:
        return TimedOut("timed out")
    if "refused" in text:
        return Wrong("connection refused")
    if "resolve" in text or "name or service" in text or "getaddrinfo" in text or "name resolution" in text:
        return Wrong("the host name cannot be resolved")
    if "incomplete" in text or "complete message body" in text:
        return Wrong("the download was cut short")
    return Wrong(first_line(error))
