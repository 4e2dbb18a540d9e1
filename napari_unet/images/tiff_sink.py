"""TiffSink: results as OME-TIFF, tiled and compressed, plane after plane."""

from __future__ import annotations

import json
import math
import uuid
from typing import TYPE_CHECKING, Any

import numpy as np
from tifffile import TiffWriter

from napari_unet.errors import OutputError
from napari_unet.files import writing
from napari_unet.images.metadata import provenance_text
from napari_unet.images.paged_sink import PagedSink
from napari_unet.images.pyramid import Levels

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_unet.images.sinks import OutputSpec

TILE = 256
NAMESPACE = "unet-napari/provenance"
_CLASSIC = 2_000_000_000
_BUFFER = 16 << 20
_DTYPES = ("uint8", "uint16", "uint32", "int8", "int16", "int32", "float32", "float64")
_OME_UNITS = {*"pm nm µm mm cm m Å in".split(), *"ns µs ms s min h d".split()}


class TiffSink(PagedSink):
    """Writes an OME-TIFF file.

    Zlib is the compression every reader has, and it never shrinks empty labels below
    1/1030, so that our own reader finds the file plausible. BigTIFF is chosen from the
    uncompressed size, before anything is written. Large planes get a pyramid in SubIFDs
    (OME-TIFF specification 6.0), which readers without them pass over.
    """

    def check(self, spec: OutputSpec) -> None:
        """Refuse types and axes that OME-TIFF does not have."""
        if spec.dtype.name not in _DTYPES:
            raise OutputError(
                f"{self._path.name} cannot hold the result",
                found=f"dtype {spec.dtype}",
                expected="one of " + ", ".join(_DTYPES),
                hint="Write to .ome.zarr instead.",
            )
        if not set(spec.axes) <= set("TZCYX"):
            raise OutputError(
                f"{self._path.name} cannot hold the result",
                found=f"axes {spec.axes}",
                expected="only T, Z, C, Y and X in an OME-TIFF file",
                hint="Write to .ome.zarr instead.",
            )

    @property
    def hidden(self) -> tuple[Path, ...]:
        """What stands beside it until then; empty before `open`."""
        part, *others = super().hidden or (None,)
        return (part, _scratch(part), *others) if part else ()

    def _save(self, spec: OutputSpec, part: Path, planes: Iterator[np.ndarray]) -> None:
        """Stream the planes through tifffile, then the smaller levels as SubIFDs."""
        levels = Levels(spec, _scratch(part))
        size = sum(map(math.prod, [spec.shape, *levels.shapes])) * spec.dtype.itemsize
        try:
            with (
                writing(part) as file,
                TiffWriter(file, bigtiff=size > _CLASSIC, ome=True) as tif,
            ):
                tif.write(
                    _segments(spec, levels.passing(planes)),
                    **_layout(spec, spec.shape),
                    metadata=_metadata(spec),
                    subifds=len(levels.shapes),
                    software=NAMESPACE.partition("/")[0],
                )
                for level, shape in enumerate(levels.shapes):
                    pixels = _tiles(levels.planes(level))
                    tif.write(pixels, **_layout(spec, shape), subfiletype=1)
        finally:
            levels.discard()


def _scratch(part: Path) -> Path:
    """Name the file of the smaller levels."""
    return part.with_suffix(".levels")


def _layout(spec: OutputSpec, shape: tuple[int, ...]) -> dict[str, Any]:
    """How the planes of one level lie in the file."""
    tiled = max(spec.shape[-2:]) > 2 * TILE
    return {
        "shape": shape,
        "dtype": spec.dtype,
        "tile": (TILE, TILE) if tiled else None,
        "rowsperstrip": None if tiled else shape[-2],
        "photometric": "minisblack",
        "compression": "zlib",
        "compressionargs": {"level": 1 if spec.dtype.kind == "f" else 6},
        "buffersize": _BUFFER,
    }


def _segments(spec: OutputSpec, planes: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Cut planes into what is compressed at a time: tiles, or small whole planes."""
    return _tiles(planes) if max(spec.shape[-2:]) > 2 * TILE else map(np.array, planes)


def _tiles(planes: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Cut planes into tiles, copied since the plane is used again."""
    for plane in planes:
        for y in range(0, plane.shape[0], TILE):
            for x in range(0, plane.shape[1], TILE):
                yield np.array(plane[y : y + TILE, x : x + TILE])


def _uuid(spec: OutputSpec) -> str:
    """Make the identifier of a file, the same each time the same result is written."""
    facts = [spec.axes, spec.shape, spec.dtype.name, spec.name, dict(spec.provenance)]
    return str(uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(facts, default=str)))


def _metadata(spec: OutputSpec) -> dict[str, Any]:
    """Metadata in the terms of tifffile's OME-XML writer."""
    found: dict[str, Any] = {"axes": spec.axes, "Name": spec.name, "UUID": _uuid(spec)}
    for axis, size in spec.scale.items():
        name = "TimeIncrement" if axis == "T" else f"PhysicalSize{axis}"
        unit = spec.units.get(axis, "")
        if axis in spec.axes and axis in "TZYX" and (axis != "T" or unit):
            found[name] = size
            found[f"{name}Unit"] = unit if unit in _OME_UNITS else "reference frame"
    if spec.channel_names and "C" in spec.axes:
        found["Channel"] = {"Name": list(spec.channel_names)}
    if spec.provenance:
        facts = provenance_text(spec.provenance)
        found["MapAnnotation"] = {"Namespace": NAMESPACE, **facts}
    return found
