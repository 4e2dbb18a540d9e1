"""What a round would train, found out in spare time: the network and its patches."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from napari_unet.config import FinetuneConfig
from napari_unet.errors import UNetError
from napari_unet.events import Cancelled, Event, Finished
from napari_unet.execution.protocol import Failed
from napari_unet.gui import buttons
from napari_unet.gui.learning import Outlook
from napari_unet.gui.tasks import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from napari_unet.events import CancelToken
    from napari_unet.gui.session import Session
    from napari_unet.gui.state import State
    from napari_unet.gui.teaching import Teaching

SETTINGS = ("ndim", "depth", "width", "poolings", "patch", "batch")
"""What is planned unless it is set."""
_LARGE = 64 << 20
"""Pixels of strokes from which on they are not looked through at each stroke."""


class Outlooks:
    """Keeps up to date what the next round would train.

    Parameters
    ----------
    session : Session
        Shared with the pages.
    teaching : Teaching
        Knows what is painted.
    """

    def __init__(self, session: Session, teaching: Teaching) -> None:
        self._session = session
        self._teaching = teaching
        self._key: object = None
        self._task: Task | None = None

    def set_settings(self, settings: Mapping[str, Any] | None) -> None:
        """Take the settings of the Train page, None while they cannot be read."""
        self._session.update(learning=settings)

    def close(self) -> None:
        """Forget what was asked for; nothing more comes of it."""
        self._key, self._task = None, None

    def catch_up(self) -> None:
        """Plan again if strokes, start or settings changed and nothing runs."""
        state = self._session.state
        key = _key(state)
        is_free = state.activity is None and not self._session.tasks.spare_time_is_used
        if key == self._key or not is_free:
            return
        self._key, self._task = key, None
        if key is None:
            self._session.update(outlook=None)
            return
        try:
            self._start(state)
        except UNetError as error:
            self._session.update(outlook=Outlook(trouble=str(error)))

    def _start(self, state: State) -> None:
        """Ask the computing process, which needs no pixels for it."""
        config = FinetuneConfig.build(
            **(state.learning or {}), channels=state.channels, strokes=state.kind
        )
        model = state.start.path if state.start else None
        painted = self._teaching.outline()

        def prepare(token: CancelToken, progress: Callable[[float], None]) -> Any:
            return {
                **painted(token, progress).arguments,
                "model": model,
                "output": "",
                "config": config,
                "only_plan": True,
            }

        task = Task(
            "napari_unet.api:iter_finetune",
            prepare,
            lambda event: self._take(task, event),
            turn="last",
        )
        self._task = task
        self._session.tasks.start(task)

    def _take(self, task: Task, event: Event) -> None:
        """Show what would be trained, or why nothing."""
        if task is not self._task:
            return
        if isinstance(event, Finished):
            self._session.update(outlook=Outlook(event.result))
        elif isinstance(event, Failed):
            self._session.update(outlook=Outlook(trouble=str(event.error)))
        elif isinstance(event, Cancelled):  # another job took its place
            self.close()


def _key(state: State) -> object:
    """List what the plan depends on, None where nothing can be trained."""
    if state.learning is None or state.image is None or state.strokes is None:
        return None
    if buttons.no_training(state):
        return None
    counts = state.strokes.counts
    # Whether a new network sees volumes depends on how many planes are painted.
    is_solid = "Z" in state.image.sizes and math.prod(state.image.plane_shape) < _LARGE
    painted = dict(counts) if is_solid else frozenset(counts)
    pictures = state.project.pictures if state.project else ()
    settings = [state.learning.get(name) for name in (*SETTINGS, "device")]
    return (
        state.image, state.channels, state.strokes.name, painted, state.kind,
        pictures, state.start, settings,
    )  # fmt: skip
