"""Decide how a frame is cut: whole, exact halo tiles, or blended patches; and why."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, TypeVar

from napari_unet.errors import UsageError
from napari_unet.inference import tiling
from napari_unet.inference.cuts import Cut

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from napari_unet.config import PredictConfig
    from napari_unet.inference.tiling import Grid, Range, Span
    from napari_unet.networks.receptive_field import Geometry

T = TypeVar("T")
Way = Literal["whole", "stream", "exact", "blend"]

PATCH = {2: (512, 512), 3: (64, 128, 128)}
"""Patch sizes of blended inference where the user says nothing else. They do not depend
on the memory, because the result depends on them."""
OVERLAP = 0.25
"""Share of a patch that overlaps the next where the user says nothing else: it halves
what a shift of the patches changes for 1.8 times the work in 2D, and 0.5 takes 2.3
times that again for another fifth off, see docs/benchmarks.md."""


@dataclass(frozen=True, slots=True)
class RowCost:
    """What it takes to stream a network along the first spatial axis.

    Attributes
    ----------
    held : float
        Bytes per pixel of a row for all that waits for later rows.
    moving : float
        Bytes per pixel of a row for each row that goes through the layers at a time.
    chunk : int
        Rows at a time from which on more gain nothing.
    """

    held: float
    moving: float
    chunk: int


@dataclass(frozen=True, slots=True)
class Memory:
    """What a forward pass may and does cost.

    Attributes
    ----------
    budget : int
        Bytes one forward pass may take.
    per_pixel : float
        Bytes it takes per input pixel, see `napari_unet.inference.footprint`.
    comfort : int, optional
        Bytes up to which a frame is best computed at once; the budget when not given.
    rows : callable, optional
        Gives what streaming costs, or None where the network cannot be streamed. Only
        called when a frame is above `comfort`.
    """

    budget: int
    per_pixel: float
    comfort: int | None = None
    rows: Callable[[], RowCost | None] = lambda: None

    @property
    def comfortable(self) -> int:
        """Bytes up to which a frame is best computed at once."""
        return self.budget if self.comfort is None else self.comfort

    def cost(self, lengths: Sequence[int]) -> int:
        """Bytes of a forward pass over an input of these lengths."""
        return int(self.per_pixel * math.prod(lengths))


@dataclass(frozen=True)
class Plan:
    """How each frame is computed.

    Attributes
    ----------
    way : {"whole", "stream", "exact", "blend"}
        One pass; rows after rows; tiles with a halo; overlapping patches.
    reason : str
        Why, in words.
    spans : tuple of tuple of Span
        The tiles along each spatial axis; a frame has their product.
    grids : tuple of Grid
        What the network asks of tiles, per spatial axis.
    size : tuple of int
        Size of a whole frame.
    exact : bool
        Whether pieces may be cut further without changing the result.
    peak : int
        Estimated bytes of one forward pass.
    chunk : int
        Stream only: rows that go through the layers at a time.
    windows : tuple of tuple of numpy.ndarray
        Blend only: the weights that belong to `spans`.
    order : tuple of int
        Numbers of tiles or strips in the order in which they are computed; the first
        axis slowest where it is empty.
    begin : int, optional
        Stream only: row with which each strip begins; those before come at last.
    """

    way: Way
    reason: str
    spans: tuple[tuple[Span, ...], ...]
    grids: tuple[Grid, ...]
    size: tuple[int, ...]
    exact: bool
    peak: int
    chunk: int = 0
    windows: tuple[tuple[np.ndarray, ...], ...] = field(
        default=(), compare=False, repr=False
    )
    order: tuple[int, ...] = ()
    begin: int | None = None

    @property
    def tile(self) -> tuple[int, ...]:
        """Size of the network's output for one tile."""
        return tuple(spans[0].length for spans in self.spans)

    @property
    def pieces(self) -> int:
        """Tiles per frame, or pieces of rows."""
        tiles = math.prod(len(spans) for spans in self.spans)
        if self.way != "stream":
            return tiles
        return tiles * len(tiling.pieces(*self.spans[0][0].read, self.chunk))

    @property
    def ratio(self) -> float:
        """Pixels sent through the network per pixel of the result."""
        wanted = (s[-1].write[1] - s[0].write[0] for s in self.spans)
        return tiling.forwarded(self.spans) / math.prod(wanted)

    def indices(self) -> list[tuple[int, ...]]:
        """Position of each tile in `spans`, in the order in which they are computed."""
        axes = (range(len(spans)) for spans in self.spans)
        return self._in_order(list(itertools.product(*axes)))

    def boxes(self) -> list[tuple[Range, ...]]:
        """Return what each tile or strip writes, in order; patches do it together."""
        if self.way == "blend":
            return [tuple((s[0].write[0], s[-1].write[1]) for s in self.spans)]
        writes = ([span.write for span in spans] for spans in self.spans)
        boxes = self._in_order(list(itertools.product(*writes)))
        if self.begin is None:
            return boxes
        rest = [((self.begin, stop), *others) for (_, stop), *others in boxes]
        start = [((first, self.begin), *others) for (first, _), *others in boxes]
        return [box for box in (*rest, *start) if box[0][0] < box[0][1]]

    def _in_order(self, tiles: list[T]) -> list[T]:
        """Reorder tiles or strips of which the first axis is slowest."""
        return [tiles[number] for number in self.order] if self.order else tiles

    def describe(self) -> str:
        """Tell the plan in one sentence without its full stop."""
        tile = " x ".join(map(str, self.tile))
        if self.way == "whole":
            return f"whole frames of {tile} pixels: {self.reason}"
        if self.way == "stream":
            strips = math.prod(len(spans) for spans in self.spans[1:])
            tile = " x ".join(map(str, (self.chunk, *self.tile[1:])))
            return (
                f"streamed, {self.pieces} pieces of {tile} pixels in {strips} "
                f"strip{'s' * (strips > 1)}, {self.ratio:.2f} pixels computed per "
                f"pixel: {self.reason}"
            )
        kind = "exact tile" if self.way == "exact" else "blended patch"
        many = "" if self.pieces == 1 else "s" if self.way == "exact" else "es"
        return (
            f"{self.pieces} {kind}{many} of {tile} pixels a frame, "
            f"{self.ratio:.2f} pixels computed per pixel: {self.reason}"
        )


