"""The command `trickzoo probe`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from trickzoo import environment, result_files
from trickzoo.cli import options
from trickzoo.cli.networks import Preparation, matching
from trickzoo.cli.printing import hush, say, say_json, table
from trickzoo.data.location import ImageLocation
from trickzoo.errors import BadOption
from trickzoo.recipes.ranges import Count
from trickzoo.weights import named
from trickzoo.wording import count, separated, verb

if TYPE_CHECKING:
    from trickzoo.backbone import Backbone
    from trickzoo.data.selection import Selected
    from trickzoo.studies.probe import Images, Probed
    from trickzoo.training.device import Device
    from trickzoo.weights.record import Preprocessing


def probe(
    *,
    data: options.OwnImages,
    weights: Annotated[
        list[str],
        Parameter(
            help="Weights, models with default weights, shell patterns of models, files or folders of training runs: a,b,c, or repeated.",
            negative="",
        ),
    ],
    selecting: options.SelectionOptions = options.SelectionOptions(),
    folder: options.TableFolder = None,
    preparation: Preparation = Preparation(),
    neighbours: Annotated[int, options.within(Count), Parameter(help="Training images that vote on the class of an image.")] = 20,
    workers: options.Workers = None,
    device: options.Device = "auto",
    out: Annotated[Path | None, Parameter(help="Write the result to this JSON file.")] = None,
    csv: Annotated[Path | None, Parameter(help="Write the table to this CSV file.")] = None,
    printing: options.PrintingOptions = options.PrintingOptions(),
) -> None:
    """Find the backbone that suits your images, in minutes: nearest neighbours and a linear probe on the features of several weights.

    Each network sees every image once, with the preprocessing that its weights state, and is not trained. The table has the top-1 accuracy
    on the validation images, with 95 % intervals. The strength of the linear probe's penalty is chosen on a fifth of the training images.
    """
    hush(printing.quiet or printing.json)
    names = matching(_separate(weights))
    for name in names:
        named.check(name)
    files = {"--out": out, "--csv": csv}
    result_files.check_outputs(files, (data, selecting.selection.split_file, *names))
    location = ImageLocation(data=data, folder=folder, selection=selecting.selection)
    if location.generated:
        raise BadOption(f"{data} are generated; name a folder of images with --data")
    location.check_exists()
    from trickzoo.classification.open import open_files  # only now, because torch takes seconds to import
    from trickzoo.cli.common import loaded, preprocessing_of
    from trickzoo.data.imagenet_variants import trained_on
    from trickzoo.studies import probe as study

    networks = [(network, preprocessing_of(network, preparation)) for network in (loaded(name, None) for name in names)]
    train, val, selected, comparison = open_files(location)
    for note in selected.notes:
        say(note)
    images = study.Images.of(train, val)
    say(
        f"{count(len(train.entries), 'training image')} and {count(len(val.entries), 'validation image')} of "
        f"{count(len(images.classes), 'class')}, the largest of which has {images.majority:.2f} % of the validation images"
    )
    if seen := trained_on(val):
        them = f"{count(seen, 'validation image')} {verb(seen, 'is')} named as ImageNet's training images"
        say(f"{them}: weights that were trained on ImageNet have seen {'it' if seen == 1 else 'them'}")
    probed = list(_probed(networks, images, neighbours, workers, device))
    content = _content(probed, data, images, selected, {**comparison.as_result, "named_as_imagenet_training": seen}, neighbours)
    if csv is not None:
        result_files.write_csv(csv, COLUMNS, _rows(probed))
    if out is not None:
        result_files.write_json(out, {**content, **environment.describe()})
    if printing.json:
        say_json(content)
        return
    _tell(probed)
    say("")
    say(content["conclusion"])


def _separate(given: Sequence[str]) -> Iterator[str]:
    """Yield each name of the lists "a,b,c". A file whose name has a comma is one name."""
    for text in given:
        yield from [text] if Path(text).exists() else separated(text)


def _probed(
    networks: Sequence[tuple[Backbone, Preprocessing]], images: Images, neighbours: int, workers: int | None, device: Device
) -> Iterator[Probed]:
    """Probe each network in turn. Raises BadOption under torchrun."""
    from trickzoo.cli.common import progress_bar
    from trickzoo.data.selection import warn_if_seen
    from trickzoo.studies import probe as study
    from trickzoo.training.processes import default_workers, one_process

    state = one_process("trickzoo probe", device)
    for network, preprocessing in networks:
        assert network.weights is not None
        warn_if_seen(images.val.names, network.weights)
        say(f"{network.weights.name}: {preprocessing}", flush=True)
        with progress_bar(network.weights.name, len(images.train.entries) + len(images.val.entries), True, 1) as tick:
            yield study.probe(
                network,
                images,
                preprocessing,
                neighbours=neighbours,
                device=state.device,
                workers=default_workers() if workers is None else workers,
                progress=tick,
            )


def _content(
    probed: Sequence[Probed], data: str, images: Images, selected: Selected, compared: dict[str, Any], neighbours: int
) -> dict[str, Any]:
    """Return the content of the result file."""
    from trickzoo.studies import probe as study

    found = study.differences(probed)
    return {
        "what": "probe",
        "data": data,
        "n_train": len(images.train.entries),
        "n": len(images.val.entries),
        "classes": list(images.classes),
        "majority": images.majority,
        **compared,
        **selected.facts,
        "neighbours": neighbours,
        "weights": [each.content for each in study.ranked(probed)],
        "differences": [asdict(each) for each in found],
        "conclusion": study.conclusion(probed, found, images.majority),
    }


COLUMNS = (
    "weights", "size", "features", "knn_top1", "knn_low", "knn_high", "linear_top1", "linear_low", "linear_high", "l2",
    "difference", "difference_low", "difference_high", "p", "p_holm", "seconds",
)  # fmt: skip
"""The columns of the CSV file. The difference is that of the linear probe to the best one."""


def _rows(probed: Sequence[Probed]) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of the CSV file, the best weight first."""
    from trickzoo.studies import probe as study

    behind = {each.second: each for each in study.differences(probed) if each.first == study.ranked(probed)[0].weights}
    for each in study.ranked(probed):
        figures = (each.knn.top1, *each.knn.interval, each.linear.top1, *each.linear.interval, each.l2)
        found = behind.get(each.weights)
        compared = (-found.difference, -found.interval[1], -found.interval[0], found.p, found.p_holm) if found else (None,) * 5
        yield (each.weights, each.preprocessing.size, each.features, *figures, *compared, each.seconds)


def _tell(probed: Sequence[Probed]) -> None:
    """Print the table of the weights."""
    from trickzoo.studies.words import points, probability, span

    rows = []
    for row in _rows(probed):
        name, size, _, knn, *of_knn, linear, low, high, _, difference, below, above, _, p, seconds = row
        compared = ("", "", "") if difference is None else (points(difference), span((below, above)), probability(p))
        accuracy = (f"{knn:.2f}", _span(*of_knn), f"{linear:.2f}", _span(low, high))
        rows.append((name, str(size), *accuracy, *compared, f"{seconds:.0f}"))
    titles = ("weights", "at", "k-NN", "95 % CI", "linear", "95 % CI", "to the best", "95 % CI", "p (Holm)", "seconds")
    say("")
    table(titles, rows, left=("weights",))


def _span(low: float, high: float) -> str:
    return f"{low:.1f} to {high:.1f}"
