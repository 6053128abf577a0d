"""Printing the results of `trickzoo eval imagenet`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import UNSET

from trickzoo.cli.printing import say, table
from trickzoo.errors import shortened
from trickzoo.wording import count, verb

if TYPE_CHECKING:
    from trickzoo.classification.accuracy import Accuracy, Published
    from trickzoo.classification.real import RealAccuracy
    from trickzoo.classification.result import Data, Result
    from trickzoo.classification.robustness import Robustness


def print_result(r: Result) -> None:
    """Print the result of evaluating a classifier."""
    what = r.data.layout if r.variant is UNSET else f"{r.variant}, {r.data.layout}"
    say(f"  {count(r.n, 'image')} of {count(r.data.classes, 'class')} ({what}), {r.images_per_second:g} images/s")
    _print_accuracy(r)
    say(f"  balanced accuracy {r.balanced_accuracy:.2f} %, macro F1 {r.macro_f1:.2f} %")
    if r.restricted is not UNSET:
        _print_accuracy(r.restricted, f" among the {count(r.restricted.classes, 'class')} of this set")
    if r.real is not UNSET:
        _print_real(r.real)
    say(f"  ECE    {r.ece:.2f} %")
    _print_published(r.published)
    _print_left_out(r.data)
    if (seen := r.data.named_as_imagenet_training) and r.classes == 1000:
        named = f"{count(seen, 'image')} {verb(seen, 'is')} named as ImageNet's training images"
        say(f"  {named}: a model that was trained on these has seen {'it' if seen == 1 else 'them'}")
    if r.robustness is not UNSET:
        _print_robustness(r.robustness)


def _print_accuracy(accuracy: Accuracy, among: str = "") -> None:
    """Print the top-1 and, of more than five classes, the top-5 accuracy. `among` says which classes the predictions were limited to."""
    from trickzoo.classification.metrics import reported_ranks

    found = {1: (accuracy.top1, accuracy.top1_interval), 5: (accuracy.top5, accuracy.top5_interval)}
    for k in reported_ranks(accuracy.classes):
        value, (low, high) = found[k]
        say(f"  top-{k}  {value:.3f} %{among}  (95 % CI {low:.2f} to {high:.2f})")


def _print_real(real: RealAccuracy) -> None:
    low, high = real.top1_interval
    say(f"  top-1  {real.top1:.3f} % by the reassessed labels of {count(real.n, 'image')}  (95 % CI {low:.2f} to {high:.2f})")
    say(f"  top-5  {real.top5:.3f} % by these; left out without a label: {count(real.without_labels, 'image')}")


def _print_published(p: Published) -> None:
    if p.top1 is UNSET or p.top5 is UNSET:
        say(f"  {p.reason}")
        return
    inside = "inside" if p.within_interval else "OUTSIDE"
    verdict = f"{inside} the interval" if p.comparable else f"not comparable, {p.reason}"
    say(f"  published {p.top1:.3f} / {p.top5:.3f} ({p.data}, {p.source}): {verdict}")


def _print_left_out(data: Data) -> None:
    if n := len(data.corrupt_left_out):
        say(f"  {count(n, 'file')} left out that cannot be read as {'an image' if n == 1 else 'images'}")
    if empty := data.empty_classes:
        say(f"  {count(len(empty), 'empty class folder')} left out: {shortened(empty)}")
    if n := data.exif_orientation.images:
        how = "turned upright" if data.exif_orientation.turned_upright else "used as stored, as for the published figures"
        say(f"  {count(n, 'image')} with an EXIF orientation, {how}")
    if data.unknown_left_out:
        say(f"  {count(data.unknown_left_out, 'image')} of unknown classes left out")


def print_table(results: Sequence[Result]) -> None:
    """Print a table of several results."""
    from trickzoo.classification.metrics import reported_ranks

    rows = []
    for r in results:
        low, high = r.top1_interval
        published = "–" if r.published.top1 is UNSET else f"{r.published.top1:.3f}"
        top5 = f"{r.top5:.3f}" if 5 in reported_ranks(r.classes) else "–"
        figures = (f"{r.top1:.3f}", f"{low:.2f} to {high:.2f}", top5, f"{r.ece:.2f}", published, f"{r.images_per_second:g}")
        rows.append((r.weights, *figures))
    say()
    table(("weight", "top-1", "95 % CI", "top-5", "ECE", "published", "images/s"), rows, left=("weight",))


def _print_robustness(found: Robustness) -> None:
    from trickzoo.classification.robustness import by_kind

    among = "" if found.restricted_top1 is UNSET else " among the classes of this set"
    columns, rows = by_kind(found)
    say()
    say(f"  top-1 in %{among}, on corrupted images, by severity")
    table(columns, rows, left=("corruption",))
    for kind, reason in found.left_out.items():
        say(f"  {kind} is left out: it {reason}")
