"""A small plot of training curves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPen
from qtpy.QtWidgets import QSizePolicy, QWidget

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qtpy.QtGui import QPaintEvent

    Curve = Sequence[tuple[float, float]]

_COLOURS = ("#56b4e9", "#e69f00", "#009e73", "#cc79a7")
_NAMES = {"train_loss": "training loss", "val_dice": "Dice on held-out strokes"}
_MARGIN = 6.0


class CurvePlot(QWidget):  # type: ignore[misc]
    """Curves over steps, each scaled to its own range, with its name and last value."""

    def __init__(self) -> None:
        super().__init__()
        self._curves: Mapping[str, Curve] = {}
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("Training curves")

    def set_curves(self, curves: Mapping[str, Curve]) -> None:
        """Show other curves; hidden while there are none."""
        self._curves = curves
        self.setVisible(bool(curves))
        self.updateGeometry()
        self.update()

    def sizeHint(self) -> QSize:
        """Room for the plot and one line of legend for each curve."""
        return QSize(200, 80 + self._legend_height())

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw frame, curves and legend."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        height = self.height() - self._legend_height()
        area = QRectF(0.5, 0.5, self.width() - 1.0, height - 1.0)
        frame = QColor(self.palette().color(self.foregroundRole()))
        frame.setAlpha(70)
        painter.setPen(QPen(frame, 1))
        painter.drawRect(area)
        for number, (name, curve) in enumerate(self._curves.items()):
            colour = QColor(_COLOURS[number % len(_COLOURS)])
            painter.setPen(QPen(colour, 2, _dash(number)))
            _draw(painter, placed(curve, area))
            self._write(painter, number, name, curve, colour)
        painter.end()

    def _legend_height(self) -> int:
        """Pixels that the legend takes."""
        line: int = self.fontMetrics().height() + 2
        return line * len(self._curves)

    def _write(
        self, painter: QPainter, number: int, name: str, curve: Curve, colour: QColor
    ) -> None:
        """Write one line of the legend."""
        line = self.fontMetrics().height() + 2
        top = self.height() - self._legend_height() + number * line
        painter.drawLine(QPointF(4, top + line / 2), QPointF(22, top + line / 2))
        painter.setPen(self.palette().color(self.foregroundRole()))
        text = f"{_NAMES.get(name, name)}  {curve[-1][1]:.3f}"
        place = QRectF(28, top, self.width() - 30, line)
        painter.drawText(place, Qt.AlignmentFlag.AlignVCenter, text)


def _draw(painter: QPainter, points: list[QPointF]) -> None:
    """Draw a curve; a single value is a dot."""
    if len(points) == 1:
        painter.drawEllipse(points[0], 2, 2)
    else:
        painter.drawPolyline(points)


def _dash(number: int) -> Qt.PenStyle:
    """Tell curves apart by more than their colour."""
    styles = (Qt.PenStyle.SolidLine, Qt.PenStyle.DashLine, Qt.PenStyle.DotLine)
    return styles[number % len(styles)]


def placed(curve: Curve, area: QRectF) -> list[QPointF]:
    """Place a curve in an area, from its lowest value to its highest."""
    inside = area.adjusted(_MARGIN, _MARGIN, -_MARGIN, -_MARGIN)
    xs, ys = zip(*curve, strict=True)
    left, width = min(xs), max(max(xs) - min(xs), 1e-9)
    low, height = min(ys), max(max(ys) - min(ys), 1e-9)
    return [
        QPointF(
            inside.left() + inside.width() * (x - left) / width,
            inside.bottom() - inside.height() * (y - low) / height,
        )
        for x, y in curve
    ]
