"""Training rounds on disk: their checkpoints, and a note beside each that tells of it.

The note is written when a round begins, so one that was cut short is found again.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from napari_unet.files import write
from napari_unet.gui.learning import Begun, Round

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_NOTE = ".round.json"
_STATE = ".training"
_OURS = (".safetensors", ".reference", _STATE, _NOTE)
"""Endings of what a round leaves in its folder."""


def round_path(folder: Path, base: str, image: str) -> Path:
    """Name the checkpoint of a new round; nothing of that name is there yet.

    Parameters
    ----------
    folder : pathlib.Path
        Where rounds are kept.
    base : str
        Checkpoint the round starts from; empty for a new network, which is named after
        the image.
    image : str
        Name of the image layer.

    Returns
    -------
    pathlib.Path
        Such as ``nuclei-round-2.safetensors``.
    """
    stem = Path(base).stem if base else image
    stem = re.sub(r"-round-\d+$", "", stem)
    stem = re.sub(r"[^\w.-]+", "-", stem).strip("-.") or "unet"
    number = 1
    while any((folder / f"{stem}-round-{number}{end}").exists() for end in _OURS):
        number += 1
    return folder / f"{stem}-round-{number}.safetensors"


def round_from(result: Mapping[str, Any], begun: Begun) -> Round:
    """Read what a training job says of its round.

    Parameters
    ----------
    result : mapping
        Fields of a `napari_unet.training.rounds.Round`.
    begun : Begun
        How it began.
    """
    interval = (result.get("scores") or {}).get("dice_interval")
    return Round(
        path=str(result["path"]),
        base=begun.base,
        image=begun.image,
        strokes=int(result.get("strokes", 0)),
        before=result.get("score_before"),
        after=result.get("score_after"),
        interval=tuple(interval) if interval else None,
        note=" ".join(result.get("notes", ())),
        worse=tuple(result.get("worse", ())),
        stopped=bool(result.get("stopped", False)),
    )


def made_of(begun: Begun) -> Round | None:
    """Find what became of a round so far: one that goes on may have been stopped."""
    folder = Path(begun.path).parent
    notes = ((known.path, made) for known, made, _ in _notes(folder))
    return next((made for path, made in notes if path == begun.path), None)


def note(begun: Begun, made: Round | None = None) -> None:
    """Write down that a round began, and what became of it.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    path = _beside(begun.path, _NOTE)
    path.parent.mkdir(parents=True, exist_ok=True)
    told = {"begun": asdict(begun), "round": made and asdict(made), "pid": os.getpid()}
    write(path, json.dumps(told, indent=1).encode())


def known(folder: Path, base: str, image: str) -> list[Round]:
    """List the rounds of a base on an image whose checkpoints are there, by number."""
    rounds = [
        made
        for _, made, _ in _notes(folder)
        if made and (made.base, made.image) == (base, image)
    ]
    return sorted(
        (made for made in rounds if Path(made.path).exists()), key=lambda r: r.number
    )


def interrupted(folder: Path, image: str) -> Begun | None:
    """Find the last round on an image that was stopped or cut short and can go on.

    A round that another napari is at is left to it.
    """
    return max(
        _resumable(folder, image), key=lambda begun: _time(begun.path), default=None
    )


def give_up(folder: Path, image: str, but: str) -> None:
    """Let go of what rounds on an image could go on from, but for one.

    Of a round that was stopped its checkpoint stays.
    """
    for begun in _resumable(folder, image):
        if begun.path == but:
            continue
        if Path(begun.path).exists():
            with contextlib.suppress(OSError):
                _beside(begun.path, _STATE).unlink(missing_ok=True)
        else:
            remove(begun.path)


def progress(checkpoint: str) -> float | None:
    """How much of a round is done by the state beside it, None if there is none."""
    path = _beside(checkpoint, _STATE)
    try:
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        facts = json.loads(header["__metadata__"]["unet-training"])["facts"]
        return min(float(facts["seconds"]) / float(facts["limit"]), 1.0)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remove(checkpoint: str) -> None:
    """Remove the files of a round, its note first; one in use elsewhere may be left."""
    for ending in reversed(_OURS):
        with contextlib.suppress(OSError):
            _beside(checkpoint, ending).unlink(missing_ok=True)


def _resumable(folder: Path, image: str) -> list[Begun]:
    """List the rounds on an image that can go on, with the share that is done."""
    return [
        replace(begun, share=share)
        for begun, _, pid in _notes(folder)
        if begun.image == image and not _is_elsewhere(begun.path, pid)
        if (share := progress(begun.path)) is not None
    ]


def _is_elsewhere(checkpoint: str, pid: int) -> bool:
    """Whether another program that wrote the note of a round still runs.

    One that was started after that only has the number of the one that wrote it.
    """
    if pid == os.getpid():
        return False
    try:
        written = _beside(checkpoint, _NOTE).stat().st_mtime
        return psutil.Process(pid).create_time() <= written
    except (OSError, psutil.Error):
        return False


def _notes(folder: Path) -> Iterator[tuple[Begun, Round | None, int]]:
    """Read all notes; one that cannot be read tells nothing."""
    for path in folder.glob(f"*{_NOTE}"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            told = json.loads(path.read_text())
            checkpoint = str(path)[: -len(_NOTE)] + ".safetensors"
            begun = Begun(**{**told["begun"], "path": checkpoint})
            made = told["round"] and _round({**told["round"], "path": checkpoint})
            yield begun, made, int(told["pid"])


def _round(told: dict[str, Any]) -> Round:
    """Make a round of plain values."""
    for name in ("interval", "worse"):
        if told[name] is not None:
            told[name] = tuple(told[name])
    return Round(**told)


def _beside(checkpoint: str, ending: str) -> Path:
    """Name a file of the round that makes a checkpoint."""
    return Path(checkpoint.removesuffix(".safetensors") + ending)


def _time(checkpoint: str) -> float:
    """When a round kept its state last."""
    return _beside(checkpoint, _STATE).stat().st_mtime
