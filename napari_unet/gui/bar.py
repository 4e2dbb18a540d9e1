"""A bar that shows how far a job is, and costs the window little."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QRectF, Qt, QTimer
from qtpy.QtGui import QPainter
from qtpy.QtWidgets import QProgressBar, QSizePolicy

if TYPE_CHECKING:
    from qtpy.QtGui import QHideEvent, QPaintEvent, QShowEvent

_STEPS = 1000
_TICK = 250
_PLACES = 8
_HEIGHT = 8


class Bar(QProgressBar):  # type: ignore[misc]
    """A progress bar; without a share to show, a piece of it walks along.

    Whatever is painted beside napari's canvas makes the whole window be put together
    anew. So nothing here is painted more often than it must: Qt's own bar repaints at
    once on every new value, and some sixty times a second where there is none.
    """

    def __init__(self) -> None:
        super().__init__()
        self._place = 0
        self._is_known = False
        self._walk = QTimer(self)
        self._walk.setInterval(_TICK)
        self._walk.timeout.connect(self._step)
        self.setRange(0, _STEPS)
        self.setTextVisible(False)
        self.setFixedHeight(_HEIGHT)
        self.setAccessibleName("Progress")
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)

    def show_share(self, share: float | None) -> None:
        """Show a share of 1, or that it is not known."""
        self._is_known = share is not None
        if share is not None and round(_STEPS * share) != self.value():
            self.setUpdatesEnabled(False)  # a new value is painted later, not now
            self.setValue(round(_STEPS * share))
            self.setUpdatesEnabled(True)
        self._walk_if_needed()

    def showEvent(self, event: QShowEvent) -> None:
        """Walk while it is seen."""
        super().showEvent(event)
        self._walk_if_needed()

    def hideEvent(self, event: QHideEvent) -> None:
        """Stand still while it is not."""
        super().hideEvent(event)
        self._walk.stop()

    def paintEvent(self, _: QPaintEvent) -> None:
        """Draw the groove, and the part that is done or the piece that walks."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        groove = QRectF(self.rect())
        self._draw(painter, groove, self.palette().base())
        done = QRectF(groove)
        if self._is_known:
            done.setWidth(groove.width() * self.value() / _STEPS)
        else:
            done.setWidth(groove.width() / _PLACES)
            done.moveLeft(groove.width() * self._place / _PLACES)
        self._draw(painter, done, self.palette().highlight())

    def _draw(self, painter: QPainter, part: QRectF, brush: object) -> None:
        """Fill a part with round ends."""
        painter.setBrush(brush)
        radius = min(part.width(), part.height()) / 2
        painter.drawRoundedRect(part, radius, radius)

    def _walk_if_needed(self) -> None:
        """Start or end the walk."""
        walks = not self._is_known and self.isVisible()
        if walks and not self._walk.isActive():
            self._walk.start()
            self.update()
        elif not walks and self._walk.isActive():
            self._walk.stop()
            self.update()

    def _step(self) -> None:
        """Walk on, back to the left at the end."""
        self._place = (self._place + 1) % _PLACES
        self.update()
