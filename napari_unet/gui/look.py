"""Colours of the dock, taken from napari's theme, and a few plain widgets."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import (
    QComboBox,
    QFrame,
    QLabel,
    QLayout,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QStyle,
    QStyleOptionComboBox,
    QStylePainter,
    QTabWidget,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_unet.gui.buttons import Button

_INSET = 6  # pixels that styles leave free beside the text of a combo box

_STYLE = """
QPushButton[primary="true"] {{
    background-color: {blue}; color: {on_blue}; font-weight: bold; padding: 7px;
}}
QPushButton[primary="true"]:hover {{ background-color: {hover}; }}
QPushButton[primary="true"]:disabled {{
    background-color: {raised}; color: {faint}; font-weight: normal;
}}
QPushButton:disabled {{ color: {faint}; }}
QLabel[faint="true"] {{ color: {faint}; }}
QLabel[tone="bad"] {{ color: {bad}; }}
QLabel[tone="good"] {{ color: {good}; }}
QLabel[title="true"] {{ font-weight: bold; }}
QToolButton[fold="true"] {{ border: none; background: transparent; padding: 2px; }}
QToolButton[classrow="true"] {{
    border: 2px solid transparent; border-radius: 4px; padding: 4px; text-align: left;
    background: transparent;
}}
QToolButton[classrow="true"]:hover {{ background: {raised}; }}
QToolButton[classrow="true"]:checked {{ border-color: {text}; background: {raised}; }}
QProgressBar {{
    background: {raised}; selection-background-color: {blue};
}}
QFrame[drop="true"] {{ border: 2px dashed {line}; border-radius: 6px; }}
QFrame[card="true"] {{ background: {raised}; border-radius: 6px; }}
"""
_DARK = {
    "blue": "#2f6fde",
    "on_blue": "#ffffff",
    "hover": "#4680ea",
    "faint": "#a3a9b3",
    "bad": "#ff8a80",
    "good": "#7fd18b",
}
_LIGHT = {
    "blue": "#1a5fd0",
    "on_blue": "#ffffff",
    "hover": "#0f4cae",
    "faint": "#5c5a58",
    "bad": "#b00020",
    "good": "#1b6b2c",
}


def style(theme: Any) -> str:
    """Style sheet of the dock for a napari theme."""
    return _STYLE.format(**colours(theme))


def colours(theme: Any) -> dict[str, str]:
    """Colours for a napari theme, readable on its background."""
    light = sum(theme.background.as_rgb_tuple()[:3]) > 3 * 128
    return {
        **(_LIGHT if light else _DARK),
        "raised": theme.foreground.as_hex(),
        "line": theme.highlight.as_hex(),
        "text": theme.text.as_hex(),
    }


def mark(widget: QWidget, **properties: Any) -> QWidget:
    """Set properties that the style sheet looks at, and look again."""
    for name, value in properties.items():
        if widget.property(name) != value:
            widget.setProperty(name, value)
            widget.style().unpolish(widget)
            widget.style().polish(widget)
    return widget


def text_label(text: str = "", **properties: Any) -> QLabel:
    """Make a label that wraps and never widens the dock."""
    label = QLabel(text)
    label.setWordWrap(True)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    label.setMinimumWidth(40)
    label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
    mark(label, **properties)
    return label


def push_button(
    text: str, clicked: Callable[[], None], *, primary: bool = False
) -> QPushButton:
    """Make a button."""
    button = QPushButton(text)
    button.clicked.connect(lambda: clicked())
    if primary:
        mark(button, primary="true")
    return button


def show_button(widget: QPushButton, button: Button) -> None:
    """Bring a button up to date."""
    widget.setText(button.text)
    widget.setEnabled(button.enabled)
    widget.setToolTip(button.tip)


def narrow(combo: QComboBox) -> None:
    """Keep a combo box from widening the dock and from a passing wheel.

    Long names lose their middle, as their ends tell most.
    """
    combo.setMinimumContentsLength(8)
    combo.setSizeAdjustPolicy(
        QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
    )
    combo.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
    still(combo)
    combo.installEventFilter(_Elided(combo))


class _Elided(QObject):  # type: ignore[misc]
    """Paints a combo box with its text shortened in the middle, which Qt cuts off."""

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Paint the box in place of Qt; lines to type in and hints are left to it."""
        if event.type() != QEvent.Type.Paint or watched.isEditable():
            return False
        if watched.currentIndex() < 0:
            return False
        option = QStyleOptionComboBox()
        watched.initStyleOption(option)
        room = watched.style().subControlRect(
            QStyle.ComplexControl.CC_ComboBox,
            option,
            QStyle.SubControl.SC_ComboBoxEditField,
            watched,
        )
        option.currentText = watched.fontMetrics().elidedText(
            option.currentText, Qt.TextElideMode.ElideMiddle, room.width() - _INSET
        )
        painter = QStylePainter(watched)
        painter.drawComplexControl(QStyle.ComplexControl.CC_ComboBox, option)
        painter.drawControl(QStyle.ControlElement.CE_ComboBoxLabel, option)
        painter.end()
        return True


