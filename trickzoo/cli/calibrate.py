"""The command `trickzoo calibrate`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from trickzoo import result_files
from trickzoo.cli import options
from trickzoo.cli.printing import hush, say, say_json
from trickzoo.data.layouts import FOLDERS_IN_WORDS, HUB_IN_WORDS, check_exists
from trickzoo.errors import BadOption
from trickzoo.weights import named
from trickzoo.wording import count

if TYPE_CHECKING:
    from trickzoo.backbone import Backbone
    from trickzoo.classification.temperature import Calibrated
    from trickzoo.data.imageset import ImageSet


def calibrate(
    model: str,
    /,
    *,
    data: Annotated[
        str, Parameter(help=f"Held-out images: class folders, a CSV of path and label, {FOLDERS_IN_WORDS}, or {HUB_IN_WORDS}.")
    ],
    split: Annotated[Literal["val", "train", "test"], Parameter(help="Split of DATA to fit the temperature on.")] = "val",
    split_file: options.SplitFile = None,
    folder: options.TableFolder = None,
    classes: options.ClassesOrFolders = None,
    out: Annotated[Path | None, Parameter(help="Write the calibrated network to this new .safetensors file.")] = None,
    workers: options.Workers = None,
    device: options.Device = "auto",
    printing: options.PrintingOptions = options.PrintingOptions(),
) -> None:
    """Fit a temperature on held-out images, so that the confidence of a classifier matches its accuracy.

    MODEL is a weight file, the folder of a training run, or the name of a weight. The temperature is the one with the lowest negative
    log-likelihood (temperature scaling, arXiv 1706.04599), and no prediction changes. The log-likelihood and the calibration error are
    printed before and after. For the values after, each half of the images is judged with the temperature that was fitted on the other
    half. --out writes a file in which the weights of the classifier are divided by the temperature, so everything that uses the file has
    calibrated probabilities. Its header states the temperature.
    """
    hush(printing.quiet or printing.json)
    named.check(model)
    if out is not None:
        if out.suffix != ".safetensors":
            raise BadOption(f"{out}: the name of a weight file must end in .safetensors")
        if out.exists():
            raise BadOption(f"{out} exists; name another file")
        result_files.check_writable(out)
    check_exists(data)
    from trickzoo.classification import temperature  # only now, because torch takes seconds to import
    from trickzoo.cli.common import loaded
    from trickzoo.data.open import open_part
    from trickzoo.training.processes import one_process

    state = one_process("trickzoo calibrate", device)
    network = loaded(model, None)
    opened = open_part(data, split, split_file, folder=folder)
    found, n = _fitted(network, opened, classes, workers, state.device)
    content = {"what": "calibration", "weights": model, "data": data, "split": split, "n": n, **asdict(found)}
    if out is not None:
        temperature.scale(network.cpu(), found.temperature)
        _write(network, out, {name: value for name, value in content.items() if name != "what"})
    if printing.json:
        say_json(content)
        return
    say(f"temperature {found.temperature:.4f}, fitted on {count(n, 'image')} of {data}; top-1 {found.top1:.2f} %")
    say(f"  negative log-likelihood {found.nll[0]:.4f} before and {found.nll[1]:.4f} after")
    say(f"  ECE {found.ece[0]:.2f} % before and {found.ece[1]:.2f} % after")
    say("  after: each half of the images, with the temperature fitted on the other half")
    if out is not None:
        say(str(out))


def _fitted(network: Backbone, opened: ImageSet, classes: str | None, workers: int | None, device: Any) -> tuple[Calibrated, int]:
    """Run the network on the images. Return the temperature, and the number of images."""
    import numpy as np
    import torch

    from trickzoo.classification import evaluate, temperature
    from trickzoo.classification.features import extract
    from trickzoo.cli.common import classes_of, preprocessing_of, progress_bar
    from trickzoo.data.selection import warn_if_seen
    from trickzoo.training.processes import default_workers

    names = classes_of(network, classes, opened.order or opened.classes)
    images, _ = evaluate.match_classes(opened, names)
    warn_if_seen(images.names, network.weights)
    workers = default_workers() if workers is None else workers
    with progress_bar(network.name, len(images.entries), True, 1) as tick:
        features = extract(network, images, preprocessing_of(network), device=device, workers=workers, progress=tick)
    with torch.inference_mode():
        logits = network.head.fc(features.to(device)).float().cpu().numpy()
    place = {name: index for index, name in enumerate(names)}
    labels = np.array([place[entry.label] for entry in images.entries])
    return temperature.calibrate(logits, labels), len(labels)


def _write(network: Backbone, path: Path, facts: dict[str, Any]) -> None:
    """Write a network whose classifier was divided by its temperature. The facts are added to the description of its training."""
    from trickzoo.weights.export import export

    before = (network.weights.training if network.weights else None) or {}
    export(network, path, training={**before, "calibration": {**facts, "before": before.get("calibration")}})
