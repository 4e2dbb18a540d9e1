"""A form for what a checkpoint does not say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from magicgui.widgets import ComboBox, LineEdit
from qtpy.QtWidgets import QFormLayout, QSizePolicy, QVBoxLayout, QWidget

from napari_unet.gui.look import narrow, push_button, text_label
from napari_unet.gui.open_facts import read_value, shown

if TYPE_CHECKING:
    from magicgui.widgets.bases import ValueWidget

    from napari_unet.gui.controller import Controller
    from napari_unet.gui.open_facts import OpenFact


class FactsPanel(QWidget):  # type: ignore[misc]
    """Shows what was assumed about a checkpoint and lets a person say otherwise.

    Parameters
    ----------
    controller : Controller
        Told what the user says.

    Attributes
    ----------
    fields : dict of str to magicgui.widgets.bases.ValueWidget
        The widgets by field.
    """

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self._facts: tuple[OpenFact, ...] = ()
        self.fields: dict[str, ValueWidget] = {}
        self._form = QFormLayout()
        self._form.setFieldGrowthPolicy(
            QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow
        )
        self.apply = push_button("Apply", self._tell)
        self.apply.setToolTip("Open the checkpoint so, now and from now on.")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(
            text_label(
                "The file does not say these. Wrong ones make wrong results.",
                faint="true",
            )
        )
        layout.addLayout(self._form)
        layout.addWidget(self.apply)

    def show_facts(self, facts: tuple[OpenFact, ...], *, busy: bool) -> None:
        """Bring the form up to date; what is being typed is kept."""
        self.apply.setEnabled(not busy)
        if facts == self._facts:
            return
        self._facts = facts
        while self._form.rowCount():
            self._form.removeRow(0)
        self.fields = {fact.field: _field(fact) for fact in facts}
        for fact in facts:
            self._form.addRow(fact.title, self.fields[fact.field].native)

    def _tell(self) -> None:
        """Pass on what was changed."""
        changed = {
            fact.field: read_value(str(self.fields[fact.field].value))
            for fact in self._facts
            if str(self.fields[fact.field].value) != fact.value
        }
        if changed:
            self._controller.models.tell(changed)


def _field(fact: OpenFact) -> ValueWidget:
    """Make the widget of a fact."""
    common = {"name": fact.field, "label": fact.title, "tooltip": fact.reason}
    if fact.choices:
        choices = [(shown(choice), choice) for choice in fact.choices]
        field = ComboBox(choices=choices, value=fact.value, **common)
        narrow(field.native)
    else:
        field = LineEdit(value=fact.value, **common)
    field.native.setAccessibleName(fact.title)
    field.native.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
    return field
