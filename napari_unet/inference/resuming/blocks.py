"""Blocks as plain bytes that say what they are, and back, trusting nothing."""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.inference.finish import Reduced

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_DTYPES = "|b1 |u1 |i1 <u2 <i2 <u4 <i4 <i8 <f2 <f4 <f8".split()


def pack(reduced: Reduced) -> tuple[dict[str, Any], bytes | memoryview]:
    """Describe what is kept of a part, and give its bytes."""
    facts, data = _pack(reduced.own)
    if reduced.beside is None:
        return facts, data
    more, values = _pack(reduced.beside)
    return {**facts, "beside": more}, b"".join((data, values))


def unpack(
    facts: Mapping[str, Any], data: bytes, lengths: Sequence[int]
) -> Reduced | None:
    """Make what was kept of a part again.

    Parameters
    ----------
    facts : mapping
        From `pack`.
    data : bytes
        From `pack`.
    lengths : sequence of int
        Its spatial shape, before which it may have one more axis.

    Returns
    -------
    Reduced or None
        None if anything does not fit.
    """
    if "beside" not in facts:
        own = _unpack(facts, data, lengths)
        return None if own is None else Reduced(own)
    more = facts["beside"]
    size = _size(more, lengths) if isinstance(more, dict) else None
    if size is None or size > len(data):
        return None
    own = _unpack(facts, data[: len(data) - size], lengths)
    values = _unpack(more, data[len(data) - size :], lengths)
    return None if own is None or values is None else Reduced(own, values)


def _pack(block: np.ndarray) -> tuple[dict[str, Any], bytes | memoryview]:
    """Describe a block, and give its bytes.

    Whole numbers are mostly labels and shrink a hundredfold in no time. Real numbers
    shrink by a tenth at a high price, so they stay as they are.
    """
    block = np.ascontiguousarray(block, block.dtype.newbyteorder("<"))
    facts = {"dtype": block.dtype.str, "shape": block.shape}
    if block.dtype.kind == "f":
        return facts, block.data
    return {**facts, "packed": True}, zlib.compress(block.data, 1)


def _unpack(
    facts: Mapping[str, Any], data: bytes, lengths: Sequence[int]
) -> np.ndarray | None:
    """Make a block of its bytes again; None if anything does not fit."""
    size = _size(facts, lengths)
    if size is None:
        return None
    raw = _unzipped(data, size) if facts.get("packed") else data
    if len(raw) != size:
        return None
    return np.frombuffer(raw, facts["dtype"]).reshape(facts["shape"]).copy()


def _size(facts: Mapping[str, Any], lengths: Sequence[int]) -> int | None:
    """Bytes of a block of a spatial shape, None if its shape or type is no good."""
    dtype, shape = facts.get("dtype"), facts.get("shape")
    if dtype not in _DTYPES or not isinstance(shape, list):
        return None
    if not all(isinstance(n, int) and n > 0 for n in shape):
        return None
    if shape[-len(lengths) :] != list(lengths) or len(shape) > len(lengths) + 1:
        return None
    size: int = math.prod(shape) * np.dtype(dtype).itemsize
    return size


def _unzipped(data: bytes, size: int) -> bytes:
    """Decompress to `size` bytes; another number of bytes if they are not those."""
    stream = zlib.decompressobj()
    try:
        raw = stream.decompress(data, size + 1)
    except zlib.error:
        return b""
    return raw if stream.eof or len(raw) != size else b""
