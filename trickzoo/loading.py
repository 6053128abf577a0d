"""Opens the network in any file or folder that trickzoo wrote, whatever its task, with everything that prediction needs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from trickzoo import classification, detection, registry, segmentation
from trickzoo.backbone import Backbone
from trickzoo.classification.model import logits_of
from trickzoo.data.annotated_transforms import FitAndFlip, Scale
from trickzoo.data.classes import class_list, describe_class
from trickzoo.data.images import read, rgb
from trickzoo.data.objects import Objects
from trickzoo.data.picture import Picture
from trickzoo.data.transforms import Normalisation, eval_transform
from trickzoo.deployment import predict as of_file
from trickzoo.deployment.opened import Exported, open_exported
from trickzoo.detection.evaluate import to_input
from trickzoo.detection.metrics import NamedDetections
from trickzoo.drawing import draw_boxes, draw_mask
from trickzoo.errors import BadCheckpoint, BadOption, shortened
from trickzoo.factory import create
from trickzoo.files import expanded
from trickzoo.tricks.low_precision import Precision, autocast
from trickzoo.weights import manifest
from trickzoo.weights.download import fetch_hub_reference
from trickzoo.weights.header import task_of
from trickzoo.weights.named import existing, is_exported, is_file
from trickzoo.weights.record import Preprocessing
from trickzoo.wording import count


@dataclass(frozen=True)
class Found:
    """A class that a network predicts for an image, or for a part of it.

    Attributes:
        label: index of the class in `Network.classes`, from 0, for every task.
        name: name of the class in words.
        score: of a classifier, the probability of the class; of a detector, the confidence of the box; of a segmenter, the class's fraction
            of the image's pixels.
        box: x0, y0, x1, y1 in pixels of the upright image; None unless the network is a detector.
    """

    label: int
    name: str
    score: float
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class Prediction:
    """What a network predicts for an image.

    Attributes:
        found: of a classifier, all classes by decreasing probability; of a detector, the boxes by decreasing score; of a segmenter, the
            classes that occur, by decreasing number of pixels.
        mask: of a segmenter, the label of each pixel of the upright image, (height, width) uint8; otherwise None.
    """

    found: tuple[Found, ...]
    mask: NDArray[np.uint8] | None = None


@dataclass(frozen=True, repr=False)
class Network:
    """A network with everything that prediction needs.

    Attributes:
        task: "classification", "detection" or "segmentation".
        network: the module, in evaluation mode, with the methods of its task; for an exported file, its
            `trickzoo.deployment.opened.Exported`.
        classes: names of the classes; label i is `classes[i]`. A segmenter's include the background, a detector's do not.
        transform: turns an RGB image into an input of the module, without the dimension of the batch. A detector takes a list of such
            inputs; a classifier and a segmenter take a batch. For an exported file, the input is an array.
        deployed: computes the logits of a classifier or a segmenter in place of the module, as `trickzoo.deploy` returns it.
        precision: precision of the module's arithmetic, "fp32", "bf16" or, on an accelerator, "fp16".
    """

    task: str
    network: Any
    classes: tuple[str, ...]
    transform: Callable[[Image.Image], Any]
    deployed: Callable[[Tensor], Tensor] | None = None
    precision: Precision = "fp32"

    @torch.inference_mode()
    def run(self, image: Image.Image) -> Any:
        """Return what the network computes for an upright RGB image, on the CPU.

        A classifier returns the (classes,) logits; a detector the boxes in pixels of this image as `trickzoo.detection.predict` does,
        with labels from 1; a segmenter the (H, W) labels.
        """
        if isinstance(self.network, Exported):
            if self.task == "classification":
                return of_file.classify(self.network, self.transform(image))
            return {"detection": of_file.detect, "segmentation": of_file.segment}[self.task](self.network, image)
        with autocast(next(self.network.parameters()).device, self.precision):
            if self.task == "classification":
                return logits_of(self.network, self.transform(image), self.deployed)
            if self.task == "segmentation":
                return segmentation.predict(self.network, image, self.deployed)
            return detection.predict(self.network, image)

    def predict(self, image: Image.Image | str | PathLike[str], threshold: float = 0.0) -> Prediction:
        """Return what the network predicts for an image in evaluation mode, after it is turned upright by its EXIF orientation.

        Args:
            image: an image of Pillow, or the path of one. `Image.open(io.BytesIO(content))` opens the content of a file, and
                `Image.fromarray` an array; `array[..., ::-1]` turns the BGR of OpenCV into RGB.
            threshold: the lowest score in `Prediction.found`, from 0 to 1; those below it are left out. A mask stays whole.

        Raises BadData if the file is not a readable image, or if its pixels are 32-bit integers or floating-point numbers, whose range is
        unknown, BadOption if `image` is of another type or a URL, or `threshold` is out of range, and BadCheckpoint if a classifier gives
        logits that are not finite.
        """
        picture = _upright(image)
        found = self.predict_picture(picture, threshold)
        if found.mask is None or picture.image.size == picture.size:
            return found
        return replace(found, mask=np.asarray(Image.fromarray(found.mask).resize(picture.size, Image.Resampling.NEAREST)))

    def predict_picture(self, picture: Picture, threshold: float = 0.0) -> Prediction:
        """Return what the network predicts for an upright image that `trickzoo.data.images.read` returned, as `predict` does.

        A mask has the size of `picture.image`, and therefore takes little memory for a file of any size.
        """
        if not 0 <= threshold <= 1:
            raise BadOption(f"threshold must be from 0 to 1, not {threshold}")
        computed = self.run(picture.image)
        if self.task == "classification":
            whole = self._probabilities(computed)
        else:
            whole = self._boxes(computed, picture) if self.task == "detection" else self._shares(computed)
        return replace(whole, found=tuple(found for found in whole.found if found.score >= threshold))

    def draw(self, image: Image.Image | Picture | str | PathLike[str], prediction: Prediction) -> Image.Image:
        """Draw a prediction on the image that it was made for: boxes with names and scores, or the colours and names of a mask's classes.

        Returns a picture in RGB, with long sides of at most 4,096 pixels; small images are enlarged. Raises BadOption for a classifier,
        whose predictions have no place in the image, and what `predict` raises for the image.
        """
        picture = _upright(image)
        if self.task == "detection":
            found = prediction.found
            if not all(each.box for each in found):
                raise BadOption("the prediction has no boxes; pass one of this detector")
            boxes = np.array([each.box for each in found]).reshape(-1, 4) / np.tile(picture.scale, 2)
            return draw_boxes(picture.image, boxes, [each.label + 1 for each in found], self.classes, [each.score for each in found])
        if prediction.mask is None:
            raise BadOption("only the boxes of a detector and the mask of a segmenter can be drawn")
        mask = Image.fromarray(prediction.mask).resize(picture.image.size, Image.Resampling.NEAREST)
        return draw_mask(picture.image, np.asarray(mask), self.classes)

    def __repr__(self) -> str:
        name = getattr(self.network, "name", type(self.network).__name__)
        return f"Network({self.task}: {name}, {count(len(self.classes), 'class')}: {shortened(self.classes, 3)})"

    def _named(self, label: int, score: float, box: Any = None) -> Found:
        return Found(label, describe_class(self.classes[label]), score, box)

    def _probabilities(self, logits: Tensor) -> Prediction:
        label = logits.argsort(descending=True, stable=True)
        return Prediction(tuple(map(self._named, label.tolist(), logits.softmax(0)[label].tolist())))

    def _boxes(self, found: NamedDetections, picture: Picture) -> Prediction:
        labels, boxes = (found.labels - 1).tolist(), found.boxes * np.tile(picture.scale, 2)
        return Prediction(tuple(map(self._named, labels, found.scores.tolist(), map(tuple, boxes.tolist()))))

    def _shares(self, mask: NDArray[np.uint8]) -> Prediction:
        counts = np.bincount(mask.ravel(), minlength=len(self.classes))
        order = [int(label) for label in np.argsort(-counts, kind="stable") if counts[label]]
        return Prediction(tuple(self._named(label, float(counts[label] / mask.size)) for label in order), mask)


def load(path: str | PathLike[str], device: torch.device | str | None = None) -> Network:
    """Load a network, whatever its task: a file that trickzoo wrote, the folder of a finished training run, or published weights.

    The file of a classifier must state its classes and its preprocessing, as those of `trickzoo train` and
    `trickzoo.export(…, classes=…)` do.

    Args:
        path: a weight file, an .onnx or .xml file of `trickzoo export`, or the folder; a reference "hf-hub:user/name[@revision]" to
            weights that trickzoo published; or the name of a model, such as "resnet50_d", for its default weight, or of one of the zoo's
            weights, such as "mobilenet_v1_025.tz_imagenette128", or of its detectors and segmenters, which `list_networks` lists.
        device: device of the network, such as "cuda"; by default torch's default device. Exported files run on the CPU.

    Raises BadCheckpoint if the file does not exist, is damaged, or states no classes or no preprocessing, WeightsUnavailable if it
    cannot be downloaded, NoWeights for a model without a default weight, and BadOption for another device than the CPU, or a missing
    package, with an exported file.
    """
    if is_exported(str(path)):
        if device is not None and torch.device(device).type != "cpu":
            raise BadOption(f"{path} cannot run on {device}: exported files run on the CPU")
        return of_exported(open_exported(expanded(str(path))))
    opened = _open(str(path))
    if device is not None:
        opened.network.to(device)
    return opened


def of_classifier(model: Backbone, classes: tuple[str, ...], preprocessing: Preprocessing) -> Network:
    """Return a classifier with the names of its classes and the preparation of its images."""
    return Network("classification", model, classes, eval_transform(preprocessing, channels=model.in_chans))


def of_exported(file: Exported) -> Network:
    """Return the network of an exported file."""
    return Network(file.description.task, file, file.description.classes, of_file.preparation(file.description))


def _open(reference: str) -> Network:
    if not is_file(reference) and (reference in manifest.records() or reference in (*registry.ARCHITECTURES, *registry.ALIASES)):
        return _classifier(create(reference, pretrained="." not in reference), reference)
    file = fetch_hub_reference(reference)[0] if reference.startswith("hf-hub:") else existing(reference)
    task = task_of(file)
    if task == "detection":
        detector = detection.load(file)
        return Network(task, detector, detector.classes, functools.partial(_input_of_detector, FitAndFlip(*detector.sides)))
    if task == "segmentation":
        segmenter = segmentation.load(file)
        prepared = functools.partial(_input_of_segmenter, Scale(segmenter.short), Normalisation.of(segmenter.trunk))
        return Network(task, segmenter, segmenter.classes, prepared)
    return _classifier(classification.load(file), str(file))


def _classifier(classifier: Backbone, file: str) -> Network:
    weights = classifier.weights
    if weights is None or weights.classes is None or weights.preprocessing is None:
        stated = {"its classes": weights and weights.classes, "its preprocessing": weights and weights.preprocessing}
        missing = " and ".join(what for what, value in stated.items() if value is None)
        raise BadCheckpoint(f"{file} does not name {missing}; write it with trickzoo.export(…, classes=…, preprocessing=…)")
    classes = class_list(weights.classes)
    if len(classes) != classifier.num_classes:
        outputs = count(classifier.num_classes, "output")
        raise BadCheckpoint(f"{file} names {count(len(classes), 'class')} for {outputs}; write it with trickzoo.export(…, classes=…)")
    return of_classifier(classifier, classes, weights.preprocessing)


def _upright(image: Image.Image | Picture | str | PathLike[str]) -> Picture:
    """Return an image turned upright by its EXIF orientation. Raises what `Network.predict` raises for the image."""
    if isinstance(image, Picture):
        return image
    if isinstance(image, (str, PathLike)):
        return read(expanded(image)).upright()
    turned = rgb(ImageOps.exif_transpose(image) if isinstance(image, Image.Image) else image)
    return Picture(turned, turned.size)


# functions of the module, and no lambdas, because a `Network` can then be pickled


def _input_of_detector(fit: FitAndFlip, image: Image.Image) -> Tensor:
    return to_input(fit(image, Objects.of(()))[0], torch.device("cpu"))


def _input_of_segmenter(scale: Scale, normalise: Normalisation, image: Image.Image) -> Tensor:
    return normalise(scale.image(image)[None])[0]
