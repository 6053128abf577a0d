"""The manifest: an error in it names the file, the record and the field, and its default weights are part of a release."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

import trickzoo
from trickzoo.errors import BadManifest, UnknownName
from trickzoo.weights import manifest
from trickzoo.weights.record import Source

GOOD = """\
# Two records, with every way of writing a field.
[[weights]]
name = "mobilenet_v1_050.first"
layout = "trickzoo"
classes = "imagenet1k"
licence = "mit"
note = "size = 12, [[weights]] and name = in a text are no fields"
metric = [
  { data = "imagenet1k-val", top1 = 60.0, top5 = 80.0, source = "a paper", size = 224, crop = 0.875 },
  { data = "imagenet1k-val-real", top1 = 61.0, top5 = 81.0, source = "another", size = 225, crop = 0.875 },
]

[weights.preprocessing]
size = 226
mean = [
  0.5, 0.5, 0.5,
]

[[weights.source]]
hub = "someone/first"
file = "model.safetensors"

[[weights]]  # the second
name = "mobilenet_v1_075.second"
layout = "timm"
classes = "imagenet1k"
licence = "apache-2.0"
default = true
options = { activation = "relu6" }

  [weights.preprocessing]
  size = 227

  [[weights.source]]
  hub = "someone/second"
  file = "model.safetensors"

  [[weights.source]]
  url = "https://example.com/second.pth"
  sha256_prefix = "0123abcd"
"""

FIRST, SECOND = "1 (mobilenet_v1_050.first)", "2 (mobilenet_v1_075.second)"
BAD: dict[str, tuple[str, str, str, str]] = {
    # mistake: (good text, bad text, record, complaint)
    "unknown field": ('note = "size', 'colour = "size', FIRST, "Object contains unknown field `colour`"),
    "unknown field in a table": ("size = 227", "scale = 227", SECOND, "Object contains unknown field `scale` - at `$.preprocessing`"),
    "unknown field in a row": ("size = 225, ", "sise = 225, ", FIRST, "Object contains unknown field `sise` - at `$.metric[1]`"),
    "wrong type": ("default = true", 'default = "yes"', SECOND, "Expected `bool`, got `str` - at `$.default`"),
    "wrong type in a table": ("size = 227", "size = 22.7", SECOND, "Expected `int`, got `float` - at `$.preprocessing.size`"),
    "wrong type in a row": ("size = 225", 'size = "225"', FIRST, "Expected `int | null`, got `str` - at `$.metric[1].size`"),
    "wrong type of a table": ('{ activation = "relu6" }', "[]", SECOND, "Expected `object`, got `array` - at `$.options`"),
    "wrong number of items": ("mean = [", "mean = [ 0.1,", FIRST, "Expected `array` of length 3, got 4 - at `$.preprocessing.mean`"),
    "wrong choice": ('layout = "timm"', 'layout = "keras"', SECOND, "Invalid enum value 'keras' - at `$.layout`"),
    "bad prefix": (
        '"0123abcd"',
        '"0123ABCD"',
        SECOND,
        "sha256_prefix must be 8 to 63 lower-case hexadecimal digits - at `$.source[1]`",
    ),
    "bad digest": ("sha256_prefix =", "sha256 =", SECOND, "sha256 must be 64 lower-case hexadecimal digits - at `$.source[1]`"),
    "bad name": ('"mobilenet_v1_075.second"', '"second"', "2 (second)", "name must be <model>.<tag>, "),
    "bad class list": ('classes = "imagenet1k"\nlicence = "a', 'classes = "cats"\nlicence = "a', SECOND, "classes must be imagenet1k, "),
    "mean in 0…255": (
        "size = 227",
        "mean = [123.7, 116.3, 103.5]",
        SECOND,
        "mean must be three values from 0 to 1, not (123.7, 116.3, 103.5); divide those of pixels in 0…255 by 255 - at `$.preprocessing`",
    ),
    "bad crop": ("size = 227", "size = 0", SECOND, "size must be at least 1, and crop above 0 and at most 1 - at `$.preprocessing`"),
    "alias": ("mobilenet_v1_075.", "resnet18_b.", "2 (resnet18_b.second)", 'name: "resnet18_b" is an alias; the record must name resnet18'),
    "unknown model": (
        "mobilenet_v1_075.",
        "mobilenet_v2.",
        "2 (mobilenet_v2.second)",
        'no model "mobilenet_v2"; did you mean mobilenet_v1',
    ),
    "duplicate": (
        "mobilenet_v1_075.second",
        "mobilenet_v1_050.first",
        "2 (mobilenet_v1_050.first)",
        "name: another record has this name; give each weight its own",
    ),
    "missing field": ('licence = "mit"\n', "", FIRST, "Object missing required field `licence`"),
    "missing field of the second": ('licence = "apache-2.0"\n', "", SECOND, "Object missing required field `licence`"),
    "missing name": ('name = "mobilenet_v1_075.second"\n', "", "2", "Object missing required field `name`"),
    "no source": ('  url = "https', '  # "https', SECOND, "a source must have exactly one of hub, url and path - at `$.source[1]`"),
    "no digest": ("  sha256_prefix", "  #", SECOND, "a url source must state sha256 or sha256_prefix - at `$.source[1]`"),
    "non-commercial default": (
        "apache-2.0",
        "cc-by-nc-4.0",
        SECOND,
        "a default weight must have a licence that is known to allow commercial use, not cc-by-nc-4.0",
    ),
    "default of other classes": ('1k"\nlicence = "a', 'te"\nlicence = "a', SECOND, "a default weight must have the classes imagenet1k"),
}


def line_of(snippet: str, text: str) -> int:
    """Return the line, counted from 1, on which the last occurrence of a snippet begins."""
    return text[: text.rindex(snippet)].count("\n") + 1


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that writes a manifest with the given text, and returns its path and the error message."""

    def read(text: str) -> tuple[Path, str]:
        file = tmp_path / "own.toml"
        file.write_text(text, encoding="utf-8")
        monkeypatch.setenv(manifest.VARIABLE, str(file))
        with pytest.raises(BadManifest) as error:
            manifest.records()
        assert "\n" not in str(error.value)
        return file, str(error.value)

    return read


