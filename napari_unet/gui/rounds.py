"""Training rounds: where their checkpoints go and what they brought."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.gui.state import Round

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_unet.gui.state import Model


def round_path(folder: Path, parent: str, image: str) -> Path:
    """Name the checkpoint of a new round; no file is there yet.

    Parameters
    ----------
    folder : pathlib.Path
        Where rounds are kept.
    parent : str
        Checkpoint the round starts from; empty for a new network, which is named after
        the image.
    image : str
        Name of the image layer.

    Returns
    -------
    pathlib.Path
        Such as ``nuclei-round-2.safetensors``.
    """
    stem = Path(parent).stem if parent else image
    stem = re.sub(r"-round-\d+$", "", stem)
    stem = re.sub(r"[^\w.-]+", "-", stem).strip("-.") or "unet"
    number = 1
    while (path := folder / f"{stem}-round-{number}.safetensors").exists():
        number += 1
    return path


def round_from(
    result: Mapping[str, Any], parent: Model | None, previous: Round | None
) -> Round:
    """Read what a training job says of its round.

    Parameters
    ----------
    result : mapping
        Fields of a `napari_unet.training.rounds.Round`.
    parent : Model, optional
        The model that was used before.
    previous : Round, optional
        The round before.
    """
    return Round(
        path=str(result["path"]),
        parent=parent,
        before=result.get("score_before"),
        after=result.get("score_after"),
        previous=previous,
        note=" ".join(result.get("notes", ())),
        worse=tuple(result.get("worse", ())),
    )


def chain(last: Round | None) -> list[str]:
    """Checkpoints of the rounds so far that are still there, oldest first."""
    paths: list[str] = []
    while last is not None:
        paths.insert(0, last.path)
        last = last.previous
    return [path for path in paths if Path(path).exists()]
