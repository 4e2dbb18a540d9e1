"""Open any U-Net in napari, run it without seams, correct it with the brush."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "audit",
    "evaluate",
    "export_model",
    "finetune",
    "finetune_project",
    "load_model",
    "open_image",
    "predict",
    "run_batch",
    "where_next",
]

if TYPE_CHECKING:
    from napari_unet.api import (
        audit,
        evaluate,
        export_model,
        finetune,
        finetune_project,
        load_model,
        open_image,
        predict,
        run_batch,
        where_next,
    )


def __getattr__(name: str) -> Any:
    """Import the public functions on first use, so that torch loads only then."""
    if name in __all__:
        return getattr(import_module("napari_unet.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
