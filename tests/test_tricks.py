"""Every trick against its formula, computed another way. No bias decay and low precision have files of their own."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from importlib import import_module
from inspect import getmembers, isfunction, signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import beta, kstest
from torch import nn
from torch.nn import functional as F

import trickzoo
from trickzoo import tricks
from trickzoo.errors import BadOption, NoEffect
from trickzoo.models.resnet import BasicBlock
from trickzoo.tricks.cosine import cosine_factor
from trickzoo.tricks.cutmix import cutmix, rectangle
from trickzoo.tricks.distillation import distillation_loss
from trickzoo.tricks.ema import ema_decay, update_average
from trickzoo.tricks.initialisation import initialise
from trickzoo.tricks.label_smoothing import smooth_labels, soft_cross_entropy
from trickzoo.tricks.linear_scaling import scaled_lr
from trickzoo.tricks.low_precision import mixed_precision
from trickzoo.tricks.mixup import mixup
from trickzoo.tricks.progressive_size import training_size
from trickzoo.tricks.step_decay import step_factor
from trickzoo.tricks.warmup import warmup_factor
from trickzoo.tricks.zero_gamma import zero_last_gammas

FOLDER = Path(tricks.__file__).parent
TWO = torch.eye(2)
MISSPELT: dict[Callable[..., Any], tuple[Callable[[Any], Any], str]] = {
    cosine_factor: (lambda form: cosine_factor(0, 9, form=form), 'cosine decay: form must be "paper" or "official"'),
    distillation_loss: (lambda form: distillation_loss(TWO, TWO, TWO, form=form), 'distillation: form must be "paper" or "official"'),
    initialise: (lambda form: initialise(nn.Linear(1, 1), form=form), 'initialisation: form must be "paper", "official" or "he"'),
    mixed_precision: (lambda form: mixed_precision(form, accelerator=True), 'precision must be "fp32", "fp16" or "bf16"'),
    mixup: (lambda form: mixup(TWO, TWO, form=form), 'mixup: form must be "paper" or "official"'),
    smooth_labels: (lambda form: smooth_labels(torch.arange(2), 2, form=form), 'label smoothing: form must be "paper" or "uniform"'),
}
"""A call of each trick that has several forms, with the form as its argument, and the message if there is no such form."""


@pytest.mark.parametrize("path", sorted(FOLDER.glob("[a-z]*.py")), ids=lambda path: path.stem)
def test_every_trick_has_its_card(path: Path) -> None:
    card = path.with_suffix(".md").read_text(encoding="utf-8")
    for row in ("| why |", "| formula |", "| helps |", "| does not help |", "| in the paper |"):
        assert row in card


@pytest.mark.parametrize("trick", MISSPELT)
def test_a_misspelt_form_is_refused(trick: Callable[..., Any]) -> None:
    call, message = MISSPELT[trick]
    with pytest.raises(BadOption) as error:
        call("papr")
    assert str(error.value) == f'{message}, not "papr"'


def test_every_trick_with_forms_is_called_above() -> None:
    modules = [import_module(f"trickzoo.tricks.{path.stem}") for path in FOLDER.glob("[a-z]*.py")]
    functions = {function for module in modules for _, function in getmembers(module, isfunction)}
    assert {function for function in functions if "form" in signature(function).parameters} == MISSPELT.keys() - {mixed_precision}


def test_the_programs_on_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[1] / "docs" / "tricks.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for number in range(10):
        folder = tmp_path / "photos" / "train" / f"c{number}"
        folder.mkdir(parents=True)
        Image.new("RGB", (40, 30)).save(folder / "a.png")
    programs = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(programs) == 4
    torch.manual_seed(0)
    found: dict[str, Any] = {}
    for program in programs:
        exec(program, found)
        if "loss" in program:
            assert found["model"].training
    assert found["images"][0][0].shape == (3, 128, 128)
    loaded = trickzoo.load("model.safetensors")
    assert loaded.classes == tuple(found["images"].classes)
    assert loaded.transform(Image.new("RGB", (40, 30))).shape == (3, 128, 128)
    assert torch.isfinite(found["loss"])
    gammas = [m.bn2.weight for m in found["model"].modules() if isinstance(m, BasicBlock)]
    assert all(gamma.any() for gamma in gammas)  # they began at 0, and were trained
    assert found["optimiser"].param_groups[0]["lr"] == pytest.approx(0.1 * cosine_factor(3, 4))
    groups = found["fine_tuning"].param_groups
    assert {p for group in groups for p in group["params"]} == {p for p in found["model"].parameters() if p.requires_grad}
    for step in range(5):
        factor = 0.5 * (1 + math.cos(math.pi * min(step, 3) / 4))
        assert [group["lr"] for group in groups] == pytest.approx([factor * rate for rate in (0.01, 0.01, 0.1, 0.1)])
        found["fine_tuning"].step()
        found["schedule"].step()


def test_linear_scaling_gives_the_papers_rates() -> None:
    assert scaled_lr(0.1, 256) == pytest.approx(0.1)
    assert scaled_lr(0.1, 1024) == pytest.approx(0.4)
    assert scaled_lr(0.05, 32, per=64) == pytest.approx(0.025)
    with pytest.raises(BadOption, match="batch sizes must be 1 or more"):
        scaled_lr(0.1, 0)


def test_warmup_is_a_line_from_one_batch_to_the_full_rate() -> None:
    factors = [warmup_factor(i, 5) for i in range(8)]
    np.testing.assert_allclose(factors, np.minimum(np.arange(1, 9) / 5, 1))
    assert warmup_factor(0, 0) == 1


@settings(deadline=None)
@given(st.integers(2, 300))
def test_cosine_equals_torchs_and_the_released_scripts(steps: int) -> None:
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=steps)
    for step in range(steps):
        assert cosine_factor(step, steps) == pytest.approx(schedule.get_last_lr()[0], abs=1e-6)
        optimiser.step()
        schedule.step()
    official = 0.5 * (1 + np.cos(np.pi * np.arange(steps) / (steps - 1)))
    np.testing.assert_allclose([cosine_factor(i, steps, form="official") for i in range(steps)], official, atol=1e-12)


def test_cosine_outside_its_steps_is_an_error() -> None:
    for step in (-1, 10):
        with pytest.raises(BadOption, match="not among 10 steps"):
            cosine_factor(step, 10)


def test_step_decay_equals_torchs() -> None:
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [30, 60, 90], gamma=0.1)
    for epoch in range(120):
        assert step_factor(epoch, (30, 60, 90)) == pytest.approx(schedule.get_last_lr()[0])
        optimiser.step()
        schedule.step()


@pytest.mark.parametrize(("name", "blocks"), [("resnet18_d", 8), ("resnet50", 16), ("resnet50_d", 16)])
def test_zero_gamma_makes_every_block_its_shortcut(name: str, blocks: int) -> None:
    model = trickzoo.create(name, num_classes=3).eval()
    assert zero_last_gammas(model) == blocks
    x = torch.rand(2, 64, 8, 8)
    for stage in model.stages:
        for block in stage:
            x = F.relu(x)
            torch.testing.assert_close(block(x), F.relu(block.shortcut(x)))
            x = block(x)
    zeros = sum(int((m.weight == 0).all()) for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    assert zeros == blocks


@pytest.mark.parametrize("name", ["mobilenet_v1_025", "inception_v3"])
def test_zero_gamma_without_residual_blocks_says_so(name: str) -> None:
    with pytest.raises(NoEffect, match="zero gamma has no effect"):
        zero_last_gammas(trickzoo.create(name, device="meta"))


@given(st.integers(2, 50), st.floats(0, 0.9))
def test_smoothed_labels_are_distributions_of_both_forms(classes: int, epsilon: float) -> None:
    labels = torch.arange(classes) % classes
    paper, uniform = smooth_labels(labels, classes, epsilon), smooth_labels(labels, classes, epsilon, form="uniform")
    expected = torch.eye(classes) * (1 - epsilon) + (1 - torch.eye(classes)) * epsilon / (classes - 1)
    torch.testing.assert_close(paper, expected)
    torch.testing.assert_close(uniform, torch.eye(classes) * (1 - epsilon) + epsilon / classes)
    torch.testing.assert_close(uniform, smooth_labels(labels, classes, epsilon * (classes - 1) / classes))


def test_smoothed_loss_equals_torchs_and_has_the_papers_best_gap() -> None:
    logits, labels = torch.randn(8, 10), torch.randint(10, (8,))
    ours = soft_cross_entropy(logits, smooth_labels(labels, 10, 0.1, form="uniform"))
    torch.testing.assert_close(ours, F.cross_entropy(logits, labels, label_smoothing=0.1))
    # Section 5.2: the loss is least where the true logit leads the others by log((K - 1)(1 - ε) / ε).
    gap = torch.tensor(0.0, requires_grad=True)
    leading = torch.zeros(1, 10).index_fill(1, torch.tensor([0]), 1.0)
    for _ in range(3000):
        (gradient,) = torch.autograd.grad(soft_cross_entropy(leading * gap, smooth_labels(torch.tensor([0]), 10, 0.1)), gap)
        gap = (gap - 5 * gradient).detach().requires_grad_()
    assert gap.item() == pytest.approx(math.log(9 * 0.9 / 0.1), abs=1e-3)
    for epsilon, classes in ((1.0, 10), (-0.1, 10), (0.1, 1)):
        with pytest.raises(BadOption, match="label smoothing"):
            smooth_labels(torch.tensor([0]), classes, epsilon)


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_distillation_equals_kl_plus_the_teachers_entropy(temperature: float) -> None:
    student, teacher = torch.randn(6, 10, requires_grad=True), torch.randn(6, 10, requires_grad=True)
    hard = F.cross_entropy(student, torch.arange(6))
    p = F.softmax(teacher / temperature, 1)
    entropy = -(p * p.log()).sum(1).mean()
    soft = F.kl_div(F.log_softmax(student / temperature, 1), p, reduction="batchmean") + entropy
    paper = distillation_loss(student, teacher, hard, temperature=temperature)
    torch.testing.assert_close(paper, hard + temperature**2 * soft)
    official = distillation_loss(student, teacher, hard, temperature=temperature, form="official")
    torch.testing.assert_close(official, paper / 2)  # half the paper's scale
    paper.backward()
    assert teacher.grad is None
    with pytest.raises(BadOption, match=r"the student's have the shape \(6, 10\), the teacher's \(6, 7\)"):
        distillation_loss(student, torch.randn(6, 7), hard)
    with pytest.raises(BadOption, match=r"weights must be \(6,\), one for each image, not of shape \(6, 1\)"):
        distillation_loss(student, teacher, hard, weights=torch.ones(6, 1))


@pytest.mark.parametrize("labels", [torch.zeros(2, 3, dtype=torch.long), torch.zeros(2), torch.zeros(2, dtype=torch.bool)])
def test_labels_that_are_no_class_indices_are_not_smoothed(labels: torch.Tensor) -> None:
    with pytest.raises(BadOption, match=r"labels must be \(N,\) class indices, not the shape"):
        smooth_labels(labels, 3)


def test_class_indices_of_any_integer_type_are_smoothed() -> None:
    assert torch.equal(smooth_labels(torch.tensor([2, 0], dtype=torch.uint8), 3), smooth_labels(torch.tensor([2, 0]), 3))


@pytest.mark.parametrize("form", ["paper", "official"])
def test_mixup_mixes_images_and_targets_by_the_same_weights(form: str) -> None:
    n = 64
    images = torch.arange(n).float().view(n, 1, 1, 1).expand(n, 3, 2, 2)  # an image's value is its number, its target one-hot
    mixed, target = mixup(images, torch.eye(n), 0.2, form=form)  # type: ignore[arg-type]
    torch.testing.assert_close(target.sum(1), torch.ones(n))
    assert int((target > 0).sum(1).max()) <= 2
    torch.testing.assert_close(mixed, (target @ torch.arange(n).float()).view(n, 1, 1, 1).expand_as(mixed))
    own = target.diagonal()
    if form == "official":
        assert len({round(float(x), 5) for x in own}) == 1
        torch.testing.assert_close(target, own[0] * torch.eye(n) + (1 - own[0]) * torch.eye(n).flip(0))
    else:
        assert len(set(own.tolist())) > n // 2


def test_mixup_draws_from_the_beta_distribution() -> None:
    n = 2000
    lam = {alpha: mixup(torch.zeros(n, 1, 1, 1), torch.eye(n), alpha)[1].diagonal().numpy() for alpha in (0.2, 2.0)}
    assert kstest(lam[2.0], beta(2, 2).cdf).pvalue > 1e-3
    assert lam[0.2].mean() == pytest.approx(0.5, abs=0.03)
    assert lam[0.2].var() == pytest.approx(beta(0.2, 0.2).var(), rel=0.05)  # 1 / (4 (2 α + 1))


def test_mixup_of_one_image_says_so() -> None:
    with pytest.raises(NoEffect, match="batch has one image"):
        mixup(torch.rand(1, 3, 4, 4), torch.eye(1, 2))
    with pytest.raises(BadOption, match="alpha must be above 0"):
        mixup(torch.rand(2, 3, 4, 4), torch.eye(2), 0.0)


def test_class_indices_are_not_mixed_and_pixels_are_no_integers() -> None:
    images, labels = torch.rand(4, 3, 4, 4), torch.arange(4)
    for function in (mixup, cutmix, lambda images, target: soft_cross_entropy(images[:, 0, 0], target)):
        for target in (labels, labels[:, None], labels[:, None].float(), torch.eye(4).long()):
            wrong = rf"not the shape {re.escape(str(tuple(target.shape)))} of {target.dtype}; smooth_labels\(labels, "
            with pytest.raises(
                BadOption, match=rf"the target must be \(4, .\) floating-point probabilities of two or more classes, {wrong}"
            ):
                function(images, target)
    for logits, target in ((torch.randn(4, 1), torch.eye(4, 3)), (torch.randn(4, 3), torch.eye(4)), (torch.randn(4, 1), torch.ones(4, 1))):
        with pytest.raises(BadOption, match=rf"must be \(4, {logits.shape[1]}\) floating-point probabilities"):
            soft_cross_entropy(logits, target)
    with pytest.raises(BadOption, match=r"the images must have a floating-point type, not torch\.uint8"):
        mixup((255 * images).byte(), torch.eye(4))
    with pytest.raises(BadOption, match=r"mixup: the images must be \(N, C, H, W\), not of shape \(4, 4, 4\)"):
        mixup(images[:, 0], torch.eye(4))
    assert torch.equal(smooth_labels(labels, 4, 0.0), torch.eye(4))


@pytest.mark.parametrize("form", ["paper", "official", "he"])
def test_initialisation_has_the_stated_variance(form: str) -> None:
    model = trickzoo.create("resnet18_d", num_classes=1000)
    initialise(model, form=form)  # type: ignore[arg-type]
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 30_000:
            kernel = module.kernel_size[0] * module.kernel_size[1]
            fan_in, fan_out = module.in_channels * kernel, module.out_channels * kernel
            variance = {"paper": 2 / (fan_in + fan_out), "official": 1.882 / ((fan_in + fan_out) / 2), "he": 2 / fan_out}[form]
            assert module.weight.detach().var().item() == pytest.approx(variance, rel=0.05)
            if form == "paper":
                assert module.weight.detach().abs().max().item() <= math.sqrt(6 / (fan_in + fan_out))
        if isinstance(module, nn.BatchNorm2d):
            assert bool((module.weight == 1).all())
    if form != "he":
        assert model.head.fc.bias.detach().abs().max().item() == 0  # type: ignore[union-attr, operator]


# ---------------------------------------------------------------------------------------------------------------------
# not in the paper


def test_ema_is_the_weighted_sum_of_all_weights() -> None:
    model, average = (nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)) for _ in range(2))
    history, decays = [], []
    average.load_state_dict(model.state_dict())
    history.append(model[0].weight.detach().clone())
    for step in range(7):
        nn.init.normal_(model[0].weight)
        model(torch.randn(4, 2))
        decays.append(ema_decay(step, 0.4))
        update_average(average, model, decays[-1])
        history.append(model[0].weight.detach().clone())
    assert decays == pytest.approx([1 / 10, 2 / 11, 3 / 12, 4 / 13, 5 / 14, 0.4, 0.4])
    shares = [math.prod(decays[i:]) * (1 - decays[i - 1] if i else 1) for i in range(8)]
    assert sum(shares) == pytest.approx(1)
    expected = sum(share * weight for share, weight in zip(shares, history, strict=True))
    torch.testing.assert_close(average[0].weight.detach(), expected)
    assert average[1].num_batches_tracked == 7
    assert not torch.equal(average[1].running_mean, model[1].running_mean)


def test_ema_equals_torchs_averaged_model() -> None:
    model = nn.Linear(3, 3)
    theirs = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9))
    theirs.update_parameters(model)
    ours = nn.Linear(3, 3)
    ours.load_state_dict(model.state_dict())
    for _ in range(5):
        nn.init.normal_(model.weight)
        theirs.update_parameters(model)
        update_average(ours, model, 0.9)
    torch.testing.assert_close(ours.weight, theirs.module.weight)


def test_ema_of_a_network_in_another_dtype() -> None:
    model, average = nn.Linear(3, 3).bfloat16(), nn.Linear(3, 3).double()
    expected = 0.9 * average.weight.detach() + 0.1 * model.weight.detach().double()
    update_average(average, model, 0.9)
    torch.testing.assert_close(average.weight.detach(), expected)


@pytest.mark.parametrize("other", [nn.Linear(3, 1), nn.Linear(3, 3, bias=False), nn.Sequential(nn.Linear(3, 3))])
def test_ema_of_another_network_is_refused_before_anything_changes(other: nn.Module) -> None:
    """A tensor of one row would otherwise be averaged with each row of another."""
    average = nn.Linear(3, 3)
    before = average.weight.detach().clone()
    with pytest.raises(
        BadOption, match=r"ema: the average and the network have different tensors, such as .*; average a copy of the network"
    ):
        update_average(average, other, 0.9)
    assert torch.equal(average.weight, before)


@example(1e-16, 0.5, 0.5, 4, 4)  # a power rounds otherwise than a root
@settings(deadline=None)
@given(st.floats(0, 1), st.floats(0, 0.999), st.floats(0, 0.999), st.integers(4, 40), st.integers(4, 40))
def test_cutmix_rectangle_is_the_released_codes(lam: float, x: float, y: float, width: int, height: int) -> None:
    cut_rat = np.sqrt(1.0 - lam)  # rand_bbox of Yun et al., with its draws given
    cut_w, cut_h = int(width * cut_rat), int(height * cut_rat)
    cx, cy = int(x * width), int(y * height)
    expected = (
        np.clip(cx - cut_w // 2, 0, width),
        np.clip(cy - cut_h // 2, 0, height),
        np.clip(cx + cut_w // 2, 0, width),
        np.clip(cy + cut_h // 2, 0, height),
    )
    assert rectangle(lam, [x, y], width, height) == expected


def test_cutmix_mixes_targets_by_the_pasted_area() -> None:
    torch.manual_seed(0)
    n = 12
    images = torch.arange(n, dtype=torch.float32).view(n, 1, 1, 1).expand(n, 3, 9, 7)
    for _ in range(20):
        mixed, target = cutmix(images, torch.eye(n))
        for i in range(n):
            shares = torch.bincount(mixed[i, 0].flatten().long(), minlength=n) / 63
            torch.testing.assert_close(target[i], shares)
    with pytest.raises(NoEffect, match="cutmix"):
        cutmix(images[:1], torch.eye(1, 2))
    with pytest.raises(BadOption, match="alpha"):
        cutmix(images, torch.eye(n), 0.0)


def test_training_size_grows_on_a_line_to_the_full_size() -> None:
    assert [training_size(epoch, 10, 64, 128) for epoch in range(10)] == [64, 64, 80, 96, 96, 96, 112, 128, 128, 128]
    assert [training_size(epoch, 4, 20, 30, growth=0.5) for epoch in range(4)] == [20, 30, 30, 30]
    for first, growth in ((128, 0.8), (64, 0.0)):
        with pytest.raises(NoEffect, match="progressive size"):
            training_size(0, 10, first, 128, growth=growth)
