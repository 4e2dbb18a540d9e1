"""Keras' own archive: a configuration and an HDF5 file of weights (Keras 2.12 to 3)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from napari_unet.checkpoints.formats.keras_program import found_in
from napari_unet.checkpoints.formats.keras_weights import weights_of
from napari_unet.checkpoints.hdf5 import opened
from napari_unet.checkpoints.source import Zip, damaged, open_zip

if TYPE_CHECKING:
    from pathlib import Path

    from napari_unet.checkpoints.unwrap import Found

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_MOST_TEXT = 1 << 24
_MOST_WEIGHTS = 1 << 34


def read(path: Path, choice: str = "") -> Found:
    """Return the weights, and the graph as ``hints["program"]``."""
    with open_zip(path) as file:
        source = Zip(path, file)
        config = read_json(path, source.read(CONFIG, _MOST_TEXT))
        about = dict(config)
        if METADATA in source.names():
            about |= read_json(path, source.read(METADATA, _MOST_TEXT))
        data = source.read(WEIGHTS, _MOST_WEIGHTS)
    with opened(path, data) as tree:
        weights = weights_of(tree) or weights_of(tree, "model_weights")
        if weights is None:
            raise damaged(path, f"no Keras weights in {WEIGHTS}")
        return found_in(path, config, weights, {**about, **tree.attributes()}, choice)


def read_json(path: Path, text: bytes | str) -> dict[str, Any]:
    """Return a JSON object.

    Raises
    ------
    ModelError
        If it is none.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise damaged(path, "no readable configuration") from error
    if not isinstance(value, dict):
        raise damaged(path, "a configuration that is no table")
    return value
