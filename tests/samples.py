"""Samples for worker processes, in a module that is imported in little time: several tests start new processes with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset


@dataclass
class Made:
    key: Any
    tensors: tuple[Tensor, ...]
    words: str = ""


class Samples(Dataset[Made]):
    """Samples with tensors of several types and shapes, including empty and transposed ones."""

    def __getitem__(self, key: tuple[int, Tensor]) -> Made:
        index, draws = key
        transposed = torch.arange(6.0).view(2, 3).T
        return Made(key, (torch.full((index, 3), index, dtype=torch.int16), torch.tensor([index]), transposed, draws * 2), f"{index}")
