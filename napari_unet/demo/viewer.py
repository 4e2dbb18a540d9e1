"""Opening napari on what the demo wrote."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def can_show() -> bool:
    """Whether there is a display, and a person at the terminal."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def show(folder: Path) -> int:
    """Open napari with the results, until the person closes it.

    Parameters
    ----------
    folder : pathlib.Path
        What `napari_unet.demo.run` wrote.

    Returns
    -------
    int
        Exit code of the viewer's process; this one imports no Qt.
    """
    command = [sys.executable, "-m", "napari_unet.gui.show", str(folder)]
    return subprocess.run(command, check=False).returncode
