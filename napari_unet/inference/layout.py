"""Which axes a network sees, which are looped over, and where results lie.

A frame is what the network sees at once: a plane for a 2D network, a volume for a 3D
one. All other axes but C are looped over.
"""

from __future__ import annotations

import itertools
import math
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.errors import ImageError, ModelError, UsageError
from napari_unet.images import axes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from napari_unet.images.stack import ImageStack
    from napari_unet.inference.tiling import Range
    from napari_unet.networks.spec import ModelSpec

    Region = Mapping[str, int | slice]


@dataclass(frozen=True)
class Layout:
    """An image as a network sees it.

    Attributes
    ----------
    looped : str
        Axes looped over, in the order of the result.
    spatial : str
        Axes of a frame, ``"YX"`` or ``"ZYX"``.
    channels : tuple of int
        Numbers of the image channels that feed the network.
    size : tuple of int
        Size of a whole frame.
    wanted : mapping of str to tuple of int
        Start and stop of the wanted part of every axis but C.
    dropped : str
        Axes the result lacks because a single position was asked for.
    middle : mapping of str to float, optional
        Pixel from which the frames come by their distance, for who looks on; in the
        order of the result when not given.
    """

    looped: str
    spatial: str
    channels: tuple[int, ...]
    size: tuple[int, ...]
    wanted: Mapping[str, Range]
    dropped: str = ""
    middle: Mapping[str, float] | None = None

    @property
    def target(self) -> tuple[Range, ...]:
        """Wanted part of a frame, per spatial axis."""
        return tuple(self.wanted[a] for a in self.spatial)

    @property
    def frames(self) -> int:
        """Number of frames to compute."""
        return math.prod(b - a for a, b in (self.wanted[x] for x in self.looped))

    def positions(self) -> Iterator[dict[str, int]]:
        """Position of each frame along the looped axes, one after another."""
        ranges = [range(*self.wanted[a]) for a in self.looped]
        positions: Iterable[tuple[int, ...]] = itertools.product(*ranges)
        if self.middle is not None:
            here = [self.middle[a] for a in self.looped]
            positions = sorted(positions, key=lambda place: math.dist(place, here))
        for position in positions:
            yield dict(zip(self.looped, position, strict=True))

    def axes(self, channels: bool) -> str:
        """Axes of the result: looped ones, Z, C, Y, X."""
        named = self.looped + self.spatial[:-2] + "C" * channels + "YX"
        return "".join(a for a in named if a not in self.dropped)

    def shape(self, channels: int | None) -> tuple[int, ...]:
        """Shape of a result with that many channels, or without C for None."""
        lengths = {a: stop - start for a, (start, stop) in self.wanted.items()}
        lengths["C"] = channels or 0
        return tuple(lengths[a] for a in self.axes(channels is not None))

    def place(
        self, position: Mapping[str, int], write: Sequence[Range], block: np.ndarray
    ) -> tuple[tuple[slice, ...], np.ndarray]:
        """Turn a block of a frame into a region of the result and its values.

        Parameters
        ----------
        position : mapping of str to int
            The frame's position along the looped axes.
        write : sequence of tuple of int
            Start and stop of the block in the frame, per spatial axis.
        block : numpy.ndarray
            (*spatial) or (C, *spatial).

        Returns
        -------
        region : tuple of slice
            One slice per axis of the result.
        block : numpy.ndarray
            The values in the order of the result's axes.
        """
        has_channels = block.ndim > len(self.spatial)
        ranges = {a: (p, p + 1) for a, p in position.items()}
        ranges.update(zip(self.spatial, write, strict=True))
        begins = {a: self.wanted[a][0] for a in ranges}
        if has_channels:
            ranges["C"], begins["C"] = (0, block.shape[0]), 0
        out = self.axes(has_channels)
        region = [slice(*(n - begins[a] for n in ranges[a])) for a in out]
        own = "C" * has_channels + self.spatial
        order = [own.index(a) for a in self.axes(has_channels) if a in own]
        order += [own.index(a) for a in own if a in self.dropped]
        shape = [s.stop - s.start for s in region]
        return tuple(region), np.ascontiguousarray(block.transpose(order)).reshape(
            shape
        )


def lay_out(
    stack: ImageStack,
    spec: ModelSpec,
    channels: tuple[int, ...] | None = None,
    region: Region | None = None,
) -> Layout:
    """Check that an image fits a network and name its axes.

    Raises
    ------
    ModelError
        If the network needs other axes or another number of channels.
    ImageError
        If an axis is empty.
    UsageError
        If `channels` or `region` lie outside the image.
    """
    _check_axes(stack, spec)
    chosen = _choose_channels(stack, spec, channels)
    sizes = {a: n for a, n in stack.sizes.items() if a != "C"}
    frames = axes.frames(stack.axes, spec.ndim)
    looped = frames.replace("Z", "") + "Z" * ("Z" in frames)
    region = region or {}
    for name in region:
        if name not in sizes:
            raise UsageError(
                "The region cannot be used",
                found=f"axis {name}",
                expected=f"axes out of {''.join(sizes)}",
            )
    return Layout(
        looped,
        spec.spatial,
        chosen,
        tuple(sizes[a] for a in spec.spatial),
        {a: _bounds(a, region.get(a), n) for a, n in sizes.items()},
        "".join(a for a in region if not isinstance(region[a], slice)),
    )


def _check_axes(stack: ImageStack, spec: ModelSpec) -> None:
    """Refuse empty images and 3D networks on planes."""
    for axis, length in stack.sizes.items():
        if length == 0:
            raise ImageError(f"{stack.name} is empty", found=f"size 0 along {axis}")
    missing = [a for a in spec.spatial if a not in stack.axes]
    if missing:
        raise ModelError(
            f"The model {spec.name} works on volumes and needs the axes {spec.spatial}",
            found=f"an image with axes {stack.axes}",
            hint="Choose a 2D model, or name the axes of the image if they were "
            "misread (--axes).",
        )


def _choose_channels(
    stack: ImageStack, spec: ModelSpec, channels: tuple[int, ...] | None
) -> tuple[int, ...]:
    """Channels that feed the network, or a refusal that names both numbers."""
    chosen = tuple(range(stack.channels)) if channels is None else channels
    outside = [c for c in chosen if not 0 <= c < stack.channels]
    if outside:
        raise UsageError(
            f"{stack.name} has no channel {outside[0]}",
            expected=f"0 to {stack.channels - 1}",
        )
    if len(chosen) != spec.in_channels:
        raise ModelError(
            f"The model {spec.name} and the image differ in their channels",
            found=f"{len(chosen)} image channel{'s' * (len(chosen) != 1)}",
            expected=f"{spec.in_channels}",
            hint="Choose the channels that feed the model, in its order: "
            "--channels 0 (or channels=(0,)).",
        )
    return chosen


def _bounds(axis: str, wish: int | slice | None, size: int) -> Range:
    """Start and stop of the wanted part of an axis."""
    if wish is None:
        return 0, size
    if isinstance(wish, slice):
        start, stop, step = wish.indices(size)
    else:
        start, step = operator.index(wish), 1
        start += size if start < 0 else 0
        stop = start + 1
    if step != 1 or not 0 <= start < stop <= size:
        raise UsageError(
            f"The region along {axis} cannot be used",
            found=str(wish),
            expected=f"a non-empty range with step 1 inside 0 to {size}",
        )
    return start, stop
