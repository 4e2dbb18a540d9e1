"""Course: one training from its first to its last step, told in events."""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from napari_unet import checkpoints
from napari_unet.errors import ModelError
from napari_unet.events import Finished, Metric, Progress, Warned
from napari_unet.networks.device import choose_device, training_precision
from napari_unet.networks.network import Network
from napari_unet.training import guard, plan, references, resume
from napari_unet.training.augmentation import Augmentation
from napari_unet.training.coding import Coding
from napari_unet.training.heldout import HeldOut, windows_of
from napari_unet.training.rounds import Round
from napari_unet.training.sampling import PatchSampler
from napari_unet.training.trainer import Recipe, Trainer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_unet.config import FinetuneConfig
    from napari_unet.events import CancelToken, Event
    from napari_unet.training.lesson import Lesson
    from napari_unet.training.trainer import State

_FROM_SCRATCH, _FINE_TUNING = 2e-3, 3e-4  # learning rates
_DECAY = 0.5  # weight decay of a new network, high against learning by heart
_LOOK = 20  # steps between two looks at the held-out strokes
_PATIENCE = 20  # looks without a better score before training ends early
_GAIN = 0.002  # least gain that counts as better
_FAILURES = 3  # roll-backs before training is given up
_TICK = 0.5  # seconds between two progress events
_KEEP = 20.0  # seconds between two copies of the state on disk


@dataclass(frozen=True)
class _Best:
    """The state that would be saved, and its scores."""

    state: State = field(repr=False)
    score: float | None
    scores: dict[str, Any]
    look: int


