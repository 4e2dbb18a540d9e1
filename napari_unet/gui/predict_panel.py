"""The Predict page."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QMessageBox, QVBoxLayout, QWidget

from napari_unet.config import PredictConfig
from napari_unet.errors import UsageError
from napari_unet.gui import preferences
from napari_unet.gui.form import Form
from napari_unet.gui.keys import OTHERS, WORDS
from napari_unet.gui.look import Folded, page, push_button, show_button, text_label
from napari_unet.gui.result_panel import ResultPanel

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_unet.gui.controller import Controller
    from napari_unet.gui.state import Card
    from napari_unet.gui.view import View

_OPTIONS = (
    "normalize",
    "tiling",
    "tile",
    "overlap",
    "window",
    "tta",
    "backend",
    "batch_size",
    "memory",
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
        self._kind = ""
        self.options = Form(PredictConfig, _OPTIONS)
        self.preview = push_button("", self._preview)
        self.predict = push_button("", self._predict, primary=True)
        self.measure = push_button("", controller.measuring.measure)
        self.live = QCheckBox("Live")
        self.live.setToolTip(
            "<span>Predict what the canvas shows again whenever it, the model or the "
            "settings change.</span>"
        )
        self.live.toggled.connect(controller.previews.set_live)
        self.summary = text_label(faint="true")
        self.summary.setAccessibleName("Plan")
        self._lines = text_label()
        self.card = Folded("Plan", self._lines)
        self.preferred = preferences.Preferred(self.options, "device", "memory")
        self.options.connect(self._settle)
        self.result = ResultPanel(self._settle)
        self._settle()
        area, layout = page()
        layout.addLayout(self._row())
        layout.addWidget(self.predict)
        layout.addWidget(self.summary)
        layout.addWidget(self.card)
        layout.addWidget(self.result)
        layout.addWidget(self.measure)
        layout.addWidget(Folded("Options", self.options))
        layout.addWidget(Folded("Keys", text_label(_keys())))
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
        if view.kind != self._kind:  # a round of the same model leaves the choice
            self._kind = view.kind
            self.result.choose(view.kind)
        self.result.show_view(view)
        show_button(self.preview, view.preview)
        show_button(self.predict, view.predict)
        show_button(self.measure, view.measure)
        blocked = self.live.blockSignals(True)
        self.live.setChecked(view.live)
        self.live.blockSignals(blocked)
        self._show_plan(view.plan)

    def settings(self) -> dict[str, Any]:
        """Read the settings; raises `UsageError` where a text is no number."""
        return {**self.result.settings(), **self.options.values()}

    def _row(self) -> QHBoxLayout:
        """Lay out what is done with the view."""
        row = QHBoxLayout()
        row.addWidget(self.preview, 1)
        row.addWidget(self.live)
        return row

    def _show_plan(self, plan: Card | None) -> None:
        """Show the plan: a line, and all of it below an arrow."""
        self.summary.setText(_unbroken(plan) if plan else "")
        self.summary.setVisible(plan is not None)
        self.card.setVisible(bool(plan and plan.lines))
        self._lines.setText(_rich(plan.lines if plan else ()))

    def _settle(self) -> None:
        """Tell the settings, or that they cannot be read now."""
        try:
            settings = self.settings()
        except UsageError:
            settings = None
        self._controller.predicting.set_settings(settings)
        self._controller.looks.choose(self.result.look)

    def _preview(self) -> None:
        """Predict the view."""
        self._controller.session.attempt(
            lambda: self._controller.previews.ask(self.settings())
        )

    def _predict(self) -> None:
        """Predict everything, after a question where that takes long."""
        concern = self._controller.predicting.concern()
        if concern and not self._ask(concern):
            return
        self._controller.session.attempt(
            lambda: self._controller.predict_all(self.settings())
        )

    def _ask(self, concern: str) -> bool:
        """Ask whether to go on."""
        answer = QMessageBox.question(
            self, "Predict all", f"{concern}\n\nPredict all the same?"
        )
        return bool(answer == QMessageBox.StandardButton.Yes)


def _unbroken(plan: Card) -> str:
    """Let a plan wrap between its parts only; a sentence wraps anywhere."""
    if not plan.lines:
        return plan.summary
    return plan.summary.replace(" ", "\u00a0").replace("·\u00a0", "· ")


def _keys() -> str:
    """List the keys, ours first."""
    ours, theirs = (_rich(named.items(), upper=False) for named in (WORDS, OTHERS))
    return f"{ours}<br><i>On a stroke layer</i><br>{theirs}"


def _rich(lines: Iterable[tuple[str, str]], *, upper: bool = True) -> str:
    """Write named lines with their names in bold."""
    return "<br>".join(
        f"<b>{escape(name.capitalize() if upper else name)}</b> {escape(text)}"
        for name, text in lines
    )
