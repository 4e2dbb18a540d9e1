"""A form for settings: labels, tooltips, ranges and defaults come from the config.

The fields are magicgui widgets, made from pydantic's description of each field and laid
out in a Qt form that keeps to the width of the dock.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from magicgui.widgets import CheckBox, ComboBox, FloatSpinBox, LineEdit, SpinBox
from qtpy.QtWidgets import QComboBox, QFormLayout, QSizePolicy, QWidget

from napari_unet.errors import UsageError
from napari_unet.gui.look import narrow, still

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from magicgui.widgets.bases import ValueWidget
    from pydantic.fields import FieldInfo

    from napari_unet.config import Config

_LARGEST = 2**31 - 1


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

    Attributes
    ----------
    fields : dict of str to magicgui.widgets.bases.ValueWidget
        The widgets by name.
    """

    def __init__(
        self,
        config: type[Config],
        names: tuple[str, ...],
        words: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self._infos = {name: config.model_fields[name] for name in names}
        self.fields: dict[str, ValueWidget] = {
            name: _field(name, info, words or {}) for name, info in self._infos.items()
        }
        self._layout = QFormLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setFieldGrowthPolicy(
            QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow
        )
        for field in self.fields.values():
            _add_row(self._layout, field)

    def set_shown(self, name: str, shown: bool) -> None:
        """Show or hide a field with its label."""
        self._layout.setRowVisible(self.fields[name].native, shown)

    def set_hint(self, name: str, chosen: str) -> None:
        """Say what is chosen where a field is left open, which reads ``auto`` then."""
        text, native = f"auto: {chosen}" if chosen else "auto", self.fields[name].native
        if isinstance(native, QComboBox):
            native.setItemText(0, text)
        else:
            native.setPlaceholderText(text)

    def connect(self, changed: Callable[[], None]) -> None:
        """Call `changed` when a field changes."""
        for field in self.fields.values():
            field.changed.connect(lambda _: changed())

    def values(self) -> dict[str, Any]:
        """Read the settings.

        Raises
        ------
        UsageError
            If a text is no number.
        """
        return {
            name: _parse(self.fields[name].value, info)
            for name, info in self._infos.items()
        }


def _add_row(layout: QFormLayout, field: ValueWidget) -> None:
    """Add a widget with its label; a check box carries its own."""
    field.native.setAccessibleName(field.label)
    if isinstance(field, CheckBox):
        layout.addRow(field.native)
        return
    field.native.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
    layout.addRow(field.label, field.native)
    layout.labelForField(field.native).setToolTip(field.tooltip)


def _tooltip(info: FieldInfo) -> str:
    """Write the help of a field as a tooltip that wraps."""
    low, high = _bounds(info)
    both = low is not None and high is not None
    limits = f" From {low:g} to {high:g}." if both else ""
    return f"<span>{info.description}{limits}</span>"


def _kind(info: FieldInfo) -> tuple[Any, bool]:
    """Type of a field, and whether it may be left open."""
    inside = get_args(info.annotation)
    if type(None) not in inside:
        return info.annotation, False
    return next(k for k in inside if k is not type(None)), True


def _field(name: str, info: FieldInfo, words: Mapping[str, str]) -> ValueWidget:
    """Make the widget of a field."""
    kind, optional = _kind(info)
    common = {"name": name, "label": info.title, "tooltip": _tooltip(info)}
    if get_origin(kind) is Literal:
        return _choice(get_args(kind), info, optional, words, common)
    if kind is bool:
        return CheckBox(value=info.default, **common)
    if kind in (int, float) and not optional:
        return _number(info, kind, common)
    line = LineEdit(value="" if info.default is None else str(info.default), **common)
    line.native.setPlaceholderText(_word_for_nothing(info) if optional else "")
    return line


def _word_for_nothing(info: FieldInfo) -> str:
    """Say what an empty field means: something is chosen, or there is none."""
    return "auto" if "when not given" in (info.description or "") else "none"


def _choice(
    options: tuple[Any, ...],
    info: FieldInfo,
    optional: bool,
    words: Mapping[str, str],
    common: dict[str, Any],
) -> ComboBox:
    """Make a combo box; a setting that may be left open offers auto."""
    choices = [(words.get(str(option), str(option)), option) for option in options]
    if optional:
        choices.insert(0, ("auto", None))
    combo = ComboBox(choices=choices, value=info.default, **common)
    narrow(combo.native)
    return combo


def _number(info: FieldInfo, kind: type, common: dict[str, Any]) -> ValueWidget:
    """Make a spin box with the limits of the field, whole numbers for large ones."""
    low, high = _bounds(info)
    whole = kind is int or info.default >= 2
    step = 1 if kind is int else 10 if whole else 0.05
    smallest = 1 if whole else 0.01
    lowest = max(low or 0, smallest if _is_open(info, "gt") else 0)
    highest = (high or _LARGEST) - (smallest if _is_open(info, "lt") else 0)
    spin = (SpinBox if kind is int else FloatSpinBox)(
        value=info.default, min=lowest, max=highest, step=step, **common
    )
    if kind is float:
        spin.native.setDecimals(0 if whole else 2)
    still(spin.native)
    return spin


def _parse(value: Any, info: FieldInfo) -> Any:
    """Read what was typed as a number, several numbers, or a text."""
    kind, optional = _kind(info)
    if not isinstance(value, str) or get_origin(kind) is Literal:
        return value
    text = value.strip()
    if optional and text in ("", "auto", "none"):
        return None
    try:
        if get_origin(kind) is tuple:
            return tuple(int(part) for part in re.split(r"[\s,;x×]+", text) if part)
        return kind(text)
    except ValueError:
        expected = "whole numbers" if get_origin(kind) is tuple else "a number"
        raise UsageError(
            f"{info.title} cannot be used", found=repr(text), expected=expected
        ) from None


def _bounds(info: FieldInfo) -> tuple[float | None, float | None]:
    """Lowest and highest value of a field."""
    low = [getattr(m, k) for m in info.metadata for k in ("ge", "gt") if hasattr(m, k)]
    high = [getattr(m, k) for m in info.metadata for k in ("le", "lt") if hasattr(m, k)]
    return (low[0] if low else None), (high[0] if high else None)


def _is_open(info: FieldInfo, side: str) -> bool:
    """Whether a limit, "gt" or "lt", is itself excluded."""
    return any(hasattr(m, side) for m in info.metadata)
