"""Nothing that was there before is written over by accident."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from napari_unet.images.sinks import Sink


def sink(
    output: str | Path | np.ndarray | None,
    image: object,
    model: object,
    *,
    overwrite: bool,
) -> Sink:
    """Make the sink of a result.

    Raises
    ------
    UsageError
        If the result would replace the image or the model, or, unless `overwrite`, a
        file that is there.
    """
    from napari_unet.images.sinks import ArraySink, sink_for

    if output is None or not isinstance(output, (str, Path)):
        return ArraySink(output)
    for name, source in (("image", image), ("model", model)):
        if _is_same(output, source):
            raise UsageError(
                f"The result would replace the {name}", found=str(output),
                hint="Choose another name for the output.",
            )  # fmt: skip
    if not overwrite:
        refuse_taken(Path(output), "result", " Or replace it with --overwrite.")
    return sink_for(output)


def export(output: Path, model: object, target: str, *, overwrite: bool) -> None:
    """Refuse an export that would write over something.

    Raises
    ------
    UsageError
        If the name does not fit the target, or the file or its sidecar is the model's
        own or, unless `overwrite`, there already.
    """
    from napari_unet.checkpoints import sidecar
    from napari_unet.checkpoints.exports.export import chosen

    made = [output]
    if chosen(output, target) == "state-dict":
        made.append(sidecar.beside(output))
    own = Path(model) if isinstance(model, (str, Path)) else None
    for path in made:
        for source in (own, sidecar.beside(own)) if own else ():
            if _is_same(path, source):
                raise UsageError(
                    "The export would replace the model", found=str(path),
                    hint="Choose another name for the output.",
                )  # fmt: skip
        if not overwrite:
            refuse_taken(path, "export", " Or replace it with --overwrite.")


def refuse_taken(path: Path, what: str, also: str = "") -> None:
    """Refuse to write over what is there.

    Raises
    ------
    UsageError
        If there is something under `path`.
    """
    if os.path.lexists(path):
        raise UsageError(
            f"The {what} is there already", found=str(path),
            hint=f"Choose another name for the output.{also}",
        )  # fmt: skip


def _is_same(output: str | Path, source: object) -> bool:
    """Whether a result would be written over a source."""
    path = getattr(source, "source", getattr(source, "path", source))
    if not isinstance(path, (str, Path)) or not path:
        return False
    if not (os.path.exists(path) and os.path.exists(output)):
        return False
    return os.path.samefile(path, output)
