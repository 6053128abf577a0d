"""The pages of the tricks and of the tweaks, with the effects that the ladder studies measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from benchmarks.tweaks import LETTERS, over_b, rungs, series
from docs.pages.places import CARDS, DOCS, STUDIES
from trickzoo.studies import words
from trickzoo.studies.records import LadderStudy, Study
from trickzoo.studies.results import read
from trickzoo.studies.samples import Difference, Sample
from trickzoo.studies.statistics import Estimate, estimate

TRICKS = """# The tricks

This page describes each trick: what it does, its formula, when it helps, and its effect in the paper and in our studies.
[Results](results.md#which-tricks-helped) compares the effects in one table, and [further studies](further_studies.md) have those in other
ladders.

`trickzoo train` and `trickzoo ladder` switch the tricks on by [fields of a recipe](recipe_fields.md). In
[your own training loop](#in-your-own-training-loop), you call their functions.

"Measured here" is the change of the top-1 accuracy from the rung before, in points: the mean of the paired differences over the seeds, with
its 95 % confidence interval and p of the paired t test (before Holm correction). These studies are much smaller than the paper's.
"Detectable" is the smallest true difference that this number of seeds shows as significant with 80 % power. "Recalled" marks accuracies
that were written from memory and not compared with the paper. [The ladder](ladder.md#how-to-read-it) explains more, and how to run a study
on your own images.
"""
OWN_LOOP = """
## In your own training loop

The functions work with every network of PyTorch, except that of zero γ, which looks for the residual blocks of trickzoo. This program
trains with several of them:

```python
import torch
import trickzoo
from trickzoo.tricks.cosine import cosine_factor
from trickzoo.tricks.label_smoothing import smooth_labels, soft_cross_entropy
from trickzoo.tricks.mixup import mixup
from trickzoo.tricks.no_bias_decay import decay_groups
from trickzoo.tricks.zero_gamma import zero_last_gammas

classes, lr = 10, 0.1
batches = [(torch.randn(8, 3, 64, 64), torch.randint(classes, (8,))) for _ in range(4)]  # your normalised images, and their classes

model = trickzoo.create("resnet18_d", num_classes=classes)
zero_last_gammas(model)
optimiser = torch.optim.SGD(decay_groups(model, 1e-4), lr, momentum=0.9, nesterov=True)

model.train()
for step, (images, labels) in enumerate(batches):
    for group in optimiser.param_groups:
        group["lr"] = lr * cosine_factor(step, len(batches))
    images, target = mixup(images, smooth_labels(labels, classes, 0.1), 0.2)
    loss = soft_cross_entropy(model(images), target)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
```

To start from weights, write `create("resnet18_d", pretrained=True, num_classes=classes)` and leave out `zero_last_gammas`, which would
replace what the weights contain. Such a network is in evaluation mode until `model.train()`. Parts of it may be frozen, and the new
classifier may have a higher learning rate than the rest. Torch's `LambdaLR` keeps the ratio of the rates; after the last step it asks for
the factor of one more:

```python
steps = 4
model.freeze(model.stem, *model.stages[:2])
parts = ((model.stages, 0.01), (model.head, 0.1))
groups = [{**group, "lr": rate} for part, rate in parts for group in decay_groups(part, 1e-4)]  # of what is not frozen
fine_tuning = torch.optim.SGD(groups, momentum=0.9, nesterov=True)
schedule = torch.optim.lr_scheduler.LambdaLR(fine_tuning, lambda step: cosine_factor(min(step, steps - 1), steps))
```

Batches of your own images come from the crops and the augmentation of a recipe, normalised as the weights require:

```python
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

images = ImageFolder("photos/train", trickzoo.train_transform("own.finetune", model, size=128))
batches = DataLoader(images, batch_size=64, shuffle=True, num_workers=2)
```

`trickzoo.export` writes the network with the names of its classes and its preprocessing, so that `trickzoo.load` and all commands take
the file without further options. `preprocessing` may be left out if the network started from weights, whose preprocessing it keeps:

```python
from trickzoo.weights.record import Preprocessing

trickzoo.export(model, "model.safetensors", classes=images.classes, preprocessing=Preprocessing(size=128))
```

The [Python API](api.md#training-recipes-and-tricks) describes all functions.
"""
PAPER = (
    ("The paper's heuristics", ("linear_scaling", "warmup", "zero_gamma", "no_bias_decay", "low_precision")),
    ("The paper's refinements", ("cosine", "label_smoothing", "distillation", "mixup")),
    ("The paper's baseline", ("initialisation", "step_decay")),
)
"""The cards of the paper's tricks, in the paper's order. All other cards are listed as not in the paper."""
TWEAKS_MARK = "<!-- Generated by docs/generate.py from benchmarks/results/tweaks/, the manifest and the ladder studies. -->\n"
AnyStudy = TypeVar("AnyStudy", bound=Study)
COMPARED = "difference, points (95 % CI) | p, after Holm | significance"


def tricks() -> str:
    """Return docs/tricks.md."""
    studies = most_complete(ladders(), ladder_size)[0].values()
    parts = [TRICKS]
    others = sorted({path.stem for path in CARDS.glob("*.md")}.difference(*(names for _, names in PAPER)))
    for group, names in (*PAPER, ("Not in the paper", others)):
        parts.append(f"\n## {group}\n")
        for name in names:
            card = (CARDS / f"{name}.md").read_text(encoding="utf-8").strip()
            rows = [
                f"| measured here | {study.title}, {study.baseline['epochs']} epochs: {words.result_in_words(rung.difference)}: "
                f"{words.significance(rung.difference)} |"
                for study in studies
                for rung in study.rungs
                if rung.rung == name and rung.difference and not rung.skipped
            ]
            parts.append("\n".join([f"\n##{card}", *rows]) + "\n")
    return "".join([*parts, OWN_LOOP])


def tweaks() -> str:
    """The page of the tweaks B, C and D, with the published figures and those of the ladder."""
    rows = [
        "![Gain of each tweak over the B network, in points of top-1](assets/tweaks.svg)\n",
        "Top-1 accuracy in percent on the ImageNet-1k validation images:\n",
        "| who | depth | original | B | C | D | D over B |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    recipes = []
    for each in series(STUDIES / "tweaks" / "paper.json"):
        cells = " | ".join(f"{each.top1[letter]:.2f}" if letter in each.top1 else "–" for letter in LETTERS)
        gain = f"{each.top1['d'] - each.top1['b']:+.2f}"
        rows.append(f"| {each.who} | {each.depth} | {cells} | {gain} |")
        recipes.append(f"- {each.who}: {each.recipe.removeprefix(f'{each.who}: ')}. Source: {each.source}.")
    rows += ["\nRecipes and sources:\n", *dict.fromkeys(recipes)]
    study = read(STUDIES / "ladder_imagenette128_resnet18_d_30_epochs" / "ladder.json", LadderStudy)
    rows.append("\nOur ladder, with paired differences over seeds:\n")
    rows += ["| network | top-1, % (95 % CI) | n | over the row above: " + COMPARED + " |", "| --- | ---: | ---: | ---: | --- | --- |"]
    for letter, rung in zip("BCD", rungs(study), strict=True):
        assert rung.top1 is not None
        over = compared(rung.top1, None if letter == "B" else rung.difference)
        rows.append(f"| ResNet-18, {letter} | {sample(rung.top1)} | {over} |")
    gain = estimate(over_b(study)["d"])
    rows.append(f"\nD over B: {words.points(gain.mean)} points ({words.span(gain.interval)}).")
    head = (DOCS / "tweaks.md").read_text(encoding="utf-8").partition(TWEAKS_MARK)[0]
    return (
        head + TWEAKS_MARK + "\n" + "\n".join(rows) + f"\n\nThe study is {study.title}, which [the results](results.md) show as a whole.\n"
    )


def ladders() -> dict[Path, LadderStudy]:
    """Return the ladder studies, the one with the longest training runs first."""
    found = {path: read(path, LadderStudy) for path in sorted(STUDIES.glob("ladder_*/ladder.json"))}
    return dict(sorted(found.items(), key=lambda item: -item[1].baseline["epochs"]))


def most_complete(studies: dict[Path, AnyStudy], size: Callable[[AnyStudy], Any]) -> tuple[dict[Path, AnyStudy], dict[Path, AnyStudy]]:
    """Divide studies into the largest of each title, which names network and images, and the others; largest first in both."""
    ordered = sorted(studies.items(), key=lambda item: size(item[1]), reverse=True)
    largest = {study.title: path for path, study in reversed(ordered)}
    first = {path: study for path, study in ordered if largest[study.title] == path}
    return first, {path: study for path, study in ordered if path not in first}


def ladder_size(study: LadderStudy) -> tuple[int, int]:
    """Return the numbers of rungs and of epochs, by which the most complete of several studies is chosen."""
    return len(study.rungs), ladder_length(study)


def ladder_length(study: LadderStudy) -> int:
    """Return the number of epochs of a training run."""
    return int(study.baseline["epochs"])


def asset(study: Path) -> str:
    return f"{study.parent.name}.svg"


def sample(found: Sample | Estimate) -> str:
    """Return a mean with its interval: "80.46 (79.64 to 81.27)"."""
    return f"{found.mean:.2f}" + (f" ({found.interval[0]:.2f} to {found.interval[1]:.2f})" if found.interval else "")


def compared(figure: Sample, found: Difference | None, verdicts: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return the cells of the column n and of `COMPARED` for a rung. `verdicts` gives some verdicts other words."""
    if found is None:
        return f"{figure.n} | – | – | –"
    ps = ", ".join(words.probability(p) for p in (found.p, found.p_holm) if p is not None)
    outcome = verdicts.get(found.verdict, words.significance(found))
    of_seeds = words.of_seeds(found, figure.n)
    over = f"{words.points(found.mean)} ({words.span(found.interval)}){of_seeds and f', {of_seeds}'}"
    return f"{figure.n} | {over} | {ps or '–'} | {outcome}"
