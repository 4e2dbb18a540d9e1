"""Physical sizes, names of units, and provenance as text."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAMES = {
    "Å": "angstrom",
    "nm": "nanometer",
    "µm": "micrometer",
    "mm": "millimeter",
    "cm": "centimeter",
    "m": "meter",
    "in": "inch",
    "ns": "nanosecond",
    "µs": "microsecond",
    "ms": "millisecond",
    "s": "second",
    "min": "minute",
    "h": "hour",
    "d": "day",
}
"""Symbol to the full name that OME-Zarr wants (UDUNITS-2)."""

_SYMBOLS = {name: symbol for symbol, name in _NAMES.items()} | {
    "um": "µm",
    "micron": "µm",
    "microns": "µm",
    "micrometre": "µm",
    "nanometre": "nm",
    "millimetre": "mm",
    "centimetre": "cm",
    "metre": "m",
    "us": "µs",
    "sec": "s",
    "seconds": "s",
    "minutes": "min",
    "hours": "h",
    "hr": "h",
    "days": "d",
    '"': "in",
}
_ESCAPE = re.compile(r"\\u([0-9A-Fa-f]{4})")
_NO_UNITS = {"", "pixel", "pixels", "px", "none", "null", "reference frame"}


@dataclass
class Physical:
    """What a file says about its pixels, filled in while it is read.

    Attributes
    ----------
    scale : dict of str to float
        Physical size of a pixel by axis.
    units : dict of str to str
        Unit of that size by axis.
    channel_names : tuple of str
        Names of the channels, empty if unknown.
    notes : list of str
        What was left out, and why.
    unusable : dict of str to str
        Pixel sizes by axis that are no positive number.
    """

    scale: dict[str, float] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    channel_names: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)
    unusable: dict[str, str] = field(default_factory=dict)

    def set(self, axis: str, size: Any, unit: Any = "") -> None:
        """Keep the size of a pixel along `axis`, or note that it makes no sense.

        Parameters
        ----------
        axis : str
            One letter.
        size : object
            A number or its text; nothing happens for None.
        unit : object
            A unit as found in a file.
        """
        if size is None:
            return
        value = number(size)
        if value is None or value <= 0:
            self.unusable[axis] = str(size)
            return
        self.scale[axis] = value
        if symbol := unit_symbol(str(unit or "")):
            self.units[axis] = symbol

    def only(self, axes: str) -> None:
        """Forget axes that the image does not have, and note what is unusable."""
        self.scale = {a: v for a, v in self.scale.items() if a in axes}
        self.units = {a: v for a, v in self.units.items() if a in axes}
        self.notes += [
            f"The pixel size {size} along {axis} is ignored."
            for axis, size in self.unusable.items()
            if axis in axes
        ]


def number(value: Any) -> float | None:
    """Finite number in `value`, or None."""
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def unit_symbol(text: str) -> str:
    r"""Symbol of a unit, such as ``"µm"`` for micron, um, micrometer.

    Parameters
    ----------
    text : str
        A unit as files spell it, with ImageJ's escaped ``\u00B5m`` too.

    Returns
    -------
    str
        The symbol, empty for pixels and none, and `text` itself if it is not known.
    """
    text = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), text.strip("\0 "))
    text = text.replace("\u03bc", "\u00b5")  # Greek mu to micro sign
    if text.lower() in _NO_UNITS:
        return ""
    if text in _NAMES:
        return text
    return _SYMBOLS.get(text.lower()) or _SYMBOLS.get(text.lower().rstrip("s"), text)


def unit_name(symbol: str) -> str:
    """Full name of a unit, such as ``"micrometer"``; the symbol if it is not known."""
    return _NAMES.get(symbol, symbol)


def provenance_text(provenance: Mapping[str, Any]) -> dict[str, str]:
    """Provenance as one line of text for each key, as an OME map annotation holds it.

    Parameters
    ----------
    provenance : mapping
        JSON-able record.

    Returns
    -------
    dict of str to str
        Strings as they are, everything else as JSON.
    """
    return {
        str(key): value if isinstance(value, str) else json.dumps(value, default=str)
        for key, value in provenance.items()
    }
