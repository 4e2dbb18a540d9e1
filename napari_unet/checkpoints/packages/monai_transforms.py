"""MONAI's preprocessing transforms, in our words (Project-MONAI/MONAI 1.6.1).

Settings that are not plain values have been left out before; a transform that lacks one
it needs is named and not carried out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeGuard

from napari_unet.images.intensity import Normalization

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_MICROMETRES = 1000.0
_AXES = "the network has the axes X, Y, Z, as MONAI reads images, and is turned to ours"
_IN_ORDER = ("NumpyReader", "WSIReader")
"""Readers that leave the axes of an image in their order."""
_WITHOUT_EFFECT = {
    *("EnsureChannelFirst", "AddChannel", "AsChannelFirst"),
    *("EnsureType", "ToTensor", "CastToType", "ToDevice", "SelectItems", "Identity"),
}


@dataclass
class Steps:
    """What happens before the network.

    Attributes
    ----------
    normalization : Normalization, optional
        The first scaling of intensities; None without one.
    spacing : dict of str to float
        Pixel size in µm by axis; MONAI gives millimetres.
    axes : str
        Order in which images are read, ``"ZYX"`` or ``"XYZ"``; empty if nothing tells.
    notes : list of str
        What is not carried out.
    """

    normalization: Normalization | None = None
    spacing: dict[str, float] = field(default_factory=dict)
    axes: str = ""
    notes: list[str] = field(default_factory=list)


def translate(transforms: list[Any]) -> Steps:
    """Translate a list of transforms, each a mapping with a ``_target_``."""
    steps = Steps()
    for transform in transforms:
        target = transform.get("_target_") if isinstance(transform, dict) else None
        if not isinstance(target, str):
            steps.notes.append("a step before the network is a program and was not run")
            continue
        if transform.get("_disabled_") is True:
            continue
        name = target.rpartition(".")[2]
        _translate(re.sub("(d|D|Dict)$", "", name), transform, steps)
    return steps


def _translate(name: str, settings: Mapping[str, Any], steps: Steps) -> None:
    """Add what a transform does to the steps, or its name to the notes."""
    if name in _WITHOUT_EFFECT:
        return
    if name == "LoadImage":
        steps.axes = "XYZ" if _turns(settings) else "ZYX"
        steps.notes += [_AXES] if steps.axes == "XYZ" else []
        return
    if name == "Orientation":
        steps.notes.append(_orientation(settings.get("axcodes")))
        return
    if name == "Spacing" and (spacing := _spacing(settings.get("pixdim"))):
        steps.spacing = spacing
        return
    scale = _SCALES.get(name)
    is_second = steps.normalization is not None
    found = scale(settings, steps.notes) if scale and not is_second else None
    steps.normalization = found or steps.normalization
    if found is None:
        steps.notes.append(f"the step {name} before the network is not carried out")


def _turns(settings: Mapping[str, Any]) -> bool:
    """Whether LoadImage gives X, Y, Z; two of its readers may be told otherwise."""
    reader = str(settings.get("reader"))
    usual = reader == "PILReader"
    return reader not in _IN_ORDER and settings.get("reverse_indexing", usual) is usual


def _spacing(pixdim: Any) -> dict[str, float]:
    """Return the pixel size; MONAI's axes are X, Y, Z and 0 or less is no size."""
    sizes = pixdim if isinstance(pixdim, list) else [pixdim] * 3
    if not 2 <= len(sizes) <= 3 or not all(_is_number(s) for s in sizes):
        return {}
    pairs = zip("XYZ", sizes, strict=False)
    return {axis: size * _MICROMETRES for axis, size in pairs if size > 0}


def _orientation(axcodes: Any) -> str:
    codes = axcodes if isinstance(axcodes, str) else "a fixed orientation"
    return (
        f"the network was trained on images whose axes run to {codes}; flip those that "
        "run the other way"
    )


def _range(settings: Mapping[str, Any], notes: list[str]) -> Normalization | None:
    """ScaleIntensityRange: from a_min ... a_max to b_min ... b_max, perhaps clipped."""
    low, high = settings.get("a_min"), settings.get("a_max")
    if not (_is_number(low) and _is_number(high)) or low == high:
        return None
    first, last = settings.get("b_min"), settings.get("b_max")
    if not (_is_number(first) and _is_number(last)):
        first, last = 0, 1
    gain = (last - first) / (high - low)
    clips = settings.get("clip") is True
    is_unit = (first, last) == (0, 1)
    if clips and not is_unit:
        notes.append(f"intensities outside {low} to {high} are not clipped")
    return Normalization(
        kind="linear", gain=gain, offset=first - gain * low, clip=clips and is_unit
    )


def _percentiles(settings: Mapping[str, Any], notes: list[str]) -> Normalization | None:
    """ScaleIntensityRangePercentiles to 0 ... 1, over all channels by default."""
    low, high = settings.get("lower"), settings.get("upper")
    ends = [settings.get("b_min"), settings.get("b_max")]
    is_unit = ends in ([0, 1], [None, None]) and settings.get("relative") is not True
    if not (_is_number(low) and _is_number(high)) or not is_unit:
        return None
    del notes
    clips = settings.get("clip") is True
    return Normalization(
        kind="percentile", low=low, high=high, clip=clips, joint=_joint(settings), eps=0
    )


def _minmax(settings: Mapping[str, Any], notes: list[str]) -> Normalization | None:
    """ScaleIntensity to 0 ... 1, over all channels by default."""
    del notes
    ends = [settings.get("minv", 0), settings.get("maxv", 1)]
    is_unit = ends == [0, 1] and settings.get("factor") is None
    return (
        Normalization(kind="minmax", joint=_joint(settings), eps=0) if is_unit else None
    )


def _zscore(settings: Mapping[str, Any], notes: list[str]) -> Normalization | None:
    """NormalizeIntensity: by the image's mean and deviation, or by given ones."""
    mean, std = settings.get("subtrahend"), settings.get("divisor")
    if _is_number(mean) and _is_number(std) and std != 0:
        return Normalization(kind="linear", gain=1 / std, offset=-mean / std)
    if mean is not None or std is not None:
        return None
    if settings.get("nonzero") is True:
        notes.append(
            "mean and deviation were taken over pixels other than 0 in training; "
            "here over all"
        )
    return Normalization(kind="zscore", joint=_joint(settings), eps=0)


def _joint(settings: Mapping[str, Any]) -> bool:
    return settings.get("channel_wise") is not True


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_SCALES: dict[str, Callable[[Mapping[str, Any], list[str]], Normalization | None]] = {
    "ScaleIntensityRange": _range,
    "ScaleIntensityRangePercentiles": _percentiles,
    "ScaleIntensity": _minmax,
    "NormalizeIntensity": _zscore,
}
