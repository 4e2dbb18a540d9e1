"""Planning: the shape of a new network from images that are labelled in full.

The rules are those of nnU-Net (Isensee et al., Nature Methods 18, 2021, methods; the
experiment planner of nnunetv2 2.8): the patch begins with the typical image, clipped to
a cube in space, and gives way in proportion until a batch fits; axes are halved
together once their pixels are about equally long, as long as four pixels stay. Two
rules are ours: a step has no more pixels than a CPU core does in about a second, and
where objects are numbered the patch and the depth follow their size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_unet.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_unet.config import FinetuneConfig

    Size = tuple[int, ...]

_LEAST_SIDE = 4  # pixels at the deepest level
_EQUAL = 2.0  # pixels less than this much longer are about equally long
_MOST_POOLINGS = 5
_MOST_WIDTH = 256
_WIDTH = {2: 24, 3: 16}
_STEP_PIXELS = {2: 8 * 128**2, 3: 2 * 32 * 48 * 32}
_BATCH = (2, 16)
_START = {2: 512, 3: 128}  # side of the first patch, in the shortest pixels
_DIAMETERS = 4  # side of a patch in diameters of an object
_LEAST_PATCH = 64
_COPIES = 7  # of the weights: gradient, two moments, averages and copies to go back to


@dataclass(frozen=True)
class Wishes:
    """What is asked for; None is planned.

    Attributes
    ----------
    patch, poolings : tuple of int
        One number an axis, or one for all.
    depth, width, batch : int
        Poolings of the axis with most of them, channels of the first level, patches.
    """

    patch: Size | None = None
    poolings: Size | None = None
    depth: int | None = None
    width: int | None = None
    batch: int | None = None


@dataclass(frozen=True)
class NetworkPlan:
    """Shape of a network and of its batches.

    Attributes
    ----------
    patch : tuple of int
        Size of a patch along the spatial axes.
    batch : int
        Patches a step.
    strides, kernels : tuple of tuple of int
        Between the levels, and at each level.
    widths : tuple of int
        Channels of each level.
    memory : int
        Estimate of the bytes that a step takes.
    """

    patch: Size
    batch: int
    strides: tuple[Size, ...]
    kernels: tuple[Size, ...]
    widths: tuple[int, ...]
    memory: int

    def words(self) -> str:
        """Tell the plan in a sentence or two."""
        axes = "ZYX"[-len(self.patch) :]
        counts = [sum(s[n] > 1 for s in self.strides) for n in range(len(axes))]
        halved = ", ".join(f"{a} {n}" for a, n in zip(axes, counts, strict=True))
        return (
            f"New network: {len(axes)}D, poolings {halved}, {self.widths[0]} to "
            f"{self.widths[-1]} channels; {self.batch} patches of "
            f"{' x '.join(map(str, self.patch))} a step, about "
            f"{self.memory / 1e9:.1g} GB. All of it can be set."
        )


def wishes_of(config: FinetuneConfig, ndim: int) -> Wishes:
    """Collect what the settings ask of a new network.

    Raises
    ------
    UsageError
        If the poolings are not one number an axis.
    """
    check_sides(config.poolings, ndim, "list of poolings", least=0)
    return Wishes(
        config.patch, config.poolings, config.depth, config.width, config.batch
    )


def check_sides(
    sides: tuple[int, ...] | None, ndim: int, name: str, least: int = 1
) -> None:
    """Refuse sizes that are neither one number nor one an axis."""
    if sides is not None and (len(sides) not in (1, ndim) or min(sides) < least):
        raise UsageError(
            f"The {name} does not fit the network",
            found=str(list(sides)),
            expected=f"one number, or {ndim} of them, of {least} or more",
        )


def plan_network(
    size: Sequence[int],
    spacing: Sequence[float],
    diameter: float | None,
    memory: float,
    wishes: Wishes | None = None,
) -> NetworkPlan:
    """Plan a network.

    Parameters
    ----------
    size : sequence of int
        Typical (median) size of the images along the spatial axes.
    spacing : sequence of float
        Length of a pixel along them, in any one unit.
    diameter : float, optional
        Of a large object in the shortest pixels, None for classes.
    memory : float
        Bytes that a training step may take.
    wishes : Wishes, optional
        What is asked for.
    """
    wishes = wishes or Wishes()
    ratio = [length / min(spacing) for length in spacing]
    first = _wide(wishes.patch, len(size)) or _first(size, ratio, diameter)
    patch = list(first)
    most_pixels = _STEP_PIXELS[len(size)] / _BATCH[0]
    while True:
        strides, kernels = levels(patch, ratio, diameter, wishes)
        steps = [math.prod(s) for s in zip(*strides, strict=True)] or [1] * len(size)
        patch = [-(-n // s) * s for n, s in zip(patch, steps, strict=True)]
        plan = _complete(patch, strides, kernels, wishes)
        fits = math.prod(patch) <= most_pixels and plan.memory <= memory
        shrinkable = [n for n, s in enumerate(steps) if patch[n] > s]
        if wishes.patch or fits or not shrinkable:
            return plan
        axis = max(shrinkable, key=lambda n: (patch[n] / first[n], patch[n]))
        patch[axis] -= steps[axis]


def _wide(wanted: Size | None, ndim: int) -> Size | None:
    """One number for each axis."""
    return wanted * ndim if wanted is not None and len(wanted) == 1 else wanted


def _first(size: Sequence[int], ratio: Sequence[float], diameter: float | None) -> Size:
    """Begin with the typical image, or with some objects across."""
    side = float(_START[len(size)])
    if diameter is not None:
        side = min(side, max(_DIAMETERS * diameter, _LEAST_PATCH))
    return tuple(min(n, math.ceil(side / r)) for n, r in zip(size, ratio, strict=True))


def levels(
    patch: Sequence[int],
    ratio: Sequence[float],
    diameter: float | None,
    wishes: Wishes,
) -> tuple[tuple[Size, ...], tuple[Size, ...]]:
    """Strides between the levels of a network, and kernels at each.

    Parameters
    ----------
    patch : sequence of int
        Size of its patches.
    ratio : sequence of float
        Length of a pixel along each axis over the shortest.
    diameter, wishes
        As for `plan_network`.
    """
    strides: list[Size] = []
    length, side = list(ratio), list(patch)
    kernels = [_kernel(length, (1,) * len(patch))]
    wanted = _wide(wishes.poolings, len(patch))
    most = max(wanted) if wanted else wishes.depth or _MOST_POOLINGS
    while len(strides) < most:
        halved = _halved(side, length, forced=wishes.depth is not None)
        if wanted:
            halved = _as_wanted(wanted, len(strides), most, ratio)
        elif wishes.depth is None and _sees(len(strides), diameter):
            break
        if halved is None:
            break
        strides.append(tuple(2 if h else 1 for h in halved))
        length = [a * s for a, s in zip(length, strides[-1], strict=True)]
        side = [-(-n // s) for n, s in zip(side, strides[-1], strict=True)]
        kernels.append(_kernel(length, kernels[-1]))
    return tuple(strides), tuple(kernels)


def _halved(
    side: Sequence[int], length: Sequence[float], forced: bool
) -> list[bool] | None:
    """Axes to halve next: long enough, and of pixels about as long as the shortest."""
    long = [n >= 2 * _LEAST_SIDE or forced for n in side]
    if sum(long) == 1 and not forced:  # a last axis alone needs to be longer still
        long = [n >= 3 * _LEAST_SIDE for n in side]
    if not any(long):
        return None
    shortest = min(a for a, ok in zip(length, long, strict=True) if ok)
    return [ok and a / shortest < _EQUAL for a, ok in zip(length, long, strict=True)]


def _as_wanted(
    wanted: Size, level: int, most: int, ratio: Sequence[float]
) -> list[bool]:
    """Axes to halve as asked: those of long pixels late, the others early."""
    return [
        level >= most - n if r >= _EQUAL else level < n
        for n, r in zip(wanted, ratio, strict=True)
    ]


def _sees(depth: int, diameter: float | None) -> bool:
    """Whether so many poolings show every pixel the whole of its object.

    With two 3 x 3 convolutions a level the receptive field reaches 6 * 2^depth - 4
    pixels to each side.
    """
    return diameter is not None and depth > 0 and 6 * 2**depth - 4 >= diameter


def _kernel(length: Sequence[float], above: Size) -> Size:
    """3 along axes whose pixels are about as long as the shortest, once and for all."""
    return tuple(
        3 if k == 3 or a / min(length) < _EQUAL else 1
        for a, k in zip(length, above, strict=True)
    )


def _complete(
    patch: Sequence[int],
    strides: tuple[Size, ...],
    kernels: tuple[Size, ...],
    wishes: Wishes,
) -> NetworkPlan:
    """Add the widths, the batch and the memory that they take."""
    first = wishes.width or _WIDTH[len(patch)]
    widest = max(_MOST_WIDTH, first)
    widths = tuple(min(first * 2**n, widest) for n in range(len(kernels)))
    room = round(_STEP_PIXELS[len(patch)] / math.prod(patch))
    batch = wishes.batch or min(max(room, _BATCH[0]), _BATCH[1])
    memory = step_memory(patch, batch, strides, kernels, widths)
    return NetworkPlan(tuple(patch), batch, strides, kernels, widths, memory)


def step_memory(
    patch: Sequence[int],
    batch: int,
    strides: Sequence[Size],
    kernels: Sequence[Size],
    widths: Sequence[int],
) -> int:
    """Estimate the bytes that a training step of a network takes; see `NetworkPlan`."""
    activations = batch * _activations(patch, strides, widths)
    return activations + 4 * _COPIES * _weights(kernels, widths)


def _activations(
    patch: Sequence[int], strides: Sequence[Size], widths: Sequence[int]
) -> int:
    """Bytes that one patch leaves behind for the gradient, in float32.

    Each of two convolutions a level leaves its output and the activation's; the
    decoder, besides, what comes up and what it is joined to.
    """
    pixels, total = math.prod(patch), 0
    for level, width in enumerate(widths):
        total += pixels * width * (4 if level == len(widths) - 1 else 4 + 7)
        if level < len(strides):
            pixels //= math.prod(strides[level])
    return 4 * total


def _weights(kernels: Sequence[Size], widths: Sequence[int]) -> int:
    """Count the weights of the convolutions, about."""
    total = 0
    for level, (kernel, width) in enumerate(zip(kernels, widths, strict=True)):
        before = widths[level - 1] if level else 1
        total += math.prod(kernel) * (before * width + width * width)
        if level < len(widths) - 1:
            total += math.prod(kernel) * 3 * width * width
    return total
