"""The device of a run, by the name that the user gives. Importing this module does not import torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from trickzoo.errors import BadOption, check_choice

if TYPE_CHECKING:
    import torch

Device = Literal["auto", "cpu", "cuda", "mps"]
"""A kind of device. "auto" is an accelerator if there is one, otherwise the CPU."""


def on_cpu(device: Device) -> bool:
    """Return whether to compute on the CPU.

    Raises BadOption for another kind of device, or if PyTorch does not find the accelerator that is asked for.
    """
    import torch

    check_choice("--device", device, get_args(Device))
    if (device == "cuda" and not torch.cuda.is_available()) or (device == "mps" and not torch.backends.mps.is_available()):
        raise BadOption(f"--device {device}: PyTorch finds no such device; use --device cpu, or auto for the one that it finds")
    # without a GPU, accelerate sees a single process unless it is told to use the CPU
    return device == "cpu" or not torch.accelerator.is_available()


def find(device: Device) -> torch.device:
    """Return the device. Raises BadOption if PyTorch does not find the accelerator that is asked for."""
    import torch

    return (None if on_cpu(device) else torch.accelerator.current_accelerator()) or torch.device("cpu")
