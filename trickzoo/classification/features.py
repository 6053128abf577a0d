"""The features of images: the pooled values that a network's classifier gets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from trickzoo.backbone import Backbone
from trickzoo.classification.evaluate import ACCELERATOR_BATCH, BATCH
from trickzoo.data.batches import not_none
from trickzoo.data.imageset import Decoded, ImageSet, ReadImage
from trickzoo.data.transforms import normalise, resize_and_crop
from trickzoo.data.workers import computed, in_order
from trickzoo.errors import BadCheckpoint, BadData
from trickzoo.weights.record import Preprocessing


def extract(
    model: Backbone,
    images: ImageSet,
    preprocessing: Preprocessing,
    *,
    device: torch.device,
    workers: int = 2,
    progress: Callable[[int], None] = lambda done: None,
) -> Tensor:
    """Return the (n, num_features) float32 features of all images of a set, on the CPU.

    On a CPU each worker decodes images and also runs the model on them, on one thread. A model on an accelerator runs in this process.

    Args:
        model: the network, whose classifier is not used.
        images: the set.
        preprocessing: how images are prepared for the network.
        device: where the network runs.
        workers: number of worker processes; with 0 everything runs in this process.
        progress: called after each batch with its number of images.

    Raises BadData for an image that cannot be read, BadCheckpoint for features that are not finite.
    """
    on_cpu = device.type == "cpu"
    network = model.to(device).to(memory_format=torch.channels_last).eval()
    share = Decoded(images, resize_and_crop(preprocessing, model.in_chans), range(len(images.entries)))
    batches = in_order(len(share), BATCH if on_cpu else ACCELERATOR_BATCH)
    rows: list[Tensor] = []
    for found in computed(share, batches, workers, _Features(network, preprocessing, device), by_workers=on_cpu):
        for features, error in found:
            if error:
                raise BadData(f"{error}; leave such images out, and count them, with --skip-corrupt")
            rows.append(features)
        progress(len(found))
    features = torch.stack(rows)
    if not features.isfinite().all():
        raise BadCheckpoint(f"{model.name} gives features that are not finite; the weights are damaged")
    return features


@dataclass(frozen=True)
class _Features:
    """Computes the features of a batch of images, in this process or in a worker, each with the error of its image if it has one."""

    network: Backbone
    preprocessing: Preprocessing
    device: torch.device

    @torch.inference_mode()
    def __call__(self, samples: list[ReadImage]) -> list[tuple[Tensor, str]]:
        found = [(torch.empty(0), sample.error) for sample in samples]
        readable = [i for i, sample in enumerate(samples) if sample.pixels is not None]
        if readable:
            pixels = torch.stack([not_none(samples[i].pixels) for i in readable]).to(self.device)
            images = normalise(pixels, self.preprocessing).contiguous(memory_format=torch.channels_last)
            features = self.network.forward_head(self.network.forward_features(images), pre_logits=True)
            for i, row in zip(readable, features.float().cpu(), strict=True):
                found[i] = (row.clone(), "")  # a view would be sent to the other process together with the whole batch
        return found
