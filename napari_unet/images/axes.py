"""Axes by name: a string such as ``"TZCYX"``, one capital letter an axis.

T time, Z depth, C channel, Y row, X column; S are the samples of a colour pixel, which
are read as C. Other letters (positions, phases ...) are looped over like T.
"""

from __future__ import annotations

from napari_unet.errors import UsageError

SPATIAL = "ZYX"


def parse(axes: str, ndim: int) -> str:
    """Check axes given by a person.

    Parameters
    ----------
    axes : str
        Letters in the order of the array's dimensions, such as ``"zyx"``.
    ndim : int
        Number of dimensions of the array.

    Returns
    -------
    str
        The axes in capitals.

    Raises
    ------
    UsageError
        If a letter is no letter, occurs twice, or Y or X is missing, or the number of
        letters is not `ndim`.
    """
    axes = axes.strip().upper()
    hint = "Name every dimension once and in order, such as ZYX or TCYX."
    if not axes.isalpha() or not axes.isascii() or len(set(axes)) != len(axes):
        raise UsageError("The axes cannot be used", found=repr(axes), hint=hint)
    if len(axes) != ndim:
        raise UsageError(
            "The axes do not fit the image",
            found=f"{len(axes)} letters ({axes})",
            expected=f"{ndim}, as many as the image has dimensions",
            hint=hint,
        )
    if "Y" not in axes or "X" not in axes:
        raise UsageError("The axes need Y and X", found=axes, hint=hint)
    return axes


def spatial(ndim: int) -> str:
    """Spatial axes of a network with `ndim` dimensions: ``"YX"`` or ``"ZYX"``."""
    return SPATIAL[-ndim:]


def frames(axes: str, ndim: int) -> str:
    """Axes looped over outside a network with `ndim` dimensions, in their order."""
    return "".join(a for a in axes if a not in spatial(ndim) and a != "C")
