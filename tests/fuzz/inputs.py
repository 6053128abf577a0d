"""Strategies for inputs: valid contents with damage to their bytes, their text, or the structure of their format."""

from __future__ import annotations

import copy
import io
import json
import math
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from typing import Any

import torch
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy


class Raw(str):
    """Text that is written into a JSON document without quotes."""

    __slots__ = ()


NUMBERS = ("0", "-1", "1", "2", "255", "640.0", "0.5", "-0.0", "1e-320", "1e400", "-1e400", "NaN", "Infinity", "-Infinity", "1e-5", "30000")
HUGE_NUMBERS = (str(2**31), str(2**63), str(-(2**63) - 1), str(2**64), "9" * 400, "9" * 5000, "1e308", "0." + "3" * 2000)
WORDS = (
    *("", " ", "a", "n01440764", "0", "007", "true", "none", "../../x", "/etc/passwd", "a/../../b", "\\\\host\\x", ".", "..", "\0", "a\0b"),
    *("x\n y", "\x1b[2J", "[red]", "[/]", "=cmd", "$x^{", "%s%n", "{0.__class__}", "é", "e\u0301", "\u202e", "\ufeff", "日本", "²", "٣"),
    *("a" * 300, "é" * 200, "x" * 100_000, "résumé.jpg"),
)
NESTED = ("[" * 1_000 + "]" * 1_000, "[" * 100_000, '{"a":' * 100_000 + "1" + "}" * 100_000, "[" * 200_000 + "]" * 200_000)
JSON_VALUES = tuple(
    Raw(text)
    for text in (
        *("null", "true", "false", "[]", "{}", "[[]]", "[null]", '{"": null}', "[1, 2, 3, 4]", '["a", "a"]', r'"\ud800"', r'"\u0000"'),
        *NUMBERS,
        *HUGE_NUMBERS,
        *(json.dumps(word) for word in WORDS),
        *NESTED,
        "[" + "0, " * 100_000 + "0]",
    )
)
"""Values of unexpected types and sizes for JSON documents."""


def plain_values() -> tuple[Any, ...]:
    """Return values of unexpected types and sizes for pickles, with tensors of every kind among them."""
    nested: list[Any] = []
    for _ in range(500):
        nested = [nested]
    odd = (
        *(torch.zeros(()), torch.zeros(0), torch.zeros(4_000_000, 0), torch.zeros(1, 1, 1, 1, 1), torch.zeros(2, dtype=torch.long)),
        *(torch.zeros(2, 3).to_sparse(), torch.zeros(2, dtype=torch.complex64), torch.full((2,), math.nan), torch.empty(3, device="meta")),
        *(torch.zeros(1).expand(1 << 40), torch.zeros(2, dtype=torch.bool)),
    )
    scalars = (None, True, -1, 0, 1, 2**31, 2**70, -(2**70), 10**400, 0.5, math.nan, math.inf, b"", b"\xff", (), [], {}, {0: 1}, {None: 1})
    return (*odd, *scalars, nested, *WORDS)


# ---------------------------------------------------------------------------------------------------------------------
# bytes

_BYTES = ("flip", "set", "integer", "delete", "repeat", "insert", "cut", "zero", "splice")
_INTEGERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**63, 2**64 - 1)


