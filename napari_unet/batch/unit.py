"""The unit of work of a batch: one image through the network into one result."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_unet.images.readers import open_image
from napari_unet.images.sinks import sink_for
from napari_unet.inference.predict import predict

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_unet.config import PredictConfig
    from napari_unet.events import CancelToken, Event
    from napari_unet.networks.network import Network


def segment(
    source: Path,
    target: Path,
    network: Network,
    config: PredictConfig,
    cancel: CancelToken | None = None,
) -> Iterator[Event]:
    """Run a network over one image file.

    Parameters
    ----------
    source : pathlib.Path
        The image.
    target : pathlib.Path
        The result, whose ending names the format.
    network : Network
        The model.
    config : PredictConfig
        How to read and predict.
    cancel : CancelToken, optional
        Checked between tiles.

    Yields
    ------
    Event
        The last is `Finished` with the path written, or `Cancelled`.

    Raises
    ------
    UNetError
        If the image cannot be read, does not fit the model, or cannot be written.
    """
    with open_image(source, axes=config.axes, series=config.series) as stack:
        yield from predict(stack, network, config, sink_for(target), cancel=cancel)
