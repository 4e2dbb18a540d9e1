"""The units of a divided stack, as a worker does them in a process of its own.

See `napari_unet.inference.slabs`; who does which slab is told by
`napari_unet.batch.divided`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.batch.measure import measure
from napari_unet.batch.names import files_of
from napari_unet.batch.numerics import fingerprint
from napari_unet.batch.unit import model_of, work
from napari_unet.events import Cancelled, CancelToken, Finished, Stopped, Warned
from napari_unet.images.readers import open_image
from napari_unet.inference import slabs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_unet.config import BatchConfig
    from napari_unet.events import Event
    from napari_unet.images.stack import ImageStack

    Head = dict[str, Any]

BEGIN, SLAB, FINISH = (
    f"{__name__}:{name}_apart" for name in ("begin", "slab", "finish")
)


def begin_apart(
    source: str,
    target: str,
    model: str,
    digest: str,
    config: BatchConfig,
    folder: str,
    past: Head | None,
    workers: int,
    least: int,
    *,
    cancel: CancelToken | None = None,
) -> Iterator[Event]:
    """Begin a stack that is divided; do all of one that is not.

    Parameters
    ----------
    source, target, model, digest, config, cancel
        As in `napari_unet.batch.unit.work_apart`.
    folder, past, workers, least
        As in `napari_unet.inference.slabs.begin`.

    Yields
    ------
    Event
        The last is `Finished` with {"head": the head}, or as `work` does.

    Raises
    ------
    UNetError
        As `work` does.
    """
    network, token = model_of(model, digest), cancel or CancelToken()
    with _opened(source, config) as stack:
        try:
            head = yield from slabs.begin(
                *(stack, network, config, Path(folder), past, token),
                workers=workers,
                least=least,
                beside=config.probabilities,
            )
        except Stopped as stopped:
            yield Cancelled(str(stopped))
            return
    if isinstance(head, dict):
        yield Finished({"head": head})
        return
    if head:
        yield Warned(f"One worker does all of it, since {head}.")
    yield from work(Path(source), Path(target), network, config, cancel)


def slab_apart(
    source: str,
    target: str,
    model: str,
    digest: str,
    config: BatchConfig,
    folder: str,
    head: Head,
    number: int,
    known: str,
    *,
    cancel: CancelToken | None = None,
) -> Iterator[Event]:
    """Compute a slab; `Finished` has {"slab": what `slabs.compute` gives}.

    Parameters and errors are those of `begin_apart` and `slabs.compute`.
    """
    network, token = model_of(model, digest), cancel or CancelToken()
    with _opened(source, config) as stack:
        work = slabs.compute(
            *(stack, network, config, Path(folder), head, number, token), known=known
        )
        try:
            for event in work:
                if isinstance(event, Finished):
                    event = Finished({"slab": event.result})
                yield event
        except Stopped as stopped:
            yield Cancelled(str(stopped))


def finish_apart(
    source: str,
    target: str,
    model: str,
    digest: str,
    config: BatchConfig,
    folder: str,
    head: Head,
    seen: list[list[float]],
    *,
    cancel: CancelToken | None = None,
) -> Iterator[Event]:
    """Complete a stack whose slabs are done; `Finished` has the fingerprint.

    Parameters and errors are those of `begin_apart` and `slabs.finish`.
    """
    network, path = model_of(model, digest), Path(target)
    with _opened(source, config) as stack:
        slabs.finish(stack, network, config, Path(folder), head, seen, path)
    if config.measure:
        measure(Path(source), path, files_of(path, config)["table"], config)
    yield Finished(fingerprint(config))


def _opened(source: str, config: BatchConfig) -> ImageStack:
    return open_image(source, axes=config.axes, series=config.series)