@st.composite
def damaged(draw: DrawFn, seeds: Sequence[bytes], most: int = 3) -> bytes:
    """Draw a seed with up to `most` damages: flipped bits, overwritten integers, and spans removed, repeated or taken from another seed."""
    content = bytearray(draw(st.sampled_from(seeds)))
    for kind in draw(st.lists(st.sampled_from(_BYTES), min_size=1, max_size=most)):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        length = min(draw(st.sampled_from((1, 2, 4, 8, 16, 64, 256, 1024))), len(content) - at)
        if kind == "flip" and content:
            content[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "set" and content:
            content[at] = draw(st.integers(0, 255))
        elif kind == "integer":
            size, order = draw(st.sampled_from((1, 2, 4, 8))), draw(st.sampled_from(("little", "big")))
            value = draw(st.sampled_from(_INTEGERS)) % 256**size
            content[at : at + size] = value.to_bytes(size, order)  # type: ignore[arg-type]
        elif kind == "delete":
            del content[at : at + length]
        elif kind == "repeat":
            content[at:at] = content[at : at + length] * draw(st.sampled_from((1, 2, 100)))
        elif kind == "insert":
            content[at:at] = draw(st.binary(min_size=1, max_size=16))
        elif kind == "cut":
            del content[at:]
        elif kind == "zero":
            content[at : at + length] = bytes(length)
        elif kind == "splice":
            other = draw(st.sampled_from(seeds))
            content[at:] = other[draw(st.integers(0, len(other))) :]
    return bytes(content)


# ---------------------------------------------------------------------------------------------------------------------
# text

_TOKEN = re.compile(r'"(?:[^"\\\n]|\\.)*"|</?\w+>?|[\w.+-]+|\s+|.', re.DOTALL)
_TEXT = ("replace", "delete", "repeat", "swap", "insert", "many", "bytes", "cut")
TOKENS = (
    *NUMBERS,
    *HUGE_NUMBERS,
    *WORDS,
    '""',
    "[]",
    "{}",
    "[[",
    "]]",
    "<a>",
    "</a>",
    "<!DOCTYPE a>",
    "&a;",
    "=",
    ",",
    "\t",
    "\r\n",
    "\r",
    "\f",
    "\x85",
)


@st.composite
def reworded(draw: DrawFn, seeds: Sequence[str], words: Sequence[str] = (), most: int = 3) -> bytes:
    """Draw a seed with tokens replaced, removed, repeated, exchanged or inserted, and occasionally with bytes that are not UTF-8."""
    tokens = _TOKEN.findall(draw(st.sampled_from(seeds)))
    prefix, suffix = draw(st.sampled_from((("", ""), ("", ""), ("", ""), ("", ""), ("\ufeff", ""), ("[" * 100_000, "")))), b""
    hostile = st.sampled_from((*words, *TOKENS))
    for kind in draw(st.lists(st.sampled_from(_TEXT), min_size=1, max_size=most)):
        at = draw(st.integers(0, max(0, len(tokens) - 1)))
        length = draw(st.sampled_from((1, 1, 1, 3, 10, 40)))
        if kind == "replace" and tokens:
            tokens[at] = draw(hostile)
        elif kind == "delete":
            del tokens[at : at + length]
        elif kind == "repeat":
            tokens[at:at] = tokens[at : at + length]
        elif kind == "swap" and tokens:
            other = draw(st.integers(0, len(tokens) - 1))
            tokens[at], tokens[other] = tokens[other], tokens[at]
        elif kind == "insert":
            tokens.insert(at, draw(hostile))
        elif kind == "many":
            tokens[at:at] = tokens[at : at + length] * draw(st.sampled_from((10, 1_000)))
        elif kind == "bytes":
            suffix = draw(st.sampled_from((b"\xff", b"\xed\xa0\x80", b"\0", "é".encode("latin-1"), "text".encode("utf-16"))))
        elif kind == "cut":
            del tokens[at:]
    return (prefix[0] + "".join(tokens) + prefix[1]).encode("utf-8", "surrogatepass") + suffix


def texts(*seeds: str, words: Sequence[str] = ()) -> SearchStrategy[bytes]:
    """Return a strategy for text files with changed tokens or damaged bytes."""
    return st.one_of(reworded(seeds, words), reworded(seeds, words), damaged([seed.encode() for seed in seeds]))


# ---------------------------------------------------------------------------------------------------------------------
# trees: what JSON and pickles hold

_EDITS = ("replace", "replace", "delete", "copy", "rename", "add", "empty")


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """Return the (container, key) of every value in a tree."""
    found: list[tuple[Any, Any]] = []
    left = [tree]
    while left:
        node = left.pop()
        pairs = list(node.items()) if isinstance(node, dict) else list(enumerate(node)) if isinstance(node, list) else []
        found += [(node, key) for key, _ in pairs]
        left += [value for _, value in pairs]
    return found


@st.composite
def edited(draw: DrawFn, seeds: Sequence[Any], values: Sequence[Any], most: int = 3) -> Any:
    """Draw a tree with some values replaced by hostile ones, removed, copied to other places, emptied, or moved to other keys."""
    holder = [copy.deepcopy(draw(st.sampled_from(seeds)))]
    for kind in draw(st.lists(st.sampled_from(_EDITS), min_size=1, max_size=most)):
        places = _places(holder)
        container, key = places[draw(st.integers(0, len(places) - 1))] if places else (holder, 0)
        if kind == "delete" and container is not holder:
            del container[key]
        elif kind == "copy":
            other, its = places[draw(st.integers(0, len(places) - 1))]
            container[key] = copy.deepcopy(other[its])
        elif kind == "rename" and isinstance(container, dict):
            container[draw(st.sampled_from((*WORDS, *(k for c, k in places if isinstance(c, dict)))))] = container.pop(key)
        elif kind == "add" and isinstance(container, dict):
            container[draw(st.sampled_from(WORDS))] = copy.deepcopy(draw(st.sampled_from(values)))
        elif kind == "add" and container is not holder:
            container.insert(key, copy.deepcopy(draw(st.sampled_from(values))))
        elif kind == "empty":
            container[key] = type(container[key])() if isinstance(container[key], dict | list | str | int | float) else None
        else:
            container[key] = copy.deepcopy(draw(st.sampled_from(values)))
    return holder[0]


def dump(tree: Any) -> str:
    """Return a tree as JSON, with each `Raw` text written without quotes."""
    if isinstance(tree, Raw):
        return str(tree)
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{json.dumps(str(key))}: {dump(value)}" for key, value in tree.items()) + "}"
    if isinstance(tree, list | tuple):
        return "[" + ", ".join(map(dump, tree)) + "]"
    return json.dumps(tree)


