"""Files that are whole or not there, what is in them, and where this package keeps its own."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path


def home() -> Path:
    """Folder of weights from urls, stamps, lock file and decoded images: TRICKZOO_HOME, else trickzoo in the user's cache."""
    if own := os.environ.get("TRICKZOO_HOME"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "trickzoo"


def digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        value = hashlib.sha256()
        while chunk := file.read(1 << 20):
            value.update(chunk)
    return value.hexdigest()


@contextlib.contextmanager
def atomically(path: Path) -> Iterator[Path]:
    """The path of an empty temporary file beside `path`; when the block ends well it is synced and takes the name, otherwise it goes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        temporary.touch(exist_ok=False)
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)  # safetensors puts a file there that nobody but its owner may read
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it has the whole content or keeps what it had."""
    with atomically(path) as temporary:
        temporary.write_bytes(content)
