"""What the public functions take for an image, a model and a listener."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np

    from napari_unet.events import Event
    from napari_unet.images.source import ImageSource
    from napari_unet.images.stack import ImageStack
    from napari_unet.networks.network import Network

    Image: TypeAlias = str | Path | np.ndarray | ImageStack | ImageSource
    Model: TypeAlias = str | Path | Network
    OnEvent: TypeAlias = Callable[[Event], None]
