"""Where the cursor, points and rectangles lie in a stroke layer, without Qt."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels as LabelsLayer
from napari.layers import Points as PointsLayer
from napari.layers import Shapes as ShapesLayer

from napari_unet.errors import UsageError
from napari_unet.gui import corrections, geometry
from napari_unet.gui.layers import MARK

if TYPE_CHECKING:
    from napari.layers import Layer

    from napari_unet.gui.layers import Layers

_KINDS = ("labels", "instances")


class Pointing:
    """Reads places off a viewer, in pixels of a stroke layer.

    Parameters
    ----------
    layers : Layers
        Of the viewer.
    """

    def __init__(self, layers: Layers) -> None:
        self._layers = layers

    def prediction(self, image: str) -> Layer | None:
        """Find the shown classes or objects of an image, the topmost."""
        for layer in reversed(self._layers.viewer.layers):
            ours = layer.metadata.get(MARK, "strokes") != "strokes"
            named = layer.name.startswith(f"{image} · ")
            if ours and named and isinstance(layer, LabelsLayer) and layer.visible:
                return layer
        return None

    def points(self) -> Layer | None:
        """Find the points layer that is meant: the selected one, or the topmost."""
        layers = self._layers.viewer.layers
        active = layers.selection.active
        if isinstance(active, PointsLayer):
            return active
        found = (layer for layer in reversed(layers) if isinstance(layer, PointsLayer))
        return next(found, None)

    def predicted(self, image: str, strokes: str) -> tuple[np.ndarray, int, bool]:
        """Find what is predicted under the cursor.

        Parameters
        ----------
        image, strokes : str
            Names of the layers.

        Returns
        -------
        pixels : numpy.ndarray, shape (n, axes)
            In the stroke layer: the connected object; of background what the brush
            covers.
        value : int
            What is predicted there.
        objects : bool
            Whether values are objects.

        Raises
        ------
        UsageError
            If nothing is predicted there.
        """
        result = self.prediction(image)
        if result is None:
            raise UsageError("Nothing is predicted yet", hint="Preview the view first.")
        painted = self._layers.layer(strokes)
        y, x = self._plane_axes(image)
        at = np.round(result.world_to_data(self._cursor(result.ndim))).astype(int)
        if not ((at >= 0) & (at < result.data.shape)).all():
            raise UsageError("The cursor is outside the prediction")
        index: list[Any] = [int(n) for n in at]
        index[y], index[x] = slice(None), slice(None)
        plane = _Plane(result.data, index)
        pixels, value = corrections.object_at(plane, (int(at[y]), int(at[x])))
        if value == 0:
            near = corrections.disc((at[y], at[x]), float(painted.brush_size) / 2)
            covered = {tuple(p) for p in pixels.tolist()}
            pixels = np.array([p for p in near.tolist() if tuple(p) in covered])
        places = np.tile(at, (len(pixels), 1))
        places[:, [y, x]] = pixels
        objects = result.metadata.get("unet-kind") == "instances"
        return self._moved(result, painted, places), value, objects

    def discs(self, image: str, strokes: str) -> list[np.ndarray]:
        """Turn each point of the points layer into the pixels of a disc of its size.

        Raises
        ------
        UsageError
            If there are no points.
        """
        layer, painted = self.points(), self._layers.layer(strokes)
        if layer is None or not len(layer.data):
            raise UsageError("There are no points", hint="Add a points layer first.")
        y, x = self._plane_axes(image)
        ratio = float(layer.scale[-1] / painted.scale[x])
        found = []
        for point, size in zip(layer.data, np.atleast_1d(layer.size), strict=True):
            world = self._full(np.array(layer.data_to_world(point)), painted.ndim)
            at = np.array(painted.world_to_data(world))
            pixels = corrections.disc((at[y], at[x]), float(size) * ratio / 2)
            places = np.tile(np.round(at).astype(int), (len(pixels), 1))
            places[:, [y, x]] = pixels
            found.append(places)
        return found

    def boxes_layer(self, image: str) -> Layer | None:
        """Find the layer of the complete boxes of an image."""
        name = f"{image} · complete"
        layers = self._layers.viewer.layers
        return layers[name] if name in layers else None

    def draw_boxes(
        self, image: str, regions: list[dict[str, tuple[int, int]]]
    ) -> ShapesLayer:
        """Show complete boxes on an image."""
        layer = self._layers.layer(image)
        axes = (self._layers.axes_of(layer) or "")[: layer.ndim]
        shape = dict(zip(axes, self._layers.shape_of(layer), strict=False))
        added = ShapesLayer(
            [_corners(region, axes, shape) for region in regions],
            ndim=layer.ndim,
            name=f"{image} · complete",
            shape_type="rectangle",
            edge_color="white",
            edge_width=max(1.0, min(shape["Y"], shape["X"]) / 200),
            face_color="transparent",
            metadata={MARK: "complete"},
            **geometry.placement(layer, self._layers.axes_of(layer) or ""),
        )
        self._layers.viewer.add_layer(added)
        return added

    def regions(self, image: str) -> list[dict[str, tuple[int, int]]]:
        """Read the rectangles of an image's boxes as first and stop by axis."""
        layer = self.boxes_layer(image)
        source = self._layers.layer(image)
        axes = (self._layers.axes_of(source) or "")[: source.ndim]
        shape = self._layers.shape_of(source)
        found = []
        for corners in layer.data if layer is not None else ():
            region = _region(np.asarray(corners), axes, shape)
            if region is not None:
                found.append(region)
        return found

    def _cursor(self, ndim: int) -> np.ndarray:
        """Where the cursor is, in the world of a layer."""
        position = np.array(self._layers.viewer.cursor.position, float)
        return self._full(position, ndim)

    def _full(self, world: np.ndarray, ndim: int) -> np.ndarray:
        """Give a place all axes of a layer, taking the slider's where it has none."""
        if len(world) >= ndim:
            return world[-ndim:]
        point = np.array(self._layers.viewer.dims.point, float)[-ndim:]
        point[ndim - len(world) :] = world
        return point

    def _plane_axes(self, image: str) -> tuple[int, int]:
        """Numbers of the axes Y and X of the layers on an image."""
        axes = self._layers.axes_of(self._layers.layer(image)) or ""
        return axes.index("Y"), axes.index("X")

    def _moved(self, source: Layer, target: Layer, places: np.ndarray) -> np.ndarray:
        """Move pixels of a layer into another on the same grid."""
        origin = np.array(target.world_to_data(source.data_to_world(places[0])))
        moved: np.ndarray = places + (np.round(origin).astype(int) - places[0])
        return moved


