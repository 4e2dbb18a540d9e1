"""Standing: what a training has found so far, apart from its weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_unet.training.trainer import State

_PATIENCE = 20  # looks without a better score before training ends early
_GAIN = 0.002  # least gain that counts as better


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
    first: float = 0.0
    losses: list[float] = field(default_factory=list)

    @property
    def is_stale(self) -> bool:
        """Whether the held-out score has stood still for long."""
        if self.best is None or self.best.score is None:
            return False
        return self.looks - max(self.best.look, self.joined) >= _PATIENCE

    def take_loss(self) -> float | None:
        """Mean loss since the last look, None if no step was taken; begins anew."""
        if not self.losses:
            return None
        self.first = self.first or max(self.losses[0], 1.0)
        loss = sum(self.losses) / len(self.losses)
        self.losses = []
        return loss

    def is_better(self, score: float | None, every: bool = False) -> bool:
        """Whether a score is worth keeping its state; without scores the last is.

        It must be well above the best, or with `every` just above.
        """
        best = self.best
        if best is None or best.score is None or score is None:
            return True
        return score > best.score + (0.0 if every else _GAIN)

    def saved(self) -> tuple[dict[str, Any], State]:
        """Split into JSON-able facts and the tensors of the best state."""
        best = self.best
        facts = {
            "looks": self.looks,
            "failures": self.failures,
            "joined": self.joined,
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
            first=facts["first"],
            losses=facts["losses"],
        )
