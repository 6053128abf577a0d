"""Targets for images and labels for classification: files, folders, archives, class lists, decoded copies, and data sets of the hub."""

from __future__ import annotations

import functools
import gzip
import io
import json
import os
import shutil
import struct
import tarfile
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from PIL import Image

from tests.fuzz.check import Target
from tests.fuzz.inputs import WORDS, damaged, documents, images, tar_of, tars, texts
from tests.images import devkit, jpeg
from trickzoo.data.augment import DRAWS
from trickzoo.data.classes import class_list
from trickzoo.data.images import decode, open_image
from trickzoo.data.imageset import Entry, ImageSet
from trickzoo.data.mask_images import decode_mask
from trickzoo.data.open import open_set
from trickzoo.data.readers.imagenet import open_imagenet
from trickzoo.data.resident import decode_once, squash
from trickzoo.data.selection import listed
from trickzoo.errors import TrickzooError
from trickzoo.recipes.recipe import Augmentation

SYNSETS = ["n01440764", "n02102040", "n03445777"]
VALIDATION = [f"ILSVRC2012_val_{number:08}.JPEG" for number in (1, 2, 3)]


def picture(form: str, mode: str = "RGB", size: tuple[int, int] = (16, 12), **options: Any) -> bytes:
    """Return a generated image in a format of Pillow."""
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, form, **options)
    return buffer.getvalue()


def _exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


@functools.cache
def pictures() -> tuple[bytes, ...]:
    """Return images of several modes in each format that the product reads."""
    plain = [picture(form) for form in ("JPEG", "PNG", "BMP", "PPM", "TIFF", "WEBP")]
    modes = [picture("PNG", mode) for mode in ("L", "P", "1", "LA", "RGBA", "I;16")] + [
        picture("PPM", "L"),
        picture("TIFF", "P"),
        picture("JPEG", "CMYK"),
    ]
    forms = [picture("JPEG", progressive=True), picture("JPEG", exif=_exif()), picture("TIFF", compression="tiff_lzw")]
    others = [
        picture("TIFF", compression="jpeg"),
        picture("WEBP", lossless=True),
        picture("GIF"),
        picture("TIFF", "F"),
        picture("PNG", exif=_exif()),
    ]
    return (*plain, *modes, *forms, *others)


def image(content: bytes, folder: Path) -> None:
    """An image file."""
    with suppress(TrickzooError):
        open_image(content, "image").decode()
    decode(content, "image")


def mask(content: bytes, folder: Path) -> None:
    """A mask file."""
    decode_mask(content, "mask")


def masks() -> SearchStrategy[bytes]:
    return images([picture("PNG", mode) for mode in ("L", "P", "I;16", "1")] + [picture("TIFF", "L"), picture("BMP", "P")])


def take(found: ImageSet) -> None:
    """Use a set as the product does."""
    _ = found.classes
    for entry in found.entries[:8]:
        found.read(entry)


def shards(content: bytes, folder: Path) -> None:
    """A tar shard."""
    shutil.rmtree(folder / "set", ignore_errors=True)
    (folder / "set").mkdir()
    (folder / "set" / "train-0.tar").write_bytes(content)
    with at_home(folder):
        take(open_set(folder / "set", split="train"))


def at_home(folder: Path) -> Any:
    """Return a block in which TRICKZOO_HOME is an empty folder of the target."""
    shutil.rmtree(folder / "home", ignore_errors=True)
    return mock.patch.dict(os.environ, {"TRICKZOO_HOME": str(folder / "home")})


LABELS = (
    b"0",
    b"dog",
    b"",
    b"9" * 5000,
    b"-1",
    b"\xff",
    b'{"cls": 1}',
    b'{"label": "x"}',
    b"[" * 100_000,
    b"\0",
    b'{"cls": NaN}',
    "²".encode(),
)


