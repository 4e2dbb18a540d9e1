"""The upper half of the Train page: the project, its strokes and their classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QFileDialog,
    QFormLayout,
    QGridLayout,
    QHBoxLayout,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)
from superqt import QElidingLabel

from napari_unet.gui.class_table import ClassTable
from napari_unet.gui.look import (
    Folded,
    narrow_combo,
    push_button,
    show_button,
    show_items,
    text_label,
)
from napari_unet.gui.pictures_table import PicturesTable

if TYPE_CHECKING:
    from napari_unet.gui.controller import Controller
    from napari_unet.gui.view import View
    from napari_unet.projects.schema import Kind

_HINT = "P paints, E erases, Ctrl+Z undoes; right-drag fills an outline."
_FIRST = (
    "Paint a few short strokes of each class, where the model is wrong or unsure. What "
    "is not painted is not learned."
)
_KINDS: dict[str, Kind] = {
    "as they look": "auto",
    "classes": "classes",
    "objects": "instances",
}


class StrokesPanel(QWidget):  # type: ignore[misc]
    """Makes and chooses strokes, what is painted, and the project they are kept in.

    Parameters
    ----------
    controller : Controller
        Told what the user does.

    Attributes
    ----------
    folds : tuple of QWidget
        What is needed less often; the page puts it at its end.
    """

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        painting, projects = controller.painting, controller.projects
        self._projects = projects
        self.legend = ClassTable(painting)
        self.objects = text_label(title="true")
        self.new_strokes = push_button("", painting.new)
        self.add_class = push_button("", painting.add_class)
        self.paint = push_button("", painting.start)
        self.box = push_button("", controller.boxes.draw)
        self.accept = push_button("", painting.accept)
        self.discs = push_button("", painting.discs)
        self.mark_all = push_button("", controller.boxes.mark_rest)
        self.open = push_button("Open …", self._open)
        self.open.setToolTip("Open an annotation project.")
        self.save_as = push_button("", self._save_as)
        self.use_offer = push_button("Use them", controller.lost.take)
        self.decline_offer = push_button("Not now", controller.lost.decline)
        self.layers = narrow_combo("Strokes")
        self.layers.setPlaceholderText("none yet")
        self.layers.textActivated.connect(painting.choose)
        self.kind = narrow_combo("Numbers are")
        self.kind.setToolTip("Whether a stroke's number is a class or one object.")
        self.kind.textActivated.connect(lambda text: painting.set_kind(_KINDS[text]))
        self.kind_note = text_label(faint="true")
        self.pictures = PicturesTable(projects)
        self.folds = self._folds()
        self._lay_out()

    def show_view(self, view: View) -> None:
        """Bring the panel up to date."""
        shown = view.annotation
        self.project.setText(shown.project_tip)
        self.project.setToolTip(shown.project_tip)
        self.project.setVisible(bool(shown.project_tip))
        show_items(self.layers, shown.layers, shown.strokes)
        names = {value: text for text, value in _KINDS.items()}
        show_items(self.kind, tuple(_KINDS), names[shown.kind])
        self.kind_note.setText(shown.kind_note)
        self.kind_note.setVisible(bool(shown.kind_note))
        self.objects.setText(shown.objects)
        self.objects.setVisible(bool(shown.objects))
        self.legend.show_classes(shown.rows, bool(shown.strokes))
        self.legend.setVisible(shown.has_strokes and not shown.objects)
        for widget in (self.hint, self.paint, self.add_class, self.box, self.accept):
            widget.setVisible(shown.has_strokes)
        for widget in (self.first, self.new_strokes):
            widget.setVisible(not shown.has_strokes)
        several = len(shown.layers) > 1 or not shown.has_strokes
        self._form.setRowVisible(self.layers, several and bool(shown.layers))
        self.offer.setText(shown.offer)
        self.offer_row.setVisible(bool(shown.offer))
        self.pictures.show_pictures(shown.pictures)
        self.pictures.setVisible(bool(shown.pictures))
        self.images.set_title(f"Project: {shown.project}")
        for name in ("add_class", "paint", "box", "accept", "discs", "mark_all"):
            show_button(getattr(self, name), getattr(shown, name))
        show_button(self.new_strokes, shown.new)
        show_button(self.save_as, shown.save_as)

    def _lay_out(self) -> None:
        """Place everything from top to bottom in the order of work."""
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(8)
        layout.addWidget(self._offer())
        self._form = QFormLayout()
        self._form.addRow("Strokes", self.layers)
        layout.addLayout(self._form)
        self.first = text_label(_FIRST, faint="true")
        layout.addWidget(self.first)
        layout.addWidget(self.new_strokes)
        layout.addWidget(self.legend)
        layout.addWidget(self.objects)
        self.hint = text_label(_HINT, faint="true")
        layout.addWidget(self.hint)
        grid = QGridLayout()
        for number, button in enumerate(
            (self.paint, self.add_class, self.box, self.accept)
        ):
            grid.addWidget(button, number // 2, number % 2)
        layout.addLayout(grid)

    def _folds(self) -> tuple[QWidget, ...]:
        """Make what is needed less often."""
        self.images = Folded("Project", self._project())
        return self.images, Folded("More ways to paint", self._more())

    def _offer(self) -> QWidget:
        """Make the line that offers strokes of an earlier session."""
        self.offer = text_label(tone="good")
        self.offer_row = QWidget()
        column = QVBoxLayout(self.offer_row)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.offer)
        row = QHBoxLayout()
        row.addWidget(self.use_offer)
        row.addWidget(self.decline_offer)
        column.addLayout(row)
        return self.offer_row

    def _project(self) -> QWidget:
        """Make what is done with the project, and the list of its images."""
        self.project = QElidingLabel()
        self.project.setElideMode(Qt.TextElideMode.ElideLeft)
        self.project.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(0, 0, 0, 0)
        row = QHBoxLayout()
        row.addWidget(self.open)
        row.addWidget(self.save_as)
        column.addWidget(self.project)
        column.addLayout(row)
        column.addWidget(self.pictures)
        return inner

    def _more(self) -> QWidget:
        """Make what is needed less often."""
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(0, 0, 0, 0)
        form = QFormLayout()
        form.addRow("Numbers are", self.kind)
        column.addLayout(form)
        column.addWidget(self.kind_note)
        row = QHBoxLayout()
        row.addWidget(self.discs)
        row.addWidget(self.mark_all)
        column.addLayout(row)
        return inner

    def _open(self) -> None:
        """Ask for a project."""
        folder = QFileDialog.getExistingDirectory(self, "Open an annotation project")
        if folder:
            self._projects.open(folder)

    def _save_as(self) -> None:
        """Ask for a new folder."""
        path, _ = QFileDialog.getSaveFileName(self, "Save the project as a folder")
        if path:
            self._projects.save_as(path)
