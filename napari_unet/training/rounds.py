"""Rounds: the record of one fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True)
class Round:
    """One fine-tuning: the checkpoint it made and how good that is.

    Attributes
    ----------
    path : pathlib.Path
        The new checkpoint.
    digest, parent_digest : str
        SHA-256 of it and of the one it started from, empty for a new network.
    score_before, score_after : float or None
        Score on the held-out strokes; None where none could be held out, and before the
        training of a new network that no round came before. Before: of the round
        before, or of the network it started from where there is none.
    metric : str
        What the score is: the mean Dice of the classes other than background.
    classes : tuple of int
        Stroke ids that were painted.
    strokes : int
        Connected strokes it learned from or was judged by.
    steps : int
        Optimisation steps taken.
    seconds : float
        Time it took.
    validated : bool
        Whether strokes were held out.
    stopped : bool
        Whether it was ended by the user; the best state so far was kept.
    notes : tuple of str
        What the user should know.
    scores : mapping
        All scores of the held-out strokes, JSON-able.
    references : mapping
        For each earlier round, the Dice ``before`` and ``after`` on what judged it.
    worse : tuple of str
        What speaks against using this round, a sentence each; empty if nothing does.
    """

    path: Path
    digest: str
    parent_digest: str
    score_before: float | None
    score_after: float | None
    metric: str = "dice"
    classes: tuple[int, ...] = ()
    strokes: int = 0
    steps: int = 0
    seconds: float = 0.0
    validated: bool = False
    stopped: bool = False
    notes: tuple[str, ...] = ()
    scores: Mapping[str, Any] = field(default_factory=dict)
    references: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    worse: tuple[str, ...] = ()
