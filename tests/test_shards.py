"""Tar shards, written and read by the webdataset package itself."""

from __future__ import annotations

import io
import json
import os
import tarfile
import tracemalloc
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import webdataset

from tests.commands import evaluate
from tests.images import jpeg
from tests.training import run, same
from trickzoo.data.classes import IMAGENETTE, imagenet1k
from trickzoo.data.loaders import Streamed
from trickzoo.data.open import open_set
from trickzoo.data.readers import shards
from trickzoo.data.readers.imagenet import open_imagenet
from trickzoo.data.readers.shards import open_shards
from trickzoo.errors import BadData

ReadImage = dict[str, Any]


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return jpeg(tmp_path_factory.mktemp("image") / "a.jpg").read_bytes()


def write(pattern: Path, samples: Iterable[ReadImage], count: int = 3) -> None:
    """Shards of `count` samples, by webdataset's own writer."""
    pattern.parent.mkdir(parents=True, exist_ok=True)
    with webdataset.ShardWriter(str(pattern), maxcount=count, verbose=0) as writer:
        for sample in samples:
            writer.write(sample)


def members(path: Path, *files: tuple[str, bytes]) -> None:
    """A tar of these files, whether they make sense or not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def numbered(folder: Path, n: int) -> list[bytes]:
    return [jpeg(folder / f"{i}.jpg", i).read_bytes() for i in range(n)]


@pytest.mark.parametrize("places", ["{split}/data-%03d.tar", "set-{split}-%03d.tar", "{longer}/%03d.tar", "{longer}-%03d.tar"])
def test_every_place_of_shards_is_found_and_read_as_webdataset_reads_it(places: str, tmp_path: Path) -> None:
    images = numbered(tmp_path / "images", 8)
    root = tmp_path / "data"
    for split, longer, chosen in (("train", "train", range(5)), ("val", "validation", range(5, 8))):
        samples = [{"__key__": f"deep.er/{i:06d}", "jpg": images[i], "cls": 10 - i, "txt": "else"} for i in chosen]
        write(root / places.format(split=split, longer=longer), samples, count=2)
    for split, n in (("train", 5), ("val", 3)):
        found = open_set(root, split=split)
        urls = sorted(str(path) for path in root.rglob("*.tar") if split in str(path.relative_to(root)))
        theirs = [(sample["jpg"], sample["cls"].decode()) for sample in webdataset.WebDataset(urls, shardshuffle=False)]
        assert [(found.read(entry), entry.label) for entry in found.entries] == theirs
        assert len(theirs) == n
        assert found.classes == tuple(sorted((label for _, label in theirs), key=int))
        assert found.layout == f"{len(urls)} tar shards"


def test_a_folder_of_shards_is_whichever_split_is_asked_for(image: bytes, tmp_path: Path) -> None:
    write(tmp_path / "%02d.tar", [{"__key__": str(i), "png": image, "json": {"label": "ab"[i % 2]}} for i in range(4)])
    for split in ("train", "val"):
        assert [entry.label for entry in open_set(tmp_path, split=split).entries] == ["a", "b", "a", "b"]


def test_labels_in_each_form(image: bytes, tmp_path: Path) -> None:
    samples: list[ReadImage] = [
        {"__key__": "a", "jpg": image, "cls": "n01440764"},
        {"__key__": "b", "JPEG": image, "json": json.dumps({"label": "n02102040", "width": 4}).encode()},
        {"__key__": "c", "webp": image, "json": {"cls": "n03394916", "label": "another"}},
        {"__key__": "d", "jpg": image, "cls": "n01440764", "json": {"label": "another"}},
        {"__key__": "e", "txt": "no sample of ours", "json": {"a": 1}},
    ]
    write(tmp_path / "%02d.tar", samples)
    found = open_set(tmp_path)
    assert [entry.label for entry in found.entries] == ["n01440764", "n02102040", "n03394916", "n01440764"]
    assert found.entries[0].name == "00.tar/a.jpg"


def test_numbers_are_imagenets_if_all_of_them_occur_or_have_names_of_their_own(image: bytes, tmp_path: Path) -> None:
    write(tmp_path / "all" / "%02d.tar", [{"__key__": str(i), "jpg": image, "cls": 999 - i} for i in range(1000)], count=1000)
    assert [entry.label for entry in open_set(tmp_path / "all").entries] == list(imagenet1k())[::-1]
    few = tmp_path / "few"
    write(few / "%02d.tar", [{"__key__": str(i), "jpg": image, "cls": i} for i in (10, 2)])
    assert open_set(few).classes == ("2", "10")
    (few / "classes.txt").write_text("".join(f"c{20 - i} in words\n" for i in range(11)))
    assert open_set(few).classes == ("c18 in words", "c10 in words")
    (few / "classes.txt").write_text("a\nb\n")
    with pytest.raises(BadData, match="label 10 is none of 0 … 1"):
        open_set(few)


def test_the_names_of_numbers_are_beside_the_shards_or_above_them(image: bytes, tmp_path: Path) -> None:
    for split in ("train", "val"):
        write(tmp_path / split / "%02d.tar", [{"__key__": str(i), "jpg": image, "cls": i} for i in range(2)])
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    (tmp_path / "val" / "classes.txt").write_text("golf ball\ntench\n")
    assert open_set(tmp_path, split="train").classes == ("cat", "dog")
    assert open_set(tmp_path, split="val").classes == ("golf ball", "tench")


def test_the_index_is_kept_until_a_shard_changes(image: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "s" / "%02d.tar", [{"__key__": str(i), "jpg": image, "cls": i} for i in range(4)])
    first = open_set(tmp_path / "s")
    with monkeypatch.context() as patch:
        patch.setattr(shards, "_add", lambda *_: pytest.fail("read again"))
        assert open_set(tmp_path / "s") == first
    write(tmp_path / "s" / "%02d.tar", [{"__key__": str(i), "jpg": image, "cls": i + 1} for i in range(4)])
    assert open_set(tmp_path / "s").classes == ("1", "2", "3", "4")
    for kept in (tmp_path / "home" / "shards").iterdir():
        kept.write_bytes(b"[[")
    assert open_set(tmp_path / "s").classes == ("1", "2", "3", "4")
    monkeypatch.setenv("TRICKZOO_HOME", "/dev/null/no/place")
    assert open_set(tmp_path / "s").classes == ("1", "2", "3", "4")


@pytest.mark.parametrize(("field", "value"), [("file", "../00.tar"), ("file", ""), ("offset", -1), ("offset", 2**70), ("size", 2**40)])
def test_an_index_with_an_image_outside_its_shard_is_built_again(field: str, value: object, image: bytes, tmp_path: Path) -> None:
    write(tmp_path / "s" / "%02d.tar", [{"__key__": str(i), "jpg": image, "cls": i} for i in range(2)])
    found = open_set(tmp_path / "s")
    (kept,) = (tmp_path / "home" / "shards").iterdir()
    index = json.loads(kept.read_bytes())
    index["entries"][1][shards.Entry._fields.index(field)] = value
    kept.write_text(json.dumps(index))
    assert open_set(tmp_path / "s") == found
    assert found.read(found.entries[1]) == image


A, B = b"image a", b"image b"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([("x/a.jpg", A), ("x/a.txt", b"1")], r"00.tar: x/a.jpg has no label; x/a.cls, or x/a.json"),
        ([("a.jpg", A), ("a.json", b'{"label": null}')], "00.tar: a.jpg has no label"),
        ([("a.jpg", A), ("a.cls", b"1"), ("b.cls", b"1")], r"00.tar: b has a label and no image \(jpg"),
        ([("a.jpg", A), ("a.cls", b"1"), ("a.jpg", B)], "00.tar: a.jpg and a.jpg have one key"),
        ([("a.jpg", A), ("a.cls", b"1"), ("a.png", B)], "00.tar: a.jpg and a.png have one key"),
        ([("a.jpg", A), ("a.cls", b"1"), ("a.cls", b"2")], "00.tar: a.cls is there twice"),
        ([("a.jpg", A), ("a.cls", b" ")], r"00.tar: a.cls is not a label \(it is empty\)"),
        ([("a.jpg", A), ("a.json", b"{")], "00.tar: a.json is not a label"),
        ([("a.jpg", A), ("a.cls", b"-1"), ("b.jpg", B), ("b.cls", b"\xff")], "00.tar: b.cls is not a label"),
        ([("r_jpg.rf.0.jpg", A), ("r_jpg.rf.0.cls", b"1")], "00.tar: r_jpg.rf.0.jpg is an image without a label: .* its sample is r_jpg"),
        ([("a.jpg", A), ("a.cls", b"1"), ("a.rf.1.cls", b"2")], "00.tar: a.rf.1.cls is a label without an image"),
        ([("a.jpg", A), ("a.cls", b"9" * 5000)], r"00.tar: a.cls is not a label \(it has 5,000 characters; 255 are the most\)"),
        ([("a.jpg", A), ("a.cls", b" " * 1_048_577)], r"a.cls is not a label \(it has 1,048,577 bytes; 1,048,576 are the most\)"),
        ([("a.jpg", A), ("a.json", b"[" * 100_000)], "00.tar: a.json is not a label"),
        ([("a.jpg", A), ("a.json", b'{"cls": ' + b"9" * 5000 + b"}")], "00.tar: a.json is not a label"),
        ([("a.txt", A)], "there is no image .* in 1 shard"),
    ],
)
def test_bad_samples(files: list[tuple[str, bytes]], message: str, tmp_path: Path) -> None:
    members(tmp_path / "00.tar", *files)
    with pytest.raises(BadData, match=message):
        open_set(tmp_path)


def test_members_that_are_not_read_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = [("./x/a.jpg", A), ("./x/a.cls", b"007"), ("x/b.PNG", B), ("./x/b.CLS", b"10"), ("x/a.seg.png", B), ("x/._a.jpg", B)]
    members(tmp_path / "00.tar", *files, ("x/a.txt", b""))
    found = open_set(tmp_path)
    assert [(entry.name, entry.label) for entry in found.entries] == [("00.tar/x/a.jpg", "007"), ("00.tar/x/b.PNG", "10")]
    assert found.classes == ("007", "10")
    assert found.unread == ("00.tar/x/a.seg.png", "00.tar/x/._a.jpg")
    assert "2 files are not read as images and left out (1 .png, 1 .jpg): 00.tar/x/a.seg.png, 00.tar/x/._a.jpg" in caplog.text
    assert open_set(tmp_path) == found  # from the index that was kept


@pytest.mark.parametrize("name", ["00.tar.gz", "00.tgz", "00.tar.zst"])
def test_compressed_shards_are_named(name: str, tmp_path: Path) -> None:
    members(tmp_path / "train" / "00.tar", ("a.jpg", A), ("a.cls", b"1"))
    (tmp_path / "train" / name).write_bytes(b"")
    with pytest.raises(BadData, match=rf"train/{name} is compressed \(1 such shard\); decompress to .tar"):
        open_set(tmp_path, split="train")


def header(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A header as it may be written by nobody."""
    member = tarfile.TarInfo(name)
    member.type = kind
    block = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    block[124:136] = (b"\xff" if size < 0 else b"\x80") + (size % 256**11).to_bytes(11, "big")
    block[148:156] = b"%06o\0 " % (256 + sum(block[:148]) + sum(block[156:512]))
    return bytes(block)


