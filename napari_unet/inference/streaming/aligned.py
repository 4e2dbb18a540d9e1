"""Linear up-sampling whose places depend on the length of the frame.

With ``align_corners=True`` the end pixels of both sizes lie on each other, so a piece
cannot be enlarged by itself: its rows lie elsewhere in the frame than in the piece.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


def across(rows: Tensor, factors: Sequence[int], axis: int) -> Tensor:
    """Enlarge all axes but the one that rows are stacked along.

    Parameters
    ----------
    rows : torch.Tensor
        (N, C, *spatial), whole rows.
    factors : sequence of int
        Enlargement of each spatial axis.
    axis : int
        Number of the spatial axis that stays.
    """
    sizes = [
        n if number == axis else n * factor
        for number, (n, factor) in enumerate(zip(rows.shape[2:], factors, strict=True))
    ]
    mode = "bilinear" if rows.ndim == 4 else "trilinear"
    return F.interpolate(rows, sizes, mode=mode, align_corners=True)


def along(
    rows: Tensor, dim: int, first: int, wanted: range, lengths: tuple[int, int]
) -> Tensor:
    """Interpolate between rows.

    Parameters
    ----------
    rows : torch.Tensor
        (N, C, *spatial), from row `first` of the frame on.
    dim : int
        Dimension along which they are stacked.
    first : int
        Number of the first of them.
    wanted : range
        Rows of the enlarged frame.
    lengths : tuple of int
        Rows of the frame, and of the enlarged one.
    """
    inputs, outputs = lengths
    count = torch.arange(wanted.start, wanted.stop, dtype=torch.float64)
    places = count * (inputs - 1) / max(outputs - 1, 1)
    low = places.floor().long().clamp(max=inputs - 1)
    high = (low + 1).clamp(max=inputs - 1)
    shape = [-1 if d == dim else 1 for d in range(rows.ndim)]
    share = (places - low).to(rows.device, rows.dtype).view(shape)
    below, above = (
        rows.index_select(dim, (n - first).to(rows.device)) for n in (low, high)
    )
    return below + (above - below) * share
