"""Fine-tuning: both tasks train by their recipes, and resume after a stop."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from PIL import Image
from torch.optim.optimizer import register_optimizer_step_pre_hook

import trickzoo
from tests.annotated import voc, xml
from tests.processes import together
from tests.small_recipes import BOTH, BOXES, MASKS, SHAPES, run, without_batch_statistics
from tests.training import same
from trickzoo import detection, files, segmentation, tasks
from trickzoo.data.location import AnnotatedLocation
from trickzoo.data.masks import IGNORE
from trickzoo.errors import BadCheckpoint, BadOption, Diverged, UnknownName
from trickzoo.recipes import finetune as recipes
from trickzoo.recipes.collection import find_fine_tuning, from_dict, override, stored, to_dict
from trickzoo.recipes.finetune import DetectionRecipe, SegmentationRecipe
from trickzoo.recipes.zoo import RESNET18_D
from trickzoo.segmentation.task import pixel_cross_entropy
from trickzoo.training import checkpoint, loop, metrics_log
from trickzoo.training.annotated_task import AnnotatedTask
from trickzoo.training.machine import Machine
from trickzoo.training.progress import Progress
from trickzoo.training.schedule import fine_tuning_rate
from trickzoo.training.stopping import Stopped


def tensors(out: Path) -> dict[str, torch.Tensor]:
    return checkpoint.read_pickle(out / "last.pt")["model"]


@pytest.mark.parametrize("rate", [1e9, 1e38], ids=["only the outputs", "the weights"])
@BOTH
def test_a_network_that_diverges_in_the_last_step_has_no_result(
    recipe: Any, rate: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A detector would find nothing, and a segmenter one class everywhere."""
    monkeypatch.setattr(AnnotatedTask, "learning_rate", lambda self, step: rate if step == 5 else 0.01)
    with pytest.raises(Diverged, match=r"are not finite at step 5 \(epoch 1\)"):
        run(recipe, tmp_path)
    assert not (tmp_path / "result.json").exists()


# ---------------------------------------------------------------------------------------------------------------------
# recipes


def test_learning_rates_are_those_of_the_released_trainings() -> None:
    """The values are from the released log for VOC, and from the options of the released scripts for COCO and ADE20K."""
    voc_boxes, coco_boxes = recipes.VOC_BOXES, recipes.COCO_BOXES
    assert [fine_tuning_rate(voc_boxes, epoch * 10, 10) for epoch in (0, 13, 14, 19)] == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4])
    rates = [fine_tuning_rate(coco_boxes, step, 14_000) for step in (0, 500, 1000, 17 * 14_000, 23 * 14_000)]
    assert rates == pytest.approx([0.01 / 3, 0.01 * (1 / 3 + 2 / 3 / 2), 0.01, 1e-3, 1e-4])
    masks = recipes.ADE20K_MASKS
    assert fine_tuning_rate(masks, 0, 100) == 0.01
    assert fine_tuning_rate(masks, 6000, 100) == pytest.approx(0.01 * 0.5**0.9)


def test_recipes_by_name_and_from_files(tmp_path: Path) -> None:
    assert find_fine_tuning("paper.detection.voc", DetectionRecipe) is recipes.VOC_BOXES
    with pytest.raises(UnknownName, match=r"did you mean small\.detection"):
        find_fine_tuning("small.detecton", DetectionRecipe)
    with pytest.raises(BadOption, match=r"paper\.detection\.voc is for detection, not for segmentation"):
        find_fine_tuning("paper.detection.voc", SegmentationRecipe)
    (tmp_path / "mine.json").write_text(json.dumps(to_dict(BOXES)))
    assert find_fine_tuning(str(tmp_path / "mine.json"), DetectionRecipe) == BOXES
    (tmp_path / "other.json").write_text(json.dumps(to_dict(RESNET18_D)))
    for name in (RESNET18_D.name, "paper.resnet50_d.mixup", str(tmp_path / "other.json")):
        with pytest.raises(BadOption, match=f"the recipe {name} is for classification, not for segmentation; use it with `trickzoo train`"):
            find_fine_tuning(name, SegmentationRecipe)
    with pytest.raises(
        BadOption, match=r"mine\.json is for detection, not for segmentation; use it with `trickzoo finetune … --task detection`"
    ):
        find_fine_tuning(str(tmp_path / "mine.json"), SegmentationRecipe)
    (tmp_path / "mine.json").write_text(json.dumps(to_dict(BOXES) | {"proposal": 3}))
    with pytest.raises(BadOption, match=r'mine\.json: a recipe has no field "proposal"; did you mean proposals'):
        find_fine_tuning(str(tmp_path / "mine.json"), DetectionRecipe)
    changed = override(BOXES, {"trainable-stages": "2", "weights": "none", "batch-size": "8", "anchors": "8,16,24,32,40"})
    assert (changed.trainable_stages, changed.weights, changed.lr) == (2, None, BOXES.lr * 2)
    assert changed.anchors == (8, 16, 24, 32, 40)
    assert override(BOXES, {"trainable_stages": "all"}).trainable_stages == "all"
    assert override(replace(BOXES, anchors=None), {"anchors": "8,16,24,32,40"}).anchors == (8, 16, 24, 32, 40)
    assert override(BOXES, {"anchors": "none"}).anchors is None
    assert from_dict(to_dict(MASKS), SegmentationRecipe) == MASKS


