"""References: the patches that judged a round, kept for judging the rounds after it.

A round keeps, in a file beside its checkpoint, the windows around its held-out strokes
(or around its training strokes where none were held out) and a few pixels of each
stroke, by which later rounds know it again: what was held out stays held out, and what
was trained on does not come to judge. The file is safetensors; nothing in it can run.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import save as to_bytes

from napari_unet.checkpoints.tensorfile import read_tensors
from napari_unet.errors import ModelError
from napari_unet.files import write
from napari_unet.training.coding import Coding
from napari_unet.training.heldout import HeldOut, windows_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_unet.networks.network import Network
    from napari_unet.networks.spec import ModelSpec
    from napari_unet.training.annotations import Kind
    from napari_unet.training.blocks import Block
    from napari_unet.training.heldout import Window
    from napari_unet.training.lesson import Lesson

_FORMAT = "unet-reference"
_MOST_WINDOWS = 64
_MARKS = 16  # pixels that are kept of a stroke
_AXES = "TZYX"


@dataclass(frozen=True)
class Reference:
    """What judged a round.

    Attributes
    ----------
    name : str
        The round's checkpoint.
    facts : mapping
        ``kind`` of the strokes, ``normalization`` of the images, and ``grid``: stride,
        margin and remainder that the windows suit. JSON-able.
    windows : list of (torch.Tensor, torch.Tensor)
        Images (C, *spatial) as the network sees them and targets.
    marks : mapping
        By image name, int32 (pixels, 5): 1 for held out and 0 for trained on, then
        T, Z, Y, X of some pixels of every stroke.
    rehearsed : list of (torch.Tensor, torch.Tensor)
        Patches that may be learned from again, as `windows`; they never judge. Only the
        makers of a checkpoint add them: a round starts from its base on all strokes.
    """

    name: str
    facts: dict[str, Any]
    windows: list[Window] = field(repr=False)
    marks: dict[str, np.ndarray] = field(repr=False)
    rehearsed: list[Window] = field(default_factory=list, repr=False)

    @property
    def kind(self) -> Kind:
        """What the targets of the windows are."""
        kind: Kind = self.facts["kind"]
        return kind

    def fits(self, network: Network, kind: Kind) -> bool:
        """Whether a network that learns strokes of `kind` can be judged by these.

        A network of objects is judged by objects whatever is painted.
        """
        same = self.kind == kind or network.spec.task == "instances"
        return same and self.facts == facts_of(network, self.kind)

    def judge(self, network: Network) -> HeldOut:
        """Make what gives the scores of such a network on these windows."""
        return HeldOut(self.windows, Coding.of(network.spec, self.kind))


def beside(checkpoint: Path) -> Path:
    """Name the file of a checkpoint's reference."""
    return checkpoint.with_suffix(".reference")


def gather(lesson: Lesson, name: str, *, has_all: bool = False) -> Reference:
    """Keep what judges this round.

    `has_all`: it learned what was held out after that had scored it, so this counts as
    trained on in later rounds.
    """
    split = lesson.split
    judged = split.held_out if lesson.validated else split.training
    windows = windows_of(lesson.images, judged, lesson.network.geometry)
    # Spread over the round, so that no image is forgotten for the first one.
    chosen = np.linspace(0, len(windows) - 1, min(len(windows), _MOST_WINDOWS))
    return Reference(
        name,
        facts_of(lesson.network, lesson.kind),
        [windows[int(n)] for n in chosen],
        _marks(lesson, has_all),
    )


