"""The public functions, and the generators of events behind them.

The command line and the dock iterate over the ``iter_`` generators; `predict`,
`finetune` and `run_batch` drain them. All heavy imports happen inside the functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_unet.config import BatchConfig, FinetuneConfig, PredictConfig
from napari_unet.events import drain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np

    from napari_unet.events import CancelToken, Event
    from napari_unet.images.stack import ImageStack
    from napari_unet.networks.network import Network

    Image = str | Path | np.ndarray | ImageStack
    Model = str | Path | Network
    OnEvent = Callable[[Event], None]


def open_image(
    image: Image, axes: str | None = None, series: str | None = None
) -> ImageStack:
    """Open an image lazily, see `napari_unet.images.readers.open_image`."""
    from napari_unet.images import readers

    return readers.open_image(image, axes=axes, series=series)


def load_model(model: Model) -> Network:
    """Open a checkpoint safely, see `napari_unet.checkpoints.load`."""
    from napari_unet import checkpoints

    return checkpoints.load(model)


def iter_predict(
    image: Image,
    model: Model,
    output: str | Path | np.ndarray | None,
    config: PredictConfig,
    *,
    region: Mapping[str, int | slice] | None = None,
    cancel: CancelToken | None = None,
) -> Iterator[Event]:
    """Run a model over an image; `Finished.result` is the array or the path written.

    `output` is a path (.ome.tif, .ome.zarr, .npy), an array to fill, or None for a new
    array. `region` limits the output to a part of the image, in voxels by axis name;
    its values are those the whole run would give.
    """
    raise NotImplementedError


def iter_finetune(
    images: Sequence[Image],
    strokes: Sequence[Image],
    model: Model | None,
    output: str | Path,
    config: FinetuneConfig,
    *,
    cancel: CancelToken | None = None,
) -> Iterator[Event]:
    """Learn from strokes; `Finished.result` is a `napari_unet.training.rounds.Round`.

    `model` None starts from scratch. `output` is a new native checkpoint.
    """
    raise NotImplementedError


def iter_batch(
    inputs: Sequence[str | Path],
    model: Model,
    output: str | Path,
    config: BatchConfig,
    *,
    cancel: CancelToken | None = None,
) -> Iterator[Event]:
    """Run a model over files and folders; `Finished.result` is a batch summary."""
    raise NotImplementedError


def predict(
    image: Image,
    model: Model,
    output: str | Path | None = None,
    *,
    on_event: OnEvent | None = None,
    **settings: Any,
) -> Any:
    """Run a model over an image and return the result array, or the path written.

    Keyword settings are the fields of `PredictConfig`.
    """
    config = PredictConfig.build(**settings)
    return drain(iter_predict(image, model, output, config), on_event)


def finetune(
    images: Sequence[Image],
    strokes: Sequence[Image],
    output: str | Path,
    model: Model | None = None,
    *,
    on_event: OnEvent | None = None,
    **settings: Any,
) -> Any:
    """Learn from strokes and return the `Round`: checkpoint path and scores.

    Keyword settings are the fields of `FinetuneConfig`.
    """
    config = FinetuneConfig.build(**settings)
    return drain(iter_finetune(images, strokes, model, output, config), on_event)


def run_batch(
    inputs: Sequence[str | Path],
    model: Model,
    output: str | Path,
    *,
    on_event: OnEvent | None = None,
    **settings: Any,
) -> Any:
    """Run a model over files and folders and return the summary.

    Keyword settings are the fields of `BatchConfig`.
    """
    config = BatchConfig.build(**settings)
    return drain(iter_batch(inputs, model, output, config), on_event)


def evaluate(prediction: Image, truth: Image, task: str = "semantic") -> dict[str, Any]:
    """Score a label image against the truth, see `napari_unet.training.scores`."""
    raise NotImplementedError
