"""Predictions that are looked at while they grow, and shown anew afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet import warm
from napari_unet.api.opening import opened
from napari_unet.events import Cancelled, Finished, Preview, Started, Written

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from napari_unet.api.types import Image, Model
    from napari_unet.config import PredictConfig
    from napari_unet.events import CancelToken, Event


def iter_shown(
    image: Image,
    model: Model,
    output: str | Path,
    config: PredictConfig,
    *,
    keep: str | Path | None = None,
    region: Mapping[str, slice] | None = None,
    view: Mapping[str, slice] | None = None,
    cancel: CancelToken | None = None,
) -> Iterator[Event]:
    """Run a model and fill a .npy file that others look at meanwhile.

    As `napari_unet.api.iter_predict`, with these differences: `output` is written in
    place and stays as it is when the run stops; `Written` comes in place of `Preview`;
    it goes outwards from `view`, see `napari_unet.inference.order`;
    the probabilities go to `keep`, so that `iter_regroup` and
    `napari_unet.tasks.decisions` can make other results of them. A network that brings
    a procedure of its own writes no `keep`.

    Raises
    ------
    UNetError
        As `iter_predict` does.
    """
    from napari_unet.images.npy_sink import GrowingSink
    from napari_unet.inference.predict import predict
    from napari_unet.inference.probabilities import Probabilities

    network, begun = warm.network(model), False
    probabilities = None
    if keep is not None and network.spec.recipe is None:
        probabilities = Probabilities(GrowingSink(keep))
    with opened(image, config) as stack:
        for event in predict(
            stack, network, config, GrowingSink(output),
            region=region, view=view, measure=warm.scaling, probabilities=probabilities,
            cancel=cancel,
        ):  # fmt: skip
            if isinstance(event, Preview):
                begun = True
                yield Written(event.region)
            elif isinstance(event, Cancelled) and begun:
                yield Cancelled("what was done until then is shown")
            else:
                yield event


def iter_regroup(
    probabilities: str | Path,
    model: Model,
    output: str | Path,
    *,
    threshold: float,
    split: bool = False,
    cancel: CancelToken | None = None,
) -> Iterator[Event]:
    """Find objects anew in kept probabilities.

    See `napari_unet.inference.regroup.regroup`.
    """
    from napari_unet.inference.regroup import regroup

    spec = warm.network(model).spec
    yield from regroup(
        probabilities, spec, output, threshold, split=split, cancel=cancel
    )


def iter_measure(
    image: Image,
    labels: Image,
    output: str | Path,
    *,
    cancel: CancelToken | None = None,
) -> Iterator[Event]:
    """Measure the objects of a label image; `Finished.result` is the CSV file.

    See `napari_unet.batch.measure.measure`. The labels have the axes of the image
    without C.

    Raises
    ------
    UNetError
        If one of the two cannot be read, or the table cannot be written.
    """
    from napari_unet.batch.measure import measure_stacks

    yield Started("Measuring")
    with opened(image, None) as pixels, opened(labels, None) as found:
        measure_stacks(pixels, found, Path(output))
    yield Finished(str(output))
