"""A folder as it is at one moment, though somebody writes into it meanwhile."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path


def snapshot(folder: Path, copy: Path, *, without: tuple[str, ...] = ()) -> None:
    """Copy what a kill could leave: files that come and go meanwhile are left out.

    Journals go first. They are written after what they tell of, so a copy of
    the rest that is younger holds all that they tell of, as on a disk.
    """
    for path in sorted(_files(folder, without), key=_is_no_journal):
        there = copy / path.relative_to(folder)
        there.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            shutil.copy2(path, there)


def _files(folder: Path, without: tuple[str, ...]) -> list[Path]:
    found = []
    for base, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in without]
        found += [Path(base, name) for name in files]
    return found


def _is_no_journal(path: Path) -> bool:
    return path.suffix not in (".journal", ".jsonl")
