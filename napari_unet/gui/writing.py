"""Layers as files, through the sinks that results take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.errors import ImageError
from napari_unet.gui import words
from napari_unet.gui.staging import blocks
from napari_unet.images.sinks import OutputSpec, label_dtype, sink_for

if TYPE_CHECKING:
    from collections.abc import Mapping

_ORDER = "PTZYX"


def write_layer(path: str, data: Any, shown: Mapping[str, Any]) -> str:
    """Write a labels layer block by block.

    Parameters
    ----------
    path : str
        Its ending chooses the format.
    data : array-like of int
        The labels, in memory or lazy.
    shown : mapping
        Attributes of the layer: name, axis_labels, scale, units.

    Returns
    -------
    str
        The path.

    Raises
    ------
    ImageError
        If the axes are unknown, or there are other than T, Z, Y and X.
    OutputError
        If it cannot be written.
    """
    axes = words.axes_of(shown.get("axis_labels") or ("",) * data.ndim) or ""
    if len(axes) != data.ndim or not set(axes) <= set(_ORDER):
        raise ImageError(
            f"The axes of {shown.get('name', 'the layer')} are not known",
            found=", ".join(map(str, shown.get("axis_labels", ()))) or "no labels",
            expected="axis labels out of t, z, y and x",
            hint="Set layer.axis_labels, such as ('z', 'y', 'x').",
        )
    sink = sink_for(path)
    order = [axes.index(axis) for axis in _ORDER if axis in axes]
    sink.open(_spec(data, axes, order, shown))
    try:
        for index in blocks(tuple(data.shape), np.dtype(data.dtype).itemsize):
            whole = (*index, *(slice(0, n) for n in data.shape[len(index) :]))
            block = np.asarray(data[whole]).transpose(order)
            sink.write(tuple(whole[i] for i in order), block)
        return str(sink.close())
    except BaseException:
        sink.abort()
        raise


def _spec(
    data: Any, axes: str, order: list[int], shown: Mapping[str, Any]
) -> OutputSpec:
    """Describe the file."""
    units = {a: str(u) for a, u in zip(axes, shown.get("units") or (), strict=False)}
    units = {a: unit for a, unit in units.items() if unit not in ("pixel", "")}
    scale = dict(zip(axes, shown.get("scale", ()), strict=False))
    largest = 255 if np.dtype(data.dtype) == np.uint8 else _largest(data)
    return OutputSpec(
        axes="".join(axes[i] for i in order),
        shape=tuple(int(data.shape[i]) for i in order),
        dtype=label_dtype(largest),
        scale={a: float(scale[a]) for a in units},
        units=units,
        name=str(shown.get("name", "labels")),
    )


def _largest(data: Any) -> int:
    """Find the largest id, block by block."""
    steps = blocks(tuple(data.shape), np.dtype(data.dtype).itemsize)
    return max((int(np.asarray(data[step]).max()) for step in steps), default=0)
