"""Generates pages of the documentation from other files: `python docs/generate.py`. A test fails if a page is not up to date.

docs/models.md comes from the registry and the manifest, docs/tricks.md from the tricks' cards and the studies, docs/commands.md and
docs/recipe_fields.md from the command line, and the results in README.md and the pages of studies, images and speed from
benchmarks/results/. The modules in docs/pages/ make them. The pictures of docs/gallery.md are renewed by `python -m docs.pages.gallery`,
which trains.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # a script's own folder is on the path, but not the one that contains `docs`

from docs.pages import commands, gallery, measurements, networks, records, results, studies
from docs.pages.places import DOCS, README, STUDIES

PAGES = {
    DOCS / "commands.md": commands.commands_page,
    DOCS / "recipe_fields.md": commands.fields_page,
    DOCS / "models.md": networks.models,
    DOCS / "gallery.md": gallery.gallery,
    DOCS / "tricks.md": studies.tricks,
    DOCS / "results.md": results.results,
    DOCS / "further_studies.md": results.further,
    DOCS / "images.md": measurements.images,
    DOCS / "data.md": measurements.data,
    DOCS / "speed.md": measurements.speed,
    README: measurements.readme,
    DOCS / "tweaks.md": studies.tweaks,
    DOCS / "records.md": records.records,
}


def plots() -> dict[Path, str]:
    """Return the SVG of each plot in the results, by the path where the pages expect it."""
    found = {DOCS / "assets" / studies.asset(path): path for path in sorted(STUDIES.glob("*_*/*.svg"))}
    found[DOCS / "assets" / "speed.svg"] = STUDIES / "speed" / "speed.svg"
    found[DOCS / "assets" / "growth.svg"] = STUDIES / "growth.svg"
    found[DOCS / "assets" / "lengths.svg"] = STUDIES / "lengths.svg"
    found[DOCS / "assets" / "tweaks.svg"] = STUDIES / "tweaks" / "tweaks.svg"
    return {place: path.read_text(encoding="utf-8") for place, path in found.items()}


if __name__ == "__main__":
    for path, content in PAGES.items():
        path.write_text(content(), encoding="utf-8")
    for path, plot in plots().items():
        path.write_text(plot, encoding="utf-8")
