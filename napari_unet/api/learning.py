"""Learn from strokes, look for wrong ones, and score labels."""

from __future__ import annotations

import contextlib
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet import guards
from napari_unet.api.opening import load_model, opened
from napari_unet.config import FinetuneConfig
from napari_unet.errors import UsageError
from napari_unet.events import Cancelled, Finished, Started, Stopped, drain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from napari_unet.api.types import Image, Model, OnEvent
    from napari_unet.config import PredictConfig
    from napari_unet.events import CancelToken, Event
    from napari_unet.training.annotations import Example
    from napari_unet.training.boxes import Box


def iter_finetune(
    images: Sequence[Image],
    strokes: Sequence[Image],
    model: Model | None,
    output: str | Path,
    config: FinetuneConfig,
    *,
    boxes: Sequence[Sequence[Box]] = (),
    earlier: Sequence[str | Path] = (),
    go_on: bool = False,
    listen: bool = False,
    only_plan: bool = False,
    cancel: CancelToken | None = None,
) -> Iterator[Event]:
    """Learn from strokes; `Finished.result` is a `napari_unet.training.rounds.Round`.

    `model` None starts from scratch. `output` is a new native checkpoint. Strokes whose
    file names no axes have those of their image without its channels. `boxes` are, for
    each image, the parts in which what is not painted is known. `earlier` are the
    checkpoints of earlier rounds, oldest first: what judged them judges this round too,
    and so does what judged `model`, where that is kept beside it. `go_on` continues a
    training of `output` that was stopped or killed. With `listen`, a message to the job
    (`CancelToken.tell`) is a list as `strokes`, with all that is painted by then; the
    training goes on with those, see `news` there. With `only_plan` nothing is learned:
    the result is a dictionary with the network, its patches and batch.

    Raises
    ------
    UsageError
        If `output` is there already, or images and strokes differ in number.
    UNetError
        If something cannot be read, does not fit, or cannot be written.
    """
    from napari_unet.training import references
    from napari_unet.training.design import outlook
    from napari_unet.training.finetune import finetune

    if not go_on and not only_plan:
        guards.refuse_taken(Path(output), "checkpoint")
    past = [Path(path) for path in earlier]
    if isinstance(model, (str, Path)) and references.beside(Path(model)).exists():
        past = past if Path(model) in past else [Path(model), *past]
    with _examples(images, strokes, boxes, config) as examples, ExitStack() as later:
        network = None if model is None else load_model(model)
        if only_plan:
            yield from outlook(examples, network, config, cancel)
            return
        hear = partial(_heard, cancel, examples, config, later) if listen else None
        yield from finetune(
            examples, network, config, Path(output),
            cancel=cancel, earlier=past, go_on=go_on, news=hear,
        )  # fmt: skip


def _heard(
    cancel: CancelToken | None,
    examples: Sequence[Example],
    config: FinetuneConfig,
    files: ExitStack,
) -> list[Example] | None:
    """Open the strokes that were told last, if any, on the images that are open."""
    told = cancel.heard() if cancel is not None else []
    if not told:
        return None
    images = [example.stack for example in examples]
    boxes = [example.boxes for example in examples]
    return files.enter_context(_examples(images, told[-1], boxes, config))


def iter_training_view(
    image: Image,
    training: str | Path,
    output: str | Path,
    config: PredictConfig,
    *,
    region: Mapping[str, int | slice] | None = None,
    cancel: CancelToken | None = None,
) -> Iterator[Event]:
    """Run the network of a training that runs in this process over an image.

    `training` is the checkpoint that is to be made; else as `iter_predict`.

    Raises
    ------
    UsageError
        If there is no such training.
    UNetError
        As `iter_predict`.
    """
    from napari_unet.api.predicting import iter_predict
    from napari_unet.training import live

    network = live.network_of(Path(training))
    yield from iter_predict(
        image, network, output, config, region=region, cancel=cancel
    )