@pytest.mark.parametrize("extra", ["file", "folder", "two"])
def test_own_records_are_added_to_the_shipped_ones(extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.toml").write_text(GOOD, encoding="utf-8")
    (tmp_path / "empty.toml").touch()
    places = {"file": [tmp_path / "own.toml"], "folder": [tmp_path], "two": [tmp_path / "empty.toml", tmp_path / "own.toml"]}
    before = set(trickzoo.list_weights())
    monkeypatch.setenv(manifest.VARIABLE, os.pathsep.join(map(str, places[extra])))
    assert set(trickzoo.list_weights()) - before == {"mobilenet_v1_050.first", "mobilenet_v1_075.second"}
    assert manifest.choose("mobilenet_v1_075").tag == "second"
    assert manifest.find("mobilenet_v1_050.first").metrics[1].size == 225


@pytest.mark.parametrize("mistake", BAD)
def test_error_names_the_record_and_the_field(mistake: str, refused) -> None:
    good, bad, record, complaint = BAD[mistake]
    assert GOOD.count(good) == 1
    file, message = refused(GOOD.replace(good, bad))
    assert message.startswith(f"{file}: record {record}: {complaint}")


def test_unknown_table(refused) -> None:
    file, message = refused(GOOD + "\n[[models]]\nname = 'x'\n")
    assert message == f"{file}: Object contains unknown field `models`"


def test_weights_must_be_an_array_of_tables(refused) -> None:
    file, message = refused("weights = 3\n")
    assert message == f"{file}: Expected `array`, got `int` - at `$.weights`"


def test_deeply_nested_toml(refused) -> None:
    file, message = refused(f"a = {'[' * 20_000}")
    assert message == f"{file}: cannot be read (it is nested too deeply)"


@pytest.mark.parametrize("bad", ["licence mit", 'licence = "mit', "licence = mit", 'name = "again"'])
def test_bad_toml(bad: str, refused) -> None:
    text = GOOD.replace('licence = "mit"', bad)
    file, message = refused(text)
    assert message.startswith(f"{file}: not valid TOML: ")
    assert f"line {line_of('note =', text) - 1}," in message


def test_a_number_of_more_digits_than_python_converts(refused) -> None:
    file, message = refused(GOOD.replace('licence = "mit"', f"licence = {'1' * 5000}"))
    assert message.startswith(f"{file}: not valid TOML: ")


def test_manifest_that_is_not_utf_8(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(BadManifest, match=r"own.toml: cannot be read"):
        manifest.read(tmp_path / "own.toml")


def test_two_defaults(refused) -> None:
    """A second default weight is refused, whether the first is in the same file or is a shipped record."""
    text = GOOD.replace("mobilenet_v1_050.first", "mobilenet_v1_075.first").replace('note = "size', 'default = true\nnote = "size')
    file, message = refused(text)
    assert message == (
        f"{file}: record 2 (mobilenet_v1_075.second): "
        "default: mobilenet_v1_075 already has a default weight, mobilenet_v1_075.first; remove one of them"
    )
    text = GOOD.replace("mobilenet_v1_075.second", "resnet50_d.second")
    file, message = refused(text)
    assert message.endswith("default: resnet50_d already has a default weight, resnet50_d.gluon_in1k; remove one of them")


def test_missing_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(manifest.VARIABLE, str(tmp_path / "nothing.toml"))
    with pytest.raises(BadManifest) as error:
        trickzoo.list_weights()
    assert str(error.value) == f"{manifest.VARIABLE}: {tmp_path / 'nothing.toml'} does not exist; correct or unset the variable"


# ---------------------------------------------------------------------------------------------------------------------
# the shipped records

DEFAULTS = {  # never changed under the same version
    "resnet18": "gluon_in1k",
    "resnet18_d": "ra2_in1k",
    "resnet34": "gluon_in1k",
    "resnet34_d": "ra2_in1k",
    "resnet50_b": "gluon_in1k",
    "resnet50_c": "gluon_in1k",
    "resnet50_d": "gluon_in1k",
    "resnet50_s": "gluon_in1k",
    "resnet101_b": "gluon_in1k",
    "resnet101_c": "gluon_in1k",
    "resnet101_d": "gluon_in1k",
    "resnet101_s": "gluon_in1k",
    "resnet152_b": "gluon_in1k",
    "resnet152_c": "gluon_in1k",
    "resnet152_d": "gluon_in1k",
    "resnet152_s": "gluon_in1k",
    "mobilenet_v1_100": "ra4_e3600_r224_in1k",
    "mobilenet_v1_100h": "ra4_e3600_r224_in1k",
    "mobilenet_v1_125": "ra4_e3600_r224_in1k",
    "inception_v3": "gluon_in1k",
}
NON_COMMERCIAL = {
    f"{model}.{tag}" for model in ("resnet18", "resnet50_b") for tag in ("fb_ssl_yfcc100m_ft_in1k", "fb_swsl_ig1b_ft_in1k")
} | {"resnet50_b.bamboo", *(f"resnet{depth}_c.mmcv_in1k" for depth in (18, 50, 101))}


def test_defaults_of_this_release() -> None:
    chosen = {model: manifest.choose(model) for model in trickzoo.list_models(pretrained=True)}
    assert {model: record.tag for model, record in chosen.items()} == DEFAULTS
    for record in chosen.values():
        assert record.classes == "imagenet1k"
        assert record.commercial
        assert record.published() is not None


def test_non_commercial_weights_load_only_by_name() -> None:
    assert set(trickzoo.list_weights()) - set(trickzoo.list_weights(non_commercial=False)) == NON_COMMERCIAL
    for name in NON_COMMERCIAL:
        model, _, tag = name.partition(".")
        assert not manifest.find(name).commercial
        assert manifest.choose(model, tag).name == name
        default = trickzoo.describe(model).default
        assert default is None or default.name not in NON_COMMERCIAL


@pytest.mark.parametrize("licence", ["apache-2.0", "bsd-2-clause", "cc-by-4.0", "cc-by-sa-3.0", "cc0-1.0"])
def test_a_default_weight_under_a_licence_that_allows_commercial_use(licence: str, tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(GOOD.replace("apache-2.0", licence), encoding="utf-8")
    assert [(record.default, record.commercial) for record in manifest.read(tmp_path / "own.toml")] == [(False, True), (True, True)]


@pytest.mark.parametrize("licence", ["unknown", "other", "", "cc-by-nc-4.0", "cc-by-nc-sa-3.0", "openmdw", "research-only"])
def test_a_licence_that_may_forbid_commercial_use(licence: str) -> None:
    assert not structs.replace(manifest.find("resnet50.msra_in1k"), licence=licence).commercial


def test_every_url_has_the_digest_in_its_name() -> None:
    """torch.hub's convention: `<name>-<first eight digits of the SHA-256>.pth`."""
    sources = [source for record in manifest.records().values() for source in record.sources if source.url]
    assert sources
    for source in sources:
        assert source.filename.removesuffix(".pth").endswith(f"-{source.sha256_prefix or (source.sha256 or '')[:8]}")


def test_names_are_found_by_alias_and_suggested() -> None:
    assert manifest.find("resnet18_b.gluon_in1k").name == "resnet18.gluon_in1k"
    assert trickzoo.list_weights("resnet18_b") == trickzoo.list_weights("resnet18.*")
    assert trickzoo.describe("resnet18_b").default.name == "resnet18.gluon_in1k"
    with pytest.raises(UnknownName, match=r"did you mean resnet50_d.gluon_in1k"):
        manifest.find("resnet50_d.gluon_1k")


def test_every_recorded_digest_says_where_it_was_read_and_belongs_to_one_weight() -> None:
    sources = [source for record in manifest.records().values() for source in record.sources if source.sha256]
    for source in sources:
        assert (source.stated_by is None) == (source.path is not None), source
        assert source.revision is None or len(source.revision) == 40
    digests = [source.sha256 for source in sources]
    assert len(digests) > 50
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize(
    "source",
    [
        {"path": "../secret"},
        {"path": "/etc/passwd"},
        {"path": "a/../../b"},
        {"path": "a\\b"},
        {"path": "C:/x"},
        {"path": ""},
        {"path": "a/"},
        {"hub": "a/b", "file": ".."},
        {"hub": "a/b", "file": "../model.safetensors"},
        {"hub": "a/b", "file": "/model.safetensors"},
        {"hub": "a/b", "file": "model\x00.safetensors"},
        {"url": "https://example.com/", "sha256": "0" * 64},
        {"url": "https://example.com/..", "sha256": "0" * 64},
        {"url": "file:///etc/passwd", "sha256": "0" * 64},
        {"path": "model.safetensors", "size": -1},
    ],
    ids=str,
)
def test_a_source_stays_inside_its_folder(source: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^(file|path|url|size) must be "):
        Source(**source)
