"""The function that a bioimage.io package names as its architecture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_unet.checkpoints.families import FAMILIES, by_name
from napari_unet.errors import ModelError

if TYPE_CHECKING:
    from torch import nn


def rebuild(family: str, architecture: dict[str, Any]) -> nn.Module:
    """Make the module of a family with fresh weights.

    Parameters
    ----------
    family : str
        Name of a family, such as ``"milesial"``.
    architecture : dict
        Its settings, as `ModelSpec.architecture`.

    Raises
    ------
    ModelError
        If there is no such family.
    """
    found = by_name(family)
    if found is None:
        raise ModelError(
            "The kind of network is unknown",
            found=family,
            expected=", ".join(f.name for f in FAMILIES),
        )
    return found.build(architecture)
