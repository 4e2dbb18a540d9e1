"""NpySink: results as a .npy file, written through a memory map."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.files import Commit, reserve, telling_write_errors, writing

if TYPE_CHECKING:
    from napari_unet.images.sinks import OutputSpec


class NpySink:
    """Writes a .npy file; axes, sizes and provenance have no place in it.

    Parameters
    ----------
    path : path-like
        Where the result appears when it is complete.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._commit: Commit | None = None
        self._array: np.memmap[Any, Any] | None = None

    @property
    def path(self) -> Path:
        """Where the result appears when it is complete."""
        return self._path

    @property
    def hidden(self) -> tuple[Path, ...]:
        """What stands beside it until then; empty before `open`."""
        return (self._commit.part,) if self._commit else ()

    def open(self, spec: OutputSpec) -> None:
        """Reserve the space and write the header."""
        self._commit = Commit(self._path, needed=_size(spec))
        self._array = mapped(self._commit.part, spec, self._path)

    def write(self, region: tuple[slice, ...], block: np.ndarray) -> None:
        """Copy a block to its place."""
        if self._array is None:
            raise RuntimeError("write before open")
        self._array[region] = block

    def close(self) -> str:
        """Rename the file and return its path."""
        if self._array is None or self._commit is None:
            raise RuntimeError("close before open")
        with telling_write_errors(self._path):
            self._array.flush()
        self._array = None
        self._commit.done()
        return str(self._path)

    def abort(self) -> None:
        """Leave nothing behind."""
        self._array = None
        if self._commit is not None:
            self._commit.undo()


class GrowingSink:
    """Fills a .npy file under its own name, so that others may look on meanwhile.

    For the files of a viewer, which are looked at before they are complete and are
    never taken for a result that is; what is there when a run stops stays there.

    Parameters
    ----------
    path : path-like
        Written over.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._array: np.memmap[Any, Any] | None = None

    def open(self, spec: OutputSpec) -> None:
        """Reserve the space, filled with 0."""
        self._array = mapped(self._path, spec, self._path)

    def write(self, region: tuple[slice, ...], block: np.ndarray) -> None:
        """Copy a block to its place."""
        if self._array is None:
            raise RuntimeError("write before open")
        self._array[region] = block

    def close(self) -> str:
        """Let go of the file and return its path."""
        self._array = None
        return str(self._path)

    def abort(self) -> None:
        """Let go of the file."""
        self._array = None


def mapped(path: Path, spec: OutputSpec, name: Path) -> np.memmap[Any, Any]:
    """Make a .npy file with all its space and map it.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    spec : OutputSpec
        Shape and type.
    name : pathlib.Path
        What errors call it.

    Raises
    ------
    OutputError
        If there is no space, or writing is not permitted.
    """
    header = io.BytesIO()
    facts = {
        "descr": np.lib.format.dtype_to_descr(spec.dtype),
        "fortran_order": False,
        "shape": spec.shape,
    }
    np.lib.format.write_array_header_2_0(header, facts)
    start, size = len(header.getvalue()), _size(spec)
    with telling_write_errors(name, size):
        with writing(path) as file:
            file.write(header.getvalue())
        reserve(path, start + size)
        return np.memmap(path, spec.dtype, "r+", start, spec.shape)


def _size(spec: OutputSpec) -> int:
    """Bytes of the pixels."""
    return math.prod(spec.shape) * spec.dtype.itemsize
