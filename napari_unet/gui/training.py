"""The Train page's actions: a round, back to before it, or on with a worse one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.config import FinetuneConfig
from napari_unet.gui.curves import Curves
from napari_unet.gui.rounds import chain, round_from, round_path
from napari_unet.gui.words import short

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from napari_unet.events import CancelToken
    from napari_unet.gui.models import Models
    from napari_unet.gui.projects import Projects
    from napari_unet.gui.session import Session
    from napari_unet.gui.state import Model
    from napari_unet.gui.teaching import Teaching


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
    rounds : pathlib.Path
        Where new checkpoints are kept.
    """

    def __init__(
        self,
        session: Session,
        teaching: Teaching,
        projects: Projects,
        models: Models,
        rounds: Path,
    ) -> None:
        self._session = session
        self._teaching = teaching
        self._projects = projects
        self._models = models
        self._rounds = rounds

    def train(self, settings: Mapping[str, Any]) -> None:
        """Learn from the strokes as they are now."""
        self._session.attempt(lambda: self._begin(settings))

    def undo(self) -> None:
        """Go back to the model before the last round; its file stays."""
        last = self._session.state.round
        if last is None or self._session.is_busy():
            return
        self._session.update(
            model=last.parent, round=last.previous, declined=None, curves={}
        )
        name = last.parent.name if last.parent else "no model"
        kept = Path(last.path).name
        self._session.say(f"Back to {name}. The round is kept as {kept}.")

    def use_anyway(self) -> None:
        """Use the round that was not taken over because it scored lower."""
        worse = self._session.state.declined
        if worse is None or self._session.is_busy():
            return
        message = f"Now using {Path(worse.path).name}"
        self._models.use(worse.path, message, round=worse, declined=None)

    def _begin(self, settings: Mapping[str, Any]) -> None:
        """Start a training round on a copy of the strokes."""
        state = self._session.state
        if self._session.is_busy() or state.image is None or state.strokes is None:
            return
        config = FinetuneConfig.build(
            **settings, channels=state.channels, strokes=state.kind
        )
        base = None if state.from_scratch else state.model
        taught = self._teaching.gather()
        earlier = chain(state.round)
        folder = self._projects.rounds_folder or self._rounds
        output = round_path(folder, base.path if base else "", state.image.name)

        def prepare(token: CancelToken, progress: Callable[[float], None]) -> Any:
            return {
                **taught(token, progress),
                "model": base.path if base else None,
                "earlier": earlier,
                "output": str(output),
                "config": config,
            }

        self._session.update(declined=None)
        self._session.begin(
            "train",
            "Training a new U-Net" if base is None else "Fine-tuning",
            "napari_unet.api:iter_finetune",
            prepare,
            lambda result: self._take(result, state.model),
            Curves(self._session),
        )

    def _take(self, result: Mapping[str, Any], parent: Model | None) -> str:
        """Use a new round unless it scores lower than what it started from."""
        new = round_from(result, parent, self._session.state.round)
        self._projects.note_round(result)
        if parent is not None and new.is_worse:
            self._session.update(declined=new)
            return f"Kept {short(parent.name)}, which is better on held-out strokes"
        self._models.use(new.path, round=new, from_scratch=False)
        ended = "Stopped early and kept" if result["stopped"] else "Trained"
        return f"{ended} {Path(new.path).name}; predict again to see it"
