"""HDF5 files of weights: Caffe's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_unet.checkpoints.formats import caffe
from napari_unet.checkpoints.hdf5 import opened
from napari_unet.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

    from napari_unet.checkpoints.unwrap import Found


def read(path: Path) -> Found:
    """Return the weights, or the description of a network."""
    with opened(path) as tree:
        if caffe.claims(tree):
            return caffe.read(tree)
        raise ModelError(f"{path.name} is no HDF5 file of a kind that is read")
