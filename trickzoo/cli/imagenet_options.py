"""The options of `trickzoo eval imagenet`: networks, images, files to write, the engine that runs the network, and corruptions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from trickzoo.cli import options
from trickzoo.cli.options import Flag
from trickzoo.data import corruption_names
from trickzoo.data.corruption_names import Corruption
from trickzoo.errors import BadOption
from trickzoo.recipes.ranges import Count
from trickzoo.wording import count, verb

if TYPE_CHECKING:
    from accelerate import PartialState

    from trickzoo.backbone import Backbone
    from trickzoo.data.imageset import ImageSet
    from trickzoo.deployment.deploy import Images
    from trickzoo.deployment.deployed import Deployed
    from trickzoo.weights.record import Preprocessing


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """The models to evaluate."""

    model: Annotated[
        list[str],
        Parameter(
            help="Models, weights, shell patterns of models, folders or files of training runs, or .onnx or .xml files of "
            "`trickzoo export`; repeat for several.",
            negative="",
        ),
    ]
    weights: Annotated[str | None, Parameter(help="Tag, file or hf-hub: reference; by default each model's default weight.")] = None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """The files to write."""

    out: Annotated[Path | None, Parameter(help="Write the results to this JSON file.")] = None
    per_class: Annotated[Path | None, Parameter(help="Write accuracy, precision and F1 of each class to this CSV file.")] = None
    predictions: Annotated[Path | None, Parameter(help="Write the five most probable classes of every image to this CSV file.")] = None
    report: options.Report = None
    pictures: options.Pictures = 0
    printing: options.PrintingOptions = options.PrintingOptions()


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """The images to evaluate on, and how their classes are matched with the model's."""

    split: Annotated[Literal["val", "train", "test"], Parameter(help="Split to evaluate on, if DATA has several.")] = "val"
    split_file: options.SplitFile = None
    folder: options.TableFolder = None
    devkit: Annotated[Path | None, Parameter(help="Devkit folder or archive, or LOC_val_solution.csv, if not beside DATA.")] = None
    classes: options.ClassesOrFolders = None
    variant: Annotated[
        Literal["v2", "a", "r", "sketch"] | None, Parameter(help="Check that DATA has the classes of ImageNet-V2, -A, -R or -Sketch.")
    ] = None
    labels: Annotated[
        str | None, Parameter(help="Also judge ImageNet's validation images by the reassessed labels: real, or a copy of real.json.")
    ] = None
    skip_corrupt: Annotated[bool, Flag, Parameter(help="Leave out and count files that cannot be read as images.")] = False
    skip_unknown: Annotated[bool, Flag, Parameter(help="Leave out and count images of class folders that the model does not know.")] = False


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """The engine that runs the network, its precision, and the use of this machine."""

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
        Path | None, Parameter(help="Folder with images for --precision int8. They should not be among those of the evaluation.")
    ] = None
    backend: options.Backend = "eager"

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
        import torch

        from trickzoo.classification.evaluate import BATCH
        from trickzoo.cli import common
        from trickzoo.data.imageset import Decoded
        from trickzoo.data.listing import warn
        from trickzoo.data.transforms import normalise, resize_and_crop

        batch_size = self.batch_size or BATCH

        def checked() -> Images | None:
            if self.precision == "int8":
                chosen = options.calibration_images(self.calibration) or []
                evaluated = {(images.root / entry.name).resolve() for entry in images.entries if entry.offset < 0}
                if shared := sum(path.resolve() in evaluated for path in chosen):
                    used = f"{verb(shared, 'is')} used for the calibration too"
                    warn(f"{count(shared, 'image')} of the evaluation {used}, so the accuracy may be too high; name other images")
                return chosen
            first = Decoded(images, resize_and_crop(preprocessing, network.in_chans), range(min(batch_size, len(images.entries))))
            pixels = [sample.pixels for sample in map(first.__getitem__, range(len(first))) if sample.pixels is not None]
            return normalise(torch.stack(pixels), preprocessing) if pixels else None

        return common.deployed(
            network,
            self.backend,
            self.precision,
            device=state.device,
            images=checked,
            processes=state.num_processes,
            preprocessing=preprocessing,
            batch_size=batch_size,
            threads=1 if workers else None,  # each worker has one core
        )


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class CorruptionOptions:
    """Common corruptions of the images, on which the model is evaluated too."""

    corruptions: Annotated[
        str | None,
        Parameter(
            help="Also evaluate on corrupted copies of each image: all, noise, blur, weather, digital, or names of kinds, with commas."
        ),
    ] = None
    severities: Annotated[str | None, Parameter(help="With --corruptions: the severities; by default 1,2,3,4,5.")] = None

    def parsed(self) -> tuple[Corruption, ...]:
        """Return the corruptions. Raises BadOption or UnknownName for one that does not exist."""
        if self.corruptions is None:
            if self.severities is not None:
                raise BadOption("--severities needs --corruptions, such as --corruptions all")
            return ()
        return corruption_names.parse(self.corruptions, self.severities)
