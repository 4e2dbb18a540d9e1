"""A small table that says how single files are to be read."""

from __future__ import annotations

import csv
import fnmatch
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet.errors import UsageError

if TYPE_CHECKING:
    from napari_unet.batch.inputs import Input

_COLUMNS = ("file", "axes", "channels", "series")
_MOST_BYTES = 16 << 20


class Overrides:
    """Axes, channels and series by file.

    Parameters
    ----------
    path : path-like
        CSV in UTF-8 with a head line. ``file`` is a name, the end of a path, or a
        pattern such as ``plate1/*.tif``; ``axes`` such as ZYX, ``channels`` such as
        ``0 2``, and ``series`` may each be there, and be left empty. The first line
        that fits a file counts.

    Raises
    ------
    UsageError
        If it cannot be read or has other columns.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._rows = [_checked(row, self._path) for row in _rows(self._path)]
        self._used: set[int] = set()

    def applied(self, image: Input) -> Input:
        """Return an image as the table wants it."""
        for number, row in enumerate(self._rows):
            if _fits(image.path, row["file"]):
                self._used.add(number)
                return replace(
                    image,
                    axes=row["axes"] or None,
                    series=row["series"] or None,
                    channels=tuple(map(int, row["channels"].split())) or None,
                )
        return image

    def unused(self) -> list[str]:
        """Say which lines fit no file."""
        names = [r["file"] for n, r in enumerate(self._rows) if n not in self._used]
        if not names:
            return []
        return [f"{self._path.name}: no file fits {', '.join(names[:5])}."]


def _rows(path: Path) -> list[dict[str, str]]:
    """Read the table."""
    try:
        if not path.is_file():  # a pipe would block
            raise ValueError("no file" if path.exists() else "nothing of that name")
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError("a file too large for a table")
        text = path.read_text(encoding="utf-8-sig")
        rows = list(csv.DictReader(text.splitlines(), strict=True))
    except (OSError, ValueError, csv.Error) as error:
        raise _wrong(path, str(error)) from error
    columns = set(rows[0]) if rows else set()
    if "file" not in columns or not columns <= set(_COLUMNS):
        names = ", ".join(str(name) for name in columns) or "no line"
        raise _wrong(path, f"the columns {names}" if columns else names)
    return rows


def _checked(row: dict[str, str], path: Path) -> dict[str, str]:
    """Fill the gaps of a line, and refuse what makes no sense."""
    values = {name: (row.get(name) or "").strip() for name in _COLUMNS}
    if not values["file"]:
        raise _wrong(path, "a line without a file")
    if not all(part.isdecimal() for part in values["channels"].split()):
        raise _wrong(path, f"the channels {values['channels']!r}")
    return values


def _fits(path: Path, pattern: str) -> bool:
    """Whether the end of a path fits a pattern."""
    parts = pattern.replace("\\", "/").strip("/").split("/")
    ends = path.absolute().parts[-len(parts) :]
    pairs = zip(ends, parts, strict=False)
    return len(ends) == len(parts) and all(fnmatch.fnmatchcase(a, b) for a, b in pairs)


def _wrong(path: Path, found: str) -> UsageError:
    return UsageError(
        f"The table {path.name} cannot be used",
        found=found,
        expected="CSV with the columns file and some of axes, channels, series",
    )
