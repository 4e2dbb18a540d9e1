"""Bounded blocks that cover an image, cut the way the image is stored."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_unet.images.stack import ImageStack

MOST_PIXELS = 4 << 20
"""Pixels of a block; 32 MB once they are float64."""


def blocks(stack: ImageStack, most: int = MOST_PIXELS) -> Iterator[dict[str, slice]]:
    """Cut a stack into blocks that are cheap to read one after the other.

    Parameters
    ----------
    stack : ImageStack
        Its chunks, if it has any, are kept whole where they fit.
    most : int
        Largest number of pixels in a block.

    Yields
    ------
    dict of str to slice
        Region by axis name; together they cover every pixel once.
    """
    sizes = _block_shape(stack, most)
    starts = [range(0, n, s) for n, s in zip(stack.shape, sizes, strict=True)]
    for place in itertools.product(*starts):
        yield {
            axis: slice(start, min(start + size, whole))
            for axis, start, size, whole in zip(
                stack.axes, place, sizes, stack.shape, strict=True
            )
        }


def sample(stack: ImageStack, most: int) -> tuple[list[dict[str, slice]], float]:
    """Choose blocks that stand for a stack: all of them where that is not too much.

    Parameters
    ----------
    stack : ImageStack
        The image.
    most : int
        Pixels to read, about.

    Returns
    -------
    regions : list of dict of str to slice
        By axis name, in the order of the stack; always the same ones. All channels of
        a place are chosen together.
    share : float
        Share of the places that were chosen, 1 for all.
    """
    found = list(blocks(stack))
    places = list(dict.fromkeys(_place(region) for region in found))
    count = math.ceil(len(places) * min(1.0, most / math.prod(stack.shape)))
    if count == len(places):
        return found, 1.0
    numbers = np.random.default_rng(0).choice(len(places), count, replace=False)
    chosen = {places[n] for n in numbers}
    return [r for r in found if _place(r) in chosen], count / len(places)


def _place(region: dict[str, slice]) -> tuple[int, ...]:
    return tuple(part.start for axis, part in region.items() if axis != "C")


def _block_shape(stack: ImageStack, most: int) -> list[int]:
    """Shape of a block: a chunk or a plane, made smaller or larger to fit `most`."""
    shape = stack.shape
    sizes = [min(c, n) for c, n in zip(_chunk(stack), shape, strict=True)]
    for i in range(len(sizes)):  # cut the slowest axes first
        while math.prod(sizes) > most and sizes[i] > 1:
            sizes[i] = -(-sizes[i] // 2)
    for i in reversed(range(len(sizes))):
        room = most // math.prod(sizes)
        sizes[i] = min(shape[i], sizes[i] * max(room, 1))
        if sizes[i] < shape[i]:
            break
    return sizes


def _chunk(stack: ImageStack) -> list[int]:
    """Chunk of a zarr, dask or TIFF array; a plane for any other."""
    chunks = getattr(stack.array, "chunks", None)
    if not isinstance(chunks, tuple) or len(chunks) != len(stack.axes):
        return [n if a in "YX" else 1 for a, n in stack.sizes.items()]
    return [int(c[0] if isinstance(c, tuple) else c) for c in chunks]
