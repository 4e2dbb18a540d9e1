"""Probabilities beside a result: of the same logits, in a file of their own."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from napari_unet.images.sinks import FileSink
from napari_unet.inference.finish import Pointwise
from napari_unet.tasks.task import probabilities, task_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    import torch

    from napari_unet.images.intensity import Scaling
    from napari_unet.images.sinks import Sink
    from napari_unet.inference.job import Job
    from napari_unet.inference.layout import Layout
    from napari_unet.inference.tiling import Range


class Probabilities:
    """Writes the probabilities of a run beside its result.

    They come from the same logits as the result, in whatever arithmetic these were
    computed, so that labels made of them are those of the run. What is written is what
    a run of its own with ``kind="probabilities"`` writes.

    Parameters
    ----------
    sink : Sink
        Takes float32, axes as the probabilities of a run have: frames, Z, C, Y, X.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._layout: Layout | None = None
        self._activation = "none"

    @property
    def hidden(self) -> tuple[Path, ...]:
        """Unfinished files, which a later run removes."""
        return self._sink.hidden if isinstance(self._sink, FileSink) else ()

    def open(self, job: Job, scaling: Scaling) -> None:
        """Make the file for a run.

        Raises
        ------
        UsageError
            If the network has no probabilities.
        OutputError
            If there is no space.
        """
        spec = job.network.spec
        task_of(spec).check("probabilities")
        self._activation, self._layout = spec.activation, job.layout
        wanted = job.config.model_copy(update={"kind": "probabilities"})
        alone = replace(job, config=wanted, finisher=Pointwise(spec, wanted))
        self._sink.open(alone.output(scaling))

    def values(self, logits: torch.Tensor) -> np.ndarray:
        """Probabilities (C, *spatial) float32 of the logits of a part."""
        found: np.ndarray = probabilities(logits, self._activation).cpu().numpy()
        return found

    def write(
        self, position: Mapping[str, int], write: Sequence[Range], values: np.ndarray
    ) -> None:
        """Take the probabilities (C, *spatial) of a part of a frame."""
        if self._layout is None:
            raise RuntimeError("write before open")
        self._sink.write(*self._layout.place(position, write, values))

    def close(self) -> None:
        """Make the file visible."""
        self._sink.close()

    def abort(self) -> None:
        """Leave nothing behind."""
        self._sink.abort()
