"""Course: one training from its first to its last step, told in events."""

from __future__ import annotations

import copy
import math
import time
from typing import TYPE_CHECKING

from napari_unet.errors import ModelError, OutputError, UNetError
from napari_unet.events import Metric, Progress, Stopped, Warned
from napari_unet.networks.network import Network
from napari_unet.training import resume
from napari_unet.training.found_objects import HeldOutObjects
from napari_unet.training.joining import join
from napari_unet.training.judging import Judge
from napari_unet.training.kept import Kept
from napari_unet.training.setup import kept_by, make_sampler, make_trainer, soft_of
from napari_unet.training.standing import Best, Standing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from napari_unet.config import FinetuneConfig
    from napari_unet.events import CancelToken, Event
    from napari_unet.training.annotations import Example
    from napari_unet.training.clock import Clock
    from napari_unet.training.lesson import Lesson
    from napari_unet.training.trainer import State

    News = Callable[[], Sequence[Example] | None]

_LOOK, _FULL_LOOK = 20, 100  # steps between two looks at what is held out
_FAILURES = 3  # roll-backs before training is given up
_DIVERGED = 4.0  # times the loss of the first step (or 1) that is given up
_HALF = 0.5  # of a training, after which a new network learns what scored it
_TICK = 0.5  # seconds between two progress events


