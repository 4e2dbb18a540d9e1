"""Closing the window while a job runs: asks, stops it so that it is kept, closes."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QObject, QTimer
from qtpy.QtWidgets import QMessageBox, QWidget

from napari_unet.gui import words

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_unet.gui.session import Session
    from napari_unet.gui.state import Activity
    from napari_unet.gui.view import View

    Ask = Callable[[QWidget, Activity], bool]


def ask(window: QWidget, activity: Activity) -> bool:
    """Ask whether a job may be stopped to close the window."""
    box = QMessageBox(window)
    box.setWindowTitle("U-Net")
    box.setIcon(QMessageBox.Icon.Question)
    box.setText(f"{activity.title} is not finished.")
    box.setInformativeText(words.what_is_kept(activity.kind))
    stop = box.addButton("Stop and close", QMessageBox.ButtonRole.AcceptRole)
    stay = box.addButton("Go on", QMessageBox.ButtonRole.RejectRole)
    box.setDefaultButton(stay)
    box.setEscapeButton(stay)
    box.exec()
    return bool(box.clickedButton() is stop)


class Closing(QObject):  # type: ignore[misc]
    """Watches a window that a person may close while a job runs.

    Parameters
    ----------
    session : Session
        Knows what runs.
    gone : callable
        Called when the window is gone.
    ask : callable
        Asks whether the job may be stopped.
    """

    def __init__(
        self, session: Session, gone: Callable[[], None], ask: Ask = ask
    ) -> None:
        super().__init__()
        self._session = session
        self._gone = gone
        self._ask = ask
        self._window: weakref.ref[QWidget] | None = None
        self._unsubscribe: Callable[[], None] | None = None

    def watch(self, window: QWidget) -> None:
        """Watch a window, the same one only once."""
        if self._window is not None and self._window() is window:
            return
        self._window = weakref.ref(window)
        window.installEventFilter(self)
        window.destroyed.connect(self._forget)

    def eventFilter(self, window: QObject, event: QEvent) -> bool:
        """Keep the window open while a job stops; what a program closes, closes."""
        if event.type() != QEvent.Type.Close or not event.spontaneous():
            return False
        activity = self._session.state.activity
        if activity is None:
            return False
        event.ignore()
        if self._unsubscribe is None and self._ask(window, activity):
            self._session.stop()
            self._unsubscribe = self._session.subscribe(self._close_when_done)
        return True

    def _close_when_done(self, view: View) -> None:
        """Close the window once nothing runs any more, and not within a signal."""
        if not view.busy and self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
            QTimer.singleShot(0, self._close)

    def _close(self) -> None:
        """Close the window that was to be closed."""
        if self._window is not None and (window := self._window()) is not None:
            window.close()

    def _forget(self) -> None:
        """Forget a window that Qt has deleted, and what belonged to it."""
        self._window = None
        self._gone()
