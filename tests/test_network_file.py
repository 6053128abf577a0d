"""The weight files of detectors and segmenters restore the networks, with their normalisation and the options of their backbones."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import trickzoo
from tests.annotated import detector, segmenter
from tests.small_recipes import BOTH, BOXES, MASKS, SHAPES
from tests.training import same
from trickzoo import detection, files, segmentation, tasks
from trickzoo.data.transforms import Normalisation
from trickzoo.errors import BadCheckpoint
from trickzoo.training import job as jobs
from trickzoo.training.machine import Machine
from trickzoo.weights import manifest, tensors
from trickzoo.weights.record import METADATA_KEY


@BOTH
@pytest.mark.parametrize("activation", ["relu", "relu6"])
def test_a_weight_file_restores_the_network(recipe: Any, activation: str, tmp_path: Path) -> None:
    """Options of the backbone that no tensor shows, such as the activation, are restored too."""
    named = f"{recipe.model}.tz_imagenette128"
    mine, wanted = replace(recipe, model=named, epochs=1), manifest.find(named).sources[0].sha256
    if activation == "relu6":
        trickzoo.export(trickzoo.create(named, activation=activation), tmp_path / "trunk.safetensors")
        mine = replace(mine, model=recipe.model, weights=str(tmp_path / "trunk.safetensors"))
        wanted = files.digest(tmp_path / "trunk.safetensors")
    job = tasks.prepare(mine, SHAPES, Machine(out=tmp_path, workers=0, device="cpu"))
    assert jobs.run(job)["weights_sha256"] == wanted
    package = detection if recipe is BOXES else segmentation
    loaded = package.load(tmp_path / "model.safetensors").to(memory_format=torch.channels_last)  # the memory format of the training loop
    assert loaded.classes == job.task.data.classes
    checkpoint = package.load(tmp_path / "last.pt")
    assert (checkpoint.classes, checkpoint.recipe) == (loaded.classes, loaded.recipe)
    assert same(checkpoint.state_dict(), loaded.state_dict())
    assert trickzoo.load(tmp_path / "last.pt").task == recipe.task
    image = torch.rand(3, 50, 60)
    job.task.model.eval()
    with torch.inference_mode():
        ours, theirs = (
            ([net([image])[0][key] for key in ("boxes", "scores", "labels")] if recipe is BOXES else [net(image[None])])
            for net in (loaded, job.task.model)
        )
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert loaded.recipe is not None and loaded.recipe.model == BOXES.model  # without the tag, whose weights would be downloaded again
    body = loaded.backbone.body if recipe is BOXES else loaded.backbone
    assert (body.activation, body.options) == (activation, {"activation": activation} if activation == "relu6" else {})
    other = segmentation if recipe is BOXES else detection
    with pytest.raises(BadCheckpoint, match=f"is for {recipe.task}, not for"):
        other.load(tmp_path / "model.safetensors")


@BOTH
def test_a_weight_file_of_an_older_version_without_the_options_of_the_backbone(recipe: Any, tmp_path: Path) -> None:
    (detector if recipe is BOXES else segmenter)(tmp_path / "new.safetensors", ("a", "b"))
    content, header, _ = tensors.read_tensors(tmp_path / "new.safetensors")
    own = json.loads(header[METADATA_KEY])
    del own["options"]
    tensors.save_atomically(content, tmp_path / "old.safetensors", {METADATA_KEY: json.dumps(own)})
    loaded = (detection if recipe is BOXES else segmentation).load(tmp_path / "old.safetensors")
    assert same(loaded.state_dict(), content)


def test_the_normalisation_of_the_weights_is_kept(tmp_path: Path) -> None:
    """A backbone with an unusual mean keeps it in the training, in the weight file, and after loading."""
    source = trickzoo.create("mobilenet_v1_025", num_classes=10)
    from trickzoo.weights.export import export
    from trickzoo.weights.loaded import LoadedWeights
    from trickzoo.weights.record import Preprocessing

    half = (0.5, 0.5, 0.5)
    source.weights = LoadedWeights("x", tmp_path, classes=tuple("abcdefghij"), preprocessing=Preprocessing(mean=half, std=half))
    export(source, tmp_path / "trunk.safetensors")
    for recipe in (BOXES, MASKS):
        mine = replace(recipe, weights=str(tmp_path / "trunk.safetensors"), epochs=1)
        job = tasks.prepare(mine, SHAPES, Machine(out=tmp_path / recipe.task, workers=0, device="cpu"))
        jobs.run(job)
        if recipe is BOXES:
            for model in (job.task.model, detection.load(tmp_path / recipe.task / "model.safetensors")):
                assert tuple(model.transform.image_mean) == tuple(model.transform.image_std) == half
        else:
            assert job.task.normalise == Normalisation(half, half)
            assert Normalisation.of(segmentation.load(tmp_path / recipe.task / "model.safetensors").backbone) == Normalisation(half, half)
