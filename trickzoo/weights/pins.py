"""The lock file: which revision and which digest of a weight this user or project has pinned, and so what a file must be."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from trickzoo.errors import BadManifest
from trickzoo.files import home, write_atomically
from trickzoo.weights.record import Record, Source


def lock_file() -> Path:
    """The file of pinned revisions and digests: TRICKZOO_LOCK, else weights.lock.json in `home()`."""
    own = os.environ.get("TRICKZOO_LOCK")
    return Path(own).expanduser() if own else home() / "weights.lock.json"


def read() -> dict[str, dict[str, Any]]:
    """What is pinned, by the weight's name. Raises BadManifest if the file is no lock file."""
    path = lock_file()
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise BadManifest(f"{path}: not a lock file ({error}); delete it or restore it") from None
    if not isinstance(found, dict):
        raise BadManifest(f"{path}: not a lock file; delete it or restore it")
    return found


def write(entries: dict[str, dict[str, Any]]) -> None:
    """Add entries to what is pinned, or replace them. Raises NotWritten if the file cannot be written."""
    together = read() | entries
    ordered = {name: together[name] for name in sorted(together)}
    remedy = "set TRICKZOO_LOCK to a file in a folder that can be written"
    write_atomically(lock_file(), (json.dumps(ordered, indent=1) + "\n").encode(), remedy=remedy)


def wanted(record: Record, source: Source) -> str | None:
    """The digest, or its first digits, that a file of this source must have."""
    return source.sha256 or _pinned(record, source).get("sha256") or source.sha256_prefix


def revision(record: Record, source: Source) -> str | None:
    """The commit of the hub repository that a file must be of."""
    return source.revision or _pinned(record, source).get("revision")


def _pinned(record: Record, source: Source) -> dict[str, Any]:
    entry = read().get(record.name, {})
    return entry if entry.get("source") == str(source) else {}
