"""Keys of the viewer that press the dock's buttons.

Shift with these letters is free in napari, on the viewer and on every kind of layer,
whose own keys would win.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from napari.components import ViewerModel

PREVIEW, PREDICT, TRAIN, ACCEPT = "Shift-R", "Shift-G", "Shift-T", "Shift-C"
NEXT, KEEP, BEFORE = "Shift-N", "Shift-K", "Shift-D"
KEYS = (PREVIEW, PREDICT, TRAIN, ACCEPT, NEXT, KEEP)
HELD = (BEFORE,)
"""Keys that do something for as long as they are held."""
WORDS = {
    PREVIEW: "preview what the canvas shows",
    PREDICT: "predict the whole image",
    TRAIN: "fine-tune on the strokes; again: stop",
    ACCEPT: "copy what is predicted under the cursor into the strokes",
    NEXT: "go to the next doubtful spot",
    KEEP: "keep the round in use",
    BEFORE: "held: show the round before",
}
"""What the dock's keys do."""
OTHERS = {
    "P": "paint",
    "E": "erase",
    "F": "fill",
    "L": "pick a class",
    "[  ]": "smaller, larger brush",
    "X": "swap with erasing",
    "right-drag": "draw a filled outline (in paint mode)",
}
"""napari's own on a stroke layer."""


class Keys:
    """Binds keys to what they do, and lets go of them.

    Parameters
    ----------
    press : callable
        Called with the key.
    keys : iterable of str
        Such as ``"Shift-R"``.
    release : callable
        Called with a held key when it is let go.
    held : iterable of str
        Keys that are held.
    """

    def __init__(
        self,
        press: Callable[[str], None],
        keys: Iterable[str],
        release: Callable[[str], None],
        held: Iterable[str],
    ) -> None:
        self._handlers: dict[str, Callable[[Any], Any]] = {
            key: _handler(press, key) for key in keys
        }
        self._handlers |= {key: _held(press, release, key) for key in held}

    def bind(self, viewer: ViewerModel) -> None:
        """Bind the keys, except those that someone else has bound."""
        for key, handler in self._handlers.items():
            theirs = viewer.bind_key(key, None)
            viewer.bind_key(key, theirs or handler)

    def unbind(self, viewer: ViewerModel) -> None:
        """Unbind the keys, except those that someone else has bound."""
        for key, handler in self._handlers.items():
            bound = viewer.bind_key(key, None)
            if bound is not None and bound is not handler:
                viewer.bind_key(key, bound)


def _handler(press: Callable[[str], None], key: str) -> Callable[[Any], None]:
    """Make what napari calls with the viewer."""
    return lambda _viewer: press(key)


def _held(
    press: Callable[[str], None], release: Callable[[str], None], key: str
) -> Callable[[Any], Iterator[None]]:
    """Make what napari calls with the viewer, and goes on with at the release."""

    def handle(_viewer: Any) -> Iterator[None]:
        press(key)
        yield
        release(key)

    return handle
