"""TIFF in all its dialects, opened without reading pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tifffile import TiffFile

from napari_unet.errors import ImageError
from napari_unet.images import axes as named_axes
from napari_unet.images import checks, ome, tiff_checks, tiff_metadata
from napari_unet.images.segments import Layout, Segments, check_complete
from napari_unet.images.stack import ImageStack
from napari_unet.images.tiff_series import TiffSeries
from napari_unet.images.views import Leading, samples_to_channels

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from xml.etree.ElementTree import Element

    from tifffile import TiffPageSeries

    from napari_unet.images.stack import LazyArray

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_AS_THEY_LIE: dict[str, Any] = {
    f"is_{kind}": False
    for kind in "ome imagej shaped lsm stk fluoview micromanager scanimage nih".split()
}
"""No metadata that arrange pages, for tifffile."""


def open_tiff(path: Path, axes: str | None, series: str | int | None) -> ImageStack:
    """Open one series of a TIFF file.

    Parameters
    ----------
    path : pathlib.Path
        A regular file.
    axes : str, optional
        Axes that replace those of the metadata.
    series : str or int, optional
        Name or number; needed where a file holds several images. `tiff_checks.PAGES`
        for all pages as they lie, where metadata tell otherwise.

    Returns
    -------
    ImageStack
        Level 0 of a pyramid; masks and thumbnails are left out with a note.

    Raises
    ------
    ImageError
        If the file is damaged, incomplete, ambiguous, or holds no intensities.
    """
    as_they_lie = series == tiff_checks.PAGES
    with (
        checks.telling_read_errors(path.name),
        tiff_checks.heard() as messages,
        TiffFile(path, **(_AS_THEY_LIE if as_they_lie else {})) as tif,
    ):
        root = _ome_root(tif, path)
        companions = ome.check_companions(root, path) if root is not None else []
        chosen, ignored = _choose(
            tif.series, None if as_they_lie else series, path.name
        )
        opened = _Opened(tif, chosen, root, path, companions)
        damage = tiff_checks.check_heard(messages, path.name)
        return opened.stack(axes, (*ignored, *damage))


def tiff_series(path: Path) -> tuple[str, ...]:
    """Numbers of the images in a TIFF file, without masks and thumbnails."""
    with (
        checks.telling_read_errors(path.name),
        tiff_checks.heard(),
        TiffFile(path) as tif,
    ):
        every = list(enumerate(tif.series))
        return tuple(str(n) for n, s in every if not int(s.keyframe.subfiletype) & 5)


@dataclass
class _Opened:
    """One series on its way to a stack."""

    tif: TiffFile
    series: TiffPageSeries
    root: Element | None
    path: Path
    companions: list[Path]

    @property
    def name(self) -> str:
        return self.path.name

    def stack(self, asked: str | None, notes: tuple[str, ...]) -> ImageStack:
        """Check the series and make it lazy."""
        page = self.series.keyframe
        axes, shape = self._axes(asked)
        checks.check_shape(shape, axes, self.name)
        dtype = np.dtype(self.series.dtype)
        checks.check_dtype(dtype, self.name)
        stored = sum(p.stat().st_size for p in {self.path, *self.companions})
        declared = math.prod(shape) * dtype.itemsize
        checks.check_plausible(declared, stored, self.name)
        notes += tiff_checks.check_colours(page, self.series.kind, self.name)
        notes += checks.lossy_note(dtype)
        array, close = self._array(axes, shape)
        samples = tiff_checks.colour_samples(page)
        if "S" in axes and samples < shape[axes.index("S")]:
            array = Leading(array, axes.index("S"), samples)
            notes += ("The transparency (alpha) is left out.",)
        physical = tiff_metadata.physical(self.tif, self.series, self.root)
        physical.only(_unmoved(axes, self.series.axes))
        axes = samples_to_channels(axes, self.name)
        return ImageStack(
            array=array,
            axes=axes,
            scale=physical.scale,
            units=physical.units,
            name=self.path.name,
            source=str(self.path),
            channel_names=_fitting(physical.channel_names, axes, array.shape),
            notes=(*notes, *physical.notes),
            _close=close,
        )

    def _axes(self, asked: str | None) -> tuple[str, tuple[int, ...]]:
        """Axes and shape: those asked for, else those of the metadata."""
        if asked is None:
            axes, shape = self.series.axes, self.series.shape
            if set(axes) & set("IQ") or len(set(axes)) < len(axes):
                raise checks.ask_for_axes(self.name, shape, f"axes {axes} in the file")
            return axes, shape
        full, letters = self._unsqueezed()
        plain = full[:-1] if letters[-1] == "S" and full[-1] == 1 else full
        fitting = [s for s in (self.series.shape, plain, full) if len(s) == len(asked)]
        shape = fitting[0] if fitting else self.series.shape
        return named_axes.parse(asked, len(shape)), shape

    def _unsqueezed(self) -> tuple[tuple[int, ...], str]:
        """Shape and axes of the metadata with those of length 1."""
        if hasattr(self.series, "get_shape"):  # tifffile before 2026.5
            return self.series.get_shape(False), self.series.get_axes(False)
        every: Any = self.tif.series
        whole = every(squeeze=False)[list(every).index(self.series)]
        return whole.shape, whole.axes

    def _array(
        self, axes: str, shape: tuple[int, ...]
    ) -> tuple[LazyArray, Callable[[], Any] | None]:
        """Make the pixels lazy, memory-mapped if they lie in one piece."""
        if self.series.dataoffset is not None and len(self.series) > 0:
            return self._memmap(shape), None
        if self.series.is_truncated or self.series.transform is not None:
            raise ImageError(
                f"{self.name} is of a kind that is not read",
                found=f"a {self.series.kind} series without plain pages",
                hint="Save it as OME-TIFF first, such as with Fiji.",
            )
        return self._pages(axes, shape)

    def _memmap(self, shape: tuple[int, ...]) -> np.ndarray:
        """Map a series that is stored plainly and in one piece."""
        dtype = np.dtype(self.series.dtype).newbyteorder(self.tif.byteorder)
        offset = int(self.series.dataoffset or 0)
        needed = offset + math.prod(shape) * dtype.itemsize
        held = self.path.stat().st_size
        if held < needed:
            plane = math.prod(shape[-2:]) * dtype.itemsize
            first = max(held - offset, 0) // plane + 1
            raise ImageError(
                f"{self.name} is cut off",
                found=f"{held:,} bytes, ending inside page {first}",
                expected=f"{needed:,} bytes",
                hint="Copy or export the file again.",
            )
        return np.memmap(self.path, dtype, "r", offset, shape)

    def _pages(
        self, axes: str, shape: tuple[int, ...]
    ) -> tuple[TiffSeries, Callable[[], Any]]:
        """Series of pages that are decoded on demand."""
        page = self.series.keyframe
        leading = _leading(shape, axes, math.prod(page.shape))
        layout = Layout.of(page, axes[leading:], self.tif.byteorder)
        if layout.raw is None:
            tiff_checks.check_codec(page, self.name)
            page.decode(None, 0)  # raises where it decodes no such pages
            checks.check_memory(layout.segment_bytes, f"A piece of {self.name}")
        pages = self._segments(math.prod(shape[:leading]))
        check_complete(pages, layout, self.name)
        array = TiffSeries(pages, page, layout, shape, self.name)
        return array, array.close

    def _segments(self, count: int) -> list[Segments]:
        """Where every page lies; each must be there."""
        found = [page for page in self.series if page is not None]
        if len(found) != count or len(self.series) != count:
            wanted = f"{count} planes"
            if self.root is not None and self.series.kind == "ome":
                index = self.tif.series.index(self.series)
                wanted += f" ({ome.planes(self.root, index)} in its metadata)"
            raise ImageError(
                f"{self.name} lacks some of its pages",
                found=f"{len(found)} pages",
                expected=wanted,
                hint=tiff_checks.AGAIN,
            )
        return [
            Segments(
                Path(page.parent.filehandle.path),
                tuple(page.dataoffsets),
                tuple(page.databytecounts),
                page.jpegtables,
            )
            for page in found
        ]


def _ome_root(tif: TiffFile, path: Path) -> Element | None:
    """Parse the OME-XML of the file, if it has any."""
    xml = tif.ome_metadata
    return ome.parse(xml, path.name) if xml else None


def _choose(
    every: Sequence[TiffPageSeries], asked: str | int | None, name: str
) -> tuple[TiffPageSeries, tuple[str, ...]]:
    """Find the series asked for, or the only one that is no mask or thumbnail."""
    if not every:
        raise ImageError(f"{name} holds no image", found="a TIFF file without pages")
    if asked is not None:
        return _named(every, str(asked), name), ()
    # bits 1 and 4 of NewSubfileType: reduced image, transparency mask
    images = [s for s in every if not int(s.keyframe.subfiletype) & 5]
    if len(images) > 1 or (not images and len(every) > 1):
        raise ImageError(
            f"{name} holds several images",
            found=_listing(every),
            hint="Choose one by name or number, such as --series 0.",
        )
    ignored = len(every) - len(images)
    if not images or not ignored:
        return every[0], ()
    return images[0], (f"{ignored} masks or thumbnails in the file are left out.",)


def _named(every: Sequence[TiffPageSeries], asked: str, name: str) -> TiffPageSeries:
    """Series by name, else by number."""
    matches = [s for s in every if s.name == asked]
    if not matches and asked.isdecimal() and int(asked) < len(every):
        matches = [every[int(asked)]]
    if len(matches) != 1:
        raise ImageError(
            f"{name} has no single series {asked!r}",
            found=_listing(every),
            hint="Choose one of them by its number.",
        )
    return matches[0]


def _listing(every: Sequence[TiffPageSeries]) -> str:
    """All series in words, the first twenty at most."""
    words = [
        f"{i}{f' {s.name!r}' if s.name else ''} ({s.axes} {checks.describe(s.shape)})"
        for i, s in enumerate(every[:20])
    ]
    return "series " + ", ".join(words) + (" ..." if len(every) > 20 else "")


def _leading(shape: Sequence[int], axes: str, page_size: int) -> int:
    """Count the axes before those within a page."""
    within, size = len(shape), 1
    while within and (size < page_size or axes[within - 1] in "YXS"):
        within -= 1
        size *= shape[within]
    inner = axes[within:]
    others = [a for a in inner if a not in "YXS"]
    if size != page_size or len(others) > 1 or not {"Y", "X"} <= set(inner):
        raise ValueError(f"axes {axes} do not fit pages of {page_size} pixels")
    return within


def _unmoved(axes: str, known: str) -> str:
    """Axes that do not stand elsewhere in the metadata, whose sizes thus hold."""
    if len(axes) != len(known):
        return axes
    pairs = zip(axes, known, strict=True)
    return "".join(a for a, b in pairs if a == b or a not in known)


def _fitting(
    names: tuple[str, ...], axes: str, shape: tuple[int, ...]
) -> tuple[str, ...]:
    """Channel names if there is one for each channel."""
    channels = shape[axes.index("C")] if "C" in axes else 1
    return names if len(names) == channels else ()