def narrow_combo(name: str) -> QComboBox:
    """Make a combo box that never widens the dock."""
    combo = QComboBox()
    combo.setAccessibleName(name)
    narrow(combo)
    return combo


class _Still(QObject):  # type: ignore[misc]
    """Keeps the wheel from a widget that was not clicked."""

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Pass a wheel turn on to the page."""
        if event.type() == QEvent.Type.Wheel and not watched.hasFocus():
            event.ignore()
            return True
        return False


def still(widget: QWidget) -> None:
    """Let a widget react to the wheel only after it was clicked."""
    widget.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    widget.installEventFilter(_Still(widget))


def show_items(combo: QComboBox, items: Sequence[str], chosen: str) -> None:
    """Fill a combo box without telling its listeners."""
    blocked = combo.blockSignals(True)
    if [combo.itemText(i) for i in range(combo.count())] != list(items):
        combo.clear()
        combo.addItems(list(items))
    combo.setCurrentIndex(combo.findText(chosen))
    combo.setToolTip(chosen)
    combo.blockSignals(blocked)


def in_reading_order(item: QLayout | QWidget | None) -> list[QWidget]:
    """List the widgets that the tab key may reach, as they are laid out."""
    if isinstance(item, QLayout):
        inner = [item.itemAt(n) for n in range(item.count())]
        return [w for i in inner for w in in_reading_order(i.widget() or i.layout())]
    if isinstance(item, QScrollArea):
        return in_reading_order(item.widget())
    if isinstance(item, QTabWidget):
        pages = [item.widget(n) for n in range(item.count())]
        return [item.tabBar(), *(w for page in pages for w in in_reading_order(page))]
    if item is None:
        return []
    reached = bool(item.focusPolicy() & Qt.FocusPolicy.TabFocus)
    return ([item] if reached else []) + in_reading_order(item.layout())


def tab_in_reading_order(widget: QWidget) -> None:
    """Let the tab key go through a widget from top to bottom."""
    for before, after in itertools.pairwise(in_reading_order(widget)):
        QWidget.setTabOrder(before, after)


def page() -> tuple[QScrollArea, QVBoxLayout]:
    """Make a page that scrolls up and down only; returns it and its layout."""
    inner = QWidget()
    layout = QVBoxLayout(inner)
    layout.setContentsMargins(6, 8, 6, 6)
    layout.setSpacing(8)
    area = QScrollArea()
    area.setWidgetResizable(True)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setWidget(inner)
    return area, layout


class Folded(QWidget):  # type: ignore[misc]
    """A title with an arrow that shows or hides what is below it."""

    def __init__(self, title: str, content: QWidget) -> None:
        super().__init__()
        self._header = QToolButton()
        self._header.setText(title)
        self._header.setCheckable(True)
        self._header.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self._header.setArrowType(Qt.ArrowType.RightArrow)
        mark(self._header, fold="true")
        self._content = content
        content.hide()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._header)
        layout.addWidget(content)
        self._header.toggled.connect(self.set_open)

    @property
    def title(self) -> str:
        """The title."""
        return str(self._header.text())

    def set_title(self, title: str) -> None:
        """Change the title."""
        self._header.setText(title)

    def set_open(self, is_open: bool) -> None:
        """Show or hide the content."""
        self._header.setChecked(is_open)
        arrow = Qt.ArrowType.DownArrow if is_open else Qt.ArrowType.RightArrow
        self._header.setArrowType(arrow)
        self._content.setVisible(is_open)
