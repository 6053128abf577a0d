"""The page of models and weights, from the registry and the manifest."""

from __future__ import annotations

import json

from docs.pages.places import STUDIES
from trickzoo import catalogue
from trickzoo.studies.statistics import estimate
from trickzoo.weights import manifest
from trickzoo.weights.record import Record

HEAD = """# Models and weights

This page lists every network and every published weight, with its cost and its accuracy.
Generated from `trickzoo/registry.py` and `weights_manifest/` by `docs/generate.py`; `trickzoo describe NAME` shows more.

## Models

Parameters are counted with 1000 classes, and multiply-adds for the convolutions and linear layers at the stated side of the input in
pixels ("input"). `pretrained=True` loads the default weight.

| model | parameters | multiply-adds | input | default weight | |
| --- | ---: | ---: | ---: | --- | --- |
"""
WEIGHTS = """
## Weights

The accuracy is the published one in percent on the 50,000 ImageNet-1k validation images, with the preprocessing of the weight: "input" is
the side of the input in pixels and the fraction of the image that the centre crop keeps, and "filter" is the interpolation of the
resizing. The default weight of a model is printed in **bold**. "Paper" is the top-1 accuracy of the same training in the paper.
`trickzoo describe WEIGHT` shows the source of each figure.

| weight | top-1 | top-5 | paper | input | filter | licence | tricks or recipe |
| --- | ---: | ---: | ---: | --- | --- | --- | --- |
"""
OWN = """
## Trained by this project

The accuracy in percent on the validation split of the data set was measured with `trickzoo-eval` on the file that is loaded. These
networks are small. They are meant for first experiments, as teachers in distillation, and as backbones for fine-tuning on a small
machine. `trickzoo-train --recipe RECIPE` repeats the training. "Several seeds" is the top-1 accuracy over trainings with different random
seeds, as mean ± standard deviation; the result of each training is in `benchmarks/results/weights/`.

| weight | data set | top-1 | top-5 | several seeds | input | recipe | |
| --- | --- | ---: | ---: | --- | --- | --- | --- |
"""
DIGESTS = """
## Digests

{full} of {all} weights have a full SHA-256 recorded for at least one of their sources, and {sized} the size of a file. The table lists the
others: no public page was found that states their digest. A release file has the first eight digits in its name. A hub file without any is
compared with the SHA-256 that the hub states at the download, and `trickzoo weights lock WEIGHT` then pins it.

| weight | recorded | source |
| --- | --- | --- |
"""


def models() -> str:
    """Return the content of docs/models.md."""
    models, weights, own = [], [], []
    for name in catalogue.list_models():
        d = catalogue.describe(name)
        a = d.architecture
        default = f"`{d.default.tag}`" if d.default else ""
        aliases = f" (also `{'`, `'.join(a.aliases)}`)" if a.aliases else ""
        models.append(f"| `{a.name}`{aliases} | {a.parameters:,} | {a.macs / 1e9:.3f} G | {a.size} | {default} | {a.summary} |")
        weights += [_row(record) for record in d.weights if record.layout != "trickzoo"]
        own += [_own_row(record) for record in d.weights if record.layout == "trickzoo"]
    return HEAD + "\n".join(models) + "\n" + WEIGHTS + "\n".join(weights) + "\n" + OWN + "\n".join(own) + "\n" + _digests()


def _digests() -> str:
    records = manifest.records().values()
    without = {r.name: recorded for r in records if (recorded := _recorded(r)) != "full"}
    sized = sum(any(source.size for source in r.sources) for r in records)
    rows = [f"| `{name}` | {recorded} | {manifest.find(name).sources[0]} |" for name, recorded in without.items()]
    return DIGESTS.format(full=len(records) - len(without), all=len(records), sized=sized) + "\n".join(rows) + "\n"


def _recorded(r: Record) -> str:
    """How much of a SHA-256 the manifest records. The lock file of whoever generates the page is not read."""
    if any(source.sha256 for source in r.sources):
        return "full"
    return "8 digits" if any(source.sha256_prefix for source in r.sources) else "none"


def _own_row(r: Record) -> str:
    (m,) = r.metrics
    p = r.preprocessing
    folder = STUDIES / "weights" / r.name
    results = [folder / "result.json", *sorted(folder.glob("seed-*.json"))]
    each = estimate([json.loads(path.read_text(encoding="utf-8"))["top1"] for path in results])
    spread = "–" if each.s is None else f"{each.mean:.2f} ± {each.s:.2f}, n = {each.n}"
    return f"| `{r.name}` | {m.data} | {m.top1:.2f} | {m.top5:.2f} | {spread} | {p.size} / {p.crop:g} | `{r.recipe}` | {r.note or ''} |"


def _row(r: Record) -> str:
    m = r.published()
    name = f"**`{r.name}`**" if r.default else f"`{r.name}`"
    figures = f"{m.top1:.3f} | {m.top5:.3f}" if m else "– | –"
    paper = next((f"{metric.top1:.2f}" for metric in r.metrics if metric.kind == "paper"), "")
    p = r.preprocessing
    about = ", ".join(r.tricks) or r.recipe or ""
    return f"| {name} | {figures} | {paper} | {p.size} / {p.crop:g} | {p.interpolation} | {r.licence} | {about} |"
