"""The commands `trickzoo weights list | fetch | verify | path | lock | import-gluoncv | rm`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter

from trickzoo import catalogue
from trickzoo.cli.options import Flag, Json, Overwrite
from trickzoo.cli.printing import say, say_json, table
from trickzoo.errors import TrickzooError, UnknownName
from trickzoo.weights import local, manifest, pins, store
from trickzoo.weights.named import existing
from trickzoo.weights.record import NetworkRecord, Record
from trickzoo.wording import count

Names = Annotated[str, Parameter(help="Weights, models, each of which stands for its default weight, or shell patterns of weights.")]


def list_(
    pattern: Annotated[str, Parameter(help="Shell pattern of the names of weights.")] = "*",
    /,
    *,
    cached: Annotated[bool, Flag, Parameter(help="List only weights that are on this machine.")] = False,
    json: Json = False,
) -> None:
    """List weights with their accuracy, size, recorded SHA-256 and licence, and whether they are on this machine.

    A download whose SHA-256 is not recorded is compared with what the hub states; `trickzoo weights lock` then records it.
    """
    rows, content = [], []
    for record in _matching(pattern):
        here = local.is_here(record)
        if cached and not here:
            continue
        size = local.size(record) or _expected_size(record)
        about = (f"{size / 1e6:.0f} MB" if size else "–", pins.recorded(record), record.licence, "yes" if here else "")
        content.append({**msgspec.to_builtins(record), "megabytes": round(size / 1e6, 3) if size else None, "here": here})
        rows.append((record.name, *_accuracy(record), *about))
    if json:
        say_json(content)
        return
    columns = ("weight", "", "top-1", "at", "size", "SHA-256", "licence", "here")
    table(columns, rows, left=("weight", "", "at", "SHA-256", "licence", "here"))
    if len(rows) > 1:
        full = sum(row[5] == "full" for row in rows)
        none = sum(row[5] == "none" for row in rows)
        digits = len(rows) - full - none
        say(f"{len(rows)} weights: {full} with a full SHA-256, {digits} with its first digits, {none} without")


def _expected_size(record: Record | NetworkRecord) -> int | None:
    """Return the size in bytes of the fp32 parameters of a weight; None for a detector or a segmenter, whose number is not known."""
    return catalogue.describe(record.model).architecture.parameters * 4 if isinstance(record, Record) else None


def _accuracy(record: Record | NetworkRecord) -> tuple[str, str, str]:
    """Return whether a weight is a default one, its accuracy, and the input that this was measured with."""
    if isinstance(record, Record):
        m = record.published()
        return "default" if record.default else "", *((f"{m.top1:.3f}", f"{m.size} / {m.crop:g}") if m else ("–", ""))
    return "", next((f"{name} {value:.2f}" for m in record.metrics for name, value in m.values.items()), "–"), ""


def fetch(*names: Names) -> None:
    """Download weights, verify them and print their paths."""
    for record in _records(names):
        say(str(store.fetch(record).path))


def verify(*names: Names) -> None:
    """Compute the digests of weights on this machine again, and compare them with the recorded ones.

    Without names, all weights on this machine are checked. The output says what each file was compared with: "pinned" is a full
    SHA-256 in the manifest or the lock file, "8 digits" its beginning, "stated by the hub" what the hub stated at the download. A
    file that was put in place by hand, and whose digest is recorded nowhere, is reported as unverified: it is only compared with the file
    that was used first.
    """
    wrong = []
    records = _records(names) if names else _here()
    for record in records:
        try:
            file = local.verify(record)
        except TrickzooError as error:
            wrong.append(str(error))
            say(f"{record.name}  WRONG")
        else:
            if file is None:
                say(f"{record.name}  not on this machine")
            else:
                level = local.assurance(record, file)
                say(f"{record.name}  {level if level == 'unverified' else f'right ({level})'}  {file.sha256}  {file.path}")
    if wrong:
        raise TrickzooError("; ".join(wrong))


def path(name: Annotated[str, Parameter(help="A weight, or a model, which stands for its default weight.")], /) -> None:
    """Print the path of a weight's file. Nothing is downloaded."""
    (record,) = _records((name,))
    file = local.locate(record)
    if file is None and all(source.path is not None for source in record.sources):
        raise TrickzooError(store.advice(record, "it is not on this machine, and no server has it"))
    if file is None:
        raise TrickzooError(f"{record.name} is not on this machine; `trickzoo weights fetch {record.name}` downloads it")
    say(str(file.path))


