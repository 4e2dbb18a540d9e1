"""Standing: what a training has found so far, apart from its weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_unet.training.trainer import State

Rule = Literal["last", "longest", "best"]
_PATIENCE = 60  # looks without a better score before training ends early
_GAIN = 0.002  # least gain that counts as better
_FEW = 0.05  # how much below the top a score of very few strokes may be by chance
_INTERVAL = 3.92  # standard errors that a 95 % interval is wide


@dataclass(frozen=True)
class Best:
    """The state that would be saved, its scores, and the look that found it."""

    state: State = field(repr=False)
    score: float | None
    scores: dict[str, Any]
    look: int


@dataclass
class Standing:
    """How a training stands.

    Attributes
    ----------
    best : Best or None
        The state that would be saved; None before the first look at the network.
    before : float or None
        Score of the round before on the held-out strokes.
    looks, failures : int
        Looks at the network and roll-backs so far.
    joined : int
        The last look after which strokes joined.
    has_all : bool
        Whether what was held out has been scored and is learned too.
    top : float or None
        Best score so far, which the kept state need not have.
    risen : int
        The look that found it.
    first : float
        Loss of the first step, at least 1; 0 before it.
    losses : list of float
        Losses since the last look.
    """

    best: Best | None = None
    before: float | None = None
    looks: int = 0
    failures: int = 0
    joined: int = 0
    has_all: bool = False
    top: float | None = None
    risen: int = 0
    first: float = 0.0
    losses: list[float] = field(default_factory=list)

    @property
    def is_stale(self) -> bool:
        """Whether the score has stood still for long; few strokes cannot tell."""
        if self.best is None or self.best.score is None:
            return False
        if self.best.scores.get("dice_interval") is None:
            return False
        return self.looks - max(self.risen, self.joined) >= _PATIENCE

    def take_loss(self) -> float | None:
        """Mean loss since the last look, None if no step was taken; begins anew."""
        if not self.losses:
            return None
        self.first = self.first or max(self.losses[0], 1.0)
        loss = sum(self.losses) / len(self.losses)
        self.losses = []
        return loss

    def is_better(self, scores: Mapping[str, Any], rule: Rule = "longest") -> bool:
        """Whether a state is worth keeping instead of the one that is kept.

        Parameters
        ----------
        scores : mapping
            Of the held-out strokes; without a ``dice`` the last state is kept.
        rule : {"last", "longest", "best"}
            Keep the last; of those that the held-out strokes cannot tell apart (within
            a standard error of the top, after Breiman et al., Classification and
            Regression Trees, 1984) the one that learned longest; or that of the best
            score.
        """
        score, best = scores.get("dice"), self.best
        if best is None or best.score is None or score is None:
            self.top, self.risen = score, self.looks
            return True
        if rule == "best":
            return bool(score > best.score)
        if self.top is None or score > self.top + _GAIN:
            self.top, self.risen = score, self.looks
        return rule == "last" or bool(score >= self.top - _error(scores))

    def saved(self) -> tuple[dict[str, Any], State]:
        """Split into JSON-able facts and the tensors of the best state."""
        best = self.best
        facts = {
            "looks": self.looks,
            "failures": self.failures,
            "joined": self.joined,
            "has_all": self.has_all,
            "top": self.top,
            "risen": self.risen,
            "losses": self.losses,
            "first": self.first,
            "before": self.before,
            "best": best
            and {"score": best.score, "scores": best.scores, "look": best.look},
        }
        state = best.state if best is not None else {}
        return facts, {f"best.{n}": t.contiguous() for n, t in state.items()}

    @classmethod
    def restored(cls, facts: dict[str, Any], tensors: State) -> Standing:
        """Put together what `saved` has split.

        Raises
        ------
        KeyError, TypeError
            If something is missing.
        """
        state = {
            name.removeprefix("best."): t
            for name, t in tensors.items()
            if name.startswith("best.")
        }
        return cls(
            best=Best(state, **facts["best"]) if state else None,
            before=facts["before"],
            looks=facts["looks"],
            failures=facts["failures"],
            joined=facts["joined"],
            has_all=facts["has_all"],
            top=facts["top"],
            risen=facts["risen"],
            first=facts["first"],
            losses=facts["losses"],
        )


def _error(scores: Mapping[str, Any]) -> float:
    """Take the standard error of a score, or a guess where too few strokes tell."""
    interval = scores.get("dice_interval")
    return _FEW if interval is None else (interval[1] - interval[0]) / _INTERVAL
