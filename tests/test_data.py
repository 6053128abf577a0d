"""Layouts of labelled images, their labels, and damaged images. test_real_evaluation.py evaluates real images."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import shutil
import struct
import tarfile
import tracemalloc
import zlib
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.datasets import imagenet as reference
from torchvision.transforms.v2.functional import pil_to_tensor

import trickzoo
from tests.images import bomb, devkit, jpeg, pack
from trickzoo.catalogue import describe
from trickzoo.classification.evaluate import match_classes
from trickzoo.data import images
from trickzoo.data.augment import DRAWS, crop_boxes
from trickzoo.data.classes import IMAGENETTE, class_list, describe_class, imagenet1k
from trickzoo.data.imageset import Decoded, as_known
from trickzoo.data.loaders import Streamed
from trickzoo.data.readers import devkit as labels_of_imagenet
from trickzoo.data.readers.imagenet import open_imagenet
from trickzoo.data.transforms import eval_transform, normalise, resize_and_crop
from trickzoo.errors import BadData, BadOption, UnknownName
from trickzoo.recipes.recipe import Augmentation
from trickzoo.weights.record import Preprocessing

FISH, DOG, HORN = "n01440764", "n02102040", "n03394916"
LABELS = [DOG, HORN, FISH, DOG]


def flat(folder: Path, labels: list[str] = LABELS) -> Path:
    for i in range(len(labels)):
        jpeg(folder / f"ILSVRC2012_val_{i + 1:08d}.JPEG", i)
    return folder


def by_class(folder: Path, names: tuple[str, ...] = (FISH, DOG)) -> Path:
    for i, name in enumerate(names):
        jpeg(folder / name / f"{i}_a.JPEG", i)
        jpeg(folder / name / "deeper" / f"{i}_b.jpg", i + 10)
    return folder


def found(path: Path, **options: object) -> list[tuple[str, str]]:
    return [(entry.name, entry.label) for entry in open_imagenet(path, **options).entries]  # type: ignore[arg-type]


def test_class_folders_by_synset_with_and_without_splits(tmp_path: Path) -> None:
    plain = by_class(tmp_path / "plain")
    expected = [(f"{FISH}/0_a.JPEG", FISH), (f"{FISH}/deeper/0_b.jpg", FISH), (f"{DOG}/1_a.JPEG", DOG), (f"{DOG}/deeper/1_b.jpg", DOG)]
    assert found(plain) == expected
    both = tmp_path / "both"
    by_class(both / "val")
    by_class(both / "train", (HORN,))
    assert found(both) == expected
    assert {label for _, label in found(both, split="train")} == {HORN}


def test_a_missing_validation_split_is_not_replaced_by_training_images(tmp_path: Path) -> None:
    by_class(tmp_path / "train")
    with pytest.raises(BadData, match=r"has train/ but no val/; put images in val/, .*: `trickzoo eval imagenet --split train`$"):
        open_imagenet(tmp_path)


def test_the_validation_folder_may_have_another_name(tmp_path: Path) -> None:
    by_class(tmp_path / "validation")
    with pytest.raises(BadData, match=r"has validation/ but no train/; put images in train/, .*: `trickzoo eval imagenet --split val`$"):
        open_imagenet(tmp_path, split="train")
    by_class(tmp_path / "train", (HORN,))
    assert {label for _, label in found(tmp_path)} == {FISH, DOG}


def test_folders_named_by_numbers_are_own_classes(tmp_path: Path) -> None:
    by_class(tmp_path, ("0", "007", "1000"))
    images = open_imagenet(tmp_path)
    assert (images.classes, images.layout) == (("0", "007", "1000"), "class folders by name")
    assert as_known(images, ("0", "007", "1000")).entries == images.entries
    assert as_known(images, ("cat", "dog")).entries == images.entries


def test_the_classes_of_the_model_decide_whether_images_are_turned_upright(tmp_path: Path) -> None:
    """A training on ImageNet's classes and others turns its images, and so does an evaluation on images of ImageNet's classes alone."""
    by_class(tmp_path / "train", (FISH, DOG, "own"))
    by_class(tmp_path / "val", (FISH, DOG))
    train, val = (open_imagenet(tmp_path, split=split) for split in ("train", "val"))
    assert (train.upright, val.upright) == (True, False)
    assert as_known(val, train.classes).upright
    assert match_classes(val, ("own", DOG, FISH))[0].upright
    assert not match_classes(val, imagenet1k())[0].upright
    assert not match_classes(train, imagenet1k(), skip_unknown=True)[0].upright


def test_folders_named_by_all_of_imagenets_indices_are_its_classes(tmp_path: Path) -> None:
    for i in range(1000):
        path = tmp_path / f"{i:03d}" / "a.jpg"
        path.parent.mkdir()
        path.touch()
    images = open_imagenet(tmp_path)
    assert ([entry.label for entry in images.entries], images.layout) == (list(imagenet1k()), "class folders by index")


@pytest.mark.parametrize("known", [imagenet1k(), IMAGENETTE], ids=["imagenet1k", "imagenette"])
def test_folders_named_by_some_of_imagenets_indices_are_its_classes_if_the_model_has_them(known: tuple[str, ...], tmp_path: Path) -> None:
    by_class(tmp_path, ("0", "217", "00566", "1000"))
    images = as_known(open_imagenet(tmp_path), known)
    assert {entry.name.partition("/")[0]: entry.label for entry in images.entries} == {"0": FISH, "217": DOG, "00566": HORN, "1000": "1000"}
    assert images.layout == "class folders by index"


@pytest.mark.parametrize("where", ["inside", "beside", "archive", "kaggle", "named"])
def test_flat_folder_with_labels_in_each_form(tmp_path: Path, where: str) -> None:
    folder = flat(tmp_path / "a" / "val")
    options = {}
    if where == "inside":
        devkit(folder, LABELS)
    elif where == "beside":
        devkit(folder.parent, LABELS)
    elif where == "archive":
        kit = devkit(tmp_path / "elsewhere", LABELS)
        pack(kit.parent, folder.parent / "ILSVRC2012_devkit_t12.tar.gz", "w:gz")
    elif where == "kaggle":
        rows = [(f"ILSVRC2012_val_{i:08d}", f"{label} 1 2 3 4 {label} 5 6 7 8 ") for i, label in reversed(list(enumerate(LABELS, 1)))]
        with (tmp_path / "LOC_val_solution.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("ImageId", "PredictionString"), *rows])
    else:
        options = {"devkit": devkit(tmp_path / "elsewhere", LABELS)}
    assert [label for _, label in found(folder, **options)] == LABELS
    (folder / "ILSVRC2012_val_00000002.JPEG").unlink()  # labels follow from the number in the name, not from the position
    assert [label for _, label in found(folder, **options)] == [DOG, FISH, DOG]


def test_devkit_is_read_as_torchvision_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = flat(tmp_path / "val")
    archive = pack(devkit(tmp_path / "kit", LABELS).parent, tmp_path / "ILSVRC2012_devkit_t12.tar.gz", "w:gz")
    digest = hashlib.md5(archive.read_bytes()).hexdigest()
    monkeypatch.setitem(reference.ARCHIVE_META, "devkit", (archive.name, digest))
    reference.parse_devkit_archive(tmp_path)
    _, labels = reference.load_meta_file(tmp_path)
    assert [label for _, label in found(folder)] == labels == LABELS


def test_a_tar_is_read_without_unpacking(tmp_path: Path) -> None:
    folder = flat(tmp_path / "flat")
    devkit(tmp_path, LABELS)
    tar = pack(folder, tmp_path / "ILSVRC2012_img_val.tar")
    images_of_tar, images_of_folder = open_imagenet(tar), open_imagenet(folder)
    assert [e.label for e in images_of_tar.entries] == LABELS
    for a, b in zip(images_of_tar.entries, images_of_folder.entries, strict=True):
        assert a.name == b.name
        assert images_of_tar.read(a) == images_of_folder.read(b)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ILSVRC2012_devkit_t12", "ILSVRC2012_img_val.tar", "flat"]


def _tar_with(path: Path, name: str, kind: bytes = tarfile.REGTYPE) -> Path:
    with tarfile.open(path, "w") as tar:
        member = tarfile.TarInfo(name)
        member.type, member.size, member.linkname = kind, 3 if kind == tarfile.REGTYPE else 0, "/etc/passwd"
        tar.addfile(member, io.BytesIO(b"abc"))
    return path


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("../ILSVRC2012_val_00000001.JPEG", tarfile.REGTYPE, "points outside"),
        ("/tmp/ILSVRC2012_val_00000001.JPEG", tarfile.REGTYPE, "points outside"),
        ("ILSVRC2012_val_00000001.JPEG", tarfile.SYMTYPE, "none of"),
        ("notes.txt", tarfile.REGTYPE, "none of .*, or the folder of tar shards"),
        ("ILSVRC2012_val_00000009.JPEG", tarfile.REGTYPE, "not in the ground truth"),
    ],
)
def test_bad_tars(tmp_path: Path, name: str, kind: bytes, message: str) -> None:
    devkit(tmp_path, LABELS)
    with pytest.raises(BadData, match=message):
        open_imagenet(_tar_with(tmp_path / "val.tar", name, kind))


def test_a_truncated_tar_and_another_file_are_refused(tmp_path: Path) -> None:
    devkit(tmp_path, LABELS)
    tar = pack(flat(tmp_path / "flat"), tmp_path / "val.tar")
    content = tar.read_bytes()
    last = open_imagenet(tar).entries[-1]
    tar.write_bytes(content[: last.offset + last.size // 2])
    with pytest.raises(BadData, match=r"cut short|unexpected end"):
        open_imagenet(tar)
    tar.write_bytes(b"no tar at all" * 100)
    with pytest.raises(BadData, match="nor an uncompressed tar"):
        open_imagenet(tar)


def test_files_in_place_of_folders(tmp_path: Path) -> None:
    for name, message in (
        ("a.ZIP", "an archive; unpack it"),
        ("a.tar.gz", "an archive; unpack it"),
        ("a.jpg", "an image; name the folder"),
    ):
        (tmp_path / name).write_bytes(b"PK")
        with pytest.raises(BadData, match=f"is {message}"):
            open_imagenet(tmp_path / name)


def test_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="does not exist"):
        open_imagenet(tmp_path / "nowhere")
    with pytest.raises(BadData, match="holds nothing"):
        open_imagenet(tmp_path)
    own = jpeg(tmp_path / "own" / "mine.jpg").parent
    with pytest.raises(
        BadData,
        match=r"own holds 1 file and no class folders; put images into [^ ]*own/CLASS/, or into [^ ]*own/train/CLASS/ and "
        r"[^ ]*own/val/CLASS/, or use trickzoo finetune",
    ):
        open_imagenet(own)
    jpeg(own / "val" / "mine.jpg")
    with pytest.raises(BadData, match=r"own/val holds 1 file and no class folders; put images into .*own/train/CLASS/ and"):
        open_imagenet(own)
    shutil.rmtree(own)
    (tmp_path / FISH).mkdir()
    with pytest.raises(BadData, match="no image in any"):
        open_imagenet(tmp_path)
    flat(tmp_path / "val")
    with pytest.raises(BadData, match=r"labels of ILSVRC2012_val_.* are missing; put .* into .*val or beside it; .*--devkit"):
        open_imagenet(tmp_path / "val")
    with pytest.raises(BadData, match=r"--devkit: .*nowhere does not exist"):
        open_imagenet(tmp_path / "val", devkit=tmp_path / "nowhere")
    (tmp_path / "val" / "LOC_val_solution.csv").write_text("a,b\n1,2\n")
    with pytest.raises(BadData, match="not Kaggle's"):
        open_imagenet(tmp_path / "val")
    (tmp_path / "kit").mkdir()
    with pytest.raises(BadData, match="not the devkit"):
        open_imagenet(tmp_path / "val", devkit=tmp_path / "kit")


def _meta(change: str) -> bytes:
    """Return a meta.mat that unpacks to far more than its size, or claims to."""
    header = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<HH", 0x100, 0x4D49)
    if change == "bomb":
        packed = zlib.compress(bytes(20 << 20))
        return header + struct.pack("<II", 15, len(packed)) + packed
    if change == "nested":
        return header + _array(1, (1, 1), _array(1, (40_000, 40_000)))
    if change == "blanks":  # a text without its letters, which scipy reads as blanks
        return header + _array(1, (1, 1), _array(4, (1, 2**31 - 1), struct.pack("<II", 16, 0)))
    if change == "packed twice":
        packed = zlib.compress(header)
        packed = zlib.compress(struct.pack("<II", 15, len(packed)) + packed)
        return header + struct.pack("<II", 15, len(packed)) + packed
    if change == "overlapping":  # the inner array claims to end before its own cells begin
        return header + _array(1, (1, 1), _array(1, (1, 1), _array(1, (40_000, 40_000)), size=8))
    return header + _array(1, (40_000, 40_000))


def _array(kind: int, sides: tuple[int, int], content: bytes = b"", size: int | None = None) -> bytes:
    """Return an array of a MAT file. MATLAB numbers its kinds: 1 is an array of cells, 4 is text."""
    array = struct.pack("<IIII", 6, 8, kind, 0) + struct.pack("<IIii", 5, 8, *sides) + struct.pack("<II", 1, 7) + b"synsets\0" + content
    return struct.pack("<II", 14, len(array) if size is None else size) + array


@pytest.mark.parametrize("change", ["bomb", "table", "nested", "blanks", "packed twice", "overlapping", "nothing", "truncated", "fatal"])
def test_a_damaged_devkit_is_one_line_and_takes_little_memory(change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels_of_imagenet, "LIMIT", 1 << 20)
    folder = flat(tmp_path / "val")
    meta = devkit(tmp_path, LABELS) / "data" / "meta.mat"
    before, name, after = meta.read_bytes().rpartition(struct.pack("<II", 1, 0))
    longer = (
        before + struct.pack("<II", 1, 8) + after
    )  # an empty name that claims to have eight letters, at which scipy's reader would end the process
    assert name
    damaged = {"nothing": b"", "truncated": meta.read_bytes()[:-40], "fatal": longer}
    meta.write_bytes(damaged[change] if change in damaged else _meta(change))
    tracemalloc.start()
    with pytest.raises(BadData, match="is not the devkit of ILSVRC2012"):
        open_imagenet(folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


def test_a_devkit_archive_that_unpacks_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels_of_imagenet, "LIMIT", 1 << 20)
    folder = flat(tmp_path / "val")
    (tmp_path / "ILSVRC2012_devkit_t12.tar.gz").write_bytes(gzip.compress(bytes(2 << 20)))
    with pytest.raises(BadData, match=r"it has more than 1 MiB when unpacked"):
        open_imagenet(folder)


@pytest.mark.parametrize(
    "rows", ["ILSVRC2012_val_00000001\n", f"x_{'9' * 5000},n1 1\n", f"x_1,{'n' * 200_000}\n", "x_1,\n", "x_1\x00,n1 1\n"]
)
def test_a_damaged_solution_file_is_one_line(rows: str, tmp_path: Path) -> None:
    folder = flat(tmp_path / "val")
    (folder / "LOC_val_solution.csv").write_text("ImageId,PredictionString\n" + rows)
    with pytest.raises(BadData, match=r"not Kaggle's solution file|is not in the ground truth"):
        open_imagenet(folder)


def test_other_files_and_empty_folders_are_reported(tmp_path: Path) -> None:
    by_class(tmp_path)
    (tmp_path / FISH / "notes.txt").write_text("no image")
    (tmp_path / FISH / ".DS_Store").write_text("hidden")
    (tmp_path / HORN).mkdir()
    found = open_imagenet(tmp_path)
    assert found.unread == (f"{FISH}/notes.txt",)
    assert found.empty == (HORN,)
    assert len(found.entries) == 4


@pytest.mark.parametrize("kind", ["truncated", "text", "empty", "bomb", "half a png"])
def test_bad_images_name_their_path_and_reason(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "broken.JPEG"
    content = jpeg(tmp_path / "good.JPEG", size=(200, 150)).read_bytes()
    if kind == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "bomb":
        bomb(path)
    elif kind == "half a png":
        Image.new("RGB", (64, 64), "red").save(tmp_path / "good.png")
        path.write_bytes((tmp_path / "good.png").read_bytes()[:60])
    else:
        path.write_text("no image" if kind == "text" else "")
    expected = {"truncated": "truncated", "text": "no image format", "empty": "empty file", "bomb": "decompression bomb"}
    with pytest.raises(BadData, match=expected.get(kind, "not a readable image")) as error:
        images.read(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1", "I;16", "LA"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("image.tif" if mode in ("CMYK", "I;16") else "image.png")
    Image.new(mode, (20, 10)).save(path)
    assert images.read(path).image.mode == "RGB"


def test_an_unreadable_image_is_returned_and_not_raised(tmp_path: Path) -> None:
    by_class(tmp_path)
    (tmp_path / FISH / "0_a.JPEG").write_bytes(b"broken")
    data = Decoded(open_imagenet(tmp_path), resize_and_crop(Preprocessing(size=8, crop=1.0)), range(4))
    broken, *whole = [data[i] for i in range(4)]
    assert broken.pixels is None
    assert f"{FISH}/0_a.JPEG" in broken.error
    assert all(sample.pixels is not None and sample.pixels.shape == (3, 8, 8) for sample in whole)


@pytest.mark.parametrize(("size", "crop", "interpolation"), [(224, 0.875, "bicubic"), (64, 1.0, "bilinear"), (176, 0.95, "bicubic")])
def test_transform_equals_timms(size: int, crop: float, interpolation: str, tmp_path: Path) -> None:
    from timm.data import create_transform

    image = Image.open(jpeg(tmp_path / "a.jpg", size=(333, 250)))
    reference = create_transform((3, size, size), crop_pct=crop, interpolation=interpolation)
    ours = eval_transform(Preprocessing(size=size, crop=crop, interpolation=interpolation))  # type: ignore[arg-type]
    assert torch.equal(ours(image), reference(image))


def test_transform_of_torchvisions_inception_equals_its_own(tmp_path: Path) -> None:
    from torchvision.models import Inception_V3_Weights

    image = Image.open(jpeg(tmp_path / "a.jpg", size=(500, 400)))
    record = describe("inception_v3.torchvision_in1k").weights[0]
    theirs = Inception_V3_Weights.IMAGENET1K_V1.transforms()(image)
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    rescaled = theirs * (std / 0.5) + (mean - 0.5) / 0.5  # the first operation of its network (transform_input)
    torch.testing.assert_close(eval_transform(record.preprocessing)(image), rescaled, atol=1e-5, rtol=0)


def test_normalisation_equals_its_formula() -> None:
    pixels = torch.tensor([0, 255, 51], dtype=torch.uint8).view(1, 3, 1, 1)
    out = normalise(pixels, Preprocessing(mean=(0.5, 0.25, 0.2), std=(0.5, 0.5, 0.1))).flatten()
    torch.testing.assert_close(out, torch.tensor([-1.0, 1.5, 0.0]))


def test_imagenet_in_words_is_its_synsets(tmp_path: Path) -> None:
    words = [describe_class(synset) for synset in imagenet1k()]
    assert len(set(words)) < 1000
    (tmp_path / "words.txt").write_text("\n".join(words))
    assert class_list(str(tmp_path / "words.txt")) == imagenet1k()


def test_outputs_have_names() -> None:
    model = trickzoo.create("mobilenet_v1_025", pretrained="tz_imagenette128")
    assert trickzoo.class_names(model)[:3] == ("tench", "English springer", "cassette player")
    assert trickzoo.class_names(trickzoo.create("mobilenet_v1_025"))[281] == "tabby"
    with pytest.raises(BadOption, match="mobilenet_v1_025 has 3 outputs, and its weights name no classes for them"):
        trickzoo.class_names(trickzoo.create("mobilenet_v1_025", num_classes=3))


def test_class_lists(tmp_path: Path) -> None:
    assert len(imagenet1k()) == len(set(imagenet1k())) == 1000
    assert set(IMAGENETTE) < set(imagenet1k())
    assert list(IMAGENETTE) == sorted(IMAGENETTE)
    assert describe_class(HORN) == "French horn"
    assert describe_class("cat, black") == "cat, black"
    (tmp_path / "classes.txt").write_text(f"golf ball \n\na\n{FISH} tench\nn012 x\n")
    assert class_list(str(tmp_path / "classes.txt")) == ("golf ball", "a", FISH, "n012 x")
    with pytest.raises(UnknownName, match=r'no class list "imagenet".*imagenet1k'):
        class_list("imagenet")
    for content, message in ((b"", "is empty"), (b"caf\xe9\n", "not a text file in UTF-8"), (b"golf ball\ngolf ball\n", "golf ball twice")):
        (tmp_path / "bad.txt").write_bytes(content)
        with pytest.raises(BadData, match=message):
            class_list(str(tmp_path / "bad.txt"))


@pytest.mark.parametrize("workers", [0, 2])
def test_crops_of_a_batch_are_those_of_each_image_alone(tmp_path: Path, workers: int) -> None:
    for i, (width, height) in enumerate([(40, 30), (30, 41), (64, 64), (7, 90)]):
        jpeg(tmp_path / "a" / f"{i}.jpg", i, (width, height))
    turned = Image.Exif()
    turned[0x0112] = 6  # by 90 degrees, which PIL applies to TIFF while it decodes
    (tmp_path / "b").mkdir()
    Image.open(tmp_path / "a" / "0.jpg").save(tmp_path / "b" / "4.tif", exif=turned)
    streamed = Streamed(open_imagenet(tmp_path), workers=workers)
    draws = torch.rand(5, DRAWS, generator=torch.Generator().manual_seed(0))
    order = torch.tensor([4, 2, 0, 3, 1])
    [(pixels, labels)] = streamed.crops([(order, draws)], 16, Augmentation(), torch.device("cpu"), seed=0)
    assert labels.tolist() == [1, 0, 0, 0, 0]
    for crop, index, row in zip(pixels, order, draws, strict=True):
        image = Image.open(tmp_path / streamed.images.entries[int(index)].name).convert("RGB")
        [box] = crop_boxes(row[None], torch.tensor([image.width]), torch.tensor([image.height]), Augmentation()).tolist()
        wanted = image.resize((16, 16), Image.Resampling.BILINEAR, box=tuple(box), reducing_gap=3.0)
        assert torch.equal(crop, pil_to_tensor(wanted).float())
