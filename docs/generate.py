"""Generates pages of the documentation from other files: `python docs/generate.py`. A test fails if a page is not up to date.

docs/models.md comes from the registry and the manifest, docs/tricks.md from the tricks' cards and the studies in benchmarks/results/, and
the results in docs/ladder.md and docs/transfer.md from what is in benchmarks/results/ too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from trickzoo import catalogue
from trickzoo.studies import words
from trickzoo.studies.found import Difference, LadderStudy, Sample, TransferStudy, read
from trickzoo.studies.statistics import estimate
from trickzoo.studies.transfer_words import answers, details
from trickzoo.training.tracking import MEASURES
from trickzoo.weights.record import Record

DOCS = Path(__file__).parent
CARDS = DOCS.parent / "trickzoo" / "tricks"
STUDIES = DOCS.parent / "benchmarks" / "results"

HEAD = """# Models and weights

Generated from `trickzoo/registry.py` and `weights_manifest/` by `docs/generate.py`; `trickzoo describe NAME` shows the same and more.

## Models

Parameters are counted with 1000 classes, and multiply-adds for the convolutions and linear layers at the stated side of the input in
pixels ("at"). `pretrained=True` loads the default weight.

| model | parameters | multiply-adds | at | default weight | |
| --- | ---: | ---: | ---: | --- | --- |
"""

WEIGHTS = """
## Weights

The accuracy is the published one in percent on the 50,000 ImageNet-1k validation images, with the preprocessing of the weight: "at" is
the side of the input in pixels and the fraction of the image that the centre crop keeps, and "filter" is the interpolation of the
resizing. The default weight of a model is printed in **bold**. "Paper" is the top-1 accuracy of the same training in the paper.
`trickzoo describe WEIGHT` shows the source of each figure.

| weight | top-1 | top-5 | paper | at | filter | licence | tricks or recipe |
| --- | ---: | ---: | ---: | --- | --- | --- | --- |
"""

OWN = """
## Trained by this project

The accuracy in percent on the validation split of the data set was measured with `trickzoo-eval` on the file that is loaded. These
networks are small. They are meant for first experiments, as teachers in distillation, and as backbones for fine-tuning on a small
machine. `trickzoo-train --recipe RECIPE` repeats the training. "Several seeds" is the top-1 accuracy over trainings with different random
seeds, as mean ± standard deviation; the result of each training is in `benchmarks/results/weights/`.

| weight | data set | top-1 | top-5 | several seeds | at | recipe | |
| --- | --- | ---: | ---: | --- | --- | --- | --- |
"""

TRICKS = """# The tricks

Generated from the cards in `trickzoo/tricks/` and the ladder studies in `benchmarks/results/` by `docs/generate.py`. "Measured here" is the
mean paired difference in top-1 points to the rung before, with its 95 % confidence interval and p of the paired t test over seeds (before
Holm correction), in studies that are small beside the paper's. "Detectable" is the smallest true difference that so many seeds show with
80 % power. [The ladder](ladder.md) says how to read them, and runs one on your own images.
"""

PAPER = (
    ("The paper's heuristics", ("linear_scaling", "warmup", "zero_gamma", "no_bias_decay", "low_precision")),
    ("The paper's refinements", ("cosine", "label_smoothing", "distillation", "mixup")),
    ("The paper's baseline", ("initialisation", "step_decay")),
)
"""The cards of the paper's tricks, in its order. Every other card is shown as a trick that is not in the paper."""


MARK = "<!-- what follows is written by docs/generate.py from benchmarks/results/ladder_*/ladder.json -->\n"
TRANSFER_MARK = "<!-- what follows is written by docs/generate.py from benchmarks/results/finetune/ and transfer_*/transfer.json -->\n"

PRETRAINING = """
### With the zoo's weights, and from scratch

One training each, seed 0, the same recipe but for the weights; figures in percent, of the last epoch. Commands, machine and
every class are in `benchmarks/results/finetune/`. VOC here is a part of VOC 2012 with all twenty classes, a few hundred images of
them, and small networks whose weights have seen ten classes at 128 pixels: low figures, from whatever weights.

| set | backbone | figure | with weights | from scratch | images to train on / to validate | epochs |
| --- | --- | --- | ---: | ---: | ---: | ---: |
"""


