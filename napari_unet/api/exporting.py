"""Write a model for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet import guards
from napari_unet.api.opening import load_model
from napari_unet.config import ExportConfig
from napari_unet.events import Cancelled, Finished, Started, drain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_unet.api.types import Model, OnEvent
    from napari_unet.events import CancelToken, Event


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
