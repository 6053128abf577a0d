"""The commands `trickzoo list` and `trickzoo describe`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from trickzoo import catalogue, registry
from trickzoo.cli.options import Json
from trickzoo.cli.printing import say, say_json, table
from trickzoo.data.classes import describe_class
from trickzoo.errors import UnknownName, shortened
from trickzoo.files import digest
from trickzoo.registry import Architecture
from trickzoo.weights import header, local, manifest, named
from trickzoo.weights.record import AnnotatedMetric, Entry, Metric, NetworkRecord, Record
from trickzoo.wording import count


def list_(
    pattern: Annotated[str, Parameter(help="Shell pattern of the names of models.")] = "*",
    /,
    *,
    pretrained: Annotated[bool, Parameter(negative="", help="List only models that have a default weight.")] = False,
    json: Json = False,
) -> None:
    """List the models whose names match a shell pattern, such as "resnet*_d", and the trained detectors and segmenters."""
    names = catalogue.list_models(pattern, pretrained=pretrained)
    networks = [manifest.networks()[name] for name in catalogue.list_networks(pattern)]
    if not names and not networks:
        raise UnknownName("model", pattern, registry.ARCHITECTURES)
    rows = [catalogue.describe(name) for name in names]
    if json:
        models = [_model(d.architecture) | {"task": "classification", "default": d.default and d.default.name} for d in rows]
        say_json(models + [{"model": network.name, **msgspec.to_builtins(network)} for network in networks])
        return
    if rows:
        _say_models(rows)
    if networks:
        if rows:
            say()
        cells = [(n.name, n.task, *((m.data, _values(m)) if m else ("–", ""))) for n in networks for m in n.metrics or (None,)]
        table(("trained network", "task", "data", "accuracy"), cells, left=("trained network", "task", "data", "accuracy"))


def _say_models(rows: Sequence[catalogue.Description]) -> None:
    cells = []
    for d in rows:
        a = d.architecture
        best = d.default.published() if d.default else None
        cells.append(
            (
                a.name,
                f"{a.parameters / 1e6:.1f} M",
                f"{a.macs / 1e9:.2f} G",
                d.default.tag if d.default else "–",
                f"{best.top1:.2f}" if best else "",
                f"{best.size}" if best else "",
                str(len(d.weights)) if d.weights else "",
            )
        )
    table(("model", "params", "MACs", "default weight", "top-1", "at", "weights"), cells, left=("model", "default weight"))


def describe(name: str, /, *, json: Json = False) -> None:
    """Describe a model ("resnet50_d") and its weights, one weight ("resnet50_d.gluon_in1k"), or a weight file.

    For a file, also of a detector or a segmenter, the model, classes, preprocessing, recipe and SHA-256 are shown. The folder of a
    training stands for the file that the training wrote.
    """
    if record := named.network(name):
        _say_network(record, json)
        return
    if named.is_file(name):
        _say_file(named.existing(name), json)
        return
    d = catalogue.describe(name)
    a = d.architecture
    if json:
        say_json(_model(a) | {"weights": [msgspec.to_builtins(r) for r in d.weights]})
        return
    aliases = f" (also {', '.join(a.aliases)})" if a.aliases else ""
    say((a.name, "bold"), f"{aliases}: {a.summary}")
    say(f"{a.parameters:,} parameters, {a.macs / 1e9:.3f} G multiply-adds at {a.size} px")
    if "." in name:
        _say_weight(d.weights[0])
    elif d.weights:
        say()
        _say_weights(d.weights)
    else:
        say("no weights are published for it")


def _say_file(path: Path, json: bool) -> None:
    """Print what a file states about itself."""
    if json:
        say_json(_content(path))
        return
    say((str(path), "bold"))
    _say_rows(_stated(path))


def _say_network(record: NetworkRecord, json: bool) -> None:
    """Print what is recorded about a detector or a segmenter, and what its file states if it is on this machine. Nothing is downloaded."""
    path = named.existing(record.name) if local.is_here(record) else None
    if json:
        say_json(({} if path is None else _content(path)) | {"record": msgspec.to_builtins(record)})
        return
    say((record.name, "bold"))
    _say_rows(({"task": record.task} if path is None else _stated(path)) | {"licence": record.licence, "note": record.note})
    _say_sources(record)
    for m in record.metrics:
        say(f"  {'figure':<14}{m.data}: {_values(m)} ({count(m.n, 'image')}), measured: {m.source}")


def _content(path: Path) -> dict[str, Any]:
    """Return the header of a file, with its path, its size in bytes and its digest."""
    own = header.required(path)
    return msgspec.to_builtins(own) | {"file": str(path), "size": path.stat().st_size, "sha256": digest(path)}


def _stated(path: Path) -> dict[str, str | None]:
    """Return what a file states about its network, in words."""
    own = header.required(path)
    training = own.training or {}
    recipe = training.get("recipe")
    stated = recipe if isinstance(recipe, dict) else {}  # `trickzoo.export` writes whatever describes a training
    by = f"{stated['name']}, {count(stated['epochs'], 'epoch')}" if isinstance(stated.get("epochs"), int) and "name" in stated else None
    return {
        "task": own.task,
        "model": own.model,
        "options": ", ".join(f"{key}={value}" for key, value in own.options.items()),
        "classes": _classes(own.classes),
        "preprocessing": str(own.preprocessing) if own.preprocessing and own.task == "classification" else None,
        "from": own.source,
        "recipe": by,
        "seed": str(training.get("seed", "")),
        "size": f"{path.stat().st_size / 1e6:,.1f} MB",
        "sha256": digest(path),
    }


def _classes(names: str | Sequence[str] | None) -> str | None:
    """Return the name of a list that the package ships, or the number of the classes and the first names."""
    if names is None or isinstance(names, str):
        return names
    return f"{count(len(names), 'class')} ({shortened([describe_class(name) for name in names], 5)})"


def _say_rows(rows: Mapping[str, str | None]) -> None:
    for key, value in rows.items():
        if value:
            say(f"  {key:<14}{value}")


def _model(a: Architecture) -> dict[str, Any]:
    return {
        "model": a.name,
        "aliases": list(a.aliases),
        "summary": a.summary,
        "parameters": a.parameters,
        "macs": a.macs,
        "macs_at": a.size,
    }


def _say_weights(records: tuple[Record, ...]) -> None:
    rows = []
    for r in records:
        m = r.published()
        figures = (f"{m.top1:.3f}", f"{m.top5:.3f}", f"{m.size} / {m.crop:g}") if m else ("–", "–", "")
        rows.append((r.name, "default" if r.default else "", *figures, r.licence, r.recipe or ""))
    columns = ("weight", "", "top-1", "top-5", "at", "licence", "recipe")
    table(columns, rows, left=("weight", "", "at", "licence"), wrapped=("recipe",))


def _say_weight(r: Record) -> None:
    say((r.name, "bold"), " (default)" if r.default else "")
    rows = {
        "classes": _classes(r.classes),
        "licence": r.licence,
        "preprocessing": str(r.preprocessing),
        "options": ", ".join(f"{key}={value}" for key, value in r.options.items()),
        "tricks": ", ".join(r.tricks),
        "recipe": r.recipe,
        "origin": r.origin,
        "paper": r.paper,
        "note": r.note,
    }
    _say_rows(rows)
    _say_sources(r)
    for m in r.metrics:
        say(f"  {'figure':<14}{_figure(m)}")


def _say_sources(entry: Entry) -> None:
    for source in entry.sources:
        digest = source.sha256 or (source.sha256_prefix and f"{source.sha256_prefix}…")
        said = f" ({source.stated_by})" if source.stated_by else ""
        say(f"  {'source':<14}{source}  sha256 {digest or 'as the hub states'}{said}")


def _values(m: AnnotatedMetric) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in m.values.items())


def _figure(m: Metric) -> str:
    how = ", ".join(filter(None, [f"{m.size} px" if m.size else "", f"crop {m.crop:g}" if m.crop else "", m.interpolation or ""]))
    return f"{m.data}: top-1 {m.top1:.3f}, top-5 {m.top5:.3f}{f' ({how})' if how else ''}, {m.kind}: {m.source}"
