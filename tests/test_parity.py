"""Parity: every weight of the manifest gives the same outputs in the zoo's network as in the upstream network.

The files are not here, so each upstream network is filled with random numbers, BatchNorm statistics included, saved as its publisher
saves it, and loaded the way a user loads it. A wrong name, stride, epsilon, activation or pool shows as another number.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterator
from math import sqrt
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from timm.models import efficientnet
from torch import Tensor, nn
from torchvision.transforms.v2.functional import normalize

import trickzoo
from trickzoo import registry
from trickzoo.backbone import Backbone
from trickzoo.weights import convert, manifest, store
from trickzoo.weights.record import Record

RECORDS = {name: record for name, record in manifest.records().items() if record.layout != "trickzoo"}
BLOCKS = ("stages.0", "stages.1", "stages.2", "stages.3")

TIMM = {  # the zoo's name → timm's name, with the arguments that timm needs
    "resnet18": ("resnet18", {}),
    "resnet34": ("resnet34", {}),
    "resnet50_b": ("resnet50", {}),
    "resnet101_b": ("resnet101", {}),
    "resnet152_b": ("resnet152", {}),
    "resnet18_c": ("resnet18", {"stem_type": "deep", "stem_width": 32}),
    "resnet34_c": ("resnet34", {"stem_type": "deep", "stem_width": 32}),
    "resnet50_c": ("resnet50c", {}),
    "resnet101_c": ("resnet101c", {}),
    "resnet152_c": ("resnet152c", {}),
    "resnet18_d": ("resnet18d", {}),
    "resnet34_d": ("resnet34d", {}),
    "resnet50_d": ("resnet50d", {}),
    "resnet101_d": ("resnet101d", {}),
    "resnet152_d": ("resnet152d", {}),
    "mobilenet_v1_025": ("mobilenetv1_100", {"channel_multiplier": 0.25}),
    "mobilenet_v1_050": ("mobilenetv1_100", {"channel_multiplier": 0.5}),
    "mobilenet_v1_075": ("mobilenetv1_100", {"channel_multiplier": 0.75}),
    "mobilenet_v1_100": ("mobilenetv1_100", {}),
    "inception_v3": ("inception_v3", {}),
}
TORCHVISION = {
    "resnet18": "resnet18",
    "resnet34": "resnet34",
    "resnet50_b": "resnet50",
    "resnet101_b": "resnet101",
    "resnet152_b": "resnet152",
    "inception_v3": "inception_v3",
}
LAYERS = dict(zip(BLOCKS, ("layer1", "layer2", "layer3", "layer4"), strict=True))
TAPS = {  # the zoo's feature map → the upstream module that outputs it
    ("resnet", "timm"): {"stem": "act1", **LAYERS},
    ("resnet", "torchvision"): {"stem": "relu", **LAYERS},
    ("mobilenet_v1", "timm"): {"stem": "bn1", **{f"stages.{i}": f"blocks.{i}" for i in range(5)}},
    ("inception_v3", "timm"): (
        inception := {"stem": "Conv2d_2b_3x3"} | dict(zip(BLOCKS, ("Conv2d_4a_3x3", "Mixed_5d", "Mixed_6e", "Mixed_7c"), strict=True))
    ),
    ("inception_v3", "torchvision"): inception,
}


def in_timm(model: str, **options: Any) -> nn.Module:
    """Return a network of timm on the meta device."""
    name, own = TIMM[model]
    # timm has no names for MobileNets with fewer channels, but its generator can build them
    make = efficientnet._gen_mobilenet_v1 if "channel_multiplier" in own else timm.create_model
    with torch.device("meta"):
        return make(name, **own, **options)


def in_torchvision(model: str, **options: Any) -> nn.Module:
    """Return a network of torchvision on the meta device."""
    inception = {"transform_input": False, "aux_logits": True, "init_weights": False} if model == "inception_v3" else {}
    with torch.device("meta"):
        return getattr(torchvision.models, TORCHVISION[model])(weights=None, **inception, **options)


LIBRARIES = {"timm": in_timm, "torchvision": in_torchvision}


def filled(network: nn.Module, seed: int = 0) -> nn.Module:
    """Fill the network with random weights that keep the scale of the signal: He (fan in), and small last norms in residual blocks."""
    generator = torch.Generator().manual_seed(seed)
    network = network.to_empty(device="cpu").eval()

    def uniform(tensor: Tensor, low: float, high: float) -> None:
        tensor.uniform_(low, high, generator=generator)

    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                gain = 2 if isinstance(module, nn.Conv2d) else 1
                module.weight.normal_(0, sqrt(gain / module.weight[0].numel()), generator=generator)
                if module.bias is not None:
                    uniform(module.bias, -0.1, 0.1)
            elif isinstance(module, nn.BatchNorm2d):
                uniform(module.weight, 0.8, 1.2)
                uniform(module.bias, -0.1, 0.1)
                uniform(module.running_mean, -0.1, 0.1)
                uniform(module.running_var, 0.5, 1.5)
                module.num_batches_tracked.fill_(7)
        for block in network.modules():
            if hasattr(block, "downsample"):
                (block.bn3 if hasattr(block, "bn3") else block.bn2).weight.mul_(0.2)
    return network


@torch.inference_mode()
def run(network: nn.Module, x: Tensor, taps: dict[str, str]) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the output of a network, and the outputs of the modules in `taps` by the zoo's names."""
    maps: dict[str, Tensor] = {}
    hooks = [
        network.get_submodule(path).register_forward_hook(lambda *call, name=name: maps.__setitem__(name, call[-1].clone()))
        for name, path in taps.items()
    ]
    output = network(x)
    for hook in hooks:
        hook.remove()
    return output, maps


