"""Deployed networks compute what the network computes, in every engine, at every size, and in other processes."""

from __future__ import annotations

import ast
import copy
import importlib.util
import multiprocessing
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.utils.prune
from PIL import Image
from torch import Tensor, nn

import trickzoo
from tests.deployment import NO_BF16, logits, openvino_has_bf16
from trickzoo.backbone import Backbone
from trickzoo.data.shapes import Shapes
from trickzoo.data.transforms import Normalisation
from trickzoo.deployment.deploy import DeviationTooLarge
from trickzoo.deployment.deployed import Deployed
from trickzoo.deployment.forms import Forms, Unavailable
from trickzoo.errors import BadCheckpoint, BadOption
from trickzoo.folding import fold_norms
from trickzoo.weights.record import Preprocessing

BACKENDS = ("eager", "onnxruntime", "openvino")
WEIGHT = "mobilenet_v1_025.tz_imagenette128"


@pytest.fixture(scope="module")
def model() -> Backbone:
    return trickzoo.create(WEIGHT)


@pytest.fixture(scope="module")
def engines(model: Backbone) -> dict[str, Deployed]:
    return {name: trickzoo.deploy(model, name, threads=1) for name in BACKENDS}


@pytest.fixture(scope="module")
def drawings(model: Backbone) -> Tensor:
    """Forty drawings of shapes, prepared for the model."""
    images, _ = Shapes("train", 40, 96).arrays()
    return Normalisation.of(model)(torch.from_numpy(images).permute(0, 3, 1, 2))