def documents(*seeds: Any) -> SearchStrategy[bytes]:
    """Return a strategy for JSON documents: three in four are edited trees, and the others have damaged text."""
    whole = st.builds(lambda tree: dump(tree).encode(), edited(seeds, JSON_VALUES))
    return st.one_of(whole, whole, whole, texts(*(dump(seed) for seed in seeds)))


def saved(tree: Any) -> bytes:
    """Return a tree as a pickled checkpoint."""
    buffer = io.BytesIO()
    torch.save(tree, buffer)
    return buffer.getvalue()


def _saved_or_plain(tree: Any) -> bytes:
    try:
        return saved(tree)
    except Exception:  # torch cannot save the tree, so it is no input for a reader
        return saved(None)


def pickles(*seeds: Any) -> SearchStrategy[bytes]:
    """Return a strategy for pickled checkpoints of edited trees."""
    return st.builds(_saved_or_plain, edited(seeds, plain_values()))


# ---------------------------------------------------------------------------------------------------------------------
# containers


@st.composite
def zips(draw: DrawFn, seeds: Sequence[bytes]) -> bytes:
    """Draw a zip archive with damage inside one member, and with correct checksums and directory."""
    with zipfile.ZipFile(io.BytesIO(draw(st.sampled_from(seeds)))) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    victim = draw(st.sampled_from(sorted(members)))
    how = draw(st.sampled_from(("damage", "damage", "damage", "bomb", "gone", "rename")))
    if how == "damage":
        members[victim] = draw(damaged([members[victim]]))
    elif how == "bomb":
        members[victim] = bytes(1 << 24)
    elif how == "gone":
        del members[victim]
    else:
        members[draw(st.sampled_from(("../x", "archive/data.pkl", "archive/data/0", "x" * 300)))] = members.pop(victim)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED if how == "bomb" else zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def safetensors_file(header: bytes, body: bytes) -> bytes:
    """Return a .safetensors file with this header and body."""
    return struct.pack("<Q", len(header)) + header + body


