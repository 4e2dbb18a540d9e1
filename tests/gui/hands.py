"""A user's hands: mouse, keys and files dropped on the window, as real Qt events."""

from pathlib import Path

import numpy as np
from qtpy.QtCore import QEvent, QMimeData, QPoint, QPointF, Qt, QUrl
from qtpy.QtGui import QDragEnterEvent, QDropEvent, QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QAbstractButton, QApplication, QMainWindow

_LEFT, _NONE = Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton
_PLAIN = Qt.KeyboardModifier.NoModifier


class Hands:
    """Acts on a viewer's window, finding things by what is written on them."""

    def __init__(self, viewer):
        self.viewer = viewer

    @property
    def canvas(self):
        """The widget that gets the mouse, found without napari's private names."""
        from vispy.app.backends._qt import QtBaseCanvasBackend

        return self._child(QtBaseCanvasBackend)

    def button(self, text, within=None):
        """Find the visible button with this text."""
        place = within or self._window
        found = [
            button
            for button in place.findChildren(QAbstractButton)
            if button.isVisible() and button.text().strip().startswith(text)
        ]
        assert found, f"no button {text!r}"
        return found[0]

    def click(self, text, within=None):
        """Click the button with this text, which must be enabled."""
        button = self.button(text, within)
        assert button.isEnabled(), f"{text!r} is disabled: {button.toolTip()}"
        QTest.mouseClick(button, _LEFT)

    def press(self, letter):
        """Press Shift and a letter over the canvas."""
        key = getattr(Qt.Key, f"Key_{letter}")
        QTest.keyClick(self.canvas, key, Qt.KeyboardModifier.ShiftModifier)

    def drag(self, start, stop):
        """Draw a stroke between two places of the world (Y, X)."""
        points = [self._on_canvas(p) for p in np.linspace(start, stop, 12)]
        self._mouse(QEvent.Type.MouseMove, points[0], _NONE, _NONE)
        self._mouse(QEvent.Type.MouseButtonPress, points[0], _LEFT, _LEFT)
        for point in points:
            self._mouse(QEvent.Type.MouseMove, point, _NONE, _LEFT)
            QTest.qWait(15)  # vispy drops moves that follow within 10 ms
        self._mouse(QEvent.Type.MouseButtonRelease, points[-1], _LEFT, _NONE)

    def drop(self, widget, path):
        """Drop a file on a widget, as a file manager does."""
        data = QMimeData()
        data.setUrls([QUrl.fromLocalFile(str(Path(path)))])
        copy = Qt.DropAction.CopyAction
        place = widget.rect().center()
        enter = QDragEnterEvent(place, copy, data, _LEFT, _PLAIN)
        QApplication.sendEvent(widget, enter)
        assert enter.isAccepted(), f"{widget} takes no files"
        drop = QDropEvent(QPointF(place), copy, data, _LEFT, _PLAIN)
        QApplication.sendEvent(widget, drop)

    def drop_on_viewer(self, path):
        """Drop a file on the part of the window that shows images."""
        widget = self.canvas
        while not widget.acceptDrops():
            widget = widget.parentWidget()
        self.drop(widget, path)

    @property
    def _window(self):
        windows = (w for w in QApplication.topLevelWidgets() if w.isVisible())
        return [w for w in windows if isinstance(w, QMainWindow)][-1]

    def _child(self, kind):
        return next(w for w in self._window.findChildren(object) if isinstance(w, kind))

    def _on_canvas(self, place):
        """Find a place of the world on the canvas."""
        size = np.array(self.viewer.canvas.size)
        camera = self.viewer.scene.camera
        y, x = size / 2 + (place - np.array(camera.center[-2:])) * camera.zoom
        assert 0 < y < size[0]
        assert 0 < x < size[1]
        return QPoint(round(x), round(y))

    def _mouse(self, kind, point, button, buttons):
        """Send one mouse event; QTest's moves forget the pressed button."""
        canvas = self.canvas
        where = QPointF(point), QPointF(canvas.mapToGlobal(point))
        QApplication.sendEvent(
            canvas, QMouseEvent(kind, *where, button, buttons, _PLAIN)
        )
