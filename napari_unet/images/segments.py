"""Strips and tiles: where they lie in a TIFF file, and how they are kept."""

from __future__ import annotations

import itertools
import math
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_unet.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tifffile import TiffPage

CACHE_BYTES = 64 << 20
_OPEN_FILES = 8


class FilePool:
    """Reads byte ranges from a few files, from any thread."""

    def __init__(self) -> None:
        self._files: OrderedDict[Path, Any] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, path: Path, offset: int, count: int) -> bytes:
        """Read `count` bytes, fewer only at the end of the file."""
        with self._lock:
            file = self._files.pop(path, None) or path.open("rb")
            self._files[path] = file
            if len(self._files) > _OPEN_FILES:
                self._files.popitem(last=False)[1].close()
            file.seek(offset)
            data: bytes = file.read(count)
            return data

    def close(self) -> None:
        """Close every file; the next read opens its file again."""
        with self._lock:
            while self._files:
                self._files.popitem()[1].close()


class SegmentCache:
    """The last decoded strips and tiles, bounded in bytes; the newest always stays."""

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self._limit = limit
        self._held: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: tuple[int, int], decode: Callable[[], np.ndarray]) -> np.ndarray:
        """Segment `key`, decoded unless it is held."""
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
        segment = decode()
        with self._lock:
            if key not in self._held:
                self._held[key] = segment
                self._bytes += segment.nbytes
            while self._bytes > self._limit and len(self._held) > 1:
                self._bytes -= self._held.popitem(last=False)[1].nbytes
        return segment


@dataclass(frozen=True, slots=True)
class Segments:
    """Where the strips or tiles of one page lie in its file."""

    path: Path
    offsets: tuple[int, ...]
    counts: tuple[int, ...]
    tables: bytes | None = None


@dataclass(frozen=True)
class Layout:
    """How pages of one kind are cut into segments.

    Shapes have five axes: separate samples, depth, length, width, contiguous samples,
    as in tifffile's `TiffPage.shaped`.

    Attributes
    ----------
    shaped : tuple of int
        Shape of a page.
    chunk : tuple of int
        Shape of a segment.
    places : tuple of int
        For each axis of a page as the series counts them, its place among the five.
    dtype : numpy.dtype
        Type of the decoded pixels.
    fill : float
        Value of segments that are not stored.
    raw : numpy.dtype or None
        Type as stored if pages are stored plainly and in one piece, else None.
    """

    shaped: tuple[int, ...]
    chunk: tuple[int, ...]
    places: tuple[int, ...]
    dtype: np.dtype[Any]
    fill: float
    raw: np.dtype[Any] | None

    @classmethod
    def of(cls, page: TiffPage, axes: str, byteorder: Literal["<", ">"]) -> Layout:
        """Layout of a page whose axes the series calls `axes`."""
        samples = page.shaped[4]
        tiled = page.is_tiled
        chunk = (1, page.tiledepth, page.tilelength, page.tilewidth, samples)
        rows = min(page.rowsperstrip, page.shaped[2])
        strip = (1, 1, rows, page.shaped[3], samples)
        dtype = np.dtype(page.dtype)
        return cls(
            shaped=page.shaped,
            chunk=chunk if tiled else strip,
            places=_places(axes, page.shaped),
            dtype=dtype,
            fill=page.nodata,
            raw=dtype.newbyteorder(byteorder) if page.is_final else None,
        )

    @property
    def nbytes(self) -> int:
        """Bytes of a decoded page."""
        return math.prod(self.shaped) * self.dtype.itemsize

    @property
    def segment_bytes(self) -> int:
        """Bytes of a decoded segment."""
        return math.prod(self.chunk) * self.dtype.itemsize

    @property
    def counts(self) -> tuple[int, ...]:
        """Segments along each of the five axes."""
        return tuple(-(-n // c) for n, c in zip(self.shaped, self.chunk, strict=True))

    def touched(self, region: Sequence[slice]) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Yield number and origin of every segment that a region touches."""
        ranges = [
            range(part.start // size, -(-part.stop // size))
            for part, size in zip(region, self.chunk, strict=True)
        ]
        for place in itertools.product(*ranges):
            number = int(np.ravel_multi_index(place, self.counts))
            yield number, tuple(p * c for p, c in zip(place, self.chunk, strict=True))


def check_complete(pages: Sequence[Segments], layout: Layout, name: str) -> None:
    """Refuse a file that ends before its last page does.

    Raises
    ------
    ImageError
        Naming the first page that is cut off.
    """
    sizes: dict[Path, int] = {}
    for number, page in enumerate(pages):
        if page.path not in sizes:
            sizes[page.path] = page.path.stat().st_size
        ends = [o + c for o, c in zip(page.offsets, page.counts, strict=False)]
        if layout.raw is not None and page.offsets:
            ends = [min(max(ends), page.offsets[0] + layout.nbytes)]
        if max(ends, default=0) > sizes[page.path]:
            raise cut_off(number, name)


def cut_off(number: int, name: str) -> ImageError:
    """Error for a page that the file does not hold to its end."""
    return ImageError(
        f"{name} is cut off",
        found=f"an end of file inside page {number + 1}",
        hint="Copy or export the file again.",
    )


def _places(axes: str, shaped: Sequence[int]) -> tuple[int, ...]:
    """Place of each axis of a page among the five that tifffile decodes to."""
    samples = 0 if shaped[0] > 1 else 4
    return tuple({"Y": 2, "X": 3, "S": samples}.get(axis, 1) for axis in axes)