def a_shard() -> bytes:
    content = picture("JPEG")
    files = [("a.jpg", content), ("a.cls", b"0"), ("b.jpg", content), ("b.cls", b"1"), ("c.png", content), ("c.json", b'{"cls": 2}')]
    return tar_of([(name, b"0", its) for name, its in files])


def shard_list(content: bytes, folder: Path) -> None:
    """The `classes.txt` of shards."""
    shutil.rmtree(folder / "set", ignore_errors=True)
    (folder / "set").mkdir()
    (folder / "set" / "train-0.tar").write_bytes(a_shard())
    (folder / "set" / "classes.txt").write_bytes(content)
    with at_home(folder):
        take(open_set(folder / "set", split="train"))


def prepare_index(folder: Path) -> None:
    (folder / "set").mkdir()
    (folder / "set" / "train-0.tar").write_bytes(a_shard())
    with mock.patch.dict(os.environ, {"TRICKZOO_HOME": str(folder / "home")}):
        open_set(folder / "set", split="train")


def shard_index(content: bytes, folder: Path) -> None:
    """The index of shards, which the first call writes to the cache."""
    (kept,) = (folder / "home" / "shards").glob("*.json")
    kept.write_bytes(content)
    with mock.patch.dict(os.environ, {"TRICKZOO_HOME": str(folder / "home")}):
        take(open_set(folder / "set", split="train"))


def _index() -> Any:
    with tempfile.TemporaryDirectory() as folder:
        prepare_index(Path(folder))
        (kept,) = (Path(folder) / "home" / "shards").glob("*.json")
        return json.loads(kept.read_bytes())


def validation_tar(content: bytes, folder: Path) -> None:
    """The validation archive of ImageNet."""
    (folder / "ILSVRC2012_img_val.tar").write_bytes(content)
    take(open_imagenet(folder / "ILSVRC2012_img_val.tar"))


def prepare_devkit(folder: Path) -> None:
    """Write the devkit of ImageNet, and the validation folder without class folders."""
    devkit(folder, SYNSETS)
    for seed, name in enumerate(VALIDATION):
        jpeg(folder / "val" / name, seed)


def truth(content: bytes, folder: Path) -> None:
    """The ground truth of the devkit."""
    (folder / "ILSVRC2012_devkit_t12" / "data" / "ILSVRC2012_validation_ground_truth.txt").write_bytes(content)
    take(open_imagenet(folder / "val"))


def meta(content: bytes, folder: Path) -> None:
    """The meta.mat of the devkit."""
    (folder / "ILSVRC2012_devkit_t12" / "data" / "meta.mat").write_bytes(content)
    take(open_imagenet(folder / "val"))


def devkit_archive(content: bytes, folder: Path) -> None:
    """The devkit as an archive."""
    (folder / "ILSVRC2012_devkit_t12.tar.gz").write_bytes(content)
    take(open_imagenet(folder / "val", devkit=folder / "ILSVRC2012_devkit_t12.tar.gz"))


def kaggle(content: bytes, folder: Path) -> None:
    """The solution file of Kaggle."""
    (folder / "LOC_val_solution.csv").write_bytes(content)
    take(open_imagenet(folder / "val", devkit=folder / "LOC_val_solution.csv"))


def _devkit_files() -> tuple[bytes, str, tuple[bytes, ...]]:
    """Return meta.mat, the ground truth, and archives of both."""
    with tempfile.TemporaryDirectory() as folder:
        root = devkit(Path(folder), SYNSETS)
        mat = (root / "data" / "meta.mat").read_bytes()
        text = (root / "data" / "ILSVRC2012_validation_ground_truth.txt").read_text()
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            tar.add(root, root.name)
        return mat, text, (buffer.getvalue(), gzip.compress(buffer.getvalue()))


def _nested_mat() -> bytes:
    """A meta.mat whose table is a cell that contains a table of so many cells that it would take 12 GB."""

    def array(side: int, content: bytes = b"") -> bytes:
        head = struct.pack("<IIII", 6, 8, 1, 0) + struct.pack("<IIii", 5, 8, side, side) + struct.pack("<II", 1, 7) + b"synsets\0"
        return struct.pack("<II", 14, len(head + content)) + head + content

    return b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<HH", 0x100, 0x4D49) + array(1, array(40_000))


