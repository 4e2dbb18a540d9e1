"""Course: one training from its first to its last step, told in events."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from napari_unet.errors import ModelError, OutputError
from napari_unet.events import Metric, Progress, Warned
from napari_unet.training import resume
from napari_unet.training.coding import Coding
from napari_unet.training.heldout import HeldOut, windows_of
from napari_unet.training.setup import make_trainer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_unet.config import FinetuneConfig
    from napari_unet.events import CancelToken, Event
    from napari_unet.networks.network import Network
    from napari_unet.training.lesson import Lesson
    from napari_unet.training.trainer import State

_LOOK = 20  # steps between two looks at the held-out strokes
_PATIENCE = 20  # looks without a better score before training ends early
_GAIN = 0.002  # least gain that counts as better
_FAILURES = 3  # roll-backs before training is given up
_DIVERGED = 4.0  # times the loss of the first step (or 1) that is given up
_TICK = 0.5  # seconds between two progress events
_KEEP = 20.0  # seconds between two copies of the state on disk


@dataclass(frozen=True)
class Best:
    """The state that would be saved, its scores, and the look that found it."""

    state: State = field(repr=False)
    score: float | None
    scores: dict[str, Any]
    look: int


class Course:
    """One training.

    Attributes
    ----------
    lesson : Lesson
        What is taught.
    best : Best or None
        The state that would be saved; None before the first look at the network.
    previous : Network or None
        What this round is compared with.
    before : float or None
        Its score on the held-out strokes.
    begun : float
        When the work began, on the monotonic clock.
    notes : list of str
        What the user should know.
    stopped, resumed : bool
        Whether it was stopped, and whether it goes on from a state on disk.

    Parameters
    ----------
    lesson : Lesson
        What is taught.
    config : FinetuneConfig
        Settings.
    begun : float
        When the work began, on the monotonic clock.
    max_steps : int or None
        Most steps to take.
    previous : Network, optional
        The round before, which this one is compared with; else what it starts from.
    output : pathlib.Path
        The checkpoint that is to be made; the state is kept beside it.
    """

    def __init__(
        self,
        lesson: Lesson,
        config: FinetuneConfig,
        begun: float,
        max_steps: int | None,
        previous: Network | None = None,
        *,
        output: Path,
    ) -> None:
        self.best: Best | None = None
        self.before: float | None = None
        self.lesson, self._config, self._max_steps = lesson, config, max_steps
        self.begun = begun
        # Reading that took long must not leave the network untaught.
        self._start = time.monotonic()
        spent = min(self._start - begun, 0.75 * config.max_seconds)
        self._budget = config.max_seconds - spent
        self._trainer = make_trainer(lesson, config)
        windows = windows_of(
            lesson.images, lesson.split.held_out, lesson.network.geometry
        )
        self._held_out = HeldOut(windows, lesson.coding)
        self.previous = previous or (None if lesson.is_new else lesson.network)
        self._looks = self._failures = 0
        self._first, self._parts = 0.0, 1
        self._losses: list[float] = []
        self.notes: list[str] = list(lesson.notes)
        self.stopped = self.resumed = False
        self._output, self._key = output, resume.key_of(lesson, config)
        self._kept = self._start

    def run(self, cancel: CancelToken | None) -> Iterator[Event]:
        """Train until the time is up, the score stands still or the user stops it."""
        if self.lesson.validated and self.previous is not None and not self._looks:
            self.before = self._score_before(self.previous)
            yield Metric("val_dice", self.before, 0)
        ticked = -_TICK
        while not self._is_over():
            if cancel is not None and cancel.is_set():
                self.stopped = True
                yield from self._keep_or_tell()
                return
            loss = self._trainer.step(min(self._progress(), 1.0))
            if not math.isfinite(loss):
                yield self._recover()
                continue
            self._losses.append(loss)
            if self._trainer.steps % _LOOK == 0:
                yield from self._look()
            if time.monotonic() - self._start - ticked >= _TICK:
                ticked = time.monotonic() - self._start
                yield self._tell(loss)
        if self._losses:
            yield from self._look()

    @property
    def steps(self) -> int:
        """Steps taken."""
        return self._trainer.steps

    def go_on(self, saved: resume.Saved) -> None:
        """Continue a training that was stopped or killed.

        Raises
        ------
        UsageError
            If it was another training.
        ModelError
            If the state is damaged.
        """
        resume.check(saved, self._key)
        self.resumed = True
        facts = saved.facts
        try:
            self._trainer.restore(saved.tensors, facts["steps"], facts["rate"])
            best = {
                name.removeprefix("best."): t
                for name, t in saved.tensors.items()
                if name.startswith("best.")
            }
            self.best = Best(best, **facts["best"]) if best else None
            self.before, self._losses = facts["before"], facts["losses"]
            self._looks, self._failures = facts["looks"], facts["failures"]
            self._first = facts["first"]
            spent = float(facts["seconds"])
        except (KeyError, TypeError, RuntimeError) as error:
            raise ModelError(
                "The training state is damaged",
                found=str(error).splitlines()[0],
                hint="Delete it and train anew.",
            ) from error
        self._start -= spent
        self.begun -= spent

    def _progress(self) -> float:
        """How much of the training is done."""
        spent = (time.monotonic() - self._start) / self._budget
        if self._max_steps is None or spent >= 1:
            return spent
        return self._trainer.steps / self._max_steps

    def _is_over(self) -> bool:
        """Whether to end; not before the first step, however short the time."""
        if self._trainer.steps == 0:
            return self._failures > _FAILURES
        late = self._progress() >= 1
        return late or self._is_stale() or self._failures > _FAILURES

    def _is_stale(self) -> bool:
        """Whether the held-out score has stood still for long."""
        if self.best is None or self.best.score is None:
            return False
        return self._looks - self.best.look >= _PATIENCE

    def _look(self) -> Iterator[Event]:
        """Report the loss, score the network, and keep it if it is the best."""
        step = self._trainer.steps
        if self._losses:
            self._first = self._first or max(self._losses[0], 1.0)
            loss = sum(self._losses) / len(self._losses)
            yield Metric("train_loss", loss, step)
            self._losses.clear()
            if loss > _DIVERGED * self._first:
                yield self._recover()
                return
        if self._trainer.parts > self._parts:
            yield self._say_parts()
        if not self._trainer.remember():
            yield self._recover()
            return
        self._looks += 1
        scores = self._score() if self.lesson.validated else {}
        score = scores.get("dice")
        if score is not None:
            yield Metric("val_dice", score, step)
        if self._is_better(score):
            state = {n: t.cpu() for n, t in self._trainer.state().items()}
            self.best = Best(state, score, scores, self._looks)
        if time.monotonic() - self._kept >= _KEEP:
            yield from self._keep_or_tell()

    def _keep_or_tell(self) -> Iterator[Event]:
        """Keep the state, or say that it could not be: that is no end of a training."""
        try:
            self._keep()
        except OutputError as error:
            self._kept = time.monotonic()
            note = f"The training goes on, but its state could not be kept: {error}"
            self.notes.append(note)
            yield Warned(note)

    def _keep(self) -> None:
        """Write the state to disk, so that the training can go on from here."""
        if not self._trainer.remember():
            return
        tensors, best = self._trainer.snapshot(), self.best
        if best is not None:
            tensors |= {f"best.{n}": t.contiguous() for n, t in best.state.items()}
        facts = {
            "steps": self._trainer.steps,
            "rate": self._trainer.rate,
            "looks": self._looks,
            "failures": self._failures,
            "losses": self._losses,
            "first": self._first,
            "before": self.before,
            "seconds": time.monotonic() - self._start,
            "best": best
            and {"score": best.score, "scores": best.scores, "look": best.look},
        }
        resume.save(resume.Saved(self._key, facts, tensors), self._output)
        self._kept = time.monotonic()

    def _is_better(self, score: float | None) -> bool:
        best = self.best
        if best is None or best.score is None or score is None:
            return True
        return score > best.score + _GAIN

    @property
    def tuned(self) -> State:
        """Weights of the best state."""
        assert self.best is not None
        return self.best.state

    def score(self, network: Network) -> dict[str, Any]:
        """Scores of a network like the one in training on the held-out strokes."""
        return self._held_out.score(network)

    def _score(self) -> dict[str, Any]:
        return self._held_out.score(self._trainer.predict)

    def _score_before(self, network: Network) -> float:
        """Score of the round before; of the start as it is trained, without one."""
        if network is self.lesson.network:
            return float(self._score()["dice"])
        judge = HeldOut(
            self._held_out.windows, Coding.of(network.spec, self.lesson.kind)
        )
        return float(judge.score(network)["dice"])

    def _say_parts(self) -> Event:
        """Tell that memory was short."""
        self._parts = self._trainer.parts
        note = f"Memory is short: batches are computed in {self._parts} parts."
        self.notes.append(note)
        return Warned(note)

    def _recover(self) -> Event:
        """Go back to the last good weights, or give up if that was in vain."""
        self._failures += 1
        note = "The loss diverged; training goes on from the last good weights."
        if self._failures > _FAILURES:
            if self.best is None:
                raise ModelError(
                    "The training does not converge",
                    found="losses that grow or are no numbers, again and again",
                    hint="Choose a smaller learning rate.",
                )
            note = "The training did not converge; the best state so far is kept."
        self._trainer.roll_back()
        self._losses.clear()
        self.notes.append(note)
        return Warned(note)

    def _tell(self, loss: float) -> Progress:
        spent = min(time.monotonic() - self.begun, self._config.max_seconds)
        note = f"step {self._trainer.steps}, loss {loss:.3f}"
        return Progress(spent, self._config.max_seconds, note)