def plan(
    size: tuple[int, ...],
    geometry: Geometry,
    config: PredictConfig,
    memory: Memory,
    target: tuple[Range, ...] | None = None,
) -> Plan:
    """Decide how frames of `size` pixels are computed.

    Parameters
    ----------
    size : tuple of int
        Size of a whole frame, Y X or Z Y X.
    geometry : Geometry
        Receptive field and strides of the network.
    config : PredictConfig
        `tiling`, `tile`, `overlap` and `window` are looked at.
    memory : Memory
        Decides whether a frame fits, and the tile size.
    target : tuple of tuple of int, optional
        Wanted part of a frame; its values will be those of the whole frame.

    Raises
    ------
    UsageError
        If exact tiles are asked of a network that has none, or the tile size has the
        wrong number of axes.
    """
    cut = Cut(_grids(geometry, size), size, target or tuple((0, n) for n in size))
    tile = _user_tile(config.tile, len(size))
    way, reason = _choose(config, geometry, cut, memory)
    windows: tuple[tuple[np.ndarray, ...], ...] = ()
    if way == "stream":
        streamed = cut.stream(memory, geometry.exact)
        if streamed is not None:
            spans, peak, chunk = streamed
            exact = geometry.exact
            return Plan(way, reason, spans, cut.grids, size, exact, peak, chunk)
        way, reason = _without_stream(config, geometry)
    if way == "whole":
        spans = cut.whole()
    elif way == "exact":
        tile, raised = (cut.largest(memory), "") if tile is None else cut.raised(tile)
        spans, reason = cut.exact(tile), reason + raised
    else:
        patch = tile or PATCH[len(size)]
        spans, windows = cut.blend(patch, overlap(config), config.window)
    peak = memory.cost([s[0].read[1] - s[0].read[0] for s in spans])
    exact = geometry.exact
    return Plan(way, reason, spans, cut.grids, size, exact, peak, windows=windows)


