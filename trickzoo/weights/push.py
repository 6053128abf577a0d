"""Pushes the files of a repository to the hub."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from trickzoo.errors import BadOption, first_line
from trickzoo.weights.streams import is_of_transport, network_error


def push(repo: str, folder: Path, files: Sequence[Path], *, private: bool = False) -> str:
    """Create the repository if it does not exist, add the files in one commit, and return the address of the commit.

    The commit comes last, so that a repository never holds a part of the files. Raises BadOption if the hub refuses.
    """
    import huggingface_hub as hub

    shown = hub.utils.are_progress_bars_disabled() or sys.stderr.isatty()
    if not shown:
        hub.utils.disable_progress_bars()
    api = hub.HfApi(endpoint=os.environ.get("HF_ENDPOINT", "").rstrip("/") or None)
    try:
        api.create_repo(repo, private=private or None, exist_ok=True)
        operations = [hub.CommitOperationAdd(path.relative_to(folder).as_posix(), path) for path in files]
        return str(api.create_commit(repo, operations, commit_message="Published with trickzoo").commit_url)
    except Exception as error:
        of_hub = (hub.errors.HfHubHTTPError, hub.errors.LocalTokenNotFoundError, ValueError, OSError, RuntimeError)
        if isinstance(error, of_hub) or is_of_transport(error):
            raise BadOption(f"{repo} was not published and has not changed: {_reason(error)}") from None
        raise
    finally:
        if not shown:
            hub.utils.enable_progress_bars()


def _reason(error: Exception) -> str:
    """Return the reason of a failed push in a few words, and what to do."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 401 or type(error).__name__ == "LocalTokenNotFoundError":
        return "the hub asks for a login (401); run `hf auth login`, or set HF_TOKEN to a token that may write"
    if status == 403:
        return "the hub refused it (403); use a token that may write there, or a repository of your own"
    if status == 404:
        return "the hub does not have the repository, or the token may not see it (404)"
    if status is not None:
        return f"the hub answered {status}; try again later"
    return f"{network_error(error)}; run the command again" if not isinstance(error, ValueError) else first_line(error)
