"""Published training recipes side by side: the same network, images, epochs and evaluation.

    python -m benchmarks.recipes --data imagenette128 --out runs/recipes --seeds 3     # resumes; every training is a file of --out
    python -m benchmarks.recipes --out runs/recipes --publish                          # what is finished, into benchmarks/results/

The recipes are trickzoo's own for this network, all tricks of the paper (the top of the ladder), torchvision's V2 and timm's A3. The first
two run as `trickzoo train` does, and the other two are built from the public classes of torchvision and timm. A recipe that was published
for another batch or length is scaled: the learning rate with the batch, the warm-up and the horizon of averaged weights with the epochs.
Crops cover at least a quarter of the image, as in the ladder, because the images are small. All arithmetic is in fp32.
The rates of torchvision's and timm's recipe are chosen on a tenth of the training images, which is held out.
"""

from __future__ import annotations

import argparse
import json
import random
import shlex
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from benchmarks import recipes_summary as summary
from benchmarks.peers import AREA, BATCH, PEERS, SIZE, Decoded, fit
from trickzoo import environment, tasks
from trickzoo.classification import predictions
from trickzoo.classification.evaluate import predict_resident
from trickzoo.classification.model import prepare
from trickzoo.classification.open import open_data, open_files
from trickzoo.data.location import ImageLocation
from trickzoo.data.transforms import Normalisation
from trickzoo.files import write_atomically
from trickzoo.pages import figures
from trickzoo.recipes import scaled, zoo
from trickzoo.recipes.recipe import Recipe
from trickzoo.result_files import write_json
from trickzoo.studies import plots
from trickzoo.training import job
from trickzoo.training.machine import Machine

RESULTS = Path(__file__).parent / "results"
MODEL, DATA = "mobilenet_v1_025", "imagenette128"
GRID_EPOCHS, HELD_OUT = 8, 0.1


def own(epochs: int) -> dict[str, Recipe]:
    """Return trickzoo's recipe of the network at 64 pixels, and the top of the ladder with the rate that was chosen for it before."""
    settings = json.loads((RESULTS / f"ladder_settings_{MODEL}.json").read_text())["chosen"]
    first = zoo.MOBILENET_025
    warmup = first.warmup_epochs * epochs / first.epochs
    ladder = scaled.ladder(DATA, MODEL, epochs=epochs, lr=settings["lr"], weight_decay=settings["weight_decay"])
    return {
        "zoo": first.but("recipes.zoo", size=SIZE, start_size=None, epochs=epochs, warmup_epochs=warmup),
        "paper": ladder.rungs[-1].recipe.but("recipes.paper"),
    }


class Trainings:
    """Trains the recipes on the images of a location, and writes a file for each training."""

    def __init__(self, location: ImageLocation, out: Path) -> None:
        self.location, self.machine = location, Machine(out=out, workers=1, evaluate_every=10**6, device="cpu")
        self.splits = open_data(own(1)["zoo"], location, self.machine)
        self.decoded: Decoded | None = None

    def run(self, name: str, seed: int, epochs: int, factor: float, file: str) -> dict[str, Any]:
        """Return the result of a training, from its file if there is one. `factor` multiplies the rate of a peer."""
        path = self.machine.out / f"{file}.json"
        if path.exists():
            return json.loads(path.read_text())
        if name in PEERS:
            found = self._peer(name, seed, epochs, factor)
        else:
            machine = replace(self.machine, out=self.machine.out / file, seed=seed)
            found = job.run(tasks.prepare(own(epochs)[name], self.location, machine, self.splits))
        settings = found.pop("recipe")  # not under this name, which stands for a recipe of trickzoo
        write_json(path, {**found, "settings": settings, "command": f"python -m benchmarks.recipes {shlex.join(sys.argv[1:])}"})
        print(f"{file}: top-1 {found['top1']:.2f} %, {found['wall_seconds']:.0f} s", flush=True)
        return found

    def _peer(self, name: str, seed: int, epochs: int, factor: float) -> dict[str, Any]:
        peer, train, val = PEERS[name], self.splits.train, self.splits.val
        self.decoded = self.decoded or Decoded(open_files(self.location)[0], train.labels)
        random.seed(seed)
        np.random.seed(seed)
        start, recipe, lr = time.perf_counter(), own(epochs)["zoo"], peer.rate(factor)
        net = prepare(recipe, len(train.classes), seed).to(memory_format=torch.channels_last)
        fitted = fit(peer, net, self.decoded, len(train.classes), seed=seed, epochs=epochs, lr=lr)
        found = predict_resident(fitted, val, Normalisation(), self.machine.accelerator("fp32"))
        labels = val.labels
        return {
            "what": f"training of a classifier by {name}",
            "top1": round(predictions.metrics(found)["top1"], 4),
            "n": len(labels),
            "n_train": len(train),
            "num_classes": len(train.classes),
            "majority": round(100 * float(np.bincount(labels).max()) / len(labels), 4),
            "data_digest": train.digest,
            "val_digest": val.digest,
            "recipe": {
                "name": f"recipes.{name}",
                "model": MODEL,
                "size": SIZE,
                "epochs": epochs,
                "batch_size": BATCH,
                "area": AREA,
                "lr": lr,
            }
            | {"published": asdict(peer.published)},
            "seed": seed,
            "wall_seconds": round(time.perf_counter() - start, 1),
            **environment.describe(),
        }


def publish(out: Path, results: Path, seeds: int) -> None:
    """Write the comparison of the finished trainings of a folder to `results`, and its plot and their files to a folder there."""
    found = summary.summarise(out, seeds)
    name = f"recipes_{DATA}_{MODEL}_{found.epochs}_epochs"
    folder = results / name
    drawn = plots.compared(found.rungs, found.majority, "paired difference from trickzoo's recipe, points")
    write_atomically(folder / "recipes.svg", figures.svg(drawn, name).encode())
    for path in (*out.glob("*.json"), *out.glob(f"{summary.GRID}/*.json")):
        write_atomically(folder / path.relative_to(out), path.read_bytes())
    write_json(results / f"{name}.json", msgspec.to_builtins(found))


def main() -> None:
    """Train what is not trained yet, or publish what is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the folder of Imagenette-128")
    parser.add_argument("--out", type=Path, required=True, help="the folder of the trainings")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--publish", action="store_true", help="write what is finished to benchmarks/results/, and train nothing")
    options = parser.parse_args()
    if options.publish:
        publish(options.out, RESULTS, options.seeds)
        return
    if options.data is None:
        parser.error("--data is needed, unless --publish is given")
    location = ImageLocation(data=options.data, decode="once", side=128, cache=options.out / "decoded")
    grid = Trainings(replace(location, minival=HELD_OUT), options.out / summary.GRID)
    best = {}
    for name, peer in PEERS.items():
        tried = {factor: grid.run(name, 0, GRID_EPOCHS, factor, f"{name}-{factor:g}")["top1"] for factor in peer.factors}
        best[name] = max(tried, key=lambda factor: tried[factor])
    del grid
    trainings = Trainings(location, options.out)
    for seed in range(options.seeds):  # seeds outside, so that a run that is stopped leaves complete comparisons
        for name in (*own(1), *PEERS):
            trainings.run(name, seed, options.epochs, best.get(name, 1), f"{name}-{seed}")


if __name__ == "__main__":
    main()
