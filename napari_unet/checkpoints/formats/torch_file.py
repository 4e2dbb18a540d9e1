"""PyTorch's zip files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_unet.checkpoints.unpickle import read_tree
from napari_unet.checkpoints.unwrap import Found, unwrap

if TYPE_CHECKING:
    from pathlib import Path


def read(path: Path, choice: str = "") -> Found:
    """Return the network's weights; nothing in the file is run."""
    return unwrap(read_tree(path, is_zip=True), path.name, choice)
