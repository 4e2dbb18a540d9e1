"""ZarrSink: results as OME-Zarr 0.5 with a pyramid.

Version 0.5 (ngff.openmicroscopy.org/0.5) because it is the current one and, resting on
zarr 3, names its axes in every level too, so that a level opens by itself.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.errors import OutputError
from napari_unet.images.metadata import provenance_text, unit_name
from napari_unet.images.paged_sink import PagedSink
from napari_unet.images.pyramid import LARGEST, halved, level_shapes
from napari_unet.images.zarr_metadata import is_zarr

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from napari_unet.images.sinks import OutputSpec

VERSION = "0.5"
CHUNK = LARGEST
_TYPES = {"T": "time", "C": "channel", "Z": "space", "Y": "space", "X": "space"}


class ZarrSink(PagedSink):
    """Writes an OME-Zarr folder.

    A chunk is 1024 x 1024 pixels of one plane, so that planes leave for the disk as
    they are finished and no chunk is written twice. Each level of the pyramid halves Y
    and X and is made from the level above it: means for images, every second pixel for
    labels.
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

        shapes = level_shapes(spec.shape, CHUNK)
        group = zarr.create_group(
            str(part), zarr_format=3, attributes=_attributes(spec, len(shapes))
        )
        levels = [_create(group, str(i), spec, s) for i, s in enumerate(shapes)]
        for number, plane in enumerate(planes):
            levels[0][_place(number, spec.shape)] = plane
        for above, below in itertools.pairwise(levels):
            _shrink(above, below, spec.kind == "labels")


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


def _place(number: int, shape: Sequence[int]) -> tuple[int, ...]:
    """Leading indices of a plane."""
    return (
        tuple(int(n) for n in np.unravel_index(number, shape[:-2]))
        if shape[:-2]
        else ()
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


def _attributes(spec: OutputSpec, levels: int) -> dict[str, Any]:
    """Attributes of the group, as OME-Zarr 0.5 defines them."""
    multiscale = {
        "name": spec.name,
        "axes": [_axis(a, spec) for a in spec.axes],
        "datasets": [
            {"path": str(i), "coordinateTransformations": _transformations(spec, i)}
            for i in range(levels)
        ],
        "type": "nearest" if spec.kind == "labels" else "mean",
    }
    found: dict[str, Any] = {"version": VERSION, "multiscales": [multiscale]}
    if spec.kind == "labels":
        found["image-label"] = {}
    if spec.channel_names and "C" in spec.axes and spec.kind == "image":
        found["omero"] = {"channels": [_channel(n, spec) for n in spec.channel_names]}
    provenance = provenance_text(spec.provenance)
    return {"ome": found, **({"unet-napari": provenance} if provenance else {})}


def _axis(axis: str, spec: OutputSpec) -> dict[str, str]:
    """One axis with its type and unit."""
    found = {"name": axis.lower()}
    if axis in _TYPES:
        found["type"] = _TYPES[axis]
    if spec.units.get(axis):
        found["unit"] = unit_name(spec.units[axis])
    return found


def _transformations(spec: OutputSpec, level: int) -> list[dict[str, Any]]:
    """Pixel size of a level, and where the centre of its first pixel lies."""
    factors = [2**level if a in "YX" else 1 for a in spec.axes]
    sizes = [float(spec.scale.get(a, 1.0)) for a in spec.axes]
    pairs = list(zip(sizes, factors, strict=True))
    found: list[dict[str, Any]] = [
        {"type": "scale", "scale": [s * f for s, f in pairs]}
    ]
    if level and spec.kind == "image":  # means are centred between the pixels
        moved = [s * (f - 1) / 2 for s, f in pairs]
        found.append({"type": "translation", "translation": moved})
    return found


def _channel(name: str, spec: OutputSpec) -> dict[str, Any]:
    """How a channel is shown, which the format wants beside its name."""
    top = 1.0 if spec.dtype.kind == "f" else float(np.iinfo(spec.dtype).max)
    window = {"min": 0.0, "max": top, "start": 0.0, "end": top}
    return {"label": name, "color": "FFFFFF", "active": True, "window": window}
