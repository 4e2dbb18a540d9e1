"""ZarrSink: results as OME-Zarr 0.5 with a pyramid.

Version 0.5 (ngff.openmicroscopy.org/0.5) because it is the current one and, resting on
zarr 3, names its axes in every level too, so that a level opens by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_unet.errors import OutputError
from napari_unet.images.paged_sink import PagedSink
from napari_unet.images.zarr_levels import Extremes, complete, create, stored_order
from napari_unet.images.zarr_metadata import is_zarr

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_unet.images.sinks import OutputSpec


class ZarrSink(PagedSink):
    """Writes an OME-Zarr folder.

    A chunk is 1024 x 1024 pixels of one plane, so that planes leave for the disk as
    they are finished and no chunk is written twice. Each level of the pyramid halves Y
    and X and is made from the level above it: means for images, every second pixel for
    labels. Axes are stored as T, C, Z, Y, X, since the format asks for that order.
    """

    def check(self, spec: OutputSpec) -> None:
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
        leading, order = spec.shape[:-2], stored_order(spec.axes)
        level, seen = create(spec, part)[0], Extremes(spec)
        for number, plane in enumerate(planes):
            place = np.unravel_index(number, leading) if leading else ()
            level[tuple(int(place[i]) for i in order[:-2])] = plane
            seen.add(plane)
        complete(spec, part, seen.range)
