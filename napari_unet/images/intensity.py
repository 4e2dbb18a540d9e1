"""Intensity normalisation with one statistic for the whole stack."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from napari_unet.config import Config
from napari_unet.errors import UsageError
from napari_unet.images import checks
from napari_unet.images.survey import Survey

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_unet.events import CancelToken
    from napari_unet.images.stack import ImageStack

Nan = Literal["refuse", "zero"]
_AT_ONCE = 1 << 16  # pixels, which stay in a processor's cache


class Normalization(Config):
    """How pixel values are scaled before the network.

    The statistics are those of the whole stack, so a crop and the whole agree.
    """

    kind: Literal["none", "zscore", "minmax", "percentile", "linear", "ct"] = "none"
    """none; zscore (x - mean) / (std + eps); minmax (x - min) / (max - min + eps);
    percentile, the same between the `low` and `high` percentiles; linear
    gain * x + offset; ct (x clipped to `clip_low` ... `clip_high` - mean) / std, with
    the numbers of the training images."""
    joint: bool = False
    """Whether the statistics are taken over all channels together."""
    low: float = Field(1.0, ge=0.0, le=100.0)
    high: float = Field(99.8, ge=0.0, le=100.0)
    clip: bool = False
    """Whether minmax, percentile and linear results are clipped to [0, 1]."""
    eps: float = 1e-6
    gain: float = 1.0
    offset: float = 0.0
    masked: bool = False
    """Whether zscore looks at the nonzero region only; outside zscore and ct give 0."""
    own: bool = False
    """Whether ct takes mean and std of the image's own pixels between the bounds."""
    clip_low: float = 0.0
    clip_high: float = 0.0
    mean: float = 0.0
    std: float = Field(1.0, ge=0.0)


@dataclass(frozen=True)
class Scaling:
    """Normalisation with its numbers filled in: gain * x + offset for each channel.

    Attributes
    ----------
    gain, offset : tuple of float
        One for each channel that feeds the network.
    clip : tuple of bool
        Whether the channel is clipped to [0, 1].
    nan : {"refuse", "zero"}
        What is done about NaN and infinite pixels.
    notes : tuple of str
        What the user should know: constant channels, replaced pixels.
    """

    gain: tuple[float, ...]
    offset: tuple[float, ...]
    clip: tuple[bool, ...]
    nan: Nan = "refuse"
    notes: tuple[str, ...] = field(default=())

    def apply(self, block: np.ndarray) -> np.ndarray:
        """Scale a block.

        Parameters
        ----------
        block : numpy.ndarray, shape (C, *spatial)
            Pixels as stored, of any real dtype.

        Returns
        -------
        numpy.ndarray of float32, shape (C, *spatial)
            Computed in double precision.

        Raises
        ------
        ImageError
            If a pixel is NaN or infinite, or overflows, and `nan` is "refuse".
        """
        out = np.empty(block.shape, np.float32)
        for channel, values in enumerate(block):
            flat, scaled = values.reshape(-1), out[channel].reshape(-1)
            with np.errstate(over="ignore", invalid="ignore"):
                for start in range(0, flat.size, _AT_ONCE):
                    part = slice(start, start + _AT_ONCE)
                    scaled[part] = self._scaled(flat[part].astype(np.float64), channel)
            if self.clip[channel]:
                np.clip(out[channel], 0.0, 1.0, out=out[channel])
        if block.dtype.kind == "f" and not np.isfinite(out).all():
            raise checks.not_finite("The image", "a part of it")
        return out

    def _scaled(self, values: np.ndarray, channel: int) -> np.ndarray:
        """Scale values of one channel in place."""
        if self.nan == "zero":
            values[~np.isfinite(values)] = 0.0
        values *= self.gain[channel]
        values += self.offset[channel]
        return values

    def to_json(self) -> dict[str, Any]:
        """Make a record of the numbers used."""
        return {
            "gain": list(self.gain),
            "offset": list(self.offset),
            "clip": list(self.clip),
            "nan": self.nan,
        }


def measure(
    stack: ImageStack,
    normalizations: Sequence[Normalization],
    *,
    channels: Sequence[int] | None = None,
    nan: Nan = "refuse",
    cancel: CancelToken | None = None,
) -> Scaling:
    """Measure a whole stack, out of core, and fill in the numbers.

    Mean and standard deviation are merged in double precision; percentiles are exact
    and equal `numpy.percentile` (method "linear"). The stack is read once; percentiles
    of 32-bit pixels take two readings and of 64-bit pixels four. Where no statistic is
    needed nothing is read, and NaN is met in `Scaling.apply`. Of stacks of over a
    thousand million pixels a random part is measured, which a note says.

    Parameters
    ----------
    stack : ImageStack
        All its frames and planes are measured.
    normalizations : sequence of Normalization
        One for all channels, or one for each.
    channels : sequence of int, optional
        Image channels that feed the network, in order; all when not given.
    nan : {"refuse", "zero"}
        Refuse NaN and infinite pixels, or take them as 0.
    cancel : CancelToken, optional
        Checked between blocks.

    Returns
    -------
    Scaling
        For blocks with the chosen channels first.

    Raises
    ------
    ImageError
        If there are NaN or infinite pixels, with their number and the first one.
    UsageError
        If a channel is not in the image, the numbers of settings do not fit, or a
        scaling is one that `napari_unet.inference.recipes.foreground` alone knows.
    events.Stopped
        If `cancel` was set.
    """
    numbers = _channels(stack, channels)
    rules = _rules(normalizations, len(numbers))
    notes: list[str] = []
    survey = Survey(stack, numbers, rules, nan, cancel)
    if any(rule.kind not in ("none", "linear") for rule in rules):
        survey.run()
        notes += survey.notes()
    lines = [survey.line(i, rule, notes) for i, rule in enumerate(rules)]
    return Scaling(
        gain=tuple(gain for gain, _ in lines),
        offset=tuple(offset for _, offset in lines),
        clip=tuple(r.clip and r.kind not in ("none", "zscore") for r in rules),
        nan=nan,
        notes=tuple(notes),
    )


def _rules(
    normalizations: Sequence[Normalization], channels: int
) -> list[Normalization]:
    """One scaling for each channel, checked."""
    rules = list(normalizations) * (channels if len(normalizations) == 1 else 1)
    if len(rules) != channels:
        raise UsageError(
            "The normalisation does not fit the channels",
            found=f"{len(rules)} settings for {channels} channels",
        )
    if any(rule.kind == "ct" or rule.masked for rule in rules):
        raise UsageError(
            "This model's intensity scaling is known to prediction only",
            found="the scaling of CT images or of masked ones",
            hint="Choose another scaling (--normalize).",
        )
    return rules


def _channels(stack: ImageStack, channels: Sequence[int] | None) -> list[int]:
    """Numbers of the channels, checked."""
    numbers = list(range(stack.channels) if channels is None else channels)
    for number in numbers:
        if not 0 <= number < stack.channels:
            raise UsageError(
                f"{stack.name} has no channel {number}",
                found=f"{stack.channels} channels, counted from 0",
            )
    return numbers
