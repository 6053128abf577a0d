"""Parity: every weight of the manifest gives the same outputs in the zoo's network as in the upstream network.

The files are not here, so each upstream network is filled with random numbers, BatchNorm statistics included, saved as its publisher
saves it, and loaded the way a user loads it. A wrong name, stride, epsilon, activation or pool shows as another number.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
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
from tests import openmmlab
from tests.checkpoints import same
from trickzoo import registry
from trickzoo.backbone import Backbone
from trickzoo.errors import BadCheckpoint
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
    "resnet50_s": ("resnet50s", {}),
    "resnet101_s": ("resnet101s", {}),
    "resnet152_s": ("resnet152s", {}),
    "mobilenet_v1_025": ("mobilenetv1_100", {"channel_multiplier": 0.25}),
    "mobilenet_v1_050": ("mobilenetv1_100", {"channel_multiplier": 0.5}),
    "mobilenet_v1_075": ("mobilenetv1_100", {"channel_multiplier": 0.75}),
    "mobilenet_v1_100": ("mobilenetv1_100", {}),
    "mobilenet_v1_100h": ("mobilenetv1_100h", {}),
    "mobilenet_v1_125": ("mobilenetv1_125", {}),
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
OPENMMLAB = [f"resnet{depth}{letter}" for depth in (50, 101, 152) for letter in ("_b", "_c", "_d")] + ["resnet18", "resnet34", "resnet34_d"]
MMCV = ["resnet50", "resnet101", "resnet18_c", "resnet50_c", "resnet101_c", "resnet50_d"]
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


@contextmanager
def without_memory() -> Iterator[None]:
    """Build networks on the meta device, and skip the initial values of their layers, whose shapes torch would compute in Python."""
    with torch.device("meta"), pytest.MonkeyPatch.context() as patch:
        for name in ("kaiming_normal_", "kaiming_uniform_"):
            patch.setattr(nn.init, name, lambda tensor, **_: tensor)
        yield


def in_timm(model: str, **options: Any) -> nn.Module:
    """Return a network of timm on the meta device."""
    name, own = TIMM[model]
    # timm has no names for MobileNets with fewer channels, but its generator can build them
    make = efficientnet._gen_mobilenet_v1 if "channel_multiplier" in own else timm.create_model
    with without_memory():
        return make(name, **own, **options)


def in_torchvision(model: str, **options: Any) -> nn.Module:
    """Return a network of torchvision on the meta device."""
    inception = {"transform_input": False, "aux_logits": True, "init_weights": False} if model == "inception_v3" else {}
    with without_memory():
        return getattr(torchvision.models, TORCHVISION[model])(weights=None, **inception, **options)


def in_openmmlab(model: str) -> nn.Module:
    """Return a network of MMPretrain, restated, on the meta device."""
    options = registry.find(model).options
    with without_memory():
        return openmmlab.classifier(options["depth"], options["letter"])


def in_mmcv(model: str, num_classes: int = 0) -> nn.Module:
    """Return a backbone of MMCV's list, restated, on the meta device."""
    options = registry.find(model).options
    with without_memory():
        return openmmlab.bare(options["depth"], options["letter"])


LIBRARIES = {"timm": in_timm, "torchvision": in_torchvision, "openmmlab": in_openmmlab, "mmcv": in_mmcv}


@functools.cache
def numbers() -> Tensor:
    """Four million normal numbers. To draw anew for each of the 60 million weights of a ResNet-152 takes longer than to run it."""
    return torch.randn(2**22, generator=torch.Generator().manual_seed(0))


def filled(network: nn.Module, seed: int = 0) -> nn.Module:
    """Fill the network with random weights that keep the scale of the signal: He (fan in), and small last norms in residual blocks.

    The weights of each layer are successive `numbers`, from a random one on.
    """
    generator = torch.Generator().manual_seed(seed)
    network = network.to_empty(device="cpu").eval()

    def uniform(tensor: Tensor, low: float, high: float) -> None:
        tensor.uniform_(low, high, generator=generator)

    def normal(tensor: Tensor, std: float) -> None:
        first = int(torch.randint(len(numbers()) - tensor.numel(), (), generator=generator))
        torch.mul(numbers()[first : first + tensor.numel()].view_as(tensor), std, out=tensor)

    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                gain = 2 if isinstance(module, nn.Conv2d) else 1
                normal(module.weight, sqrt(gain / module.weight[0].numel()))
                if module.bias is not None:
                    uniform(module.bias, -0.1, 0.1)
            elif isinstance(module, nn.BatchNorm2d):
                uniform(module.weight, 0.8, 1.2)
                uniform(module.bias, -0.1, 0.1)
                uniform(module.running_mean, -0.1, 0.1)
                uniform(module.running_var, 0.5, 1.5)
                module.num_batches_tracked.fill_(7)
        for block in network.modules():
            if hasattr(block, "downsample") and hasattr(block, "bn2"):
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


