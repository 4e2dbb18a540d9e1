"""Run a model over an image, plan that, and look where it is unsure."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from napari_unet import guards, warm
from napari_unet.api.opening import opened
from napari_unet.config import PredictConfig
from napari_unet.events import Cancelled, Finished, Started, Stopped, drain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy as np

    from napari_unet.api.types import Image, Model, OnEvent
    from napari_unet.events import CancelToken, Event


def iter_predict(
    image: Image,
    model: Model,
    output: str | Path | np.ndarray | None,
    config: PredictConfig,
    *,
    region: Mapping[str, int | slice] | None = None,
    overwrite: bool = False,
    cancel: CancelToken | None = None,
) -> Iterator[Event]:
    """Run a model over an image; `Finished.result` is the array or the path written.

    `output` is a path (.ome.tif, .imagej.tif, .ome.zarr, .npy), an array to fill, or
    None for a new array. `region` limits the output to a part of the image, in voxels
    by axis name; its values are those the whole run would give. The last model and the
    last statistics stay loaded. A run to a path that was stopped or killed goes on when
    it is asked for again.

    Raises
    ------
    UsageError
        If the output is the image itself or is there already and `overwrite` is off.
    UNetError
        If the image or the model cannot be read, they do not fit, or the result cannot
        be written.
    """
    from napari_unet.inference.predict import predict

    sink = guards.sink(output, image, model, overwrite=overwrite)
    with opened(image, config) as stack:
        yield from predict(
            stack, warm.network(model), config, sink,
            region=region, measure=warm.scaling, cancel=cancel,
        )  # fmt: skip


def iter_forecast(
    image: Image,
    model: Model,
    config: PredictConfig,
    *,
    region: Mapping[str, int | slice] | None = None,
    cancel: CancelToken | None = None,
) -> Iterator[Event]:
    """Plan a prediction; `Finished.result` is its `Forecast`.

    See `napari_unet.inference.forecast.forecast`; `Progress` comes after each step, so
    that other work need not wait for all of it.

    Raises
    ------
    UNetError
        As `iter_predict` does before it computes.
    """
    from napari_unet.inference.forecast import iter_forecast

    yield Started("Planning")
    with opened(image, config) as stack:
        yield from iter_forecast(stack, warm.network(model), config, region)


def iter_seam(
    image: Image,
    model: Model,
    config: PredictConfig,
    *,
    cancel: CancelToken | None = None,
) -> Iterator[Event]:
    """Measure how much tiles change a result; `Finished.result` is a `Seam`.

    See `napari_unet.inference.seams.seam`.

    Raises
    ------
    UNetError
        As `iter_predict` does.
    """
    from napari_unet.inference.seams import seam

    yield Started("Comparing two ways to lay tiles")
    with opened(image, config) as stack:
        try:
            yield Finished(seam(stack, warm.network(model), config, cancel=cancel))
        except Stopped as stopped:
            yield Cancelled(str(stopped))


def iter_where_next(
    image: Image,
    model: Model,
    config: PredictConfig,
    *,
    region: Mapping[str, int | slice] | None = None,
    strokes: Image | None = None,
    number: int = 5,
    cancel: CancelToken | None = None,
) -> Iterator[Event]:
    """Find where a model is least sure, and so where strokes teach it most.

    `Finished.result` is a `napari_unet.inference.doubt.Doubt`: maps of the region, and
    up to `number` spots, spaced apart and off the `strokes` that are there.

    Raises
    ------
    UNetError
        As `iter_predict` does, and if the model does not tell classes apart.
    """
    from napari_unet.images.label_images import opened_labels
    from napari_unet.inference.doubt import where_next

    with contextlib.ExitStack() as files:
        stack = files.enter_context(opened(image, config))
        paint = None
        if strokes is not None:
            axes = stack.axes.replace("C", "")
            paint = files.enter_context(opened_labels(strokes, axes))
        yield from where_next(
            stack, warm.network(model), config,
            region=region, strokes=paint, number=number, cancel=cancel,
        )  # fmt: skip


def predict(
    image: Image,
    model: Model,
    output: str | Path | np.ndarray | None = None,
    *,
    overwrite: bool = False,
    on_event: OnEvent | None = None,
    **settings: Any,
) -> Any:
    """Run a model over an image and return the result array, or the path written.

    Keyword settings are the fields of `PredictConfig`.
    """
    config = PredictConfig.build(**settings)
    events = iter_predict(image, model, output, config, overwrite=overwrite)
    return drain(events, on_event)


def where_next(
    image: Image,
    model: Model,
    *,
    region: Mapping[str, int | slice] | None = None,
    strokes: Image | None = None,
    number: int = 5,
    on_event: OnEvent | None = None,
    **settings: Any,
) -> Any:
    """Find where a model is least sure and return the `Doubt`: maps and spots.

    Keyword settings are the fields of `PredictConfig`.
    """
    config = PredictConfig.build(**settings)
    events = iter_where_next(
        image, model, config, region=region, strokes=strokes, number=number
    )
    return drain(events, on_event)
