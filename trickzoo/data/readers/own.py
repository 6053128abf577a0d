"""Exports of annotation tools whose form is recognised."""

from __future__ import annotations

from pathlib import Path
from pkgutil import resolve_name

from trickzoo.data.exports import Export
from trickzoo.data.layouts import with_exports, with_outlines


def box_exports(root: Path) -> list[Export]:
    """Return the exports with boxes that a folder contains, in the form of any layout."""
    return [export for reader in with_exports("detection") for export in resolve_name(reader.exports)(root)]


def region_exports(root: Path) -> list[Export]:
    """Return the exports with outlines that a folder contains, in the form of any layout. They open as `data.regions.RegionSet`."""
    return [export for reader in with_outlines() for export in resolve_name(reader.outlines)(root)]
