"""File formats that weights come in: one module each, with one function `read`.

``read(path, choice)`` returns `napari_unet.checkpoints.unwrap.Found` and runs in the
reading process, see `napari_unet.checkpoints.quarantine`; it raises `ModelError` for a
file it refuses, and never runs what the file holds. Formats with one set of weights
take no `choice`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from napari_unet.checkpoints.unwrap import Found

WORDS = {
    "torch": "PyTorch file",
    "legacy": "PyTorch file from before 1.6",
    "torchscript": "TorchScript",
    "pt2": "torch.export package",
    "onnx": "ONNX",
    "keras": "Keras archive",
    "hdf5": "HDF5 file",
}
"""Each format in words; ``formats/<name>_file.py`` reads it."""


def read(path: Path, kind: str, choice: str = "") -> Found:
    """Read a file of a known format; only to be called in the reading process.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    kind : str
        One of `WORDS`.
    choice : str
        Which of several sets of weights, see `Found.choices`.

    Raises
    ------
    ModelError
        If the file is damaged or refused.
    """
    reader = import_module(_module(kind)).read
    found: Found = reader(path, choice) if choice else reader(path)
    return found


def _module(kind: str) -> str:
    return f"{__name__}.{kind}_file"
