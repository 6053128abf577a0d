"""The description that an exported file carries: what its network is, what goes in and what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from trickzoo.weights.record import Preprocessing, Struct

Input = Literal["uint8", "float", "normalised", "image"]
"""What a file takes: cropped images in 0…255, in 0…1 or normalised, or whole images of any size."""

IN_JSON = ("classes", "class_names", "channels", "preprocessing")
"""Attributes of a description that are not texts."""


class Description(Struct, frozen=True):
    """The metadata of an exported file. In the file each attribute is a text under its own name; attributes that are not texts are in JSON.

    Attributes:
        trickzoo: the version of trickzoo that wrote the file.
        task: "classification", "detection" or "segmentation".
        model: the architecture, or that of the backbone.
        weights: the name of the weights, without folders.
        sha256: the SHA-256 of the file of the weights.
        licence: the SPDX identifier of the weights' licence in lower case, or "unknown".
        input: what the file takes.
        input_in_words: shape, type and unit of the input.
        output_in_words: names, shapes, types and units of the outputs.
        classes: the names of the classes in the order of the outputs.
        class_names: the names of the classes in words; they differ from `classes` for ImageNet's synsets.
        channels: the number of channels of a classifier's input, 3, or 1 for grey images; whole images are always RGB.
        preprocessing: how a classifier's images are prepared, inside the file or outside.
        precision: "int8" if the network computes with 8-bit integers.
        data_digest: the digest of the images that trained the weights, or empty if the file of the weights does not state it.
    """

    trickzoo: str
    task: Literal["classification", "detection", "segmentation"]
    model: str
    weights: str
    sha256: str
    licence: str
    input: Input
    input_in_words: str
    output_in_words: str
    classes: tuple[str, ...]
    class_names: tuple[str, ...]
    channels: Literal[1, 3] = 3
    preprocessing: Preprocessing | None = None
    precision: Literal["fp32", "int8"] = "fp32"
    data_digest: str = ""

    def __post_init__(self) -> None:
        if self.task != "classification" and self.input != "image":
            raise ValueError(f"a file for {self.task} takes whole images")
        if self.task == "classification" and self.preprocessing is None:
            raise ValueError("a classifier must state its preprocessing")
        if len(self.classes) != len(self.class_names):
            raise ValueError("classes and class_names must have the same length")

    def texts(self) -> dict[str, str]:
        """Return the metadata of a file."""
        content = msgspec.to_builtins(self)
        return {key: value if isinstance(value, str) else msgspec.json.encode(value).decode() for key, value in content.items()}

    @classmethod
    def of(cls, texts: Mapping[str, str]) -> Description:
        """Return the description in the metadata of a file. Raises ValueError if it is none."""
        content: dict[str, Any] = {}
        for field in msgspec.structs.fields(cls):
            text = texts.get(field.name)
            if isinstance(text, str):
                try:
                    content[field.name] = msgspec.json.decode(text) if field.name in IN_JSON else text
                except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
                    raise ValueError(f"{field.name}: {error}") from None
        return msgspec.convert(content, cls)
