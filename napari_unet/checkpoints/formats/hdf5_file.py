"""HDF5 files, which several programs fill in ways of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_unet.checkpoints.formats import caffe, keras_h5
from napari_unet.checkpoints.hdf5 import opened
from napari_unet.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

    from napari_unet.checkpoints.unwrap import Found

_READERS = (caffe, keras_h5)
"""Modules with ``is_it(tree)`` and ``read_tree(tree, choice)``; the first that knows a
file reads it."""


def read(path: Path, choice: str = "") -> Found:
    """Return the weights, read by the program's rules whose file it is."""
    with opened(path) as tree:
        for reader in _READERS:
            if reader.is_it(tree):
                found: Found = reader.read_tree(tree, choice)
                return found
        inside = ", ".join([g for g in tree.groups if g][:4] or list(tree.datasets)[:4])
    raise ModelError(
        f"The HDF5 file {path.name} holds no network that is known",
        found=inside or "nothing",
        expected="a whole Keras model, or weights or a description of Caffe",
        hint="If it is an image or a data set, open it as such.",
    )
