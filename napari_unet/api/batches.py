"""Run a model over many images, and look at what was done."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet import warm
from napari_unet.config import BatchConfig
from napari_unet.errors import UsageError
from napari_unet.events import Finished, Started, Warned, drain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_unet.api.types import Model, OnEvent
    from napari_unet.batch.inputs import Inputs
    from napari_unet.events import CancelToken, Event
    from napari_unet.networks.network import Network


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
    harm, or by the workers that the settings name; a `Network` in memory is run in this
    one.

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
    if config.workers or config.scheduler:
        yield from _on_a_cluster(found, network, model, Path(output), config, cancel)
        return
    if not isinstance(model, (str, Path)):
        yield from run_batch(
            found, network, output, config, segment=work, cancel=cancel
        )
        return
    with contextlib.closing(Isolated(model)) as apart:
        yield from run_batch(
            found, network, output, config, segment=apart, cancel=cancel
        )


def _on_a_cluster(
    found: Inputs,
    network: Network,
    model: Model,
    output: Path,
    config: BatchConfig,
    cancel: CancelToken | None,
) -> Iterator[Event]:
    """Have the images done by Dask workers."""
    from napari_unet.batch.crew import Crew
    from napari_unet.batch.ledger import fingerprint_of
    from napari_unet.batch.run import run_batch
    from napari_unet.execution.cluster import JoinedCluster, LocalCluster

    if not isinstance(model, (str, Path)):
        raise UsageError(
            "Workers open the model themselves", found="a network in memory",
            hint="Give the path of a checkpoint.",
        )  # fmt: skip
    yield Started("Starting workers" if config.workers else "Joining the scheduler")
    cluster: LocalCluster | JoinedCluster
    if config.workers:
        cluster = LocalCluster(config.workers, dashboard=config.dashboard)
        if config.dashboard:
            yield Warned(f"The dashboard is at {cluster.page}.")
    else:
        cluster = JoinedCluster(config.scheduler or "", config.certificates)
    with contextlib.ExitStack() as ends:
        ends.callback(cluster.close)
        before = fingerprint_of(output, network.digest)
        crew = Crew(cluster, model, output, config, before)
        ends.callback(crew.close)
        yield from run_batch(
            found, network, output, config, segment=crew, crew=crew, cancel=cancel
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
