"""Reads `weights_manifest/*.toml`, and the files or folders that TRICKZOO_MANIFEST names beside it."""

from __future__ import annotations

import functools
import os
import re
import sys
from pathlib import Path

import msgspec

from trickzoo import registry
from trickzoo.errors import BadManifest, NoWeights, TrickzooError, UnknownName
from trickzoo.files import expanded
from trickzoo.weights.record import ManifestFile, Record

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PACKAGE = Path(__file__).parents[1]
VARIABLE = "TRICKZOO_MANIFEST"


def shipped_folder() -> Path:
    """The folder of the manifest: inside an installed package, at the top of a checkout."""
    inside = PACKAGE / "weights_manifest"
    return inside if inside.is_dir() else PACKAGE.parent / "weights_manifest"


def records() -> dict[str, Record]:
    """Every record by name, in natural order."""
    return _records(os.environ.get(VARIABLE, ""))


@functools.lru_cache(maxsize=4)
def _records(extra: str) -> dict[str, Record]:
    files = sorted(shipped_folder().glob("*.toml"))
    for place in filter(None, extra.split(os.pathsep)):
        path = expanded(place)
        if not path.exists():
            raise BadManifest(f"{VARIABLE}: {path} does not exist; correct or unset the variable")
        files += sorted(path.glob("*.toml")) if path.is_dir() else [path]
    found: dict[str, Record] = {}
    defaults: dict[str, str] = {}
    for file in files:
        for i, record in enumerate(read(file)):
            if record.name in found:
                raise BadManifest(_complaint(file, f"weights[{i}].name", f"{record.name} is recorded twice; a weight has one record"))
            found[record.name] = record
            if record.default and (other := defaults.setdefault(record.model, record.name)) != record.name:
                raise BadManifest(_complaint(file, f"weights[{i}].default", f"{record.model} has a default weight already, {other}"))
    return dict(sorted(found.items(), key=lambda item: registry.natural(item[0])))


def read(file: Path) -> tuple[Record, ...]:
    """The records of one file. Raises BadManifest with the file, the line and the field."""
    try:
        text = file.read_text(encoding="utf-8")
        content = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise BadManifest(f"{file}: cannot be read ({error})") from None
    except tomllib.TOMLDecodeError as error:
        raise BadManifest(f"{file}: not valid TOML: {error}") from None
    try:
        manifest = msgspec.convert(content, ManifestFile)
    except msgspec.ValidationError as error:
        complaint, _, path = str(error).partition(" - at ")
        field = path.strip("`").removeprefix("$").removeprefix(".")
        unknown = re.search(r"unknown field `(\w+)`", complaint)
        inner = f"{field}.{unknown[1] if unknown else complaint.split()[0]}".removeprefix(".")  # our own complaints begin with the field
        if unknown or _line(text, inner) != _line(text, field):
            field = inner
        raise BadManifest(_complaint(file, field, complaint)) from None
    for i, record in enumerate(manifest.weights):
        try:
            if registry.find(record.model).name != record.model:
                raise BadManifest(f'"{record.model}" is an alias; the record must name {registry.find(record.model).name}')
        except TrickzooError as error:
            raise BadManifest(_complaint(file, f"weights[{i}].name", str(error))) from None
    return manifest.weights


def _complaint(file: Path, field: str, problem: str) -> str:
    """One line that says where in the file, which field (such as `weights[3].preprocessing.size`) and what is wrong with it."""
    return f"{file}:{_line(file.read_text(encoding='utf-8'), field)}: {field or 'top level'}: {problem}"


def _line(text: str, field: str) -> int:
    """Line of a field, or of the table that it is missing from, as near as TOML's layout tells."""
    lines = text.splitlines()
    start, end = 0, len(lines)

    def those(pattern: str) -> list[int]:
        return [i for i in range(start, end) if re.search(pattern, lines[i])]

    for key, index in re.findall(r"(\w+)(?:\[(\d+)\])?", field):
        nth = int(index or 0)
        if heads := those(rf"^\s*\[+\s*(weights\.)?{key}\s*\]"):  # [[weights]], [[weights.source]], [weights.preprocessing]
            start = heads[min(nth, len(heads) - 1)]
            inner = r"\[+\s*weights\s*\]" if key == "weights" else r"\["
            end = next((i for i in range(start + 1, end) if re.match(rf"\s*{inner}", lines[i])), end)
        elif hits := those(rf"^\s*{key}\s*=") or those(rf"[\s{{,]{key}\s*="):
            start = hits[0]
            end = next((i for i in range(start + 1, end) if re.match(r"\s*(\[|\w+\s*=)", lines[i])), end)
            if index and (rows := those(r"\{")):  # an array of inline tables
                start = rows[min(nth, len(rows) - 1)]
                end = start + 1
        else:
            break
    return start + 1


def find(name: str) -> Record:
    """The record `<model>.<tag>`; the model may be an alias. Raises UnknownName with the nearest names."""
    model, _, tag = name.partition(".")
    canonical = f"{registry.ALIASES.get(model, model)}.{tag}"
    known = records()
    if canonical not in known:
        b = f"{canonical.partition('.')[0]}_b.{tag}"  # elsewhere the name without a letter means B
        raise UnknownName("weight", name, [b] if b in known else known)
    return known[canonical]


def of_model(model: str) -> list[Record]:
    """Records of an architecture."""
    return [record for record in records().values() if record.model == model]


def choose(model: str, tag: str | None = None) -> Record:
    """The record of this tag, or the default one without a tag.

    Raises UnknownName with the nearest tags, NoWeights with the models that have weights.
    """
    name = registry.find(model).name
    mine = of_model(name)
    if not mine:
        family = registry.find(model).family
        have = [other.model for other in records().values() if other.default]
        same = [other for other in have if registry.find(other).family == family and other.partition("_")[0] == name.partition("_")[0]]
        others = same or have
        raise NoWeights(f"no weights are published for {name}; {', '.join(others)} {'have' if len(others) > 1 else 'has'} them")
    for record in mine:
        if record.tag == tag or (tag is None and record.default):
            return record
    if tag is None:
        raise NoWeights(f"{name} has no default weight; ask for one by its tag: {', '.join(r.tag for r in mine)}")
    raise UnknownName("weight", f"{name}.{tag}", [r.name for r in mine])
