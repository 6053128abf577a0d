"""The page of models and weights, from the registry and the manifest."""

from __future__ import annotations

import json

from docs.pages.places import STUDIES
from trickzoo import catalogue
from trickzoo.studies.statistics import estimate
from trickzoo.weights import manifest
from trickzoo.weights.record import Record

HEAD = """# Models and weights

This page lists every network and every weight of the zoo, with its cost and its accuracy. `trickzoo describe NAME` shows more about one of
them. The page is generated from `trickzoo/registry.py` and `weights_manifest/` by `docs/generate.py`.

## Models

`trickzoo.create(MODEL, pretrained=True)` loads the default weight, if the model has one. Top-1 is its published accuracy in percent on
ImageNet-1k, for images of the size in the column "at". Parameters are in millions, for 1000 classes. Multiply-adds (MACs, which some
libraries call FLOPs) are in billions, for one image of 224 pixels, or 299 for Inception V3. [Speed](speed.md#inference) has the images per
second of some models. [Backbones](backbones.md#the-networks) explains the letters of the ResNets; the number of a MobileNet is its width in
percent.

| model | parameters, M | multiply-adds, G | default weight | top-1 | at |
| --- | ---: | ---: | --- | ---: | ---: |
"""
WEIGHTS = """
## Weights

Top-1 and top-5 are the published accuracies in percent on the 50,000 validation images of ImageNet-1k, measured with the preprocessing of
the weight. "–" means that none is published. The column "input" states the side of the input in pixels, after the slash the fraction of
the resized short side that the centre crop keeps, and the filter of the resizing. The default weight of each model is printed in
**bold**. "Paper" is the top-1 accuracy that the Bag of Tricks paper states for the same training; these accuracies were written from memory
and not compared with the paper. `trickzoo describe WEIGHT` shows the source of each accuracy.

| weight | top-1 | top-5 | paper | input | licence | tricks or recipe |
| --- | ---: | ---: | ---: | --- | --- | --- |
"""
OWN = """
## Trained by this project

Top-1 and top-5 are accuracies in percent on the validation split of the data set. `trickzoo eval` measured them on the file that `create`
loads. These networks are small. They are meant for first experiments, as teachers in distillation, and as backbones for fine-tuning on a
small machine. `trickzoo train --recipe zoo.WEIGHT --decode once --side 128` repeats the training. "Several seeds" is the top-1 accuracy
over training runs with different random seeds, as mean ± standard deviation; their results are in `benchmarks/results/weights/`.

| weight | data set | top-1 | top-5 | several seeds | input | training |
| --- | --- | ---: | ---: | --- | --- | --- |
"""
DIGESTS = """
## Digests

Each download is compared with the digest that is recorded for its source. {full} of {all} weights have the full SHA-256 of at least one
source recorded, and {sized} have the size of a file. The table lists the other weights: no public page was found that states their full
digest. "8 digits" means that the first eight hexadecimal digits are recorded, because the publisher put them into the name of the file. A
file of the Hugging Face Hub without a recorded digest is compared with the SHA-256 that the hub states at the time of the download. After
that, `trickzoo weights lock WEIGHT` pins the digest for later downloads.

| weight | recorded | source |
| --- | --- | --- |
"""


def models() -> str:
    """Return the content of docs/models.md."""
    models, weights, own = [], [], []
    for name in catalogue.list_models():
        d = catalogue.describe(name)
        a = d.architecture
        default = f"`{d.default.tag}`" if d.default else "–"
        published = d.default.published() if d.default else None
        accuracy = f"{published.top1:.2f} | {d.default.preprocessing.size} px" if d.default and published else "– | –"
        aliases = f" (also `{'`, `'.join(a.aliases)}`)" if a.aliases else ""
        cost = f"{a.parameters / 1e6:.1f} | {a.macs / 1e9:.2f}"
        models.append(f"| `{a.name}`{aliases} | {cost} | {default} | {accuracy} |")
        weights += [_row(record) for record in d.weights if record.layout != "trickzoo"]
        own += [_own_row(record) for record in d.weights if record.layout == "trickzoo"]
    return HEAD + "\n".join(models) + "\n" + WEIGHTS + "\n".join(weights) + "\n" + OWN + "\n".join(own) + "\n" + _digests()


def _digests() -> str:
    records = manifest.records().values()
    without = [r for r in records if not any(source.sha256 for source in r.sources)]
    sized = sum(any(source.size for source in r.sources) for r in records)
    rows = [f"| `{r.name}` | {' | '.join(_recorded(r))} |" for r in without]
    return DIGESTS.format(full=len(records) - len(without), all=len(records), sized=sized) + "\n".join(rows) + "\n"


def _recorded(r: Record) -> tuple[str, str]:
    """Return what of a SHA-256 the manifest records, and for which source. The lock file of whoever generates the page is not read."""
    source = next((source for source in r.sources if source.sha256_prefix), r.sources[0])
    place = f"[`{source.filename}`]({source.url})" if source.url else f"`{source}`"
    return f"{len(source.sha256_prefix)} digits" if source.sha256_prefix else "none", place


def _own_row(r: Record) -> str:
    assert r.recipe == f"zoo.{r.name}"
    (m,) = r.metrics
    p = r.preprocessing
    folder = STUDIES / "weights" / r.name
    results = [folder / "result.json", *sorted(folder.glob("seed-*.json"))]
    each = estimate([json.loads(path.read_text(encoding="utf-8"))["top1"] for path in results])
    spread = "–" if each.s is None else f"{each.mean:.2f} ± {each.s:.2f}, n = {each.n}"
    training = (r.note or "").removeprefix("trained on ")
    return f"| `{r.name}` | {m.data} | {m.top1:.2f} | {m.top5:.2f} | {spread} | {p.size} / {p.crop:g} | {training} |"


def _row(r: Record) -> str:
    m = r.published()
    name = f"**`{r.name}`**" if r.default else f"`{r.name}`"
    figures = f"{m.top1:.3f} | {m.top5:.3f}" if m else "– | –"
    paper = next((f"{metric.top1:.2f}" for metric in r.metrics if metric.kind == "paper"), "")
    p = r.preprocessing
    about = ", ".join(r.tricks) or r.recipe or ""
    return f"| {name} | {figures} | {paper} | {p.size} / {p.crop:g} {p.interpolation} | {r.licence} | {about} |"
