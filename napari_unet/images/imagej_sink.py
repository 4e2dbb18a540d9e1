"""ImageJSink: results as a hyperstack that ImageJ opens by itself.

Layout and metadata are those of ImageJ's own files (ij.io.TiffEncoder, ij.io.FileInfo):
one uncompressed run of pixels, a text of "key=value" lines, slice labels.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from tifffile import TiffWriter

from napari_unet.errors import OutputError
from napari_unet.files import writing
from napari_unet.images.metadata import provenance_text
from napari_unet.images.paged_sink import PagedSink
from napari_unet.images.palette import class_colour, rgb

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_unet.images.sinks import OutputSpec

SUFFIX = ".imagej.tif"
_LARGEST = 4_000_000_000
_MOST_PLANES = 100_000
_STORED = {"uint8": "u1", "uint16": "u2", "uint32": "f4", "float32": "f4"}
_LAST_WHOLE = 1 << 24
"""Up to here a float32 holds every whole number."""
_SECONDS = {
    "ns": 1e-9,
    "µs": 1e-6,
    "ms": 1e-3,
    "s": 1,
    "min": 60,
    "h": 3600,
    "d": 86400,
}


class ImageJSink(PagedSink):
    """Writes a TIFF file in the form of ImageJ, up to 4 GB.

    ImageJ knows 8 and 16 bits and float32. Ids of 32 bits are stored as float32, as
    ImageJ's own plugins for label images do, as long as none is over 16,777,216.
    """

    def check(self, spec: OutputSpec) -> None:
        """Refuse what ImageJ does not have."""
        size = math.prod(spec.shape) * spec.dtype.itemsize
        for fits, found, expected in (
            (spec.dtype.name in _STORED, f"dtype {spec.dtype}", ", ".join(_STORED)),
            (set(spec.axes) <= set("TZCYX"), f"axes {spec.axes}", "only T, Z, C, Y, X"),
            (size <= _LARGEST, f"{size / 1e9:.1f} GB", "at most 4 GB"),
            (
                math.prod(spec.shape[:-2]) <= _MOST_PLANES,
                f"{math.prod(spec.shape[:-2]):,} planes",
                f"at most {_MOST_PLANES:,}",
            ),
        ):
            if not fits:
                raise OutputError(
                    f"{self._path.name} cannot hold the result as an ImageJ hyperstack",
                    found=found,
                    expected=expected,
                    hint="Write to .ome.tif or .ome.zarr instead.",
                )

    def _stored(self, spec: OutputSpec) -> np.dtype[Any]:
        """Type of the pixels in the file."""
        return np.dtype(_STORED[spec.dtype.name])

    def _save(self, spec: OutputSpec, part: Path, planes: Iterator[np.ndarray]) -> None:
        """Stream the planes through tifffile."""
        dtype = self._stored(spec)
        with writing(part) as file, TiffWriter(file, imagej=True) as tif:
            tif.write(
                (self._whole(plane, spec).astype(dtype) for plane in planes),
                shape=spec.shape,
                dtype=dtype,
                rowsperstrip=spec.shape[-2],
                resolution=_resolution(spec),
                metadata=_metadata(spec),
                **_colours(spec),
            )

    def _whole(self, plane: np.ndarray, spec: OutputSpec) -> np.ndarray:
        """Refuse ids that would come back as others."""
        if spec.dtype.name == "uint32" and plane.size and plane.max() > _LAST_WHOLE:
            raise OutputError(
                f"{self._path.name} cannot hold the result as an ImageJ hyperstack",
                found=f"the id {plane.max():,}",
                expected=f"ids up to {_LAST_WHOLE:,}, which float32 holds exactly",
                hint="Write to .ome.tif or .ome.zarr instead.",
            )
        return plane


def _resolution(spec: OutputSpec) -> tuple[float, float]:
    """Pixels per unit along X and Y."""
    return 1 / spec.scale.get("X", 1.0), 1 / spec.scale.get("Y", 1.0)


def _metadata(spec: OutputSpec) -> dict[str, Any]:
    """Text and labels in the terms of tifffile's ImageJ writer."""
    unit = {a: _ascii(spec.units[a]) for a in "XYZ" if spec.units.get(a)}
    found: dict[str, Any] = {"axes": spec.axes, "loop": False}
    if "X" in unit:
        found["unit"] = unit["X"]
        others = {"yunit": unit.get("Y"), "zunit": unit.get("Z")}
        found |= {k: v for k, v in others.items() if v and v != unit["X"]}
    if "Z" in spec.axes and "Z" in spec.scale:
        found["spacing"] = spec.scale["Z"]
    if "T" in spec.axes and "T" in spec.scale and spec.units.get("T") in _SECONDS:
        found["finterval"] = spec.scale["T"] * _SECONDS[spec.units["T"]]
    if "C" in spec.axes:
        found["mode"] = "grayscale"
        if spec.window:
            found["Ranges"] = spec.window * spec.shape[spec.axes.index("C")]
    if spec.channel_names and "C" in spec.axes:
        places = np.ndindex(*spec.shape[:-2])
        channel = spec.axes.index("C")
        found["Labels"] = [spec.channel_names[place[channel]] for place in places]
    facts = {**provenance_text(spec.provenance), **_named(spec)}
    found["Info"] = "".join(f"{key}: {value}\n" for key, value in facts.items())
    return found


def _named(spec: OutputSpec) -> dict[str, str]:
    """Names of the classes, for ImageJ's "Show Info"."""
    names = {i: name for i, name in spec.classes.items() if name}
    return {"classes": json.dumps(names, ensure_ascii=False)} if names else {}


def _colours(spec: OutputSpec) -> dict[str, Any]:
    """Look-up table of the classes, where a pixel is its index."""
    if spec.kind != "labels" or spec.dtype.itemsize > 1 or not spec.classes:
        return {"photometric": "minisblack"}
    table = np.zeros((3, 256), np.uint16)
    for label in range(1, 256):
        table[:, label] = np.multiply(rgb(class_colour(label)), 257)
    return {"photometric": "palette", "colormap": table}


def _ascii(unit: str) -> str:
    """Write a unit as ImageJ does."""
    return unit.encode("ascii", "backslashreplace").decode().replace(r"\xb5", r"\u00B5")
