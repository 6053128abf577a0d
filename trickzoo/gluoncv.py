"""Imports networks from the files of other libraries, for whatever task."""

from __future__ import annotations

from pathlib import Path

from trickzoo.detection.gluoncv import import_detector
from trickzoo.segmentation.gluoncv import import_segmenter
from trickzoo.weights import gluoncv
from trickzoo.weights.export import check_new


def import_gluoncv(
    path: Path, out: Path, *, classes: tuple[str, ...] | None = None, overwrite: bool = False
) -> tuple[str, str, gluoncv.Published | None]:
    """Write the network in a `.params` file of GluonCV to a .safetensors file of trickzoo.

    The names and the shapes of the arrays determine the network: a classifier, a Faster R-CNN or an FCN. A file of GluonCV's model zoo
    is recognised by its SHA-1, and its published accuracies are noted in the header.

    Args:
        path: the `.params` file.
        out: the file to write, whose name ends in .safetensors.
        classes: the names of the classes, without the background of a detector; by default those of the data set on which GluonCV
            publishes networks of the task with as many classes.
        overwrite: whether to replace `out` if it exists.

    Returns:
        The task, the name of the model or of the backbone, and what GluonCV publishes about the file.

    Raises BadCheckpoint if the file cannot be read, is not what its name says, or is not of a network of the zoo, and BadOption if `out`
    exists or has another suffix, or if the names of the classes are unknown or not as many as the classes of the network.
    """
    check_new(out, (".safetensors",), overwrite)
    params = gluoncv.read(path)
    if any(name.startswith("rpn.") for name in params.arrays):
        return "detection", import_detector(params, out, classes), params.published
    if any(name.startswith("head.") for name in params.arrays):
        return "segmentation", import_segmenter(params, out, classes), params.published
    return "classification", gluoncv.import_classifier(params, out, classes), params.published
