"""Writes OpenVINO files: NAME.xml with the graph, and NAME.bin beside it with the weights."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from trickzoo.deployment.extras import require
from trickzoo.errors import NotWritten
from trickzoo.files import TEMPORARY, writing

METADATA = "trickzoo"
"""Name of the part of `rt_info` that holds the metadata."""


def to_openvino(onnx: Path, path: Path, metadata: Mapping[str, str]) -> None:
    """Convert an ONNX file to an OpenVINO file in float32.

    The two files are complete before they get their names, and NAME.xml gets its name last.

    Args:
        onnx: the ONNX file.
        path: NAME.xml.
        metadata: texts that are stored in the file by keys.

    Raises BadOption if OpenVINO is missing, and NotWritten if the files cannot be written.
    """
    require(path, "openvino", "openvino")
    import openvino

    model = openvino.Core().read_model(onnx)
    for key, value in metadata.items():
        model.set_rt_info(value, [METADATA, key])
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=TEMPORARY) as folder:
            made = Path(folder, "model.xml")
            try:
                openvino.save_model(model, made, compress_to_fp16=False)
            except RuntimeError as error:  # OpenVINO also raises it if the disk is full
                raise NotWritten(path, " ".join(str(error).split())) from None
            path.unlink(missing_ok=True)  # so that the old graph never stands beside the new weights
            for file, final in ((made.with_suffix(".bin"), weights_of(path)), (made, path)):
                with file.open("rb") as content:
                    os.fsync(content.fileno())
                os.replace(file, final)


def weights_of(path: Path) -> Path:
    """Return the path of the weights beside NAME.xml."""
    return path.with_suffix(".bin")
