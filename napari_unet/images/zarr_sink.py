"""ZarrSink: results as OME-Zarr 0.5 with a pyramid.

Version 0.5 (ngff.openmicroscopy.org/0.5) because it is the current one and, resting on
zarr 3, names its axes in every level too, so that a level opens by itself.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.errors import OutputError
from napari_unet.images.paged_sink import PagedSink
from napari_unet.images.pyramid import LARGEST, halved, level_shapes
from napari_unet.images.zarr_attributes import attributes
from napari_unet.images.zarr_metadata import is_zarr

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from napari_unet.images.sinks import OutputSpec

CHUNK = LARGEST


class ZarrSink(PagedSink):
    """Writes an OME-Zarr folder.

    A chunk is 1024 x 1024 pixels of one plane, so that planes leave for the disk as
    they are finished and no chunk is written twice. Each level of the pyramid halves Y
    and X and is made from the level above it: means for images, every second pixel for
    labels. Axes are stored as T, C, Z, Y, X, since the format asks for that order.
    """

    def _check(self, spec: OutputSpec) -> None:
        """Refuse axes that OME-Zarr does not have, and folders of other things."""
        others = [a for a in spec.axes if a not in "TZYX"]
        if len(others) > 1:
            raise OutputError(
                f"{self._path.name} cannot hold the result",
                found=f"axes {spec.axes}",
                expected="T, Z, Y, X and one more axis in an OME-Zarr image",
                hint="Write to .npy instead.",
            )
        if (
            self._path.is_dir()
            and any(self._path.iterdir())
            and not is_zarr(self._path)
        ):
            raise OutputError(
                f"{self._path.name} could not be written",
                found="a folder of that name with other files in it",
                hint="Choose another name.",
            )

    def _save(self, spec: OutputSpec, part: Path, planes: Iterator[np.ndarray]) -> None:
        """Write level 0, then the levels below it."""
        import zarr

        order = stored_order(spec.axes)
        leading, spec = spec.shape[:-2], _reordered(spec, order)
        shapes = level_shapes(spec.shape, CHUNK)
        group = zarr.create_group(str(part), zarr_format=3)
        levels = [_create(group, str(i), spec, s) for i, s in enumerate(shapes)]
        seen = Extremes()
        for number, plane in enumerate(planes):
            place = np.unravel_index(number, leading) if leading else ()
            levels[0][tuple(int(place[i]) for i in order[:-2])] = plane
            if spec.kind == "image" and spec.window is None:
                seen.add(plane)
        for above, below in itertools.pairwise(levels):
            _shrink(above, below, spec.kind == "labels")
        window = spec.window or seen.range
        group.attrs.update(attributes(replace(spec, window=window), len(shapes)))


class Extremes:
    """Smallest and largest finite value of the planes so far."""

    def __init__(self) -> None:
        self._low, self._high = math.inf, -math.inf

    def add(self, plane: np.ndarray) -> None:
        """Look at a plane, some rows at a time."""
        for y in range(0, len(plane), CHUNK):
            rows = plane[y : y + CHUNK]
            values = rows[np.isfinite(rows)]
            if values.size:
                self._low = min(self._low, float(values.min()))
                self._high = max(self._high, float(values.max()))

    @property
    def range(self) -> tuple[float, float] | None:
        """Both, or None where there is no contrast."""
        return (self._low, self._high) if self._low < self._high else None


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


def _reordered(spec: OutputSpec, order: Sequence[int]) -> OutputSpec:
    """Describe a result with its axes in another order."""
    axes = "".join(spec.axes[i] for i in order)
    return replace(spec, axes=axes, shape=tuple(spec.shape[i] for i in order))


def _create(group: Any, name: str, spec: OutputSpec, shape: tuple[int, ...]) -> Any:
    """Make one level."""
    plane = tuple(min(CHUNK, n) for n in shape[-2:])
    return group.create_array(
        name,
        shape=shape,
        dtype=spec.dtype,
        chunks=(*(1 for _ in shape[:-2]), *plane),
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
