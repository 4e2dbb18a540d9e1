"""Safetensors: tensors and a JSON header, nothing that could run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load

from napari_unet.errors import ModelError

if TYPE_CHECKING:
    import torch

_MOST_HEADER = 100_000_000
_MOST_TENSORS = 100_000


def read_tensors(
    data: bytes, name: str
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return the tensors and the metadata of a safetensors file.

    Parameters
    ----------
    data : bytes
        The whole file.
    name : str
        Its name, for messages.

    Raises
    ------
    ModelError
        If the header lies about the data, or names a tensor twice.
    """
    metadata = _metadata(data, name)
    try:
        return load(data), metadata
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise _broken(name, str(error)) from error


def _metadata(data: bytes, name: str) -> dict[str, str]:
    length = int.from_bytes(data[:8], "little")
    if not 2 <= length <= min(_MOST_HEADER, len(data) - 8):
        raise _broken(name, f"a header of {length} bytes in {len(data)}")
    try:
        header = json.loads(data[8 : 8 + length], object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise _broken(name, f"a header that is no JSON ({error})") from error
    found = header.get("__metadata__", {}) if isinstance(header, dict) else None
    if not isinstance(found, dict):
        raise _broken(name, "a header without a table of tensors")
    if len(header) > _MOST_TENSORS:
        raise _broken(name, f"{len(header):,} tensors")
    return {str(k): str(v) for k, v in found.items()}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a mapping, refusing a key that occurs twice."""
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        raise ValueError("a name occurs twice")
    return mapping


def _broken(name: str, found: str) -> ModelError:
    return ModelError(
        f"{name} is a damaged safetensors file",
        found=found,
        hint="Download or save it again.",
    )