def images(model: str) -> Tensor:
    """Return a batch of two small images with odd sides."""
    size = (107, 131) if model == "inception_v3" else (97, 65)
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))


class Upstream(NamedTuple):
    """A file in an upstream layout, and the outputs of the upstream network for `images`."""

    file: Path
    logits: Tensor
    maps: dict[str, Tensor]


@pytest.fixture(scope="module")
def upstream() -> Iterator[Callable[..., Upstream]]:
    """Return `upstream(library, model, **options)`, which builds each upstream network once. Its files are deleted with the module."""
    with tempfile.TemporaryDirectory() as folder:

        @functools.cache
        def make(library: str, model: str, **options: Any) -> Upstream:
            network = filled(LIBRARIES[library](model, **options))
            file = Path(folder) / f"{library}-{model}-{len(options)}.safetensors"
            save_file(network.state_dict(), file)
            network.aux_logits = False  # the auxiliary head is in the file, but running it takes 299 pixels
            logits, maps = run(network, images(model), TAPS[registry.find(model).family, library])
            assert 0.05 < logits.std() < 20, "random networks must stay well scaled, or 1e-4 means nothing"
            assert all(0.05 < m.std() < 20 for m in maps.values())
            return Upstream(file, logits, maps)

        yield make


def assert_same(model: Backbone, expected: Upstream) -> None:
    """Compare logits and maps. Those of Inception are taken from `forward`, because `forward_pyramid` pads; others from the pyramid."""
    x = images(model.name)
    assert not model.weights.not_loaded
    logits, maps = run(model, x, {info.name: info.name for info in model.feature_info})
    torch.testing.assert_close(logits, expected.logits, atol=1e-4, rtol=0)
    assert maps.keys() == expected.maps.keys()
    if model.name != "inception_v3":
        with torch.inference_mode():
            maps = model.forward_pyramid(x)
    for name, actual in maps.items():
        torch.testing.assert_close(actual, expected.maps[name], atol=1e-4, rtol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("name", RECORDS)
def test_every_weight_of_the_manifest(name: str, upstream: Callable[..., Upstream], monkeypatch: pytest.MonkeyPatch) -> None:
    record = RECORDS[name]
    options: dict[str, Any] = {"num_classes": 0} if record.classes == "none" else {}
    if name == "inception_v3.tv_in1k":
        options["aux_logits"] = True
    library = "torchvision" if record.layout == "torchvision" else "timm"
    expected = upstream(library, record.model, **options)
    monkeypatch.setattr(store, "fetch", lambda wanted: store.WeightFile(wanted.name, expected.file, "0" * 64, "a test"))
    model = trickzoo.create(name)
    assert_same(model, expected)
    assert model.weights.record == record
    assert model.num_classes == (0 if record.classes == "none" else 1000)


@pytest.mark.parametrize(("library", "model"), [("timm", model) for model in TIMM] + [("torchvision", model) for model in TORCHVISION])
def test_every_upstream_file_is_recognised(library: str, model: str, upstream: Callable[..., Upstream]) -> None:
    expected = upstream(library, model)
    assert_same(trickzoo.create(model, weights=expected.file), expected)


@pytest.mark.parametrize(("library", "model"), [("timm", model) for model in TIMM] + [("torchvision", "inception_v3")])
def test_names_map_one_to_one(library: str, model: str) -> None:
    """Both networks have the auxiliary head of Inception."""
    second = model == "inception_v3"
    theirs = LIBRARIES[library](model, **({"aux_logits": True} if second and library == "timm" else {}))
    ours = trickzoo.create(model, device="meta", **({"aux_head": True} if second else {})).state_dict()
    names = convert.key_map(registry.find(model), library, ours)
    assert {key: ours[own].shape for key, own in names.items()} == {key: t.shape for key, t in theirs.state_dict().items()}


def test_record_combines_the_normalisation_and_rescaling_of_torchvision(upstream: Callable[..., Upstream]) -> None:
    """Torchvision normalises images as for ImageNet and rescales them inside the network; the record combines both steps."""
    prepared = RECORDS["inception_v3.torchvision_in1k"].preprocessing
    theirs = filled(in_torchvision("inception_v3"))
    theirs.transform_input = True
    ours = trickzoo.create("inception_v3", weights=upstream("torchvision", "inception_v3").file)
    pixels = torch.rand(1, 3, 107, 107)
    with torch.inference_mode():
        expected = theirs(normalize(pixels, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
        torch.testing.assert_close(ours(normalize(pixels, [*prepared.mean], [*prepared.std])), expected, atol=1e-4, rtol=0)


def test_auxiliary_head_of_inception(upstream: Callable[..., Upstream]) -> None:
    theirs = filled(in_timm("inception_v3", aux_logits=True))
    ours = trickzoo.create("inception_v3", weights=upstream("timm", "inception_v3", aux_logits=True).file, aux_head=True)
    x = torch.randn(1, 3, 299, 299)
    with torch.inference_mode():
        for actual, expected in zip(ours.forward_with_aux(x), theirs(x), strict=True):
            torch.testing.assert_close(actual, expected, atol=1e-4, rtol=0)


def test_original_bottleneck_is_that_of_torchvision_with_its_stride_moved() -> None:
    """No upstream library has this network. It is torchvision's with the stride moved and a bias in the 1x1 convolutions."""
    theirs = filled(in_torchvision("resnet50_b"))
    for layer in (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4):
        layer[0].conv1.stride, layer[0].conv2.stride = layer[0].conv2.stride, (1, 1)
        for block in layer:
            for conv in (block.conv1, block.conv3):
                conv.bias = nn.Parameter(torch.randn(conv.out_channels) * 0.1)
    ours = trickzoo.create("resnet50").eval()
    names = convert.key_map(registry.find("resnet50_b"), "torchvision", ours.state_dict())
    ours.load_state_dict({names[key]: value for key, value in theirs.state_dict().items()})
    x = images("resnet50")
    with torch.inference_mode():
        torch.testing.assert_close(ours(x), theirs(x), atol=1e-4, rtol=0)


@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("model", ["resnet18", "resnet50_b", "resnet50_c", "resnet50_d", "mobilenet_v1_100"])
def test_dilated_networks(model: str, output_stride: int, upstream: Callable[..., Upstream]) -> None:
    """Dilated networks agree with timm, except D: timm pools in the shortcut of a dilated stage, the official implementation does not."""
    theirs = filled(in_timm(model, output_stride=output_stride))
    pools = 0
    for module in theirs.modules():
        for name, child in module.named_children():
            if type(child).__name__ == "AvgPool2dSame":
                setattr(module, name, nn.Identity())
                pools += 1
    assert pools == ({8: 2, 16: 1}[output_stride] if model == "resnet50_d" else 0)
    logits, maps = run(theirs, images(model), TAPS[registry.find(model).family, "timm"])
    file = upstream("timm", model).file
    assert_same(trickzoo.create(model, weights=file, output_stride=output_stride), Upstream(file, logits, maps))


# ---------------------------------------------------------------------------------------------------------------------
# the manifest against the registries of the upstream libraries

HUB = [record for record in RECORDS.values() if record.sources[0].hub]
LICENCES = {  # records whose licence differs from timm's, and why
    "inception_v3.tv_in1k": "bsd-3-clause",  # the weights are torchvision's; timm's entry has the default of its file
    "resnet50_b.bamboo": "unknown",  # timm states none
}


def upstream_config(record: Record) -> Any:
    return timm.get_pretrained_cfg(record.sources[0].hub.removeprefix("timm/"))


@pytest.mark.parametrize("record", HUB, ids=lambda record: record.name)
def test_record_agrees_with_timm(record: Record) -> None:
    architecture, _ = TIMM[record.model]
    assert record.sources[0].hub == f"timm/{architecture}.{record.tag}"
    if f"{architecture}.{record.tag}" not in timm.list_pretrained(f"{architecture}.*"):
        pytest.skip("this release of timm does not have it")
    config = upstream_config(record)
    assert (config.architecture, config.tag) == (architecture, record.tag)
    test = config.test_input_size is not None
    prepared = record.preprocessing
    assert prepared.size == (config.test_input_size if test else config.input_size)[-1]
    assert prepared.crop == (config.test_crop_pct if test and config.test_crop_pct else config.crop_pct)
    assert prepared.interpolation == config.interpolation
    assert (prepared.mean, prepared.std) == (config.mean, config.std)
    if config.license is not None or record.name in LICENCES:  # releases of timm before October 2025 state no licence
        assert record.licence == LICENCES.get(record.name, config.license)
    assert not config.url or config.url in {source.url for source in record.sources}
    assert (record.classes == "none") == (config.num_classes == 0)


@pytest.mark.parametrize("model", TORCHVISION)
def test_record_agrees_with_torchvision(model: str) -> None:
    for weights in torchvision.models.get_model_weights(TORCHVISION[model]):
        [record] = [r for r in RECORDS.values() if r.model == model and weights.url in {source.url for source in r.sources}]
        accuracy = weights.meta["_metrics"]["ImageNet-1K"]
        stated = [(m.top1, m.top5) for m in record.metrics if "torchvision" in m.source]
        assert stated == [(accuracy["acc@1"], accuracy["acc@5"])]
        assert record.licence == "bsd-3-clause"
        theirs, ours = weights.transforms(), record.preprocessing
        assert (ours.size, ours.short_side) == (theirs.crop_size[0], theirs.resize_size[0])
        assert ours.interpolation == theirs.interpolation.value
