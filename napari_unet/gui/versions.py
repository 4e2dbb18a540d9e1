"""Which round is used: back and forth, kept, compared, deleted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet.gui import rounds
from napari_unet.gui.learning import Begun

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_unet.gui.learning import Round
    from napari_unet.gui.models import Models
    from napari_unet.gui.session import Session
    from napari_unet.gui.state import Model


class Versions:
    """Chooses among the rounds of a base and the base itself.

    Parameters
    ----------
    session : Session
        Shared with the other pages.
    models : Models
        Opens what is chosen.
    folder : callable
        Says where rounds are kept.
    refresh : callable
        Shows the view by the model that is used from now on.
    """

    def __init__(
        self,
        session: Session,
        models: Models,
        folder: Callable[[], Path],
        refresh: Callable[[], None],
    ) -> None:
        self._session = session
        self._refresh = refresh
        self._models = models
        self._folder = folder
        self._listed: object = None

    @property
    def folder(self) -> Path:
        """Where rounds are kept now."""
        return self._folder()

    def catch_up(self) -> None:
        """List the rounds anew where the base or the image is another."""
        state = self._session.state
        image = state.image.name if state.image else ""
        base = state.start.path if state.start else ""
        place = (self.folder, base, image)
        if self._listed == place or state.activity is not None:
            return
        self._listed = place
        self._session.update(
            rounds=tuple(rounds.known(self.folder, base, image)),
            cut_short=rounds.interrupted(self.folder, image),
        )

    def add(self, made: Round) -> None:
        """Take a new round into the list."""
        others = [old for old in self._session.state.rounds if old.path != made.path]
        self._session.update(rounds=(*others, made))

    def look_for_cut_short(self) -> None:
        """Offer the last round on the image that can go on."""
        image = self._session.state.image
        found = rounds.interrupted(self.folder, image.name) if image else None
        self._session.update(cut_short=found)

    def undo(self) -> None:
        """Go back to the model that was used before; the round's file stays."""
        state = self._session.state
        if not state.past or self._session.is_busy():
            return
        before, left = state.past[-1], state.model
        self._step(before, state.past[:-1], (left, *state.future))
        kept = f" {left.name} is still there." if left else ""
        self._session.say(f"Back to {before.name if before else 'no model'}.{kept}")

    def redo(self) -> None:
        """Go on again to the model that was undone last."""
        state = self._session.state
        if not state.future or self._session.is_busy():
            return
        after = state.future[0]
        self._step(after, (*state.past, state.model), state.future[1:])
        self._session.say(f"Using {after.name if after else 'no model'} again.")

    def use(self, path: str) -> None:
        """Use a round, or the base."""
        state = self._session.state
        if not path or self._session.is_busy():
            return
        if state.model is not None and state.model.path == path:
            return
        past = (*state.past, state.model)
        message = f"Now using {Path(path).name}"
        self._models.use(path, message, then=self._refresh, past=past, future=())

    def use_anyway(self) -> None:
        """Use the round that was not taken over because it scored lower."""
        worse = self._session.state.declined
        if worse is not None:
            self.use(worse.path)

    def keep(self, path: str = "") -> None:
        """Mark a round as worth keeping, or no longer; without a path, the one used."""
        state = self._session.state
        used = state.round.path if state.round else ""
        made = next((r for r in state.rounds if r.path == (path or used)), None)
        if made is None:
            self._session.say("There is no round to keep yet.")
            return
        marked = replace(made, kept=not made.kept)
        self._session.attempt(lambda: self._mark(marked))

    def delete(self, path: str) -> None:
        """Delete the files of a round that is neither used nor kept."""
        state = self._session.state
        made = next((r for r in state.rounds if r.path == path), None)
        if made is None or made.kept or made == state.round or self._session.is_busy():
            return
        rounds.remove(made.path)
        gone = state.declined is not None and state.declined.path == path
        self._session.update(
            rounds=tuple(r for r in state.rounds if r is not made),
            past=tuple(m for m in state.past if m is None or m.path != path),
            future=tuple(m for m in state.future if m is None or m.path != path),
            declined=None if gone else state.declined,
        )
        self.look_for_cut_short()
        self._session.say(f"Deleted {made.name.lower()}.")

    def _step(
        self,
        model: Model | None,
        past: tuple[Model | None, ...],
        future: tuple[Model | None, ...],
    ) -> None:
        """Use a model whose facts are known."""
        self._session.update(
            model=model, past=past, future=future, declined=None, curves={}
        )
        self._refresh()

    def _mark(self, made: Round) -> None:
        """Write a changed round down and show it."""
        rounds.note(Begun(made.path, made.base, made.image), made)
        every = self._session.state.rounds
        self._session.update(
            rounds=tuple(made if r.path == made.path else r for r in every)
        )
        verb = "is kept: it cannot be deleted" if made.kept else "may be deleted again"
        self._session.say(f"{made.name} {verb}.")
