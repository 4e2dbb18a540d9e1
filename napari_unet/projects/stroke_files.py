"""Files of strokes: .npy files that are mapped into memory, whole or with holes.

Painting writes to the mapping, so what is painted belongs to the system's own buffers
at once and survives the end of the program; `flush` brings it to the disk. Files of
some size have holes, which take no disk until they are painted.
"""

from __future__ import annotations

import contextlib
import errno
import io
import math
import os
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet import disk, files
from napari_unet.errors import ProjectError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_RESERVED = 64 << 20
_SPARE = 256 << 20
_SLAB = 8 << 20
_HEADER = 4096


def create(path: Path, shape: Sequence[int], dtype: str) -> None:
    """Make a file in which nothing is painted.

    Up to 64 MB the disk space is taken at once; larger files have holes where the file
    system can.

    Parameters
    ----------
    path : pathlib.Path
        A new ``.npy`` file.
    shape : sequence of int
        Of the strokes.
    dtype : str
        Such as ``"uint8"``.

    Raises
    ------
    OutputError
        If there is no space, or it is there already.
    """
    head = _header(tuple(shape), np.dtype(dtype).newbyteorder("<"))
    size = len(head) + math.prod(shape) * np.dtype(dtype).itemsize
    with files.commit(path, overwrite=False) as part:
        with files.writing(part) as file:
            file.write(head)
        if size <= _RESERVED:
            disk.reserve(part, size)
        else:
            disk.lengthen(part, size)


def opened(
    path: Path, shape: Sequence[int], dtype: str, *, writable: bool = True
) -> np.memmap[Any, Any]:
    """Map a file of strokes.

    Parameters
    ----------
    path : pathlib.Path
        A ``.npy`` file.
    shape, dtype
        What it has to be.
    writable : bool
        Whether writing to the array changes the file.

    Returns
    -------
    numpy.memmap

    Raises
    ------
    ProjectError
        If it is absent, is something else, or is cut short.
    """
    wanted = np.dtype(dtype).newbyteorder("<")
    try:
        found, kind, offset = _read_header(path)
    except (OSError, ValueError, SyntaxError) as error:
        raise ProjectError(
            f"The strokes {path.name} cannot be read", found=str(error)[:100]
        ) from None
    if found != tuple(shape) or kind != wanted:
        raise ProjectError(
            f"The strokes {path.name} do not belong to their image",
            found=f"{kind} {found}",
            expected=f"{wanted} {tuple(shape)}",
        )
    size = offset + math.prod(shape) * wanted.itemsize
    if path.stat().st_size != size:
        raise ProjectError(
            f"The strokes {path.name} are damaged",
            found=f"{path.stat().st_size} bytes",
            expected=str(size),
            hint="Copy the project again.",
        )
    try:
        return np.memmap(path, wanted, "r+" if writable else "r", offset, tuple(shape))
    except OSError as error:
        raise ProjectError(
            f"The strokes {path.name} cannot be opened", found=error.strerror or ""
        ) from None


def flush(path: Path, strokes: np.memmap[Any, Any]) -> None:
    """Bring what was painted to the disk; may be called from any thread.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    with files.telling_write_errors(path):
        if sys.platform != "linux":  # there, this would keep all other threads waiting
            strokes.flush()
        disk.sync(path)


def is_short_of_disk(path: Path, size: int) -> bool:
    """Whether painting might run out of disk, which would end the program.

    Parameters
    ----------
    path : pathlib.Path
        A file of strokes.
    size : int
        Its size in bytes.
    """
    import shutil

    if size <= _RESERVED:
        return False
    with contextlib.suppress(OSError):
        return shutil.disk_usage(path.parent).free < _SPARE
    return False


def slabs(strokes: np.ndarray) -> Iterator[tuple[int, int]]:
    """Find the parts that may be painted, without reading holes.

    Parameters
    ----------
    strokes : numpy.ndarray
        C-contiguous; a mapping of a file on a system that tells its holes, else all is
        given.

    Yields
    ------
    start, stop : int
        Of the flattened array, at most 8 MB each, ascending and apart.
    """
    item = strokes.itemsize
    for first, last in _extents(strokes):
        start, stop = first // item, -(-last // item)
        for at in range(start, stop, _SLAB // item):
            yield at, min(at + _SLAB // item, stop)


def copy(source: np.ndarray, target: np.ndarray) -> None:
    """Copy strokes to an empty array of the same shape; what is empty is not written.

    Parameters
    ----------
    source, target : numpy.ndarray
        C-contiguous, of any integer types that hold the ids.
    """
    read, written = source.reshape(-1), target.reshape(-1)
    for start, stop in slabs(source):
        part = read[start:stop]
        if part.any():
            written[start:stop] = part


def copy_over(source: np.ndarray, target: np.ndarray) -> None:
    """Make strokes equal to others of the same shape; only what differs is written.

    Raises
    ------
    ProjectError
        If an id does not fit the type of `target`.
    """
    read, written = np.ascontiguousarray(source).reshape(-1), target.reshape(-1)
    largest = np.iinfo(target.dtype).max
    for start in range(0, read.size, _SLAB):
        part, there = read[start : start + _SLAB], written[start : start + _SLAB]
        if not np.array_equal(part, there):
            if part.min() < 0 or part.max() > largest:
                raise ProjectError(
                    "The strokes hold ids that cannot be kept",
                    found=f"{part.min()} to {part.max()}",
                    expected=f"0 to {largest}",
                )
            there[:] = part


def snapshot(strokes: np.ndarray, path: Path) -> None:
    """Copy strokes to a new .npy file, so that painting may go on.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    create(path, strokes.shape, strokes.dtype.name)
    copied = opened(path, strokes.shape, strokes.dtype.name)
    copy(np.ascontiguousarray(strokes), copied)


def _extents(strokes: np.ndarray) -> Iterator[tuple[int, int]]:
    """Byte ranges of an array that are no holes of its file."""
    size = strokes.nbytes
    name = getattr(strokes, "filename", None)
    if not hasattr(os, "SEEK_DATA") or name is None or size <= _RESERVED:
        yield 0, size
        return
    begin = getattr(strokes, "offset", 0)
    with open(name, "rb", buffering=0) as file:
        position = begin
        while position < begin + size:
            try:
                start = os.lseek(file.fileno(), position, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # no more data
                    return
                start = position
                stop = begin + size
            else:
                stop = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            stop = min(stop, begin + size)
            if stop > start:
                yield max(start, begin) - begin, stop - begin
            position = max(stop, position + 1)


def _header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """Write the beginning of a .npy file."""
    stream = io.BytesIO()
    fields = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, fields)
    return stream.getvalue()


def _read_header(path: Path) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Shape, type and first byte of a .npy file, which must be a plain file."""
    if not path.is_file() or path.is_symlink():
        raise ValueError("no such file")
    with path.open("rb") as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError("another version of .npy")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(
            file, max_header_size=_HEADER
        )
        if fortran:
            raise ValueError("Fortran order")
        return shape, dtype, file.tell()
