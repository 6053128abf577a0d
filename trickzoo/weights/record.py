"""The schema of the manifest's records: sources, digests, licence and accuracy of a weight, or of a detector or a segmenter."""

from __future__ import annotations

import math
import re
from typing import Any, Literal, get_args

import msgspec

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

METADATA_KEY = "trickzoo"
"""Key of the metadata under which trickzoo describes a weight file in its header."""

MAX_SIZE = 4096
MAX_SHORT_SIDE = 8192
"""Upper bounds of a preprocessing, in pixels. Beyond them one image takes gigabytes of memory in any network of the zoo."""

ClassList = Literal["imagenet1k", "imagenette"]
"""Name of a class list that the package ships."""
LIST_LENGTHS: dict[str, int] = {"imagenet1k": 1000, "imagenette": 10}
"""The number of classes of each list."""
CLASS_LISTS = (*get_args(ClassList), "none")
Layout = Literal["trickzoo", "timm", "torchvision", "openmmlab", "mmcv"]
Interpolation = Literal["bilinear", "bicubic"]

COMMERCIAL = frozenset(
    {
        *("0bsd", "apache-2.0", "bsd-2-clause", "bsd-3-clause", "isc", "mit", "mit-0", "mpl-2.0", "unlicense", "zlib"),
        *("cc0-1.0", "cc-by-2.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-2.0", "cc-by-sa-3.0", "cc-by-sa-4.0"),
    }
)
"""Licences that allow commercial use. Every other licence is treated as one that may forbid it."""


class Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base class of the records. An unknown field is an error."""


def _is_inside(place: str) -> bool:
    """Return whether a relative path stays inside the folder that it is joined to, on every operating system."""
    return not re.search(r"[\\:\x00-\x1f\x7f]", place) and all(part not in ("", ".", "..") for part in place.split("/"))


class Source(Struct, frozen=True):
    """One place to get a file from: a file in a hub repository, a url, or a path inside the package.

    Attributes:
        hub: a repository of the hub, "owner/name".
        revision: its branch, tag or commit.
        file: the path of the file in it.
        url: an http or https address that ends in the name of the file.
        path: a path relative to the package or to the checkout.
        sha256: the SHA-256 of the file, 64 hexadecimal digits.
        sha256_prefix: the first digits of the SHA-256; many publishers state only eight, in the name of the file. A source with a url needs
            `sha256` or `sha256_prefix`. A hub file with neither is compared with the SHA-256 that the hub states, which
            `trickzoo weights lock` pins.
        size: bytes of the file. A download that exceeds it is stopped, and a file of another size is refused.
        stated_by: where the digest, the size and the commit were read, if not in the file itself.
    """

    hub: str | None = None
    revision: str | None = None
    file: str | None = None
    url: str | None = None
    path: str | None = None
    sha256: str | None = None
    sha256_prefix: str | None = None
    size: int | None = None
    stated_by: str | None = None

    def __post_init__(self) -> None:
        if sum(place is not None for place in (self.hub, self.url, self.path)) != 1:
            raise ValueError("a source must have exactly one of hub, url and path")
        if self.hub is not None and self.file is None:
            raise ValueError("a hub source must state its file")
        if self.hub is None and (self.revision or self.file):
            raise ValueError("revision and file are fields of a hub source only")
        for field, place in (("file", self.file), ("path", self.path)):
            if place is not None and not _is_inside(place):
                raise ValueError(f"{field} must be a relative path with forward slashes that stays inside its folder")
        if self.url is not None and not (self.url.startswith(("https://", "http://")) and _is_inside(self.filename)):
            raise ValueError("url must be an http or https address that ends in the name of a file")
        if self.size is not None and self.size < 1:
            raise ValueError("size must be the number of bytes, at least 1")
        if self.url is not None and not (self.sha256 or self.sha256_prefix):
            raise ValueError("a url source must state sha256 or sha256_prefix")
        if self.sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ValueError("sha256 must be 64 lower-case hexadecimal digits")
        if self.sha256_prefix is not None and not re.fullmatch(r"[0-9a-f]{8,63}", self.sha256_prefix):
            raise ValueError("sha256_prefix must be 8 to 63 lower-case hexadecimal digits")

    @property
    def filename(self) -> str:
        """The name of the file, without folders."""
        place = self.file or self.url or self.path or ""
        return place.rsplit("/", 1)[-1]

    def __str__(self) -> str:
        return f"{self.hub}/{self.file}" if self.hub else self.url or f"package:{self.path}"


class Preprocessing(Struct, frozen=True):
    """How an evaluation image becomes an input: resize the short side, crop the centre, scale to 0…1, normalise.

    Attributes:
        size: side of the centre crop in pixels.
        crop: fraction of the resized short side that the crop keeps.
        resize: pixels of the short side after resizing; by default floor(size / crop), as in timm.
        interpolation: the filter of the resizing, which antialiases as PIL does.
        mean: RGB mean of pixel values in 0…1.
        std: RGB standard deviation of pixel values in 0…1.

    Raises ValueError for a value out of range.
    """

    size: int = 224
    crop: float = 0.875
    resize: int | None = None
    interpolation: Interpolation = "bicubic"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        if self.size < 1 or not 0 < self.crop <= 1:
            raise ValueError("size must be at least 1, and crop above 0 and at most 1")
        if self.size > MAX_SIZE:
            raise ValueError(f"size must be at most {MAX_SIZE:,} pixels, not {self.size:,}")
        if self.interpolation not in get_args(Interpolation):
            raise ValueError(f'interpolation must be {" or ".join(get_args(Interpolation))}, not "{self.interpolation}"')
        if self.resize is not None and self.resize < self.size:
            raise ValueError(f"resize must be at least {self.size}, so that the crop fits, not {self.resize}")
        if (self.resize or self.size / self.crop) > MAX_SHORT_SIDE:
            raise ValueError(f"crop and resize must give a short side of at most {MAX_SHORT_SIDE:,} pixels")
        for what, values, least in (("mean", self.mean, 0), ("std", self.std, 0.001)):
            if not all(least <= value <= 1 for value in values):
                raise ValueError(f"{what} must be three values from {least} to 1, not {values}; divide those of pixels in 0…255 by 255")

    @property
    def short_side(self) -> int:
        """The short side of the image after resizing, in pixels."""
        return self.resize or math.floor(self.size / self.crop)

    def timm_form(self, channels: int) -> dict[str, Any]:
        """Return this preprocessing as timm's `pretrained_cfg` states it, for images of 1 or 3 channels."""
        # timm needs a value for each channel, and grey images are normalised with the mean over the channels
        mean, std = ((sum(each) / 3,) if channels == 1 else each for each in (self.mean, self.std))
        crop = self.crop
        if self.resize:  # timm divides the size by this fraction, and rounds down, to get the short side after resizing
            crop = self.size / self.resize
            while math.floor(self.size / crop) < self.resize:  # 112 / (112 / 200) is less than 200
                crop = math.nextafter(crop, 0)
        return {
            "input_size": (channels, self.size, self.size),
            "fixed_input_size": False,
            "interpolation": self.interpolation,
            "crop_pct": crop,
            "crop_mode": "center",
            "mean": mean,
            "std": std,
        }

    def __str__(self) -> str:
        norm = "ImageNet mean and std" if (self.mean, self.std) == (IMAGENET_MEAN, IMAGENET_STD) else f"mean {self.mean} std {self.std}"
        return f"short side {self.short_side} ({self.interpolation}, antialiased), centre crop {self.size}, {norm}"


