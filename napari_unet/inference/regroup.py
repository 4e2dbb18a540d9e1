"""Objects out of kept probabilities: another threshold or split, and no network."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage
from skimage.morphology import h_maxima
from skimage.segmentation import watershed

from napari_unet.errors import UsageError
from napari_unet.events import Cancelled, Finished, Progress, Started
from napari_unet.images.npy_sink import GrowingSink
from napari_unet.images.sinks import OutputSpec
from napari_unet.inference.objects import SLAB, Slabs
from napari_unet.tasks.decisions import Decision
from napari_unet.tasks.task import task_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_unet.events import CancelToken, Event
    from napari_unet.networks.spec import ModelSpec
    from napari_unet.tasks.task import Separator

_NARROWEST = 2.0
"""Pixels a neck must be narrower than the bodies on both sides, as a radius."""


def regroup(
    probabilities: str | Path,
    spec: ModelSpec,
    output: str | Path,
    threshold: float,
    *,
    split: bool = False,
    cancel: CancelToken | None = None,
) -> Iterator[Event]:
    """Find the objects of kept probabilities anew, slab by slab.

    Without `split` they are those of a run with that threshold, their numbers too where
    that run finds them in the same order.

    Parameters
    ----------
    probabilities : path-like
        As `napari_unet.inference.probabilities.Probabilities` writes them.
    spec : ModelSpec
        Of the network that made them.
    output : path-like
        uint32 .npy file, written over; without the axis C.
    threshold : float
        Probability from which a pixel is foreground.
    split : bool
        Whether to part objects that touch, see `Splitting`.
    cancel : CancelToken, optional
        Checked between slabs.

    Yields
    ------
    Event
        `Started`, `Progress`, and `Finished` with the number of objects, or
        `Cancelled`.

    Raises
    ------
    UsageError
        If such a network gives no probabilities that objects can be found in.
    """
    values = np.load(probabilities, mmap_mode="r")
    decision = Decision.of(spec.task, spec.activation, spec.out_channels)
    if decision is None:
        raise UsageError(
            f"The outputs of {spec.name} are no probabilities of classes",
            found=f"task {spec.task}",
            expected="semantic or instances",
        )
    task: Separator = Splitting(task_of(spec)) if split else task_of(spec)
    frames = np.moveaxis(values, -3, -1 - spec.ndim)
    looped = frames.shape[: frames.ndim - spec.ndim - 1]
    sink = GrowingSink(output)
    shape = tuple(n for i, n in enumerate(values.shape) if i != values.ndim - 3)
    sink.open(OutputSpec("", shape, np.dtype(np.uint32)))
    yield Started("Finding objects")
    count, total = 0, max(1, int(np.prod(looped)))
    for number, place in enumerate(np.ndindex(*looped)):
        frame, length = frames[place], frames.shape[len(looped) + 1]
        slabs = Slabs(task, threshold, length, count)
        for start, stop in itertools.pairwise(_steps(frame)):
            if cancel is not None and cancel.is_set():
                yield Cancelled("objects are not complete")
                return
            evidence = decision.evidence(np.asarray(frame[:, start:stop]), threshold)
            for row, numbers in slabs.add(evidence):
                sink.write((*place, slice(row, row + len(numbers))), numbers)
            yield Progress(number + stop / length, total, "objects")
        count = slabs.count
    sink.close()
    yield Finished(count)


class Splitting:
    """A task whose objects are parted where they are narrow.

    Each object is flooded from the places that are farthest from its border; two such
    places are one where the way between them is nowhere much narrower (the distance
    transform watershed with h-maxima; Soille, Morphological Image Analysis, 2004).

    Parameters
    ----------
    task : Separator
        Finds the objects.
    """

    falls_apart = True

    def __init__(self, task: Separator) -> None:
        self._task = task
        self.foreground = task.foreground

    def separate(self, evidence: np.ndarray, threshold: float) -> np.ndarray:
        """Object numbers 1, 2 ... (*spatial), int32."""
        return split(self._task.separate(evidence, threshold))


def split(objects: np.ndarray) -> np.ndarray:
    """Part objects at their necks.

    Parameters
    ----------
    objects : numpy.ndarray
        (*spatial) int, 0 is none.

    Returns
    -------
    numpy.ndarray
        int32, numbered anew without gaps; the same foreground.
    """
    found = np.zeros(objects.shape, np.int32)
    last = 0
    for number, window in enumerate(ndimage.find_objects(objects), 1):
        if window is None:
            continue
        mask = objects[window] == number
        parts = _parts(mask)
        found[window][mask] = parts[mask] + last
        last += int(parts.max())
    return found


def _parts(mask: np.ndarray) -> np.ndarray:
    """Return the parts of one object, numbered from 1."""
    distance = ndimage.distance_transform_edt(np.pad(mask, 1))
    smooth = ndimage.gaussian_filter(distance, 1.0)
    depth = max(_NARROWEST / 2, 0.1 * float(smooth.max()))
    seeds, count = ndimage.label(h_maxima(smooth, depth), np.ones((3,) * mask.ndim))
    inner = (slice(1, -1),) * mask.ndim
    if count < 2:
        return mask.astype(np.int32)
    flooded: np.ndarray = watershed(-smooth, seeds, mask=np.pad(mask, 1))[inner]
    missed = mask & (flooded == 0)
    flooded[missed] = 1
    return flooded


def _steps(frame: np.ndarray) -> list[int]:
    """First rows of slabs of some megapixels, and the end."""
    rows = max(1, SLAB // max(1, int(np.prod(frame.shape[2:]))))
    return [*range(0, frame.shape[1], rows), frame.shape[1]]
