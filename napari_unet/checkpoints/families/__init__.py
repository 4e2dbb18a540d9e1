"""Checkpoint families: one file each, found by the names and shapes of the tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_unet.checkpoints.families.milesial import Milesial
from napari_unet.checkpoints.families.native import Native
from napari_unet.checkpoints.families.torch_em import TorchEm

if TYPE_CHECKING:
    from napari_unet.checkpoints.families.base import Family

FAMILIES: tuple[Family, ...] = (Native(), TorchEm(), Milesial())
