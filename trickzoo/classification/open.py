"""Opening the images of a classifier's training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torchvision.transforms import v2

from trickzoo import result_files
from trickzoo.data.hub_stream import HubStream
from trickzoo.data.imageset import BY_INDEX, BY_NAME, BY_SYNSET, ImageSet, as_known
from trickzoo.data.layouts import is_hub, is_table
from trickzoo.data.listing import warn
from trickzoo.data.loaders import Streamed, TrainingImages
from trickzoo.data.location import ImageLocation, Splits
from trickzoo.data.open import open_set, open_undivided
from trickzoo.data.readers.table import splits_of
from trickzoo.data.resident import Resident, decode_once, draw_once, squash
from trickzoo.data.selection import Selected, Selection, divided, select
from trickzoo.data.split_comparison import Comparison, compare
from trickzoo.data.transforms import resize_and_crop
from trickzoo.errors import BadData, BadOption
from trickzoo.files import home
from trickzoo.recipes.recipe import Recipe
from trickzoo.training.machine import Machine
from trickzoo.weights.record import Preprocessing


def evaluation_preprocessing(recipe: Recipe) -> Preprocessing:
    """Return how the validation images of a recipe are resized and cropped."""
    return Preprocessing(size=recipe.eval_size or recipe.size, crop=recipe.crop, interpolation=recipe.interpolation)


def open_data(recipe: Recipe, location: ImageLocation, machine: Machine) -> Splits[Any]:
    """Open training images (`TrainingImages`) and validation images (`Resident`) at the sizes that the recipe names.

    Other recipes with the same sizes can use the same images. Raises BadData or BadOption if the images cannot be used, and BadOption if
    the output is among class folders.
    """
    train: TrainingImages
    comparison: Comparison | None = None
    workers = machine.decoders
    cache = location.cache or home() / "resident"
    if not cache.is_dir():  # an existing cache may be complete, and is then only read
        result_files.check_folder(cache, "name another folder with --cache, or set TRICKZOO_HOME")
    preprocessing = evaluation_preprocessing(recipe)
    name = f"val{preprocessing.short_side}-{preprocessing.size}-{recipe.interpolation}"
    if location.generated:
        train = draw_once(location.shapes("train", recipe.size), v2.PILToTensor(), "as-drawn", cache, workers=workers)
        val = draw_once(location.shapes("val", recipe.size), resize_and_crop(preprocessing), name, cache, workers=workers)
        return Splits(train, val)
    if location.decode == "always" and is_hub(location.data):
        if location.selection != Selection() or location.minival is not None:
            raise BadOption(f"{location.data} is streamed, so none can be selected; add --decode once, or leave --skip-corrupt out")
        val_files, selected = open_set(location.data, split="val"), Selected()
        train = HubStream(str(location.data), workers=workers)
    else:
        files, val_files, selected, comparison = open_files(location)
        _check_outside(machine.out, files, val_files)
        train = _decoded(files, recipe, location, cache, workers) if location.decode == "once" else Streamed(files, workers=workers)
    val_files = as_known(val_files, train.classes)
    val = decode_once(val_files, resize_and_crop(preprocessing), name, cache, classes=train.classes, workers=workers)
    return Splits(train, replace(val, comparison=comparison, names=tuple(entry.name for entry in val_files.entries)), selected)


def _decoded(files: ImageSet, recipe: Recipe, location: ImageLocation, cache: Path, workers: int) -> Resident:
    """Return training images that are decoded once. Their digest covers their side unless it is the usual one."""
    usual = round(recipe.size * 8 / 7)
    side = location.side or usual
    return decode_once(files, squash(side), f"squash{side}", cache, workers=workers, side=None if side == usual else side)


def _check_outside(out: Path, *sets: ImageSet) -> None:
    """Raise BadOption if the output, which contains pictures, would be taken for a class, or for a part of one, when it is opened again."""
    for images in sets:
        if images.layout in (BY_SYNSET, BY_INDEX, BY_NAME) and images.root.resolve() in out.resolve().parents:
            raise BadOption(f"{out} is inside {images.root}, where each folder is a class; name a folder elsewhere with --out")


def open_files(location: ImageLocation) -> tuple[ImageSet, ImageSet, Selected, Comparison]:
    """Open training and validation images, as their source or the selection states them, and warn of images that are in both.

    If the location states a `minival`, it is returned in place of the validation images, and the other training images as training images.
    Raises BadData if the source does not tell them apart and the selection does not divide them, and what `open_set` and `select` raise.
    """
    data, folder = location.data, location.folder
    train, val, selected = select(
        location.selection,
        lambda: open_undivided(data, folder=folder),
        lambda split: open_set(data, split=split, folder=folder),
    )
    if (train.root, train.entries) == (val.root, val.entries):
        if is_table(data) and splits_of(Path(data)):
            raise BadData(f"{data}: training and validation images are the same; give each image one split")
        remedy = 'add a column "split" with train and val' if is_table(data) else "put them in train/ and val/"
        raise BadData(
            f"{data} does not tell training images from validation images; {remedy}, "
            "or take some of them for validation with --val-fraction 0.2"
        )
    if location.minival is not None:
        train, val, cut = divided(train, Selection(val_fraction=location.minival, group_by=location.selection.group_by))
        selected = Selected({**selected.facts, "minival": cut.facts["split"]}, selected.notes)
    val = as_known(val, train.classes)
    comparison = compare(train, val)
    for sentence in comparison.sentences:
        warn(f"{data}: {sentence}")
    return train, val, selected, comparison
