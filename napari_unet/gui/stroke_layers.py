"""The viewer's stroke layers: made, painted on, counted and copied."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels as LabelsLayer
from napari.utils.colormaps import CyclicLabelColormap, label_colormap

from napari_unet.errors import StrokesError
from napari_unet.gui import geometry
from napari_unet.gui.layers import MARK
from napari_unet.gui.staging import Pixels
from napari_unet.gui.state import Strokes
from napari_unet.gui.strokes import stroke_colours
from napari_unet.projects import stroke_files
from napari_unet.projects.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari.layers import Layer

    from napari_unet.gui.layers import Layers
    from napari_unet.projects.schema import StrokeClass

PICTURE = "unet-picture"
"""Metadata key of the picture whose strokes a layer holds."""


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
        self._tallies: weakref.WeakKeyDictionary[Layer, tuple[int, Tally]] = (
            weakref.WeakKeyDictionary()
        )
        self._on_paint: list[Callable[[str], None]] = []

    def connect(self, changed: Callable[[], None]) -> None:
        """Call `changed` after strokes, undo and moves to another plane."""

        def watch(*_: object) -> None:
            for layer in self._layers.viewer.layers:
                if isinstance(layer, LabelsLayer) and layer not in self._watched:
                    self._watched.add(layer)
                    layer.events.paint.connect(self._painted)
                    for name in ("paint", "set_data", "data"):
                        getattr(layer.events, name).connect(lambda _: changed())

        watch()
        self._layers.viewer.layers.events.inserted.connect(watch)

    def on_paint(self, call: Callable[[str], None]) -> None:
        """Call a function with the name of the layer after each stroke."""
        self._on_paint.append(call)

    def names(self) -> tuple[str, ...]:
        """Names of the labels layers that are no results of ours, topmost first."""
        return tuple(
            layer.name
            for layer in reversed(self._layers.viewer.layers)
            if isinstance(layer, LabelsLayer)
            and layer.metadata.get(MARK, "strokes") == "strokes"
        )

    def shape_on(self, image: str) -> tuple[int, ...]:
        """Shape of a stroke layer on an image: its channels are one."""
        layer = self._layers.layer(image)
        axes = (self._layers.axes_of(layer) or "")[: layer.ndim]
        pairs = zip(axes, self._layers.shape_of(layer), strict=False)
        return tuple(1 if axis == "C" else size for axis, size in pairs)

    def new(self, image: str, strokes: np.ndarray, picture: str) -> str:
        """Show strokes on an image, and return the layer's name.

        Parameters
        ----------
        image : str
            The image layer.
        strokes : numpy.ndarray
            Its axes without channels; painting changes this array.
        picture : str
            Id of the picture in its project.
        """
        layer = self._layers.layer(image)
        added = LabelsLayer(
            strokes.reshape(self.shape_on(image)),
            name=f"{image} · strokes",
            opacity=0.8,
            colormap=stroke_colours(),
            metadata={MARK: "strokes", PICTURE: picture},
            **geometry.placement(layer, self._layers.axes_of(layer) or ""),
        )
        self._layers.viewer.add_layer(added)
        return str(added.name)

    def picture_of(self, name: str) -> str:
        """Id of the picture whose strokes a layer holds, or nothing."""
        return str(self._layers.layer(name).metadata.get(PICTURE, ""))

    def of_picture(self, picture: str) -> str:
        """Name of the layer that holds the strokes of a picture, or nothing."""
        return next((n for n in self.names() if self.picture_of(n) == picture), "")

    def array(self, name: str) -> np.ndarray:
        """Strokes of a layer, in the axes of its file."""
        data: np.ndarray = self._layers.layer(name).data
        return data

    def layer_dtype(self, name: str) -> str | None:
        """Type that keeps the ids of a layer in memory; None if it is no such layer."""
        data = self._layers.layer(name).data
        if type(data) is not np.ndarray or data.dtype.kind not in "iu":
            return None
        return {1: "uint8", 2: "uint16"}.get(data.dtype.itemsize, "uint32")

    def let_paint(self, name: str, allowed: bool) -> None:
        """Allow or forbid painting on a layer."""
        layer = self._layers.layer(name)
        if layer.editable != allowed:
            layer.editable = allowed

    def put(self, name: str, strokes: np.ndarray, picture: str) -> None:
        """Let a layer hold other strokes; what was done cannot be undone any more."""
        layer = self._layers.layer(name)
        layer.data = strokes.reshape(layer.data.shape)
        layer.metadata[PICTURE] = picture

    def remove(self, name: str) -> None:
        """Take a layer off the viewer; its strokes stay in their project."""
        self._layers.viewer.layers.remove(self._layers.layer(name))

    def paint(self, strokes: str, number: int) -> None:
        """Select a stroke layer, an id and the brush; the brush fits the view."""
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

    def write(self, name: str, places: Sequence[tuple[np.ndarray, int]]) -> int:
        """Paint ids where nothing is painted, as one step that can be undone.

        Parameters
        ----------
        name : str
            The layer.
        places : sequence of (numpy.ndarray, int)
            Indices, shape (pixels, axes), and their id.

        Returns
        -------
        int
            Pixels that were painted.
        """
        layer = self._layers.layer(name)
        painted = 0
        with layer.block_history():
            for points, number in places:
                inside = ((points >= 0) & (points < layer.data.shape)).all(axis=1)
                index = tuple(points[inside].T)
                empty = np.asarray(layer.data[index]) == 0
                index = tuple(part[empty] for part in index)
                layer.data_setitem(index, number, refresh=False)
                painted += int(empty.sum())
        layer.refresh()
        return painted

    def erase(self, name: str, number: int) -> None:
        """Erase what is painted of an id, as one step that can be undone."""
        layer = self._layers.layer(name)
        rows = layer.data.reshape(-1)
        found = [
            np.flatnonzero(rows[start:stop] == number) + start
            for start, stop in stroke_files.slabs(layer.data)
        ]
        index = np.unravel_index(np.concatenate(found), layer.data.shape)
        layer.data_setitem(index, 0)

    def dress(
        self, name: str, classes: tuple[StrokeClass, ...], are_objects: bool
    ) -> None:
        """Give a layer of ours, known by its name, the colours of its ids."""
        layer = self._layers.layer(name)
        if layer.metadata.get(MARK) != "strokes" and not name.endswith("· strokes"):
            return
        wanted = (classes, are_objects)
        if layer.metadata.get("unet-dress") != wanted:
            layer.metadata.update({MARK: "strokes", "unet-dress": wanted})
            layer.colormap = _colormap(classes, are_objects)

    def facts(self, name: str, image: str) -> Strokes:
        """Say what is painted on a layer; a large one may not be fully counted yet."""
        layer = self._layers.layer(name)
        fits = tuple(n for n in layer.data.shape) in self._shapes(image)
        if not isinstance(layer.data, np.ndarray) or layer.data.ndim < 2:
            return Strokes(name, False)
        tally = self._tally(layer)
        tally.look_back()
        is_all = tally.catch_up()
        return Strokes(name, fits, tally.counts, is_all, layer.data.dtype.name)

    def pixels(self, name: str, image: str) -> Pixels:
        """Take hold of the strokes on an image.

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
        data = layer.data.reshape(shape)
        return Pixels(data, axes, source.scale, source.units, name)

    def _painted(self, event: Any) -> None:
        """Note where a stroke of napari went."""
        layer = event.source
        known = self._tallies.get(layer)
        if known is not None and known[0] == id(layer.data):
            for atom in event.value:
                known[1].touch(_region(atom))
        for call in self._on_paint:
            call(layer.name)

    def _tally(self, layer: Layer) -> Tally:
        """Find the tally of a layer; everything is counted the first time."""
        known = self._tallies.get(layer)
        if known is None or known[0] != id(layer.data):
            known = self._tallies[layer] = id(layer.data), Tally(layer.data)
        return known[1]

    def _shapes(self, image: str) -> tuple[tuple[int, ...], ...]:
        """Shapes that strokes on an image may have: without channels, or with one."""
        return self._layers.image(image).plane_shape, self.shape_on(image)


def _region(atom: Any) -> list[slice]:
    """Where one step of a stroke went, as one slice an axis."""
    if hasattr(atom, "slice_key"):
        return list(atom.slice_key)
    bounds = [(int(np.min(part)), int(np.max(part)) + 1) for part in atom[0]]
    return [slice(*pair) for pair in bounds]


def _colormap(classes: tuple[StrokeClass, ...], are_objects: bool) -> Any:
    """Colours of classes, or of any number of objects."""
    if are_objects:
        cyclic: CyclicLabelColormap = label_colormap(49)
        return cyclic
    return stroke_colours(classes)
