"""Recipe: what is done around a network that was trained with a fixed procedure."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from napari_unet.config import Config


class Recipe(Config):
    """How a network's patches are made of an image, and labels of its logits.

    Spatial axes are those of the network, in order, unless said otherwise.
    """

    procedure: Literal["nnunet_v2", "nnunet_v1"] = "nnunet_v2"
    """Whose steps are followed. Version 2 scales before it resamples and averages
    logits; version 1 scales after it and averages probabilities."""
    patch: tuple[int, ...]
    """Pixels of a patch."""
    overlap: float = Field(0.5, ge=0.0, lt=1.0)
    mirror: tuple[int, ...] = ()
    """Spatial axes, counted from 0, over all of whose flips results are averaged."""
    crop_to_nonzero: bool = False
    transpose: tuple[int, ...] = ()
    """Which of the axes ZYX each axis of the network is; empty if they are the same."""
    spacing: tuple[float, ...] = ()
    """Pixel size (mm) that images are resampled to; empty: they are not."""
    order_data: int = 3
    order_logits: int = 1
    order_z: int = 0
    separate_z: bool | None = None
    region_labels: tuple[int, ...] = ()
    """Labels painted one after another where the channel's sigmoid is over 0.5."""
    label_values: tuple[int, ...] = ()
    """Label of each softmax channel."""
