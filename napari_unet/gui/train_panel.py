"""The Train page: strokes, fine-tuning, score, undo."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QFormLayout,
    QHBoxLayout,
    QListWidget,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_unet.config import FinetuneConfig
from napari_unet.errors import UsageError
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
from napari_unet.gui.outlook_panel import OutlookPanel
from napari_unet.gui.patches_panel import PatchesPanel
from napari_unet.gui.plot import CurvePlot
from napari_unet.gui.preferences import Preferred
from napari_unet.gui.rounds_panel import RoundsPanel
from napari_unet.gui.strokes_panel import StrokesPanel

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_unet.gui.buttons import Button
    from napari_unet.gui.controller import Controller
    from napari_unet.gui.view import View

_OPTIONS = (
    "validation",
    "augment",
    "orientation",
    "learning_rate",
    "max_steps",
    "seed",
    "normalize",
    "device",
    "precision",
    "nan",
)
_NEW = "A new U-Net"
_LINES = 5


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
        self.outlook = OutlookPanel()
        self.preferred = Preferred(self.options, "device")
        self.plot = CurvePlot()
        self.score = text_label(title="true")
        self.train = push_button("", self._train, primary=True)
        self.pause = push_button("", controller.training.pause)
        self.go_on = push_button("", controller.training.go_on)
        self.use_anyway = push_button("", controller.versions.use_anyway)
        self.next_spot = push_button("", controller.doubting.next_spot)
        self.doubt = QCheckBox("Show doubt")
        self.doubt.setToolTip("Show how unsure the model is of each pixel in view.")
        self.doubt.clicked.connect(controller.doubting.show)
        self.check = push_button("", self._check)
        self.suspects = Suspects(controller)
        self.rounds = RoundsPanel(controller)
        self.patches = PatchesPanel(self._patches)
        self.start = narrow_combo("Start from")
        self.start.textActivated.connect(
            lambda text: controller.set_from_scratch(text == _NEW)
        )
        for form in self._forms:
            form.connect(self._settle)
        self._settle()
        self._lay_out()

    def show_view(self, view: View) -> None:
        """Bring the page up to date."""
        self.strokes.show_view(view)
        starts = (view.base, _NEW) if view.base else (_NEW,)
        show_items(self.start, starts, _NEW if view.from_scratch else view.base)
        self.outlook.show_view(view.outlook)
        self.outlook_fold.set_title(view.outlook.title)
        show_button(self.train, view.train)
        show_button(self.next_spot, view.next_spot)
        show_button(self.check, view.check)
        for name in ("use_anyway", "pause", "go_on"):
            _show_if_any(getattr(self, name), getattr(view, name))
        self._show_next(view.next_to_learn)
        self._show_what_there_is(view)
        self.doubt.setChecked(view.doubt)
        self.doubt.setEnabled(view.next_spot.enabled or view.doubt)
        self.suspects.show_view(view)
        self.rounds.show_view(view)
        self.patches.show_view(view)
        self.plot.set_curves(view.curves)
        self.score.setText(view.score)
        declined = view.use_anyway is not None
        bold, tone = ("false", "bad") if declined else ("true", "plain")
        mark(self.score, title=bold, tone=tone)
        self.score.setVisible(bool(view.score))

    def settings(self) -> dict[str, Any]:
        """Read the settings; raises `UsageError` where a text is no number."""
        return {k: v for form in self._forms for k, v in form.values().items()}

    @property
    def _forms(self) -> tuple[Form, ...]:
        """The forms of the page."""
        return self.form, self.outlook.form, self.options

    def _settle(self) -> None:
        """Tell the settings, or that they cannot be read now."""
        try:
            settings = self.settings()
        except UsageError:
            settings = None
        self._controller.outlooks.set_settings(settings)

    def _lay_out(self) -> None:
        """Place everything from top to bottom in the order of work."""
        area, layout = page()
        self.rounds_fold = Folded("Rounds", self.rounds)
        self.outlook_fold = Folded("", self.outlook)
        checks = _column(self.check, self.suspects)
        self.check_fold = Folded("Check my strokes", checks)
        self.patches_fold = Folded("Augmented patches", self.patches)
        layout.addWidget(self.strokes)
        layout.addLayout(_row(self.next_spot, self.doubt))
        start = QFormLayout()
        start.addRow("Start from", self.start)
        layout.addLayout(start)
        layout.addWidget(self.outlook_fold)
        layout.addWidget(self.form)
        layout.addLayout(_row(self.train, self.pause, stretch=(1, 0)))
        layout.addWidget(self.go_on)
        layout.addWidget(self.plot)
        layout.addWidget(self.score)
        layout.addWidget(self.use_anyway)
        layout.addLayout(_row(self.rounds.undo, self.rounds.redo))
        layout.addWidget(self.rounds_fold)
        layout.addWidget(self.check_fold)
        for fold in self.strokes.folds:
            layout.addWidget(fold)
        layout.addWidget(self.patches_fold)
        layout.addWidget(Folded("Options", self.options))
        layout.addStretch(1)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(area)

    def _show_next(self, name: str) -> None:
        """Make the button blue that is of use next."""
        strokes = self.strokes
        steps = {
            "new_strokes": strokes.new_strokes,
            "paint": strokes.paint,
            "train": self.train,
        }
        for step, button in steps.items():
            mark(button, primary="true" if step == name else "false")

    def _show_what_there_is(self, view: View) -> None:
        """Hide what is of no use before there is a model, strokes or a round."""
        for widget in (self.next_spot, self.doubt):
            widget.setVisible(bool(view.model_name))
        for fold in (self.check_fold, self.patches_fold):
            fold.setVisible(view.annotation.has_strokes)
        number = len(view.rounds) - 1
        self.rounds_fold.set_title(f"Rounds ({number})")
        self.rounds_fold.setVisible(number > 0)
        for button, shown in (
            (self.rounds.undo, view.undo),
            (self.rounds.redo, view.redo),
        ):
            button.setVisible(number > 0 or shown.enabled)

    def _train(self) -> None:
        """Learn from the strokes."""
        self._attempt(self._controller.training.train)

    def _check(self) -> None:
        """Look for wrong strokes."""
        self._attempt(self._controller.auditing.check)

    def _patches(self) -> None:
        """Show augmented patches."""
        self._attempt(self._controller.auditing.patches)

    def _attempt(self, act: Callable[[dict[str, Any]], None]) -> None:
        """Do something with the settings, or tell why they cannot be used."""
        self._controller.session.attempt(lambda: act(self.settings()))


class Suspects(QListWidget):  # type: ignore[misc]
    """Lists strokes that may be wrong; a click goes there.

    Parameters
    ----------
    controller : Controller
        Told where to go.
    """

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self.setAccessibleName("Strokes that may be wrong")
        self.setToolTip("Strokes that the others contradict. Click to go there.")
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.currentRowChanged.connect(controller.auditing.go_to)
        self.itemClicked.connect(lambda _: controller.auditing.go_to(self.currentRow()))

    def show_view(self, view: View) -> None:
        """Bring the list up to date; hidden while there is none."""
        if [self.item(n).text() for n in range(self.count())] != list(view.suspects):
            blocked = self.blockSignals(True)
            self.clear()
            self.addItems(list(view.suspects))
            self.blockSignals(blocked)
        self.setVisible(bool(view.suspects))
        line = self.fontMetrics().height() + 4
        self.setFixedHeight(min(len(view.suspects), _LINES) * line + 6)


def _show_if_any(widget: QPushButton, button: Button | None) -> None:
    """Bring a button up to date that is only there at times."""
    widget.setVisible(button is not None)
    if button is not None:
        show_button(widget, button)


def _column(*widgets: QWidget) -> QWidget:
    """Place widgets below each other."""
    inner = QWidget()
    column = QVBoxLayout(inner)
    column.setContentsMargins(0, 0, 0, 0)
    for widget in widgets:
        column.addWidget(widget)
    return inner


def _row(*widgets: QWidget, stretch: tuple[int, ...] = ()) -> QHBoxLayout:
    """Place widgets side by side."""
    row = QHBoxLayout()
    for widget, share in itertools.zip_longest(widgets, stretch, fillvalue=0):
        row.addWidget(widget, share)
    return row
