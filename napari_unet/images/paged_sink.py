"""PagedSink: what the sinks that write plane after plane have in common."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.errors import ImageError, OutputError
from napari_unet.files import Commit, telling_write_errors
from napari_unet.images.pages import Page, Pages
from napari_unet.images.write_behind import WriteBehind

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from napari_unet.images.sinks import OutputSpec
    from napari_unet.images.stack import ImageStack


class PagedSink(ABC):
    """Writes complete planes in order, in a thread, under a hidden name.

    Parameters
    ----------
    path : path-like
        Where the result appears when it is complete.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._commit: Commit | None = None
        self._pages: Pages | None = None
        self._behind: WriteBehind[Page] | None = None

    @property
    def path(self) -> Path:
        """Where the result appears when it is complete."""
        return self._path

    @property
    def hidden(self) -> tuple[Path, ...]:
        """What stands beside it until then; empty before `open`."""
        part = self._commit.part if self._commit else None
        return (part, part.with_suffix(".pages")) if part else ()

    @abstractmethod
    def check(self, spec: OutputSpec) -> None:
        """Refuse results that the format cannot hold."""

    def _stored(self, spec: OutputSpec) -> np.dtype[Any]:
        """Type of the pixels in the file."""
        return spec.dtype

    @abstractmethod
    def _save(self, spec: OutputSpec, part: Path, planes: Iterator[np.ndarray]) -> None:
        """Write all planes to `part`; runs in a thread."""

    def open(self, spec: OutputSpec) -> None:
        """Check the result and start the thread that writes it."""
        self.check(spec)
        self._spec = replace(spec, dtype=self._stored(spec))
        self._needed = math.prod(spec.shape) * spec.dtype.itemsize
        self._commit = commit = Commit(self._path, needed=self._needed)
        scratch = commit.part.with_suffix(".pages")
        self._pages = pages = Pages(spec, scratch)

        def work(items: Iterator[Page]) -> None:
            with telling_write_errors(self._path, self._needed):
                self._save(spec, commit.part, _released(items, pages))

        self._behind = WriteBehind(work)

    def write(self, region: tuple[slice, ...], block: np.ndarray) -> None:
        """Take the values of a region, one slice for each axis."""
        if self._pages is None or self._behind is None:
            raise RuntimeError("write before open")
        with telling_write_errors(self._path, self._needed):
            for page in self._pages.add(region, block):
                self._behind.put(page)

    def close(self) -> str:
        """Finish writing, rename the result and return its path."""
        if self._pages is None or self._behind is None or self._commit is None:
            raise RuntimeError("close before open")
        try:
            if self._pages.missing:
                raise OutputError(
                    f"{self._path.name} is incomplete",
                    found=f"{self._pages.missing} of {self._pages.count} planes "
                    "missing or unfinished",
                )
            self._behind.finish()
            self._pages.discard()
            with telling_write_errors(self._path, self._needed):
                check_whole(self._commit.part, self._path, self._spec)
            self._commit.done()
        except BaseException:
            self.abort()
            raise
        return str(self._path)

    def abort(self) -> None:
        """Stop writing and leave nothing behind."""
        if self._behind is not None:
            self._behind.abort()
        if self._pages is not None:
            self._pages.discard()
        if self._commit is not None:
            self._commit.undo()


def check_whole(part: Path, path: Path, spec: OutputSpec) -> None:
    """Open what was written as anyone would: all of it must be there."""
    from napari_unet.images.readers import open_image

    try:
        with open_image(part) as found:
            same = _sizes(found) == _sizes(spec) and found.dtype == spec.dtype
            words = f"{found.dtype} {found.shape}"
    except ImageError as error:
        same, words = False, str(error)
    if not same:
        raise OutputError(
            f"{path.name} could not be written",
            found=f"on the disk {words.rstrip('.')}",
            expected=f"{spec.dtype} {spec.shape}",
        )


def _sizes(image: OutputSpec | ImageStack) -> dict[str, int]:
    """Size by axis; not every format keeps an axis of one."""
    pairs = zip(image.axes, image.shape, strict=True)
    return {axis: size for axis, size in pairs if size > 1}


def _released(items: Iterator[Page], pages: Pages) -> Iterator[np.ndarray]:
    """Planes of the pages; a page is given back when the next one is asked for."""
    for page in items:
        yield page.pixels
        pages.release(page)
