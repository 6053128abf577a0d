"""`trickzoo list` and `trickzoo describe`."""

from __future__ import annotations

import json as jsonlib
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from trickzoo import catalogue, registry
from trickzoo.errors import UnknownName
from trickzoo.registry import Architecture
from trickzoo.weights.record import Metric, Record

Json = Annotated[bool, Parameter(negative="", help="Print JSON.")]


def list_(
    pattern: str = "*",
    /,
    *,
    pretrained: Annotated[bool, Parameter(negative="", help="Only models that have a default weight.")] = False,
    json: Json = False,
) -> None:
    """List the models whose names match a shell pattern, such as "resnet*_d"."""
    names = catalogue.list_models(pattern, pretrained=pretrained)
    if not names:
        raise UnknownName("model", pattern, registry.ARCHITECTURES)
    rows = [catalogue.describe(name) for name in names]
    if json:
        print(jsonlib.dumps([_model(d.architecture) | {"default": d.default and d.default.name} for d in rows], indent=1))
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title, justify in (
        ("model", "left"),
        ("params", "right"),
        ("MACs", "right"),
        ("default weight", "left"),
        ("top-1", "right"),
        ("at", "right"),
    ):
        table.add_column(title, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    table.add_column("weights", justify="right")
    for d in rows:
        a = d.architecture
        best = d.default.published() if d.default else None
        table.add_row(
            a.name,
            f"{a.parameters / 1e6:.1f} M",
            f"{a.macs / 1e9:.2f} G",
            d.default.tag if d.default else "–",
            f"{best.top1:.2f}" if best else "",
            f"{best.size}" if best else "",
            str(len(d.weights)) if d.weights else "",
        )
    show(table)


def describe(name: str, /, *, json: Json = False) -> None:
    """Show all that is known of a model ("resnet50_d") or of one weight of it ("resnet50_d.gluon_in1k")."""
    d = catalogue.describe(name)
    a = d.architecture
    if json:
        print(jsonlib.dumps(_model(a) | {"weights": [msgspec.to_builtins(r) for r in d.weights]}, indent=1))
        return
    console = Console(highlight=False, soft_wrap=True)
    aliases = f" (also {', '.join(a.aliases)})" if a.aliases else ""
    console.print(f"[bold]{a.name}[/bold]{aliases}: {a.summary}")
    console.print(f"{a.parameters:,} parameters, {a.macs / 1e9:.3f} G multiply-adds at {a.size} px")
    if "." in name:
        _one_weight(console, d.weights[0])
    elif d.weights:
        console.print()
        show(_weight_table(d.weights))
    else:
        console.print("no weights are published for it")


def show(table: Table) -> None:
    """Print a table whole: to the terminal's width there, unwrapped into a pipe or file."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=200)
    console.print(table)


def _model(a: Architecture) -> dict[str, Any]:
    return {
        "model": a.name,
        "aliases": list(a.aliases),
        "summary": a.summary,
        "parameters": a.parameters,
        "macs": a.macs,
        "macs_at": a.size,
    }


def _weight_table(records: tuple[Record, ...]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("weight", "", "top-1", "top-5", "at", "licence", "recipe"):
        table.add_column(title, justify="right" if title.startswith("top") else "left", no_wrap=title != "recipe")
    for r in records:
        m = r.published()
        figures = (f"{m.top1:.3f}", f"{m.top5:.3f}", f"{m.size} / {m.crop:g}") if m else ("–", "–", "")
        table.add_row(r.name, "default" if r.default else "", *figures, r.licence, r.recipe or "")
    return table


def _one_weight(console: Console, r: Record) -> None:
    console.print(f"[bold]{r.name}[/bold]{' (default)' if r.default else ''}")
    rows = {
        "classes": r.classes,
        "licence": r.licence,
        "preprocessing": str(r.preprocessing),
        "options": ", ".join(f"{key}={value}" for key, value in r.options.items()),
        "tricks": ", ".join(r.tricks),
        "recipe": r.recipe,
        "origin": r.origin,
        "paper": r.paper,
        "note": r.note,
    }
    for key, value in rows.items():
        if value:
            console.print(f"  {key:<14}{value}")
    for source in r.sources:
        digest = source.sha256 or (source.sha256_prefix and f"{source.sha256_prefix}…")
        console.print(f"  {'source':<14}{source}  sha256 {digest or 'as the hub states'}")
    for m in r.metrics:
        console.print(f"  {'figure':<14}{_figure(m)}")


def _figure(m: Metric) -> str:
    how = ", ".join(filter(None, [f"{m.size} px" if m.size else "", f"crop {m.crop:g}" if m.crop else "", m.interpolation or ""]))
    return f"{m.data}: top-1 {m.top1:.3f}, top-5 {m.top5:.3f}{f' ({how})' if how else ''}, {m.kind}: {m.source}"
