"""Low precision (section 3.2): most of the arithmetic has 16 bits, while weights and their updates have 32."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch

from trickzoo.environment import is_first_process
from trickzoo.errors import BadOption, check_choice

if TYPE_CHECKING:
    from accelerate import Accelerator

log = logging.getLogger("trickzoo")

Precision = Literal["fp32", "fp16", "bf16"]


def emulates_bf16() -> bool:
    """Return whether PyTorch emulates bf16 on the CPU.

    Processors of the x86 family compute in bf16 from AVX512 on, and ARM ones with the bf16 extension.
    """
    return not (torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def warn_if_emulated(precision: str) -> None:
    """Log a warning if PyTorch emulates a precision on the CPU, which takes several times as long as fp32."""
    if precision == "bf16" and emulates_bf16() and is_first_process():
        log.warning("this processor has no bf16 instructions, so PyTorch emulates bf16 and is several times slower than in fp32; use fp32")


def mixed_precision(precision: Precision, *, accelerator: bool) -> str:
    """Return accelerate's name of a precision: "no", "fp16" (with dynamic loss scaling) or "bf16".

    Convolutions and matrix products run in 16 bits, reductions and the loss in 32. The weights and their gradients have 32 bits. fp16 has
    five bits of exponent, so small gradients are lost unless the loss is scaled up. A step whose gradients overflow is left out, and the
    scale is halved. bf16 has the range of 32 bits and needs no scaling.

    Without an accelerator, a warning is logged if the processor has no instructions for bf16.

    Raises BadOption for another precision, and for fp16 without an accelerator.
    """
    check_choice("precision", precision, get_args(Precision))
    if precision == "fp16" and not accelerator:
        raise BadOption("--precision fp16 needs an accelerator; take --precision bf16 or fp32")
    if not accelerator:
        warn_if_emulated(precision)
    return "no" if precision == "fp32" else precision


DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


def autocast(device: torch.device, precision: Precision) -> contextlib.AbstractContextManager[Any]:
    """Return the context in which a network without gradients computes in a precision on a device."""
    return contextlib.nullcontext() if precision == "fp32" else torch.autocast(device.type, DTYPES[precision])


def precision_of(accelerator: Accelerator) -> Precision:
    """Return the precision that an accelerator was made with by `mixed_precision`."""
    return "fp32" if accelerator.mixed_precision == "no" else accelerator.mixed_precision
