"""Where an image lies, as it is told to another process; imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class ImageSource:
    """Where an image lies and how it is to be taken, to be sent to another process.

    Attributes
    ----------
    path : str
        File or folder.
    axes, series
        As in `open_image`.
    scale, units : mapping
        Pixel sizes that replace those of the file, empty for the file's own.
    name : str
        Short name, empty for the file's own.
    channel_names : tuple of str
        Names along C, empty for the file's own.
    """

    path: str
    axes: str | None = None
    series: str | int | None = None
    scale: Mapping[str, float] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    channel_names: tuple[str, ...] = ()
