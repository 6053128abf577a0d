"""Writes docs/models.md from the registry and the manifest: `python docs/generate.py`. A test fails when the page differs."""

from __future__ import annotations

from pathlib import Path

from trickzoo import catalogue
from trickzoo.weights.record import Record

PAGE = Path(__file__).parent / "models.md"

HEAD = """# Models and weights

Generated from `trickzoo/registry.py` and `weights_manifest/` by `docs/generate.py`; `trickzoo describe NAME` shows the same and more.

## Models

Parameters at 1000 classes; multiply-adds of convolutions and linear layers at the size given. Default is what `pretrained=True` loads.

| model | parameters | multiply-adds | at | default weight | |
| --- | ---: | ---: | ---: | --- | --- |
"""

WEIGHTS = """
## Weights

Published accuracy in percent on the 50,000 ImageNet-1k validation images, with the weight's own preprocessing: input side / fraction that
the centre crop keeps, and the resize filter. **Bold** is the model's default. "Paper" is top-1 of the same training in the paper. Source of
each figure: `trickzoo describe WEIGHT`.

| weight | top-1 | top-5 | paper | at | filter | licence | tricks or recipe |
| --- | ---: | ---: | ---: | --- | --- | --- | --- |
"""


def page() -> str:
    """The whole page."""
    models, weights = [], []
    for name in catalogue.list_models():
        d = catalogue.describe(name)
        a = d.architecture
        default = f"`{d.default.tag}`" if d.default else ""
        aliases = f" (also `{'`, `'.join(a.aliases)}`)" if a.aliases else ""
        models.append(f"| `{a.name}`{aliases} | {a.parameters:,} | {a.macs / 1e9:.3f} G | {a.size} | {default} | {a.summary} |")
        weights += [_row(record) for record in d.weights]
    return HEAD + "\n".join(models) + "\n" + WEIGHTS + "\n".join(weights) + "\n"


def _row(r: Record) -> str:
    m = r.published()
    name = f"**`{r.name}`**" if r.default else f"`{r.name}`"
    figures = f"{m.top1:.3f} | {m.top5:.3f}" if m else "– | –"
    paper = next((f"{metric.top1:.2f}" for metric in r.metrics if metric.kind == "paper"), "")
    p = r.preprocessing
    about = ", ".join(r.tricks) or r.recipe or ""
    return f"| {name} | {figures} | {paper} | {p.size} / {p.crop:g} | {p.interpolation} | {r.licence} | {about} |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
