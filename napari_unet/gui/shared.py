"""What the docks of one viewer share; it ends with the last of them."""

from __future__ import annotations

import contextlib
import weakref
from typing import TYPE_CHECKING, Any

from napari.utils import notifications
from qtpy.QtCore import QTimer

from napari_unet.execution.child_process import Child
from napari_unet.gui import preferences
from napari_unet.gui.closing import Closing
from napari_unet.gui.controller import Controller
from napari_unet.gui.jobs import MainThread, in_background
from napari_unet.gui.keys import HELD, KEYS, Keys
from napari_unet.gui.layers import Layers
from napari_unet.gui.unseen import Unseen

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_unet.gui.dock import UNetDock
    from napari_unet.gui.view import View

_RECOUNT_AFTER = 250


class Shared:
    """What the docks of one viewer share: the controller, and who shows it.

    Parameters
    ----------
    viewer : napari.Viewer
        The viewer; it is not kept alive.
    """

    def __init__(self, viewer: Any) -> None:
        self._main_thread = MainThread()
        self._is_busy = False
        self._docks: dict[int, tuple[Callable[[], None], UNetDock]] = {}
        self._viewer = weakref.ref(viewer)
        self._keys = Keys(self._press, KEYS, self._release, HELD)
        layers = Layers(viewer)
        self.controller = Controller(
            layers,
            Child(gives_way=True),
            preferences.scratch_folder(),
            preferences.rounds_folder(),
            preferences.recovery_folder(),
            post=self._main_thread.post,
            background=in_background,
            notify=_notify,
        )
        self._recount = _timer(_RECOUNT_AFTER, self._count)
        self._autosave = _timer(_pause(), self.controller.keeping.autosave)
        self.controller.strokes.on_paint(self._save_soon)
        self.controller.strokes.connect(self._recount.start)
        self._catch_up = _timer(_delay(), self._catch_up_if_shown)
        preferences.watch(_follower(weakref.ref(self)))
        layers.watch_view(self._catch_up.start)
        session = self.controller.session
        session.subscribe(self._catch_up_soon)
        session.subscribe(self._close_when_done)
        Unseen(session, self._is_seen, _notify, self._main_thread.post)
        self.closing = Closing(session, self.close)

    def join(self, dock: UNetDock) -> None:
        """Show the state in one more dock, which gets the keys."""
        if id(dock) not in self._docks:
            unsubscribe = self.controller.session.subscribe(dock.show_view)
            self._docks[id(dock)] = unsubscribe, dock
            if (viewer := self._viewer()) is not None:
                self._keys.bind(viewer)

    def leave(self, dock: int) -> None:
        """Forget a dock; with the last one the computing process ends, once it is idle.

        What runs goes on: a dock that is opened later shows it again.
        """
        if dock not in self._docks:
            return
        unsubscribe, _ = self._docks.pop(dock)
        unsubscribe()
        if self._docks:
            return
        if (viewer := self._viewer()) is not None:
            self._keys.unbind(viewer)
        with contextlib.suppress(RuntimeError):  # Qt may have deleted it at exit
            self._recount.stop()
            self._autosave.stop()
            self._catch_up.stop()
        self._close_if_left()

    def say_what_goes_on(self) -> None:
        """Tell a person who closed the last dock that a job is not stopped by that."""
        activity = self.controller.session.state.activity
        if activity is not None and not self._docks:
            _notify("info", f"{activity.title} goes on. Open U-Net again to see it.")

    def close(self) -> None:
        """End everything with the window or the viewer."""
        for unsubscribe, _ in self._docks.values():
            unsubscribe()
        self._docks.clear()
        self.controller.close()

    def _close_when_done(self, view: View) -> None:
        """End the computing process after the last job, if no dock is open."""
        ended, self._is_busy = self._is_busy and not view.busy, view.busy
        if ended:
            self._main_thread.post(self._close_if_left)

    def _close_if_left(self) -> None:
        """End the computing process if nobody needs it."""
        if not self._docks and self.controller.session.state.activity is None:
            self.controller.close()

    def _is_seen(self) -> bool:
        """Whether a dock is visible."""
        return any(dock.isVisible() for _, dock in self._docks.values())

    def _count(self) -> None:
        """Count what was painted, a part of it at a time."""
        if not self.controller.painting.recount():
            self._recount.start()

    def _save_soon(self, _: str) -> None:
        """Save some seconds after the first stroke that is not saved."""
        if not self._autosave.isActive():
            self._autosave.start()

    def _catch_up_soon(self, _: View) -> None:
        """Wait a moment, but not again and again while a job tells its progress."""
        if self._docks and not self._catch_up.isActive():
            self._catch_up.start()

    def _catch_up_if_shown(self) -> None:
        """Follow the view while there is a dock."""
        if self._docks:
            self.controller.catch_up()

    def follow_preferences(self) -> None:
        """Take pauses, device and memory from the preferences."""
        with contextlib.suppress(RuntimeError):  # Qt may have deleted it at exit
            self._catch_up.setInterval(_delay())
            self._autosave.setInterval(_pause())
            for _, dock in self._docks.values():
                dock.follow_preferences()

    def _press(self, key: str) -> None:
        """Hand a key to the dock that came last."""
        _, dock = list(self._docks.values())[-1]
        dock.press(key)

    def _release(self, key: str) -> None:
        """Tell that a held key was let go, even if the docks are gone."""
        self.controller.compare.release()


def _follower(shared: weakref.ref[Shared]) -> Callable[[], None]:
    """Make what follows the preferences without keeping the viewer's docks alive."""

    def follow() -> None:
        if (alive := shared()) is not None:
            alive.follow_preferences()

    return follow


def _delay() -> int:
    """Milliseconds before a live preview."""
    return int(preferences.preferences()["preview_delay"])


def _pause() -> int:
    """Milliseconds from a stroke to its saving."""
    return int(1000 * preferences.preferences()["autosave"])


def _timer(interval: int, call: Callable[[], None]) -> QTimer:
    """Make a timer that calls once, `interval` milliseconds after its last start."""
    timer = QTimer()
    timer.setSingleShot(True)
    timer.setInterval(interval)
    timer.timeout.connect(call)
    return timer


_SHARED: dict[int, Shared] = {}


def shared_by(viewer: Any) -> Shared:
    """Find or make what the docks of a viewer share; it goes with the viewer."""
    shared = _SHARED.get(id(viewer))
    if shared is None:
        shared = _SHARED[id(viewer)] = Shared(viewer)
        weakref.finalize(viewer, _forget, id(viewer))
    return shared


def _forget(viewer: int) -> None:
    """End what was shared by the docks of a viewer that is gone."""
    if (shared := _SHARED.pop(viewer, None)) is not None:
        shared.close()


def _notify(severity: str, text: str) -> None:
    """Show a message as napari does."""
    show = notifications.show_error if severity == "error" else notifications.show_info
    show(text)
