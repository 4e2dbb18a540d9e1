"""Intensity normalisation with one statistic for the whole stack."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from napari_unet.config import Config
from napari_unet.errors import ImageError, UsageError
from napari_unet.events import Stopped
from napari_unet.images.blocks import blocks
from napari_unet.images.statistics import Moments, Selection, merged

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_unet.events import CancelToken
    from napari_unet.images.stack import ImageStack

Nan = Literal["refuse", "zero"]


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
            scaled = values.astype(np.float64)
            if self.nan == "zero" and values.dtype.kind == "f":
                scaled[~np.isfinite(scaled)] = 0.0
            with np.errstate(over="ignore", invalid="ignore"):
                scaled *= self.gain[channel]
                scaled += self.offset[channel]
                out[channel] = scaled
            if self.clip[channel]:
                np.clip(out[channel], 0.0, 1.0, out=out[channel])
        if block.dtype.kind == "f" and not np.isfinite(out).all():
            raise _not_finite("The image", "a part of it")
        return out

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
    needed nothing is read, and NaN is met in `Scaling.apply`.

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
        If a channel is not in the image or the numbers of settings do not fit.
    events.Stopped
        If `cancel` was set.
    """
    numbers = _channels(stack, channels)
    rules = list(normalizations) * (len(numbers) if len(normalizations) == 1 else 1)
    if len(rules) != len(numbers):
        raise UsageError(
            "The normalisation does not fit the channels",
            found=f"{len(rules)} settings for {len(numbers)} channels",
        )
    notes: list[str] = []
    survey = _Survey(stack, numbers, rules, nan, cancel)
    if any(rule.kind not in ("none", "linear") for rule in rules):
        survey.run()
        notes += survey.notes()
    lines = [survey.line(i, rule, notes) for i, rule in enumerate(rules)]
    return Scaling(
        gain=tuple(gain for gain, _ in lines),
        offset=tuple(offset for _, offset in lines),
        clip=tuple(r.clip and r.kind in ("minmax", "percentile") for r in rules),
        nan=nan,
        notes=tuple(notes),
    )


class _Survey:
    """The readings of a stack that fill in the numbers."""

    def __init__(
        self,
        stack: ImageStack,
        numbers: Sequence[int],
        rules: Sequence[Normalization],
        nan: Nan,
        cancel: CancelToken | None,
    ) -> None:
        self.stack, self.numbers, self.rules = stack, numbers, rules
        self.nan, self.cancel = nan, cancel
        self.moments = [Moments() for _ in numbers]
        self.selections = self._selections()
        self.bad = 0
        self.first = ""

    def run(self) -> None:
        """Read the stack as often as needed."""
        passes = max((s.passes for s in self.selections.values()), default=1)
        for number in range(passes):
            for place, values in self._values(number == 0):
                if number == 0:
                    self.moments[place].add(values.astype(np.float64))
                for selection in self._selections_of(place):
                    selection.add(values)
            if self.bad and self.nan == "refuse":
                raise _not_finite(self.stack.name, f"{self.bad} of them, {self.first}")
            for selection in self.selections.values():
                selection.end_pass()

    def line(
        self, place: int, rule: Normalization, notes: list[str]
    ) -> tuple[float, float]:
        """Gain and offset of a channel."""
        if rule.kind == "none":
            return 1.0, 0.0
        if rule.kind == "linear":
            return rule.gain, rule.offset
        moments = merged(self.moments) if rule.joint else self.moments[place]
        if rule.kind == "zscore":
            zero, width = moments.mean, moments.std
        elif rule.kind == "minmax":
            zero, width = moments.low, moments.high - moments.low
        else:
            low, high = self.selections[self._key(place)].percentiles()
            zero, width = low, high - low
        if width <= 0.0 or moments.low == moments.high:
            notes.append(self._flat(place, rule))
            return 0.0, 0.0
        gain = 1.0 / (width + rule.eps)
        return gain, -zero * gain

    def notes(self) -> list[str]:
        """Say how many pixels were replaced."""
        if not self.bad:
            return []
        return [f"{self.bad} NaN or infinite pixels are taken as 0."]

    def _flat(self, place: int, rule: Normalization) -> str:
        """Note on a channel without contrast."""
        what = "is constant"
        if rule.kind == "percentile":
            what = f"has equal percentiles {rule.low:g} and {rule.high:g}"
        return f"Channel {self.numbers[place]} {what}; it is set to 0."

    def _selections(self) -> dict[tuple[int, float, float], Selection]:
        """One selection for each channel, or one for those taken together."""
        stack = self.stack
        size = math.prod(stack.shape) // stack.channels
        together = size * len(self.numbers)
        return {
            self._key(i): Selection(
                stack.dtype.newbyteorder("="),
                together if rule.joint else size,
                (rule.low, rule.high),
            )
            for i, rule in enumerate(self.rules)
            if rule.kind == "percentile"
        }

    def _key(self, place: int) -> tuple[int, float, float]:
        """Which selection a channel uses."""
        rule = self.rules[place]
        return (-1 if rule.joint else place, rule.low, rule.high)

    def _selections_of(self, place: int) -> Iterator[Selection]:
        """Selections that take in the values of a channel."""
        return (s for key, s in self.selections.items() if key[0] in (-1, place))

    def _values(self, report: bool) -> Iterator[tuple[int, np.ndarray]]:
        """Finite values of every block, with the place of their channel."""
        repeats = Counter(self.numbers)
        for region in blocks(self.stack):
            if self.cancel is not None and self.cancel.is_set():
                raise Stopped("stopped while the intensities were measured")
            held = region.get("C", slice(0, 1))
            if not any(held.start <= c < held.stop for c in repeats):
                continue
            others = [a for a in self.stack.axes if a != "C"]
            block = self.stack.read(region, "C" + "".join(others))
            for place, channel in enumerate(self.numbers):
                if held.start <= channel < held.stop:
                    values = block[channel - held.start]
                    yield place, self._cleaned(values, region, channel, report)

    def _cleaned(
        self, values: np.ndarray, region: dict[str, slice], channel: int, report: bool
    ) -> np.ndarray:
        """Values with 0 for NaN and infinity, which are counted."""
        if values.dtype.kind != "f":
            return values
        bad = ~np.isfinite(values)
        if not bad.any():
            return values
        if report:
            self.bad += int(bad.sum())
            self.first = self.first or self._where(bad, region, channel)
        return np.where(bad, values.dtype.type(0), values)

    def _where(self, bad: np.ndarray, region: dict[str, slice], channel: int) -> str:
        """First bad pixel, by axis name."""
        place = np.unravel_index(int(bad.argmax()), bad.shape)
        others = [a for a in self.stack.axes if a != "C"]
        words = {
            a: region[a].start + int(n) for a, n in zip(others, place, strict=True)
        }
        if "C" in self.stack.axes:
            words["C"] = channel
        return "the first at " + ", ".join(f"{a} {words[a]}" for a in self.stack.axes)


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


def _not_finite(name: str, found: str) -> ImageError:
    """Error for pixels that are no numbers."""
    return ImageError(
        f"{name} has NaN or infinite pixels",
        found=found,
        hint="Repair them, or have them taken as 0 (--nan zero).",
    )
