"""Fine-tuning: both tasks train, go on after a stop, and come back from their files as they were."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image
from torch.optim.optimizer import register_optimizer_step_pre_hook

import trickzoo
from tests.annotated import boxes_of, coco, detector, lists, segmenter, voc, xml
from tests.commands import Call, caller
from tests.training import same
from trickzoo import detection, finetune, segmentation
from trickzoo.cli.finetune import app
from trickzoo.data.joint import FitAndFlip, Scale
from trickzoo.data.segmentation import IGNORE
from trickzoo.errors import BadCheckpoint, BadData, BadOption, UnknownName
from trickzoo.recipes import transfer
from trickzoo.recipes.collection import find_fine_tuning, from_plain, override, plain, stored
from trickzoo.recipes.transfer import DetectionRecipe, SegmentationRecipe
from trickzoo.recipes.zoo import RESNET18_D
from trickzoo.segmentation.training import pixel_cross_entropy
from trickzoo.training import checkpoint, loop
from trickzoo.training.classification import Normalisation
from trickzoo.training.run import Machine
from trickzoo.training.schedule import fine_tuning_rate
from trickzoo.weights import convert, files, manifest, publish
from trickzoo.weights.load import METADATA_KEY

BOXES = transfer.SMALL_BOXES.but(
    "test.detection", data="shapes", weights=None, epochs=2, batch_size=4, short=48, long=48, fpn_channels=16, representation_size=16,
    anchors=(8, 16, 32, 48, 64), proposals=20, rois=8, warmup_steps=2,
)  # fmt: skip
MASKS = transfer.SMALL_MASKS.but(
    "test.segmentation", data="shapes", weights=None, epochs=2, batch_size=4, base=48, crop=48, short=48
)  # fmt: skip
BOTH = pytest.mark.parametrize("recipe", [BOXES, MASKS], ids=lambda recipe: recipe.task)
SHAPES = finetune.Source("shapes", images=12)


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs `trickzoo-finetune`; (exit status, stdout, stderr)."""
    return caller(capsys, app)


def run(recipe: Any, out: Path, source: finetune.Source = SHAPES, *, report: Any = lambda progress: None, **options: Any) -> dict[str, Any]:
    settings = Machine(out=out, **{"workers": 0, "use_cpu": True, **options})
    return finetune.run(finetune.prepare(recipe, source, settings), report)


def tensors(out: Path) -> dict[str, torch.Tensor]:
    return checkpoint.read_pickle(out / "last.pt")["model"]


# ---------------------------------------------------------------------------------------------------------------------
# recipes


def test_the_released_rates() -> None:
    """From the released log of VOC, and the script's options for COCO and ADE20K."""
    voc_boxes, coco_boxes = transfer.VOC_BOXES, transfer.COCO_BOXES
    assert [fine_tuning_rate(voc_boxes, epoch * 10, 10) for epoch in (0, 13, 14, 19)] == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4])
    rates = [fine_tuning_rate(coco_boxes, step, 14_000) for step in (0, 500, 1000, 17 * 14_000, 23 * 14_000)]
    assert rates == pytest.approx([0.01 / 3, 0.01 * (1 / 3 + 2 / 3 / 2), 0.01, 1e-3, 1e-4])
    masks = transfer.ADE20K_MASKS
    assert fine_tuning_rate(masks, 0, 100) == 0.01
    assert fine_tuning_rate(masks, 6000, 100) == pytest.approx(0.01 * 0.5**0.9)


