"""The viewer's layers as the controller sees them: names in, facts and pixels out.

Needs napari but no Qt. Layers are only touched on the main thread.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image as ImageLayer
from napari.layers import Labels as LabelsLayer

from napari_unet.errors import ImageError, StrokesError
from napari_unet.gui import geometry, words
from napari_unet.gui.staging import Pixels
from napari_unet.gui.state import Image, Strokes
from napari_unet.gui.strokes import Tally, class_colours, stroke_colours
from napari_unet.images import axes as axes_module

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from napari.components import ViewerModel
    from napari.layers import Layer

_MARK = "unet"
_SHOWN = 20


class Layers:
    """What the controller needs of a viewer.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        With or without a window.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._weak_viewer = weakref.ref(viewer)
        self._watched: weakref.WeakSet[Layer] = weakref.WeakSet()
        self._axes: weakref.WeakKeyDictionary[Layer, str] = weakref.WeakKeyDictionary()
        self._tally: tuple[weakref.ref[Layer], int, Tally] | None = None

    def connect(self, changed: Callable[[], None]) -> None:
        """Call `changed` when layers come, go or change, or 2D becomes 3D."""
        events = self._viewer.layers.events
        for name in ("inserted", "removed", "reordered", "renamed"):
            getattr(events, name).connect(lambda _: changed())
        self._viewer.dims.events.ndisplay.connect(lambda _: changed())

    def connect_strokes(self, painted: Callable[[], None]) -> None:
        """Call `painted` after strokes, undo and moves to another plane."""

        def watch(*_: object) -> None:
            for layer in self._viewer.layers:
                if isinstance(layer, LabelsLayer) and layer not in self._watched:
                    self._watched.add(layer)
                    for name in ("paint", "set_data", "data"):
                        getattr(layer.events, name).connect(lambda _: painted())

        watch()
        self._viewer.layers.events.inserted.connect(watch)

    @property
    def _viewer(self) -> ViewerModel:
        """The viewer, which must not be kept alive by its dock."""
        viewer = self._weak_viewer()
        if viewer is None:
            raise RuntimeError("the viewer is closed")
        return viewer

    def images(self) -> tuple[str, ...]:
        """Names of the image layers that are no results of ours, topmost first."""
        return tuple(
            layer.name
            for layer in reversed(self._viewer.layers)
            if isinstance(layer, ImageLayer) and _MARK not in layer.metadata
        )

    def stroke_layers(self) -> tuple[str, ...]:
        """Names of the labels layers that are no results of ours, topmost first."""
        return tuple(
            layer.name
            for layer in reversed(self._viewer.layers)
            if isinstance(layer, LabelsLayer)
            and layer.metadata.get(_MARK, "strokes") == "strokes"
        )

    def active_image(self) -> str:
        """Name of the selected layer if it is an image, else nothing."""
        active = self._viewer.layers.selection.active
        return (
            active.name if active is not None and active.name in self.images() else ""
        )

    def image(self, name: str) -> Image:
        """Say what an image layer is."""
        layer = self._layer(name)
        return Image(
            name=name,
            shape=self._shape(layer),
            axes=self._axes_of(layer),
            flat=self._viewer.dims.ndisplay == 2,
        )

    def set_axes(self, name: str, axes: str) -> None:
        """Take the axes of an image from the user; empty for what the layer says.

        Raises
        ------
        UsageError
            If they do not fit the image.
        """
        layer = self._layer(name)
        if not axes.strip():
            self._axes.pop(layer, None)
            return
        axes = axes_module.parse(axes, len(self._shape(layer)))
        if layer.rgb and axes[-1] != "C":
            raise ImageError(
                "The colours of an RGB image are its last axis",
                found=axes,
                expected="C at the end",
            )
        self._axes[layer] = axes

    def pixels(self, name: str) -> Pixels:
        """Take hold of an image's pixels.

        Raises
        ------
        ImageError
            If the layer is gone or its axes are unknown.
        """
        layer = self._layer(name)
        axes = self._axes_of(layer)
        if axes is None:
            raise ImageError(f"The axes of {name} are unknown", hint="Name them first.")
        spatial = [(a, i) for i, a in enumerate(axes[: layer.ndim]) if a != "C"]
        units = {a: str(layer.units[i]) for a, i in spatial}
        scale = {a: float(layer.scale[i]) for a, i in spatial if units[a] != "pixel"}
        units = {a: unit for a, unit in units.items() if a in scale}
        return Pixels(self._data(layer), axes, scale, units, name)

    def visible_region(self, name: str) -> dict[str, slice]:
        """Find the part of an image that the canvas shows, see `geometry`."""
        layer = self._layer(name)
        return geometry.visible_region(self._viewer, layer, self._axes_of(layer) or "")

    def new_strokes(self, image: str) -> str:
        """Add a stroke layer to an image, ready to paint, and return its name."""
        layer = self._layer(image)
        axes = self._axes_of(layer) or ""
        shape = [
            1 if axis == "C" else size
            for axis, size in zip(axes[: layer.ndim], self._shape(layer), strict=False)
        ]
        strokes = LabelsLayer(
            np.zeros(shape, np.uint8),
            name=f"{image} · strokes",
            colormap=stroke_colours(),
            opacity=0.8,
            metadata={_MARK: "strokes"},
            **geometry.placement(layer, axes),
        )
        self._viewer.add_layer(strokes)
        self.paint(strokes.name, 1)
        return str(strokes.name)

    def paint(self, strokes: str, number: int) -> None:
        """Select a stroke layer, a class and the brush; the brush fits the view."""
        layer = self._layer(strokes)
        self._viewer.layers.selection.active = layer
        layer.selected_label = number
        layer.mode = "paint"
        if layer.metadata.setdefault("unet brush", False):
            return
        layer.metadata["unet brush"] = True
        view = min(self._viewer.canvas.size) / self._viewer.scene.camera.zoom
        pixels = view / float(min(layer.scale[-2:]))
        layer.brush_size = float(np.clip(round(pixels / 100), 3, 40))

    def dress(self, name: str) -> None:
        """Give a layer of ours, known by its name, the colours of stroke classes."""
        layer = self._layer(name)
        if name.endswith("· strokes") and layer.metadata.get(_MARK) != "strokes":
            layer.metadata[_MARK] = "strokes"
            layer.colormap = stroke_colours()

    def strokes(self, name: str, image: str, *, everywhere: bool = True) -> Strokes:
        """Count the strokes of a layer, everywhere or in the current plane only."""
        layer = self._layer(name)
        fits = tuple(n for n in layer.data.shape) in self._stroke_shapes(image)
        if not isinstance(layer.data, np.ndarray) or layer.data.ndim < 2:
            return Strokes(name, False)
        colours = tuple(_hex(layer.get_color(k)) for k in range(1, _SHOWN + 1))
        return Strokes(name, fits, self._count(layer, everywhere), colours)

    def stroke_pixels(self, name: str, image: str) -> Pixels:
        """Copy the strokes, so that painting may go on.

        Raises
        ------
        StrokesError
            If they do not lie on the image.
        """
        layer, source = self._layer(name), self.pixels(image)
        if layer.data.shape not in self._stroke_shapes(image):
            raise StrokesError(
                "The strokes do not fit the image",
                found=f"{layer.data.shape}",
                hint="Make a new stroke layer for this image.",
            )
        axes = source.axes.replace("C", "")
        shape = self.image(image).plane_shape
        data = np.array(layer.data).reshape(shape)
        return Pixels(data, axes, source.scale, source.units, name)

    def add_result(
        self, image: str, suffix: str, result: np.ndarray, kind: str, start: Any = None
    ) -> None:
        """Show a result on its image, in place of the last one of the same name.

        Parameters
        ----------
        image : str
            Name of the image layer.
        suffix : str
            Such as ``"prediction"``.
        result : numpy.ndarray
            Axes as the core returns them: frames, Z, C if any, Y, X.
        kind : {"labels", "instances", "probabilities", "logits"}
            What the numbers are.
        start : mapping of str to int, optional
            First voxel of the result by axis.
        """
        source = self._layer(image)
        axes = self._axes_of(source) or ""
        name = f"{image} · {suffix}"
        place = geometry.placement(source, axes, start)
        ours = geometry.result_axes(axes, result.shape)
        common = {"metadata": {_MARK: suffix}, **place}
        active = self._viewer.layers.selection.active
        self.remove_result(image, suffix)
        for number, part in enumerate(_parts(result, ours)):
            data = geometry.fit(part, ours.replace("C", ""), axes, source.ndim)
            layer = _result_layer(name, number, data, kind, common)
            index = self._viewer.layers.index(source) + 1 + number
            self._viewer.layers.insert(index, layer)
        if active is not None and active in self._viewer.layers:
            self._viewer.layers.selection.active = active

    def remove_result(self, image: str, suffix: str) -> None:
        """Remove the results of an image with this suffix."""
        for layer in list(self._viewer.layers):
            ours = layer.metadata.get(_MARK) == suffix
            if ours and layer.name.startswith(f"{image} · {suffix}"):
                self._viewer.layers.remove(layer)

    def _layer(self, name: str) -> Any:
        """Find a layer by name."""
        if name not in self._viewer.layers:
            raise ImageError(f"The layer {name} is not there any more")
        return self._viewer.layers[name]

    def _data(self, layer: Any) -> Any:
        """Pixels of a layer at full resolution."""
        return layer.data[0] if layer.multiscale else layer.data

    def _shape(self, layer: Any) -> tuple[int, ...]:
        """Shape of a layer's pixels, colours included."""
        return tuple(int(n) for n in self._data(layer).shape)

    def _axes_of(self, layer: Any) -> str | None:
        """Axes the user gave, or those the layer names."""
        if layer in self._axes:
            return self._axes[layer]
        axes = words.axes_of(layer.axis_labels)
        return f"{axes}C" if axes and layer.rgb else axes

    def _stroke_shapes(self, image: str) -> tuple[tuple[int, ...], ...]:
        """Shapes that strokes on an image may have: without channels, or with one."""
        facts = self.image(image)
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
        order = self._viewer.dims.order
        return bool(layer.n_edit_dimensions == 2 and order == tuple(sorted(order)))

    def _plane(self, layer: Any) -> list[int]:
        """Index of the YX plane of a layer that is shown."""
        point = layer.world_to_data(self._viewer.dims.point)[:-2]
        limits = layer.data.shape[:-2]
        return [
            int(np.clip(round(float(p)), 0, n - 1))
            for p, n in zip(point, limits, strict=True)
        ]


def _hex(rgba: Any) -> str:
    """Write a colour as ``#rrggbb``."""
    return "#" + "".join(f"{round(255 * float(part)):02x}" for part in rgba[:3])


def _parts(result: np.ndarray, axes: str) -> list[np.ndarray]:
    """Cut a result into one array a class."""
    if "C" not in axes:
        return [result]
    return list(np.moveaxis(result, axes.index("C"), 0))


def _result_layer(
    name: str, number: int, data: np.ndarray, kind: str, common: dict[str, Any]
) -> Layer:
    """Make a layer for one result."""
    if kind in ("labels", "instances"):
        colours = {"colormap": class_colours()} if kind == "labels" else {}
        layer = LabelsLayer(data, name=name, opacity=0.5, **colours, **common)
        layer.editable = False
        return layer
    limits = (0.0, 1.0) if kind == "probabilities" else None
    return ImageLayer(
        data,
        name=name if number == 0 else f"{name} {number}",
        blending="additive",
        colormap="magma",
        contrast_limits=limits,
        **common,
    )
