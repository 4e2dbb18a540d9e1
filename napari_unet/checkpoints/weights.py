"""Weights files of any format, read safely."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from napari_unet.checkpoints import formats
from napari_unet.checkpoints.cache import remembered
from napari_unet.checkpoints.container import Refusal, refuse, sniff
from napari_unet.checkpoints.quarantine import read_foreign
from napari_unet.checkpoints.tensorfile import read_tensors
from napari_unet.checkpoints.unwrap import Found, check, to_float32
from napari_unet.files import digest

if TYPE_CHECKING:
    from pathlib import Path

    import torch

MOST_WEIGHTS = 1 << 34
"""Bytes; larger files are refused."""


def read_weights(path: Path, choice: str = "") -> tuple[str, Found]:
    """Read a weights file; a foreign one is read only once.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    choice : str
        Which of several sets of weights in it, see `Found.choices`.

    Returns
    -------
    str
        Its format in words.
    Found
        The tensors and what lay around them.

    Raises
    ------
    ModelError
        If it is damaged, refused or no weights file.
    """
    kind = sniff(path)
    if kind == "safetensors":
        tensors, metadata = read_tensors(path.read_bytes(), path.name)
        return kind, bare(restored(tensors, metadata), path.name)
    if kind in formats.WORDS:
        key = (digest(path), kind, choice)
        read = partial(read_foreign, path, kind, choice)
        return formats.WORDS[kind], remembered(key, read)
    raise refuse(path, Refusal(f"a {kind} and no weights file"))


def restored(
    tensors: dict[str, torch.Tensor], metadata: dict[str, str]
) -> dict[str, torch.Tensor]:
    """Add the names that `safetensors.torch.save_model` left out.

    It keeps one name of a tensor that has several, and notes in the metadata which name
    was removed and which one was kept.
    """
    twins = {
        removed: tensors[kept]
        for removed, kept in metadata.items()
        if kept in tensors and removed not in tensors
    }
    return {**tensors, **twins}


def bare(tensors: dict[str, torch.Tensor], name: str) -> Found:
    """Check tensors of a safetensors file, which keeps no order of names."""
    check(tensors, name)
    found = Found(tensors, hints={"unordered": True})
    to_float32(found)
    return found