def iter_patches(
    images: Sequence[Image],
    strokes: Sequence[Image],
    model: Model | None,
    config: FinetuneConfig,
    *,
    boxes: Sequence[Sequence[Box]] = (),
    number: int = 8,
    cancel: CancelToken | None = None,
) -> Iterator[Event]:
    """Draw augmented patches as for training, to be looked at.

    `Finished.result` is a dict of ``images``, float32 (N, C, *patch), and ``targets``,
    int64 (N, *patch). Images, strokes, model and boxes as for `iter_finetune`.

    Raises
    ------
    UNetError
        As `iter_finetune`.
    """
    import torch

    from napari_unet.training.lesson import prepare
    from napari_unet.training.setup import make_sampler

    yield Started("Making patches")
    with _examples(images, strokes, boxes, config) as examples:
        network = None if model is None else load_model(model)
        try:
            lesson = prepare(examples, network, config, cancel)
        except Stopped as stopped:
            yield Cancelled(str(stopped))
            return
    generator = torch.Generator().manual_seed(config.seed)
    drawn = make_sampler(lesson, config).draw(number, generator)
    yield Finished({"images": drawn.images.numpy(), "targets": drawn.targets.numpy()})


def iter_audit(
    images: Sequence[Image],
    strokes: Sequence[Image],
    model: Model | None,
    config: FinetuneConfig,
    *,
    boxes: Sequence[Sequence[Box]] = (),
    cancel: CancelToken | None = None,
) -> Iterator[Event]:
    """Look for strokes that the others contradict, such as those of a wrong class.

    `Finished.result` is a list of `napari_unet.training.audit.Suspect`, the most
    contradicted first. Images, strokes, model and boxes as for `iter_finetune`.

    Raises
    ------
    UNetError
        As `iter_finetune`, and if a class has a single stroke.
    """
    from napari_unet.training.audit import audit

    with _examples(images, strokes, boxes, config) as examples:
        network = None if model is None else load_model(model)
        yield from audit(examples, network, config, cancel=cancel)


@contextlib.contextmanager
def _examples(
    images: Sequence[Image],
    strokes: Sequence[Image],
    boxes: Sequence[Sequence[Box]],
    config: FinetuneConfig,
) -> Iterator[list[Example]]:
    """Open images and their strokes."""
    from napari_unet.images.label_images import opened_labels
    from napari_unet.training.annotations import Example

    if len(images) != len(strokes) or not images:
        raise UsageError(
            "Each image needs its strokes",
            found=f"{len(images)} images and {len(strokes)} stroke images",
        )
    boxes = boxes or [()] * len(images)
    if len(boxes) != len(images):
        raise UsageError(
            "Each image needs its list of complete boxes",
            found=f"{len(images)} images and {len(boxes)} lists",
        )
    with contextlib.ExitStack() as files:
        examples = []
        for image, painted, known in zip(images, strokes, boxes, strict=True):
            stack = files.enter_context(opened(image, config))
            axes = stack.axes.replace("C", "")
            paint = files.enter_context(opened_labels(painted, axes))
            examples.append(Example(stack, paint, tuple(known)))
        yield examples


def finetune(
    images: Sequence[Image],
    strokes: Sequence[Image],
    output: str | Path,
    model: Model | None = None,
    *,
    boxes: Sequence[Sequence[Box]] = (),
    earlier: Sequence[str | Path] = (),
    on_event: OnEvent | None = None,
    **settings: Any,
) -> Any:
    """Learn from strokes and return the `Round`: checkpoint path and scores.

    `boxes` are, for each image, the `napari_unet.training.boxes.Box` in which what is
    not painted is background, or the class that the box names. Keyword settings are the
    fields of `FinetuneConfig`.
    """
    config = FinetuneConfig.build(**settings)
    events = iter_finetune(
        images, strokes, model, output, config, boxes=boxes, earlier=earlier
    )
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
