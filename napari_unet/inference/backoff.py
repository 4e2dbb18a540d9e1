"""Run tiles through a network; step back where the device's memory is too small."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from napari_unet.errors import DeviceError, ModelError
from napari_unet.inference import tiling
from napari_unet.networks import device as devices

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_unet.inference.pipeline import Piece
    from napari_unet.inference.plan import Plan
    from napari_unet.inference.tiling import Span
    from napari_unet.networks.network import Network


SHORT_BEFORE = "The device was short of memory before: smaller pieces from the start."


class Reduced(NamedTuple):
    """What a device had room for, once it had none for more.

    Attributes
    ----------
    batch : int
        Tiles per forward pass.
    tile : tuple of int, optional
        Largest output of a tile; that of the plan when not given.
    """

    batch: int
    tile: tuple[int, ...] | None


class Runner:
    """Gives the logits of tiles whatever the memory.

    When the device runs out of memory the batch is halved, then the tile where the
    network has exact tiles, and at last the network moves to the CPU. The result stays
    the same; the smaller size is kept for all that follows.

    Parameters
    ----------
    network : Network
        Placed on its device.
    plan : Plan
        The plan the tiles come from.
    batch : int
        Tiles per forward pass.
    spare : callable, optional
        Gives the same network on the CPU; None where `network` is there already.
    reduced : Reduced, optional
        What an earlier run with this plan came to.

    Attributes
    ----------
    batch : int
        Tiles per forward pass now.
    reduced : Reduced or None
        What the device has room for, None where the plan fits.
    """

    def __init__(
        self,
        network: Network,
        plan: Plan,
        batch: int = 1,
        spare: Callable[[], Network] | None = None,
        reduced: Reduced | None = None,
    ) -> None:
        self.batch = min(batch, reduced.batch) if reduced else batch
        self._tile: tuple[int, ...] | None = reduced.tile if reduced else None
        self.reduced = reduced
        self._notes = [] if reduced is None else [SHORT_BEFORE]
        self._finite = True
        self._network = network
        self._plan = plan
        self._spare = spare

    def __call__(
        self,
        pieces: Sequence[Piece],
        arrived: Callable[[], torch.Tensor] | None = None,
    ) -> list[torch.Tensor]:
        """Logits (C, *spatial) of what each tile writes; all tiles of one shape.

        Parameters
        ----------
        pieces : sequence of Piece
            The tiles.
        arrived : callable, optional
            Gives their pixels (N, C, *spatial) on the device, where they were copied
            there ahead.

        Raises
        ------
        ModelError
            If the network fails, or its output has another shape than it should.
        DeviceError
            If the memory is too small for the smallest tile.
        """
        if self._tile is not None and not _within(pieces[0].spans, self._tile):
            return [self._cut(piece, self._tile) for piece in pieces]
        logits = self._forward(pieces, arrived)
        if logits is None and len(pieces) > 1:
            return self._halve_batch(pieces)
        if logits is None:
            return [self._halve_tile(pieces[0])]
        return [_crop(part, p.spans) for part, p in zip(logits, pieces, strict=True)]

    @property
    def device(self) -> torch.device:
        """Where it computes now."""
        return self._network.device

    def take_notes(self) -> list[str]:
        """Return what the user should be told since the last call."""
        notes, self._notes = self._notes, []
        return notes + self._network.take_notes()

    def _forward(
        self, pieces: Sequence[Piece], arrived: Callable[[], torch.Tensor] | None
    ) -> torch.Tensor | None:
        """Logits (N, C, *spatial), or None where the memory is too small."""
        pixels = arrived() if arrived else _stacked(pieces)
        try:
            logits = self._network(pixels)
        except (RuntimeError, ValueError, MemoryError) as error:
            if not devices.is_out_of_memory(error):
                raise ModelError(
                    f"The network cannot work on a tile of {_size(pixels.shape[2:])}",
                    found=str(error).partition("\n")[0],
                ) from error
        else:
            self._check(logits, pieces)
            return logits
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return None

    def _check(self, logits: torch.Tensor, pieces: Sequence[Piece]) -> None:
        """Refuse an output of an unforeseen shape, tell of an unusable one."""
        lengths = [span.length for span in pieces[0].spans]
        expected = (len(pieces), self._network.spec.out_channels, *lengths)
        if tuple(logits.shape) != expected:
            raise ModelError(
                "The network's output has another shape than its description says",
                found=_size(logits.shape),
                expected=f"{_size(expected)} for an input of "
                + _size(pieces[0].pixels.shape[1:]),
            )
        if self._finite and not bool(torch.isfinite(logits).all()):
            self._finite = False
            self._notes.append("The network gives NaN or infinite values.")

    def _halve_batch(self, pieces: Sequence[Piece]) -> list[torch.Tensor]:
        """Run a batch in parts."""
        self.batch = half = max(1, len(pieces) // 2)
        self.reduced = Reduced(half, self._tile)
        self._notes.append(f"The device is short of memory: {half} tiles at a time.")
        done: list[torch.Tensor] = []
        while len(done) < len(pieces):
            done += self(pieces[len(done) : len(done) + self.batch])
        return done

    def _halve_tile(self, piece: Piece) -> torch.Tensor:
        """Run a tile in smaller ones, or on the CPU."""
        lengths = [span.length for span in piece.spans]
        smaller = self._smaller(lengths)
        if smaller is not None:
            self._tile = smaller
            self.reduced = Reduced(self.batch, smaller)
            self._notes.append(
                f"The device is short of memory: tiles of {_size(smaller)} pixels."
            )
            return self._cut(piece, smaller)
        if self._spare is None:
            raise DeviceError(
                "The memory is too small for a single tile of this network",
                found=f"tiles of {_size(lengths)} pixels",
                hint="Close other programs, or use --tiling blend with a small --tile.",
            )
        self._network, self._spare, self._tile = self._spare(), None, None
        self._notes.append("The device is out of memory: going on with the CPU.")
        return self([piece])[0]

    def _smaller(self, lengths: Sequence[int]) -> tuple[int, ...] | None:
        """Halve a tile along its longest axis that may be shorter.

        Not a blended patch, even of a network with exact tiles: its own borders show in
        its values.
        """
        if not self._plan.exact or self._plan.way == "blend":
            return None
        halves = [
            max(g.smallest, g.fit(n // 2))
            for g, n in zip(self._plan.grids, lengths, strict=True)
        ]
        gains = [n - h for n, h in zip(lengths, halves, strict=True)]
        if max(gains) <= 0:
            return None
        axis = gains.index(max(gains))
        return tuple(halves[axis] if i == axis else n for i, n in enumerate(lengths))

    def _cut(self, piece: Piece, tile: Sequence[int]) -> torch.Tensor:
        """Run a tile in exact tiles of at most `tile`; all it needs has been read."""
        axes = [
            tiling.exact_spans(grid, size, length, span.write)
            for grid, size, length, span in zip(
                self._plan.grids, self._plan.size, tile, piece.spans, strict=True
            )
        ]
        shape = [s.write[1] - s.write[0] for s in piece.spans]
        whole = torch.empty((self._network.spec.out_channels, *shape))
        for spans in itertools.product(*axes):
            pairs = list(zip(spans, piece.spans, strict=True))
            source = [_offset(part.read, all_.read) for part, all_ in pairs]
            pixels = piece.pixels[(slice(None), *source)]
            logits = self([replace(piece, spans=spans, pixels=pixels)])[0]
            place = [_offset(part.write, all_.write) for part, all_ in pairs]
            whole[(slice(None), *place)] = logits
        return whole


def _stacked(pieces: Sequence[Piece]) -> torch.Tensor:
    """Pixels of a batch, (N, C, *spatial)."""
    return torch.from_numpy(np.stack([piece.pixels for piece in pieces]))


def _within(spans: Sequence[Span], tile: Sequence[int]) -> bool:
    """Whether a tile is no longer than `tile` along any axis."""
    return all(s.length <= n for s, n in zip(spans, tile, strict=True))


def _crop(logits: torch.Tensor, spans: Sequence[Span]) -> torch.Tensor:
    """Keep what a tile writes."""
    return logits[(slice(None), *(span.crop for span in spans))]


def _offset(inner: tiling.Range, outer: tiling.Range) -> slice:
    """`inner` as seen from the start of `outer`."""
    return slice(inner[0] - outer[0], inner[1] - outer[0])


def _size(lengths: Sequence[int]) -> str:
    """Lengths in words."""
    return " x ".join(map(str, lengths))