class Key(NamedTuple):
    """What determines an upstream file: the library, the zoo's name of the network, the library's options, the order of the channels."""

    library: str
    model: str
    options: tuple[tuple[str, Any], ...] = ()
    channels: str = "rgb"

    def __str__(self) -> str:
        return "-".join([self.library, self.model, *(name for name, _ in self.options)])


@dataclass
class Upstream:
    """A file in an upstream layout, the outputs of the upstream network for `images`, and the zoo's network that has been compared."""

    model: str
    file: Path
    logits: Tensor
    maps: dict[str, Tensor]
    compared: Backbone | None = None


@contextmanager
def made(key: Key) -> Iterator[Upstream]:
    """Write the file of an upstream network with random numbers, and delete it at the end. It may have 240 MB."""
    network = filled(LIBRARIES[key.library](key.model, **dict(key.options)))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "upstream.safetensors"
        save_file(network.state_dict(), file)
        network.aux_logits = False  # the auxiliary head is in the file, but running it takes 299 pixels
        x = images(key.model)
        logits, maps = run(network, x.flip(1) if key.channels == "bgr" else x, taps(key))
        assert 0.05 < logits.std() < 20, "random networks must stay well scaled, or 1e-4 means nothing"
        assert all(0.05 < m.std() < 20 for m in maps.values())
        yield Upstream(key.model, file, logits, maps)


def taps(key: Key) -> dict[str, str]:
    """Return the upstream module that outputs each feature map of the zoo."""
    if key.library == "openmmlab":
        deep = key.model.endswith(("_c", "_d"))
        return {"stem": "backbone.stem" if deep else "backbone.relu"} | {name: f"backbone.{layer}" for name, layer in LAYERS.items()}
    if key.library == "mmcv":
        return {"stem": "stem" if key.model.endswith(("_c", "_d")) else "relu"} | LAYERS
    found = TAPS[registry.find(key.model).family, key.library]
    return found | {"stages.4": "bn2"} if key.model == "mobilenet_v1_100h" else found


@pytest.fixture(scope="module")
def upstream(request: pytest.FixtureRequest) -> Iterator[Upstream]:
    """An upstream file. Tests with the same key that follow one another share it; then it is deleted."""
    with made(request.param) as found:
        yield found


def assert_same(model: Backbone, expected: Upstream) -> None:
    """Compare logits and maps. Those of Inception are taken from `forward`, because `forward_pyramid` pads; others from the pyramid.

    A network with the same options and tensors as one that has been compared computes the same, and is not run again.
    """
    assert not model.weights.not_loaded
    done = expected.compared
    if done is not None and (done.name, done.options) == (model.name, model.options) and same(done, model):
        return
    x = images(model.name)
    logits, maps = run(model, x, {info.name: info.name for info in model.feature_info})
    torch.testing.assert_close(logits, expected.logits, atol=1e-4, rtol=0)
    assert maps.keys() == expected.maps.keys()
    if model.name != "inception_v3":
        with torch.inference_mode():
            maps = model.forward_pyramid(x)
    for name, actual in maps.items():
        torch.testing.assert_close(actual, expected.maps[name], atol=1e-4, rtol=1e-5, msg=lambda text, name=name: f"{name}: {text}")
    expected.compared = model


def key_of(record: Record) -> Key:
    options: dict[str, Any] = {"num_classes": 0} if record.classes == "none" else {}
    if record.name == "inception_v3.tv_in1k":
        options["aux_logits"] = True
    return Key(record.layout, record.model, tuple(options.items()), record.channels)


def cases() -> list[tuple[Key, str | None]]:
    """Return each upstream file with every weight of the manifest that has its names and shapes, and with None.

    None stands for a file that is recognised by its names. Those of the original bottleneck in MMCV's layout are not.
    """
    recognised = [Key("timm", model) for model in TIMM] + [Key("torchvision", model) for model in TORCHVISION]
    recognised += [Key("openmmlab", model) for model in OPENMMLAB]
    recognised += [Key("mmcv", model, (("num_classes", 0),)) for model in MMCV if "_" in model]
    found: dict[Key, list[str | None]] = {key: [None] for key in recognised}
    for name, record in RECORDS.items():
        found.setdefault(key_of(record), []).append(name)
    return [(key, name) for key, names in found.items() for name in names]


CASES = cases()


