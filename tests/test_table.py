"""Tables of paths and labels."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.annotated import refused
from tests.images import jpeg
from trickzoo.classification.open import open_files
from trickzoo.data.location import ImageLocation
from trickzoo.data.open import open_set, open_undivided
from trickzoo.data.readers.table import read_rows
from trickzoo.errors import BadData, BadOption


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(3):
        jpeg(tmp_path / "photos" / f"{i}.jpg", i)
    return tmp_path


def table(folder: Path, text: str, name: str = "labels.csv", encoding: str = "utf-8") -> Path:
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


def entries(path: Path, split: str = "val", **options: Path) -> list[tuple[str, str]]:
    return [(entry.name, entry.label) for entry in open_set(path, split=split, **options).entries]


CATS = [("photos/0.jpg", "cat"), ("photos/1.jpg", "dog, big")]


@pytest.mark.parametrize(
    "text",
    [
        'path,label\nphotos/0.jpg,cat\nphotos/1.jpg,"dog, big"\n',
        '\ufefflabel,when,filename\r\ncat,2020,photos/0.jpg\r\n"dog, big",2021,photos/1.jpg\r\n\r\n',
        'photos/0.jpg,cat\nphotos/1.jpg,"dog, big"',
        "image;class\nphotos\\0.jpg;cat\n./photos/1.jpg;dog, big\n",
        'path, label\nphotos/0.jpg, cat\nphotos/1.jpg, "dog, big",\n',
        "Image_Path\tCategory\nphotos/0.jpg\tcat\nphotos/1.jpg\tdog, big\n",
    ],
    ids=["plain", "excel", "no header", "semicolons", "blanks after commas", "tabs"],
)
def test_forms_of_a_table(text: str, folder: Path) -> None:
    path = table(folder, text)
    assert entries(path) == entries(path, "train") == CATS
    assert open_set(path).classes == ("cat", "dog, big")
    assert len(open_undivided(path).entries) == 2


def test_absolute_paths_of_files_below_the_folder(folder: Path) -> None:
    photos = folder / "photos"
    path = table(folder, f"path,label\n{photos / '0.jpg'},cat\nphotos/1.jpg,dog\n")
    assert entries(path) == [("photos/0.jpg", "cat"), ("photos/1.jpg", "dog")]
    (folder / "link").symlink_to(photos)
    assert entries(table(folder, f"path,label\n{photos / '0.jpg'},cat\n"), folder=folder / "link") == [("0.jpg", "cat")]
    other = table(folder / "photos", f"path,label\n{folder / 'labels.csv'},cat\n")
    refused(lambda: open_set(other), r"the path must be below .*photos; --images names another folder that contains the images")


def test_names_without_their_suffix_as_in_tables_of_kaggle(folder: Path) -> None:
    photos = folder / "photos"
    jpeg(photos / "img.7.JPG", 7)
    jpeg(photos / "cafe\u0301.png", 8)
    path = table(folder, "image_id,label\nimg.7,cat\n0,dog\n1.jpg,cat\ncaf\u00e9,dog\n")
    wanted = [("img.7.JPG", "cat"), ("0.jpg", "dog"), ("1.jpg", "cat"), ("cafe\u0301.png", "dog")]
    assert entries(path, folder=photos) == wanted
    path = table(folder, "id,label\nphotos/img.7,cat\n./photos/0,dog\nphotos\\1.jpg,cat\nphotos/caf\u00e9,dog\n")
    assert entries(path) == [(f"photos/{name}", label) for name, label in wanted]
    assert entries(table(folder, f"path,label\n{photos / '0'},cat\n")) == [("photos/0.jpg", "cat")]


def test_names_without_their_suffix_that_fit_no_image_or_two(folder: Path) -> None:
    photos = folder / "photos"
    jpeg(photos / "0.png", 0)
    path = table(folder, "id,label\nphotos/0,cat\n")
    refused(lambda: open_set(path), r"line 2, names 0, which could be 0\.jpg, 0\.png; write the suffix")
    (photos / "0").write_bytes((photos / "1.jpg").read_bytes())
    assert entries(path) == [("photos/0", "cat")]
    (photos / "note.txt").write_text("")
    (photos / "deep.jpg").mkdir()
    for name in ("photos/note", "photos/deep", "photos", "none/0", "../photos/0"):
        table(folder, f"id,label\n{name},cat\n")
        refused(lambda: open_set(path), "--images names another folder that contains the images")
    refused(lambda: open_set(table(folder, "id,label\nphotos/2,cat\nphotos/2.jpg,cat\n")), r"has photos/2\.jpg twice")


def test_an_id_is_not_a_path_if_there_is_a_column_of_paths(folder: Path) -> None:
    assert entries(table(folder, "id,file_name,label\n0,photos/1.jpg,cat\n")) == [("photos/1.jpg", "cat")]


def test_a_folder_with_a_table_beside_folders_that_are_no_classes(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    labels = table(folder, "image_id,label\n0,cat\n1,dog\n2,cat\n", "train.csv")
    table(folder, "image_id,label\n9,cat\n", "sample_submission.csv")
    remedy = f"; if {labels} names the classes of the images, pass it as --data, and the folder of its images as --images"
    open_set(folder)
    assert caplog.messages[0].endswith("sample_submission.csv, train.csv" + remedy)
    photos = (folder / "photos").rename(folder / "train_images")
    jpeg(folder / "test_images" / "0.jpg")
    named = f"{folder} holds test_images, train_images, which are named as splits, and hold no class folders; put images into"
    refused(lambda: open_set(folder), f"{named} {folder}/train/CLASS/ and {folder}/val/CLASS/{remedy}")
    photos.rename(folder / "train")
    (folder / "test_images").rename(folder / "test")
    refused(lambda: open_set(folder, split="train"), f"holds 3 files and no class folders; .* if they have boxes or masks{remedy}")


def test_accents_of_labels_are_one_whichever_way_they_are_stored(folder: Path) -> None:
    assert open_set(table(folder, "path,label\nphotos/0.jpg,caf\u00e9\nphotos/1.jpg,cafe\u0301\n")).classes == ("caf\u00e9",)


def test_labels_that_look_alike_are_told(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert open_set(table(folder, "path,label\nphotos/0.jpg,1\nphotos/1.jpg,01\n")).classes == ("01", "1")
    assert caplog.messages == [
        f'{folder}: the classes "01", "1" differ in capitals, blanks or leading zeros only; they are different classes'
    ]


def test_labels_that_stand_for_missing_values_or_floats_are_told(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    open_set(table(folder, "path,label\nphotos/0.jpg,0.0\nphotos/1.jpg,1.0\nphotos/2.jpg,nan\n"))
    assert caplog.messages == [
        f'{folder}: "nan" is taken for the name of a class; if it stands for a missing value, leave out the images that have it',
        f'{folder}: "0.0", "1.0" are taken for the names of classes; write indices without a decimal point',
    ]
    caplog.clear()
    open_set(table(folder, "path,label\nphotos/0.jpg,nandu\nphotos/1.jpg,v1.0\nphotos/2.jpg,1.5\n"))
    assert caplog.messages == []


def test_a_table_with_splits(folder: Path) -> None:
    path = table(folder, "path,label,split\nphotos/0.jpg,a,training\nphotos/1.jpg,b,Valid\nphotos/2.jpg,a,test\n")
    assert [entries(path, split) for split in ("train", "val", "test")] == [
        [("photos/0.jpg", "a")],
        [("photos/1.jpg", "b")],
        [("photos/2.jpg", "a")],
    ]
    refused(lambda: open_undivided(path), "has validation images and cannot be divided; use it without", BadOption)
    path = table(folder, "photos/0.jpg,a,train\nphotos/1.jpg,b,train\n")
    assert len(open_undivided(path).entries) == 2
    refused(lambda: open_set(path), 'has no image of the split "val", only of train; --val-fraction 0.2 takes some of train for it')


def test_paths_are_below_the_folder_that_is_named(folder: Path) -> None:
    path = table(folder, "path,label\n0.jpg,7\n1.jpg,10\n")
    refused(lambda: open_set(path), r"0\.jpg does not exist, but labels\.csv, line 2, lists it")
    assert entries(path, folder=folder / "photos") == [("0.jpg", "7"), ("1.jpg", "10")]
    assert open_set(path, folder=folder / "photos").classes == ("7", "10")  # numbers in their order
    refused(lambda: open_set(folder, folder=folder), "is not a table", BadOption)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\nphotos/9.jpg,a\n", r"photos/9\.jpg does not exist, but labels\.csv, line 2, lists it"),
        (f"path,label\n{'x' * 5000}/0,a\n", r"x… does not exist, but labels\.csv, line 2, lists it; --images names another folder"),
        ("path,label\nphotos/a\0b/0,a\n", "does not exist, but labels"),
        ("path,label\n../0.jpg,a\n", r'labels\.csv, line 2, names "\.\./0\.jpg"; the path must be below'),
        ("path,label\n/etc/passwd,a\n", r'names "/etc/passwd"; the path must be below'),
        ("path,label\nhttps://a.b/0.jpg,a\n", r"line 2, names the URL https://a\.b/0\.jpg; download the images"),
        ("path,label\nphotos/0.jpg,\n", r"labels\.csv, line 2: the class is missing"),
        ("path,label\n\nphotos/0.jpg\n", r"labels\.csv, line 3: the class is missing"),
        ("path,label\n,a\n", r"labels\.csv, line 2: the path is missing"),
        ("path,label,split\nphotos/0.jpg,a,holdout\n", r'line 2: there is no split "holdout"; write train, val or test'),
        ("path,label,split\nphotos/0.jpg,a,\n", r"line 2: the split is missing"),
        ("path,label\nphotos/0.jpg,a\nphotos/0.jpg,b\n", r"labels\.csv has photos/0\.jpg twice"),
        ("path,label\nphotos/0.jpg,a\n./photos/0.jpg,b\n", r"labels\.csv has photos/0\.jpg twice"),
        ("path,label\nphotos/0.jpg,dog, big\n", r"line 2: more values than the 2 columns; write a value with a comma in quotes"),
        ('path,label\nphotos/0.jpg,"cat\nphotos/1.jpg,dog\n', "is not a table of comma-separated values"),
        ("path,label\n", "has no image"),
        ("", "is empty"),
        ("a,b\n1,2\n", "the columns are a, b; name those of the images path and label, and split if it has one"),
        ("path,file,label\n1,2,3\n", 'the columns "path" and "file" mean the same; rename one'),
        ("filename,cat,dog\nphotos/0.jpg,1,0\n", "the columns are filename, cat, dog; name those"),
        ('path,label\n"photos/0.jpg' + "x" * 200_000, "is not a table of comma-separated values"),
    ],
)
def test_a_damaged_table_says_where(text: str, message: str, folder: Path) -> None:
    refused(lambda: open_set(table(folder, text)), message)


def test_a_table_in_another_encoding(folder: Path) -> None:
    refused(lambda: open_set(table(folder, "path,label\nphotos/0.jpg,caf\u00e9\n", encoding="latin-1")), "not a text file in UTF-8; save")


def test_a_list_of_splits_needs_no_labels(folder: Path) -> None:
    rows = read_rows(table(folder, "path,split\na.jpg,valid\n"), labelled=False)
    assert [(row.path, row.split) for row in rows] == [("a.jpg", "val")]
    refused(lambda: read_rows(table(folder, "x,y\na.jpg,valid\n"), labelled=False), "name those of the images path and split")


def test_a_table_without_splits_names_the_column_that_it_lacks(tmp_path: Path) -> None:
    jpeg(tmp_path / "a.jpg", 0)
    (tmp_path / "labels.csv").write_text("path,label\na.jpg,cat\n")
    with pytest.raises(BadData, match=r'add a column "split" with train and val, or take some of them'):
        open_files(ImageLocation(data=tmp_path / "labels.csv"))