def test_recipes_by_name_and_from_files(tmp_path: Path) -> None:
    assert find_fine_tuning("paper.detection.voc", DetectionRecipe) is transfer.VOC_BOXES
    with pytest.raises(UnknownName, match=r"did you mean small\.detection"):
        find_fine_tuning("small.detecton", DetectionRecipe)
    with pytest.raises(BadOption, match=r"paper\.detection\.voc is for detection, not for segmentation"):
        find_fine_tuning("paper.detection.voc", SegmentationRecipe)
    (tmp_path / "mine.json").write_text(json.dumps(plain(BOXES)))
    assert find_fine_tuning(str(tmp_path / "mine.json"), DetectionRecipe) == BOXES
    (tmp_path / "other.json").write_text(json.dumps(plain(RESNET18_D)))
    for name in (RESNET18_D.name, "paper.resnet50_d.mixup", str(tmp_path / "other.json")):
        with pytest.raises(BadOption, match=f"the recipe {name} is for classification, not for segmentation; use it with trickzoo-train"):
            find_fine_tuning(name, SegmentationRecipe)
    with pytest.raises(
        BadOption, match=r"mine\.json is for detection, not for segmentation; use it with trickzoo-finetune … --task detection"
    ):
        find_fine_tuning(str(tmp_path / "mine.json"), SegmentationRecipe)
    (tmp_path / "mine.json").write_text(json.dumps(plain(BOXES) | {"proposal": 3}))
    with pytest.raises(BadOption, match=r'mine\.json: a recipe has no field "proposal"; did you mean proposals'):
        find_fine_tuning(str(tmp_path / "mine.json"), DetectionRecipe)
    changed = override(BOXES, {"trainable-stages": "2", "weights": "none", "batch-size": "8", "anchors": "8,16,24,32,40"})
    assert (changed.trainable_stages, changed.weights, changed.lr) == (2, None, BOXES.lr * 2)
    assert changed.anchors == (8, 16, 24, 32, 40)
    assert override(BOXES, {"trainable_stages": "all"}).trainable_stages == "all"
    assert override(replace(BOXES, anchors=None), {"anchors": "8,16,24,32,40"}).anchors == (8, 16, 24, 32, 40)
    assert override(BOXES, {"anchors": "none"}).anchors is None
    assert from_plain(plain(MASKS), SegmentationRecipe) == MASKS


# ---------------------------------------------------------------------------------------------------------------------
# training


@BOTH
def test_a_training_and_what_it_leaves(recipe: Any, tmp_path: Path) -> None:
    found = run(recipe, tmp_path)
    assert (found["task"], found["weights_sha256"]) == (recipe.task, None)
    assert 0 <= found[found["measure"]] <= 100
    assert (found["n_train"], found["n"]) == (12, 2)
    assert "generated" in found["data"]
    assert {path.name for path in tmp_path.iterdir()} >= {
        "model.safetensors",
        "result.json",
        "log.csv",
        "curves.png",
        "last.pt",
        "metrics.jsonl",
    }
    rows = (tmp_path / "log.csv").read_text().splitlines()
    assert rows[0].startswith("epoch,step,loss,lr,")
    assert found["measure"] in rows[0]
    assert stored(tmp_path / "model.safetensors", type(recipe)) == recipe
    with pytest.raises(BadCheckpoint, match=f"network for {recipe.task}; load it with trickzoo.{recipe.task}.load"):
        trickzoo.create("mobilenet_v1_025", weights=tmp_path / "model.safetensors")


@BOTH
def test_a_stopped_training_goes_on_bit_for_bit(recipe: Any, tmp_path: Path) -> None:
    straight = run(recipe, tmp_path / "straight")

    def stop(progress: loop.Progress) -> None:
        if progress.step == 2:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(loop.Stopped, match="stopped at step 2 of 6"):
        run(recipe, tmp_path / "stopped", report=stop)
    again = run(recipe, tmp_path / "stopped")
    assert same(tensors(tmp_path / "stopped"), tensors(tmp_path / "straight"))
    assert again[again["measure"]] == straight[straight["measure"]]
    assert again["per_class"] == straight["per_class"]
    with pytest.raises(BadCheckpoint, match="of another recipe: lr is"):
        run(replace(recipe, lr=7.0), tmp_path / "stopped")


@BOTH
def test_workers_change_nothing(recipe: Any, tmp_path: Path) -> None:
    recipe = replace(recipe, epochs=1)
    run(recipe, tmp_path / "none"), run(recipe, tmp_path / "two", workers=2)
    assert same(tensors(tmp_path / "none"), tensors(tmp_path / "two"))


