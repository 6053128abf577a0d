"""`trickzoo-eval imagenet` on real images with trained networks, compared with timm."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform
from timm.models import load_checkpoint
from timm.models.efficientnet import _gen_mobilenet_v1

import trickzoo
from tests.commands import evaluate
from tests.hub import Hub
from tests.images import devkit, pack
from trickzoo import files
from trickzoo.data.classes import IMAGENETTE, imagenet1k

MOBILENET = "mobilenetv1_025_imagenette128.timm.safetensors"
RESNET = "resnet18d_imagenette64.timm.fp16.safetensors"
MANIFEST = """
[[weights]]
name = "mobilenet_v1_025.ref_imagenette128"
layout = "timm"
classes = "imagenette"
licence = "apache-2.0"
options = {{ activation = "relu6" }}
metric = [
  {{ data = "imagenette128-val", top1 = 78.599, top5 = 97.019, n = 3925, size = 128, crop = 1.0, source = "reference" }},
]

[weights.preprocessing]
size = 128
crop = 1.0

[[weights.source]]
hub = "tests/mobilenet"
file = "model.safetensors"

[[weights]]
name = "resnet18_d.ref_imagenette64"
layout = "timm"
classes = "imagenette"
licence = "apache-2.0"
metric = [
  {{ data = "imagenette128-val", top1 = 84.0, top5 = 98.166, n = 3925, size = 64, crop = 1.0, source = "reference" }},
]

[weights.preprocessing]
size = 64
crop = 1.0

[[weights.source]]
hub = "tests/gone"
file = "model.safetensors"

[[weights.source]]
url = "{url}"
sha256_prefix = "{prefix}"
"""


@pytest.fixture
def reference(packs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A hub with the two trained reference weights, one at once on the hub and one behind a dead first source, and a manifest of both."""
    with Hub() as hub:
        hub.add("tests/mobilenet", "model.safetensors", (packs / "reference_weights" / MOBILENET).read_bytes())
        hub.add_file(RESNET, (packs / "reference_weights" / RESNET).read_bytes())
        prefix = files.digest(packs / "reference_weights" / RESNET)[:8]
        (tmp_path / "manifest.toml").write_text(MANIFEST.format(url=hub.url(RESNET), prefix=prefix))
        monkeypatch.setenv("TRICKZOO_MANIFEST", str(tmp_path / "manifest.toml"))
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        yield hub


@pytest.mark.packs
@pytest.mark.parametrize(
    ("weight", "upstream", "size", "right", "top5"),
    [
        ("mobilenet_v1_025.ref_imagenette128", "mobilenet", 128, 3085, 97.019),
        pytest.param("resnet18_d.ref_imagenette64", "resnet", 64, 3297, 98.166, marks=pytest.mark.slow),
    ],
)
def test_real_images_are_predicted_as_timm_predicts_them(
    weight: str, upstream: str, size: int, right: int, top5: float, reference: Hub, packs: Path, tmp_path: Path
) -> None:
    result = evaluate("--data", packs / "imagenette128", "--model", weight, "--predictions", tmp_path / "p.csv", out=tmp_path / "o.json")
    assert (result["n"], result["top1_correct"], round(result["top5"], 3)) == (3925, right, top5)
    assert result["published"]["within_interval"] is True
    assert result["published"]["comparable"] is True

    file = packs / "reference_weights" / (MOBILENET if upstream == "mobilenet" else RESNET)
    if upstream == "mobilenet":
        model = _gen_mobilenet_v1("mobilenetv1_100", channel_multiplier=0.25, num_classes=10)
    else:
        model = timm.create_model("resnet18d", num_classes=10)
    load_checkpoint(model, str(file))
    model = model.float().eval().to(memory_format=torch.channels_last)
    transform = create_transform((3, size, size), crop_pct=1.0, interpolation="bicubic")
    with (tmp_path / "p.csv").open() as rows:
        ours = {row["image"]: (row["top1"], float(row["p1"]) - float(row["p2"])) for row in csv.DictReader(rows)}
    folder = packs / "imagenette128" / "val"
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.JPEG"))
    assert sorted(ours) == names
    for start in range(0, len(names), 128):
        batch = names[start : start + 128]
        with torch.inference_mode():
            top = model(torch.stack([transform(Image.open(folder / name).convert("RGB")) for name in batch])).argmax(1)
        for name, index in zip(batch, top.tolist(), strict=True):
            predicted, margin = ours[name]
            assert predicted == IMAGENETTE[index] or margin < 1e-5, name


@pytest.mark.packs
@pytest.mark.parametrize("layout", ["synset", "split", "index", "flat", "kaggle", "tar"])
def test_every_layout_of_real_images_gives_the_same_predictions(
    layout: str, reference: Hub, packs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = packs / "imagenette128" / "val"
    chosen = {path: synset for synset in IMAGENETTE for path in sorted((source / synset).glob("ILSVRC2012_val_*.JPEG"))[:4]}
    root = tmp_path / "data"
    data = root / "val" if layout in ("split", "flat", "kaggle") else root
    data.mkdir(parents=True)
    for path, synset in chosen.items():
        folder = {"synset": synset, "split": synset, "index": str(imagenet1k().index(synset))}.get(layout)
        target = data / folder / path.name if folder else data / path.name
        target.parent.mkdir(exist_ok=True)
        target.symlink_to(path)
    truth = {int(path.stem.rpartition("_")[2]): synset for path, synset in chosen.items()}
    if layout in ("flat", "tar"):
        devkit(tmp_path, [truth.get(i, IMAGENETTE[0]) for i in range(1, max(truth) + 1)])
    if layout == "kaggle":
        lines = [f"ILSVRC2012_val_{i:08d},{synset} 1 2 3 4" for i, synset in truth.items()]
        (tmp_path / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *lines]))
    if layout == "tar":
        for path in [*data.iterdir()]:
            content = path.read_bytes()
            path.unlink()
            path.write_bytes(content)
        data = pack(data, tmp_path / "ILSVRC2012_img_val.tar")
    tokens = ("--model", "mobilenet_v1_025.ref_imagenette128", "--predictions", tmp_path / "p.csv")
    result = evaluate("--data", root if layout == "split" else data, *tokens, out=tmp_path / "o.json")
    model = trickzoo.create("mobilenet_v1_025.ref_imagenette128")
    transform = trickzoo.eval_transform(model)
    with (tmp_path / "p.csv").open() as file:
        rows = {row["image"].rpartition("/")[2]: row for row in csv.DictReader(file)}
    assert len(rows) == len(chosen) == result["n"] == 40
    for path, synset in chosen.items():
        with torch.inference_mode():
            expected = IMAGENETTE[int(model(transform(Image.open(path))[None]).argmax())]
        assert (rows[path.name]["class"], rows[path.name]["top1"]) == (synset, expected)
