"""What every image must pass, whatever file it came from."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from napari_unet.errors import ImageError, UNetError, UnreadableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

LARGEST_RATIO = 10_000
"""Declared over stored bytes beyond which a header is taken for damaged; the figure of
OpenImageIO (AcademySoftwareFoundation/OpenImageIO#5319)."""
LARGEST_IMAGE = 1 << 50
_UNSUSPICIOUS = 1 << 24
_PASSING = {
    getattr(errno, name, errno.EIO)
    for name in (
        "EIO", "EREMOTEIO", "ESTALE", "EAGAIN", "EBUSY", "ENOLCK", "ETIMEDOUT",
        "ENOTCONN", "ECONNRESET", "ECONNABORTED", "EHOSTDOWN", "EHOSTUNREACH",
        "ENETDOWN", "ENETUNREACH",
    )
}  # fmt: skip
"""What a network share or a disk says that may do better at the next try."""


@contextlib.contextmanager
def telling_read_errors(name: str) -> Iterator[None]:
    """Turn whatever a decoder raises into an `ImageError` about `name`.

    It is an `UnreadableError` where another try may succeed.
    """
    try:
        yield
    except UNetError:
        raise
    except MemoryError as error:
        raise ImageError(
            f"{name} could not be read", found="not enough memory for this part of it"
        ) from error
    except OSError as error:
        kind = UnreadableError if error.errno in _PASSING else ImageError
        raise kind(f"{name} could not be read", found=_words(error)) from error
    except ImportError as error:  # of one of the codecs
        raise ImageError(
            f"{name} could not be read",
            found=_words(error),
            hint="Install what it lacks, or save the image without compression.",
        ) from error
    except Exception as error:
        raise ImageError(
            f"{name} could not be read",
            found=f"{type(error).__name__}: {_words(error)}",
            hint="The file is damaged or of a kind that cannot be decoded.",
        ) from error


def check_regular(path: Path) -> None:
    """Refuse what is no ordinary file, before opening it could block.

    Raises
    ------
    ImageError
        If `path` is absent, a folder, a pipe, a device or a loop of links.
    """
    with telling_read_errors(path.name):
        mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe, socket or device"
        raise ImageError(f"{path.name} is no image file", found=kind)


def check_dtype(dtype: np.dtype[Any], name: str) -> None:
    """Refuse pixels that are no real numbers.

    Raises
    ------
    ImageError
        For complex, structured, object and text arrays, and for floats of over 64 bits.
    """
    if dtype.kind in "bui" or (dtype.kind == "f" and dtype.itemsize <= 8):
        return
    raise ImageError(
        f"{name} has pixels that are no real numbers",
        found=f"dtype {dtype}",
        expected="bool, integers, or floats of 16 to 64 bits",
        hint="Convert the image first, such as to its magnitude.",
    )


def check_shape(shape: Sequence[int], axes: str, name: str) -> None:
    """Refuse images without pixels.

    Raises
    ------
    ImageError
        Naming the empty axis.
    """
    for axis, size in zip(axes, shape, strict=True):
        if size < 1:
            raise ImageError(f"{name} has an empty axis {axis}", found=describe(shape))


def check_plausible(declared: int, stored: int, name: str) -> None:
    """Refuse headers that promise far more pixels than the file can hold.

    Parameters
    ----------
    declared : int
        Bytes of the decoded image.
    stored : int
        Bytes of the file or files.
    name : str
        For the message.

    Raises
    ------
    ImageError
        If the ratio is over 10,000, or the image over 1 PiB.
    """
    much = declared > _UNSUSPICIOUS and declared > LARGEST_RATIO * max(stored, 1)
    if much or declared > LARGEST_IMAGE:
        raise ImageError(
            f"{name} declares more pixels than it can hold",
            found=f"{declared:,} bytes of pixels in a file of {stored:,} bytes",
            hint="Its header is damaged.",
        )


def check_memory(needed: int, what: str) -> None:
    """Refuse to decode a piece that takes over half of the free memory.

    Raises
    ------
    ImageError
        With both figures.
    """
    if needed < _UNSUSPICIOUS:
        return
    free = psutil.virtual_memory().available
    if needed > free // 2:
        raise ImageError(
            f"{what} does not fit in memory",
            found=f"{needed / 1e9:.1f} GB, with {free / 1e9:.1f} GB free",
            hint="Save the image with smaller tiles or strips.",
        )


def ask_for_axes(name: str, shape: Sequence[int], found: str = "") -> ImageError:
    """Error for an image that does not name its axes."""
    return ImageError(
        f"{name} does not say what its axes are",
        found=f"shape {describe(shape)}" + (f", {found}" if found else ""),
        hint="Name them in order, such as --axes ZYX or TCYX "
        "(T time, Z depth, C channel).",
    )


def not_finite(name: str, found: str) -> ImageError:
    """Error for pixels that are NaN or infinite."""
    return ImageError(
        f"{name} has NaN or infinite pixels",
        found=found,
        hint="Repair them, or have them taken as 0 (--nan zero).",
    )


def describe(shape: Sequence[int]) -> str:
    """Shape in words: ``"5 x 64 x 64"``."""
    return " x ".join(str(n) for n in shape)


def lossy_note(dtype: np.dtype[Any]) -> tuple[str, ...]:
    """Note on types that single precision does not hold exactly."""
    if dtype.itemsize < 4 or dtype == np.float32:
        return ()
    return (f"{dtype.name} pixels are computed in single precision.",)


def _words(error: BaseException) -> str:
    """First line of an error, short."""
    if isinstance(error, OSError) and error.errno is not None:
        if error.errno == errno.ENOENT:
            return "no such file or folder"
        return os.strerror(error.errno)
    lines = str(error).splitlines()
    return lines[0][:200] if lines else type(error).__name__
