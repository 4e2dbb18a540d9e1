"""Gathers the numbers of a training run into curves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_unet.events import Event, Metric

if TYPE_CHECKING:
    from napari_unet.gui.session import Session

SHOWN = ("train_loss", "val_dice")
_POINTS = 400


class Curves:
    """Watches the events of a training run.

    A curve that grows too long keeps every second point.

    Parameters
    ----------
    session : Session
        Whose `curves` are filled, emptied first.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        session.update(curves={})

    def __call__(self, event: Event) -> None:
        """Add a number to its curve."""
        if not isinstance(event, Metric) or event.name not in SHOWN:
            return
        curves = dict(self._session.state.curves)
        curve = (*curves.get(event.name, ()), (float(event.step), event.value))
        curves[event.name] = curve if len(curve) <= _POINTS else curve[::2]
        self._session.update(curves=curves)