# ---------------------------------------------------------------------------------------------------------------------
# training


@BOTH
def test_a_training_and_its_files(recipe: Any, tmp_path: Path) -> None:
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
    with pytest.raises(BadCheckpoint, match=f"network for {recipe.task}; load it with trickzoo.{recipe.task}.load, or name it"):
        trickzoo.create("mobilenet_v1_025", weights=tmp_path / "model.safetensors")


@BOTH
def test_a_finished_training_in_a_read_only_folder_gives_its_result(recipe: Any, tmp_path: Path, read_only: Callable[[Path], None]) -> None:
    recipe = replace(recipe, epochs=1)
    run(recipe, tmp_path / "out")
    read_only(tmp_path)
    assert run(recipe, tmp_path / "out") == json.loads((tmp_path / "out" / "result.json").read_text())
    with pytest.raises(BadOption, match=r"new cannot be written: .*: Read-only file system; name another place"):
        run(recipe, tmp_path / "new")
    (tmp_path / "out" / "model.safetensors").unlink()
    with pytest.raises(BadOption, match=r"out cannot be written: .*: Read-only file system; name another place"):
        run(recipe, tmp_path / "out")


@BOTH
def test_a_stopped_training_resumes_bit_for_bit(recipe: Any, tmp_path: Path) -> None:
    straight = run(recipe, tmp_path / "straight")

    def stop(progress: Progress) -> None:
        if progress.step == 2:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Stopped, match="stopped at step 2 of 6"):
        run(recipe, tmp_path / "stopped", report=stop)
    again = run(recipe, tmp_path / "stopped")
    assert same(tensors(tmp_path / "stopped"), tensors(tmp_path / "straight"))
    assert again[again["measure"]] == straight[straight["measure"]]
    assert again["per_class"] == straight["per_class"]
    with pytest.raises(BadCheckpoint, match="has another recipe: lr is"):
        run(replace(recipe, lr=7.0), tmp_path / "stopped")


@BOTH
def test_the_number_of_workers_does_not_change_the_weights(recipe: Any, tmp_path: Path) -> None:
    recipe = replace(recipe, epochs=1)
    run(recipe, tmp_path / "none"), run(recipe, tmp_path / "two", workers=2)
    assert same(tensors(tmp_path / "none"), tensors(tmp_path / "two"))


def test_the_gradients_of_micro_batches_add_up(tmp_path: Path) -> None:
    """The gradient of a segmenter with dropout is the same for the whole batch and for micro-batches, if BatchNorm keeps its statistics."""

    def step(micro: int) -> tuple[float, dict[str, torch.Tensor]]:
        accelerator, found = Accelerator(cpu=True), {}
        task = without_batch_statistics(accelerator, micro_batch=micro)

        def keep(*_: Any) -> None:
            found.update({name: parameter.grad.clone() for name, parameter in task.model.named_parameters()})  # type: ignore[union-attr]

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


def train_in_processes(folder: Path) -> None:
    accelerator = Accelerator(cpu=True)
    assert accelerator.num_processes == 2
    loop.fit(without_batch_statistics(accelerator), folder, seed=0, accelerator=accelerator, stop_after=3, save_every=1)
    accelerator.end_training()


