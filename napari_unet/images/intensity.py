"""Intensity normalisation with one statistic for the whole stack."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from napari_unet.config import Config


class Normalization(Config):
    """How pixel values are scaled before the network.

    The statistics are those of the whole stack, so a crop and the whole agree.
    """

    kind: Literal["none", "zscore", "minmax", "percentile", "linear"] = "none"
    """none; zscore (x - mean) / (std + eps); minmax (x - min) / (max - min + eps);
    percentile, the same between the `low` and `high` percentiles; linear
    gain * x + offset."""
    joint: bool = False
    """Whether the statistics are taken over all channels together."""
    low: float = Field(1.0, ge=0.0, le=100.0)
    high: float = Field(99.8, ge=0.0, le=100.0)
    clip: bool = False
    """Whether minmax and percentile results are clipped to [0, 1]."""
    eps: float = 1e-6
    gain: float = 1.0
    offset: float = 0.0
