"""Measurements of labelled objects, gathered block by block, in physical units."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet import files
from napari_unet.batch.report import table
from napari_unet.images.blocks import blocks
from napari_unet.images.readers import open_image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_unet.config import PredictConfig
    from napari_unet.images.stack import ImageStack

_SPACE = "ZYX"


class Objects:
    """Sums over the pixels of each object.

    Size, centroid and bounding box are those of `skimage.measure.regionprops`
    (``area``, ``centroid``, ``bbox``, ``mean_intensity`` and so on), but nothing holds
    the whole image: memory grows with the number of objects only.

    Parameters
    ----------
    axes : int
        Number of spatial axes.
    channels : int
        Number of channels whose intensities are measured.
    """

    def __init__(self, axes: int, channels: int) -> None:
        self._axes = axes
        self._channels = channels
        self._rows: dict[int, _Sums] = {}

    def add(self, labels: np.ndarray, pixels: np.ndarray, origin: list[int]) -> None:
        """Take a block.

        Parameters
        ----------
        labels : numpy.ndarray of int, shape (*spatial)
            0 is no object.
        pixels : numpy.ndarray, shape (C, *spatial)
            Intensities.
        origin : list of int
            Where the block begins, by spatial axis.
        """
        inside = labels > 0
        ids, place = np.unique(labels[inside], return_inverse=True)
        if not len(ids):
            return
        new = _Sums.of(
            place,
            [c + o for c, o in zip(np.nonzero(inside), origin, strict=True)],
            [channel[inside].astype(np.float64) for channel in pixels],
        )
        for number, label in enumerate(ids.tolist()):
            row = new.row(number)
            known = self._rows.get(label)
            self._rows[label] = row if known is None else known.merged(row)

    def __iter__(self) -> Iterator[tuple[int, _Sums]]:
        return iter(sorted(self._rows.items()))


class _Sums:
    """Counts, sums and extremes of pixel places and intensities, an object a column."""

    def __init__(self, total: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
        self.total, self.low, self.high = total, low, high

    @classmethod
    def of(
        cls, place: np.ndarray, coordinates: list[Any], intensities: list[np.ndarray]
    ) -> _Sums:
        """Sum over the pixels whose object is numbered `place`."""
        count, values = int(place.max()) + 1, [*coordinates, *intensities]
        total: list[Any] = [np.bincount(place, minlength=count)]
        total += [np.bincount(place, weights=v, minlength=count) for v in values]
        low = np.full((len(values), count), np.inf)
        high = -low
        for row, value in enumerate(values):
            np.minimum.at(low[row], place, value)
            np.maximum.at(high[row], place, value)
        return cls(np.stack(total).astype(np.float64), low, high)

    def row(self, number: int) -> _Sums:
        """Take one object out."""
        parts = (self.total, self.low, self.high)
        return _Sums(*(part[:, number].copy() for part in parts))

    def merged(self, other: _Sums) -> _Sums:
        """Add the sums of another part of the same object."""
        low, high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)
        return _Sums(self.total + other.total, low, high)


def measure(source: Path, result: Path, target: Path, config: PredictConfig) -> None:
    """Measure the objects of a label image and write them as CSV.

    One line for each label in each frame. Sizes and centroids are in the units of the
    result's pixel sizes, and in pixels where it has none.

    Parameters
    ----------
    source : pathlib.Path
        The image, whose intensities are measured.
    result : pathlib.Path
        Labels without channels, of the image's size.
    target : pathlib.Path
        The table.
    config : PredictConfig
        How the image was read.

    Raises
    ------
    ImageError
        If one of the two cannot be read.
    OutputError
        If the table cannot be written.
    """
    opened = open_image(source, axes=config.axes, series=config.series)
    with opened as image, open_image(result) as labels:
        measure_stacks(image, labels, target)


def measure_stacks(image: ImageStack, labels: ImageStack, target: Path) -> None:
    """Measure the objects of an open label image, as `measure` does."""
    files.write(target, table(_rows(image, labels)))


def _rows(image: ImageStack, labels: ImageStack) -> Iterator[list[Any]]:
    """Lines of the table, the head first."""
    looped = [a for a in labels.axes if a not in _SPACE]
    space = [a for a in labels.axes if a in _SPACE]
    names = image.channel_names or tuple(map(str, range(image.channels)))
    yield _head(looped, space, names if image.channels > 1 else ("",))
    for place, objects in sorted(_frames(image, labels, looped, space).items()):
        for label, sums in objects:
            yield [*place, label, *_line(sums, space, labels)]


def _frames(
    image: ImageStack, labels: ImageStack, looped: list[str], space: list[str]
) -> dict[tuple[int, ...], Objects]:
    """Sum up each frame."""
    frames: dict[tuple[int, ...], Objects] = {}
    for region in blocks(labels):
        block = labels.read(region, "".join([*looped, *space]))
        if block.dtype.kind == "f":  # ids as ImageJ stores them
            block = block.astype(np.uint32)
        pixels = image.read(region, "".join(["C", *looped, *space]))
        starts = [region[axis].start for axis in looped]
        for offset in np.ndindex(*block.shape[: len(looped)]):
            place = tuple(int(s + o) for s, o in zip(starts, offset, strict=True))
            objects = frames.setdefault(place, Objects(len(space), len(pixels)))
            origin = [region[axis].start for axis in space]
            objects.add(block[offset], pixels[(slice(None), *offset)], origin)
    return frames


def _head(looped: list[str], space: list[str], names: tuple[str, ...]) -> list[str]:
    """Names of the columns."""
    kinds = [f"{kind}_intensity" for kind in ("mean", "min", "max")]
    return [
        *(axis.lower() for axis in looped),
        "label",
        "pixels",
        "area" if len(space) == 2 else "volume",
        "equivalent_diameter",
        "unit",
        *(f"centroid_{axis.lower()}" for axis in space),
        *(f"first_{axis.lower()}" for axis in space),
        *(f"last_{axis.lower()}" for axis in space),
        *(f"{kind}_{name}" if name else kind for name in names for kind in kinds),
    ]


def _line(sums: _Sums, space: list[str], labels: ImageStack) -> list[Any]:
    """Measurements of one object."""
    count, rank = float(sums.total[0]), len(space)
    sizes, unit = _pixel(labels, space)
    size = count * math.prod(sizes)
    means = sums.total[1:] / count
    ball = 4 * size / math.pi if rank == 2 else 6 * size / math.pi
    intensities = zip(means[rank:], sums.low[rank:], sums.high[rank:], strict=True)
    return [
        int(count),
        _short(size),
        _short(ball ** (1 / rank)),
        unit,
        *(_short(m * s) for m, s in zip(means[:rank], sizes, strict=True)),
        *(int(n) for n in sums.low[:rank]),
        *(int(n) for n in sums.high[:rank]),
        *(_short(value) for three in intensities for value in three),
    ]


def _pixel(labels: ImageStack, space: list[str]) -> tuple[list[float], str]:
    """Size of a pixel and its unit; 1 pixel where not all axes agree in one unit."""
    units = {labels.units.get(axis, "") for axis in space}
    if not set(space) <= set(labels.scale) or len(units) > 1 or units == {""}:
        return [1.0] * len(space), "pixel"
    return [labels.scale[axis] for axis in space], units.pop()


def _short(value: float) -> str:
    """Write a number with no more digits than mean something."""
    return f"{value:.9g}"
