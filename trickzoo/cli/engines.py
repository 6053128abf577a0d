"""The options of `trickzoo-eval imagenet` for the machine: device, precision, and the engine that runs the network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from trickzoo.cli import options
from trickzoo.errors import BadOption
from trickzoo.recipes.ranges import Count

if TYPE_CHECKING:
    from accelerate import PartialState

    from trickzoo.backbone import Backbone
    from trickzoo.data.imageset import ImageSet
    from trickzoo.deployment.deployed import Deployed
    from trickzoo.weights.record import Preprocessing


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Running:
    """How the evaluation runs on this machine."""

    batch_size: Annotated[
        int | None,
        options.within(Count),
        Parameter(help="Images per batch; by default 8 on a CPU, for each worker, and 64 on a GPU, for each process."),
    ] = None
    workers: options.Workers = None
    device: options.Device = "auto"
    precision: Annotated[
        Literal["fp32", "bf16", "fp16", "int8"],
        Parameter(help="Precision of the network's arithmetic. int8 needs --calibration, and --backend onnxruntime or openvino."),
    ] = "fp32"
    calibration: Annotated[
        Path | None, Parameter(help="Folder with images for --precision int8, which must not be among those of the evaluation.")
    ] = None
    backend: Annotated[
        Literal["eager", "auto", "onnxruntime", "openvino"],
        Parameter(help="Engine that runs the network on a CPU; auto takes the fastest that is installed. See trickzoo.deploy."),
    ] = "eager"

    def __post_init__(self) -> None:
        options.check_calibration(self.precision, self.calibration)
        if self.precision == "int8" and self.backend == "eager":
            raise BadOption("--precision int8 needs --backend onnxruntime or openvino")

    def deployed(
        self, network: Backbone, images: ImageSet, preprocessing: Preprocessing, workers: int, state: PartialState
    ) -> Deployed | None:
        """Deploy a network to the engine that `--backend` names; None for eager.

        Its logits are compared with eager's on the first images of the set, or for int8 on those of the calibration.
        """
        if self.backend == "eager":
            return None
        import torch

        from trickzoo.classification.evaluate import BATCH
        from trickzoo.data.imageset import Decoded
        from trickzoo.data.transforms import normalise, resize_and_crop
        from trickzoo.deployment.deploy import deploy

        if state.device.type != "cpu":
            raise BadOption(f"--backend {self.backend} runs on a CPU, not on {state.device}; use --device cpu, or leave --backend out")
        if self.precision == "fp16":
            raise BadOption(f"--backend {self.backend} has no fp16 on a CPU; use --precision bf16 or fp32")
        if self.backend == "auto" and state.num_processes > 1:
            raise BadOption("--backend auto would let each process choose for itself; name a backend")
        threads = 1 if workers else None  # each worker has one core
        settings: dict[str, Any] = {"batch_size": self.batch_size or BATCH, "threads": threads}
        if self.precision == "int8":
            calibration = options.calibration_images(self.calibration)
            return deploy(network, self.backend, "int8", images=calibration, preprocessing=preprocessing, **settings)
        first = Decoded(images, resize_and_crop(preprocessing), range(min(settings["batch_size"], len(images.entries))))
        pixels = [sample.pixels for sample in map(first.__getitem__, range(len(first))) if sample.pixels is not None]
        checked = normalise(torch.stack(pixels), preprocessing) if pixels else None
        return deploy(network, self.backend, self.precision, images=checked, **settings)
