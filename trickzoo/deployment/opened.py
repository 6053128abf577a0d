"""Opens exported files, which may come from strangers, and runs them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trickzoo.deployment.description import Description
from trickzoo.deployment.extras import require
from trickzoo.deployment.openvino_file import METADATA, weights_of
from trickzoo.errors import NOT_FINITE, BadCheckpoint, BadOption, TrickzooError
from trickzoo.files import read_regular

MAX_FILE = 2**31
"""Bytes of the longest file that is read; ONNX files cannot be longer."""
Arrays = list[NDArray[Any]]


class Exported(NamedTuple):
    """An exported file, ready to run.

    Attributes:
        path: the file.
        description: what the network is, and what it takes and returns.
        run: takes the input and returns the outputs. Raises BadCheckpoint if the network fails.
        engine: what runs it, "onnxruntime" or "openvino".
        sha256: the SHA-256 of the file's content; for OpenVINO, of NAME.xml followed by NAME.bin.
    """

    path: Path
    description: Description
    run: Callable[[NDArray[Any]], Arrays]
    engine: str
    sha256: str


def open_exported(path: Path) -> Exported:
    """Open an ONNX or OpenVINO file that trickzoo wrote, for the CPU.

    Archives of torch.export are refused, because loading one runs code that is in it.

    Raises BadCheckpoint if the file is damaged or trickzoo did not write it, and BadOption if the package that runs it is missing.
    """
    if path.suffix == ".pt2":
        raise BadOption(
            f"{path}: trickzoo does not run archives of torch.export, because torch.export.load executes code that is in a file; "
            "export to .onnx or .xml, or load a file that you wrote yourself with torch.export.load"
        )
    engine, start = ("onnxruntime", _onnx) if path.suffix == ".onnx" else ("openvino", _openvino)
    texts, call, sha256 = start(path)
    try:
        description = Description.of(texts)
    except ValueError as error:
        raise BadCheckpoint(f"{path}: its metadata are not those of `trickzoo export` ({error}); export the network again") from None

    def run(given: NDArray[Any]) -> Arrays:
        outputs = _guarded(path, lambda: call(given))
        _check_outputs(path, description, given, outputs)
        return outputs

    return Exported(path, description, run, engine, sha256)


Opened = tuple[Mapping[str, str], Callable[[NDArray[Any]], Arrays], str]
"""The metadata of a file, what runs it, and its digest."""


def _onnx(path: Path) -> Opened:
    require(path, "onnx", "onnxruntime")
    import onnxruntime

    content = _content(path)

    def start() -> Any:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # errors come as exceptions
        # A graph may name other files that hold its weights; they would be searched for in the working folder.
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path / "nothing"))
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    session = _guarded(path, start)
    texts = _guarded(path, lambda: session.get_modelmeta().custom_metadata_map)
    names = [each.name for each in session.get_inputs()]
    return texts, lambda given: session.run(None, dict.fromkeys(names, given)), hashlib.sha256(content).hexdigest()


def _openvino(path: Path) -> Opened:
    require(path, "openvino", "openvino")
    import openvino

    graph, weights = _content(path), _content(weights_of(path))

    if not graph.lstrip().startswith(b"<"):  # OpenVINO would also take an ONNX file, whatever its name
        raise BadCheckpoint(f"{path} is not an OpenVINO file; export the network again")

    def start() -> Any:
        core = openvino.Core()
        model = core.read_model(graph, openvino.Tensor(np.frombuffer(weights, np.uint8)) if weights else b"")
        return model, core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    model, compiled = _guarded(path, start)
    has = _guarded(path, lambda: model.has_rt_info([METADATA]))
    texts = _guarded(path, lambda: dict(model.get_rt_info([METADATA]).value)) if has else {}
    digest = hashlib.sha256(graph)
    digest.update(weights)
    return texts, lambda given: list(compiled(given).values()), digest.hexdigest()


def _content(path: Path) -> bytes:
    try:
        return read_regular(path, at_most=MAX_FILE)
    except OSError as error:
        raise BadCheckpoint(f"{path} cannot be read ({error.strerror or error})") from None


def _guarded(path: Path, call: Callable[[], Any]) -> Any:
    """Return what a call of an engine returns. Raises BadCheckpoint for whatever it raises; the engines have no common class of errors."""
    try:
        return call()
    except TrickzooError:
        raise
    except Exception as error:
        reason = re.sub(r"\s+", " ", str(error)).strip()[:200] or type(error).__name__
        raise BadCheckpoint(f"{path} cannot be run ({reason}); export the network again") from None


def _check_outputs(path: Path, description: Description, given: NDArray[Any], outputs: Arrays) -> None:
    """Raise BadCheckpoint if the outputs of a file are not those that its description promises."""
    shapes, classes = [each.shape for each in outputs], len(description.classes)
    if description.task == "classification":
        right = shapes == [(len(given), classes)]
        if right and not np.isfinite(outputs[0]).all():
            raise BadCheckpoint(f"{path} {NOT_FINITE}")
    elif description.task == "detection":
        found = shapes[0][0] if shapes and shapes[0] else 0
        right = shapes == [(found, 4), (found,), (found,)] and all(bool(np.isfinite(each).all()) for each in outputs)
        right = right and _are_indices(outputs[2], classes)
    else:
        right = shapes == [given.shape[:2]] and _are_indices(outputs[0], classes)
    if not right:
        raise BadCheckpoint(f"{path} does not return what its metadata state; export the network again")


def _are_indices(numbers: NDArray[Any], count: int) -> bool:
    return numbers.dtype.kind in "iu" and (numbers.size == 0 or 0 <= int(numbers.min()) <= int(numbers.max()) < count)
