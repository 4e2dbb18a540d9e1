"""Checkpoints of many kinds opened as one, without running what they hold."""

from napari_unet.checkpoints.loading import load
from napari_unet.checkpoints.native import build_module, save
from napari_unet.checkpoints.report import inspect
from napari_unet.checkpoints.telling import tell

__all__ = ["build_module", "inspect", "load", "save", "tell"]
