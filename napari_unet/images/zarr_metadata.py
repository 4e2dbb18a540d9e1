"""Zarr and OME-Zarr metadata, read as plain JSON before any codec is made.

Formats: zarr 2 and 3 (zarr-specs), OME-Zarr 0.4 and 0.5 (ngff.openmicroscopy.org).
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_unet.errors import ImageError
from napari_unet.images import checks
from napari_unet.images.metadata import Physical, number

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_LARGEST_JSON = 16_000_000
_V2 = "blosc zlib gzip zstd lz4 bz2 lzma delta shuffle fixedscaleoffset astype bitround"
_V3 = "bytes endian transpose sharding_indexed gzip zstd blosc crc32c"
SAFE_CODECS = {*_V2.split(), *_V3.split(), "packbits", "quantize", "crc32", "adler32"}
"""Codecs that only ever turn bytes into numbers; pickle and JSON objects do not."""


@dataclass(frozen=True)
class Node:
    """One folder of a zarr hierarchy.

    Attributes
    ----------
    kind : {"array", "group"}
        Whether it holds pixels.
    attributes : dict
        Its user attributes, with those of OME-Zarr 0.5 lifted out of ``"ome"``.
    array : dict
        Array metadata, empty for a group.
    """

    kind: str
    attributes: dict[str, Any]
    array: dict[str, Any]


def is_zarr(path: Path) -> bool:
    """Whether a folder is a zarr array or group."""
    names = ("zarr.json", ".zarray", ".zgroup")
    return path.is_dir() and any((path / name).is_file() for name in names)


def read_node(path: Path) -> Node:
    """Read the metadata of one folder.

    Raises
    ------
    ImageError
        If it is no zarr folder or its JSON is damaged.
    """
    if (path / "zarr.json").is_file():
        info = _json(path / "zarr.json")
        kind = "array" if info.get("node_type") == "array" else "group"
        attributes = info.get("attributes") or {}
        attributes = {**attributes, **(attributes.get("ome") or {})}
        return Node(kind, attributes, info if kind == "array" else {})
    attributes = _json(path / ".zattrs") if (path / ".zattrs").is_file() else {}
    if (path / ".zarray").is_file():
        return Node("array", attributes, _json(path / ".zarray"))
    if (path / ".zgroup").is_file():
        return Node("group", attributes, {})
    raise ImageError(f"{path.name} is no zarr folder", found="no zarr metadata in it")


def check_array(info: Mapping[str, Any], name: str) -> None:
    """Refuse codecs that could run code, object pixels and absurd chunks.

    Raises
    ------
    ImageError
        Naming the codec, the type or the size.
    """
    dtype = info.get("data_type", info.get("dtype"))
    if not isinstance(dtype, str) or dtype.startswith("|O") or dtype == "|O":
        raise ImageError(
            f"{name} has pixels that are no real numbers", found=f"dtype {dtype}"
        )
    for codec in _codecs(info):
        if codec.removeprefix("numcodecs.") not in SAFE_CODECS:
            raise ImageError(
                f"{name} uses a codec that is not allowed",
                found=codec,
                expected="one of " + ", ".join(sorted(SAFE_CODECS)),
                hint="Save it with another compression, such as zstd.",
            )
    for shape in _chunk_shapes(info):
        size = math.prod(int(n) for n in shape)
        checks.check_memory(8 * size, f"A chunk of {name}")


def axes_of(node: Node) -> str:
    """Axes that an array names itself, empty if it does not."""
    names = node.array.get("dimension_names") or node.attributes.get(
        "_ARRAY_DIMENSIONS"
    )
    return letters(names or ())


def letters(names: Any) -> str:
    """Axes letters of names such as ``["t", "z"]``; empty if one is longer."""
    found = [str(n).upper() for n in names]
    plain = all(len(n) == 1 and n.isascii() and n.isalpha() for n in found)
    return "".join(found) if plain and len(set(found)) == len(found) else ""


def multiscale_axes(multiscale: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """Axes and units of an OME-Zarr image."""
    listed = multiscale.get("axes") or ()
    axes = [a if isinstance(a, dict) else {"name": a} for a in listed]
    found = letters(a.get("name", "") for a in axes)
    units = zip(found, axes, strict=False)
    return found, {letter: str(a.get("unit") or "") for letter, a in units}


def physical(multiscale: Mapping[str, Any], attributes: Mapping[str, Any]) -> Physical:
    """Pixel sizes of level 0 and channel names of an OME-Zarr image."""
    axes, units = multiscale_axes(multiscale)
    found = Physical()
    level = multiscale["datasets"][0].get("coordinateTransformations") or ()
    whole = multiscale.get("coordinateTransformations") or ()
    scales = [t["scale"] for t in (*level, *whole) if t.get("type") == "scale"]
    for i, axis in enumerate(axes):
        factors = [number(s[i]) if i < len(s) else None for s in scales]
        if axis != "C" and factors and (units[axis] or factors != [1.0]):
            found.set(axis, math.prod(f or 0.0 for f in factors), units[axis])
    channels = (attributes.get("omero") or {}).get("channels") or ()
    names = tuple(str(c.get("label") or "") for c in channels if isinstance(c, dict))
    found.channel_names = names if any(names) else ()
    return found


def _json(path: Path) -> dict[str, Any]:
    """Read one small JSON object."""
    with checks.telling_read_errors(path.parent.name):
        if path.stat().st_size > _LARGEST_JSON:
            raise ImageError(f"{path.name} is too large to be zarr metadata")
        found = json.loads(path.read_text("utf-8"))
        if not isinstance(found, dict):
            raise ValueError(f"{path.name} holds no object")
        return found


def _codecs(info: Mapping[str, Any]) -> Iterator[str]:
    """Names of all codecs, those inside shards too."""
    older = [info.get("compressor"), *(info.get("filters") or ())]
    yield from (str(codec.get("id")) for codec in older if isinstance(codec, dict))
    for codec in info.get("codecs") or ():
        codec = {"name": codec} if isinstance(codec, str) else codec
        yield str(codec.get("name"))
        inner = codec.get("configuration") or {}
        yield from _codecs({"codecs": inner.get("codecs")})
        yield from _codecs({"codecs": inner.get("index_codecs")})


def _chunk_shapes(info: Mapping[str, Any]) -> Iterator[Any]:
    """Shapes of the pieces that are decoded at once."""
    if "chunks" in info:
        yield info["chunks"]
    sharded = False
    for codec in info.get("codecs") or ():
        if isinstance(codec, dict) and codec.get("name") == "sharding_indexed":
            sharded = True
            yield codec["configuration"]["chunk_shape"]
    grid = (info.get("chunk_grid") or {}).get("configuration") or {}
    if not sharded and "chunk_shape" in grid:
        yield grid["chunk_shape"]
