"""What the dock knows of trainings, as frozen values."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Begun:
    """A training round as it began, all in plain values."""

    path: str
    """The checkpoint that it makes."""
    base: str
    """Checkpoint it starts from, empty for a new network."""
    image: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    earlier: tuple[str, ...] = ()
    """Checkpoints of the rounds before, oldest first."""
    share: float = 0.0
    """How much of it was done when it was stopped or cut short."""

    @property
    def number(self) -> int:
        """Its number, 0 where its name tells none."""
        found = re.search(r"-round-(\d+)$", Path(self.path).stem)
        return int(found[1]) if found else 0


@dataclass(frozen=True)
class Round:
    """A training round: its checkpoint, what it learned from, and its scores.

    Attributes
    ----------
    path : str
        Its checkpoint.
    base, image : str
        See `Begun`.
    strokes : int
        Strokes it learned from.
    before, after : float or None
        Score of the round before, and its own, on the same held-out strokes.
    interval : tuple of float, optional
        95 % interval of its score.
    note : str
        What should be known.
    worse : tuple of str
        What speaks against it, see `napari_unet.training.guard`.
    stopped, kept : bool
        Whether it was stopped early, and whether the user wants to keep it.
    """

    path: str
    before: float | None = None
    after: float | None = None
    base: str = ""
    image: str = ""
    strokes: int = 0
    interval: tuple[float, ...] | None = None
    note: str = ""
    worse: tuple[str, ...] = ()
    stopped: bool = False
    kept: bool = False

    @property
    def number(self) -> int:
        """Its number, 0 where its name tells none."""
        return Begun(self.path, "", "").number

    @property
    def name(self) -> str:
        """What it is called, such as ``"Round 2"``."""
        return f"Round {self.number}" if self.number else "The round"

    @property
    def is_worse(self) -> bool:
        """Whether it scores lower than before, or on what judged earlier rounds."""
        if self.worse:
            return True
        known = self.before is not None and self.after is not None
        return known and self.after < self.before  # type: ignore[operator]


@dataclass(frozen=True)
class Outlook:
    """What a round would train, see `training.design`, or the trouble with it."""

    facts: Mapping[str, Any] = field(default_factory=dict)
    trouble: str = ""


@dataclass(frozen=True)
class Suspect:
    """A stroke that the others contradict, see `napari_unet.training.audit`.

    Attributes
    ----------
    picture : str
        Id of its image in the project; empty where that is in none.
    place : tuple of (str, int)
        One of its pixels by axis.
    painted, found : int
        Its class, and the class that the others speak for; 1 is background.
    contradiction : float
        How sure that is, 0 to 1.
    """

    picture: str
    place: tuple[tuple[str, int], ...]
    painted: int
    found: int
    contradiction: float
