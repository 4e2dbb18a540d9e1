"""The unit of work of a batch: one image through the network into one result."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet.batch.measure import measure
from napari_unet.batch.names import files_of
from napari_unet.batch.numerics import fingerprint
from napari_unet.errors import ModelError
from napari_unet.events import Finished
from napari_unet.images.readers import open_image
from napari_unet.images.sinks import sink_for
from napari_unet.inference.predict import predict
from napari_unet.inference.probabilities import Probabilities

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_unet.config import BatchConfig, PredictConfig
    from napari_unet.events import CancelToken, Event
    from napari_unet.networks.network import Network


def segment(
    source: Path,
    target: Path,
    network: Network,
    config: PredictConfig,
    cancel: CancelToken | None = None,
    beside: Path | None = None,
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
    beside : pathlib.Path, optional
        Where its probabilities go, from the same pass.

    Yields
    ------
    Event
        The last is `Finished` with the path written, or `Cancelled`.

    Raises
    ------
    UNetError
        If the image cannot be read, does not fit the model, or cannot be written.
    """
    probabilities = None if beside is None else Probabilities(sink_for(beside))
    with open_image(source, axes=config.axes, series=config.series) as stack:
        yield from predict(
            *(stack, network, config, sink_for(target)),
            probabilities=probabilities,
            cancel=cancel,
        )


def work(
    source: Path,
    target: Path,
    network: Network,
    config: BatchConfig,
    cancel: CancelToken | None = None,
) -> Iterator[Event]:
    """Run a network over one image file and, if asked for, measure the result.

    Parameters and errors are those of `segment`.

    Yields
    ------
    Event
        The last is `Finished` with the fingerprint of the arithmetic, or `Cancelled`.
    """
    done, files = False, files_of(target, config)
    beside = files.get("probabilities")
    for event in segment(source, target, network, config, cancel, beside):
        done = isinstance(event, Finished)
        if not done:
            yield event
    if done and config.measure:
        measure(source, target, files["table"], config)
    if done:
        yield Finished(fingerprint(config))


_PR_SET_PDEATHSIG = 1
_last: tuple[str, Network] | None = None


def work_apart(
    source: str,
    target: str,
    model: str,
    digest: str,
    config: BatchConfig,
    *,
    cancel: CancelToken | None = None,
) -> Iterator[Event]:
    """Do `work` in a process of its own, which keeps the model for the next image.

    Parameters
    ----------
    source, target, model : str
        Paths of the image, the result and the checkpoint.
    digest : str
        SHA-256 that the checkpoint must have.
    config : BatchConfig
        How to read and predict.
    cancel : CancelToken, optional
        Checked between tiles.

    Yields
    ------
    Event
        As `work` does.

    Raises
    ------
    ModelError
        If the checkpoint is not the one the batch began with.
    UNetError
        As `segment` does.
    """
    network = model_of(model, digest)
    yield from work(Path(source), Path(target), network, config, cancel)


def model_of(model: str, digest: str) -> Network:
    """Open a checkpoint in a process of its own, or take the one that is open.

    Raises
    ------
    ModelError
        If it is not the one the batch began with.
    """
    global _last
    from napari_unet import checkpoints

    _depend_on_the_parent()
    if _last is None or _last[0] != digest:
        network = checkpoints.load(model)
        if network.digest != digest:
            raise ModelError(
                f"{Path(model).name} was replaced during the run",
                hint="Run the batch again.",
            )
        _last = digest, network
    return _last[1]


def fingerprint_apart(
    config: BatchConfig, *, cancel: CancelToken | None = None
) -> Iterator[Event]:
    """Give the fingerprint of the arithmetic of a process like that of `work_apart`."""
    _depend_on_the_parent()
    yield Finished(fingerprint(config))


def _depend_on_the_parent() -> None:
    """Leave signals to the parent and end with it; be the first the system kills."""
    for name in ("SIGTERM", "SIGUSR1", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("500")