class Metric(Struct, frozen=True):
    """The accuracy of a weight on one data set, in percent.

    Attributes:
        data: the data set and its split, such as "imagenet1k-val".
        top1: share of images whose label is the most probable class, in percent.
        top5: share of images whose label is among the five most probable classes, in percent.
        source: the publication, file or folder that the accuracies come from.
        kind: "published" by whoever trained or converted the weight, "paper" if the Bag of Tricks paper states it for this
            configuration, or "measured" by this project.
        n: number of images.
        size: `Preprocessing.size` of the evaluation; None if the source does not state it.
        crop: `Preprocessing.crop` of the evaluation, likewise.
        interpolation: `Preprocessing.interpolation` of the evaluation, likewise.
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


class Entry(Struct, frozen=True, kw_only=True, rename={"sources": "source", "metrics": "metric"}):
    """What is recorded about every file.

    Attributes:
        name: `<model>.<tag>`.
        licence: the SPDX identifier in lower case, or "unknown".
        sources: where the file can be downloaded from, in the order in which the sources are tried.
        origin: the address of a page about it.
        note: a remark.
    """

    name: str
    licence: str
    sources: tuple[Source, ...]
    origin: str | None = None
    note: str | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9_]+\.[a-z0-9_]+", self.name):
            raise ValueError("name must be <model>.<tag>, both of lower-case letters, digits and underscores")
        if not self.sources:
            raise ValueError("a record must have at least one source")

    @property
    def commercial(self) -> bool:
        """Whether the licence is one of `COMMERCIAL`."""
        return self.licence in COMMERCIAL


class Record(Entry, frozen=True, kw_only=True):
    """Everything that is recorded about one weight.

    Attributes:
        layout: the library whose tensor names the file uses.
        channels: the order of the channels that the file's network takes. The weights of a "bgr" file are reordered when they are loaded,
            so that every network takes RGB images.
        classes: the name of a class list, "none", or the names of the classes in the order of the outputs.
        preprocessing: how an image is prepared for the network.
        default: whether `pretrained=True` loads this weight.
        options: the options of `trickzoo.create` that the weight needs.
        tricks: the tricks that the training used.
        recipe: the training in a few words, or the name of a released recipe.
        paper: the publication of the weight.
        metrics: its accuracies.
    """

    layout: Layout
    classes: str | tuple[str, ...]
    preprocessing: Preprocessing
    channels: Literal["rgb", "bgr"] = "rgb"
    default: bool = False
    options: dict[str, Any] = {}
    tricks: tuple[str, ...] = ()
    recipe: str | None = None
    paper: str | None = None
    metrics: tuple[Metric, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.classes, str) and self.classes not in CLASS_LISTS:
            raise ValueError(f"classes must be {', '.join(CLASS_LISTS)} or a list of names")
        if self.default and self.classes != "imagenet1k":
            raise ValueError("a default weight must have the classes imagenet1k")
        if self.default and not self.commercial:
            raise ValueError(f"a default weight must have a licence that is known to allow commercial use, not {self.licence}")

    @property
    def model(self) -> str:
        """The name of the architecture, the part of `name` before the dot."""
        return self.name.partition(".")[0]

    @property
    def tag(self) -> str:
        """The part of `name` after the dot, which distinguishes the weights of one architecture."""
        return self.name.partition(".")[2]

    def published(self, preprocessing: Preprocessing | None = None) -> Metric | None:
        """Return the accuracy that an evaluation with this preprocessing (by default the record's own) should reproduce, or None."""
        p = preprocessing or self.preprocessing
        for metric in self.metrics:
            same = metric.size == p.size and metric.crop == p.crop and metric.interpolation in (None, p.interpolation)
            if metric.kind != "paper" and same:
                return metric
        return None


class AnnotatedMetric(Struct, frozen=True):
    """What a detector or a segmenter reaches on one data set.

    Attributes:
        data: the data set and its split, such as "bccd-val".
        n: number of images.
        values: the metrics by their names, in percent.
        source: the file or folder that they come from.
    """

    data: str
    n: int
    values: dict[str, float]
    source: str


class NetworkRecord(Entry, frozen=True, kw_only=True):
    """Everything that is recorded about a detector or a segmenter. What its file states, such as its classes, is not repeated here.

    Attributes:
        task: "detection" or "segmentation".
        metrics: what it reaches.
    """

    task: Literal["detection", "segmentation"]
    metrics: tuple[AnnotatedMetric, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all(source.filename.endswith(".safetensors") for source in self.sources):
            raise ValueError("the file of a detector or a segmenter must end in .safetensors, because its header describes the network")


class ManifestFile(Struct, frozen=True):
    """A file of `weights_manifest/`. Each table is checked on its own, so that an error can name its record.

    Attributes:
        weights: the tables of `Record`.
        networks: the tables of `NetworkRecord`.
    """

    weights: tuple[dict[str, Any], ...] = ()
    networks: tuple[dict[str, Any], ...] = ()
