"""RoIAlign (He et al., arXiv 1703.06870) on the levels of a feature pyramid, faster on CPUs than torchvision's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import MultiScaleRoIAlign

from trickzoo.backbone import FeatureInfo
from trickzoo.data.interpolation import weighted_sums

SAMPLES = 2
"""Number of points along each side of an output cell whose mean it is."""


class RoIAlign(MultiScaleRoIAlign):
    """torchvision's RoIAlign of several levels, with scales that are declared and with a fast implementation for CPUs.

    torchvision infers the scales from the sizes of the first maps. Its kernel for CPUs goes through the maps channel by channel, and its
    backward pass uses one thread. Here each output cell is a weighted sum of rows of channels, an embedding bag, which PyTorch computes
    with vector instructions and on all threads. The two differ by rounding errors.

    Args:
        levels: the levels of the backbone that RoIs are pooled from.
        cells: height and width of the output, in cells.
    """

    def __init__(self, levels: Sequence[FeatureInfo], cells: int) -> None:
        super().__init__([level.name for level in levels], cells, sampling_ratio=SAMPLES)
        side = max(level.stride for level in levels)
        with torch.device("cpu"):  # on the meta device, no scale could be read
            maps = {level.name: torch.zeros(1, 1, side // level.stride, side // level.stride) for level in levels}
            super().forward(maps, [torch.zeros(1, 4)], [(side, side)])  # sets the scales

    def forward(self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]) -> Tensor:
        """Return the (R, C, *output_size) features in the boxes of all images, each from the level that suits its size.

        `x` has a (N, C, H, W) map for each level. `boxes` has the (r, 4) corners x0, y0, x1, y1 in pixels of each of the N images.
        `image_shapes` is not used.
        """
        maps = [x[name] for name in self.featmap_names]
        if maps[0].device.type != "cpu" or self.sampling_ratio < 1:
            return super().forward(x, boxes, image_shapes)
        corners = torch.cat(boxes).detach()
        image = torch.cat([torch.full((len(each),), number) for number, each in enumerate(boxes)])
        level = self.map_levels(boxes).clamp(0, len(maps) - 1) if len(maps) > 1 else torch.zeros_like(image)
        rows = torch.cat([each.permute(0, 2, 3, 1).flatten(0, 2) for each in maps])  # a row for each cell of each map, with its channels
        rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
        lengths = torch.tensor([len(each) * each[0, 0].numel() for each in maps])
        height, width = torch.tensor([each.shape[2:] for each in maps])[level].unbind(1)
        begin = (lengths.cumsum(0) - lengths)[level] + image * height * width  # the first row of the map of each RoI
        x0, y0, x1, y1 = (corners * torch.tensor(self.scales)[level, None]).to(rows.dtype).unbind(1)
        rows_out, columns_out = self.output_size
        number = torch.full_like(level, self.sampling_ratio)
        vertical = weighted_sums(y0, (y1 - y0).clamp(min=1) / rows_out, rows_out, height, number)
        horizontal = weighted_sums(x0, (x1 - x0).clamp(min=1) / columns_out, columns_out, width, number)
        lines = begin[:, None, None] + vertical.places * width[:, None, None]
        bags = lines[:, :, None, :, None] + horizontal.places[:, None, :, None, :]
        weights = vertical.weights[:, :, None, :, None] * horizontal.weights[:, None, :, None, :]
        bags, weights = (each.flatten(3).flatten(0, 2) for each in (bags, weights))
        pooled = F.embedding_bag(bags, rows, mode="sum", per_sample_weights=weights)
        return pooled.to(maps[0].dtype).unflatten(0, (len(corners), rows_out, columns_out)).permute(0, 3, 1, 2)
