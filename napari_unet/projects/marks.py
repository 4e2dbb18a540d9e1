"""Marks: what an image holds, told by a hash, so that it is found again when it moved.

Large files are hashed in parts, spread evenly: a mark tells whether a file is the same,
not that nobody forged it.
"""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path
from typing import Any

import numpy as np

_WHOLE = 16 << 20
_PIECE, _PIECES = 1 << 20, 16
_PLANES, _SIDE = 4, 64


def of_file(path: Path | str) -> str:
    """Mark of a file, or of a folder such as a Zarr image.

    Parameters
    ----------
    path : path-like
        Files up to 16 MB are read whole, of larger ones 16 MB, of a folder its metadata
        and the names and sizes of the rest.

    Returns
    -------
    str
        ``sha256:…`` of a whole file, else ``parts:…`` or ``folder:…``.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        return f"folder:{_of_folder(path)}"
    size = path.stat().st_size
    total = hashlib.sha256()
    with path.open("rb") as file:
        if size <= _WHOLE:
            total.update(file.read())
            return f"sha256:{total.hexdigest()}"
        total.update(str(size).encode())
        for number in range(_PIECES):
            file.seek(number * (size - _PIECE) // (_PIECES - 1))
            total.update(file.read(_PIECE))
    return f"parts:{total.hexdigest()}"


def _of_folder(path: Path) -> str:
    """Hash metadata, names and sizes of all files of a folder."""
    total = hashlib.sha256()
    for member in sorted(p for p in path.rglob("*") if p.is_file()):
        size = member.stat().st_size
        total.update(f"{member.relative_to(path).as_posix()}\0{size}\0".encode())
        if size < _PIECE and (member.suffix == ".json" or member.name.startswith(".z")):
            total.update(member.read_bytes())
    return total.hexdigest()


def of_pixels(pixels: Any) -> str:
    """Mark of the pixels of an image, whatever holds them.

    Parameters
    ----------
    pixels : array-like
        Shape (..., M, N): numpy, memory-mapped, dask or zarr. At most twenty squares of
        64 pixels are read, of four planes spread evenly.
    """
    shape = tuple(int(n) for n in pixels.shape)
    total = hashlib.sha256(repr((shape, np.dtype(str(pixels.dtype)).str)).encode())
    loops = shape[:-2]
    planes = int(np.prod(loops)) if loops else 1
    for number in _spread(planes, _PLANES):
        index = np.unravel_index(number, loops) if loops else ()
        for square in _squares(shape[-2:]):
            part = np.asarray(pixels[(*map(int, index), *square)])
            total.update(np.ascontiguousarray(part).tobytes())
    return f"pixels:{total.hexdigest()}"


def _squares(shape: tuple[int, ...]) -> list[tuple[slice, ...]]:
    """Choose squares of a plane: the middle, and halfway to each corner."""
    places = [(0.5, 0.5), *itertools.product((0.25, 0.75), repeat=2)]
    return [
        tuple(
            slice(start := max(0, int(n * share) - _SIDE // 2), start + _SIDE)
            for n, share in zip(shape, place, strict=True)
        )
        for place in places
    ]


def _spread(total: int, wanted: int) -> list[int]:
    """Choose numbers below `total`, evenly spread, the first and the last with them."""
    count = min(total, wanted)
    return sorted({round(i * (total - 1) / max(1, count - 1)) for i in range(count)})