def test_micro_batches_add_up(tmp_path: Path) -> None:
    """Without BatchNorm, dropout and sampling in the way, a batch in parts has the whole's gradient: FCN, every crop of one size."""
    # On weights with statistics of their own: through frozen norms of a random backbone hardly a gradient comes to the first layers.
    # Without padding: each part counts as many pixels.
    recipe = MASKS.but("frozen", model=f"{MASKS.model}.tz_imagenette128", norms="frozen", scale=(1.0, 2.0))
    data, val = finetune.open_both(recipe, SHAPES)

    def step(micro: int) -> tuple[float, dict[str, torch.Tensor]]:
        torch.manual_seed(0)
        model = segmentation.training.build(recipe, len(data.classes))
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d | torch.nn.Dropout):
                module.train = lambda mode=True: None  # type: ignore[assignment, misc, return-value]
                module.training = False
        accelerator, found = Accelerator(cpu=True), {}
        task = segmentation.training.Segmentation(recipe, model, data, val, seed=0, accelerator=accelerator, micro_batch=micro)  # type: ignore[arg-type]

        def keep(*_: Any) -> None:
            found.update({name: parameter.grad.clone() for name, parameter in model.named_parameters()})  # type: ignore[union-attr]

        losses: list[float] = []
        hook = register_optimizer_step_pre_hook(keep)
        try:
            loop.fit(
                task,
                tmp_path / f"{micro}",
                seed=0,
                accelerator=accelerator,
                stop_after=1,
                report=lambda progress: losses.append(progress.loss),
            )
        finally:
            hook.remove()
        return losses[0], found

    (whole_loss, whole), (loss, parts) = step(4), step(2)
    assert loss == pytest.approx(whole_loss, rel=1e-4)
    for name, gradient in whole.items():
        assert gradient.norm() > 1e-3, name
        assert (parts[name] - gradient).norm() < 1e-4 * gradient.norm(), name


@pytest.mark.parametrize("name", ["resnet18_d", "mobilenet_v1_025"])
def test_frozen_stages_keep_every_bit(name: str, tmp_path: Path) -> None:
    """Parameters and statistics, the deep stem included."""
    source = trickzoo.create(name, num_classes=10)
    path = tmp_path / "trunk.safetensors"
    from trickzoo.weights.publish import export

    export(source, path)
    for recipe in (BOXES, MASKS):
        mine = replace(recipe, model=name, weights=str(path), trainable_stages=2, norms="live", epochs=1)
        assert run(mine, tmp_path / recipe.task)["weights_sha256"] == files.digest(path)
        trained = (detection.load if recipe is BOXES else segmentation.load)(tmp_path / recipe.task / "model.safetensors")
        body = trained.backbone.body if recipe is BOXES else trained.backbone
        frozen = [("stem", body.stem), *((f"stages.{i}", stage) for i, stage in enumerate(body.stages[:-2]))]
        before = source.state_dict()
        for prefix, part in frozen:
            for key, tensor in part.state_dict().items():
                assert torch.equal(tensor, before[f"{prefix}.{key}"]) or "num_batches" in key, key
        assert (
            not torch.equal(body.stages[-1].state_dict()[key], before[f"stages.{len(body.stages) - 1}.{key}"])
            if (key := next(k for k in body.stages[-1].state_dict() if k.endswith("weight")))
            else False
        )


def test_heads_learn_faster(tmp_path: Path) -> None:
    job = finetune.prepare(MASKS, SHAPES, Machine(out=tmp_path, workers=0, use_cpu=True))
    backbone, heads = job.task.optimiser().param_groups
    model = job.task.model
    assert (backbone["factor"], heads["factor"]) == (1.0, 10.0)
    assert {id(p) for p in heads["params"]} == {id(p) for head in (model.head, model.aux_head) for p in head.parameters()}
    assert len(backbone["params"]) + len(heads["params"]) == len(list(model.parameters()))


def test_pixels_that_do_not_count() -> None:
    logits = torch.randn(2, 3, 4, 5, requires_grad=True)
    masks = torch.randint(0, 3, (2, 4, 5))
    masks[0, :2] = IGNORE
    wanted = -logits.log_softmax(1).gather(1, masks.clamp(max=2)[:, None])[:, 0][masks != IGNORE].mean()
    torch.testing.assert_close(pixel_cross_entropy(logits, masks), wanted)
    nothing = pixel_cross_entropy(logits, torch.full_like(masks, IGNORE))
    nothing.backward()
    assert nothing == 0
    assert not logits.grad.any()  # type: ignore[union-attr]


