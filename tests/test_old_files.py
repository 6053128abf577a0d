"""Files of version 0.1.0 as they were before checkpoints had a digest still load: their names and headers are written down here.

A network of today's with the names of then stands for the tensors; that names, shapes and types are those of then is told by a digest.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import trickzoo
from tests.small_recipes import BOXES, MASKS
from tests.training import RECIPE
from trickzoo import detection, segmentation
from trickzoo.recipes.collection import stored
from trickzoo.training import checkpoint

SHAPES = ["arrow", "crescent", "cross", "disc", "heart", "hourglass", "ring", "square", "star", "triangle"]
RECIPES: dict[str, dict[str, Any]] = {
    "classification": json.loads(
        '{"name":"old","model":"mobilenet_v1_025","data":"shapes","size":32,"eval_size":null,"start_size":null,"growth":0.8,"crop":0.875,'
        '"interpolation":"bilinear","epochs":2,"batch_size":8,"lr":0.05,"momentum":0.9,"weight_decay":0.0001,"pretrained":null,'
        '"init":"paper","augmentation":{"area":[0.08,1.0],"aspect":[0.75,1.3333333333333333],"flip":0.5,"jitter":0.4,'
        '"jitter_third":"contrast","pca":0.1,"trivial":false,"erasing":0.0},"warmup_epochs":0.5,"schedule":"cosine",'
        '"milestones":[30,60,90],"cosine_form":"paper","zero_gamma":false,"decay_biases_and_norms":false,"precision":"fp32",'
        '"smoothing":0.1,"smoothing_form":"paper","mixup":0.0,"mixup_form":"paper","cutmix":0.0,"teacher":null,"temperature":20.0,'
        '"distillation_form":"paper","ema":0.0}'
    ),
    "detection": json.loads(
        '{"name":"test.detection","model":"mobilenet_v1_025","data":"shapes","weights":null,"epochs":2,"batch_size":4,"lr":0.02,'
        '"momentum":0.9,"weight_decay":0.0001,"warmup_steps":2,"warmup_start":0.3333333333333333,"schedule":"poly","milestones":[],'
        '"power":0.9,"trainable_stages":"all","norms":"live","precision":"fp32","short":48,"long":48,"flip":0.5,"neck":"fpn",'
        '"fpn_channels":16,"representation_size":16,"anchors":[8,16,32,48,64],"proposals":20,"rois":8,"settings":"voc"}'
    ),
    "segmentation": json.loads(
        '{"name":"test.segmentation","model":"mobilenet_v1_025","data":"shapes","weights":null,"epochs":2,"batch_size":4,"lr":0.02,'
        '"momentum":0.9,"weight_decay":0.0001,"warmup_steps":0,"warmup_start":0.3333333333333333,"schedule":"poly","milestones":[],'
        '"power":0.9,"trainable_stages":null,"norms":null,"precision":"fp32","base":48,"scale":[0.75,2.0],"crop":48,"flip":0.5,'
        '"blur":0.0,"short":48,"output_stride":16,"aux":0.5,"head_lr":10.0}'
    ),
}
CASES = pytest.mark.parametrize(
    ("task", "names"),
    [
        ("classification", "e54be88c893d9a51ec66c31af909301ad552423b8c453729da9a604dd88c1b70"),
        ("detection", "4be2b6fc5e2518a557123972033f657a0d271f8337cb8741d9853bc38704f1f5"),
        ("segmentation", "db783413c07dfaea2691d69d079f8df72712b56cf9d744cfb5f77213806f91db"),
    ],
)
KINDS = {"classification": type(RECIPE), "detection": type(BOXES), "segmentation": type(MASKS)}
DTYPES = {torch.float32: "F32", torch.int64: "I64"}


def network(task: str) -> nn.Module:
    """As its task builds it today."""
    if task == "classification":
        return trickzoo.create("mobilenet_v1_025", num_classes=10)
    return detection.task.build(BOXES, 10) if task == "detection" else segmentation.task.build(MASKS, 11)


def header(task: str) -> dict[str, Any]:
    """The metadata of a weight file."""
    preprocessing = {
        "size": 32,
        "crop": 0.875,
        "resize": None,
        "interpolation": "bilinear",
        "mean": [0.4, 0.4, 0.4],
        "std": [0.2, 0.2, 0.2],
    }
    classes = ["background", *SHAPES] if task == "segmentation" else SHAPES
    training = {"recipe": RECIPES[task], "seed": 0, "data": "generated shapes", "data_digest": "7d37", "commit": "e2b7", "versions": {}}
    own = {"model": "mobilenet_v1_025", "task": task, "layout": "trickzoo", "options": {}, "classes": classes, "source": None}
    return {**own, "preprocessing": preprocessing, "training": training}


@CASES
def test_weight_files_load(task: str, names: str, tmp_path: Path) -> None:
    tensors = network(task).state_dict()
    lines = (f"{key} {tuple(tensors[key].shape)} {DTYPES[tensors[key].dtype]}" for key in sorted(tensors))
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == names
    path = tmp_path / "model.safetensors"
    save_file({key: value.clone() for key, value in tensors.items()}, path, {"trickzoo": json.dumps(header(task))})
    if task == "classification":
        loaded: Any = trickzoo.create("mobilenet_v1_025", weights=path)
        assert loaded.weights.classes == tuple(SHAPES)
    else:
        loaded = (detection if task == "detection" else segmentation).load(path)
        assert loaded.classes == tuple(header(task)["classes"])
    assert all(torch.equal(value, tensors[key]) for key, value in loaded.state_dict().items())
    assert stored(path, KINDS[task]).name == RECIPES[task]["name"]


@CASES
def test_result_files_and_checkpoints_are_of_their_training(task: str, names: str, tmp_path: Path) -> None:
    """Of the training with today's recipe, whatever fields it has gained."""
    own = {"recipe": RECIPES[task], "seed": 0, "data_digest": "7d37", "val_digest": "75e3"}
    found = {"what": "training by old", "top1": 12.5, "n": 8, "n_train": 40, **own, "processes": 1, "wall_seconds": 2.9, "commit": "e2b7"}
    (tmp_path / "result.json").write_text(json.dumps(found))
    recipe: Any = stored(tmp_path / "result.json", KINDS[task])
    this: dict[str, Any] = {"seed": 0, "data_digest": "7d37", "val_digest": "75e3"}
    assert checkpoint.result(tmp_path / "result.json", recipe, **this, weights_sha256="a", teacher_sha256="b") == found
    state = {"step": 2, "best": 0.0, "evaluation": {}, "seconds": 1.5}
    tensors = {"model": {"w": torch.zeros(2)}, "average": None, "optimiser": {"state": {}, "param_groups": []}, "scaler": None}
    torch.save({**own, **state, "weights_sha256": None, "metadata": {}, **tensors}, tmp_path / "last.pt")
    content = checkpoint.load(tmp_path / "last.pt", recipe, **this)
    assert checkpoint.State.of(content) == checkpoint.State(step=2, seconds=1.5)
