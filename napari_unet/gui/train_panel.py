"""The Train page: strokes, classes, fine-tuning, score, undo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import (
    QFormLayout,
    QHBoxLayout,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_unet.config import FinetuneConfig
from napari_unet.gui import words
from napari_unet.gui.form import Form
from napari_unet.gui.look import (
    Folded,
    mark,
    narrow_combo,
    page,
    push_button,
    show_button,
    show_items,
    text_label,
)
from napari_unet.gui.plot import CurvePlot

if TYPE_CHECKING:
    from napari_unet.gui.controller import Controller
    from napari_unet.gui.legend import ClassRow
    from napari_unet.gui.view import View

_OPTIONS = (
    "validation",
    "augment",
    "learning_rate",
    "patch",
    "strokes",
    "seed",
    "ndim",
    "depth",
    "width",
    "normalize",
    "device",
    "precision",
    "nan",
)
_HINT = "P paints, E erases, Ctrl+Z undoes; right-drag fills an outline."
_STARTS = ("This model", "A new U-Net")


class TrainPanel(QWidget):  # type: ignore[misc]
    """Paints strokes and learns from them.

    Parameters
    ----------
    controller : Controller
        Told what the user does.
    """

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self.legend = Legend(controller)
        self.form = Form(FinetuneConfig, ("max_seconds",))
        self.form.fields["max_seconds"].native.setSuffix(" s")
        self.options = Form(FinetuneConfig, _OPTIONS)
        self.plot = CurvePlot()
        self.score = text_label(title="true")
        self.new_strokes = push_button("", controller.new_strokes)
        self.add_class = push_button("Add a class", controller.add_class)
        self.train = push_button("", self._train, primary=True)
        self.undo = push_button("", controller.training.undo)
        self.use_anyway = push_button("", controller.training.use_anyway)
        self.layers = narrow_combo("Strokes")
        self.layers.setPlaceholderText("none yet")
        self.layers.textActivated.connect(controller.choose_strokes)
        self.start = narrow_combo("Start from")
        self.start.textActivated.connect(
            lambda text: controller.set_from_scratch(text == _STARTS[1])
        )
        self._lay_out()

    def show_view(self, view: View) -> None:
        """Bring the page up to date."""
        show_items(self.layers, view.stroke_layers, view.strokes)
        starts = _STARTS if view.can_start_from_model else _STARTS[1:]
        show_items(self.start, starts, _STARTS[int(view.from_scratch)])
        self.legend.show_classes(view.classes, bool(view.strokes))
        self.hint.setVisible(bool(view.strokes))
        self.add_class.setEnabled(bool(view.strokes))
        show_button(self.new_strokes, view.new_strokes)
        show_button(self.train, view.train)
        show_button(self.undo, view.undo)
        self.undo.setVisible(view.undo.enabled or bool(view.score))
        self.use_anyway.setVisible(view.use_anyway is not None)
        if view.use_anyway is not None:
            show_button(self.use_anyway, view.use_anyway)
        self.plot.set_curves(view.curves)
        self.score.setText(view.score)
        self.score.setVisible(bool(view.score))

    def settings(self) -> dict[str, Any]:
        """Read the settings; raises `UsageError` where a text is no number."""
        return {**self.form.values(), **self.options.values()}

    def _lay_out(self) -> None:
        """Place everything from top to bottom in the order of work."""
        area, layout = page()
        form = QFormLayout()
        form.addRow("Strokes", self.layers)
        layout.addLayout(form)
        row = QHBoxLayout()
        row.addWidget(self.new_strokes)
        row.addWidget(self.add_class)
        layout.addLayout(row)
        layout.addWidget(self.legend)
        self.hint = text_label(_HINT, faint="true")
        layout.addWidget(self.hint)
        start = QFormLayout()
        start.addRow("Start from", self.start)
        layout.addLayout(start)
        layout.addWidget(self.form)
        layout.addWidget(self.train)
        layout.addWidget(self.plot)
        layout.addWidget(self.score)
        layout.addWidget(self.use_anyway)
        layout.addWidget(self.undo)
        layout.addWidget(Folded("Options", self.options))
        layout.addStretch(1)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(area)

    def _train(self) -> None:
        """Learn from the strokes."""
        self._controller.session.attempt(
            lambda: self._controller.training.train(self.settings())
        )


class Legend(QWidget):  # type: ignore[misc]
    """One line for each class: its colour, name and painted pixels; a click paints it.

    Parameters
    ----------
    controller : Controller
        Told which class to paint.
    """

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self.rows: list[QToolButton] = []
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(0)

    def show_classes(self, classes: tuple[ClassRow, ...], enabled: bool) -> None:
        """Show these classes."""
        while len(self.rows) > len(classes):
            self.rows.pop().deleteLater()
        while len(self.rows) < len(classes):
            self._add_row()
        for button, row in zip(self.rows, classes, strict=True):
            pixels = words.grouped(row.pixels)
            self._paint(button, row.colour)
            button.setText(f"  {row.number}  {row.name}  ·  {pixels} px")
            button.setChecked(row.painting and enabled)
            button.setEnabled(enabled)

    def _paint(self, button: QToolButton, colour: str) -> None:
        """Give a line its colour."""
        if button.property("colour") != colour:
            button.setProperty("colour", colour)
            button.setIcon(_swatch(colour))

    def _add_row(self) -> None:
        """Add a line."""
        number = len(self.rows) + 1
        button = QToolButton()
        button.setCheckable(True)
        button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        button.setToolTip("Click to paint this class.")
        mark(button, classrow="true")
        button.clicked.connect(lambda: self._controller.paint(number))
        self._layout.addWidget(button)
        self.rows.append(button)


def _swatch(colour: str) -> QIcon:
    """Draw a square of a colour."""
    pixmap = QPixmap(16, 16)
    pixmap.fill(QColor(colour))
    icon = QIcon(pixmap)
    icon.addPixmap(pixmap, QIcon.Mode.Disabled)
    return icon
