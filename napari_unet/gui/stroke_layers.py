"""The viewer's stroke layers: made, painted on, counted and copied."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels as LabelsLayer

from napari_unet.errors import StrokesError
from napari_unet.gui import geometry
from napari_unet.gui.layers import MARK
from napari_unet.gui.staging import Pixels
from napari_unet.gui.state import Strokes
from napari_unet.gui.strokes import Tally, stroke_colours

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from napari.layers import Layer

    from napari_unet.gui.layers import Layers

_SHOWN = 20


class StrokeLayers:
    """The labels layers that a user may paint on.

    Parameters
    ----------
    layers : Layers
        Of the same viewer.
    """

    def __init__(self, layers: Layers) -> None:
        self._layers = layers
        self._watched: weakref.WeakSet[Layer] = weakref.WeakSet()
        self._tally: tuple[weakref.ref[Layer], int, Tally] | None = None

    def connect(self, painted: Callable[[], None]) -> None:
        """Call `painted` after strokes, undo and moves to another plane."""

        def watch(*_: object) -> None:
            for layer in self._layers.viewer.layers:
                if isinstance(layer, LabelsLayer) and layer not in self._watched:
                    self._watched.add(layer)
                    for name in ("paint", "set_data", "data"):
                        getattr(layer.events, name).connect(lambda _: painted())

        watch()
        self._layers.viewer.layers.events.inserted.connect(watch)

    def names(self) -> tuple[str, ...]:
        """Names of the labels layers that are no results of ours, topmost first."""
        return tuple(
            layer.name
            for layer in reversed(self._layers.viewer.layers)
            if isinstance(layer, LabelsLayer)
            and layer.metadata.get(MARK, "strokes") == "strokes"
        )

    def new(self, image: str) -> str:
        """Add a stroke layer to an image, ready to paint, and return its name."""
        layer = self._layers.layer(image)
        axes = self._layers.axes_of(layer) or ""
        shape = [
            1 if axis == "C" else size
            for axis, size in zip(
                axes[: layer.ndim], self._layers.shape_of(layer), strict=False
            )
        ]
        strokes = LabelsLayer(
            np.zeros(shape, np.uint8),
            name=f"{image} · strokes",
            colormap=stroke_colours(),
            opacity=0.8,
            metadata={MARK: "strokes"},
            **geometry.placement(layer, axes),
        )
        self._layers.viewer.add_layer(strokes)
        self.paint(strokes.name, 1)
        return str(strokes.name)

    def paint(self, strokes: str, number: int) -> None:
        """Select a stroke layer, a class and the brush; the brush fits the view."""
        layer = self._layers.layer(strokes)
        self._layers.viewer.layers.selection.active = layer
        layer.selected_label = number
        layer.mode = "paint"
        if layer.metadata.setdefault("unet brush", False):
            return
        layer.metadata["unet brush"] = True
        view = (
            min(self._layers.viewer.canvas.size) / self._layers.viewer.scene.camera.zoom
        )
        pixels = view / float(min(layer.scale[-2:]))
        layer.brush_size = float(np.clip(round(pixels / 100), 3, 40))

    def dress(self, name: str) -> None:
        """Give a layer of ours, known by its name, the colours of stroke classes."""
        layer = self._layers.layer(name)
        if name.endswith("· strokes") and layer.metadata.get(MARK) != "strokes":
            layer.metadata[MARK] = "strokes"
            layer.colormap = stroke_colours()

    def facts(self, name: str, image: str, *, everywhere: bool = True) -> Strokes:
        """Count the strokes of a layer, everywhere or in the current plane only."""
        layer = self._layers.layer(name)
        fits = tuple(n for n in layer.data.shape) in self._shapes(image)
        if not isinstance(layer.data, np.ndarray) or layer.data.ndim < 2:
            return Strokes(name, False)
        colours = tuple(_hex(layer.get_color(k)) for k in range(1, _SHOWN + 1))
        return Strokes(name, fits, self._count(layer, everywhere), colours)

    def copy(self, name: str, image: str) -> Pixels:
        """Copy the strokes, so that painting may go on.

        Raises
        ------
        StrokesError
            If they do not lie on the image.
        """
        layer, source = self._layers.layer(name), self._layers.pixels(image)
        if layer.data.shape not in self._shapes(image):
            raise StrokesError(
                "The strokes do not fit the image",
                found=f"{layer.data.shape}",
                hint="Make a new stroke layer for this image.",
            )
        axes = source.axes.replace("C", "")
        shape = self._layers.image(image).plane_shape
        data = np.array(layer.data).reshape(shape)
        return Pixels(data, axes, source.scale, source.units, name)

    def _shapes(self, image: str) -> tuple[tuple[int, ...], ...]:
        """Shapes that strokes on an image may have: without channels, or with one."""
        facts = self._layers.image(image)
        axes = facts.axes or ""
        flat = tuple(
            1 if axis == "C" else size
            for axis, size in zip(axes, facts.shape, strict=False)
        )
        return (facts.plane_shape, flat)

    def _count(self, layer: Any, everywhere: bool) -> Mapping[int, int]:
        """Count strokes, remembering the planes that are not looked at."""
        data = layer.data
        known = self._tally
        if known is None or known[0]() is not layer or known[1] != id(data):
            self._tally = (weakref.ref(layer), id(data), tally := Tally(data))
            return tally.counts
        current = not everywhere and self._shows_planes(layer)
        known[2].recount(data, self._plane(layer) if current else None)
        return known[2].counts

    def _shows_planes(self, layer: Any) -> bool:
        """Whether painting can only reach the current YX plane."""
        order = self._layers.viewer.dims.order
        return bool(layer.n_edit_dimensions == 2 and order == tuple(sorted(order)))

    def _plane(self, layer: Any) -> list[int]:
        """Index of the YX plane of a layer that is shown."""
        point = layer.world_to_data(self._layers.viewer.dims.point)[:-2]
        limits = layer.data.shape[:-2]
        return [
            int(np.clip(round(float(p)), 0, n - 1))
            for p, n in zip(point, limits, strict=True)
        ]


def _hex(rgba: Any) -> str:
    """Write a colour as ``#rrggbb``."""
    return "#" + "".join(f"{round(255 * float(part)):02x}" for part in rgba[:3])
