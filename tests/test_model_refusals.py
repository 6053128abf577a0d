"""What backbones refuse: options, parts, tensors and images that do not fit, with the remedy in one line."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import trickzoo
from tests.backbones import FAMILIES, differing, shape_of, tensors
from trickzoo.backbone import METHODS
from trickzoo.detection import faster_rcnn
from trickzoo.errors import BadCheckpoint, BadOption
from trickzoo.models.resnet import BasicBlock, ResNet
from trickzoo.segmentation import segmenter


@pytest.mark.parametrize(
    ("name", "output_stride", "words"),
    [
        ("inception_v3", 16, "Inception V3: output_stride must be 32"),
        ("resnet50_d", 4, "8 or 16 or 32"),
        ("mobilenet_v1_025", 64, "8 or 16"),
    ],
)
def test_output_stride_that_does_not_exist(name: str, output_stride: int, words: str) -> None:
    with pytest.raises(BadOption, match=words):
        trickzoo.create(name, output_stride=output_stride)


@pytest.mark.parametrize("options", [{"num_classes": -1}, {"in_chans": 0}, {"drop_rate": 1.5}])
def test_options_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(BadOption, match=f"resnet18: {next(iter(options))} cannot be"):
        trickzoo.create("resnet18", **options)
    with pytest.raises(BadOption, match="num_classes must be 0 or more"):
        shape_of("resnet18").reset_head(-1)


@pytest.mark.parametrize(
    "options", [{"num_classes": "10"}, {"num_classes": 10.0}, {"num_classes": True}, {"in_chans": "1"}, {"drop_rate": "0.1"}]
)
def test_options_of_another_type(options: dict[str, Any]) -> None:
    (option, value), *_ = options.items()
    with pytest.raises(BadOption, match=f"resnet18: {option} cannot be {value!r}"):
        trickzoo.create("resnet18", **options)


@pytest.mark.parametrize("value", ["3", 2.0, True, None])
def test_a_number_of_classes_of_another_type(value: Any) -> None:
    with pytest.raises(BadOption, match=f"num_classes must be 0 or more, not {value!r}"):
        shape_of("resnet18").reset_head(value)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        (None, {}, "create takes the name of a model or of a weight, or a path, not NoneType"),
        (nn.Linear, {}, "or a path, not type"),
        ("resnet18", {"pretrained": 1}, "resnet18: pretrained is True, False or a tag, not 1"),
        ("resnet18", {"pretrained": ["a"]}, r"pretrained is True, False or a tag, not \['a'\]"),
        ("resnet18", {"weights": "DEFAULT"}, "resnet18: weights is a tag or a file; pretrained=True loads the default weight"),
        ("hf-hub:timm/resnet18.a1_in1k", {}, "names weights on the hub; name a model, and give this as its weights"),
        ("resnet18", {"dtype": "float16"}, "dtype must be a floating-point type, such as torch.float16, not 'float16'"),
        ("resnet18", {"dtype": torch.int64}, "dtype must be a floating-point type"),
    ],
)
def test_arguments_of_another_type(name: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(BadOption, match=words):
        trickzoo.create(name, **options)


def test_a_state_dict_that_is_none_is_refused_as_by_torch() -> None:
    with pytest.raises(TypeError, match="Expected state_dict to be dict-like"):
        trickzoo.create("resnet18_d", device="meta").load_state_dict("model.pt")  # type: ignore[arg-type]


def test_a_part_under_the_name_of_another_library_is_refused() -> None:
    """The network would not use it, and would for example go on with its 1000 outputs in place of the ten of a new classifier."""
    model = trickzoo.create("resnet18_d", device="meta")
    for name, place in (
        ("fc", r"this part is head.fc, which reset_head\(n\) replaces"),
        ("classifier", "this part is head.fc"),
        ("conv1", "this part is in stem"),
        ("maxpool", "this part is pool"),
        ("layer4", r"this part is stages\[3\]"),
    ):
        with pytest.raises(BadOption, match=f"a ResNet of trickzoo has no {name}; {place}"):
            setattr(model, name, nn.Linear(512, 10))
        assert not hasattr(model, name)
    with pytest.raises(BadOption, match="head averages the last feature map before it classifies"):
        model.head = nn.Linear(512, 10)  # type: ignore[assignment]
    with pytest.raises(BadOption, match=r"a ResNet of trickzoo has no drop_rate; the rate of its dropout is head.drop_rate"):
        model.drop_rate = 0.5  # type: ignore[assignment]


def test_a_subclass_of_ones_own_may_use_any_name() -> None:
    class Doubled(ResNet):
        def __init__(self) -> None:
            super().__init__((1, 1, 1, 1), BasicBlock)
            self.blocks, self.drop_rate = nn.Linear(2, 2), 0.5

    own = Doubled()
    assert own.drop_rate == 0.5
    assert "blocks.weight" in own.state_dict()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fc", r"this part is head.fc, which reset_head\(n\) replaces"),
        ("reset_classifier", r"reset_head\(n\) replaces the classifier"),
        ("forward_intermediates", r"forward_pyramid\(x\) returns the feature maps"),
        ("default_cfg", "pretrained_cfg has the preprocessing of its weights"),
    ],
)
def test_a_member_of_another_library_is_answered_by_that_of_trickzoo(name: str, words: str) -> None:
    with pytest.raises(AttributeError, match=f"a MobileNetV1 of trickzoo has no {name}; {words}"):
        getattr(shape_of("mobilenet_v1_025"), name)
    with pytest.raises(AttributeError, match="'MobileNetV1' object has no attribute 'nothing'"):
        shape_of("mobilenet_v1_025").nothing  # noqa: B018


@pytest.mark.parametrize("name", sorted(METHODS))
def test_members_of_other_libraries_are_no_members_here(name: str) -> None:
    """An entry that is outdated would say that a network does not have what it has."""
    assert not hasattr(shape_of("resnet18_d"), name)


def test_parts_of_a_subclass_are_not_hidden() -> None:
    model = trickzoo.create("resnet18_d", device="meta")
    for name in ("parts", "methods", "other_tensors"):
        part = nn.Identity()
        setattr(model, name, part)
        assert getattr(model, name) is part


def test_a_part_of_a_segmenter_of_torchvision_is_refused() -> None:
    """The segmenter would not use it, and would go on with its own number of classes."""
    model = segmenter("mobilenet_v1_025", num_classes=3)
    for name, words in (("classifier", r"this part is head, and head\[-1\] gives the scores"), ("aux_classifier", "this part is aux_head")):
        for use in (lambda: setattr(model, name, nn.Conv2d(1, 5, 1)), lambda: getattr(model, name)):  # noqa: B023
            with pytest.raises((BadOption, AttributeError), match=f"a Segmenter of trickzoo has no {name}; {words}"):
                use()


@pytest.mark.parametrize("strict", [True, False])
def test_tensors_under_other_names_are_refused(strict: bool) -> None:
    """Without `strict`, PyTorch would load nothing without an error."""
    model = trickzoo.create("mobilenet_v1_025", num_classes=3)
    before = tensors(model)
    for prefix in ("module.", "backbone."):
        with pytest.raises(BadCheckpoint, match=r"none of these tensors has a name of mobilenet_v1_025 .*weights=FILE"):
            model.load_state_dict({prefix + name: tensor + 1 for name, tensor in before.items()}, strict=strict)
    assert not differing(before, model)
    for network in (segmenter("mobilenet_v1_025"), faster_rcnn("mobilenet_v1_025")):
        kept = tensors(network)
        words = rf"none of these tensors has a name of {type(network).__name__} .*of its attribute module"
        with pytest.raises(BadCheckpoint, match=words):
            network.load_state_dict({f"module.{name}": tensor + 1 for name, tensor in kept.items()}, strict=strict)
        assert not differing(kept, network)
    model.load_state_dict({name: before[name] + 1 for name in ("head.fc.weight",)}, strict=False)
    assert differing(before, model) == {"head.fc.weight"}


@pytest.mark.parametrize("around", [nn.DataParallel, torch.compile, lambda model: SimpleNamespace(network=model)])
def test_a_network_inside_another_object_is_refused_with_the_attribute_that_holds_it(around: Any, tmp_path: Path) -> None:
    given = around(trickzoo.create("mobilenet_v1_025", num_classes=3))
    wanted = next(name for name in ("module", "_orig_mod", "network") if hasattr(given, name))
    for function in (
        trickzoo.class_names,
        trickzoo.eval_transform,
        lambda model: trickzoo.train_transform("own.finetune", model),
        lambda model: trickzoo.export(model, tmp_path / "a.safetensors"),
        trickzoo.deploy,
    ):
        with pytest.raises(BadOption, match=f"not {type(given).__name__} around it; pass its attribute {wanted}"):
            function(given)


@pytest.mark.parametrize(
    ("name", "option", "words"),
    [
        ("mobilenet_v1_100", {"activaton": "relu6"}, 'mobilenet_v1_100 has no option "activaton"; did you mean activation?'),
        ("mobilenet_v1_100", {"activation": "gelu"}, 'MobileNet v1: activation must be "relu" or "relu6", not "gelu"'),
        ("inception_v3", {"transform_input": True}, 'inception_v3 has no option "transform_input"; it has aux_head'),
        ("resnet50_d", {"depth": 18}, 'resnet50_d has no option "depth"'),
        ("resnet50_d", {"num_class": 10}, 'resnet50_d has no option "num_class"; did you mean num_classes, in_chans?'),
        ("resnet50_d", {"features_only": True}, 'resnet50_d has no option "features_only"; forward_pyramid(x) returns the feature maps'),
        (
            "resnet50_d",
            {"drop_path_rate": 0.1},
            'resnet50_d has no option "drop_path_rate"; it has no stochastic depth, only dropout before the classifier, drop_rate',
        ),
        (
            "resnet50_d",
            {"norm_layer": nn.BatchNorm2d},
            'resnet50_d has no option "norm_layer"; its normalisation is BatchNorm, which freeze(…) can freeze',
        ),
        (
            "resnet50_d",
            {"replace_stride_with_dilation": (0, 1, 1)},
            'resnet50_d has no option "replace_stride_with_dilation"; output_stride=16 or 8 dilates the last stages',
        ),
        ("resnet50_d", {"checkpoint_path": "x.pth"}, 'resnet50_d has no option "checkpoint_path"; name the file with weights'),
        ("resnet50_d", {"progress": False}, 'resnet50_d has no option "progress"; downloads show their progress on a terminal'),
    ],
)
def test_options_of_a_family(name: str, option: dict[str, Any], words: str) -> None:
    with pytest.raises(BadOption) as error:
        trickzoo.create(name, **option)
    assert str(error.value) == words


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", FAMILIES)
def test_torchscript_is_refused_in_one_line(name: str) -> None:
    """A backbone inside another network is refused too."""
    model = shape_of(name)
    for network in (model, nn.Sequential(model)):
        with pytest.raises(BadOption, match=f"^{name} cannot be scripted, because torch has deprecated TorchScript; use torch.export"):
            torch.jit.script(network)


def test_images_that_are_too_small_for_inception_are_refused() -> None:
    model = trickzoo.create("inception_v3").eval()
    assert model(torch.zeros(1, 3, 75, 80)).shape == (1, 1000)
    with pytest.raises(BadOption, match="inception_v3 needs images of 75 × 75 pixels or more, not 80 × 74"):
        model(torch.zeros(1, 3, 74, 80))