def test_the_content_of_a_weight_file_counts_and_not_its_path() -> None:
    """Of a file that was written before digests were kept, the path."""
    here = BOXES.but("test.detection", weights="here.safetensors")
    old = {"recipe": plain(here.but("test.detection", weights="there.safetensors")), "seed": 0, "data_digest": "d"}

    def check(content: dict[str, Any], recipe: DetectionRecipe = here) -> None:
        checkpoint.check(Path("last.pt"), content, recipe, data_digest="d", seed=0, weights_sha256="a")

    check({**old, "weights_sha256": "a"})
    check(old, here.but("test.detection", weights="there.safetensors"))
    for other in (old, {**old, "weights_sha256": None}, {**old, "recipe": plain(here), "weights_sha256": "b"}):
        with pytest.raises(BadCheckpoint, match=r"last\.pt is of another recipe: weights is (there\.safetensors|b) there"):
            check(other)


# ---------------------------------------------------------------------------------------------------------------------
# evaluation


class Oracle(torch.nn.Module):
    """A detector that finds what it is told, in the pixels of the image that it is given."""

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


def test_boxes_are_judged_in_pixels_of_the_file(tmp_path: Path) -> None:
    places = [[[3.0, 4, 21, 28]], [[10.0, 2, 30, 20], [1.0, 1, 9, 9]]]
    annotations = {f"{i}": xml([("cat", [x0 + 1, y0 + 1, x1, y1]) for x0, y0, x1, y1 in boxes]) for i, boxes in enumerate(places)}
    data = finetune.open_boxes(finetune.Source("voc", voc(tmp_path / "own", annotations)), "train")
    for short in (30, 75):
        found = detection.training.detect(Oracle(places, short), data, FitAndFlip(short, 200), Accelerator(cpu=True))
        figures = detection.training.figures(found)
        assert (figures["voc_ap50"], figures["coco_ap"]) == (100, pytest.approx(100))
    shifted = [[[x0 + 10, y0, x1 + 10, y1] for x0, y0, x1, y1 in boxes] for boxes in places]
    assert (
        detection.training.figures(detection.training.detect(Oracle(shifted, 30), data, FitAndFlip(30, 60), Accelerator(cpu=True)))[
            "voc_ap50"
        ]
        < 50
    )


def test_masks_are_judged_in_the_files_size(tmp_path: Path) -> None:
    truth = np.zeros((30, 40), np.uint8)
    truth[:, 20:], truth[0] = 1, 2
    data = finetune.open_masks(finetune.Source("lists", lists(tmp_path, [truth])), "train")

    def oracle(images: torch.Tensor) -> torch.Tensor:
        assert images.shape == (1, 3, 15, 20)
        return torch.stack([torch.arange(20) < 10, torch.arange(20) >= 10]).float()[None, :, None].expand(1, 2, 15, 20)

    net = torch.nn.Module()
    net.forward = oracle  # type: ignore[method-assign]
    found = segmentation.training.segment(net, data, Scale(15), Normalisation(), Accelerator(cpu=True))
    assert found.counts.sum() == 29 * 40  # the row of 2, unlabelled, is not judged
    assert found.summary()["miou"] == 100