KAGGLE = "ImageId,PredictionString\n" + "".join(
    f"{Path(name).stem},{synset} 1 2 3 4 \n" for name, synset in zip(VALIDATION, SYNSETS, strict=True)
)


def classes(content: bytes, folder: Path) -> None:
    """A class list that a user writes."""
    (folder / "classes.txt").write_bytes(content)
    class_list(str(folder / "classes.txt"))


def prepare_cache(folder: Path) -> None:
    """Write four images, their decoded copy, and a backup of the intact copy."""
    for seed in range(4):
        jpeg(folder / "images" / "train" / f"c{seed % 2}" / f"{seed}.jpg", seed, (12, 10))
    _decoded(folder)
    shutil.copytree(folder / "cache", folder / "whole")


def _decoded(folder: Path) -> Any:
    return decode_once(open_imagenet(folder / "images", split="train"), squash(8), "8", folder / "cache", workers=0)


def cache(content: bytes, folder: Path, name: str) -> None:
    """A file of the decoded copy."""
    shutil.rmtree(folder / "cache")
    shutil.copytree(folder / "whole", folder / "cache")
    (victim,) = (folder / "cache").glob(f"*/{name}")
    victim.write_bytes(content)
    found = _decoded(folder)
    plan = [(torch.arange(4), torch.rand((4, DRAWS)))]
    for pixels, labels in found.crops(plan, 8, Augmentation(), torch.device("cpu"), seed=0):
        pixels.sum(), labels.sum()


def _cached(name: str) -> SearchStrategy[bytes]:
    others = [np.zeros(3), np.zeros((4, 2), complex), np.zeros((4, 3, 8, 8), np.float32), np.array(["a"])]
    arrays = [_npy(array) for array in others]
    return st.deferred(lambda: st.one_of(damaged([_cached_whole(name)]), damaged([_cached_whole(name), *arrays], most=1)))


def _npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


CARD = """---
dataset_info:
  features:
  - name: image
    dtype: image
  - name: label
    dtype:
      class_label:
        names:
          '0': cat
          '1': dog
  splits:
  - name: train
    num_bytes: 1000
    num_examples: 2
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*
---
# A set
"""


def prepare_hub_set(folder: Path) -> None:
    import datasets

    datasets.disable_progress_bars()
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    rows = [{"image": {"bytes": picture("PNG"), "path": None}, "label": label} for label in (0, 1)]
    (folder / "set" / "data").mkdir(parents=True)
    datasets.Dataset.from_list(rows, features=features).to_parquet(folder / "set" / "data" / "train-00000-of-00001.parquet")
    (folder / "set" / "README.md").write_text(CARD)


def _open_hub(folder: Path) -> None:
    import datasets

    with (
        at_home(folder),
        mock.patch.object(datasets.config, "HF_DATASETS_CACHE", folder / "datasets"),
        mock.patch.object(datasets.config, "HF_HUB_OFFLINE", True),
        mock.patch("huggingface_hub.constants.HF_HUB_OFFLINE", True),
        mock.patch.object(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0, create=True),
    ):
        take(open_set(f"hf:{folder / 'set'}", split="train"))


def hub_card(content: bytes, folder: Path) -> None:
    """The card of a data set, which names its columns, classes and splits."""
    (folder / "set" / "README.md").write_bytes(content)
    _open_hub(folder)


def hub_parquet(content: bytes, folder: Path) -> None:
    """A parquet file of a data set."""
    (folder / "set" / "data" / "train-00000-of-00001.parquet").write_bytes(content)
    _open_hub(folder)


_MAT, _TRUTH, _ARCHIVES = _devkit_files()

