"""The page of models and weights, from the registry and the manifest."""

from __future__ import annotations

from pathlib import Path
from statistics import mean
from typing import Any

from docs.pages.places import STUDIES
from trickzoo import catalogue
from trickzoo.files import read_json
from trickzoo.recipes.collection import from_dict
from trickzoo.recipes.finetune import RECIPE_CLASSES
from trickzoo.studies.statistics import estimate
from trickzoo.weights import manifest
from trickzoo.weights.record import NetworkRecord, Record

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
over training runs with different random seeds, as mean ± standard deviation. "ECE" is the expected calibration error in percent, over 15
bins. "Corrupted" is the mean top-1 accuracy over 14 [common corruptions](evaluation.md#corrupted-images) of the images, with severity 3.
The results are in `benchmarks/results/weights/`.

| weight | data set | top-1 | top-5 | several seeds | ECE | corrupted | input | training |
| --- | --- | ---: | ---: | --- | ---: | ---: | --- | --- |
"""
NETWORKS = """
## Trained detectors and segmenters

`trickzoo.load(NAME)` loads these networks, and `--model NAME` names them to `trickzoo predict`, `trickzoo eval` and `trickzoo export`.
Their files are part of the package. `trickzoo finetune LAYOUT --weights NAME` starts a training on your own images from them, and
`--recipe NAME` repeats theirs. Their backbone started from `mobilenet_v1_025.tz_imagenette128`, and their settings were not tuned. They are
meant for first experiments on a small machine, with images like those that they were trained on. The accuracy in percent is that of the
file on the validation images of the data set, as measured by `trickzoo eval`. "Several seeds" is the first metric over training runs with
different random seeds, as mean ± standard deviation; their results are in `benchmarks/results/networks/`.

| network | data set | accuracy | several seeds | size, MB | licence |
| --- | --- | --- | --- | ---: | --- |
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
    trained = manifest.networks().values()
    networks = [*map(_network_row, trained), "", *map(_network_note, trained)]
    tables = (HEAD, models), (WEIGHTS, weights), (OWN, own), (NETWORKS, networks)
    return "".join(head + "\n".join(rows) + "\n" for head, rows in tables) + _digests()


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
    spread = _spread([result["top1"] for result in _results(folder)])
    (clean,) = read_json(folder / "evaluation.json")["results"]
    judged = f"{clean['ece']:.1f} | {_corrupted(folder / 'corruptions.json')}"
    training = (r.note or "").removeprefix("trained on ")
    return f"| `{r.name}` | {m.data} | {m.top1:.2f} | {m.top5:.2f} | {spread} | {judged} | {p.size} / {p.crop:g} | {training} |"


def _corrupted(path: Path) -> str:
    """Return the mean top-1 accuracy over the corruptions with severity 3."""
    (found,) = read_json(path)["results"]
    return f"{mean(each['top1'] for each in found['robustness']['corruptions'] if each['severity'] == 3):.2f}"


def _network_row(r: NetworkRecord) -> str:
    (m,) = r.metrics
    results = _results(STUDIES / "networks" / r.name)
    spread = _spread([result[result["measure"]] for result in results])
    accuracy = ", ".join(f"{name} {value:.2f}" for name, value in m.values.items())
    size = r.sources[0].size or 0
    return f"| `{r.name}` | {m.data} | {accuracy} | {spread} | {size / 1e6:.1f} | {r.licence} |"


def _network_note(r: NetworkRecord) -> str:
    (result, *_) = _results(STUDIES / "networks" / r.name)
    recipe = from_dict(result["recipe"], RECIPE_CLASSES[r.task])
    return f"- `{r.name}` is {r.note}. Size of the images in the evaluation: {recipe.sides_in_words}."


def _results(folder: Path) -> list[dict[str, Any]]:
    """Return the results of the training runs of a network, with that of the published file first."""
    return [read_json(path) for path in (folder / "result.json", *sorted(folder.glob("seed-*.json")))]


def _spread(values: list[float]) -> str:
    each = estimate(values)
    return "–" if each.s is None else f"{each.mean:.2f} ± {each.s:.2f}, n = {each.n}"


def _row(r: Record) -> str:
    m = r.published()
    name = f"**`{r.name}`**" if r.default else f"`{r.name}`"
    figures = f"{m.top1:.3f} | {m.top5:.3f}" if m else "– | –"
    paper = next((f"{metric.top1:.2f}" for metric in r.metrics if metric.kind == "paper"), "")
    p = r.preprocessing
    about = ", ".join(r.tricks) or r.recipe or ""
    return f"| {name} | {figures} | {paper} | {p.size} / {p.crop:g} {p.interpolation} | {r.licence} | {about} |"
