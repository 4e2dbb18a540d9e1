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
        size = math.prod(spec.shape) * spec.dtype.itemsize
        self._commit = Commit(self._path, needed=size)
        part = self._commit.part
        header = io.BytesIO()
        facts = {
            "descr": np.lib.format.dtype_to_descr(spec.dtype),
            "fortran_order": False,
            "shape": spec.shape,
        }
        np.lib.format.write_array_header_2_0(header, facts)
        start = len(header.getvalue())
        with telling_write_errors(self._path, size):
            with writing(part) as file:
                file.write(header.getvalue())
            reserve(part, start + size)
            self._array = np.memmap(part, spec.dtype, "r+", start, spec.shape)

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
