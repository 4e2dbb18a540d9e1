"""Weights files of any format, read safely."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_unet.checkpoints import formats
from napari_unet.checkpoints.container import Refusal, refuse, sniff
from napari_unet.checkpoints.quarantine import read_foreign
from napari_unet.checkpoints.tensorfile import read_tensors
from napari_unet.checkpoints.unwrap import Found, check, to_float32

if TYPE_CHECKING:
    from pathlib import Path

    import torch

MOST_WEIGHTS = 1 << 34
"""Bytes; larger files are refused."""


def read_weights(path: Path) -> tuple[str, Found]:
    """Read a weights file.

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
        return kind, bare(read_tensors(path.read_bytes(), path.name)[0], path.name)
    if kind in formats.WORDS:
        return formats.WORDS[kind], read_foreign(path, kind)
    raise refuse(path, Refusal(f"a {kind} and no weights file"))


def bare(tensors: dict[str, torch.Tensor], name: str) -> Found:
    """Check tensors that came without a wrapper."""
    check(tensors, name)
    found = Found(tensors)
    to_float32(found)
    return found
