"""Low precision: what accelerate is told, and the processors on which bf16 is slow."""

from __future__ import annotations

import pytest

from trickzoo import environment
from trickzoo.errors import BadOption
from trickzoo.tricks import low_precision
from trickzoo.tricks.low_precision import emulates_bf16, mixed_precision

FLAGS = {word for key in ("flags", "Features") for word in environment._cpuinfo().get(key, "").split()}
"""The instructions that the processor has, by Linux's names; nothing on other systems."""


def test_low_precision_names_what_accelerate_takes() -> None:
    assert [mixed_precision(name, accelerator=True) for name in ("fp32", "fp16", "bf16")] == ["no", "fp16", "bf16"]
    assert mixed_precision("bf16", accelerator=False) == "bf16"
    with pytest.raises(BadOption, match="fp16 needs an accelerator"):
        mixed_precision("fp16", accelerator=False)


@pytest.mark.skipif(not FLAGS, reason="only Linux lists the instructions of the processor")
def test_bf16_is_emulated_on_processors_without_its_instructions() -> None:
    assert emulates_bf16() == FLAGS.isdisjoint({"avx512bw", "avx_ne_convert", "bf16"})


def test_emulated_bf16_is_warned_of(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    for emulated in (False, True):
        monkeypatch.setattr(low_precision, "emulates_bf16", lambda emulated=emulated: emulated)
        caplog.clear()
        for precision in ("fp32", "bf16"):
            mixed_precision(precision, accelerator=True)
            mixed_precision(precision, accelerator=False)
        assert [record.getMessage().partition(",")[0] for record in caplog.records] == [
            "this processor has no bf16 instructions"
        ] * emulated
