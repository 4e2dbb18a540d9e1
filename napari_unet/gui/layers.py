"""The viewer's images as the controller sees them: names in, facts and pixels out.

Needs napari but no Qt. Layers are only touched on the main thread.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image as ImageLayer

from napari_unet.errors import ImageError
from napari_unet.gui import geometry, words
from napari_unet.gui.staging import Pixels
from napari_unet.gui.state import Image
from napari_unet.images import axes as axes_module

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_unet.gui.file_facts import FileFacts

MARK = "unet"
"""Metadata key of the layers we made; its value says what they are."""


class Layers:
    """What the controller needs of a viewer.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        With or without a window.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._weak_viewer = weakref.ref(viewer)
        self._axes: weakref.WeakKeyDictionary[Layer, str] = weakref.WeakKeyDictionary()

    def connect(self, changed: Callable[[], None]) -> None:
        """Call `changed` when layers come, go or change, or 2D becomes 3D."""
        events = self.viewer.layers.events
        for name in ("inserted", "removed", "reordered", "renamed"):
            getattr(events, name).connect(lambda _: changed())
        self.viewer.dims.events.ndisplay.connect(lambda _: changed())

    def watch_view(self, changed: Callable[[], None]) -> None:
        """Call `changed` when the canvas shows another part."""
        viewer = self.viewer
        camera, dims = viewer.scene.camera.events, viewer.dims.events
        for emitter in (
            camera.center,
            camera.zoom,
            dims.point,
            dims.order,
            viewer.canvas.events.size,
        ):
            emitter.connect(lambda _: changed())

    @property
    def viewer(self) -> ViewerModel:
        """The viewer, which must not be kept alive by its dock."""
        viewer = self._weak_viewer()
        if viewer is None:
            raise RuntimeError("the viewer is closed")
        return viewer

    def images(self) -> tuple[str, ...]:
        """Names of the image layers that are no results of ours, topmost first."""
        return tuple(
            layer.name
            for layer in reversed(self.viewer.layers)
            if isinstance(layer, ImageLayer) and MARK not in layer.metadata
        )

    def active_image(self) -> str:
        """Name of the selected layer if it is an image, else nothing."""
        active = self.viewer.layers.selection.active
        return (
            active.name if active is not None and active.name in self.images() else ""
        )

    def image(self, name: str) -> Image:
        """Say what an image layer is."""
        layer = self.layer(name)
        return Image(
            name=name,
            shape=self.shape_of(layer),
            axes=self.axes_of(layer),
            flat=self.viewer.dims.ndisplay == 2,
        )

    def set_axes(self, name: str, axes: str) -> None:
        """Take the axes of an image from the user; empty for what the layer says.

        Raises
        ------
        UsageError
            If they do not fit the image.
        """
        layer = self.layer(name)
        if not axes.strip():
            self._axes.pop(layer, None)
            return
        axes = axes_module.parse(axes, len(self.shape_of(layer)))
        if layer.rgb and axes[-1] != "C":
            raise ImageError(
                "The colours of an RGB image are its last axis",
                found=axes,
                expected="C at the end",
            )
        self._axes[layer] = axes

    def path_of(self, name: str) -> str:
        """Path of the file that an image came from, or nothing."""
        layer = self.layer(name)
        return str(getattr(layer.source, "path", None) or "")

    def adopt(self, name: str, facts: FileFacts) -> None:
        """Give an image the axes of its file, and the pixel size if it is alone.

        Beside other layers the size stays: they would not lie on each other any more.
        """
        layer = self.layer(name)
        self.set_axes(name, facts.axes)
        places = layer.ndim
        layer.axis_labels = tuple(facts.axes[:places].lower())
        if len(self.viewer.layers) == 1 and np.all(layer.scale == 1):
            layer.scale = facts.scale[:places]
            layer.units = facts.units[:places]
            self.viewer.reset_view()

    def pixels(self, name: str) -> Pixels:
        """Take hold of an image's pixels.

        Raises
        ------
        ImageError
            If the layer is gone or its axes are unknown.
        """
        layer = self.layer(name)
        axes = self.axes_of(layer)
        if axes is None:
            raise ImageError(f"The axes of {name} are unknown", hint="Name them first.")
        spatial = [(a, i) for i, a in enumerate(axes[: layer.ndim]) if a != "C"]
        units = {a: str(layer.units[i]) for a, i in spatial}
        scale = {a: float(layer.scale[i]) for a, i in spatial if units[a] != "pixel"}
        units = {a: unit for a, unit in units.items() if a in scale}
        return Pixels(self._data(layer), axes, scale, units, name)

    def visible_region(self, name: str) -> dict[str, slice]:
        """Find the part of an image that the canvas shows, see `geometry`."""
        layer = self.layer(name)
        return geometry.visible_region(self.viewer, layer, self.axes_of(layer) or "")

    def looked_at(self, name: str) -> dict[str, slice]:
        """Find the part of an image that a person looks at, see `geometry`."""
        layer = self.layer(name)
        return geometry.looked_at(self.viewer, layer, self.axes_of(layer) or "")

    def go_to(self, name: str, place: Mapping[str, int]) -> None:
        """Show a pixel of an image, given by axis, in the middle of the canvas.

        Raises
        ------
        ImageError
            If the layer is gone.
        """
        layer, dims = self.layer(name), self.viewer.dims
        axes = (self.axes_of(layer) or "")[: layer.ndim]
        here = layer.world_to_data(dims.point)
        world = layer.data_to_world(
            [place.get(a, n) for a, n in zip(axes, here[-layer.ndim :], strict=True)]
        )
        first = dims.ndim - layer.ndim
        for axis, value in enumerate(world, start=first):
            if axis not in dims.displayed:
                dims.set_point(axis, value)
        shown = [world[axis - first] for axis in dims.displayed if axis >= first]
        camera = self.viewer.scene.camera
        camera.center = (*camera.center[: 3 - len(shown)], *shown)

    def layer(self, name: str) -> Any:
        """Find a layer by name."""
        if name not in self.viewer.layers:
            raise ImageError(f"The layer {name} is not there any more")
        return self.viewer.layers[name]

    def shape_of(self, layer: Any) -> tuple[int, ...]:
        """Shape of a layer's pixels, colours included."""
        return tuple(int(n) for n in self._data(layer).shape)

    def axes_of(self, layer: Any) -> str | None:
        """Axes the user gave, or those the layer names."""
        if layer in self._axes:
            return self._axes[layer]
        axes = words.axes_of(layer.axis_labels)
        return f"{axes}C" if axes and layer.rgb else axes

    def _data(self, layer: Any) -> Any:
        """Pixels of a layer at full resolution."""
        return layer.data[0] if layer.multiscale else layer.data