@pytest.mark.parametrize(("upstream", "name"), CASES, indirect=["upstream"], scope="module", ids=str)
def test_every_upstream_file(upstream: Upstream, name: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if name is None:
        assert_same(trickzoo.create(upstream.model, weights=upstream.file), upstream)
        return
    monkeypatch.setattr(store, "fetch", lambda wanted: store.WeightFile(wanted.name, upstream.file, "0" * 64, "a test"))
    model = trickzoo.create(name)
    assert_same(model, upstream)
    assert model.weights.record == RECORDS[name]
    assert model.num_classes == (0 if RECORDS[name].classes == "none" else 1000)


def test_every_weight_of_the_manifest_is_compared() -> None:
    assert {name for _, name in CASES if name is not None} == RECORDS.keys()


def test_a_bare_original_bottleneck_is_not_taken_for_the_original(tmp_path: Path) -> None:
    """Its names are those of torchvision's network, which has its stride elsewhere, so only a record can name it."""
    tensors = filled(in_mmcv("resnet50")).state_dict()
    del tensors["conv1.bias"]
    save_file(tensors, tmp_path / "bare.safetensors")
    with pytest.raises(BadCheckpoint, match=r"does not fit resnet50: .*resnet50_b"):
        trickzoo.create("resnet50", weights=tmp_path / "bare.safetensors")


def test_the_preprocessing_of_the_original_is_that_of_caffe() -> None:
    """The file's network takes BGR pixels in 0 to 255 minus a mean; the zoo's takes RGB, because the weights are reordered."""
    prepared = RECORDS["resnet50.msra_in1k"].preprocessing
    pixels = torch.rand(1, 3, 8, 8)
    theirs = pixels.flip(1) * 255 - torch.tensor([103.53, 116.28, 123.675]).view(3, 1, 1)
    torch.testing.assert_close(normalize(pixels, [*prepared.mean], [*prepared.std]).flip(1), theirs, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("library", "model"),
    [("timm", model) for model in TIMM]
    + [("torchvision", "inception_v3")]
    + [("openmmlab", model) for model in OPENMMLAB]
    + [("mmcv", model) for model in MMCV if "_" in model],
)
def test_names_map_one_to_one(library: str, model: str) -> None:
    """Both networks have the auxiliary head of Inception."""
    second = model == "inception_v3"
    theirs = LIBRARIES[library](model, **({"aux_logits": True} if second and library == "timm" else {}))
    ours = trickzoo.create(model, device="meta", num_classes=0 if library == "mmcv" else 1000, **({"aux_head": True} if second else {}))
    ours = ours.state_dict()
    names = convert.key_map(registry.find(model), library, ours)
    assert {key: ours[own].shape for key, own in names.items()} == {key: t.shape for key, t in theirs.state_dict().items()}


def test_record_combines_the_normalisation_and_rescaling_of_torchvision() -> None:
    """Torchvision normalises images as for ImageNet and rescales them inside the network; the record combines both steps."""
    prepared = RECORDS["inception_v3.torchvision_in1k"].preprocessing
    theirs = filled(in_torchvision("inception_v3"))
    theirs.transform_input = True
    with made(Key("torchvision", "inception_v3")) as upstream:
        ours = trickzoo.create("inception_v3", weights=upstream.file)
    pixels = torch.rand(1, 3, 107, 107)
    with torch.inference_mode():
        expected = theirs(normalize(pixels, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
        torch.testing.assert_close(ours(normalize(pixels, [*prepared.mean], [*prepared.std])), expected, atol=1e-4, rtol=0)


def test_auxiliary_head_of_inception() -> None:
    theirs = filled(in_timm("inception_v3", aux_logits=True))
    with made(Key("timm", "inception_v3", (("aux_logits", True),))) as upstream:
        ours = trickzoo.create("inception_v3", weights=upstream.file, aux_head=True)
    x = torch.randn(1, 3, 299, 299)
    with torch.inference_mode():
        for actual, expected in zip(ours.forward_with_aux(x), theirs(x), strict=True):
            torch.testing.assert_close(actual, expected, atol=1e-4, rtol=0)


def test_original_bottleneck_is_that_of_torchvision_with_its_stride_moved() -> None:
    """No PyTorch library has the network with biases, as GluonCV has it: torchvision's with the stride moved, and biases in the 1x1s."""
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


DILATED = [Key("timm", model) for model in ("resnet18", "resnet50_b", "resnet50_c", "resnet50_d", "mobilenet_v1_100")]


@pytest.mark.parametrize(
    ("upstream", "output_stride"), [(key, stride) for key in DILATED for stride in (8, 16)], indirect=["upstream"], scope="module"
)
def test_dilated_networks(upstream: Upstream, output_stride: int) -> None:
    """Dilated networks agree with timm, except D: timm pools in the shortcut of a dilated stage, the official implementation does not."""
    model = upstream.model
    theirs = filled(in_timm(model, output_stride=output_stride))
    pools = 0
    for module in theirs.modules():
        for name, child in module.named_children():
            if type(child).__name__ == "AvgPool2dSame":
                setattr(module, name, nn.Identity())
                pools += 1
    assert pools == ({8: 2, 16: 1}[output_stride] if model == "resnet50_d" else 0)
    logits, maps = run(theirs, images(model), TAPS[registry.find(model).family, "timm"])
    assert_same(
        trickzoo.create(model, weights=upstream.file, output_stride=output_stride),
        replace(upstream, logits=logits, maps=maps, compared=None),
    )


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
