"""Stroke layers: their colours, how many pixels are painted, and a copy to learn from.

0 is not painted, 1 is background, 2 and up are objects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.images.palette import class_colour, colour

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.utils.colormaps import DirectLabelColormap

_IDS = 256


def stroke_colours() -> DirectLabelColormap:
    """Colours of a stroke layer."""
    return _colormap({number: colour(number) for number in range(1, _IDS)})


def class_colours() -> DirectLabelColormap:
    """Colours of predicted classes: class k has the colour of stroke k + 1."""
    return _colormap({number: class_colour(number) for number in range(1, _IDS)})


def _colormap(colours: dict[int, str]) -> DirectLabelColormap:
    """Make a napari colormap; ids without a colour are not seen."""
    from napari.utils.colormaps import DirectLabelColormap

    ids: list[int | None] = [None, 0, *colours]
    values = ["transparent", "transparent", *colours.values()]
    return DirectLabelColormap(color_dict=dict(zip(ids, values, strict=True)))


class Tally:
    """Counts painted pixels by class, plane by plane.

    Parameters
    ----------
    data : numpy.ndarray
        The strokes, YX last.
    """

    def __init__(self, data: np.ndarray) -> None:
        self._planes: dict[tuple[int, ...], np.ndarray] = {}
        self._shape = data.shape[:-2]
        self.recount(data)

    @property
    def counts(self) -> dict[int, int]:
        """Pixels by class, of the classes that are painted."""
        total: Any = sum(self._planes.values(), np.zeros(_IDS, np.int64))
        return {int(i): int(total[i]) for i in np.flatnonzero(total) if i}

    def recount(self, data: np.ndarray, plane: Sequence[int] | None = None) -> None:
        """Count again, in one plane or everywhere."""
        planes = np.ndindex(self._shape) if plane is None else [tuple(plane)]
        for index in planes:
            self._count(data[index], index)

    def _count(self, pixels: np.ndarray, index: tuple[int, ...]) -> None:
        """Count one plane; planes without paint are not kept."""
        painted = pixels[pixels > 0]
        if painted.size:
            ids = np.minimum(painted, _IDS - 1).ravel().astype(np.int64)
            self._planes[index] = np.bincount(ids, minlength=_IDS)
        else:
            self._planes.pop(index, None)
