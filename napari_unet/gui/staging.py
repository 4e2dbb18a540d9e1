"""Copies a layer's pixels to a file that the computing process can map."""

from __future__ import annotations

import contextlib
import math
import shutil
import threading
import uuid
import weakref
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from napari_unet.events import CancelToken
    from napari_unet.images.source import ImageSource
    from napari_unet.images.stack import ImageStack

_BLOCK = 32 << 20
_LOOKED_AT = 64 << 20


class StagingStopped(Exception):
    """Raised when a copy was cancelled."""


@dataclass(frozen=True)
class Pixels:
    """The pixels of a layer and what they mean, taken on the main thread.

    Attributes
    ----------
    data : array-like
        numpy, memmap, dask or zarr array, shape in the order of `axes`.
    axes : str
        One capital letter an axis.
    scale, units : mapping
        Physical pixel size by axis.
    name : str
        Name of the layer.
    """

    data: Any = field(repr=False)
    axes: str
    scale: Mapping[str, float]
    units: Mapping[str, str]
    name: str

    def blank(self) -> ImageStack:
        """Make an image of the same kind to stand for them where nothing is read."""
        from napari_unet.images.blank import Blank
        from napari_unet.images.stack import ImageStack

        shape = tuple(int(n) for n in self.data.shape)
        zeros = Blank(shape, np.dtype(self.data.dtype))
        return ImageStack(zeros, self.axes, self.scale, self.units, self.name)


class Staging:
    """Files of pixels in a private folder, one for each array, made when needed.

    Parameters
    ----------
    folder : pathlib.Path
        Where the files lie.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._one_at_a_time = threading.Lock()
        self._known: dict[int, tuple[Callable[[], Any], int, Path]] = {}

    def new_file(self) -> Path:
        """Name a file that is not there yet, in a folder that is."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._folder / f"{uuid.uuid4().hex[:12]}.npy"

    def new_place(self) -> Path:
        """Name a file in a folder of its own, which can be removed with all in it."""
        folder = self.new_file().with_suffix("")
        folder.mkdir()
        return folder / "result.npy"

    def room(self) -> int:
        """Bytes that are free where the files lie."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return shutil.disk_usage(self._folder).free

    def source(
        self, pixels: Pixels, cancel: CancelToken, progress: Callable[[float], None]
    ) -> ImageSource:
        """Put pixels into a file, see `path_of`, and say what they mean."""
        from napari_unet.images.source import ImageSource

        return ImageSource(
            str(self.path_of(pixels.data, cancel, progress)),
            axes=pixels.axes,
            scale=pixels.scale,
            units=pixels.units,
            name=pixels.name,
        )

    def put_away(self) -> Callable[[], None]:
        """Forget all files; a new one makes the folder again.

        Returns
        -------
        callable
            Removes the old folder, which may take a while.
        """
        self._known.clear()
        old = self._folder.with_name(f"{self._folder.name}-{uuid.uuid4().hex[:8]}")
        try:
            self._folder.rename(old)
        except OSError:  # not there, or in use
            old = self._folder
        return lambda: shutil.rmtree(old, ignore_errors=True)

    def path_of(
        self, data: Any, cancel: CancelToken, progress: Callable[[float], None]
    ) -> Path:
        """Give a .npy file with the pixels of `data`; copy them if there is none.

        An array that was copied before and has not changed is not copied again; a
        mapped .npy file is used as it is. May be called from several threads; only one
        of them copies.

        Parameters
        ----------
        data : array-like
            What a layer holds.
        cancel : CancelToken
            Checked between blocks.
        progress : callable
            Called with the share that is done.

        Raises
        ------
        StagingStopped
            If cancelled; nothing is left behind.
        """
        if (own := _mapped_file(data)) is not None:
            return own
        with self._one_at_a_time:
            if cancel.is_set():
                raise StagingStopped
            return self._copied(data, cancel, progress)

    def _copied(
        self, data: Any, cancel: CancelToken, progress: Callable[[float], None]
    ) -> Path:
        """Find the copy of an array, or make it."""
        self._forget_gone()
        mark = fingerprint(data)
        known = self._known.get(id(data))
        if known is not None and known[0]() is data and known[1] == mark:
            return known[2]
        path = self.new_file()
        copy(data, path, cancel, progress)
        if known is not None:
            known[2].unlink(missing_ok=True)
        self._known[id(data)] = (_reference(data), mark, path)
        return path

    def _forget_gone(self) -> None:
        """Remove the copies of arrays that are not there any more."""
        for number, (reference, _, path) in list(self._known.items()):
            if reference() is None:
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)
                    del self._known[number]


def _reference(data: Any) -> Callable[[], Any]:
    """Refer to an array weakly where that is possible."""
    try:
        return weakref.ref(data)
    except TypeError:
        return lambda: data


def _mapped_file(data: Any) -> Path | None:
    """Name the .npy file that an array maps as a whole, if it does.

    What is mapped is seen by another process that maps it: nothing need be flushed to
    the disk first, which would hold up the viewer.
    """
    if type(data) is not np.memmap or not isinstance(data.filename, str | Path):
        return None
    path = Path(data.filename)
    if path.suffix != ".npy" or not path.is_file():
        return None
    stored = np.load(path, mmap_mode="r")
    same = (stored.shape, stored.dtype, stored.strides) == (
        data.shape,
        data.dtype,
        data.strides,
    )
    return path if same and stored.offset == data.offset else None


def fingerprint(data: Any) -> int:
    """Sum up an array in memory, all of it if small, evenly spread rows if large.

    Lazy arrays give 0: napari takes them as constant too.
    """
    if not isinstance(data, np.ndarray) or not data.size or not data.ndim:
        return 0
    rows = data.reshape(-1, data.shape[-1]) if data.flags.c_contiguous else data
    step = max(1, math.ceil(data.nbytes / _LOOKED_AT))
    return zlib.crc32(np.ascontiguousarray(rows[::step]).view(np.uint8).data)


def copy(
    data: Any,
    path: Path,
    cancel: CancelToken,
    progress: Callable[[float], None],
) -> None:
    """Write an array to a .npy file block by block; empty blocks take no disk.

    Raises
    ------
    StagingStopped
        If cancelled; the file is removed.
    """
    target = np.lib.format.open_memmap(
        path, mode="w+", dtype=np.dtype(data.dtype), shape=tuple(data.shape)
    )
    total = max(1, math.prod(data.shape))
    done = 0
    for index in blocks(tuple(data.shape), np.dtype(data.dtype).itemsize):
        if cancel.is_set():
            del target
            path.unlink()
            raise StagingStopped
        block = np.asarray(data[index])
        if block.any():
            target[index] = block
        done += block.size
        progress(done / total)


def blocks(shape: tuple[int, ...], itemsize: int) -> Iterator[tuple[slice, ...]]:
    """Cut an array along its leading axes into parts of some 32 MB."""
    if not shape or 0 in shape:
        return
    inner = math.prod(shape[1:]) * itemsize
    if inner > _BLOCK and len(shape) > 1:
        for i in range(shape[0]):
            for rest in blocks(shape[1:], itemsize):
                yield (slice(i, i + 1), *rest)
        return
    step = max(1, _BLOCK // max(1, inner))
    for start in range(0, shape[0], step):
        yield (slice(start, min(start + step, shape[0])),)
