"""The arrays of each layer of a Keras model, found in its HDF5 file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from napari_unet.checkpoints.formats.refusal import Refused

if TYPE_CHECKING:
    import numpy as np

    from napari_unet.checkpoints.formats.keras_graph import Layer
    from napari_unet.checkpoints.hdf5 import Tree

_CONTAINERS = {"layers": 1, "_layer_checkpoint_dependencies": 2}
"""Where layers lie since Keras 2.12; before 2.14 each was counted twice."""


class Weights(Protocol):
    """Where the arrays of a layer are found."""

    def of(self, layer: Layer) -> list[np.ndarray[Any, Any]]:
        """Return the arrays of a layer, none if it has no weights."""
        ...


def weights_of(tree: Tree, root: str = "") -> Weights | None:
    """Return how weights lie in a file, None if it holds no Keras weights.

    Parameters
    ----------
    tree : Tree
        An open file.
    root : str
        Group in which the weights lie.
    """
    if root not in tree.groups:
        return None
    if {"layer_names", "layer_names0"} & set(tree.attributes(root)):
        return ByName(tree, root)
    known = [name for name in _CONTAINERS if name in tree.groups]
    return Counted(tree, known[0]) if known and not root else None


class Counted:
    """Files of Keras 3: ``layers/<class>_<number>/vars/<n>``, in the model's order."""

    def __init__(self, tree: Tree, container: str) -> None:
        self._tree, self._container = tree, container

    def of(self, layer: Layer) -> list[np.ndarray[Any, Any]]:
        """Return the arrays of a layer."""
        place = "/".join(self._place(*name) for name in layer.counted) + "/vars"
        if place not in self._tree.groups:
            return []
        name = self._tree.attributes(place).get("name", layer.names[-1])
        if name != layer.names[-1]:
            raise Refused(f"the weights of {name} in the place of {layer.names[-1]}")
        count = len(self._tree.below(place))
        return [self._tree.array(f"{place}/{n}") for n in range(count)]

    def _place(self, word: str, number: int) -> str:
        number *= _CONTAINERS[self._container]
        end = f"_{number}" if number else ""
        return f"{self._container}/{word}{end}"


class ByName:
    """Files of Keras 1 and 2: a group for each layer, which lists its arrays."""

    def __init__(self, tree: Tree, root: str) -> None:
        self._tree, self._root = tree, f"{root}/" if root else ""

    def of(self, layer: Layer) -> list[np.ndarray[Any, Any]]:
        """Return the arrays of a layer; those of an inner model lie with the model."""
        group = f"{self._root}{layer.names[0]}"
        if group not in self._tree.groups:
            return []
        names = _listed(self._tree.attributes(group), "weight_names")
        if len(layer.names) > 1:
            names = [n for n in names if n.split("/")[-2:-1] == [layer.names[-1]]]
        return [self._tree.array(f"{group}/{name}") for name in names]


def _listed(attributes: dict[str, Any], name: str) -> list[str]:
    """Return a list of names, which Keras cuts into pieces where it is long."""
    if name in attributes:
        return [str(n) for n in attributes[name]]
    found: list[str] = []
    while f"{name}{len(found)}" in attributes:
        found.append(f"{name}{len(found)}")
    return [str(n) for piece in found for n in attributes[piece]]
