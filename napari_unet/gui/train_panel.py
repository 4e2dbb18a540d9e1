"""The Train page: strokes, fine-tuning, score, undo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QFormLayout, QVBoxLayout, QWidget

from napari_unet.config import FinetuneConfig
from napari_unet.gui.form import Form
from napari_unet.gui.look import (
    Folded,
    narrow_combo,
    page,
    push_button,
    show_button,
    show_items,
    text_label,
)
from napari_unet.gui.plot import CurvePlot
from napari_unet.gui.strokes_panel import StrokesPanel

if TYPE_CHECKING:
    from napari_unet.gui.controller import Controller
    from napari_unet.gui.view import View

_OPTIONS = (
    "validation",
    "augment",
    "learning_rate",
    "patch",
    "seed",
    "ndim",
    "depth",
    "width",
    "normalize",
    "device",
    "precision",
    "nan",
)
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
        self.strokes = StrokesPanel(controller)
        self.form = Form(FinetuneConfig, ("max_seconds",))
        self.form.fields["max_seconds"].native.setSuffix(" s")
        self.options = Form(FinetuneConfig, _OPTIONS)
        self.plot = CurvePlot()
        self.score = text_label(title="true")
        self.train = push_button("", self._train, primary=True)
        self.undo = push_button("", controller.training.undo)
        self.use_anyway = push_button("", controller.training.use_anyway)
        self.start = narrow_combo("Start from")
        self.start.textActivated.connect(
            lambda text: controller.set_from_scratch(text == _STARTS[1])
        )
        self._lay_out()

    def show_view(self, view: View) -> None:
        """Bring the page up to date."""
        self.strokes.show_view(view)
        starts = _STARTS if view.can_start_from_model else _STARTS[1:]
        show_items(self.start, starts, _STARTS[int(view.from_scratch)])
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
        layout.addWidget(self.strokes)
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
