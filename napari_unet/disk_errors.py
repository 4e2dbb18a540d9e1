"""What went wrong with writing, in one sentence."""

from __future__ import annotations

import contextlib
import errno
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet.errors import OutputError, UNetError

if TYPE_CHECKING:
    from collections.abc import Iterator

_HARDLY_ANY = 1 << 20


@contextlib.contextmanager
def telling_write_errors(path: Path | str, needed: int = 0) -> Iterator[None]:
    """Turn the operating system's write errors into one clear sentence.

    Libraries wrap a full disk in errors of their own, so after any error but ours the
    free space is looked at too.

    Parameters
    ----------
    path : path-like
        What is written.
    needed : int
        Bytes it takes at most, 0 where unknown.

    Raises
    ------
    OutputError
        In the place of an `OSError`.
    """
    path = Path(path)
    try:
        yield
    except UNetError:
        raise
    except OSError as error:
        raise OutputError(
            f"{path.name} could not be written", found=_reason(error, path, needed)
        ) from error
    except Exception as error:
        if not _is_full(path):
            raise
        raise OutputError(
            f"{path.name} could not be written",
            found=f"no space left on the disk ({_space(path, needed)})",
        ) from error


def _reason(error: OSError, path: Path, needed: int) -> str:
    """Say why writing failed."""
    if error.errno == errno.ENOSPC:
        return f"no space left on the disk ({_space(path, needed)})"
    if error.errno == errno.EDQUOT:
        return f"your share of the disk is used up ({_space(path, needed)})"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"no permission to write in {path.parent}"
    if error.errno == errno.ENOENT and not path.parent.is_dir():
        return f"the folder {path.parent} is gone"
    return error.strerror or str(error)


def _space(path: Path, needed: int) -> str:
    """Say how much of the disk is left, and how much it takes where that is known."""
    try:
        left = f"{_megabytes(shutil.disk_usage(path.parent).free)} free"
    except OSError:
        left = "free space unknown"
    return left + (f", up to {_megabytes(needed)} needed" if needed else "")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB" if size >= 1e7 or not size else f"{size / 1e6:.2g} MB"


def _is_full(path: Path) -> bool:
    """Whether hardly anything can be written any more."""
    try:
        return shutil.disk_usage(path.parent).free < _HARDLY_ANY
    except OSError:
        return False
