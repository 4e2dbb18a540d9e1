"""Layers as Caffe describes them: fields by name, defaults where there are none.

The names and defaults are those of caffe.proto in the U-Net plugin for Fiji.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_unet.checkpoints.formats.refusal import Refused

if TYPE_CHECKING:
    from napari_unet.checkpoints.prototxt import Message

_MOST = 65536


@dataclass(frozen=True)
class Layer:
    """One layer of a network description.

    Attributes
    ----------
    name, kind : str
        Such as ``"conv_d0a-b"`` and ``"Convolution"``.
    bottoms, tops : tuple of str
        Names of what it reads and what it makes.
    fields : dict
        All of its fields.
    """

    name: str
    kind: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    fields: Message

    @classmethod
    def of(cls, fields: Message) -> Layer:
        """Read a message ``layer``."""
        return cls(
            name=str(last(fields, "name", "")),
            kind=str(last(fields, "type", "")),
            bottoms=tuple(map(str, fields.get("bottom", ()))),
            tops=tuple(map(str, fields.get("top", ()))),
            fields=fields,
        )

    def settings(self, name: str) -> Message:
        """Return a message inside, empty if there is none."""
        found = last(self.fields, name, {})
        return found if isinstance(found, dict) else {}

    @property
    def in_test(self) -> bool:
        """Whether it works when the network is applied, not only in training."""
        rules = [r for r in self.fields.get("include", ()) if isinstance(r, dict)]
        barred = [r for r in self.fields.get("exclude", ()) if isinstance(r, dict)]
        is_included = not rules or any(map(_holds, rules))
        return is_included and not any(map(_holds, barred))


def last(fields: Message, name: str, default: Any) -> Any:
    """Return the value of a field that may be given once; the last one counts."""
    values = fields.get(name) or [default]
    return values[-1]


def _holds(rule: Message) -> bool:
    """Whether a rule is met in phase TEST at level 0 without any stage."""
    is_test = last(rule, "phase", "TEST") in ("TEST", 1)
    levels = last(rule, "min_level", 0) <= 0 <= last(rule, "max_level", 0)
    return bool(is_test and levels and not rule.get("stage"))


def axes(
    param: Message, name: str, ndim: int, default: int | None = None, least: int = 1
) -> tuple[int, ...]:
    """Return one number for each axis, given once for all or for each.

    In 2-D they may come as ``kernel_h`` and ``kernel_w``.

    Parameters
    ----------
    param : dict
        The message that has them.
    name : str
        Such as ``"kernel_size"``.
    ndim : int
        Number of spatial axes.
    default : int, optional
        What counts where nothing is given; something must be given without it.
    least : int
        The smallest number allowed.

    Raises
    ------
    Refused
        If there is another number of them, or they are no whole numbers of sane size.
    """
    short = name.removesuffix("_size")
    sides = [last(param, f"{short}_{side}", None) for side in "hw"]
    values = param.get(name) or [default]
    if ndim == 2 and sides != [None, None]:
        values = [default if side is None else side for side in sides]
    if len(values) not in (1, ndim):
        raise Refused(f"{len(values)} numbers {name} for {ndim} axes")
    found = tuple(_whole(value, name, least) for value in values)
    return found if len(found) == ndim else found * ndim


def whole(param: Message, name: str, default: int | None = None) -> int:
    """Return a whole number above 0.

    Raises
    ------
    Refused
        If it is none of sane size.
    """
    return _whole(last(param, name, default), name, 1)


def _whole(value: Any, name: str, least: int) -> int:
    if type(value) is not int or not least <= value <= _MOST:
        raise Refused(f"{name} {value}")
    return value
