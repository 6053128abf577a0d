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
        path = Path(place).expanduser()
        if not path.exists():
            raise BadManifest(f"{VARIABLE}: {path} does not exist; correct or unset the variable")
        files += sorted(path.glob("*.toml")) if path.is_dir() else [path]
    found: dict[str, Record] = {}
    for file in files:
        for record in read(file):
            if record.name in found:
                raise BadManifest(f"{file}: {record.name} is recorded twice; a weight has one record")
            found[record.name] = record
    defaults = [r.model for r in found.values() if r.default]
    for model in defaults:
        if defaults.count(model) > 1:
            raise BadManifest(f"{model} has two default weights; a model has at most one")
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
        raise BadManifest(f"{file}:{_line(text, path)}: {path.strip('`').removeprefix('$.') or 'top level'}: {complaint}") from None
    for i, record in enumerate(manifest.weights):
        try:
            if registry.find(record.model).name != record.model:
                raise BadManifest(f'"{record.model}" is an alias; the record must name {registry.find(record.model).name}')
        except TrickzooError as error:
            raise BadManifest(f"{file}:{_line(text, f'$.weights[{i}].name')}: weights[{i}].name: {error}") from None
    return manifest.weights


def _line(text: str, path: str) -> int:
    """Line of the field that a msgspec path such as `$.weights[3].preprocessing.size` names, as near as TOML's layout tells."""
    lines = text.splitlines()
    number = re.search(r"weights\[(\d+)\]", path)
    if number is None:
        return 1
    heads = [i for i, line in enumerate(lines) if line.strip() == "[[weights]]"] or [0]
    start = heads[min(int(number[1]), len(heads) - 1)]
    end = next((head for head in heads if head > start), len(lines))
    for key, index in re.findall(r"\.(\w+)(?:\[(\d+)\])?", path.partition("weights")[2]):
        hits = [
            i for i in range(start, end) if re.match(rf"\s*(\[+weights\.{key}\]+\s*$|{key}\s*=)", lines[i]) or f"{{{key} =" in lines[i]
        ]
        if hits:
            start = hits[min(int(index or 0), len(hits) - 1)]
    return start + 1


def find(name: str) -> Record:
    """The record `<model>.<tag>`; the model may be an alias. Raises UnknownName with the nearest names."""
    model, _, tag = name.partition(".")
    canonical = f"{registry.find(model).name}.{tag}"
    known = records()
    if canonical not in known:
        raise UnknownName("weight", name, known)
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
        raise NoWeights(f"no weights are published for {name}; {', '.join(same or have)} have them")
    for record in mine:
        if record.tag == tag or (tag is None and record.default):
            return record
    if tag is None:
        raise NoWeights(f"{name} has no default weight; ask for one by its tag: {', '.join(r.tag for r in mine)}")
    raise UnknownName("weight", f"{name}.{tag}", [r.name for r in mine])
