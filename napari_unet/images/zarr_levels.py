"""The arrays of an OME-Zarr folder: made empty, filled from level 0 down, described."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.images.pyramid import LARGEST, halved, level_shapes
from napari_unet.images.zarr_attributes import attributes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_unet.images.sinks import OutputSpec

CHUNK = LARGEST


def chunk_of(plane: Sequence[int]) -> tuple[int, int]:
    """Height and width of the chunks of a plane (Y, X)."""
    height, width = (min(CHUNK, n) for n in plane)
    return height, width


def create(spec: OutputSpec, part: Path) -> list[Any]:
    """Make the folder with all levels, empty.

    Parameters
    ----------
    spec : OutputSpec
        The result.
    part : pathlib.Path
        The folder.

    Returns
    -------
    list of zarr.Array
        From the full size down, their axes in `stored_order`.
    """
    import zarr

    spec = _reordered(spec)
    group = zarr.create_group(str(part), zarr_format=3)
    shapes = level_shapes(spec.shape, CHUNK)
    return [_create(group, str(i), spec, shape) for i, shape in enumerate(shapes)]


def complete(spec: OutputSpec, part: Path, seen: tuple[float, float] | None) -> None:
    """Fill the levels below level 0, then describe them all.

    Parameters
    ----------
    spec : OutputSpec
        The result.
    part : pathlib.Path
        The folder, whose level 0 is whole.
    seen : tuple of float, optional
        Smallest and largest value, for results that come without a window.
    """
    import zarr

    spec = _reordered(spec)
    group = zarr.open_group(str(part), mode="r+", zarr_format=3)
    count = len(level_shapes(spec.shape, CHUNK))
    levels: list[Any] = [group[str(i)] for i in range(count)]
    for above, below in itertools.pairwise(levels):
        _shrink(above, below, spec.kind == "labels")
    window = spec.window or seen
    group.attrs.update(attributes(replace(spec, window=window), count))


class Extremes:
    """Smallest and largest finite value of the planes so far.

    Parameters
    ----------
    spec : OutputSpec
        The result; nothing is looked for where it needs none.
    """

    def __init__(self, spec: OutputSpec) -> None:
        self._wanted = spec.kind == "image" and spec.window is None
        self._low, self._high = math.inf, -math.inf

    def add(self, plane: np.ndarray) -> None:
        """Look at a plane, some rows at a time."""
        for y in range(0, len(plane) if self._wanted else 0, CHUNK):
            rows = plane[y : y + CHUNK]
            values = rows[np.isfinite(rows)]
            if values.size:
                self.include(float(values.min()), float(values.max()))

    def include(self, low: float, high: float) -> None:
        """Take in what was found of other planes."""
        self._low, self._high = min(self._low, low), max(self._high, high)

    @property
    def found(self) -> tuple[float, float]:
        """Both, for `include`; infinite where there was nothing."""
        return self._low, self._high

    @property
    def range(self) -> tuple[float, float] | None:
        """Both, or None where there is no contrast."""
        return self.found if self._low < self._high else None


def stored_order(axes: str) -> tuple[int, ...]:
    """Places of the axes in the order OME-Zarr asks for: time, channel or other, space.

    Parameters
    ----------
    axes : str
        Axes of a result, such as ``"TZCYX"``.
    """

    def rank(place: int) -> int:
        return (axes[place] != "T") + (axes[place] in "ZYX")

    return tuple(sorted(range(len(axes)), key=rank))


def _reordered(spec: OutputSpec) -> OutputSpec:
    """Describe a result with its axes in the stored order."""
    order = stored_order(spec.axes)
    axes = "".join(spec.axes[i] for i in order)
    return replace(spec, axes=axes, shape=tuple(spec.shape[i] for i in order))


def _create(group: Any, name: str, spec: OutputSpec, shape: tuple[int, ...]) -> Any:
    """Make one level."""
    return group.create_array(
        name,
        shape=shape,
        dtype=spec.dtype,
        chunks=(*(1 for _ in shape[:-2]), *chunk_of(shape[-2:])),
        dimension_names=list(spec.axes.lower()),
        fill_value=0,
    )


def _shrink(above: Any, below: Any, labels: bool) -> None:
    """Fill a level from the one above it, a chunk at a time."""
    height, width = below.shape[-2:]
    corners = itertools.product(range(0, height, CHUNK), range(0, width, CHUNK))
    for y, x in corners:
        for place in np.ndindex(*below.shape[:-2]):
            source = (
                *place,
                slice(2 * y, 2 * (y + CHUNK)),
                slice(2 * x, 2 * (x + CHUNK)),
            )
            target = (*place, slice(y, y + CHUNK), slice(x, x + CHUNK))
            block = above[source]
            below[target] = halved(block, labels)
