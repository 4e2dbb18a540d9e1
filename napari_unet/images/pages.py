"""Pages: gathers the finished regions of a result into whole planes, in order."""

from __future__ import annotations

import itertools
import math
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.files import reserve
from napari_unet.images.regions import bounds, length

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_unet.images.sinks import OutputSpec

RAM_BYTES = 64 << 20


@dataclass
class Page:
    """One plane (Y, X) of a result.

    Attributes
    ----------
    number : int
        Place among all planes, the last leading axis fastest.
    pixels : numpy.ndarray, shape (Y, X)
        In memory, or in a scratch file beside the result.
    left : int
        Pixels not yet written.
    slot : int or None
        Place in the scratch file, None for a page in memory.
    """

    number: int
    pixels: np.ndarray
    left: int
    slot: int | None = None


class Pages:
    """Gathers regions that come in any order into planes that leave in order.

    At most 64 MB of unfinished planes are held in memory. Further ones lie in a scratch
    file, which the system may write out, so that memory stays bounded whatever the size
    of a plane and the order of the regions.

    Parameters
    ----------
    spec : OutputSpec
        Axes must end in Y, X.
    scratch : pathlib.Path
        Name of the scratch file, made when needed.
    ram : int
        Bytes of unfinished planes in memory.
    span : tuple of int, optional
        Start and stop of the planes that come; all of them when not given.
    """

    def __init__(
        self,
        spec: OutputSpec,
        scratch: Path,
        ram: int = RAM_BYTES,
        span: tuple[int, int] | None = None,
    ) -> None:
        self._leading, self._plane = spec.shape[:-2], spec.shape[-2:]
        self._first, self._stop = span or (0, math.prod(self._leading))
        self._dtype = spec.dtype
        self._scratch = scratch
        self._room = ram // max(self._bytes, 1)
        self._group = max(1, RAM_BYTES // max(self._bytes, 1))
        self._maps: list[np.ndarray] = []
        self._held: dict[int, Page] = {}
        self._in_ram = 0
        self._slots: list[int] = []
        self._slots_made = 0
        self._next = self._first
        self._lock = threading.Lock()

    @property
    def count(self) -> int:
        """Number of planes that come."""
        return self._stop - self._first

    @property
    def missing(self) -> int:
        """Number of planes that have not left yet."""
        return self._stop - self._next

    def add(self, region: tuple[slice, ...], block: np.ndarray) -> Iterator[Page]:
        """Take a region and give out the planes that are next in order and complete.

        Parameters
        ----------
        region : tuple of slice
            One for each axis of the result.
        block : numpy.ndarray
            Its values, which are copied.

        Yields
        ------
        Page
            To be given back with `release` once it is used.
        """
        shape = (*self._leading, *self._plane)
        parts = tuple(bounds(part, n) for part, n in zip(region, shape, strict=True))
        if block.shape != tuple(length(part) for part in parts):
            raise ValueError(f"block of shape {block.shape} for region {region}")
        ranges = [range(length(part)) for part in parts[:-2]]
        for offset in itertools.product(*ranges):
            place = [p.start + o for p, o in zip(parts[:-2], offset, strict=True)]
            page = self._page(
                int(np.ravel_multi_index(place, self._leading)) if place else 0
            )
            page.pixels[parts[-2:]] = block[offset]
            page.left -= block[offset].size
        yield from self._ready()

    def release(self, page: Page) -> None:
        """Take back a page; from any thread."""
        with self._lock:
            if page.slot is None:
                self._in_ram -= 1
            else:
                self._slots.append(page.slot)

    def discard(self) -> None:
        """Remove the scratch file."""
        self._held.clear()
        self._maps.clear()
        self._scratch.unlink(missing_ok=True)

    @property
    def _bytes(self) -> int:
        """Bytes of a plane."""
        return math.prod(self._plane) * self._dtype.itemsize

    def _ready(self) -> Iterator[Page]:
        """Give out complete planes as long as they are next in order."""
        while self._next in self._held and self._held[self._next].left == 0:
            page = self._held.pop(self._next)
            self._next += 1
            yield page

    def _page(self, number: int) -> Page:
        """Page that is being filled, made on first use."""
        if number < self._next:
            raise ValueError(f"plane {number} was written already")
        if number not in self._held:
            self._held[number] = self._new(number)
        return self._held[number]

    def _new(self, number: int) -> Page:
        """Make an empty page in memory, or in the scratch file if memory is used up."""
        size = math.prod(self._plane)
        with self._lock:
            if self._in_ram < self._room:
                self._in_ram += 1
                return Page(number, np.zeros(self._plane, self._dtype), size)
            if not self._slots:
                self._slots.append(self._slots_made)
                self._slots_made += 1
            slot = self._slots.pop()
        return Page(number, self._map(slot), size, slot)

    def _map(self, slot: int) -> np.ndarray:
        """Place in the scratch file; many small planes share one memory map."""
        group, place = divmod(slot, self._group)
        if group == len(self._maps):
            size, shape = self._group * self._bytes, (self._group, *self._plane)
            reserve(self._scratch, (group + 1) * size)
            self._maps.append(
                np.memmap(self._scratch, self._dtype, "r+", group * size, shape)
            )
        plane: np.ndarray = self._maps[group][place]
        return plane
