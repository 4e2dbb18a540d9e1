"""A form for settings: labels, tooltips, ranges and defaults come from the config."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QLineEdit,
    QSizePolicy,
    QWidget,
)

from napari_unet.errors import UsageError
from napari_unet.gui.look import narrow_combo, still

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydantic.fields import FieldInfo

    from napari_unet.config import Config

    Read = Callable[[], Any]


class Form(QWidget):  # type: ignore[misc]
    """Widgets for some fields of a config.

    Parameters
    ----------
    config : type of Config
        Whose fields are shown; the only source of defaults.
    names : sequence of str
        The fields, in order.
    words : mapping of str to str, optional
        Texts for the choices of a field, where the choice itself is no good one.
    """

    def __init__(
        self,
        config: type[Config],
        names: tuple[str, ...],
        words: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.fields: dict[str, QWidget] = {}
        self._read: dict[str, Read] = {}
        layout = self._layout = QFormLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for name in names:
            info = config.model_fields[name]
            widget, read = _editor(info, words or {})
            widget.setToolTip(_tooltip(info))
            widget.setAccessibleName(info.title or name)
            self.fields[name], self._read[name] = widget, read
            _add_row(layout, info.title or name, widget)

    def set_shown(self, name: str, shown: bool) -> None:
        """Show or hide a field with its label."""
        self._layout.setRowVisible(self.fields[name], shown)

    def values(self) -> dict[str, Any]:
        """Read the settings.

        Raises
        ------
        UsageError
            If a text is no number.
        """
        return {name: read() for name, read in self._read.items()}


def _add_row(layout: QFormLayout, title: str, widget: QWidget) -> None:
    """Add a widget with its label; a check box carries its own."""
    if isinstance(widget, QCheckBox):
        widget.setText(title)
        layout.addRow(widget)
        return
    widget.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
    layout.addRow(title, widget)
    layout.labelForField(widget).setToolTip(widget.toolTip())


def _tooltip(info: FieldInfo) -> str:
    """Write the help of a field as a tooltip that wraps."""
    low, high = _bounds(info)
    both = low is not None and high is not None
    limits = f" From {low:g} to {high:g}." if both else ""
    return f"<span>{info.description}{limits}</span>"


def _editor(info: FieldInfo, words: Mapping[str, str]) -> tuple[QWidget, Read]:
    """Make the widget for a field, and the function that reads it."""
    kinds = [k for k in get_args(info.annotation) if k is not type(None)]
    optional = type(None) in get_args(info.annotation)
    kind = kinds[0] if optional else info.annotation
    if get_origin(kind) is Literal:
        return _choice(get_args(kind), info.default, optional, words)
    if kind is bool:
        return _check(bool(info.default))
    if kind is float and not optional:
        return _number(info)
    return _text(info, kind, optional)


def _choice(
    options: tuple[Any, ...], default: Any, optional: bool, words: Mapping[str, str]
) -> tuple[QWidget, Read]:
    """Make a combo box; a setting that may be left open offers auto."""
    combo: QComboBox = narrow_combo("")
    if optional:
        combo.addItem("auto", None)
    for option in options:
        combo.addItem(words.get(str(option), str(option)), option)
    combo.setCurrentIndex(combo.findData(default))
    return combo, combo.currentData


def _check(default: bool) -> tuple[QWidget, Read]:
    """Make a check box."""
    box = QCheckBox()
    box.setChecked(default)
    return box, box.isChecked


def _number(info: FieldInfo) -> tuple[QWidget, Read]:
    """Make a spin box with the limits of the field."""
    low, high = _bounds(info)
    spin = QDoubleSpinBox()
    still(spin)
    spin.setDecimals(0 if info.default >= 2 else 2)
    smallest = 10.0 ** -spin.decimals()
    spin.setRange(max(low or 0.0, smallest if _open_below(info) else 0.0), high or 1e9)
    if _open_above(info):
        spin.setMaximum(spin.maximum() - smallest)
    spin.setSingleStep(10 if info.default >= 2 else 0.05)
    spin.setValue(info.default)
    return spin, spin.value


def _text(info: FieldInfo, kind: Any, optional: bool) -> tuple[QWidget, Read]:
    """Make a line of text; empty means auto where the setting may be left open."""
    line = QLineEdit("" if info.default is None else str(info.default))
    line.setPlaceholderText("auto" if optional else "")

    def read() -> Any:
        text = line.text().strip()
        if optional and text in ("", "auto"):
            return None
        return _parse(text, kind, info.title or "")

    return line, read


def _parse(text: str, kind: Any, title: str) -> Any:
    """Read a number, several numbers, or a text."""
    if kind is str:
        return text
    try:
        if get_origin(kind) is tuple:
            return tuple(int(part) for part in re.split(r"[\s,;x×]+", text) if part)
        return kind(text)
    except ValueError:
        expected = "whole numbers" if get_origin(kind) is tuple else "a number"
        raise UsageError(
            f"{title} cannot be used", found=repr(text), expected=expected
        ) from None


def _bounds(info: FieldInfo) -> tuple[float | None, float | None]:
    """Lowest and highest value of a field."""
    low = [getattr(m, k) for m in info.metadata for k in ("ge", "gt") if hasattr(m, k)]
    high = [getattr(m, k) for m in info.metadata for k in ("le", "lt") if hasattr(m, k)]
    return (low[0] if low else None), (high[0] if high else None)


def _open_below(info: FieldInfo) -> bool:
    """Whether the lowest value itself is excluded."""
    return any(hasattr(m, "gt") for m in info.metadata)


def _open_above(info: FieldInfo) -> bool:
    """Whether the highest value itself is excluded."""
    return any(hasattr(m, "lt") for m in info.metadata)
