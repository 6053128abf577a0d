"""The optional packages that write and run exported files."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from trickzoo.errors import BadOption


def require(path: Path, extra: str, *packages: str) -> None:
    """Import packages that belong to an extra of trickzoo. Raises BadOption, which names the file and the extra, if one is missing."""
    try:
        for package in packages:
            import_module(package)
    except ImportError:
        raise BadOption(f"{path} needs the package {package}, which is not installed; pip install 'trickzoo[{extra}]'") from None