@pytest.mark.parametrize("backend", BACKENDS)
def test_logits_are_those_of_the_network(backend: str, model: Backbone, engines: dict[str, Deployed]) -> None:
    deployed = engines[backend]
    assert deployed.backend == backend and 0 < deployed.deviation < 1e-4 and deployed.disagreement == 0
    for shape in ((1, 3, 128, 128), (5, 3, 128, 128), (2, 3, 97, 140), (2, 3, 33, 40)):
        images = torch.randn(shape).contiguous(memory_format=torch.channels_last)
        found = deployed(images.requires_grad_())
        assert not found.requires_grad
        torch.testing.assert_close(found, logits(model, images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_results_are_not_overwritten_by_the_next_call(backend: str, engines: dict[str, Deployed]) -> None:
    first = engines[backend](torch.randn(2, 3, 96, 96))
    kept = first.clone()
    engines[backend](torch.randn(2, 3, 96, 96))
    assert torch.equal(first, kept)
    first += 1  # a tensor of inference mode would refuse


def test_the_network_is_not_changed(model: Backbone) -> None:
    before, mode = copy.deepcopy(model.state_dict()), model.training
    trickzoo.deploy(model.train(), "eager")
    assert model.training
    model.train(mode)
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def answer(deployed: Deployed, images: Tensor, queue: Any) -> None:
    queue.put(deployed.with_threads(1)(images).numpy())


@pytest.mark.parametrize("backend", BACKENDS)
def test_workers_open_their_own_engine_after_a_fork(backend: str, engines: dict[str, Deployed]) -> None:
    images = torch.randn(2, 3, 96, 96)
    expected = engines[backend](images)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    worker = context.Process(target=answer, args=(engines[backend], images, queue))
    worker.start()
    found = queue.get(timeout=60)
    worker.join()
    assert worker.exitcode == 0
    torch.testing.assert_close(torch.from_numpy(found), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_pickling(backend: str, engines: dict[str, Deployed]) -> None:
    images = torch.randn(2, 3, 96, 96)
    again = pickle.loads(pickle.dumps(engines[backend]))
    assert str(again) == str(engines[backend])
    torch.testing.assert_close(again(images), engines[backend](images))


def test_auto_takes_the_fastest_and_says_why(model: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trickzoo.deployment.deploy.SECONDS", 0.0)
    found = importlib.util.find_spec
    monkeypatch.setattr("trickzoo.deployment.forms.find_spec", lambda name: None if name == "openvino" else found(name))
    deployed = trickzoo.deploy(model, batch_size=2)
    assert set(deployed.rates) == {"eager", "onnxruntime"}
    assert deployed.backend == max(deployed.rates, key=lambda name: deployed.rates[name])
    assert f"{deployed.backend} is the fastest at batch 2" in str(deployed)
    assert "openvino left out: openvino needs the package openvino; pip install 'trickzoo[openvino]'" in str(deployed)
    assert 'inductor left out: it takes minutes to compile; trickzoo.deploy tries it with backend="inductor"' in str(deployed)


def test_auto_without_an_engine_says_why(model: Backbone, drawings: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trickzoo.deployment.forms.find_spec", lambda name: None)
    with pytest.raises(Unavailable, match=r"no engine runs this network in int8: eager has no int8, .*openvino needs the package openvino"):
        trickzoo.deploy(model, precision="int8", images=drawings)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_int8(backend: str, model: Backbone, drawings: Tensor) -> None:
    deployed = trickzoo.deploy(model, backend, "int8", images=drawings)
    expected = logits(model, drawings)
    found = deployed(drawings)
    assert deployed.disagreement == float((found.argmax(1) != expected.argmax(1)).double().mean()) <= 0.05
    assert 0.01 < deployed.deviation < 0.2 * deployed.scale, "the deviation of 8 bits"
    torch.testing.assert_close(deployed(drawings[:1]), found[:1])


def test_int8_quantises_every_convolution_and_keeps_a_scale_for_each_channel(model: Backbone, drawings: Tensor) -> None:
    forms = Forms(fold_norms(copy.deepcopy(model)), [drawings[:4]])
    graph = onnx.load_from_string(forms.onnx_int8).graph
    made_by, constants = {node.output[0]: node for node in graph.node}, {each.name: each for each in graph.initializer}
    layers = [node for node in graph.node if node.op_type in ("Conv", "Gemm")]
    assert len(layers) == sum(isinstance(layer, nn.Conv2d | nn.Linear) for layer in model.modules())
    for layer in layers:
        image, weight = (made_by[name] for name in layer.input[:2])
        assert image.op_type == weight.op_type == "DequantizeLinear"
        assert constants[weight.input[0]].data_type == onnx.TensorProto.INT8
        numbers = onnx.numpy_helper.to_array(constants[weight.input[0]]).astype(int)
        depthwise = numbers.ndim == 4 and numbers.shape[1] == 1
        assert np.abs(numbers).max() == (127 if depthwise else 64), "2 × 255 × 64 < 2¹⁵, so the sum of two products fits into 16 bits"
        assert constants[image.input[2]].data_type == onnx.TensorProto.UINT8
        if layer.op_type == "Conv":
            assert list(constants[weight.input[1]].dims) == [constants[weight.input[0]].dims[0]]


def test_int8_is_refused_if_predictions_change(model: Backbone, drawings: Tensor) -> None:
    with pytest.raises(DeviationTooLarge, match=r"onnxruntime in int8 changes \d.*% of the predictions on 40 images, and -100.0% are"):
        trickzoo.deploy(model, "onnxruntime", "int8", images=drawings, tolerance=-1)
    with pytest.raises(BadOption, match="int8 is calibrated on your images; pass"):
        trickzoo.deploy(model, "onnxruntime", "int8")
    with pytest.raises(BadOption, match="needs a network of two classes or more"):
        trickzoo.deploy(trickzoo.create("mobilenet_v1_025", num_classes=0), "onnxruntime", "int8", images=drawings)


@pytest.mark.parametrize("backend", ["eager", "openvino"])
def test_bf16(backend: str, model: Backbone, drawings: Tensor) -> None:
    if backend == "openvino" and not openvino_has_bf16():
        with pytest.raises(Unavailable, match=NO_BF16):
            trickzoo.deploy(model, backend, "bf16", images=drawings)
        return
    deployed = trickzoo.deploy(model, backend, "bf16", images=drawings)
    found, expected = deployed(drawings), logits(model, drawings)
    assert found.dtype == torch.float32
    assert deployed.deviation == float((found - expected).abs().max()) < 0.1 * deployed.scale
    with pytest.raises(DeviationTooLarge, match=f"{backend} in bf16 changes a logit by .* and 0 is accepted"):
        trickzoo.deploy(model, backend, "bf16", images=drawings, tolerance=0)


@pytest.mark.parametrize(("backend", "precision"), [("onnxruntime", "bf16"), ("eager", "int8"), ("inductor", "int8")])
def test_precisions_that_an_engine_lacks(backend: str, precision: str, model: Backbone, drawings: Tensor) -> None:
    with pytest.raises(Unavailable, match=f"{backend} has no {precision}, which .*openvino.* have"):
        trickzoo.deploy(model, backend, precision, images=drawings)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_inductor(precision: str, model: Backbone) -> None:
    deployed = trickzoo.deploy(model, "inductor", precision, threads=1)
    again = pickle.loads(pickle.dumps(deployed))
    for batch in (1, 5, 16):
        images = torch.randn(batch, 3, 128, 128)
        expected = logits(model, images)
        bound = {"fp32": 1e-4, "bf16": 0.1}[precision] * float(expected.abs().max())
        torch.testing.assert_close(deployed(images), expected, rtol=0, atol=bound)
        assert torch.equal(again(images), deployed(images))
    with pytest.raises(BadOption, match="compiled for images of 128×128 pixels, not 97×140"):
        deployed(torch.randn(2, 3, 97, 140))


def test_a_large_deviation_is_refused(model: Backbone) -> None:
    with pytest.raises(DeviationTooLarge, match=r"eager in fp32 changes a logit by .*, and 0 is accepted"):
        trickzoo.deploy(model, "eager", tolerance=0)


def test_paths_are_prepared_as_the_weights_require(model: Backbone, tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (150, 200, 3), dtype=np.uint8)).save(path)
    prepared = trickzoo.eval_transform(model)(Image.open(path))[None]
    by_path, by_tensor = (trickzoo.deploy(model, "eager", images=images) for images in ([path], prepared))
    assert by_path.scale == by_tensor.scale == float(logits(model, prepared).abs().max())


@pytest.mark.parametrize("backend", BACKENDS)
def test_segmenters(backend: str) -> None:
    torch.manual_seed(0)
    segmenter = trickzoo.segmentation.fcn("mobilenet_v1_025", num_classes=4, output_stride=16, norms="frozen")
    deployed = trickzoo.deploy(segmenter, backend, images=torch.randn(1, 3, 64, 96))
    images = torch.randn(2, 3, 70, 50)
    torch.testing.assert_close(deployed(images), logits(segmenter.eval(), images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_images_of_any_size(backend: str) -> None:
    """OpenVINO returned the logits of the call before for an image that was smaller than the poolings of ResNet-D."""
    torch.manual_seed(0)
    segmenter = trickzoo.segmentation.fcn("resnet18_d", num_classes=4, output_stride=16)
    deployed = trickzoo.deploy(segmenter, backend, images=torch.randn(1, 3, 65, 49), threads=1)
    for size in ((64, 64), (33, 50), (50, 33), (9, 70), (8, 8), (1, 40), (3, 1), (1, 1)):
        images = torch.randn(1, 3, *size)
        torch.testing.assert_close(deployed(images), logits(segmenter.eval(), images), rtol=1e-4, atol=1e-5)


def test_images_of_several_sizes_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    segmenter = trickzoo.segmentation.fcn("mobilenet_v1_025", num_classes=4, output_stride=16)
    images = [torch.randn(1, 3, 64, 96), torch.randn(2, 3, 33, 50)]
    expected = [logits(segmenter.eval(), part) for part in images]
    deployed = trickzoo.deploy(segmenter, "onnxruntime", images=images)
    assert deployed.scale == max(float(part.abs().max()) for part in expected)
    assert 0 < deployed.deviation < 1e-4 * deployed.scale
    compute = Deployed.__call__
    monkeypatch.setattr(Deployed, "__call__", lambda self, part: compute(self, part) + (part.shape[2] == 33))
    with pytest.raises(DeviationTooLarge, match="onnxruntime in fp32 changes a logit by 1"):
        trickzoo.deploy(segmenter, "onnxruntime", images=images)
    with pytest.raises(BadOption, match="images must be N×3×H×W float32, not 3×64×64"):
        trickzoo.deploy(segmenter, "eager", images=[images[0], torch.zeros(3, 64, 64)])


def test_openvino_keeps_no_machine_code_for_each_size(monkeypatch: pytest.MonkeyPatch, engines: dict[str, Deployed]) -> None:
    import openvino

    settings: list[dict[str, Any]] = []
    compiled = openvino.Core.compile_model
    monkeypatch.setattr(openvino.Core, "compile_model", lambda *args: settings.append(args[-1]) or compiled(*args))  # type: ignore[func-returns-value]
    engines["openvino"].engine.open(1)(torch.zeros(1, 3, 32, 32))
    assert settings[0]["CPU_RUNTIME_CACHE_CAPACITY"] == 0


def test_generated_images_have_the_networks_channels() -> None:
    deployed = trickzoo.deploy(trickzoo.create("mobilenet_v1_025", in_chans=4, num_classes=3), "eager")
    assert deployed(torch.randn(1, 4, 64, 64)).shape == (1, 3)


def test_networks_are_deployed_one_at_a_time(model: Backbone) -> None:
    """Torch cannot trace two networks at the same time."""
    images = torch.randn(2, 3, 64, 64)
    with ThreadPoolExecutor(4) as pool:
        for deployed in pool.map(lambda _: trickzoo.deploy(model, "eager"), range(8)):
            torch.testing.assert_close(deployed(images), logits(model, images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_settings_of_the_caller_do_not_change_the_logits(backend: str, model: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mixed precision, a default device and a default dtype are for other networks."""
    images = torch.randn(2, 3, 64, 64)
    expected = logits(model, images)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.autocast("cpu", torch.bfloat16), torch.device("meta"):
            deployed = trickzoo.deploy(model, backend)
            found = deployed(images)
    finally:
        torch.set_default_dtype(default)
    assert deployed.deviation < 1e-4
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_network_with_computed_weights(model: Backbone) -> None:
    network, images = copy.deepcopy(model), torch.randn(2, 3, 64, 64)
    convolution = next(layer for layer in network.modules() if isinstance(layer, nn.Conv2d))
    nn.utils.parametrizations.weight_norm(convolution)
    assert network.in_chans == 3
    torch.testing.assert_close(trickzoo.deploy(network, "eager")(images), logits(network, images), rtol=1e-4, atol=1e-4)
    nn.utils.parametrize.remove_parametrizations(convolution, "weight")
    nn.utils.prune.l1_unstructured(convolution, "weight", 0.5)
    with pytest.raises(BadOption, match=r"weights that are computed, which cannot be copied; torch.nn.utils.prune.remove"):
        trickzoo.deploy(network, "eager")
    nn.utils.prune.remove(convolution, "weight")
    torch.testing.assert_close(trickzoo.deploy(network, "eager")(images), logits(network, images), rtol=1e-4, atol=1e-4)


def test_a_preprocessing_replaces_that_of_the_weights(tmp_path: Path) -> None:
    network = trickzoo.create("mobilenet_v1_025", num_classes=3).eval()  # of no weights
    preprocessing = Preprocessing(size=64, mean=(0.0, 0.0, 0.0), std=(0.001, 0.001, 0.001))
    Image.new("RGB", (80, 80), (200, 30, 90)).save(tmp_path / "a.png")
    trickzoo.deploy(network, "eager", images=[tmp_path / "a.png"], preprocessing=preprocessing)
    trickzoo.deploy(network, "eager", images=torch.full((1, 3, 64, 64), 999.0), preprocessing=preprocessing)


def test_wrong_inputs(engines: dict[str, Deployed]) -> None:
    for images in (torch.zeros(3, 64, 64), torch.zeros(1, 1, 64, 64), torch.zeros(1, 3, 64, 64, dtype=torch.uint8)):
        with pytest.raises(BadOption, match="takes N×3×H×W float32 images, not"):
            engines["eager"](images)
    for images, found in (
        (np.zeros((1, 3, 64, 64)), "in a tensor, not ndarray"),
        (torch.zeros(1, 3, 64, 64, device="meta"), "on the CPU, not on meta"),
    ):
        with pytest.raises(BadOption, match=f"takes N×3×H×W float32 images {found}"):
            engines["eager"](images)
    with pytest.raises(BadOption, match="threads must be 1 or more"):
        engines["eager"].with_threads(0)


@pytest.mark.parametrize("path", sorted(Path(trickzoo.__file__).parent.rglob("*.py")), ids=lambda path: path.stem)
def test_engines_are_imported_when_they_are_used(path: Path) -> None:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not {name.partition(".")[0] for name in names} & {"onnx", "onnxruntime", "onnxscript", "openvino"}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_an_image_that_is_not_finite_gets_no_logits(backend: str, value: float, engines: dict[str, Deployed]) -> None:
    """Its logits are NaN in every engine, and those of the other images in the batch are as without it."""
    images = torch.randn(3, 3, 64, 64)
    expected = engines[backend](images)
    images[1, 2, 5, 7] = value
    found = engines[backend](images)
    assert found[1].isnan().all()
    torch.testing.assert_close(found[[0, 2]], expected[[0, 2]])
    large = torch.full((1, 3, 64, 64), 1e36)
    assert not large.sum().isfinite() and engines[backend](large).shape == (1, 10)  # finite images whose sum is not
    torch.testing.assert_close(engines[backend](torch.cat([images[:1], large]))[:1], expected[:1])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(1, 3, 0, 64), (1, 3, 64, 0)])
def test_images_without_pixels_are_refused(backend: str, shape: tuple[int, ...], engines: dict[str, Deployed]) -> None:
    with pytest.raises(BadOption, match=f"takes N×3×H×W float32 images, not {'×'.join(map(str, shape))} float32"):
        engines[backend](torch.zeros(shape))


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_networks_and_images_that_are_not_finite_are_not_deployed(precision: str, model: Backbone, drawings: Tensor) -> None:
    for value in (torch.nan, torch.inf):
        images = drawings.clone()
        images[0, 0, 0, 0] = value
        with pytest.raises(BadOption, match="deploy: images must be finite, and some values are not"):
            trickzoo.deploy(model, "onnxruntime", precision, images=images)
        damaged = copy.deepcopy(model)
        nn.init.constant_(damaged.head.fc.bias, value)  # type: ignore[arg-type]
        with pytest.raises(BadCheckpoint, match=r"^mobilenet_v1_025 gives logits that are not finite; the weights are damaged$"):
            trickzoo.deploy(damaged, "onnxruntime", precision, images=drawings)
