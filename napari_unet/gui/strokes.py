"""Colours of stroke layers and predictions.

0 is not painted, 1 is background, 2 and up are objects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_unet.images.palette import class_colour, colour

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.utils.colormaps import DirectLabelColormap

    from napari_unet.projects.schema import StrokeClass

_IDS = 256


def stroke_colours(classes: Sequence[StrokeClass] = ()) -> DirectLabelColormap:
    """Colours of a stroke layer; hidden classes are not seen."""
    colours = {number: colour(number) for number in range(1, _IDS)}
    for known in classes:
        colours[known.number] = "transparent" if known.hidden else known.colour
    return _colormap(colours)


def class_colours() -> DirectLabelColormap:
    """Colours of predicted classes: class k has the colour of stroke k + 1."""
    return _colormap({number: class_colour(number) for number in range(1, _IDS)})


def _colormap(colours: dict[int, str]) -> DirectLabelColormap:
    """Make a napari colormap; ids without a colour are not seen."""
    from napari.utils.colormaps import DirectLabelColormap

    ids: list[int | None] = [None, 0, *colours]
    values = ["transparent", "transparent", *colours.values()]
    return DirectLabelColormap(color_dict=dict(zip(ids, values, strict=True)))
