"""The Train page's jobs: a round from its base, joined by what is painted meanwhile."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.config import FinetuneConfig
from napari_unet.gui import rounds
from napari_unet.gui.curves import Curves
from napari_unet.gui.learning import Begun
from napari_unet.gui.rounds import round_from, round_path
from napari_unet.gui.words import short

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from napari_unet.events import CancelToken, Event
    from napari_unet.gui.glimpses import Glimpses
    from napari_unet.gui.models import Models
    from napari_unet.gui.projects import Projects
    from napari_unet.gui.session import Session
    from napari_unet.gui.teaching import Teaching
    from napari_unet.gui.versions import Versions

_COPIES = 4
"""Copies of strokes that the computing process may still be reading."""


class Training:
    """Learns from the chosen strokes.

    Parameters
    ----------
    session : Session
        Shared with the other pages.
    teaching : Teaching
        Takes images and strokes to the computing process.
    projects : Projects
        Where a round is noted.
    models : Models
        Takes over what was trained.
    versions : Versions
        Knows the rounds.
    glimpses : Glimpses
        Shows the view as the network sees it.
    """

    def __init__(
        self,
        session: Session,
        teaching: Teaching,
        projects: Projects,
        models: Models,
        versions: Versions,
        glimpses: Glimpses,
    ) -> None:
        self._session = session
        self._teaching = teaching
        self._projects = projects
        self._models = models
        self._versions = versions
        self._glimpses = glimpses
        self._told: Mapping[int, int] = {}
        self._copies: deque[list[Any]] = deque()
        self._layer = ""

    def train(self, settings: Mapping[str, Any]) -> None:
        """Learn from the strokes as they are now, from the base on."""
        self._session.attempt(lambda: self._new(settings))

    def go_on(self) -> None:
        """Continue the round that was stopped or cut short."""
        begun = self._session.state.cut_short
        if begun is None or self._session.is_busy():
            return
        base = self._session.state.base
        if begun.base and (base is None or base.path != begun.base):
            self._models.open(begun.base, then=self.go_on)
            return
        self._session.update(from_scratch=not begun.base and base is not None)
        self._session.attempt(lambda: self._begin(begun, go_on=True))

    def pause(self) -> None:
        """Let the training rest, or let it go on."""
        activity = self._session.state.activity
        if activity is None or activity.kind != "train":
            return
        self._session.tasks.pause(not activity.paused)
        self._session.update(activity=replace(activity, paused=not activity.paused))

    def catch_up(self) -> None:
        """Tell a running training what was painted since it was told last."""
        state = self._session.state
        running = state.activity is not None and state.activity.kind == "train"
        if not running or state.strokes is None or state.image is None:
            return
        counts = dict(state.strokes.counts)
        if counts == self._told or state.strokes.name != self._layer:
            return
        self._told, taught = counts, self._teaching.gather()

        def make(token: CancelToken) -> list[Any]:
            told = taught(token, lambda _: None).arguments
            strokes: list[Any] = told["strokes"]
            self._copies.append(strokes)
            while len(self._copies) > _COPIES:
                for source in self._copies.popleft():
                    Path(source.path).unlink(missing_ok=True)
            return strokes

        self._session.tasks.tell(make)

    def _new(self, settings: Mapping[str, Any]) -> None:
        """Start a new round."""
        state = self._session.state
        if self._session.is_busy() or state.image is None or state.strokes is None:
            return
        settings = {**settings, "channels": state.channels, "strokes": state.kind}
        FinetuneConfig.build(**settings)
        base = state.start.path if state.start else ""
        used = [m.path for m in (*state.past, state.model) if m is not None]
        made = [r.path for r in state.rounds]
        begun = Begun(
            path=str(round_path(self._versions.folder, base, state.image.name)),
            base=base,
            image=state.image.name,
            settings=settings,
            earlier=tuple(p for p in used if p in made and Path(p).exists()),
        )
        self._begin(begun)

    def _begin(self, begun: Begun, *, go_on: bool = False) -> None:
        """Start a job on a copy of the strokes."""
        state = self._session.state
        if state.image is None or state.strokes is None:
            return
        config = FinetuneConfig.build(**begun.settings)
        taught = self._teaching.gather()
        self._told, self._layer = dict(state.strokes.counts), state.strokes.name
        rounds.note(begun, rounds.made_of(begun) if go_on else None)

        def prepare(token: CancelToken, progress: Callable[[float], None]) -> Any:
            return {
                **taught(token, progress).arguments,
                "model": begun.base or None,
                "earlier": list(begun.earlier),
                "output": begun.path,
                "config": config,
                "go_on": go_on,
                "listen": True,
            }

        curves = Curves(self._session)
        view = self._glimpses.of_training(begun.path, state.image.name)

        def watch(event: Event) -> None:
            curves(event)
            view(event)

        self._session.update(declined=None, cut_short=None)
        title = "Fine-tuning" if begun.base else "Training a new U-Net"
        self._session.begin(
            "train",
            f"Going on: {title[0].lower()}{title[1:]}" if go_on else title,
            "napari_unet.api:iter_finetune",
            prepare,
            lambda result: self._take(result, begun),
            watch,
            self._after_all,
        )

    def _take(self, result: Mapping[str, Any], begun: Begun) -> str:
        """Use a new round unless it scores lower than the one before."""
        state = self._session.state
        new = round_from(result, begun)
        rounds.note(begun, new)
        self._projects.note_round(result)
        self._versions.add(new)
        resumable = new.path if new.stopped else ""
        rounds.give_up(self._versions.folder, begun.image, but=resumable)
        if state.model is not None and new.is_worse:
            self._session.update(declined=new)
            kept = short(state.model.name)
            return f"Kept {kept}: {new.name.lower()} is worse, as the Train page tells"
        again = state.model is not None and state.model.path == new.path
        past = state.past if again else (*state.past, state.model)
        self._models.use(new.path, then=self._glimpses.refresh, past=past, future=())
        ended = "Stopped early and kept" if new.stopped else "Trained"
        return f"{ended} {Path(new.path).name}"

    def _after_all(self) -> None:
        """Offer a round that was cut short, however this one ended."""
        self._versions.look_for_cut_short()
        state = self._session.state
        if state.cut_short is not None and state.tone == "bad":
            name = f"round {state.cut_short.number}"
            self._session.say(f"{state.message} Go on continues {name}.", "bad")
