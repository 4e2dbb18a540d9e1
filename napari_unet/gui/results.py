"""The layers that show results, and the files behind them."""

from __future__ import annotations

import contextlib
import gc
import sys
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image as ImageLayer
from napari.layers import Labels as LabelsLayer

from napari_unet.gui import geometry
from napari_unet.gui.layers import MARK
from napari_unet.gui.strokes import class_colours

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from napari.layers import Layer

    from napari_unet.gui.layers import Layers

_SHORT_TURN = 0.0005
_KIND = "unet-kind"
"""Metadata key of what the numbers of a result are."""


def warm_up() -> None:
    """Make the layers of a first result on trial, in no viewer.

    napari then imports and compiles what it needs for labels, also for those that are
    mapped and cannot be written, and computes its patterns of dashes, which would
    otherwise hold the viewer up for seconds. May be called on any thread.
    Call `collect` afterwards.
    """
    from vispy.visuals.line.dash_atlas import DashAtlas

    with _giving_way():
        for kind, dtype in (("labels", np.uint8), ("instances", np.uint32)):
            trial = np.zeros((1, 1), dtype)
            for writeable in (True, False):
                trial.flags.writeable = writeable
                _result_layer("trial", 0, trial, kind, {})
        DashAtlas()


def collect(_: object = None) -> None:
    """Collect the garbage of `warm_up` on the viewer's thread.

    That takes 0.2 s, which would else be added to those of the first result.
    """
    gc.collect()


@contextlib.contextmanager
def _giving_way() -> Iterator[None]:
    """Let the viewer's thread not wait for this one at every call, or for its garbage.

    To look through all objects of napari takes 0.2 s in which no thread runs, and many
    new objects bring that about more than once; Qt's must not go on this thread.
    """
    interval, collects = sys.getswitchinterval(), gc.isenabled()
    sys.setswitchinterval(_SHORT_TURN)
    gc.disable()
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        if collects:
            gc.enable()


