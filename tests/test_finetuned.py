"""Fine-tuned networks: they are evaluated in the pixels of the image files, and their weight files restore them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator

import trickzoo
from tests.annotated import boxes_of, detector, lists, segmenter, voc, xml
from tests.finetuning import BOTH, BOXES, MASKS, SHAPES
from tests.training import same
from trickzoo import detection, files, segmentation, tasks
from trickzoo.data.annotated_transforms import FitAndFlip, Scale
from trickzoo.data.location import AnnotatedLocation
from trickzoo.data.transforms import Normalisation
from trickzoo.detection.metrics import DetectionEvaluation
from trickzoo.errors import BadCheckpoint
from trickzoo.training import job as jobs
from trickzoo.training.machine import Machine
from trickzoo.weights import manifest, publish, tensors
from trickzoo.weights.record import METADATA_KEY


class Oracle(torch.nn.Module):
    """A detector that returns given boxes, scaled to the size of its input."""

    def __init__(self, found: list[list[list[float]]], short: int) -> None:
        super().__init__()
        self.found, self.short, self.calls = found, short, 0

    def forward(self, images: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        (image,) = images
        assert min(image.shape[-2:]) == self.short
        assert 0 <= image.min() <= image.max() <= 1
        boxes = torch.tensor(self.found[self.calls]).reshape(-1, 4) * torch.tensor([image.shape[2] / 40, image.shape[1] / 30] * 2)
        self.calls += 1
        return [{"boxes": boxes, "scores": torch.ones(len(boxes)), "labels": torch.ones(len(boxes), dtype=torch.int64)}]


def test_boxes_are_evaluated_in_pixels_of_the_image_file(tmp_path: Path) -> None:
    places = [[[3.0, 4, 21, 28]], [[10.0, 2, 30, 20], [1.0, 1, 9, 9]]]
    annotations = {f"{i}": xml([("cat", [x0 + 1, y0 + 1, x1, y1]) for x0, y0, x1, y1 in boxes]) for i, boxes in enumerate(places)}
    data = AnnotatedLocation("voc", voc(tmp_path / "own", annotations)).open("detection", "train")
    for short in (30, 75):
        found = detection.evaluate.detect(Oracle(places, short), data, FitAndFlip(short, 200), Accelerator(cpu=True))
        figures = detection.evaluate.figures(found)
        assert (figures["voc_ap50"], figures["coco_ap"]) == (100, pytest.approx(100))
    shifted = [[[x0 + 10, y0, x1 + 10, y1] for x0, y0, x1, y1 in boxes] for boxes in places]
    found = detection.evaluate.detect(Oracle(shifted, 30), data, FitAndFlip(30, 60), Accelerator(cpu=True))
    assert detection.evaluate.figures(found)["voc_ap50"] < 50


def test_masks_are_evaluated_at_the_size_of_the_image_file(tmp_path: Path) -> None:
    truth = np.zeros((30, 40), np.uint8)
    truth[:, 20:], truth[0] = 1, 2
    data = AnnotatedLocation("lists", lists(tmp_path, [truth])).open("segmentation", "train")

    def oracle(images: torch.Tensor) -> torch.Tensor:
        assert images.shape == (1, 3, 15, 20)
        return torch.stack([torch.arange(20) < 10, torch.arange(20) >= 10]).float()[None, :, None].expand(1, 2, 15, 20)

    net = torch.nn.Module()
    net.forward = oracle  # type: ignore[method-assign]
    found = segmentation.evaluate.segment(net, data, Scale(15), Normalisation(), Accelerator(cpu=True))
    assert found.counts.sum() == 29 * 40  # the first row has the value 2, which is unlabelled and not evaluated
    assert found.summary()["miou"] == 100


@BOTH
@pytest.mark.parametrize("activation", ["relu", "relu6"])
def test_a_weight_file_restores_the_network(recipe: Any, activation: str, tmp_path: Path) -> None:
    """Options of the backbone that no tensor shows, such as the activation, are restored too."""
    named = f"{recipe.model}.tz_imagenette128"
    mine, wanted = replace(recipe, model=named, epochs=1), manifest.find(named).sources[0].sha256
    if activation == "relu6":
        publish.export(trickzoo.create(named, activation=activation), tmp_path / "trunk.safetensors")
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
    from trickzoo.weights.loaded import LoadedWeights
    from trickzoo.weights.publish import export
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


def test_images_without_objects_have_no_average_precision() -> None:
    data = boxes_of([[], []], 1)
    found = detection.evaluate.figures(DetectionEvaluation(data))
    assert found["voc_ap50"] is None
    assert found["coco_ap"] is None
