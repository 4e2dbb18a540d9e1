"""The Predict page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_unet.config import PredictConfig
from napari_unet.gui import words
from napari_unet.gui.form import Form
from napari_unet.gui.look import Folded, page, push_button, show_button, text_label

if TYPE_CHECKING:
    from napari_unet.gui.controller import Controller
    from napari_unet.gui.view import View

_SHOWN = ("kind", "threshold")
_OPTIONS = (
    "normalize",
    "tiling",
    "tile",
    "overlap",
    "window",
    "tta",
    "backend",
    "batch_size",
    "device",
    "precision",
    "nan",
)


class PredictPanel(QWidget):  # type: ignore[misc]
    """Predicts the view or the whole image.

    Parameters
    ----------
    controller : Controller
        Told what the user does.
    """

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self._model_path = ""
        self.form = Form(PredictConfig, _SHOWN, words.KINDS)
        self.options = Form(PredictConfig, _OPTIONS)
        self.preview = push_button("", self._preview)
        self.predict = push_button("", self._predict, primary=True)
        area, layout = page()
        layout.addWidget(self.form)
        layout.addWidget(self.preview)
        layout.addWidget(self.predict)
        layout.addWidget(Folded("Options", self.options))
        layout.addWidget(
            text_label(
                "The result is a layer of its own; your strokes are never changed.",
                faint="true",
            )
        )
        layout.addStretch(1)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(area)

    def show_view(self, view: View) -> None:
        """Bring the page up to date."""
        if view.model_path != self._model_path:
            self._model_path = view.model_path
            self.form.fields["kind"].value = view.kind
        self.form.set_shown("threshold", view.has_threshold)
        show_button(self.preview, view.preview)
        show_button(self.predict, view.predict)

    def settings(self) -> dict[str, Any]:
        """Read the settings; raises `UsageError` where a text is no number."""
        return {**self.form.values(), **self.options.values()}

    def _preview(self) -> None:
        """Predict the view."""
        self._controller.session.attempt(
            lambda: self._controller.predicting.preview(self.settings())
        )

    def _predict(self) -> None:
        """Predict everything."""
        self._controller.session.attempt(
            lambda: self._controller.predicting.predict(self.settings())
        )
