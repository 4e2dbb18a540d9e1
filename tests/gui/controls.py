"""All controls of a page, found in the tree of its widgets."""

from __future__ import annotations

from importlib import import_module

from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QLineEdit,
    QScrollBar,
    QWidget,
)

from napari_unet.gui.form import Form
from napari_unet.gui.look import Folded

_KINDS = (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QLineEdit,
)


def controls(page: QWidget) -> set[str]:
    """Names of all that a person can press or change, as a screen reader says them.

    Fields of forms are left out, since `test_gui_controls` goes through each of them,
    and so are arrows that only unfold something.
    """
    return {_name(w) for w in page.findChildren(QWidget) if _is_control(w, page)}


def untested(table: dict[str, str]) -> set[str]:
    """Tests of a table, as module.test, that do not exist."""
    missing = set()
    for test in table.values():
        module, _, name = test.partition(".")
        if not hasattr(import_module(module), name):
            missing.add(test)
    return missing


def _is_control(widget: QWidget, page: QWidget) -> bool:
    """Whether a widget is a control, and not a part of one."""
    if not isinstance(widget, _KINDS) or isinstance(widget, QScrollBar):
        return False
    around, parent = [], widget.parent()
    while parent is not None and parent is not page:
        around.append(parent)
        parent = parent.parent()
    is_arrow = bool(around) and isinstance(around[0], Folded)
    return not is_arrow and not any(isinstance(w, (*_KINDS, Form)) for w in around)


def _name(widget: QWidget) -> str:
    """What a control is called."""
    text = widget.text() if isinstance(widget, QAbstractButton) else ""
    return widget.accessibleName() or text or type(widget).__name__
