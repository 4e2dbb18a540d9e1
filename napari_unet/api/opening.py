"""Open images and checkpoints, and say what they are."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.events import Finished, Started

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from napari_unet.api.types import Image, Model
    from napari_unet.config import ReadConfig
    from napari_unet.events import CancelToken, Event
    from napari_unet.images.stack import ImageStack
    from napari_unet.networks.network import Network


def open_image(
    image: Image, axes: str | None = None, series: str | None = None
) -> ImageStack:
    """Open an image lazily, see `napari_unet.images.readers.open_image`."""
    from napari_unet.images import readers

    return readers.open_image(image, axes=axes, series=series)


@contextlib.contextmanager
def opened(image: Image, config: ReadConfig | None) -> Iterator[ImageStack]:
    """Open an image, and close it unless it came open."""
    axes, series = (config.axes, config.series) if config else (None, None)
    stack = open_image(image, axes=axes, series=series)
    try:
        yield stack
    finally:
        if stack is not image:
            stack.close()


def load_model(model: Model) -> Network:
    """Open a checkpoint safely, see `napari_unet.checkpoints.load`."""
    from napari_unet import checkpoints

    return checkpoints.load(model)


def iter_inspect(
    model: Model,
    *,
    told: Mapping[str, Any] | None = None,
    image: Image | None = None,
    axes: str | None = None,
    cancel: CancelToken | None = None,
) -> Iterator[Event]:
    """Say what a checkpoint is; `Finished.result` is a dict of plain values.

    It is what `napari_unet.checkpoints.inspect` returns, with ``device``, the words for
    where the network would run, and ``memory``, an estimate for one tile. `told` are
    facts that the file leaves open, by field; they are remembered beside it. With an
    `image` of the kind the network was trained on, ``normalization_fits`` lists the
    scalings by how well they explain the statistics in the network, best first.

    Raises
    ------
    ModelError
        If the checkpoint is refused.
    UsageError
        If a fact cannot be told.
    """
    from napari_unet import checkpoints
    from napari_unet.inference import footprint
    from napari_unet.networks.device import choose_device

    yield Started("Reading the checkpoint")
    if told and isinstance(model, (str, Path)):
        model = checkpoints.tell(model, told)
    network = checkpoints.load(model)
    facts = {**checkpoints.inspect(network), "memory": footprint.for_tile(network)}
    if image is not None:
        facts["normalization_fits"] = _fits(network, image, axes)
    yield Finished({**facts, "device": choose_device().words})


def _fits(network: Network, image: Image, axes: str | None) -> list[dict[str, Any]]:
    """Compare intensity scalings by the statistics in the network."""
    from napari_unet.checkpoints.detection import detect

    with contextlib.closing(open_image(image, axes=axes)) as stack:
        guesses = detect(network, stack)
    return [
        {"kind": g.normalization.kind, "distance": round(g.distance, 4)}
        for g in guesses
    ]
