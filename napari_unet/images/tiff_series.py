"""TiffSeries: the pages of a TIFF series as one lazy array."""

from __future__ import annotations

import itertools
import math
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.errors import ImageError
from napari_unet.images.checks import check_memory, telling_read_errors
from napari_unet.images.regions import length, resolve
from napari_unet.images.segments import FilePool, SegmentCache, cut_off

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tifffile import TiffPage

    from napari_unet.images.segments import Layout, Segments


class TiffSeries:
    """Pages of one shape as a lazy array that decodes only what is asked for.

    Parameters
    ----------
    pages : sequence of Segments
        In the order of the leading axes.
    keyframe : tifffile.TiffPage
        Knows how to decode a segment of any of the pages.
    layout : Layout
        How a page is cut.
    shape : tuple of int
        Leading axes (one page each), then the axes of a page.
    name : str
        For messages.
    """

    def __init__(
        self,
        pages: Sequence[Segments],
        keyframe: TiffPage,
        layout: Layout,
        shape: tuple[int, ...],
        name: str,
    ) -> None:
        self.shape = shape
        self.dtype = layout.dtype
        self._pages = pages
        self._keyframe = keyframe
        self._layout = layout
        self._leading = shape[: len(shape) - len(layout.places)]
        self._name = name
        self._files = FilePool()
        self._cache = SegmentCache()
        self._maps: dict[Path, np.memmap[Any, Any]] = {}
        # files are closed with the array, whoever forgets to
        weakref.finalize(self, self._files.close)

    def close(self) -> None:
        """Close the files; another read opens them again."""
        self._files.close()

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def chunks(self) -> tuple[int, ...]:
        """Shape of the piece that is decoded at once, by axis."""
        within = tuple(self._layout.chunk[place] for place in self._layout.places)
        return (1,) * len(self._leading) + within

    def __getitem__(self, index: Any) -> np.ndarray:
        """Decode a region given by integers and slices with step 1."""
        region, dropped = resolve(index, self.shape)
        out = np.empty([length(part) for part in region], self.dtype)
        ahead = len(self._leading)
        for place in itertools.product(
            *(range(p.start, p.stop) for p in region[:ahead])
        ):
            number = int(np.ravel_multi_index(place, self._leading)) if place else 0
            into = tuple(
                n - part.start for n, part in zip(place, region[:ahead], strict=True)
            )
            self._read_page(number, region[ahead:], out[into])
        return out.squeeze(tuple(dropped))

    def _read_page(self, number: int, region: Sequence[slice], out: np.ndarray) -> None:
        """Fill `out` with a region of a page, both in the axes of the series."""
        where = [slice(0, n) for n in self._layout.shaped]
        for place, part in zip(self._layout.places, region, strict=True):
            where[place] = part
        out = out.reshape([length(part) for part in where])
        with telling_read_errors(f"Page {number + 1} of {self._name}"):
            raw = self._layout.raw
            if raw is not None and self._in_one_piece(number):
                out[...] = self._plain(number, raw)[tuple(where)]
                return
            covered = 0
            for segment, origin in self._layout.touched(where):
                data = self._cache.get(
                    (number, segment), partial(self._decode, number, segment)
                )
                covered += _paste(data, origin, out, where)
            if covered != out.size:
                raise ValueError("strips or tiles are smaller than declared")

    def _in_one_piece(self, number: int) -> bool:
        """Whether the segments of a plainly stored page follow each other."""
        page = self._pages[number]
        ends = [o + c for o, c in zip(page.offsets, page.counts, strict=True)]
        return 0 not in page.offsets and list(page.offsets[1:]) == ends[:-1]

    def _plain(self, number: int, raw: np.dtype[Any]) -> np.ndarray:
        """View of a plainly stored page on its memory-mapped file."""
        page = self._pages[number]
        if page.path not in self._maps:
            self._maps[page.path] = np.memmap(page.path, np.uint8, "r")
        start = page.offsets[0]
        stored = self._maps[page.path][start : start + self._layout.nbytes]
        return stored.view(raw).reshape(self._layout.shaped)

    def _decode(self, number: int, segment: int) -> np.ndarray:
        """Decode one strip or tile, with five axes."""
        layout, page = self._layout, self._pages[number]
        check_memory(layout.segment_bytes, f"A piece of {self._name}")
        if segment >= min(len(page.offsets), len(page.counts)):
            raise ImageError(
                f"Page {number + 1} of {self._name} is incomplete",
                found=f"{len(page.offsets)} strips or tiles",
                expected=f"{math.prod(layout.counts)}",
            )
        offset, count = page.offsets[segment], page.counts[segment]
        if count == 0:
            return np.full(layout.chunk, layout.fill, layout.dtype)
        data = self._files.read(page.path, offset, count)
        if len(data) < count:
            raise cut_off(number, self._name)
        more: dict[str, Any] = {}
        if self._keyframe.compression in (6, 7, 34892, 33007):  # the JPEG kinds
            more = {"jpegtables": page.tables, "jpegheader": self._keyframe.jpegheader}
        decoded = self._keyframe.decode(data, segment, **more)[0]
        return np.asarray(decoded)[np.newaxis]


def _paste(
    data: np.ndarray, origin: Sequence[int], out: np.ndarray, where: Sequence[slice]
) -> int:
    """Copy the part of a segment that lies in `where`, and count its pixels."""
    source, target = [], []
    for at, size, part in zip(origin, data.shape, where, strict=True):
        first, last = max(at, part.start), min(at + size, part.stop)
        source.append(slice(first - at, last - at))
        target.append(slice(first - part.start, last - part.start))
    part_of_page = data[tuple(source)]
    out[tuple(target)] = part_of_page
    return part_of_page.size