_INDEX = st.deferred(lambda: documents(_index()))
_NUMBERED = st.sampled_from((*VALIDATION, "a", "../x"))


def _validation_tar() -> bytes:
    return tar_of([(name, b"0", picture("JPEG")) for name in VALIDATION])


def _cached_whole(name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        prepare_cache(Path(folder))
        return next(Path(folder).glob(f"cache/*/{name}")).read_bytes()


def _parquet_whole() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        prepare_hub_set(Path(folder))
        return next(Path(folder).glob("set/data/*")).read_bytes()


def prepare_table(folder: Path) -> None:
    """Write the images that the tables name."""
    for number in range(3):
        jpeg(folder / "set" / f"{number}.jpg", number)


def labels(content: bytes, folder: Path) -> None:
    """A table of paths and labels."""
    (folder / "set" / "labels.csv").write_bytes(content)
    take(open_set(folder / "set" / "labels.csv", split="train"))


def division(content: bytes, folder: Path) -> None:
    """A list of paths and splits."""
    (folder / "split.csv").write_bytes(content)
    images = ImageSet(folder / "set", "", tuple(Entry(f"{number}.jpg", "a") for number in range(3)))
    take(listed(images, folder / "split.csv", "train"))


LABELLED = "path,label,split\n0.jpg,cat,train\n1.jpg,dog,train\n2.jpg,cat,val\n"
BARE = '0.jpg;cat\n1.jpg;"dog; big"\n'
CELLS = (*WORDS, '"', '"\n', "\t", ";;;", ",,,", "x" * 200_000, "label", "path", "split")

TARGETS = (
    Target("table", texts(LABELLED, BARE, words=CELLS), labels, LABELLED.encode, prepare_table),
    Target("split list", texts(LABELLED, "file,set\n0.jpg,train\n", words=CELLS), division, LABELLED.encode, prepare_table),
    Target("image", images(pictures()), image, lambda: picture("PNG")),
    Target("mask", masks(), mask, lambda: picture("PNG", "P")),
    Target("shards", st.deferred(lambda: tars([a_shard()], [picture("JPEG"), *LABELS])), shards, a_shard),
    Target("shards' classes", texts("cat\ndog\nbird\n", "0 cat\n1 dog\n2 bird\n", words=WORDS), shard_list, lambda: b"cat\ndog\nbird\n"),
    Target("shards' index", _INDEX, shard_index, lambda: json.dumps(_index()).encode(), prepare_index),
    Target(
        "validation tar",
        st.deferred(lambda: tars([_validation_tar()], [picture("JPEG"), b""], _NUMBERED)),
        validation_tar,
        _validation_tar,
        prepare_devkit,
    ),
    Target("ground truth", texts(_TRUTH), truth, _TRUTH.encode, prepare_devkit),
    Target("meta.mat", damaged([_MAT, _nested_mat()]), meta, lambda: _MAT, prepare_devkit),
    Target("devkit archive", tars(_ARCHIVES, [_MAT, _TRUTH.encode()]), devkit_archive, lambda: _ARCHIVES[1], prepare_devkit),
    Target("kaggle csv", texts(KAGGLE, words=('"', '"\n', "ImageId", ",,,", "x" * 200_000)), kaggle, KAGGLE.encode, prepare_devkit),
    Target("class list", texts("cat\ndog\n", "n01440764 tench\nn01443537 goldfish\n", words=WORDS), classes, lambda: b"cat\ndog\n"),
    *(
        Target(
            f"cached {name}",
            _cached(f"{name}.npy"),
            functools.partial(cache, name=f"{name}.npy"),
            functools.partial(_cached_whole, f"{name}.npy"),
            prepare_cache,
        )
        for name in ("pixels", "sizes")
    ),
    Target("hub card", texts(CARD), hub_card, CARD.encode, prepare_hub_set),
    Target("hub parquet", st.deferred(lambda: damaged([_parquet_whole()])), hub_parquet, _parquet_whole, prepare_hub_set),
)
