"""Open an image: the one function that turns anything into an `ImageStack`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_unet.errors import ImageError
from napari_unet.images import axes as named_axes
from napari_unet.images import checks, tiff, zarr_metadata
from napari_unet.images.source import ImageSource
from napari_unet.images.stack import ImageStack, LazyArray
from napari_unet.images.views import samples_to_channels

_NPY = b"\x93NUMPY"
_OTHERS = {
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"\x89HDF": "an HDF5 file",
    b"PK\x03\x04": "a ZIP archive",
    b"ZISRAWFILE": "a Zeiss CZI file",
    b"\xda\xce\xbe\x0a": "a Nikon ND2 file",
    b"\x1f\x8b": "a gzip file",
    b"DCX": "a DV file",
}


def open_image(
    image: str | Path | np.ndarray | LazyArray | ImageStack | ImageSource,
    *,
    axes: str | None = None,
    series: str | int | None = None,
) -> ImageStack:
    """Open an image lazily; no pixel is read.

    The content decides on the format, never the name: TIFF with its dialects (OME,
    ImageJ, BigTIFF, STK, LSM, pyramids), .npy, zarr arrays and OME-Zarr 0.4 and 0.5.

    Parameters
    ----------
    image : path, array, ImageStack or ImageSource
        What to open. Arrays may be numpy, memory-mapped, dask, zarr or tensorstore.
    axes : str, optional
        Axes in order, such as ``"ZYX"``. Needed where the metadata do not name them;
        a plane is YX. S (colour samples) are taken as channels.
    series : str or int, optional
        Name or number of the image in a file that holds several. ``"pages"`` takes all
        pages of a TIFF file in order, where its metadata contradict them.

    Returns
    -------
    ImageStack
        With pixel sizes, units and channel names where the file has them, and notes.

    Raises
    ------
    ImageError
        If it is no image, is damaged, names no axes, or has pixels that are no numbers.
    UsageError
        If `axes` do not fit.
    """
    if isinstance(image, ImageStack):
        return image if axes is None else _renamed(image, axes)
    if isinstance(image, ImageSource):
        return _from_source(image, axes, series)
    if isinstance(image, str | Path):
        return _from_path(Path(image), axes, series)
    return _from_array(image, axes)


def is_image(path: str | Path) -> bool:
    """Whether a path looks like an image that `open_image` reads.

    Parameters
    ----------
    path : path-like
        File or folder; only its first bytes or its metadata files are looked at.
    """
    path = Path(path)
    try:
        if zarr_metadata.is_zarr(path):
            return True
        head = _head(path) if path.is_file() else b""
    except OSError:
        return False
    return head.startswith((*tiff.MAGIC, _NPY))


def series_of(path: str | Path) -> tuple[str, ...]:
    """List the images in a file or Zarr folder, as `open_image` takes them.

    Parameters
    ----------
    path : path-like
        Only its metadata are read. Of a TIFF file, masks and thumbnails are left out;
        of an OME-Zarr plate, every field of every well is one.

    Raises
    ------
    ImageError
        If it is damaged.
    """
    path = Path(path)
    if zarr_metadata.is_zarr(path):
        from napari_unet.images.zarr_reader import zarr_series

        return zarr_series(path)
    checks.check_regular(path)
    with checks.telling_read_errors(path.name):
        head = _head(path)
    return tiff.tiff_series(path) if head.startswith(tiff.MAGIC) else ("0",)


def _from_path(path: Path, axes: str | None, series: str | int | None) -> ImageStack:
    """Open a file or folder by its content."""
    if zarr_metadata.is_zarr(path):
        from napari_unet.images.zarr_reader import open_zarr

        return open_zarr(path, axes, series)
    checks.check_regular(path)
    with checks.telling_read_errors(path.name):
        head = _head(path)
    if head.startswith(tiff.MAGIC):
        return tiff.open_tiff(path, axes, series)
    if head.startswith(_NPY):
        return _from_npy(path, axes)
    raise ImageError(
        f"{path.name} is no image that can be read",
        found=_kind(head),
        expected="TIFF, OME-TIFF, .npy or OME-Zarr",
        hint="Save it as TIFF first, such as with Fiji.",
    )


def _from_npy(path: Path, axes: str | None) -> ImageStack:
    """Memory-map a .npy file."""
    with checks.telling_read_errors(path.name):
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0
            if version != (1, 0):
                read = np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file)
        checks.check_dtype(dtype, path.name)
        checks.check_shape(shape, "?" * len(shape), path.name)
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    return replace(_from_array(array, axes, path.name), source=str(path))


def _from_array(array: Any, axes: str | None, name: str = "array") -> ImageStack:
    """Stack of an array in memory, or of a lazy one."""
    if not isinstance(array, LazyArray):
        raise ImageError(
            "This is no image",
            found=f"a {type(array).__name__}",
            expected="a path or an array",
        )
    stack = ImageStack(array, "", name=name)
    shape = stack.shape
    if axes is None and len(shape) != 2:
        raise checks.ask_for_axes(name, shape)
    letters = named_axes.parse(axes or "YX", len(shape))
    checks.check_dtype(stack.dtype, name)
    checks.check_shape(shape, letters, name)
    letters = samples_to_channels(letters, name)
    return replace(stack, axes=letters, notes=checks.lossy_note(stack.dtype))


def _from_source(
    source: ImageSource, axes: str | None, series: str | int | None
) -> ImageStack:
    """Open the file, then let what the source says win."""
    stack = _from_path(
        Path(source.path),
        source.axes if axes is None else axes,
        source.series if series is None else series,
    )
    names = source.channel_names
    return replace(
        stack,
        scale={**stack.scale, **source.scale},
        units={**stack.units, **source.units},
        name=source.name or stack.name,
        channel_names=names if len(names) == stack.channels else stack.channel_names,
    )


def _renamed(stack: ImageStack, axes: str) -> ImageStack:
    """Stack with other axes; sizes stay with the letters that did not move."""
    letters = samples_to_channels(named_axes.parse(axes, len(stack.shape)), stack.name)
    kept = {a for a, b in zip(letters, stack.axes, strict=True) if a == b}
    return replace(
        stack,
        axes=letters,
        scale={a: v for a, v in stack.scale.items() if a in kept},
        units={a: v for a, v in stack.units.items() if a in kept},
        channel_names=stack.channel_names if "C" in kept else (),
    )


def _head(path: Path) -> bytes:
    """First bytes of a regular file."""
    with path.open("rb") as file:
        return file.read(16)


def _kind(head: bytes) -> str:
    """Say what the first bytes of a file tell about it."""
    for magic, words in _OTHERS.items():
        if head.startswith(magic):
            return words
    if not head:
        return "an empty file"
    return "text" if head.isascii() and b"\0" not in head else "another format"
