"""Writing a model in the form that other programs read, each form verified."""

from napari_unet.checkpoints.exports.export import SUFFIXES, Exported, export

__all__ = ["SUFFIXES", "Exported", "export"]