def overlap(config: PredictConfig) -> float:
    """Share of a patch that overlaps the next one."""
    return OVERLAP if config.overlap is None else config.overlap


def _choose(
    config: PredictConfig, geometry: Geometry, cut: Cut, memory: Memory
) -> tuple[Way, str]:
    """Choose the way and say why."""
    if config.tiling == "blend":
        return "blend", "as asked"
    if config.tiling in ("exact", "stream"):
        can = geometry.exact or (config.tiling == "stream" and geometry.streams)
        if can:
            return config.tiling, "as asked, equal to the whole frame at every pixel"
        raise UsageError(
            "This network has no exact tiles",
            found=geometry.reason,
            hint="Use --tiling blend, or --tiling whole where the memory allows it.",
        )
    if config.tiling == "whole" and not (geometry.exact and cut.partial):
        return "whole", "as asked"
    if geometry.exact:
        return _choose_exact(config, cut, memory)
    limit = memory.comfortable if geometry.streams else memory.budget
    if config.tile is None and memory.cost(cut.inputs()) <= limit:
        return "whole", "a frame fits into memory"
    if config.tile is None and geometry.streams and memory.rows() is not None:
        return "stream", "equal to the whole frame at every pixel"
    return "blend", f"exact tiles are not possible, {geometry.reason}"


def _without_stream(config: PredictConfig, geometry: Geometry) -> tuple[Way, str]:
    """Choose another way where streaming was chosen and cannot be done."""
    if config.tiling == "stream":
        raise UsageError(
            "This frame cannot be streamed",
            found="rows that are too long for the memory, or a layer that needs more "
            "than some rows",
            hint="Use --tiling auto.",
        )
    if geometry.exact:
        return "exact", "equal to the whole frame at every pixel"
    return "blend", f"the memory is too small to stream it; {geometry.reason}"


def _choose_exact(config: PredictConfig, cut: Cut, memory: Memory) -> tuple[Way, str]:
    """Choose between the ways that all give the whole frame's values."""
    fits = memory.cost(cut.extents()) <= memory.comfortable
    reason = "equal to the whole frame"
    if cut.partial:
        reason += ", of which only a part is wanted"
        return ("exact" if fits or config.tile else "stream"), reason
    if config.tile is not None:
        return "exact", f"{reason} at every pixel"
    if fits:
        return "whole", "a frame fits into memory"
    return ("exact" if config.gpus > 1 else "stream"), f"{reason} at every pixel"


def _grids(geometry: Geometry, size: tuple[int, ...]) -> tuple[Grid, ...]:
    """Return the axes; statistics of an image need two pixels in the deepest level."""
    axes = tiling.grids(geometry)
    single = all(g.fit(n) <= g.stride for g, n in zip(axes, size, strict=True))
    if geometry.exact or not single or any(geometry.margin):
        return axes
    return (*axes[:-1], replace(axes[-1], stride=2 * axes[-1].stride))


def _user_tile(tile: tuple[int, ...] | None, ndim: int) -> tuple[int, ...] | None:
    """Return the tile size asked for, one number per axis."""
    if tile is None or len(tile) == ndim:
        return tile
    if len(tile) == 1:
        return tile * ndim
    raise UsageError(
        "The tile size cannot be used",
        found=" x ".join(map(str, tile)),
        expected=f"one number, or {ndim} for this {ndim}D network",
    )
