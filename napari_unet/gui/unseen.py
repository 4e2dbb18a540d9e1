"""What follows when a job ends while no dock shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_unet.gui.session import Notify, Session
    from napari_unet.gui.view import View


class Unseen:
    """Tells the end of jobs that nobody sees in a dock.

    Parameters
    ----------
    session : Session
        Whose jobs; it tells errors by itself.
    is_seen : callable
        Whether a dock is visible.
    notify : callable
        Shows a message outside the dock.
    later : callable
        Calls a function soon: a job's last words come just after its end.
    """

    def __init__(
        self,
        session: Session,
        is_seen: Callable[[], bool],
        notify: Notify,
        later: Callable[[Callable[[], None]], None],
    ) -> None:
        self._session = session
        self._is_seen = is_seen
        self._notify = notify
        self._later = later
        self._was_busy = False
        session.subscribe(self._look)

    def _look(self, view: View) -> None:
        """Notice the end of a job."""
        ended = self._was_busy and not view.busy
        self._was_busy = view.busy
        if ended:
            self._later(self._tell)

    def _tell(self) -> None:
        """Say what a job said last, unless a dock shows it."""
        state = self._session.state
        if state.activity is None and state.tone == "good" and not self._is_seen():
            self._notify("info", state.message)
