"""Sinks: where the finished parts of a result go."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class OutputSpec:
    """What a result will look like, known before its first pixel.

    Attributes
    ----------
    axes : str
        Axes of the result. Always ordered as frames (T and others), Z, C, Y, X, so that
        pages leave for the disk in order.
    shape : tuple of int
        Size of each axis.
    dtype : numpy.dtype
        Type of the pixels.
    kind : {"labels", "image"}
        Whether the numbers are ids or intensities.
    scale, units : mapping
        Physical pixel size by axis, as in `ImageStack`.
    channel_names : tuple of str
        Names along C, empty where there is no C.
    name : str
        Short name.
    provenance : mapping
        JSON-able record of how the result was made: model digest, settings, version.
    """

    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    kind: Literal["labels", "image"] = "labels"
    scale: Mapping[str, float] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    channel_names: tuple[str, ...] = ()
    name: str = "result"
    provenance: Mapping[str, Any] = field(default_factory=dict)


class Sink(Protocol):
    """Takes the finished parts of one result.

    The engine calls `open` once, `write` for regions that never overlap and that finish
    frame by frame (regions of frame n+1 come after all of frame n), then `close`, or
    `abort` if anything failed. Nothing stands under its final name before `close`.
    """

    def open(self, spec: OutputSpec) -> None:
        """Get ready for a result of this shape."""
        ...

    def write(self, region: tuple[slice, ...], block: np.ndarray) -> None:
        """Take the values of `region`, one slice per axis of the result."""
        ...

    def close(self) -> Any:
        """Make the result visible and return it: the array, or the path as str."""
        ...

    def abort(self) -> None:
        """Leave nothing behind."""
        ...


class ArraySink:
    """Gathers a result in memory, or in an array that is handed in.

    Parameters
    ----------
    array : numpy.ndarray, optional
        Written into, such as a memory-mapped file; made anew when not given.
    """

    def __init__(self, array: np.ndarray | None = None) -> None:
        self._array = array

    def open(self, spec: OutputSpec) -> None:
        """Make the array, or check the one that was handed in."""
        if self._array is None:
            self._array = np.zeros(spec.shape, spec.dtype)
        elif self._array.shape != spec.shape:
            raise ValueError(f"array of shape {self._array.shape}, need {spec.shape}")

    def write(self, region: tuple[slice, ...], block: np.ndarray) -> None:
        """Copy a block into the array."""
        if self._array is None:
            raise RuntimeError("write before open")
        self._array[region] = block

    def close(self) -> np.ndarray:
        """Return the array."""
        if self._array is None:
            raise RuntimeError("close before open")
        return self._array

    def abort(self) -> None:
        """Let go of the array."""
        self._array = None