def lock(*names: Names) -> None:
    """Download weights and pin their revisions and digests in the lock file (TRICKZOO_LOCK).

    Without names, all weights on this machine are pinned.
    """
    records = _records(names) if names else _here()
    files = store.pin(records)
    for file in files:
        say(f"{file.name}  {file.revision or '-'}  {file.upstream_sha256 or file.sha256}")
    say(f"{len(files)} pinned in {pins.lock_file()}")
    pinned = {file.name for file in files}
    if left := [record.name for record in records if record.name not in pinned]:
        raise TrickzooError(
            f"{', '.join(left)}: put in place by hand, and no digest is known that could be pinned; "
            f"state sha256 in the manifest, or run `trickzoo weights rm {' '.join(left)}` and lock the file of the hub"
        )


def import_gluoncv(
    file: Path,
    /,
    *,
    out: Annotated[Path | None, Parameter(help="File to write; by default FILE with the suffix .safetensors.")] = None,
    classes: Annotated[
        Path | None, Parameter(help="Text file with the class names, one per line, if they are not those of GluonCV's data set.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write the network in FILE, a .params file of GluonCV, to a weight file of trickzoo. MXNet is not needed.

    ResNets (v1, v1b, v1c, v1d, v1s), MobileNets v1 and Inception V3 are read, Faster R-CNNs without a feature pyramid, and FCNs. The
    network is recognised from the file.
    """
    target = out or file.with_suffix(".safetensors")
    existing(file)
    from trickzoo.data.classes import class_list
    from trickzoo.gluoncv import import_gluoncv as write  # only now, because it imports torch
    from trickzoo.training.measures import MEASURES

    names = None if classes is None else class_list(str(classes))
    task, model, published = write(file, target, classes=names, overwrite=overwrite)
    said = "not in GluonCV's list"
    if published:
        figures = ", ".join(f"{MEASURES[name]} {value:.2f}" for name, value in published.metrics.items())
        said = f"GluonCV's {published.name}, {figures} on {published.data}"
    say(f"{target}: {model} for {task} ({said})")


def rm(*names: Names) -> None:
    """Delete the cached files of weights from this machine."""
    for record in _records(names):
        gone = local.remove(record)
        if local.is_packaged(record):
            say(f"{record.name}: part of the trickzoo installation, not deleted")
        elif gone:
            say(f"{record.name}: {count(len(gone), 'file')} deleted")
        else:
            say(f"{record.name}: was not on this machine")


def _records(names: tuple[str, ...]) -> list[Record | NetworkRecord]:
    """Return the records of weights, detectors and segmenters, the default records of models, and the records that match patterns."""
    if not names:
        raise TrickzooError("name a weight, a model or a pattern; `trickzoo weights list` shows them")
    found: list[Record | NetworkRecord] = []
    for name in names:
        if any(sign in name for sign in "*?["):
            found += _matching(name)
        else:
            found.append(manifest.entry(name) if "." in name else manifest.choose(name))
    return found


def _matching(pattern: str) -> list[Record | NetworkRecord]:
    """Return the records of the weights, detectors and segmenters that match a pattern. Raises UnknownName if none does."""
    names = catalogue.list_weights(pattern) + catalogue.list_networks(pattern)
    if not names:
        raise UnknownName("weight", pattern, manifest.entries())
    return [manifest.entry(name) for name in names]


def _here() -> list[Record | NetworkRecord]:
    """Return the records whose files are on this machine."""
    return [record for record in manifest.entries().values() if local.is_here(record)]