def _studies() -> dict[Path, LadderStudy]:
    return {path: read(path, LadderStudy) for path in sorted(STUDIES.glob("ladder_*/ladder.json"))}


def _plot(study: Path, caption: str) -> str:
    return f"![{caption}](assets/{_asset(study)})\n"


def _asset(study: Path) -> str:
    return f"{study.parent.name}.svg"


def plots() -> dict[Path, str]:
    """The studies' plots, by where the pages find them."""
    return {DOCS / "assets" / _asset(path): path.read_text(encoding="utf-8") for path in sorted(STUDIES.glob("*_*/*.svg"))}


def ladder() -> str:
    """docs/ladder.md: what stands before the mark stays."""
    parts = [(DOCS / "ladder.md").read_text(encoding="utf-8").partition(MARK)[0] + MARK]
    for path, study in _studies().items():
        rows = [
            f"| {words.title(rung)} | {_sample(rung.top1)} | {rung.top1.n} | {_difference(rung.difference)} |"
            for rung in study.rungs
            if rung.top1
        ]
        parts.append(
            "\n".join(
                (
                    f"\n### {study.title}\n",
                    *(f"{finding}\n" for finding in study.findings),
                    _plot(path, f"Top-1 accuracy of every rung, {study.title}"),
                    "*A ring is one training, the dot their mean, the bar its 95 % confidence interval; green helped, red hurt.*\n",
                    f"| rung | top-1, % (95 % CI) | n | {COMPARED} |",
                    "| --- | ---: | ---: | ---: | --- | --- |",
                    *rows,
                    *(f"| {what} | {share:.2f} | – | – | – | – |" for what, share in _references(study)),
                    f"\n{_made(study)}: `{study.commands[0]}`\n",
                )
            )
        )
    return "".join(parts) if len(parts) > 1 else parts[0] + "\nNo study is published yet.\n"


def transfer() -> str:
    """docs/transfer.md: what stands before the mark stays."""
    head = (DOCS / "transfer.md").read_text(encoding="utf-8").partition(TRANSFER_MARK)[0] + TRANSFER_MARK
    return head + "".join([*_pretraining(), *map(_transfer_study, sorted(STUDIES.glob("transfer_*/transfer.json")))])


def _pretraining() -> Iterator[str]:
    """Fine-tunings of one recipe on one set, with the zoo's weights and without any: NAME.json and NAME.scratch.json."""
    rows = []
    for path in sorted((STUDIES / "finetune").glob("*.scratch.json")):
        scratch, found = (
            json.loads(each.read_text(encoding="utf-8")) for each in (path, path.with_name(path.name.replace(".scratch", "")))
        )
        recipe, measure = found["recipe"], found["measure"]
        n = f"{found['n_train']:,} / {found['n']:,}"
        rows.append(
            f"| {path.name.partition('.')[0].replace('_', ' ')} | `{recipe['model']}`, `{recipe['weights']}` | {MEASURES[measure]} | "
            f"**{found[measure]:.2f}** | {scratch[measure]:.2f} | {n} | {recipe['epochs']} |"
        )
    if rows:
        yield PRETRAINING + "\n".join(rows) + "\n"


def _transfer_study(path: Path) -> str:
    study = read(path, TransferStudy)
    parts = [f"\n### The gain of {study.title}, transferred\n", *(f"{answer}\n" for answer in answers(study))]
    parts += [f"**{heading}.** {' '.join(sentences)}\n" for heading, sentences in details(study).items()]
    parts.append(_plot(path, f"Top-1 accuracy of the backbones beside what became of them, {study.title}"))
    for task in study.tasks:
        parts += [
            f"| {task.task} | top-1, % | {MEASURES[task.measure]}, % (95 % CI) | n | {COMPARED} |",
            "| --- | ---: | ---: | ---: | ---: | --- | --- |",
        ]
        parts += [
            f"| {words.title(rung)} | {_spread(rung.top1)} | {_sample(rung.figure)} | {rung.figure.n} | {_difference(rung.difference)} |"
            for rung in task.rungs
            if rung.figure and rung.top1
        ]
        parts.append("")
    return "\n".join([*parts, f"{_made(study)}: {'; '.join(f'`{command}`' for command in study.commands)}\n"])


