"""What an OME-Zarr 0.5 folder says about its pixels (ngff.openmicroscopy.org/0.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_unet.images.metadata import provenance_text, unit_name
from napari_unet.images.palette import class_colour, colour, rgb

if TYPE_CHECKING:
    from napari_unet.images.sinks import OutputSpec

VERSION = "0.5"
_TYPES = {"T": "time", "C": "channel", "Z": "space", "Y": "space", "X": "space"}


def attributes(spec: OutputSpec, levels: int) -> dict[str, Any]:
    """Attributes of the group, as OME-Zarr 0.5 defines them.

    Parameters
    ----------
    spec : OutputSpec
        The result, its axes in the order of the format.
    levels : int
        Number of levels of the pyramid.
    """
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
        found["image-label"] = _image_label(spec)
    if spec.channel_names and "C" in spec.axes and spec.kind == "image":
        names = enumerate(spec.channel_names)
        found["omero"] = {"channels": [_channel(i, n, spec) for i, n in names]}
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


def _channel(number: int, name: str, spec: OutputSpec) -> dict[str, Any]:
    """How a channel is shown, which the format wants beside its name."""
    low, high = spec.window or (0.0, 1.0)
    window = {"min": low, "max": high, "start": low, "end": high}
    color = colour(number + 1)[1:].upper()
    return {"label": name, "color": color, "active": True, "window": window}


def _image_label(spec: OutputSpec) -> dict[str, Any]:
    """Colours and names of the classes; objects are left to the viewer."""
    if not spec.classes:
        return {}
    colors = [
        {"label-value": i, "rgba": [*rgb(class_colour(i)), 255]} for i in spec.classes
    ]
    named = [{"label-value": i, "class": n} for i, n in spec.classes.items() if n]
    return {"colors": colors, **({"properties": named} if named else {})}
