"""Sinks: where the finished parts of a result go."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np

from napari_unet.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Mapping

_TIFF = (".ome.tif", ".ome.tiff", ".tif", ".tiff", ".imagej.tif")
SUFFIXES = (*_TIFF, ".ome.zarr", ".zarr", ".npy")


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
    classes : mapping of int to str
        Name by class id, "" where it is unknown; empty where ids number objects.
    window : tuple of float, optional
        Darkest and brightest value to be shown at first; not given where unknown.
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
    classes: Mapping[int, str] = field(default_factory=dict)
    window: tuple[float, float] | None = None
    name: str = "result"
    provenance: Mapping[str, Any] = field(default_factory=dict)


class Writer(Protocol):
    """Takes finished parts of a result."""

    def write(self, region: tuple[slice, ...], block: np.ndarray) -> None:
        """Take the values of `region`, one slice per axis of the result."""
        ...


class Sink(Writer, Protocol):
    """Takes the finished parts of one result.

    The engine calls `open` once, `write` for regions that never overlap and that finish
    frame by frame (regions of frame n+1 come after all of frame n), then `close`, or
    `abort` if anything failed. Nothing stands under its final name before `close`.
    """

    def open(self, spec: OutputSpec) -> None:
        """Get ready for a result of this shape."""
        ...

    def close(self) -> Any:
        """Make the result visible and return it: the array, or the path as str."""
        ...

    def abort(self) -> None:
        """Leave nothing behind."""
        ...


@runtime_checkable
class FileSink(Sink, Protocol):
    """A sink that writes a file or a folder."""

    @property
    def path(self) -> Path:
        """Where the result appears when it is complete."""
        ...

    @property
    def hidden(self) -> tuple[Path, ...]:
        """What stands beside it until then; empty before `open`."""
        ...


def sink_for(path: str | Path) -> Sink:
    """Choose the sink that writes a path, by its ending.

    Parameters
    ----------
    path : path-like
        Ending in one of `SUFFIXES`; a TIFF file is written as OME-TIFF, unless it ends
        in ``.imagej.tif``: that is an ImageJ hyperstack.

    Raises
    ------
    OutputError
        If the ending is another one, or zarr is needed and not installed.
    """
    name = Path(path).name.lower()
    if name.endswith(".imagej.tif"):
        from napari_unet.images.imagej_sink import ImageJSink

        return ImageJSink(path)
    if name.endswith((".tif", ".tiff")):
        from napari_unet.images.tiff_sink import TiffSink

        return TiffSink(path)
    if name.endswith(".zarr"):
        _need_zarr(name)
        from napari_unet.images.zarr_sink import ZarrSink

        return ZarrSink(path)
    if name.endswith(".npy"):
        from napari_unet.images.npy_sink import NpySink

        return NpySink(path)
    raise OutputError(
        f"{Path(path).name} cannot be written",
        found=f"the ending {Path(path).suffix!r}",
        expected="one of " + ", ".join(SUFFIXES),
    )


def label_dtype(largest: int) -> np.dtype[Any]:
    """Smallest unsigned type that holds the ids 0 to `largest`.

    Raises
    ------
    OutputError
        If `largest` is negative or needs more than 32 bits.
    """
    for name in ("uint8", "uint16", "uint32"):
        if 0 <= largest <= np.iinfo(name).max:
            return np.dtype(name)
    raise OutputError(
        "The labels cannot be stored",
        found=f"a largest id of {largest}",
        expected="ids from 0 to 4,294,967,295",
    )


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
        elif self._array.shape != spec.shape or not np.can_cast(
            spec.dtype, self._array.dtype
        ):
            raise OutputError(
                "The array cannot take the result",
                found=f"shape {self._array.shape}, dtype {self._array.dtype}",
                expected=f"shape {spec.shape}, dtype {spec.dtype}",
            )

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


def _need_zarr(name: str) -> None:
    """Refuse to write zarr without zarr."""
    if find_spec("zarr") is None:
        raise OutputError(
            f"{name} cannot be written, since zarr is not installed",
            hint="Install it with: pip install 'unet-napari[zarr]'",
        )
