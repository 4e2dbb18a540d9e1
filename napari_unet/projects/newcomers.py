"""New images of a project: what it has to know of them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_unet.projects import marks, places
from napari_unet.projects.schema import Dtype, Picture

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True)
class NewPicture:
    """What a project needs to know of an image that is painted on.

    Attributes
    ----------
    name, axes, shape, rgb, scale, units, series
        As `Picture`.
    data : array-like
        The pixels.
    path : pathlib.Path or None
        The file that the image came from.
    """

    name: str
    axes: str
    shape: tuple[int, ...]
    data: Any
    path: Path | None = None
    series: str | None = None
    rgb: bool = False
    scale: Mapping[str, float] | None = None
    units: Mapping[str, str] | None = None


def described(new: NewPicture, folder: Path, dtype: Dtype) -> Picture:
    """Describe an image for a project; a file that cannot be read is left out.

    Raises
    ------
    ImageError
        If the pixels cannot be read.
    """
    path, mark = new.path, None
    if path is not None:
        try:
            mark = marks.of_file(path)
        except OSError:
            path = None
    return Picture(
        id=new_id(),
        name=new.name[:200],
        path=places.written(path, folder) if path else None,
        series=new.series,
        axes=new.axes,
        shape=new.shape,
        pixels=marks.of_pixels(new.data),
        file=mark,
        scale={a: float(n) for a, n in (new.scale or {}).items()},
        units=dict(new.units or {}),
        rgb=new.rgb,
        dtype=dtype,
    )


def new_id() -> str:
    """Make up an id that no other picture has, also not of a merged project."""
    return uuid.uuid4().hex[:12]