@BOTH
@pytest.mark.parametrize("activation", ["relu", "relu6"])
def test_a_file_gives_the_network_back(recipe: Any, activation: str, tmp_path: Path) -> None:
    """With what its backbone was built with, which no tensor shows, too."""
    named = f"{recipe.model}.tz_imagenette128"
    mine, wanted = replace(recipe, model=named, epochs=1), manifest.find(named).sources[0].sha256
    if activation == "relu6":
        publish.export(trickzoo.create(named, activation=activation), tmp_path / "trunk.safetensors")
        mine = replace(mine, model=recipe.model, weights=str(tmp_path / "trunk.safetensors"))
        wanted = files.digest(tmp_path / "trunk.safetensors")
    job = finetune.prepare(mine, SHAPES, Machine(out=tmp_path, workers=0, use_cpu=True))
    assert finetune.run(job)["weights_sha256"] == wanted
    package = detection if recipe is BOXES else segmentation
    loaded = package.load(tmp_path / "model.safetensors").to(memory_format=torch.channels_last)  # as the loop has it
    assert loaded.classes == job.train.classes
    image = torch.rand(3, 50, 60)
    job.task.model.eval()
    with torch.inference_mode():
        ours, theirs = (
            ([net([image])[0][key] for key in ("boxes", "scores", "labels")] if recipe is BOXES else [net(image[None])])
            for net in (loaded, job.task.model)
        )
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert loaded.recipe is not None and loaded.recipe.model == BOXES.model  # nothing of the tag is fetched again
    body = loaded.backbone.body if recipe is BOXES else loaded.backbone
    assert (body.activation, body.options) == (activation, {"activation": activation} if activation == "relu6" else {})
    other = segmentation if recipe is BOXES else detection
    with pytest.raises(BadCheckpoint, match=f"is for {recipe.task}, not for"):
        other.load(tmp_path / "model.safetensors")


@BOTH
def test_a_file_from_before_its_backbones_options_were_written(recipe: Any, tmp_path: Path) -> None:
    (detector if recipe is BOXES else segmenter)(tmp_path / "new.safetensors", ("a", "b"))
    content, header = convert.read_tensors(tmp_path / "new.safetensors")
    own = json.loads(header[METADATA_KEY])
    del own["options"]
    convert.save_atomically(content, tmp_path / "old.safetensors", {METADATA_KEY: json.dumps(own)})
    loaded = (detection if recipe is BOXES else segmentation).load(tmp_path / "old.safetensors")
    assert same(loaded.state_dict(), content)


def test_the_normalisation_of_the_weights_is_kept(tmp_path: Path) -> None:
    """For a backbone whose weights want another mean, in training, in the file, and after loading it."""
    source = trickzoo.create("mobilenet_v1_025", num_classes=10)
    from trickzoo.weights.load import LoadedWeights
    from trickzoo.weights.publish import export
    from trickzoo.weights.record import Preprocessing

    half = (0.5, 0.5, 0.5)
    source.weights = LoadedWeights("x", tmp_path, classes=tuple("abcdefghij"), preprocessing=Preprocessing(mean=half, std=half))
    export(source, tmp_path / "trunk.safetensors")
    for recipe in (BOXES, MASKS):
        mine = replace(recipe, weights=str(tmp_path / "trunk.safetensors"), epochs=1)
        job = finetune.prepare(mine, SHAPES, Machine(out=tmp_path / recipe.task, workers=0, use_cpu=True))
        finetune.run(job)
        if recipe is BOXES:
            for model in (job.task.model, detection.load(tmp_path / recipe.task / "model.safetensors")):
                assert tuple(model.transform.image_mean) == tuple(model.transform.image_std) == half
        else:
            assert job.task.normalise == Normalisation(half, half)
            assert Normalisation.of(segmentation.load(tmp_path / recipe.task / "model.safetensors").backbone) == Normalisation(half, half)


# ---------------------------------------------------------------------------------------------------------------------
# the command, and bad input


def test_the_command(call: Call, tmp_path: Path) -> None:
    small = ("--task", "segmentation", "--images", 10, "--weights", "none", "--epochs", 1, "--base", 32, "--crop", 32, "--short", 32)
    common = (*small, "--workers", 0, "--device", "cpu", "--out", tmp_path / "out")
    status, text, _ = call("shapes", *common, "--batch-size", 4)
    assert status == 0
    assert "learning rate 0.01 for a batch of 4" in text
    assert "generated" in text
    assert "mean IoU" in text
    assert "pixel accuracy" in text
    status, text, _ = call("voc", "--task", "detection", "--print-recipe")
    assert (json.loads(text)["neck"], json.loads(text)["name"]) == ("c4", "paper.detection.voc")
    status, text, _ = call("shapes", *common[:-1], tmp_path / "dry", "--dry-run")
    assert status == 0
    assert "peak memory" in text
    assert not (tmp_path / "dry").exists()