class _Plane:
    """One plane of an array of any kind, read in parts."""

    def __init__(self, data: Any, index: list[Any]) -> None:
        self._data, self._index = data, index
        self._at = [i for i, part in enumerate(index) if isinstance(part, slice)]
        self.shape = tuple(int(data.shape[i]) for i in self._at)

    def __getitem__(self, window: tuple[slice, ...]) -> Any:
        """Read a window of the plane."""
        index = list(self._index)
        for axis, part in zip(self._at, window, strict=True):
            index[axis] = part
        return self._data[tuple(index)]


def _corners(
    region: dict[str, tuple[int, int]], axes: str, shape: dict[str, int]
) -> np.ndarray:
    """Corners of a box as a rectangle, pixel edges included."""
    bounds = {a: region.get(a, (0, n)) for a, n in shape.items()}
    places = []
    for row, column in ((0, 0), (0, 1), (1, 1), (1, 0)):
        ends = {"Y": bounds["Y"][row] - 0.5, "X": bounds["X"][column] - 0.5}
        places.append([ends.get(a, 0 if a == "C" else bounds[a][0]) for a in axes])
    return np.array(places, float)


def _region(
    corners: np.ndarray, axes: str, shape: tuple[int, ...]
) -> dict[str, tuple[int, int]] | None:
    """Pixels whose middle lies in a rectangle; None if there are none."""
    region = {}
    for number, axis in enumerate(axes):
        if axis == "C":
            continue
        low, high = corners[:, number].min(), corners[:, number].max()
        if axis in "YX":
            first, stop = math.ceil(low), math.floor(high) + 1
        else:
            first = round(float(low))
            stop = first + 1
        first, stop = max(0, first), min(stop, int(shape[number]))
        if first >= stop:
            return None
        region[axis] = (first, stop)
    return region
