"""Blocks: the painted parts of the images, read once and normalised."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
from scipy import ndimage

from napari_unet.images import axes as axis_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from napari_unet.images.stack import ImageStack
    from napari_unet.training.annotations import AnnotationSet, Example


class Scale(Protocol):
    """Normalises a block, see `napari_unet.images.intensity`."""

    def apply(self, block: np.ndarray) -> np.ndarray:
        """Return (C, *spatial) as float32 on the scale of the network."""
        ...


@dataclass
class Block:
    """A painted part of one image.

    Attributes
    ----------
    example : int
        Which example it is of.
    frame : mapping
        Where it lies on the axes the network does not see.
    origin : tuple of int
        Its corner along the spatial axes.
    image : numpy.ndarray
        float32, (C, *spatial), normalised.
    strokes : numpy.ndarray
        int64, spatial axes; 0 is not painted.
    unusable : int
        Painted pixels that were left out because the image is NaN or infinite there.
    """

    example: int
    frame: Mapping[str, int]
    origin: tuple[int, ...]
    image: np.ndarray = field(repr=False)
    strokes: np.ndarray = field(repr=False)
    unusable: int = 0

    @property
    def region(self) -> dict[str, tuple[int, int]]:
        """First pixel and the one past the last by axis of the image."""
        frame = {axis: (n, n + 1) for axis, n in self.frame.items()}
        spatial = axis_names.spatial(self.strokes.ndim)
        shape = zip(spatial, self.origin, self.strokes.shape, strict=True)
        return {**frame, **{axis: (o, o + n) for axis, o, n in shape}}


def read_blocks(
    annotations: AnnotationSet,
    scales: Sequence[Scale],
    channels: Sequence[int] | None,
    patch: tuple[int, ...],
    gap: tuple[int, ...],
) -> Iterator[Block]:
    """Read what lies around the strokes.

    Strokes are gathered in cells as large as a patch. Painted cells that touch, or are
    nearer than `gap`, are one block, so strokes of different blocks of a frame are at
    least `gap` apart. A block reaches one patch farther than its cells.

    Parameters
    ----------
    annotations : AnnotationSet
        What is painted.
    scales : sequence of Scale
        Normalisation of each example.
    channels : sequence of int, optional
        Channels that feed the network; all of them when not given.
    patch, gap : tuple of int
        Size in pixels along the spatial axes of the network.

    Yields
    ------
    Block
        In the order of the examples and frames.
    """
    spatial = axis_names.spatial(len(patch))
    for (number, frame), planes in _frames(annotations, spatial).items():
        example = annotations.examples[number]
        owner = _owners(example, dict(frame), planes, patch, gap, spatial)
        for block in range(1, int(owner.max()) + 1):
            yield _read(
                example, number, dict(frame), owner, block, patch, channels, scales
            )


def _frames(
    annotations: AnnotationSet, spatial: str
) -> dict[tuple[int, tuple[tuple[str, int], ...]], list[int]]:
    """Painted Z positions by example and frame; [0] where planes are frames."""
    frames: dict[tuple[int, tuple[tuple[str, int], ...]], list[int]] = {}
    for plane in annotations.planes:
        frame = tuple((a, n) for a, n in plane.index.items() if a not in spatial)
        depth = plane.index.get("Z", 0) if "Z" in spatial else 0
        frames.setdefault((plane.example, frame), []).append(depth)
    return frames


def _owners(
    example: Example,
    frame: Mapping[str, int],
    depths: Sequence[int],
    patch: tuple[int, ...],
    gap: tuple[int, ...],
    spatial: str,
) -> np.ndarray:
    """Give each painted cell the number of its block, and 0 to the others."""
    sizes = [example.strokes.sizes.get(a, 1) for a in spatial]
    cells = np.zeros([-(-n // p) for n, p in zip(sizes, patch, strict=True)], bool)
    for depth in depths:
        index = {**frame, "C": 0} | ({"Z": depth} if "Z" in spatial else {})
        rows, columns = np.nonzero(example.strokes.read(index, "YX"))
        cell = (rows // patch[-2], columns // patch[-1])
        cells[cell if len(patch) == 2 else (depth // patch[0], *cell)] = True
    # Widened by half the gap each, cells nearer than the gap touch.
    reach = tuple(2 * -(-g // (2 * p)) + 1 for g, p in zip(gap, patch, strict=True))
    near = ndimage.maximum_filter(cells, reach, mode="constant")
    owner, _ = ndimage.label(near, np.ones((3,) * len(patch)))
    owners: np.ndarray = owner * cells
    return owners


def _read(
    example: Example,
    number: int,
    frame: dict[str, int],
    owner: np.ndarray,
    block: int,
    patch: tuple[int, ...],
    channels: Sequence[int] | None,
    scales: Sequence[Scale],
) -> Block:
    """Read one block and leave out what its neighbours own or nobody can use."""
    spatial = axis_names.spatial(len(patch))
    box = _box(owner == block, patch, [example.stack.sizes.get(a, 1) for a in spatial])
    index: dict[str, int | slice] = dict(frame)
    index |= dict(zip(spatial, box, strict=True))
    strokes = example.strokes.read({**index, "C": slice(None)}, "C" + spatial)[0]
    at = [np.arange(s.start, s.stop) // p for s, p in zip(box, patch, strict=True)]
    strokes = np.where(owner[np.ix_(*at)] == block, strokes, 0).astype(np.int64)
    raw = _pick(example.stack, index, spatial, channels)
    bad = ~np.isfinite(raw).all(axis=0) & (strokes > 0)
    strokes[bad] = 0
    origin = tuple(s.start for s in box)
    image = scales[number].apply(raw)
    return Block(number, frame, origin, image, strokes, int(bad.sum()))


def _box(
    cells: np.ndarray, patch: tuple[int, ...], sizes: Sequence[int]
) -> tuple[slice, ...]:
    """Pixels of the cells and one patch around them, within the image."""
    (box,) = ndimage.find_objects(cells.astype(np.uint8))
    return tuple(
        slice(max((s.start - 1) * p, 0), min((s.stop + 1) * p, n))
        for s, p, n in zip(box, patch, sizes, strict=True)
    )


def _pick(
    stack: ImageStack,
    index: Mapping[str, int | slice],
    spatial: str,
    channels: Sequence[int] | None,
) -> np.ndarray:
    """Pixels (C, *spatial) of the chosen channels."""
    raw = stack.read(index, "C" + spatial)
    return raw if channels is None else raw[list(channels)]
