"""Axes and pixel size that an image lost when napari's own reader opened its file."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.errors import UNetError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from napari_unet.gui.layers import Layers
    from napari_unet.gui.session import Session


@dataclass(frozen=True)
class FileFacts:
    """What the metadata of a file say of the layer's axes.

    Attributes
    ----------
    axes : str
        One letter for each axis of the layer.
    scale : tuple of float
        Pixel size along each axis, 1 where the file does not tell.
    units : tuple of str
        Unit of each pixel size, ``"pixel"`` where the file does not tell.
    """

    axes: str
    scale: tuple[float, ...]
    units: tuple[str, ...]


class FileReader:
    """Looks into the file of the chosen image when the layer does not name its axes.

    Each layer is looked at once, in the background.

    Parameters
    ----------
    session : Session
        The state; a sentence is said where a file tells.
    layers : Layers
        Gets the axes.
    changed : callable
        Called after a layer got axes.
    """

    def __init__(
        self, session: Session, layers: Layers, changed: Callable[[], None]
    ) -> None:
        self._session = session
        self._changed = changed
        self._layers = layers
        self._asked: weakref.WeakSet[Any] = weakref.WeakSet()

    def catch_up(self) -> bool:
        """Look into the file of the chosen image, if that has not been done."""
        image = self._session.state.image
        if image is None or image.axes:
            return False
        name, shape = image.name, image.shape
        layer, path = self._layers.layer(name), self._layers.path_of(name)
        if not path or layer in self._asked:
            return False
        self._asked.add(layer)
        self._session.tasks.aside(
            lambda: told_by(path, shape), lambda facts: self._take(name, path, facts)
        )
        return True

    def _take(self, name: str, path: str, facts: FileFacts | Exception | None) -> None:
        """Give a layer what its file says, if it still wants to know."""
        image = self._session.state.image
        if not isinstance(facts, FileFacts) or image is None:
            return
        if image.name == name and image.axes is None:
            try:
                self._layers.adopt(name, facts)
            except UNetError:  # napari took it for colours: the user is asked
                return
            self._changed()
            self._session.say(f"Axes read from {Path(path).name}.")


def told_by(path: str, shape: tuple[int, ...]) -> FileFacts | None:
    """Read the axes of a file for a layer of this shape.

    Parameters
    ----------
    path : str
        The file that the layer came from.
    shape : tuple of int
        Shape of the layer's pixels.

    Returns
    -------
    FileFacts or None
        None where the file does not tell, is no image that we read, or has another
        shape than the layer.
    """
    from napari_unet.images.readers import open_image

    try:
        with open_image(path) as stack:
            kept = _kept(dict(zip(stack.axes, stack.shape, strict=True)), shape)
            return None if kept is None else _facts(kept, stack.scale, stack.units)
    except (UNetError, OSError):
        return None


def _kept(sizes: Mapping[str, int], shape: tuple[int, ...]) -> str | None:
    """Axes of a layer of this shape: all of the file's, or those longer than 1."""
    long = {axis: size for axis, size in sizes.items() if size > 1}
    for some in (sizes, long):
        if tuple(some.values()) == shape:
            return "".join(some)
    return None


def _facts(axes: str, scale: Mapping[str, float], units: Mapping[str, str]) -> Any:
    """Put what is known of each axis in the order of the layer."""
    return FileFacts(
        axes,
        tuple(float(scale.get(axis, 1.0)) for axis in axes),
        tuple(str(units.get(axis, "pixel")) for axis in axes),
    )
