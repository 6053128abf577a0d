"""Refusal of URLs where a local file or folder is expected."""

from __future__ import annotations

import re

from trickzoo.errors import BadOption

URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
HUB_PAGE = re.compile(r"(?:hf://|https?://huggingface\.co/)(?P<data>datasets/)?(?P<name>[\w.-]+/[\w.-]+)/?$")
"""The address of a repository of the hub, of models or of data."""


def check_local(place: str) -> None:
    """Raise BadOption for a URL, with what to name in its place: only files and folders of this machine are read."""
    if not URL.match(place):
        return
    if hub := HUB_PAGE.match(place):
        reference = f"{'hf:' if hub['data'] else 'hf-hub:'}{hub['name']}"
        remedy = f"for this repository of the hub, write {reference}, or {hub['name']} where OWNER/NAME is expected"
    elif place.lower().startswith("file:///"):
        remedy = f"write {place[len('file://') :]}"
    else:
        remedy = "name a file or folder on this machine; what is to be read must be downloaded first"
    raise BadOption(f"{place} is a URL; {remedy}")