def save(reference: Reference, checkpoint: Path) -> None:
    """Write a reference beside its checkpoint, complete or not at all.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    tensors = {f"marks.{n}": torch.from_numpy(m) for n, m in reference.marks.items()}
    for prefix, windows in (("", reference.windows), ("old.", reference.rehearsed)):
        for n, (image, target) in enumerate(windows):
            tensors[f"{prefix}image.{n}"] = image.contiguous()
            tensors[f"{prefix}target.{n}"] = target.to(torch.uint8).contiguous()
    header = {_FORMAT: json.dumps(reference.facts)}
    write(beside(checkpoint), to_bytes(tensors, header))


def load(checkpoint: Path) -> Reference | None:
    """Read the reference of a checkpoint, None if it has none.

    Raises
    ------
    ModelError
        If the file is damaged.
    """
    path = beside(checkpoint)
    if not path.exists():
        return None
    tensors, header = read_tensors(path.read_bytes(), path.name)
    try:
        facts = json.loads(header[_FORMAT])
        windows, rehearsed = _windows(tensors, ""), _windows(tensors, "old.")
    except (KeyError, ValueError) as error:
        raise ModelError(
            f"{path.name} is a damaged reference",
            found=f"{type(error).__name__} {error}",
            hint="Delete it; later rounds are then not compared with this one.",
        ) from error
    marks = {
        name.removeprefix("marks."): t.numpy()
        for name, t in tensors.items()
        if name.startswith("marks.")
    }
    return Reference(checkpoint.name, facts, windows, marks, rehearsed)


def _windows(tensors: dict[str, torch.Tensor], prefix: str) -> list[Window]:
    number = sum(name.startswith(f"{prefix}image.") for name in tensors)
    return [
        (tensors[f"{prefix}image.{n}"].float(), tensors[f"{prefix}target.{n}"].long())
        for n in range(number)
    ]


def fitting(
    references: Sequence[Reference], network: Network, kind: Kind, notes: list[str]
) -> tuple[Reference, ...]:
    """Keep what can judge a network, with a note on the others."""
    kept = tuple(r for r in references if r.fits(network, kind))
    if others := [r.name for r in references if r not in kept]:
        notes.append(
            f"Not compared with {', '.join(others)}: made with another scaling, "
            "another grid or other kinds of strokes."
        )
    return kept


def known(
    blocks: Sequence[Block],
    numbers: Sequence[np.ndarray],
    names: Sequence[str],
    references: Sequence[Reference],
) -> tuple[set[tuple[int, int]], set[tuple[int, int]]]:
    """Strokes (block, number) that earlier rounds held out, and those they trained on.

    A stroke that any round trained on counts as such.
    """
    met: tuple[set[tuple[int, int]], set[tuple[int, int]]] = (set(), set())
    for number, (block, strokes) in enumerate(zip(blocks, numbers, strict=True)):
        for reference in references:
            marks = reference.marks.get(names[block.example])
            if marks is not None:
                _meet(block, number, strokes, marks, met)
    trained, held = met
    return held - trained, trained


def _meet(
    block: Block,
    number: int,
    strokes: np.ndarray,
    marks: np.ndarray,
    met: tuple[set[tuple[int, int]], set[tuple[int, int]]],
) -> None:
    """Add the strokes of a block that lie on marks."""
    spatial = _AXES[-strokes.ndim :]
    here = np.ones(len(marks), bool)
    for axis, at in block.frame.items():
        if axis in _AXES:
            here &= marks[:, 1 + _AXES.index(axis)] == at
    columns = [1 + _AXES.index(axis) for axis in spatial]
    places = marks[here][:, columns] - np.array(block.origin)
    inside = ((places >= 0) & (places < strokes.shape)).all(1)
    owners = strokes[tuple(places[inside].T)]
    for held, owner in zip(marks[here][inside, 0], owners, strict=True):
        if owner:
            met[int(held)].add((number, int(owner)))


def _marks(lesson: Lesson, has_all: bool) -> dict[str, np.ndarray]:
    """Pick some pixels of every stroke, by image."""
    found: dict[str, list[np.ndarray]] = {}
    names = lesson.names
    for block, numbers, held in zip(
        lesson.blocks, lesson.numbers, lesson.split.held_out, strict=True
    ):
        rows = _rows(block, numbers, (held > 0) & (not has_all))
        found.setdefault(names[block.example], []).extend(rows)
    return {
        name: np.concatenate(rows).astype(np.int32)
        for name, rows in found.items()
        if rows
    }


def _rows(block: Block, numbers: np.ndarray, held: np.ndarray) -> list[np.ndarray]:
    """Make the marks of the strokes of one block."""
    painted = np.where(block.strokes > 0, numbers, 0)
    pixels = np.argwhere(painted)
    owners = painted[tuple(pixels.T)]
    order = np.argsort(owners, kind="stable")
    starts = np.flatnonzero(np.diff(owners[order], prepend=0))
    rows = []
    for mine in np.split(pixels[order], starts[1:]):
        if not len(mine):
            continue
        few = mine[np.linspace(0, len(mine) - 1, min(len(mine), _MARKS)).astype(int)]
        row = np.zeros((len(few), 5), np.int64)
        row[:, 0] = held[tuple(few.T)].any()
        for axis, at in block.frame.items():
            if axis in _AXES:
                row[:, 1 + _AXES.index(axis)] = at
        row[:, -few.shape[1] :] = few + np.array(block.origin)
        rows.append(row)
    return rows


def facts_of(network: Network, kind: Kind) -> dict[str, Any]:
    """Say what windows of a network depend on, in plain values."""
    grid = network.geometry
    return {
        "kind": kind,
        "normalization": _scaling(network.spec),
        "grid": [list(grid.stride), list(grid.margin), list(grid.remainder)],
        "channels": network.spec.in_channels,
    }


def _scaling(spec: ModelSpec) -> list[dict[str, Any]]:
    return [scaling.model_dump(mode="json") for scaling in spec.normalization]