class Course:
    """One training.

    Attributes
    ----------
    best : object or None
        The state that `save` would write; None before the first look at the network.

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
        self.best: _Best | None = None
        self._before: float | None = None
        self._lesson, self._config, self._max_steps = lesson, config, max_steps
        self._begun = begun
        # Reading that took long must not leave the network untaught.
        self._start = time.monotonic()
        spent = min(self._start - begun, 0.75 * config.max_seconds)
        self._budget = config.max_seconds - spent
        self._trainer = make_trainer(lesson, config)
        windows = windows_of(
            lesson.images, lesson.split.held_out, lesson.network.geometry
        )
        self._held_out = HeldOut(windows, lesson.coding)
        self._previous = previous or (None if lesson.is_new else lesson.network)
        self._looks = self._failures = 0
        self._losses: list[float] = []
        self._notes: list[str] = list(lesson.notes)
        self._stopped = self._resumed = False
        self._output, self._key = output, resume.key_of(lesson, config)
        self._kept = self._start

    def run(self, cancel: CancelToken | None) -> Iterator[Event]:
        """Train until the time is up, the score stands still or the user stops it."""
        if self._lesson.validated and self._previous is not None and not self._looks:
            self._before = self._score_before(self._previous)
            yield Metric("val_dice", self._before, 0)
        ticked = -_TICK
        while not self._is_over():
            if cancel is not None and cancel.is_set():
                self._stopped = True
                self._keep()
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
        self._resumed = True
        facts = saved.facts
        try:
            self._trainer.restore(saved.tensors, facts["steps"], facts["rate"])
            best = {
                name.removeprefix("best."): t
                for name, t in saved.tensors.items()
                if name.startswith("best.")
            }
            self.best = _Best(best, **facts["best"]) if best else None
            self._before, self._losses = facts["before"], facts["losses"]
            self._looks, self._failures = facts["looks"], facts["failures"]
            spent = float(facts["seconds"])
        except (KeyError, TypeError, RuntimeError) as error:
            raise ModelError(
                "The training state is damaged",
                found=str(error).splitlines()[0],
                hint="Delete it and train anew.",
            ) from error
        self._start -= spent
        self._begun -= spent

    def save(self, output: Path) -> Iterator[Event]:
        """Write the best state as a new checkpoint, compared with earlier rounds."""
        assert self.best is not None
        lesson, parent = self._lesson, self._lesson.network
        module = copy.deepcopy(parent.module).float()
        module.load_state_dict(self.best.state)
        network = Network(module, parent.spec, parent.digest)
        compared = guard.compare(
            lesson.references, self._previous, network, lesson.coding, lesson.kind
        )
        worse = guard.objections(self._before, self.best.score, compared)
        for objection in worse:
            yield Warned(objection)
        seconds = time.monotonic() - self._begun
        record = self._record(seconds) | {"references": compared, "worse": worse}
        digest = checkpoints.save(
            network, output, provenance=record, overwrite=self._resumed
        )
        references.save(references.gather(lesson, output.name), output)
        if not self._stopped:
            resume.beside(output).unlink(missing_ok=True)
        yield Finished(
            Round(
                path=output,
                digest=digest,
                parent_digest=parent.digest,
                score_before=self._before,
                score_after=self.best.score,
                classes=lesson.annotations.ids,
                steps=self._trainer.steps,
                seconds=seconds,
                validated=lesson.validated,
                stopped=self._stopped,
                notes=tuple(self._notes),
                scores=self.best.scores,
                references=compared,
                worse=worse,
            )
        )

    def _record(self, seconds: float) -> dict[str, Any]:
        """Say how the weights were made."""
        assert self.best is not None
        lesson = self._lesson
        return {
            "made_by": "fine-tuning from strokes",
            "parent": lesson.network.digest,
            "parent_provenance": lesson.network.spec.provenance,
            "settings": self._config.model_dump(mode="json"),
            "strokes": lesson.annotations.digest,
            "stroke_ids": list(lesson.annotations.ids),
            "stroke_kind": lesson.kind,
            "images": [example.stack.name for example in lesson.annotations.examples],
            "steps": self._trainer.steps,
            "seconds": round(seconds, 1),
            "score_before": self._before,
            "score_after": self.best.score,
            "scores": self.best.scores,
        }

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
            yield Metric("train_loss", sum(self._losses) / len(self._losses), step)
            self._losses.clear()
        if not self._trainer.remember():
            yield self._recover()
            return
        self._looks += 1
        scores = self._score() if self._lesson.validated else {}
        score = scores.get("dice")
        if score is not None:
            yield Metric("val_dice", score, step)
        if self._is_better(score):
            state = {n: t.cpu() for n, t in self._trainer.state().items()}
            self.best = _Best(state, score, scores, self._looks)
        if time.monotonic() - self._kept >= _KEEP:
            self._keep()

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
            "before": self._before,
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

    def _score(self) -> dict[str, Any]:
        return self._held_out.score(self._trainer.predict)

    def _score_before(self, network: Network) -> float:
        """Score of the round before; of the start as it is trained, without one."""
        if network is self._lesson.network:
            return float(self._score()["dice"])
        judge = HeldOut(
            self._held_out.windows, Coding.of(network.spec, self._lesson.kind)
        )
        return float(judge.score(network)["dice"])

    def _recover(self) -> Event:
        """Go back to the last good weights, or give up if that was in vain."""
        self._failures += 1
        note = "The loss was no number; training goes on from the last good weights."
        if self._failures > _FAILURES:
            if self.best is None:
                raise ModelError(
                    "The training does not converge",
                    found="losses that are no numbers, again and again",
                    hint="Choose a smaller learning rate.",
                )
            note = "The training did not converge; the best state so far is kept."
        self._trainer.roll_back()
        self._losses.clear()
        self._notes.append(note)
        return Warned(note)

    def _tell(self, loss: float) -> Progress:
        spent = min(time.monotonic() - self._begun, self._config.max_seconds)
        note = f"step {self._trainer.steps}, loss {loss:.3f}"
        return Progress(spent, self._config.max_seconds, note)


def make_trainer(lesson: Lesson, config: FinetuneConfig) -> Trainer:
    """Set up the optimisation."""
    network = lesson.network
    device = choose_device(config.device).device
    dtype = training_precision(config.precision, device, network.spec.ndim)
    solid = plan.is_solid(network.spec.spacing)
    how = Augmentation(config.augment, config.augment, solid)
    patch = lesson.batch.patch
    sampler = PatchSampler(lesson.images, lesson.split.training, patch, how)
    recipe = Recipe(
        config.learning_rate or (_FROM_SCRATCH if lesson.is_new else _FINE_TUNING),
        lesson.batch.size,
        lesson.batch.margin,
        decay=_DECAY if lesson.is_new else 0.0,
        # A few patches tell less about the images than the model's own statistics.
        frozen_statistics=not lesson.is_new,
        autocast=None if dtype is torch.float32 else dtype,
    )
    return Trainer(network.module, lesson.coding, sampler, recipe, device, config.seed)
