"""Survey: the readings of a whole stack that a normalisation needs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.events import Stopped
from napari_unet.images import checks
from napari_unet.images.blocks import sample
from napari_unet.images.statistics import Moments, Selection, merged

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_unet.events import CancelToken
    from napari_unet.images.intensity import Nan, Normalization
    from napari_unet.images.stack import ImageStack


MOST_PIXELS = 1 << 30
"""Pixels of a stack that is looked at as a whole."""
SAMPLE = 1 << 28
"""Pixels that are looked at in a larger one, which is enough for its statistics."""


class Survey:
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
        pixels = math.prod(stack.shape)
        self.regions, self.share = sample(
            stack, pixels if pixels <= MOST_PIXELS else SAMPLE
        )
        self.moments = [Moments() for _ in numbers]
        self.selections = self._selections()
        self.bad = 0
        self.first = ""

    def run(self) -> None:
        """Read the stack as often as needed."""
        passes = max((s.passes for s in self.selections.values()), default=1)
        needed = any(needs_moments(rule) for rule in self.rules)
        for number in range(passes):
            for place, values in self._values(number == 0):
                if number == 0 and needed:
                    self.moments[place].add(values.astype(np.float64))
                for selection in self._selections_of(place):
                    selection.add(values)
            if self.bad and self.nan == "refuse":
                raise checks.not_finite(
                    self.stack.name, f"{self.bad} of them, {self.first}"
                )
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
        if width <= 0.0 or (needs_moments(rule) and moments.low == moments.high):
            notes.append(self._flat(place, rule))
            return 0.0, 0.0
        gain = 1.0 / (width + rule.eps)
        return gain, -zero * gain

    def notes(self) -> list[str]:
        """Say how many pixels were replaced, and whether all were looked at."""
        notes = []
        if self.share < 1:
            notes.append(
                f"The intensities were measured in {100 * self.share:.2g} % of this "
                "large image, in places chosen at random, the same each time."
            )
        if self.bad:
            notes.append(f"{self.bad} NaN or infinite pixels are taken as 0.")
        return notes

    def _flat(self, place: int, rule: Normalization) -> str:
        """Note on a channel without contrast."""
        what = "is constant"
        if rule.kind == "percentile":
            what = f"has equal percentiles {rule.low:g} and {rule.high:g}"
        return f"Channel {self.numbers[place]} {what}; it is set to 0."

    def _selections(self) -> dict[tuple[int, float, float], Selection]:
        """One selection for each channel, or one for those taken together."""
        stack = self.stack
        size = sum(self._pixels(region) for region in self.regions)
        size //= max(1, len({r.get("C", slice(0, 1)).start for r in self.regions}))
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

    @staticmethod
    def _pixels(region: dict[str, slice]) -> int:
        """Pixels of a region in each of its channels."""
        sides = (s.stop - s.start for a, s in region.items() if a != "C")
        return math.prod(sides)

    def _key(self, place: int) -> tuple[int, float, float]:
        """Which selection a channel uses."""
        rule = self.rules[place]
        return (-1 if rule.joint else place, rule.low, rule.high)

    def _selections_of(self, place: int) -> Iterator[Selection]:
        """Yield the selections that take in the values of a channel."""
        return (s for key, s in self.selections.items() if key[0] in (-1, place))

    def _values(self, report: bool) -> Iterator[tuple[int, np.ndarray]]:
        """Finite values of every block, with the place of their channel."""
        for region in self.regions:
            if self.cancel is not None and self.cancel.is_set():
                raise Stopped("stopped while the intensities were measured")
            held = region.get("C", slice(0, 1))
            if not any(held.start <= c < held.stop for c in self.numbers):
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


def needs_moments(rule: Normalization) -> bool:
    """Whether a rule is made from mean, spread or range."""
    return rule.kind in ("zscore", "minmax")