class Course:
    """One training.

    Attributes
    ----------
    lesson : Lesson
        What is taught.
    standing : Standing
        What was found so far: the best state and its scores among others.
    judge : Judge
        Scores it on what is held out.
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
    clock : Clock
        Counts its time.
    previous : Network, optional
        The round before, which this one is compared with; else what it starts from.
    output : pathlib.Path
        The checkpoint that is to be made; the state is kept beside it.
    news : callable, optional
        Asked after each look for the same images with all strokes as they are now;
        None if nothing was painted.
    """

    def __init__(
        self,
        lesson: Lesson,
        config: FinetuneConfig,
        clock: Clock,
        previous: Network | None = None,
        *,
        output: Path,
        news: News | None = None,
    ) -> None:
        self.standing = Standing()
        self.lesson, self._config = lesson, config
        self._clock, self._news = clock, news
        self._trainer = make_trainer(lesson, config)
        self.judge = Judge(lesson, previous)
        self._parts = 1
        self._rule = kept_by(lesson, config)
        self._pause = _FULL_LOOK if config.complete else _LOOK
        self.notes: list[str] = list(lesson.notes)
        self.stopped = self.resumed = False
        self._kept = Kept(output, resume.key_of(lesson, config))

    def run(self, cancel: CancelToken | None) -> Iterator[Event]:
        """Train until the time is up, the score stands still or the user stops it.

        The time in which others have their turn, between two events, does not count.
        """
        for event in self._run(cancel):
            with self._clock.resting():
                yield event

    def _run(self, cancel: CancelToken | None) -> Iterator[Event]:
        """Take steps, looking at the network now and then."""
        if not self.standing.looks:
            before = self.judge.score_before(self._trainer)
            if before is not None:
                self.standing.before = before
                yield Metric("val_dice", before, 0)
        ticked = -_TICK
        while not self._is_over():
            if cancel is not None and cancel.is_set():
                self.stopped = True
                yield from self._keep_or_tell()
                return
            if self._is_half_way():
                yield from self._learn_all()
            loss = self._trainer.step(min(self._progress(), 1.0))
            if not math.isfinite(loss):
                yield self._recover()
                continue
            self.standing.losses.append(loss)
            if self._trainer.steps % self._pause == 0:
                yield from self._look()
                yield from self._hear(cancel)
            if self._clock.training - ticked >= _TICK:
                ticked = self._clock.training
                yield self._tell(loss)
        if self.standing.losses:
            yield from self._look()
            self.judge.try_own(self._trainer, self.standing, self._rule)

    @property
    def steps(self) -> int:
        """Steps taken."""
        return self._trainer.steps

    def network(self) -> Network:
        """Copy the network as it is now, with averaged weights."""
        parent = self.lesson.network
        module = copy.deepcopy(parent.module).float()
        module.load_state_dict(self._trainer.state())
        return Network(module, parent.spec, parent.digest)

    def record(self, examples: Sequence[Example]) -> None:
        """Keep the strokes it begins with in its state, for others may join."""
        self._kept.record(examples, "begun")

    def has_learned(self, examples: Sequence[Example]) -> bool:
        """Whether these are the strokes that it learns from, or none at all."""
        return self._kept.holds(examples)

    def join(self, examples: Sequence[Example], cancel: CancelToken | None) -> None:
        """Learn from all strokes on the images from now on, see `joining.join`."""
        self.lesson = join(self.lesson, examples, self._config, cancel)
        self._teach()
        self._kept.record(examples)

    def _teach(self) -> None:
        """Take patches from the lesson as it is now."""
        lesson = self.lesson.with_all() if self.standing.has_all else self.lesson
        soft = soft_of(lesson, self._config)
        self._trainer.learn_from(make_sampler(lesson, self._config, soft))

    def _is_half_way(self) -> bool:
        """Whether it is time to score a new network, and let it learn all strokes."""
        open_ = self.lesson.validated and not self.standing.has_all
        waits = open_ and self.lesson.has_teacher and self._trainer.steps > 0
        return waits and self._progress() >= _HALF

    def _learn_all(self) -> Iterator[Event]:
        """Score the network, for the last time, then teach what was held out too."""
        yield from self._look()
        if self.standing.best is None:  # the loss diverged before the first look
            return
        self.standing.has_all = True
        self._teach()
        yield from self._keep_or_tell()

    def go_on(self, saved: resume.Saved) -> None:
        """Continue a training that was stopped or killed.

        Raises
        ------
        UsageError
            If it was another training.
        ModelError
            If the state is damaged.
        """
        self.resumed = True
        self.standing = self._kept.restore(saved, self._trainer, self._clock)
        if self.standing.has_all:
            self._teach()

    def _progress(self) -> float:
        """How much of the training is done."""
        spent, most = self._clock.share, self._config.max_steps
        if most is None or spent >= 1:
            return spent
        return self._trainer.steps / most

    def _is_over(self) -> bool:
        """Whether to end; not before the first step, however short the time."""
        if self._trainer.steps == 0:
            return self.standing.failures > _FAILURES
        # Complete labels and a first teacher have much to tell until the end.
        stale = self.standing.is_stale and self._rule == "longest"
        return self._progress() >= 1 or stale or self.standing.failures > _FAILURES

    def _look(self) -> Iterator[Event]:
        """Report the loss, score the network, and keep it if it is the best."""
        step = self._trainer.steps
        if (loss := self.standing.take_loss()) is not None:
            yield Metric("train_loss", loss, step)
            if loss > _DIVERGED * self.standing.first:
                yield self._recover()
                return
        if self._trainer.parts > self._parts:
            yield self._say_parts()
        if not self._trainer.remember():
            yield self._recover()
            return
        self.standing.looks += 1
        begun = time.monotonic()
        scores = self.judge.scores(self._trainer, self.standing)
        looks = 4 if HeldOutObjects.is_judged(self.lesson) else 2
        self._clock.after = looks * (time.monotonic() - begun)
        score = scores.get("dice")
        if score is not None and not self.standing.has_all:
            yield Metric("val_dice", score, step)
        if self.standing.is_better(scores, self._rule):
            state = {n: t.cpu() for n, t in self._trainer.state().items()}
            self.standing.best = Best(state, score, scores, self.standing.looks)
        if self._kept.is_due:
            yield from self._keep_or_tell()

    def _hear(self, cancel: CancelToken | None) -> Iterator[Event]:
        """Learn from the strokes painted since; those that do not fit wait."""
        try:
            examples = None if self._news is None else self._news()
            if examples is None or self.has_learned(examples):
                return
            self.join(examples, cancel)
        except Stopped:
            return
        except UNetError as error:
            yield Warned(f"The new strokes wait for the next round: {error}")
            return
        self.standing.joined = self.standing.looks
        yield Metric("strokes", self.lesson.annotations.strokes, self.steps)
        # From here on it can only go on with these strokes.
        yield from self._keep_or_tell()

    def _keep_or_tell(self) -> Iterator[Event]:
        """Keep the state, or say that it could not be: that is no end of a training."""
        if not self._trainer.remember():
            return
        try:
            self._kept.write(self._trainer, self.standing, self._clock)
        except OutputError as error:
            self._kept.wait()
            note = f"The training goes on, but its state could not be kept: {error}"
            self.notes.append(note)
            yield Warned(note)

    @property
    def tuned(self) -> State:
        """Weights of the best state."""
        assert self.standing.best is not None
        return self.standing.best.state

    def _say_parts(self) -> Event:
        """Tell that memory was short."""
        self._parts = self._trainer.parts
        note = f"Memory is short: batches are computed in {self._parts} parts."
        self.notes.append(note)
        return Warned(note)

    def _recover(self) -> Event:
        """Go back to the last good weights, or give up if that was in vain."""
        self.standing.failures += 1
        note = "The loss diverged; training goes on from the last good weights."
        if self.standing.failures > _FAILURES:
            if self.standing.best is None:
                raise ModelError(
                    "The training does not converge",
                    found="losses that grow or are no numbers, again and again",
                    hint="Choose a smaller learning rate.",
                )
            note = "The training did not converge; the best state so far is kept."
        self._trainer.roll_back()
        self.standing.losses.clear()
        self.notes.append(note)
        return Warned(note)

    def _tell(self, loss: float) -> Progress:
        spent = min(self._clock.seconds, self._clock.limit)
        note = f"step {self._trainer.steps}, loss {loss:.3f}"
        return Progress(spent, self._clock.limit, note)
