"""Read tiles ahead in a thread, and hand them to the network in batches."""

from __future__ import annotations

import contextlib
import itertools
import queue
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from napari_unet.inference.tiling import mirror

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping

    from napari_unet.images.intensity import Scaling
    from napari_unet.images.stack import ImageStack
    from napari_unet.inference.layout import Layout
    from napari_unet.inference.plan import Plan
    from napari_unet.inference.tiling import Span

T = TypeVar("T")


@dataclass(frozen=True)
class Piece:
    """One tile of one frame, with its pixels.

    Attributes
    ----------
    position : mapping of str to int
        The frame's position along the looped axes.
    index : tuple of int
        The tile's position in ``plan.spans``, per spatial axis.
    spans : tuple of Span
        Where it reads and writes, per spatial axis.
    pixels : numpy.ndarray
        (C, *spatial) float32, scaled and mirrored beyond the image.
    """

    position: Mapping[str, int]
    index: tuple[int, ...]
    spans: tuple[Span, ...]
    pixels: np.ndarray = field(repr=False)


def pieces(
    stack: ImageStack, layout: Layout, plan: Plan, scaling: Scaling, first: int = 0
) -> Iterator[Piece]:
    """Read every tile of every frame, frame by frame, the first axis slowest.

    The tiles before number `first` are not read.
    """
    tiles = ((p, index) for p in layout.positions() for index in plan.indices())
    for position, index in itertools.islice(tiles, first, None):
        spans = tuple(s[i] for s, i in zip(plan.spans, index, strict=True))
        pixels = read(stack, layout, position, spans, scaling)
        yield Piece(position, index, spans, pixels)


def read(
    stack: ImageStack,
    layout: Layout,
    position: Mapping[str, int],
    spans: Iterable[Span],
    scaling: Scaling,
) -> np.ndarray:
    """Read the input of a tile.

    Returns
    -------
    numpy.ndarray
        (C, *spatial) float32, scaled; outside the image its mirror image.
    """
    sources = [
        mirror(*span.read, size) for span, size in zip(spans, layout.size, strict=True)
    ]
    box: dict[str, int | slice] = dict(position)
    for name, source in zip(layout.spatial, sources, strict=True):
        box[name] = slice(int(source.min()), int(source.max()) + 1)
    block = scaling.apply(read_channels(stack, layout, box))
    for axis, source in enumerate(sources, start=1):
        if source.size != block.shape[axis] or source[0] != source.min():
            block = block.take(source - source.min(), axis)
    return block


def read_channels(
    stack: ImageStack, layout: Layout, box: Mapping[str, int | slice]
) -> np.ndarray:
    """Read the pixels of the chosen channels in their order, (C, *spatial)."""
    chosen, order = layout.channels, "C" + layout.spatial
    if chosen == tuple(range(chosen[0], chosen[-1] + 1)):
        return stack.read({**box, "C": slice(chosen[0], chosen[-1] + 1)}, order)
    parts = [stack.read({**box, "C": slice(c, c + 1)}, order) for c in chosen]
    return np.concatenate(parts)


def read_ahead(items: Iterable[T], size: int = 2) -> Generator[T]:
    """Iterate over `items`, computed by a thread up to `size` items in advance.

    An error of `items` is raised here; closing this generator ends the thread.
    """
    waiting: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(size)
    stop = threading.Event()

    def put(item: T | None, error: BaseException | None = None) -> None:
        while not stop.is_set():
            with contextlib.suppress(queue.Full):
                return waiting.put((item, error), timeout=0.1)

    def work() -> None:
        try:
            for item in items:
                put(item)
                if stop.is_set():
                    return
            put(None, StopIteration())
        except BaseException as error:
            put(None, error)

    thread = threading.Thread(target=work, name="read-ahead", daemon=True)
    thread.start()
    try:
        while True:
            item, error = waiting.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item  # type: ignore[misc]
            del item
    finally:
        stop.set()
        thread.join()


def batches(items: Iterable[Piece], limit: Callable[[], int]) -> Iterator[list[Piece]]:
    """Group neighbours of equal shape, at most `limit()` at a time."""
    for _, equal in itertools.groupby(items, key=lambda piece: piece.pixels.shape):
        while batch := list(itertools.islice(equal, max(1, limit()))):
            yield batch
