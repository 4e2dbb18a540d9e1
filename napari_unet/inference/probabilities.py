"""Probabilities kept beside a result, to make other results of without the network."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.images.npy_sink import GrowingSink
from napari_unet.tasks.task import probabilities

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import torch

    from napari_unet.images.intensity import Scaling
    from napari_unet.inference.job import Job
    from napari_unet.inference.layout import Layout
    from napari_unet.inference.tiling import Range


class Probabilities:
    """Writes the probabilities of a run to a .npy file, beside its result.

    They come from the same logits as the result, in whatever arithmetic these were
    computed, so that labels made of them are those of the run.

    Parameters
    ----------
    path : path-like
        float32, axes as the probabilities of a run have: frames, Z, C, Y, X. Appears
        when the run begins.
    """

    def __init__(self, path: str | Path) -> None:
        self._sink = GrowingSink(path)
        self._layout: Layout | None = None
        self._activation = "none"

    def open(self, job: Job, scaling: Scaling) -> None:
        """Make the file for a run; raises `OutputError` where there is no space."""
        channels, layout = job.network.spec.out_channels, job.layout
        self._activation, self._layout = job.network.spec.activation, layout
        spec = replace(
            job.output(scaling),
            axes=layout.axes(True),
            shape=layout.shape(channels),
            dtype=np.dtype(np.float32),
        )
        self._sink.open(spec)

    def add(
        self, position: Mapping[str, int], write: Sequence[Range], logits: torch.Tensor
    ) -> None:
        """Take the logits (C, *spatial) of a part of a frame; nothing before `open`."""
        if self._layout is None:
            return
        values = probabilities(logits, self._activation).cpu().numpy()
        self._sink.write(*self._layout.place(position, write, values))
