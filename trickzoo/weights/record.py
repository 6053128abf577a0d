"""The schema of a weight record: everything a user may ask of a weight."""

from __future__ import annotations

import math
import re
from typing import Any, Literal, get_args

import msgspec

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

METADATA_KEY = "trickzoo"
"""Of what trickzoo says of a weight file, in its metadata."""

MAX_SIZE = 4096
MAX_SHORT_SIDE = 8192
"""Bounds of a preprocessing in pixels: beyond them one image takes gigabytes in any network of the zoo."""

ClassList = Literal["imagenet1k", "imagenette"]
"""Names of the class lists that the package ships."""
CLASS_LISTS = (*get_args(ClassList), "none")
Layout = Literal["trickzoo", "timm", "torchvision"]
Interpolation = Literal["bilinear", "bicubic"]


class Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of the records: unknown fields are errors."""


def _is_inside(place: str) -> bool:
    """Whether a relative path stays inside the folder that it is joined to, on every system."""
    return not re.search(r"[\\:\x00-\x1f\x7f]", place) and all(part not in ("", ".", "..") for part in place.split("/"))


class Source(Struct, frozen=True):
    """One place a file can be had from: a hub repository and file, a url, or a path inside the package.

    At least one digest should be known. A url's publisher often states eight digits only (`sha256_prefix`). For a hub file without one the
    SHA-256 that the hub states is checked, and `trickzoo weights lock` pins it. `size` in bytes; a download that goes past it is stopped.
    """

    hub: str | None = None
    revision: str | None = None
    file: str | None = None
    url: str | None = None
    path: str | None = None
    sha256: str | None = None
    sha256_prefix: str | None = None
    size: int | None = None

    def __post_init__(self) -> None:
        if sum(place is not None for place in (self.hub, self.url, self.path)) != 1:
            raise ValueError("a source has exactly one of hub, url, path")
        if self.hub is not None and self.file is None:
            raise ValueError("a hub source names its file")
        if self.hub is None and (self.revision or self.file):
            raise ValueError("revision and file belong to a hub source")
        for field, place in (("file", self.file), ("path", self.path)):
            if place is not None and not _is_inside(place):
                raise ValueError(f"{field} is a relative path with forward slashes that stays inside its folder")
        if self.url is not None and not (self.url.startswith(("https://", "http://")) and _is_inside(self.filename)):
            raise ValueError("url is an address of http or https that ends in the name of a file")
        if self.size is not None and self.size < 1:
            raise ValueError("size is the number of bytes, 1 or more")
        if self.url is not None and not (self.sha256 or self.sha256_prefix):
            raise ValueError("a url source states sha256 or sha256_prefix")
        if self.sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ValueError("sha256 is 64 lower-case hex digits")
        if self.sha256_prefix is not None and not re.fullmatch(r"[0-9a-f]{8,63}", self.sha256_prefix):
            raise ValueError("sha256_prefix is 8 or more lower-case hex digits")

    @property
    def filename(self) -> str:
        """Name of the file, without folders."""
        place = self.file or self.url or self.path or ""
        return place.rsplit("/", 1)[-1]

    def __str__(self) -> str:
        return f"{self.hub}/{self.file}" if self.hub else self.url or f"package:{self.path}"


class Preprocessing(Struct, frozen=True):
    """How an evaluation image becomes an input: resize the short side, crop the centre, scale to 0…1, normalise.

    `size` and `resize` in pixels; `crop` is the fraction of the resized side that the crop keeps, and `resize`, unless given, is
    floor(size / crop), timm's rule. `mean` and `std` are RGB, of values in 0…1. Resizing antialiases, as PIL does.
    """

    size: int = 224
    crop: float = 0.875
    resize: int | None = None
    interpolation: Interpolation = "bicubic"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        if self.size < 1 or not 0 < self.crop <= 1:
            raise ValueError("size is 1 or more, and crop in (0, 1]")
        if self.size > MAX_SIZE:
            raise ValueError(f"size is {MAX_SIZE:,} pixels or less, not {self.size:,}")
        if self.resize is not None and self.resize < self.size:
            raise ValueError(f"resize is {self.size} or more, so that the crop fits, not {self.resize}")
        if (self.resize or self.size / self.crop) > MAX_SHORT_SIDE:
            raise ValueError(f"crop and resize make a short side of {MAX_SHORT_SIDE:,} pixels or less")
        if not all(abs(value) <= 1000 for value in self.mean):
            raise ValueError(f"mean is three values between -1000 and 1000, not {self.mean}")
        if not all(0.001 <= value <= 1000 for value in self.std):
            raise ValueError(f"std is three values between 0.001 and 1000, not {self.std}")

    @property
    def short_side(self) -> int:
        """Pixels of the short side after resizing."""
        return self.resize or math.floor(self.size / self.crop)

    def __str__(self) -> str:
        norm = "ImageNet mean and std" if (self.mean, self.std) == (IMAGENET_MEAN, IMAGENET_STD) else f"mean {self.mean} std {self.std}"
        return f"short side {self.short_side} ({self.interpolation}, antialiased), centre crop {self.size}, {norm}"


class Metric(Struct, frozen=True):
    """One accuracy figure in percent, with what it was measured on, how, and who says so.

    `kind`: "published" by whoever trained or converted the weight, "paper" for a number of the Bag of Tricks paper for this configuration,
    "measured" by this project.
    """

    data: str
    top1: float
    top5: float
    source: str
    kind: Literal["published", "paper", "measured"] = "published"
    n: int | None = None
    size: int | None = None
    crop: float | None = None
    interpolation: Interpolation | None = None


class Record(Struct, frozen=True, rename={"sources": "source", "metrics": "metric"}):
    """One weight. `name` is `<model>.<tag>`; `options` are the model options that the weight needs."""

    name: str
    layout: Layout
    classes: str | tuple[str, ...]
    licence: str
    sources: tuple[Source, ...]
    preprocessing: Preprocessing
    default: bool = False
    options: dict[str, Any] = {}
    tricks: tuple[str, ...] = ()
    recipe: str | None = None
    origin: str | None = None
    paper: str | None = None
    note: str | None = None
    metrics: tuple[Metric, ...] = ()

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9_]+\.[a-z0-9_]+", self.name):
            raise ValueError("name is <model>.<tag>, of lower-case letters, digits and underscores")
        if isinstance(self.classes, str) and self.classes not in CLASS_LISTS:
            raise ValueError(f"classes is one of {', '.join(CLASS_LISTS)}, or a list of names")
        if not self.sources:
            raise ValueError("a record has at least one source")
        if self.default and self.classes != "imagenet1k":
            raise ValueError("a default weight has the classes imagenet1k")
        if self.default and not self.commercial:
            raise ValueError(f"a default weight is never non-commercial ({self.licence})")

    @property
    def model(self) -> str:
        """Name of the architecture."""
        return self.name.partition(".")[0]

    @property
    def tag(self) -> str:
        """What tells this weight from others of the architecture."""
        return self.name.partition(".")[2]

    @property
    def commercial(self) -> bool:
        """Whether the licence is known and allows commercial use."""
        return self.licence in {"apache-2.0", "bsd-3-clause", "mit"}

    def published(self, preprocessing: Preprocessing | None = None) -> Metric | None:
        """The figure that an evaluation with this preprocessing (by default the record's own) should reproduce."""
        p = preprocessing or self.preprocessing
        for metric in self.metrics:
            same = metric.size == p.size and metric.crop == p.crop and metric.interpolation in (None, p.interpolation)
            if metric.kind != "paper" and same:
                return metric
        return None


class ManifestFile(Struct, frozen=True):
    """A file of `weights_manifest/`."""

    weights: tuple[Record, ...] = ()
