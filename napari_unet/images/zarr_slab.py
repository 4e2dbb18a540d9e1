"""ZarrSlab: some chunks of an OME-Zarr result, written by one of several processes.

The folder is made and completed by others, see `napari_unet.images.zarr_levels`.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.errors import OutputError
from napari_unet.files import digest, telling_write_errors
from napari_unet.images.pages import Page, Pages
from napari_unet.images.write_behind import WriteBehind
from napari_unet.images.zarr_levels import Extremes, chunk_of, stored_order

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_unet.images.sinks import OutputSpec

    Range = tuple[int, int]


@dataclass(frozen=True)
class Chunks:
    """Whole chunks of level 0: the same rows of some planes.

    Attributes
    ----------
    planes : tuple of int
        Start and stop among all planes, the last leading axis fastest.
    rows : tuple of int
        Start and stop along Y: multiples of the length of a chunk, or the end.
    """

    planes: Range
    rows: Range

    def places(self, spec: OutputSpec) -> Iterator[tuple[int, ...]]:
        """Place of each chunk in the grid of chunks, in the stored order of axes."""
        leading, order = spec.shape[:-2], stored_order(spec.axes)
        high, wide = chunk_of(spec.shape[-2:])
        down = range(self.rows[0] // high, -(-self.rows[1] // high))
        across = range(-(-spec.shape[-1] // wide))
        for number, y, x in itertools.product(range(*self.planes), down, across):
            yield (*stored_place(number, leading, order), y, x)


def stored_place(
    number: int, leading: tuple[int, ...], order: tuple[int, ...]
) -> tuple[int, ...]:
    """Place of a plane along the leading axes as they are stored."""
    place = np.unravel_index(number, leading) if leading else ()
    return tuple(int(place[i]) for i in order[:-2])


class ZarrSlab:
    """Writes some chunks, each once, in a thread.

    Parameters
    ----------
    part : pathlib.Path
        The folder, with all its levels.
    spec : OutputSpec
        The whole result.
    chunks : Chunks
        What is written.
    """

    def __init__(self, part: Path, spec: OutputSpec, chunks: Chunks) -> None:
        import zarr

        self._part, self._spec, self._chunks = part, spec, chunks
        self._level: Any = zarr.open_array(str(part / "0"), mode="r+", zarr_format=3)
        self._seen = Extremes(spec)
        high = chunks.rows[1] - chunks.rows[0]
        slab = replace(spec, shape=(*spec.shape[:-2], high, spec.shape[-1]))
        self._needed = math.prod(spec.shape) * spec.dtype.itemsize
        scratch = part.with_name(f"{part.name}-{chunks.planes[0]}-{chunks.rows[0]}")
        self._pages = Pages(slab, scratch.with_suffix(".pages"), span=chunks.planes)
        self._behind: WriteBehind[Page] = WriteBehind(self._work)

    def write(self, region: tuple[slice, ...], block: np.ndarray) -> None:
        """Take the values of a region of the whole result."""
        first, rows = self._chunks.rows[0], region[-2]
        moved = slice(rows.start - first, rows.stop - first)
        with telling_write_errors(self._part, self._needed):
            for page in self._pages.add((*region[:-2], moved, region[-1]), block):
                self._behind.put(page)

    def close(self) -> tuple[float, float]:
        """Finish writing; return the extremes of what was written."""
        if self._pages.missing:
            raise OutputError(
                f"{self._part.name} is incomplete",
                found=f"{self._pages.missing} of {self._pages.count} planes "
                "missing or unfinished",
            )
        self._behind.finish()
        self._pages.discard()
        return self._seen.found

    def abort(self) -> None:
        """Stop writing."""
        self._behind.abort()
        self._pages.discard()

    def _work(self, pages: Iterator[Page]) -> None:
        """Write planes as they come."""
        leading, order = self._spec.shape[:-2], stored_order(self._spec.axes)
        with telling_write_errors(self._part, self._needed):
            for page in pages:
                place = stored_place(page.number, leading, order)
                self._level[(*place, slice(*self._chunks.rows))] = page.pixels
                self._seen.add(page.pixels)
                self._pages.release(page)


def checksum(part: Path, spec: OutputSpec, chunks: Chunks) -> str:
    """SHA-256 of the files of some chunks; those of zeros alone have none."""
    import zarr

    level: Any = zarr.open_array(str(part / "0"), mode="r", zarr_format=3)
    total = hashlib.sha256()
    for place in chunks.places(spec):
        name = level.metadata.encode_chunk_key(place)
        total.update(name.encode() + b"\0")
        path = part / "0" / name
        total.update(bytes.fromhex(digest(path)) if path.exists() else b"-")
    return total.hexdigest()