def test_bad_input_ends_in_a_line(call: Call, tmp_path: Path) -> None:
    common = (
        "--weights",
        "none",
        "--model",
        "mobilenet_v1_025",
        "--recipe",
        "small.detection",
        "--workers",
        0,
        "--device",
        "cpu",
        "--out",
        tmp_path / "out",
    )
    year = voc(
        tmp_path / "VOCdevkit" / "VOC2007", {"a": xml([("cat", (1, 1, 9, 9))]), "b": xml()}, {"train": ["a"], "val": ["b"]}
    ).parent.parent
    (tmp_path / "coco").mkdir()
    cases = [
        (("voc", "--data", year), "name one with --task detection or --task segmentation"),
        (("coco", "--task", "segmentation", "--data", year), "coco has no annotations for segmentation"),
        (("voc", "--task", "detection"), "name the folder of images with --data"),
        (("shapes", "--task", "detection", "--data", year), "leave --data out"),
        (("voc", "--task", "detection", "--data", year, *common), "larger than the training set of 1"),
        (("voc", "--task", "detection", "--data", year, "--val", "train", "--batch-size", 1, *common), "are the same; name the splits"),
        (("voc", "--task", "detection", "--data", year, "--year", "1999", *common), "1999"),
        (("voc", "--task", "detection", "--data", year, "--train", "trian", *common), "trian"),
        (("coco", "--data", coco(tmp_path / "coco"), *common), "instances_val2017.json is not there"),
        (("voc", "--task", "detection", "--data", year, *common, "--shrt", 5), 'no field "shrt"; did you mean short'),
        (("voc", "--task", "detection", "--data", year, *common, "--short", "tall"), "short"),
        (
            ("voc", "--task", "detection", "--data", year, *common, "--batch-size", 1, "--epochs", 50),
            "50 epochs of warm-up leave nothing of 50 epochs; change warmup_steps",
        ),
        (
            (
                "voc",
                "--task",
                "detection",
                "--data",
                year,
                *common,
                "--batch-size",
                1,
                "--warmup-steps",
                0,
                "--schedule",
                "step",
                "--milestones",
                "200",
            ),
            "step decay has no effect: no milestone of 200 is within 20 epochs",
        ),
        (
            ("voc", "--task", "detection", "--data", year, *common, "--anchors", "8,16"),
            "anchor_sizes must have a size for each of the strides",
        ),
        (("voc", "--task", "detection", "--data", year, *common, "--neck", "c4"), 'neck="c4" is for ResNets'),
    ]
    for tokens, message in cases:
        status, _, error = call(*tokens)
        assert (status, message in error, len(error.splitlines())) == (2, True, 1), (tokens, error)
        assert not (tmp_path / "out").exists()


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    root = voc(tmp_path / "own", {name: xml([("cat", (1, 1, 9, 9))]) for name in "abcdef"}, {"train": list("abcd"), "val": list("ef")})
    (root / "JPEGImages" / "c.jpg").write_bytes((root / "JPEGImages" / "c.jpg").read_bytes()[:200])
    with pytest.raises(BadData, match=r"c\.jpg.*repair it, or take it out of the split"):
        run(BOXES.but("own", data="voc", warmup_steps=0), tmp_path / "out", finetune.Source("voc", root))
    assert not (tmp_path / "out" / "result.json").exists()


def test_images_without_objects_train(tmp_path: Path) -> None:
    root = voc(
        tmp_path / "own", {**{name: xml() for name in "abcd"}, "e": xml([("cat", (1, 1, 9, 9))])}, {"train": list("abcd"), "val": ["e"]}
    )
    Image.open(root / "JPEGImages" / "a.jpg").convert("L").save(root / "JPEGImages" / "a.jpg")
    (root / "classes.txt").write_text("cat\n")
    found = run(BOXES.but("own", data="voc", epochs=1, warmup_steps=0), tmp_path / "out", finetune.Source("voc", root))
    assert found["voc_ap50"] is not None


def test_nothing_to_find_is_no_figure() -> None:
    data = boxes_of([[], []], 1)
    found = detection.training.figures(detection.training.DetectionEvaluation(data))
    assert found["voc_ap50"] is None
    assert found["coco_ap"] is None
