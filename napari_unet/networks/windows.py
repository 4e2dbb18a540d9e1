"""How one layer moves along one axis: which inputs an output reads, and its length.

Pure integers. Output `o` and input `i` count from 0; intervals are closed. Bounds may
lie outside the image, where a layer sees its padding.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol


class Window(Protocol):
    """The view of one layer along one axis."""

    @property
    def pitch(self) -> Fraction:
        """Distance of two outputs, counted in inputs."""
        ...

    def length(self, inputs: int) -> int:
        """Return the number of outputs for a number of inputs."""
        ...

    def reads(self, first: int, last: int) -> tuple[int, int]:
        """First and last input that outputs `first` to `last` depend on."""
        ...

    def fits(self, inputs: int) -> bool:
        """Whether no input is left over at the end."""
        ...


@dataclass(frozen=True)
class Slide:
    """A convolution or pooling: a kernel that steps over its input."""

    kernel: int
    stride: int = 1
    dilation: int = 1
    left: int = 0
    right: int = 0
    ceil: bool = False

    @property
    def pitch(self) -> Fraction:
        """Distance of two outputs, counted in inputs."""
        return Fraction(self.stride)

    def length(self, inputs: int) -> int:
        """Return the number of outputs for a number of inputs."""
        steps, rest = divmod(self._room(inputs), self.stride)
        return steps + 1 + (1 if rest and self.ceil else 0)

    def reads(self, first: int, last: int) -> tuple[int, int]:
        """First and last input that outputs `first` to `last` depend on."""
        reach = self.dilation * (self.kernel - 1)
        return first * self.stride - self.left, last * self.stride - self.left + reach

    def fits(self, inputs: int) -> bool:
        """Whether no input is left over at the end."""
        return self._room(inputs) % self.stride == 0

    def _room(self, inputs: int) -> int:
        """How far the kernel can move."""
        return inputs + self.left + self.right - self.dilation * (self.kernel - 1) - 1


@dataclass(frozen=True)
class Spread:
    """A transposed convolution: every input paints a kernel onto the output."""

    kernel: int
    stride: int
    dilation: int = 1
    padding: int = 0
    extra: int = 0

    @property
    def pitch(self) -> Fraction:
        """Distance of two outputs, counted in inputs."""
        return Fraction(1, self.stride)

    def length(self, inputs: int) -> int:
        """Return the number of outputs for a number of inputs."""
        painted = (inputs - 1) * self.stride + self.dilation * (self.kernel - 1) + 1
        return painted - 2 * self.padding + self.extra

    def reads(self, first: int, last: int) -> tuple[int, int]:
        """First and last input that outputs `first` to `last` depend on."""
        reach = self.dilation * (self.kernel - 1)
        low = -((reach - first - self.padding) // self.stride)
        return low, (last + self.padding) // self.stride

    def fits(self, inputs: int) -> bool:
        """Whether no input is left over at the end: always."""
        return inputs > 0


@dataclass(frozen=True)
class Enlarge:
    """Interpolation by a whole factor: nearest, or linear between pixel centres."""

    factor: int
    linear: bool

    @property
    def pitch(self) -> Fraction:
        """Distance of two outputs, counted in inputs."""
        return Fraction(1, self.factor)

    def length(self, inputs: int) -> int:
        """Return the number of outputs for a number of inputs."""
        return inputs * self.factor

    def reads(self, first: int, last: int) -> tuple[int, int]:
        """First and last input that outputs `first` to `last` depend on."""
        if not self.linear or self.factor == 1:
            return first // self.factor, last // self.factor
        # Output o lies at (o + 1/2) / factor - 1/2 of the input, between two pixels.
        low = (2 * first + 1 - self.factor) // (2 * self.factor)
        return low, (2 * last + 1 - self.factor) // (2 * self.factor) + 1

    def fits(self, inputs: int) -> bool:
        """Whether no input is left over at the end: always."""
        return inputs > 0


@dataclass(frozen=True)
class Align(Enlarge):
    """Linear interpolation by a whole factor that puts the end pixels on each other.

    Where an output lies between two inputs depends on the length of the axis; which
    inputs those are is bounded for all lengths.
    """

    linear: bool = True

    def reads(self, first: int, last: int) -> tuple[int, int]:
        """First and last input that outputs `first` to `last` depend on at most."""
        return first // self.factor - 1, last // self.factor + 1


STILL = Slide(1)
"""A layer that looks at its own pixel only."""
