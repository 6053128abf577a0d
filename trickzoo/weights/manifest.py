"""Reads weight records from `weights_manifest/*.toml` and from the files or folders that TRICKZOO_MANIFEST names."""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from trickzoo import registry
from trickzoo.errors import BadManifest, NoWeights, UnknownName
from trickzoo.files import expanded
from trickzoo.weights.record import Entry, ManifestFile, NetworkRecord, Record

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PACKAGE = Path(__file__).parents[1]
VARIABLE = "TRICKZOO_MANIFEST"

E = TypeVar("E", bound=Entry)


def shipped_folder() -> Path:
    """Return the folder of the shipped manifest: inside an installed package, or at the top of a checkout."""
    inside = PACKAGE / "weights_manifest"
    return inside if inside.is_dir() else PACKAGE.parent / "weights_manifest"


def records() -> dict[str, Record]:
    """Return the record of every weight by its name, in natural order (resnet50 before resnet101).

    Raises BadManifest if a file cannot be read, two records have one name, or a model has two default weights.
    """
    return _records(os.environ.get(VARIABLE, ""))[0]


def networks() -> dict[str, NetworkRecord]:
    """Return the record of every detector and segmenter by its name, in natural order. Raises what `records` raises."""
    return _records(os.environ.get(VARIABLE, ""))[1]


@functools.lru_cache(maxsize=4)
def _records(extra: str) -> tuple[dict[str, Record], dict[str, NetworkRecord]]:
    files = sorted(shipped_folder().glob("*.toml"))
    for place in filter(None, extra.split(os.pathsep)):
        path = expanded(place)
        if not path.exists():
            raise BadManifest(f"{VARIABLE}: {path} does not exist; correct or unset the variable")
        files += sorted(path.glob("*.toml")) if path.is_dir() else [path]
    weights: dict[str, Record] = {}
    networks: dict[str, NetworkRecord] = {}
    defaults: dict[str, str] = {}
    for file in files:
        for number, record in enumerate(read(file), 1):
            if record.name in weights or record.name in networks:
                raise _complaint(file, number, record.name, "name: another record has this name; give each weight its own")
            if isinstance(record, NetworkRecord):
                networks[record.name] = record
                continue
            weights[record.name] = record
            if record.default and (other := defaults.setdefault(record.model, record.name)) != record.name:
                raise _complaint(
                    file, number, record.name, f"default: {record.model} already has a default weight, {other}; remove one of them"
                )
    return _in_order(weights), _in_order(networks)


def _in_order(found: dict[str, E]) -> dict[str, E]:
    return dict(sorted(found.items(), key=lambda item: registry.natural(item[0])))


def read(file: Path) -> tuple[Record | NetworkRecord, ...]:
    """Return the records of one TOML file. Raises BadManifest with the file, the record and the field that is wrong."""
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadManifest(f"{file}: cannot be read ({error})") from None
    except ValueError as error:  # also for a number of more digits than Python converts
        raise BadManifest(f"{file}: not valid TOML: {error}") from None
    except RecursionError:
        raise BadManifest(f"{file}: cannot be read (it is nested too deeply)") from None
    try:
        tables = msgspec.convert(content, ManifestFile)
    except msgspec.ValidationError as error:
        raise BadManifest(f"{file}: {error}") from None
    weights = tuple(_record(file, number, Record, table) for number, table in enumerate(tables.weights, 1))
    after = len(weights) + 1
    return weights + tuple(_record(file, number, NetworkRecord, table) for number, table in enumerate(tables.networks, after))


def _record(file: Path, number: int, kind: type[E], table: dict[str, Any]) -> E:
    """Check one table of a file. `number` counts from 1, first the tables of weights and then those of networks."""
    try:
        record = msgspec.convert(table, kind)
        model = registry.find(record.model).name if isinstance(record, Record) else None
    except (msgspec.ValidationError, UnknownName) as error:
        raise _complaint(file, number, table.get("name"), str(error)) from None
    if isinstance(record, Record) and record.model != model:
        raise _complaint(file, number, record.name, f'name: "{record.model}" is an alias; the record must name {model}')
    return record


def _complaint(file: Path, number: int, name: object, problem: str) -> BadManifest:
    named = f" ({name})" if isinstance(name, str) else ""
    return BadManifest(f"{file}: record {number}{named}: {problem}")


def find(name: str) -> Record:
    """Return the record of the weight `<model>.<tag>`, where the model may be an alias. Raises UnknownName with the nearest names."""
    model, _, tag = name.partition(".")
    canonical = f"{registry.ALIASES.get(model, model)}.{tag}"
    known = records()
    if canonical not in known:
        b = f"{canonical.partition('.')[0]}_b.{tag}"  # other libraries call the B network by the name without a letter
        raise UnknownName("weight", name, [b] if b in known else entries())
    return known[canonical]


def entries() -> dict[str, Record | NetworkRecord]:
    """Return the record of every weight, detector and segmenter by its name."""
    return {**records(), **networks()}


def entry(name: str) -> Record | NetworkRecord:
    """Return the record of a weight, a detector or a segmenter. Raises what `find` raises."""
    return networks().get(name) or find(name)


def of_model(model: str) -> list[Record]:
    """Return the records of one architecture, named without an alias."""
    return [record for record in records().values() if record.model == model]


def choose(model: str, tag: str | None = None) -> Record:
    """Return the record of a model with the given tag, or the default record if no tag is given.

    Raises UnknownName for an unknown model or tag, with the nearest names, and NoWeights if the model has no weights or no default weight.
    """
    name = registry.find(model).name
    mine = of_model(name)
    if not mine:
        raise NoWeights(f"no weights are published for {name}; {_with_defaults(name)}")
    for record in mine:
        if record.tag == tag or (tag is None and record.default):
            return record
    if tag is None:
        raise NoWeights(
            f"{name} has no default weight; name one of its own: {', '.join(r.name for r in mine)}; {_with_defaults(name, 'one')}"
        )
    raise UnknownName("weight", f"{name}.{tag}", [r.name for r in mine])


def _with_defaults(name: str, what: str = "them") -> str:
    """Return the end of a sentence that says which of the nearest models have a default weight; `what` stands for it."""
    family = registry.find(name).family
    have = [other.model for other in records().values() if other.default]
    same = [other for other in have if registry.find(other).family == family and other.partition("_")[0] == name.partition("_")[0]]
    others = same or have
    return f"{', '.join(others)} {'have' if len(others) > 1 else 'has'} {what}"
