"""Flips and rotations of an image, and the way back for ranges and logits."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from napari_unet.images.views import Flipped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_unet.config import Averaging
    from napari_unet.images.stack import ImageStack
    from napari_unet.inference.tiling import Range

_SWAP = str.maketrans("YX", "XY")


@dataclass(frozen=True)
class Turn:
    """One of the flips and rotations of a frame: Y and X change places, then flips.

    Attributes
    ----------
    flipped : str
        Axes that are reversed, by their names in the turned frame.
    swapped : bool
        Whether Y and X change places.
    """

    flipped: str = ""
    swapped: bool = False

    def stack(self, stack: ImageStack) -> ImageStack:
        """Return a lazy view of the turned image."""
        axes = stack.axes.translate(_SWAP) if self.swapped else stack.axes
        if not self.flipped:
            return replace(stack, axes=axes)
        numbers = [axes.index(a) for a in self.flipped]
        return replace(stack, axes=axes, array=Flipped(stack.array, numbers))

    def size(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Return the size of a frame after the turn."""
        return (*size[:-2], *size[:-3:-1]) if self.swapped else size

    def box(self, box: Sequence[Range], size: tuple[int, ...]) -> tuple[Range, ...]:
        """Return where a part of a frame of `size` lies after the turn."""
        ranges = (*box[:-2], *box[:-3:-1]) if self.swapped else tuple(box)
        return self._mirrored(ranges, self.size(size))

    def box_back(
        self, box: Sequence[Range], size: tuple[int, ...]
    ) -> tuple[Range, ...]:
        """Return where a part of the turned frame lies in the frame of `size`."""
        ranges = self._mirrored(box, self.size(size))
        return (*ranges[:-2], *ranges[:-3:-1]) if self.swapped else ranges

    def logits_back(self, logits: torch.Tensor, has_flows: bool) -> torch.Tensor:
        """Turn logits back.

        Parameters
        ----------
        logits : torch.Tensor
            (C, *spatial) of the turned frame.
        has_flows : bool
            Whether channels 0 and 1 are the parts of a vector along Y and X: they turn
            with the frame.
        """
        names = "ZYX"[1 - logits.ndim :]
        if has_flows:
            signs = [-1.0 if a in self.flipped else 1.0 for a in "YX"]
            signs += [1.0] * (len(logits) - 2)
            shape = (-1, *[1] * (logits.ndim - 1))
            logits = logits * torch.tensor(signs, device=logits.device).view(shape)
            if self.swapped:
                logits = torch.cat([logits[[1, 0]], logits[2:]])
        logits = logits.flip([1 + names.index(a) for a in self.flipped])
        return logits.transpose(-1, -2) if self.swapped else logits

    def _mirrored(
        self, box: Sequence[Range], size: tuple[int, ...]
    ) -> tuple[Range, ...]:
        names = "ZYX"[-len(size) :]
        return tuple(
            (n - b, n - a) if name in self.flipped else (a, b)
            for name, n, (a, b) in zip(names, size, box, strict=True)
        )


def turns(kind: Averaging, spatial: str) -> tuple[Turn, ...]:
    """Return all turns of a frame over which logits are averaged; the first is none.

    All axes are flipped, as nnU-Net does; Z is never turned into Y or X, since stacks
    are rarely as fine along Z.

    Parameters
    ----------
    kind : {"none", "flips", "rotations"}
        The setting.
    spatial : str
        ``"YX"`` or ``"ZYX"``.
    """
    if kind == "none":
        return (Turn(),)
    flips = [
        "".join(some)
        for n in range(len(spatial) + 1)
        for some in itertools.combinations(spatial, n)
    ]
    swaps = (False, True) if kind == "rotations" else (False,)
    return tuple(Turn(some, swapped) for swapped in swaps for some in flips)


def words(kind: Averaging, spatial: str) -> str:
    """Tell in words over what is averaged."""
    how = "flips" if kind == "flips" else "flips and rotations"
    return f"averaged over {len(turns(kind, spatial))} {how}"