@st.composite
def safetensors_files(draw: DrawFn, seeds: Sequence[tuple[Any, bytes]]) -> bytes:
    """Draw a .safetensors file with an edited header of the stated length, or with damage anywhere."""
    header, body = draw(st.sampled_from(seeds))
    if draw(st.integers(0, 3)) == 0:
        return draw(damaged([safetensors_file(dump(header).encode(), body)]))
    return safetensors_file(draw(documents(header)), body)


_NAME = st.sampled_from(
    ("a.jpg", "a.cls", "a.json", "b.png", "b.cls", "./a.jpg", "d/a.jpg", "../a.jpg", "/a.jpg", "a", ".jpg", "a.b.jpg", "a.JPG", "é.cls")
)
_KIND = st.sampled_from(
    (*(tarfile.REGTYPE,) * 8, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE)
)


def tar_of(members: Sequence[tuple[str, bytes, bytes]], form: int = tarfile.GNU_FORMAT) -> bytes:
    """Return a tar of members given as (name, type, content)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for name, kind, content in members:
            member = tarfile.TarInfo(name)
            member.type, member.size, member.linkname = kind, len(content), "a.jpg"
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@st.composite
def tars(draw: DrawFn, seeds: Sequence[bytes], contents: Sequence[bytes], names: SearchStrategy[str] = _NAME) -> bytes:
    """Draw a tar: a damaged seed or an archive of drawn members, possibly with a hostile field in a header with a correct checksum."""
    if draw(st.booleans()):
        members = draw(st.lists(st.tuples(names, _KIND, st.sampled_from(contents)), max_size=6))
        content = bytearray(tar_of(members, draw(st.sampled_from((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)))))
    else:
        content = bytearray(draw(st.sampled_from(seeds)))
    if draw(st.booleans()) and len(content) >= 512:
        _spoil_header(draw, content)
    return draw(damaged([bytes(content)])) if draw(st.integers(0, 3)) == 0 else bytes(content)


_FIELDS = {"name": (0, 100), "size": (124, 12), "mtime": (136, 12), "type": (156, 1), "magic": (257, 8), "sparse": (386, 96), "pax": (0, 0)}


def _spoil_header(draw: DrawFn, content: bytearray) -> None:
    heads = [at for at in range(0, len(content) - 511, 512) if content[at + 257 : at + 262] == b"ustar"] or [0]
    head = draw(st.sampled_from(heads))
    start, length = _FIELDS[draw(st.sampled_from(sorted(_FIELDS)))]
    number = draw(st.sampled_from((0, 1, 511, 513, 2**31, 2**33 - 1)))
    field = draw(
        st.sampled_from(
            (
                b"%011o\0" % number,
                b"\x80" + bytes(3) + struct.pack(">Q", 2**63 - 1),
                b"\xff" * 12,
                b"-1\0",
                b"x",
                b"\xff\0",
                b"S",
                b"x" * 100,
            )
        )
    )
    content[head + start : head + start + length] = field[:length].ljust(length, b"\0")
    block = content[head : head + 512]
    block[148:156] = b" " * 8
    content[head + 148 : head + 156] = b"%06o\0 " % sum(block)


def fix_png(content: bytes) -> bytes:
    """Return a PNG with the correct checksum for each chunk that can be found in it."""
    fixed, at = bytearray(content), 8
    while at + 12 <= len(fixed):
        length = int.from_bytes(fixed[at : at + 4], "big")
        end = at + 8 + length
        if end + 4 > len(fixed):
            break
        fixed[end : end + 4] = zlib.crc32(fixed[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(fixed)


def images(seeds: Sequence[bytes]) -> SearchStrategy[bytes]:
    """Return a strategy for damaged image files. Some PNGs have correct checksums, so that the damage reaches the decoder."""
    pngs = [seed for seed in seeds if seed.startswith(b"\x89PNG")]
    return st.one_of(damaged(seeds), damaged(pngs, most=3).map(fix_png))
