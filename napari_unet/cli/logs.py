"""Where library messages and unexpected errors go: a file, not the terminal."""

from __future__ import annotations

import contextlib
import logging
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

if TYPE_CHECKING:
    from collections.abc import Iterator

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


@contextlib.contextmanager
def logging_to_file() -> Iterator[str]:
    """Send log records and Python warnings to the log file.

    Yields
    ------
    str
        Path of the log, empty where none can be written.
    """
    handler, path = _handler()
    root = logging.getLogger()
    root.addHandler(handler)
    logging.captureWarnings(True)
    try:
        yield path
    finally:
        logging.captureWarnings(False)
        root.removeHandler(handler)
        handler.close()


def _handler() -> tuple[logging.Handler, str]:
    """Open the log, or nothing where the folder cannot be written."""
    try:
        folder = Path(platformdirs.user_log_dir("napari-unet", appauthor=False))
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "napari-unet.log"
        handler = RotatingFileHandler(
            path,
            maxBytes=1_000_000,
            backupCount=1,
            encoding="utf-8",
            errors="backslashreplace",
        )
    except OSError:
        return logging.NullHandler(), ""
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter(_FORMAT))
    return handler, str(path)
