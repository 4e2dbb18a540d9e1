"""ModelSpec: everything about a model but its weights, as plain JSON-able values."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from napari_unet.config import Config
from napari_unet.images.intensity import Normalization
from napari_unet.networks.recipe import Recipe


class Assumption(Config):
    """A fact the checkpoint did not tell, with the value that was taken instead."""

    field: str
    value: Any
    alternatives: tuple[Any, ...] = ()
    reason: str = ""


class ModelSpec(Config):
    """What a model is, what it eats and what it gives.

    Output channel k of a softmax network is class k + 1 of the strokes; results are
    written with background as 0, so channel k becomes label k. A sigmoid network has
    one channel per kind of object and channel k becomes label k + 1.
    """

    format_version: Literal[1] = 1
    name: str = "model"
    family: str = "unet"
    """Which builder makes the module from `architecture`; "unet" is our own."""
    architecture: dict[str, Any] = Field(default_factory=dict)
    ndim: Literal[2, 3]
    in_channels: int = Field(ge=1, le=4096)
    out_channels: int = Field(ge=1, le=65535)
    activation: Literal["softmax", "sigmoid", "none"] = "softmax"
    """What turns the module's output into probabilities; none: it already gives the
    final values."""
    task: Literal["semantic", "instances", "restoration", "flows"] = "semantic"
    """instances: softmax channels are background, interior and boundary; flows:
    channels are flow along Y, flow along X and logit of a cell."""
    smallest: int = Field(0, ge=0)
    """instances: pixels that an object has at least; what is smaller is left out."""
    class_names: tuple[str, ...] = ()
    """Names of the output channels, empty if unknown."""
    normalization: tuple[Normalization, ...] = (Normalization(),)
    """One for all input channels, or one per channel."""
    spacing: dict[str, float] = Field(default_factory=dict)
    """Physical pixel size (µm) of the training images by axis, empty if unknown."""
    recipe: Recipe | None = None
    """The procedure it was trained with, such as nnU-Net's."""
    assumed: tuple[Assumption, ...] = ()
    provenance: dict[str, Any] = Field(default_factory=dict)
    """Where the weights come from: parent digest, source file, training record."""

    @model_validator(mode="after")
    def _lengths_fit(self) -> Self:
        if len(self.normalization) not in (1, self.in_channels):
            raise ValueError("normalization: one for all channels or one per channel")
        if self.class_names and len(self.class_names) != self.out_channels:
            raise ValueError("class_names: one per output channel")
        return self

    @property
    def spatial(self) -> str:
        """Spatial axes: ``"YX"`` or ``"ZYX"``."""
        return "ZYX"[-self.ndim :]
