"""Zarr arrays and OME-Zarr images in a folder, opened without reading pixels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.errors import ImageError
from napari_unet.images import axes as named_axes
from napari_unet.images import checks, zarr_metadata
from napari_unet.images.metadata import Physical
from napari_unet.images.stack import ImageStack
from napari_unet.images.views import samples_to_channels

if TYPE_CHECKING:
    from pathlib import Path

    from napari_unet.images.zarr_metadata import Node


def open_zarr(path: Path, axes: str | None, series: str | int | None) -> ImageStack:
    """Open an array, or level 0 of an OME-Zarr image.

    Parameters
    ----------
    path : pathlib.Path
        Folder of an array or group.
    axes : str, optional
        Axes that replace those of the metadata.
    series : str or int, optional
        Name, number or sub-folder; needed where a group holds several images.

    Returns
    -------
    ImageStack
        Missing chunks read as the array's fill value, as zarr defines it.

    Raises
    ------
    ImageError
        If zarr is not installed, a codec is not allowed, or the metadata are damaged.
    """
    with checks.telling_read_errors(path.name):
        node = zarr_metadata.read_node(path)
        if node.kind == "array":
            return _array(path, node, axes, zarr_metadata.axes_of(node), Physical())
        if node.attributes.get("multiscales"):
            return _multiscale(path, node, axes, series)
        return _group(path, axes, series)


def zarr_series(path: Path, depth: int = 4) -> tuple[str, ...]:
    """Images in a Zarr folder as `open_zarr` takes them; plates are gone through."""
    with checks.telling_read_errors(path.name):
        node = zarr_metadata.read_node(path)
        every = node.attributes.get("multiscales") or []
        if node.kind == "array" or every or depth == 0:
            return tuple(str(i) for i in range(max(len(every), 1)))
        found: list[str] = []
        for inside in sorted(path.iterdir()):
            if not zarr_metadata.is_zarr(inside) or inside.name in ("OME", "labels"):
                continue
            below = zarr_series(inside, depth - 1)
            one = below == ("0",)
            found += [inside.name if one else f"{inside.name}/{name}" for name in below]
        return tuple(found)


def _multiscale(
    path: Path, node: Node, axes: str | None, series: str | int | None
) -> ImageStack:
    """Level 0 of the only multiscale image, or of the one asked for."""
    every = node.attributes["multiscales"]
    names = [str(m.get("name") or i) for i, m in enumerate(every)]
    chosen = every[_pick(names, series, path.name)]
    found, _ = zarr_metadata.multiscale_axes(chosen)
    level = (path / chosen["datasets"][0]["path"]).resolve()
    if not level.is_relative_to(path.resolve()):
        raise ImageError(
            f"{path.name} refers to a folder outside itself", found=level.name
        )
    physical = zarr_metadata.physical(chosen, node.attributes)
    below = zarr_metadata.read_node(level)
    return _array(level, below, axes, found, physical, path)


def _group(path: Path, axes: str | None, series: str | int | None) -> ImageStack:
    """Open the only image inside a plain group, or the one asked for."""
    inside = sorted(p for p in path.iterdir() if zarr_metadata.is_zarr(p))
    names = [p.name for p in inside if p.name not in ("OME", "labels")]
    if not names:
        raise ImageError(f"{path.name} holds no image", found="an empty zarr group")
    asked, _, rest = str("" if series is None else series).partition("/")
    name = names[_pick(names, asked or None, path.name)]
    return open_zarr(path / name, axes, rest or None)


def _pick(names: list[str], asked: str | int | None, where: str) -> int:
    """Place of the name asked for, or of the only one."""
    if asked is None and len(names) == 1:
        return 0
    if asked is not None and names.count(str(asked)) == 1:
        return names.index(str(asked))
    if asked is not None and str(asked).isdecimal() and int(asked) < len(names):
        return int(asked)
    what = "holds several images" if asked is None else f"has no image {asked!r}"
    raise ImageError(
        f"{where} {what}",
        found=", ".join(names[:20]),
        hint="Choose one by name or number, such as --series 0.",
    )


def _array(
    path: Path,
    node: Node,
    asked: str | None,
    known: str,
    physical: Physical,
    image: Path | None = None,
) -> ImageStack:
    """Stack of one array folder; `image` is the folder that the user named."""
    image = path if image is None else image
    zarr_metadata.check_array(node.array, image.name)
    array = _open(path, image.name)
    shape = tuple(int(n) for n in array.shape)
    dtype = np.dtype(array.dtype)
    checks.check_dtype(dtype, image.name)
    axes = _axes(asked, known, shape, image.name)
    checks.check_shape(shape, axes, image.name)
    declared = math.prod(shape) * dtype.itemsize
    checks.check_plausible(declared, declared, image.name)
    axes = samples_to_channels(axes, image.name)
    physical.only(axes)
    channels = shape[axes.index("C")] if "C" in axes else 1
    names = physical.channel_names
    return ImageStack(
        array=array,
        axes=axes,
        scale=physical.scale,
        units=physical.units,
        name=image.name,
        source=str(image),
        channel_names=names if len(names) == channels else (),
        notes=(*checks.lossy_note(dtype), *physical.notes),
    )


def _axes(asked: str | None, known: str, shape: tuple[int, ...], name: str) -> str:
    """Axes asked for, else those named, else YX for a plane."""
    if asked is not None:
        return named_axes.parse(asked, len(shape))
    if len(known) == len(shape) and {"Y", "X"} <= set(known):
        return known
    if len(shape) == 2:
        return "YX"
    raise checks.ask_for_axes(name, shape)


def _open(path: Path, name: str) -> Any:
    """Open an array whose metadata were checked."""
    try:
        import zarr
    except ImportError as error:
        raise ImageError(
            f"{name} is a zarr image, and zarr is not installed",
            hint="Install it with: pip install 'unet-napari[zarr]'",
        ) from error
    return zarr.open_array(str(path), mode="r")