class Results:
    """Shows results on their images.

    A file that layers show is removed once the last of them is.

    Parameters
    ----------
    layers : Layers
        Of the same viewer.
    """

    def __init__(self, layers: Layers) -> None:
        self._layers = layers
        self._files: dict[Path, weakref.WeakSet[Layer]] = {}
        layers.viewer.layers.events.removed.connect(self._sweep)

    def add(
        self,
        image: str,
        suffix: str,
        result: np.ndarray,
        kind: str,
        start: Any = None,
        file: Path | None = None,
    ) -> None:
        """Show a result on its image, in place of the last one of the same name.

        It goes into the layers of the last one where they suit, which stay as the user
        set them: to take a layer away costs napari 0.2 s, in which the window waits.

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
        file : pathlib.Path, optional
            What `result` maps; belongs to the layers from now on.
        """
        source = self._layers.layer(image)
        axes = self._layers.axes_of(source) or ""
        ours = geometry.result_axes(axes, result.shape)
        parts = [
            geometry.fit(part, ours.replace("C", ""), axes, source.ndim)
            for part in _parts(result, ours)
        ]
        self.put(image, suffix, parts, kind, start, file)

    def put(
        self,
        image: str,
        suffix: str,
        parts: list[Any],
        kind: str,
        start: Any = None,
        file: Path | None = None,
    ) -> None:
        """Show arrays that have the axes of the image already, one a layer.

        As `add`, with `parts` in place of the result; `kind` may be ``"doubt"`` too.
        """
        source = self._layers.layer(image)
        name = f"{image} · {suffix}"
        place = geometry.placement(source, self._layers.axes_of(source) or "", start)
        common = {"metadata": {MARK: suffix, _KIND: kind}, **place}
        shown = self.shown(image, suffix)
        if _can_hold(shown, parts, kind):
            for layer, data in zip(shown, parts, strict=True):
                _refill(layer, data, place)
                if file is not None and not layer.visible:  # to set it redraws
                    layer.visible = True
                self._release(layer)
        else:
            self.remove(image, suffix)
            shown = [
                _result_layer(name, number, data, kind, common)
                for number, data in enumerate(parts)
            ]
            self._insert(source, shown)
        if file is not None:
            self._files[file] = weakref.WeakSet(shown)
        self._sweep()

    def _insert(self, source: Layer, shown: list[Layer]) -> None:
        """Place layers above the one they belong to; the active one stays so."""
        layers = self._layers.viewer.layers
        active = layers.selection.active
        for layer in reversed(shown):
            layers.insert(layers.index(source) + 1, layer)
        if active is not None and active in layers:
            layers.selection.active = active

    def has(self, image: str, suffix: str) -> bool:
        """Whether a result of this name is shown."""
        return bool(self.shown(image, suffix))

    def set_visible(self, image: str, suffixes: Sequence[str], visible: bool) -> None:
        """Show or hide the results of an image with these suffixes."""
        for suffix in suffixes:
            for layer in self.shown(image, suffix):
                layer.visible = visible

    def remove(self, image: str, suffix: str) -> None:
        """Remove the results of an image with this suffix."""
        for layer in self.shown(image, suffix):
            self._layers.viewer.layers.remove(layer)

    def shown(self, image: str, suffix: str) -> list[Layer]:
        """List the layers of a result, the lowest first."""
        return [
            layer
            for layer in self._layers.viewer.layers
            if layer.metadata.get(MARK) == suffix
            and layer.name.startswith(f"{image} · {suffix}")
        ]

    def refresh(
        self, image: str, suffix: str, region: tuple[slice, ...] | None = None
    ) -> None:
        """Draw a result again whose pixels have changed.

        Parameters
        ----------
        image, suffix : str
            The image and which of its results.
        region : tuple of slice, optional
            Which pixels, on the axes of the layer; nothing is drawn where they are not
            in view.
        """
        for layer in self.shown(image, suffix):
            if region is None or self._is_seen(layer, region):
                layer.refresh(extent=False, thumbnail=False, highlight=False)

    def _is_seen(self, layer: Layer, region: tuple[slice, ...]) -> bool:
        """Whether the planes that the viewer shows meet a region of a layer."""
        viewer = self._layers.viewer
        point = layer.world_to_data(viewer.dims.point)
        return layer.visible and all(
            part.start - 1 < at < part.stop
            for axis, (part, at) in enumerate(zip(region, point, strict=True))
            if axis not in viewer.dims.displayed
        )

    def _release(self, layer: Layer) -> None:
        """Let go of the file that a layer showed."""
        for layers in self._files.values():
            layers.discard(layer)

    def _sweep(self, *_: object) -> None:
        """Remove the files that no layer shows; one that is still in use, next time."""
        for path, layers in list(self._files.items()):
            if any(layer in self._layers.viewer.layers for layer in layers):
                continue
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
                del self._files[path]


def _can_hold(layers: list[Layer], parts: list[np.ndarray], kind: str) -> bool:
    """Whether layers can show another result of the same kind."""
    return len(layers) == len(parts) and all(
        layer.metadata.get(_KIND) == kind and layer.ndim == part.ndim
        for layer, part in zip(layers, parts, strict=True)
    )


def _refill(layer: Layer, data: np.ndarray, place: dict[str, Any]) -> None:
    """Show other pixels at another place; what stays is not set, which would redraw."""
    layer.data = data
    for name, value in place.items():
        if not _is_equal(getattr(layer, name), value):
            setattr(layer, name, value)
    layer.editable = layer.editable and not isinstance(layer, LabelsLayer)


def _is_equal(one: Any, other: Any) -> bool:
    """Compare two properties of layers, be they matrices or words."""
    matrices = [getattr(value, "affine_matrix", value) for value in (one, other)]
    return bool(np.array_equal(*matrices))


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
    limits = (0.0, 1.0) if kind in ("probabilities", "doubt") else None
    return ImageLayer(
        data,
        name=name if number == 0 else f"{name} {number}",
        blending="additive",
        colormap="inferno" if kind == "doubt" else "magma",
        contrast_limits=limits,
        **common,
    )