END = bytes(1024)
HOSTILE = {
    "negative size": header("a.jpg", -1024) + END,
    "huge size": header("a.jpg", 2**62) + END,
    "larger than any file": header("a.jpg", 2**80) + END,
    "huge long name": header("x", 2**40, tarfile.GNUTYPE_LONGNAME) + END,
    "huge pax header": header("x", 2**33, tarfile.XHDTYPE) + END,
    "negative pax header": header("x", -512, tarfile.XHDTYPE) + END,
    "pax header of 3 MiB": header("x", 3 << 20, tarfile.XHDTYPE) + bytes(3 << 20) + header("a.jpg") + END,
    "headers without end": header("x", 512, tarfile.GNUTYPE_LONGNAME).ljust(1024, b"y") * 3000 + END,
    "sparse": header("a.jpg", 512, tarfile.GNUTYPE_SPARSE) + bytes(512) + END,
    "a link": header("a.jpg", 0, tarfile.SYMTYPE) + END,
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_headers_that_lie_are_one_line_and_take_no_memory(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "00.tar").write_bytes(content)
    tracemalloc.start()
    with pytest.raises(BadData, match=r"00\.tar") as error:
        open_set(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "\n" not in str(error.value)
    assert peak < 12 << 20


def test_damaged_shards(image: bytes, tmp_path: Path) -> None:
    write(tmp_path / "%02d.tar", [{"__key__": str(i), "jpg": image, "cls": i} for i in range(3)])
    path = tmp_path / "00.tar"
    whole = path.read_bytes()
    entries = open_set(tmp_path).entries
    ends = (entries[1].offset + 100, entries[1].offset - 512, entries[2].offset - 300, entries[2].offset - 512)
    for end in ends:  # in an image, before a header, in a header
        path.write_bytes(whole[:end])
        with pytest.raises(BadData, match=r"00.tar is (cut short or damaged at byte|not a whole, uncompressed tar).*again"):
            open_set(tmp_path)
    broken = bytearray(whole)
    broken[entries[1].offset - 512 : entries[1].offset - 400] = b"?" * 112
    path.write_bytes(broken)
    with pytest.raises(BadData, match=r"00\.tar is .* again"):
        open_set(tmp_path)
    for content in (b"", b"no tar at all" * 100):
        path.write_bytes(content)
        with pytest.raises(BadData, match=r"00\.tar is not a whole, uncompressed tar"):
            open_set(tmp_path)


def test_a_split_that_is_not_there(image: bytes, tmp_path: Path) -> None:
    samples = [{"__key__": "a", "jpg": image, "cls": 1}]
    write(tmp_path / "a" / "train" / "%02d.tar", samples)
    write(tmp_path / "b" / "x-train-%02d.tar", samples)
    for name in ("a", "b"):
        with pytest.raises(BadData, match=r"has shards, but none of val; put them in val/, .* --split train"):
            open_set(tmp_path / name)
    (tmp_path / "c" / "train").mkdir(parents=True)
    with pytest.raises(BadData, match="no val/"):  # no shards at all: as any folder
        open_set(tmp_path / "c")


def test_the_name_of_a_split_is_a_whole_word(tmp_path: Path) -> None:
    for file, label in (
        ("Train0.tar", b"0"),
        ("my-valid_0.tar", b"1"),
        ("oval-1.tar", b"2"),
        ("trainer-2.tar", b"3"),
        ("training-3.tar", b"4"),
    ):
        members(tmp_path / file, ("a.jpg", A), ("a.cls", label))
    assert [entry.label for entry in open_set(tmp_path, split="train").entries] == ["0", "4"]
    assert [entry.label for entry in open_set(tmp_path, split="val").entries] == ["1"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes")
def test_a_pipe_is_no_tar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "00.tar")
    path = tmp_path / "00.tar"
    with pytest.raises(BadData, match=r"00\.tar cannot be read \(not a regular file\)"):
        open_shards([path], tmp_path)
    monkeypatch.setattr(Path, "is_file", lambda path: True)  # as if the file were replaced after it was found
    with pytest.raises(BadData, match=r"00\.tar cannot be read \(not a regular file\)"):
        open_imagenet(path)


def test_imagenets_own_tars_are_no_shards(tmp_path: Path) -> None:
    members(tmp_path / "ILSVRC2012_img_val.tar", ("ILSVRC2012_val_00000001.JPEG", A))
    with pytest.raises(BadData, match=r"no class folders; name .*/ILSVRC2012_img_val\.tar itself"):
        open_set(tmp_path)


def _samples(folder: Path) -> list[ReadImage]:
    """The images of class folders, in their order, as samples labelled by words."""
    found = open_imagenet(folder)
    return [{"__key__": f"{i:04d}", "png": found.read(e), "cls": e.label} for i, e in enumerate(found.entries)]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_training_on_shards_is_that_on_files_and_goes_on_bit_for_bit(
    workers: int,
    colours: Path,
    tmp_path: Path,
) -> None:
    write(tmp_path / "set" / "%02d.tar", _samples(colours / "train"), count=20)
    files = Streamed(open_imagenet(colours, split="train"), workers=0)
    data = Streamed(open_set(tmp_path / "set"), workers=workers)
    assert (data.classes, len(data)) == (files.classes, 56)
    straight = run(files, tmp_path / "files")
    run(data, tmp_path / "out", save_every=1, stop_after=10)
    assert same(run(data, tmp_path / "out"), straight)


def test_a_corrupt_image_of_a_shard_is_named(colours: Path, tmp_path: Path) -> None:
    samples = _samples(colours / "train")
    samples[17]["png"] = b"broken"
    write(tmp_path / "set" / "%02d.tar", samples, count=10)
    with pytest.raises(BadData, match=r"set/01.tar/0017.png is not a readable image"):
        run(Streamed(open_set(tmp_path / "set"), workers=0), tmp_path / "out")


def test_evaluation_of_shards_is_that_of_files(tiny: Path, tmp_path: Path) -> None:
    for i in range(20):
        jpeg(tmp_path / "files" / IMAGENETTE[i // 2] / f"{i}.JPEG", i)
    write(tmp_path / "set" / "val" / "%02d.tar", _samples(tmp_path / "files"))
    model = ("--model", "mobilenet_v1_025", "--weights", tiny)
    results = [evaluate("--data", tmp_path / name, *model, out=tmp_path / f"{name}.json") for name in ("files", "set")]
    assert results[1]["data"]["layout"] == "7 tar shards"
    for key in ("n", "top1_correct", "top5_correct", "ece"):
        assert results[0][key] == results[1][key]
