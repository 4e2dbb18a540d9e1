"""Keras models in HDF5 files: ``model.save("model.h5")`` of Keras 1 to 3."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_unet.checkpoints.formats.keras_file import read_json
from napari_unet.checkpoints.formats.keras_program import found_in
from napari_unet.checkpoints.formats.keras_weights import weights_of
from napari_unet.errors import ModelError

if TYPE_CHECKING:
    from napari_unet.checkpoints.hdf5 import Tree
    from napari_unet.checkpoints.unwrap import Found

_CONFIG, _WEIGHTS = "model_config", "model_weights"


def is_it(tree: Tree) -> bool:
    """Whether Keras wrote the file."""
    return _CONFIG in tree.attributes() or weights_of(tree) is not None


def read_tree(tree: Tree, choice: str = "") -> Found:
    """Return the weights, and the graph as ``hints["program"]``."""
    about = tree.attributes()
    weights = weights_of(tree, _WEIGHTS)
    if _CONFIG not in about or weights is None:
        raise ModelError(
            f"{tree.path.name} holds the weights of a Keras model without the model",
            found="no model_config",
            expected="a whole model",
            hint="Save it with model.save(...), or lay the text of model.to_json() "
            "beside the weights as config.json.",
        )
    config = read_json(tree.path, about[_CONFIG])
    return found_in(tree.path, config, weights, about, choice)