COMPARED = "difference, points (95 % CI) | p, after Holm | significance"


def _sample(found: Sample) -> str:
    return f"{found.mean:.2f}" + (f" ({found.interval[0]:.2f} to {found.interval[1]:.2f})" if found.interval else "")


def _spread(found: Sample) -> str:
    return f"{found.mean:.2f}" + ("" if found.s is None else f" ± {found.s:.2f}")


def _difference(found: Difference | None) -> str:
    """The cells of `COMPARED`."""
    if found is None:
        return "– | – | –"
    ps = ", ".join(words.probability(p) for p in (found.p, found.p_holm) if p is not None)
    return f"{words.points(found.mean)} ({words.span(found.interval)}) | {ps or '–'} | {words.significance(found)}"


def _references(study: LadderStudy) -> Iterator[tuple[str, float]]:
    if study.majority is not None:
        yield "always the largest class", study.majority
    if study.num_classes is not None:
        yield "chance", 100 / study.num_classes


def _made(study: LadderStudy | TransferStudy) -> str:
    machines = "; ".join(dict.fromkeys(environment.hardware for environment in study.environments))
    return f"{study.wall_seconds / 60:.0f} minutes on {machines}"


def tricks() -> str:
    """docs/tricks.md."""
    studies = _studies().values()
    parts = [TRICKS]
    others = sorted({path.stem for path in CARDS.glob("*.md")}.difference(*(names for _, names in PAPER)))
    for group, names in (*PAPER, ("Not in the paper", others)):
        parts.append(f"\n## {group}\n")
        for name in names:
            card = (CARDS / f"{name}.md").read_text(encoding="utf-8").strip()
            rows = [
                f"| measured here | {study.title}: {words.result_in_words(rung.difference)}: {words.significance(rung.difference)} |"
                for study in studies
                for rung in study.rungs
                if rung.rung == name and rung.difference and not rung.skipped
            ]
            parts.append("\n".join([f"\n##{card}", *rows]) + "\n")
    return "".join(parts)


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
    return HEAD + "\n".join(models) + "\n" + WEIGHTS + "\n".join(weights) + "\n" + OWN + "\n".join(own) + "\n"


def _own_row(r: Record) -> str:
    (m,) = r.metrics
    p = r.preprocessing
    folder = STUDIES / "weights" / r.name
    results = [folder / "result.json", *sorted(folder.glob("seed-*.json"))]
    each = estimate([json.loads(path.read_text(encoding="utf-8"))["top1"] for path in results])
    spread = "–" if each.s is None else f"{each.mean:.2f} ± {each.s:.2f}, n = {each.n}"
    return f"| `{r.name}` | {m.data} | {m.top1:.2f} | {m.top5:.2f} | {spread} | {p.size} / {p.crop:g} | `{r.recipe}` | {r.note or ''} |"


PAGES = {DOCS / "models.md": models, DOCS / "tricks.md": tricks, DOCS / "ladder.md": ladder, DOCS / "transfer.md": transfer}


def _row(r: Record) -> str:
    m = r.published()
    name = f"**`{r.name}`**" if r.default else f"`{r.name}`"
    figures = f"{m.top1:.3f} | {m.top5:.3f}" if m else "– | –"
    paper = next((f"{metric.top1:.2f}" for metric in r.metrics if metric.kind == "paper"), "")
    p = r.preprocessing
    about = ", ".join(r.tricks) or r.recipe or ""
    return f"| {name} | {figures} | {paper} | {p.size} / {p.crop:g} | {p.interpolation} | {r.licence} | {about} |"


if __name__ == "__main__":
    for path, content in PAGES.items():
        path.write_text(content(), encoding="utf-8")
    for path, plot in plots().items():
        path.write_text(plot, encoding="utf-8")