def test_two_processes_train_a_segmenter_with_dropout_as_one_does(tmp_path: Path) -> None:
    together(train_in_processes, tmp_path / "two")
    accelerator = Accelerator(cpu=True)
    for name, dropout in (("one", 0.1), ("none", 0.0)):
        task = without_batch_statistics(accelerator, dropout=dropout)
        loop.fit(task, tmp_path / name, seed=0, accelerator=accelerator, stop_after=3, save_every=1)
    one, two, none = (tensors(tmp_path / name) for name in ("one", "two", "none"))
    for key in one:
        torch.testing.assert_close(two[key], one[key], atol=1e-5, rtol=1e-4)
    losses = [[row["loss"] for row in metrics_log.rows(tmp_path / name) if "loss" in row] for name in ("one", "two", "none")]
    assert len(losses[0]) == 3
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert losses[2] != pytest.approx(losses[0], rel=1e-3), "dropout acts on the loss"
    assert not all(torch.allclose(none[key], one[key], atol=1e-5, rtol=1e-4) for key in one), "dropout acts on the weights"


@pytest.mark.parametrize("name", [pytest.param("resnet18_d", marks=pytest.mark.slow), "mobilenet_v1_025"])
def test_frozen_stages_do_not_change(name: str, tmp_path: Path) -> None:
    """Their parameters and their statistics of BatchNorm stay the same, those of the deep stem included."""
    source = trickzoo.create(name, num_classes=10)
    path = tmp_path / "trunk.safetensors"
    from trickzoo.weights.export import export

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


def test_heads_have_a_higher_learning_rate(tmp_path: Path) -> None:
    job = tasks.prepare(MASKS, SHAPES, Machine(out=tmp_path, workers=0, device="cpu"))
    backbone, heads = job.task.optimiser().param_groups
    model = job.task.model
    assert (backbone["factor"], heads["factor"]) == (1.0, 10.0)
    assert {id(p) for p in heads["params"]} == {id(p) for head in (model.head, model.aux_head) for p in head.parameters()}
    assert len(backbone["params"]) + len(heads["params"]) == len(list(model.parameters()))


def test_ignored_pixels_have_no_loss() -> None:
    logits = torch.randn(2, 3, 4, 5, requires_grad=True)
    masks = torch.randint(0, 3, (2, 4, 5))
    masks[0, :2] = IGNORE
    wanted = -logits.log_softmax(1).gather(1, masks.clamp(max=2)[:, None])[:, 0][masks != IGNORE].mean()
    torch.testing.assert_close(pixel_cross_entropy(logits, masks), wanted)
    nothing = pixel_cross_entropy(logits, torch.full_like(masks, IGNORE))
    nothing.backward()
    assert nothing == 0
    assert not logits.grad.any()  # type: ignore[union-attr]


def test_weight_files_are_compared_by_content() -> None:
    """Files of older versions have no digests, so the path is compared."""
    here = BOXES.but("test.detection", weights="here.safetensors")
    old = {"recipe": to_dict(here.but("test.detection", weights="there.safetensors")), "seed": 0, "data_digest": "d"}

    def check(content: dict[str, Any], recipe: DetectionRecipe = here) -> None:
        checkpoint.check(Path("last.pt"), content, recipe, data_digest="d", seed=0, weights_sha256="a")

    check({**old, "weights_sha256": "a"})
    check(old, here.but("test.detection", weights="there.safetensors"))
    for other in (old, {**old, "weights_sha256": None}, {**old, "recipe": to_dict(here), "weights_sha256": "b"}):
        with pytest.raises(BadCheckpoint, match=r"last\.pt has another recipe: weights is (there\.safetensors|b) there"):
            check(other)


def test_training_with_images_without_objects(tmp_path: Path) -> None:
    root = voc(
        tmp_path / "own",
        {**{name: xml() for name in "abc"}, **{name: xml([("cat", (1, 1, 9, 9))]) for name in "de"}},
        {"train": list("abcd"), "val": ["e"]},
    )
    Image.open(root / "JPEGImages" / "a.jpg").convert("L").save(root / "JPEGImages" / "a.jpg")
    (root / "classes.txt").write_text("cat\n")
    location = AnnotatedLocation("voc", root)
    found = run(BOXES.but("own", data="voc", epochs=1, warmup_steps=0), tmp_path / "out", location, micro_batch=1)
    assert found["voc_ap50"] is not None
