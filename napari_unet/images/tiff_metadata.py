"""Pixel sizes and channel names in the dialects of TIFF."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_unet.images import ome
from napari_unet.images.metadata import Physical, number

if TYPE_CHECKING:
    from collections.abc import Mapping
    from xml.etree.ElementTree import Element

    from tifffile import TiffFile, TiffPage, TiffPageSeries

_UNITS = {3: "cm", 4: "mm", 5: "µm"}


def physical(tif: TiffFile, series: TiffPageSeries, root: Element | None) -> Physical:
    """Collect what the file says about the pixels of a series.

    Parameters
    ----------
    tif : tifffile.TiffFile
        The open file.
    series : tifffile.TiffPageSeries
        One of its series.
    root : Element or None
        Its OME-XML.
    """
    if series.kind == "ome" and root is not None:
        ours = [s for s in tif.series if s.kind == "ome"]
        return ome.physical(root, ours.index(series), series.name)
    if series.kind == "imagej":
        return _imagej(tif.imagej_metadata or {}, series.keyframe)
    if series.kind == "shaped":
        return _shaped(tif, series)
    if series.kind == "lsm":
        return _lsm(tif.lsm_metadata or {})
    if series.kind == "stk":
        return _stk(tif.stk_metadata or {})
    return Physical()


def _imagej(info: Mapping[str, Any], page: TiffPage) -> Physical:
    """ImageJ: resolution tags are pixels per unit, spacing and unit in the text."""
    found = Physical()
    unit = info.get("unit", "")
    _resolution(found, page, {"X": unit, "Y": info.get("yunit", unit)})
    if unit or "spacing" in info:
        found.set("Z", _absolute(info.get("spacing")), info.get("zunit", unit))
    found.set("T", info.get("finterval") or None, info.get("tunit", "s"))
    labels = info.get("Labels") or ()
    channels = number(info.get("channels", 1)) or 1
    if isinstance(labels, list) and channels > 1:
        names = [str(label) for label in labels[: int(channels)]]
        if names * (len(labels) // len(names)) == labels:  # the same in each frame
            found.channel_names = tuple(names)
    return found


def _shaped(tif: TiffFile, series: TiffPageSeries) -> Physical:
    """Metadata that tifffile writes: OME's names, or ImageJ's."""
    found = Physical()
    ours = [s for s in tif.series if s.kind == "shaped"]
    every = tif.shaped_metadata or ()
    index = ours.index(series)
    info = every[index] if index < len(every) else {}
    unit = info.get("unit", "")
    tag = series.keyframe.tags.get("ResolutionUnit")
    code = int(tag.value) if tag is not None else 1
    if unit or code in (4, 5):
        _resolution(found, series.keyframe, dict.fromkeys("XY", unit or _UNITS[code]))
        found.set("Z", info.get("spacing"), unit or _UNITS.get(code, ""))
    for axis in "XYZ":
        size, name = f"PhysicalSize{axis}", f"PhysicalSize{axis}Unit"
        found.set(axis, info.get(size), info.get(name, "µm"))
    found.set("T", info.get("TimeIncrement"), info.get("TimeIncrementUnit", "s"))
    return found


def _lsm(info: Mapping[str, Any]) -> Physical:
    """Zeiss LSM: voxel sizes in metres."""
    found = Physical()
    for axis in "XYZ":
        size = number(info.get(f"VoxelSize{axis}"))
        found.set(axis, None if not size else size * 1e6, "µm")
    found.set("T", info.get("TimeIntervall") or None, "s")
    colors = info.get("ChannelColors") or {}
    found.channel_names = tuple(str(n) for n in colors.get("ColorNames", ()))
    return found


def _stk(info: Mapping[str, Any]) -> Physical:
    """MetaMorph STK: calibration where it was switched on."""
    found = Physical()
    unit = str(info.get("CalibrationUnits") or "").strip("\0 ")
    if info.get("SpatialCalibration") and unit:
        found.set("X", info.get("XCalibration"), unit)
        found.set("Y", info.get("YCalibration"), unit)
        steps = info.get("ZDistance")
        if steps is not None and len(steps):
            found.set("Z", steps[0], unit)
    return found


def _resolution(found: Physical, page: TiffPage, units_of: Mapping[str, str]) -> None:
    """Pixel size along X and Y from the resolution tags, if a unit goes with them."""
    for axis, unit in units_of.items():
        tag = page.tags.get(f"{axis}Resolution")
        if tag is None or not unit:
            continue
        pixels, units = tag.value if isinstance(tag.value, tuple) else (tag.value, 1)
        found.set(axis, units / pixels if pixels else 0, unit)


def _absolute(spacing: Any) -> float | None:
    """Spacing without the sign that ImageJ gives stacks taken downwards."""
    value = number(spacing)
    return None if value is None else abs(value)
