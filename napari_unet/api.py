"""The public functions, and the generators of events behind them.

The command line and the dock iterate over the ``iter_`` generators; `predict`,
`finetune` and `run_batch` drain them. All heavy imports happen inside the functions.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet import guards, warm
from napari_unet.config import BatchConfig, ExportConfig, FinetuneConfig, PredictConfig
from napari_unet.errors import UsageError
from napari_unet.events import Cancelled, Finished, Started, Stopped, drain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy as np

    from napari_unet.batch.inputs import Inputs
    from napari_unet.config import ReadConfig
    from napari_unet.events import CancelToken, Event
    from napari_unet.images.readers import ImageSource
    from napari_unet.images.stack import ImageStack
    from napari_unet.networks.network import Network
    from napari_unet.training.annotations import Example

    Image = str | Path | np.ndarray | ImageStack | ImageSource
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

    `output` is a path (.ome.tif, .ome.zarr, .npy), an array to fill, or None for a new
    array. `region` limits the output to a part of the image, in voxels by axis name;
    its values are those the whole run would give. The last model and the last
    statistics stay loaded. A run to a path that was stopped or killed goes on when it
    is asked for again.

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
    with _opened(image, config) as stack:
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
    with _opened(image, config) as stack:
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
    with _opened(image, config) as stack:
        try:
            yield Finished(seam(stack, warm.network(model), config, cancel=cancel))
        except Stopped as stopped:
            yield Cancelled(str(stopped))


def iter_finetune(
    images: Sequence[Image],
    strokes: Sequence[Image],
    model: Model | None,
    output: str | Path,
    config: FinetuneConfig,
    *,
    earlier: Sequence[str | Path] = (),
    go_on: bool = False,
    cancel: CancelToken | None = None,
) -> Iterator[Event]:
    """Learn from strokes; `Finished.result` is a `napari_unet.training.rounds.Round`.

    `model` None starts from scratch. `output` is a new native checkpoint. Strokes whose
    file names no axes have those of their image without its channels. `earlier` are the
    checkpoints of earlier rounds, oldest first: what judged them judges this round too,
    and so does what judged `model`, where that is kept beside it. `go_on` continues a
    training of `output` that was stopped or killed.

    Raises
    ------
    UsageError
        If `output` is there already, or images and strokes differ in number.
    UNetError
        If something cannot be read, does not fit, or cannot be written.
    """
    from napari_unet.training import references
    from napari_unet.training.finetune import finetune

    if not go_on:
        guards.refuse_taken(Path(output), "checkpoint")
    past = [Path(path) for path in earlier]
    if isinstance(model, (str, Path)) and references.beside(Path(model)).exists():
        past = past if Path(model) in past else [Path(model), *past]
    with _examples(images, strokes, config) as examples:
        network = None if model is None else load_model(model)
        yield from finetune(
            examples, network, config, Path(output),
            cancel=cancel, earlier=past, go_on=go_on,
        )  # fmt: skip


def iter_audit(
    images: Sequence[Image],
    strokes: Sequence[Image],
    model: Model | None,
    config: FinetuneConfig,
    *,
    cancel: CancelToken | None = None,
) -> Iterator[Event]:
    """Look for strokes that the others contradict, such as those of a wrong class.

    `Finished.result` is a list of `napari_unet.training.audit.Suspect`, the most
    contradicted first. Images, strokes and model as for `iter_finetune`.

    Raises
    ------
    UNetError
        As `iter_finetune`, and if a class has a single stroke.
    """
    from napari_unet.training.audit import audit

    with _examples(images, strokes, config) as examples:
        network = None if model is None else load_model(model)
        yield from audit(examples, network, config, cancel=cancel)


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
        stack = files.enter_context(_opened(image, config))
        paint = None
        if strokes is not None:
            axes = stack.axes.replace("C", "")
            paint = files.enter_context(opened_labels(strokes, axes))
        yield from where_next(
            stack, warm.network(model), config,
            region=region, strokes=paint, number=number, cancel=cancel,
        )  # fmt: skip


@contextlib.contextmanager
def _examples(
    images: Sequence[Image], strokes: Sequence[Image], config: FinetuneConfig
) -> Iterator[list[Example]]:
    """Open images and their strokes."""
    from napari_unet.images.label_images import opened_labels
    from napari_unet.training.annotations import Example

    if len(images) != len(strokes) or not images:
        raise UsageError(
            "Each image needs its strokes",
            found=f"{len(images)} images and {len(strokes)} stroke images",
        )
    with contextlib.ExitStack() as files:
        examples = []
        for image, painted in zip(images, strokes, strict=True):
            stack = files.enter_context(_opened(image, config))
            axes = stack.axes.replace("C", "")
            paint = files.enter_context(opened_labels(painted, axes))
            examples.append(Example(stack, paint))
        yield examples


def iter_batch(
    inputs: Sequence[str | Path],
    model: Model,
    output: str | Path,
    config: BatchConfig,
    *,
    cancel: CancelToken | None = None,
) -> Iterator[Event]:
    """Run a model over files and folders.

    `Finished.result` is a `napari_unet.batch.summary.BatchSummary`; see
    `napari_unet.batch.run.run_batch` for what is skipped and what is done again. A
    checkpoint given by its path is run in a process of its own, which may die without
    harm; a `Network` in memory is run in this one.

    Raises
    ------
    UsageError
        If an input does not exist or the results would land among the images.
    ModelError
        If the checkpoint is refused.
    OutputError
        If the output folder cannot be written.
    """
    from napari_unet.batch.isolated import Isolated
    from napari_unet.batch.run import run_batch
    from napari_unet.batch.unit import work

    found, network = _found(inputs, output, config), warm.network(model)
    if not isinstance(model, (str, Path)):
        yield from run_batch(
            found, network, output, config, segment=work, cancel=cancel
        )
        return
    with contextlib.closing(Isolated(model)) as apart:
        yield from run_batch(
            found, network, output, config, segment=apart, cancel=cancel
        )


def iter_batch_plan(
    inputs: Sequence[str | Path],
    model: Model,
    output: str | Path,
    config: BatchConfig,
    *,
    cancel: CancelToken | None = None,
) -> Iterator[Event]:
    """Say what `iter_batch` would do; `Finished.result` is a `BatchSummary`.

    Raises
    ------
    UNetError
        As `iter_batch` does before it computes.
    """
    from napari_unet.batch.run import plan_batch

    yield Started("Planning")
    found, network = _found(inputs, output, config), warm.network(model)
    yield Finished(plan_batch(found, network, output, config))


def iter_verify(
    output: str | Path, model: Model | None = None, *, cancel: CancelToken | None = None
) -> Iterator[Event]:
    """Compare the results in a folder with their ledger; `Finished.result` a `Verdict`.

    See `napari_unet.batch.check.verify`.
    """
    from napari_unet.batch.check import verify

    path = model if isinstance(model, (str, Path)) else None
    yield from verify(output, path, cancel)


def batch_state(output: str | Path) -> Any:
    """Say what the ledger of a batch says; see `napari_unet.batch.check.state`."""
    from napari_unet.batch.check import state

    return state(output)


def _found(
    inputs: Sequence[str | Path], output: str | Path, config: BatchConfig
) -> Inputs:
    """List the images of a batch."""
    from napari_unet.batch.inputs import gather

    return gather(
        inputs, output, config.pattern, series=config.series, table=config.table
    )


def iter_export(
    model: Model,
    output: str | Path,
    config: ExportConfig,
    *,
    overwrite: bool = False,
    cancel: CancelToken | None = None,
) -> Iterator[Event]:
    """Write a model in a form that other programs read.

    `Finished.result` is a `napari_unet.checkpoints.exports.Exported`. The file is read
    again and compared with the model before it gets its name.

    Raises
    ------
    UsageError
        If the output is the model itself, is there already and `overwrite` is off, or
        its name does not fit the target.
    ModelError
        If the checkpoint is refused or the target cannot hold it.
    OutputError
        If the file cannot be written.
    """
    from napari_unet.checkpoints.exports import export

    guards.export(Path(output), model, config.to, overwrite=overwrite)
    yield Started("Reading the checkpoint")
    network = load_model(model)
    yield Started(f"Writing {Path(output).name}")
    if cancel is not None and cancel.is_set():
        yield Cancelled()
        return
    yield Finished(export(network, output, config, overwrite=overwrite))


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


def finetune(
    images: Sequence[Image],
    strokes: Sequence[Image],
    output: str | Path,
    model: Model | None = None,
    *,
    earlier: Sequence[str | Path] = (),
    on_event: OnEvent | None = None,
    **settings: Any,
) -> Any:
    """Learn from strokes and return the `Round`: checkpoint path and scores.

    Keyword settings are the fields of `FinetuneConfig`.
    """
    config = FinetuneConfig.build(**settings)
    events = iter_finetune(images, strokes, model, output, config, earlier=earlier)
    return drain(events, on_event)


def audit(
    images: Sequence[Image],
    strokes: Sequence[Image],
    model: Model | None = None,
    *,
    on_event: OnEvent | None = None,
    **settings: Any,
) -> Any:
    """Look for strokes that the others contradict and return them, the worst first.

    Keyword settings are the fields of `FinetuneConfig`.
    """
    config = FinetuneConfig.build(**settings)
    return drain(iter_audit(images, strokes, model, config), on_event)


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


def export_model(
    model: Model,
    output: str | Path,
    *,
    overwrite: bool = False,
    on_event: OnEvent | None = None,
    **settings: Any,
) -> Any:
    """Write a model for other programs and return what was `Exported`.

    Keyword settings are the fields of `ExportConfig`.
    """
    config = ExportConfig.build(**settings)
    return drain(iter_export(model, output, config, overwrite=overwrite), on_event)


def evaluate(prediction: Image, truth: Image, task: str = "semantic") -> dict[str, Any]:
    """Score a label image against the truth.

    Parameters
    ----------
    prediction, truth : path-like, numpy.ndarray or ImageStack
        Label images of the same shape. Where one names no axes it has those of the
        other; of two arrays the last axes are Z, Y, X.
    task : {"semantic", "instances"}
        Whether the numbers are classes or objects.

    Returns
    -------
    dict
        See `napari_unet.training.scores.evaluate`.

    Raises
    ------
    ImageError
        If an image cannot be read.
    UsageError
        If the shapes or the axes differ, or the labels are no whole numbers.
    """
    import numpy as np

    from napari_unet.images.label_images import opened_pair
    from napari_unet.training import scores

    if isinstance(prediction, np.ndarray) and isinstance(truth, np.ndarray):
        return scores.evaluate(prediction, truth, task)
    with opened_pair(prediction, truth) as (found, wanted):
        return scores.evaluate(found, wanted, task)


@contextlib.contextmanager
def _opened(image: Image, config: ReadConfig | None) -> Iterator[ImageStack]:
    """Open an image, and close it unless it came open."""
    axes, series = (config.axes, config.series) if config else (None, None)
    stack = open_image(image, axes=axes, series=series)
    try:
        yield stack
    finally:
        if stack is not image:
            stack.close()
