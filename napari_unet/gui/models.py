"""Opening checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.config import ExportConfig
from napari_unet.gui.state import Model

if TYPE_CHECKING:
    from napari_unet.gui.session import Session


class Models:
    """Chooses the model that is used.

    Parameters
    ----------
    session : Session
        Shared with the other pages.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def open(self, path: str) -> None:
        """Look at a checkpoint and use it; its rounds are yet to come."""
        if not self._session.is_busy():
            message = f"Opened {Path(path).name}"
            self.use(path, message, round=None, declined=None, curves={})

    def forget(self) -> None:
        """Work without a model."""
        self._session.update(model=None, round=None, declined=None, message="")

    def tell(self, facts: dict[str, Any]) -> None:
        """Say what the checkpoint in use leaves open, and open it so."""
        model = self._session.state.model
        if model is not None and not self._session.is_busy():
            self.use(model.path, "The checkpoint is opened so from now on.", told=facts)

    def export(self, path: str, *, overwrite: bool) -> None:
        """Write the model in use for other programs; its form follows from the name.

        Parameters
        ----------
        path : str
            The file.
        overwrite : bool
            Whether the user agreed to replace a file of that name.
        """
        model = self._session.state.model
        if model is None or self._session.is_busy():
            return
        arguments = {
            "model": model.path,
            "output": path,
            "config": ExportConfig(),
            "overwrite": overwrite,
        }

        def finish(_made: Any) -> str:
            return f"Exported {Path(path).name}, read again and compared"

        self._session.begin(
            "export",
            f"Exporting {Path(path).name}",
            "napari_unet.api:iter_export",
            lambda _token, _progress: arguments,
            finish,
        )

    def use(
        self,
        path: str,
        message: str = "",
        told: dict[str, Any] | None = None,
        **changes: Any,
    ) -> None:
        """Look at a checkpoint; if it can be used, take it and change the state.

        Parameters
        ----------
        path : str
            The checkpoint.
        message : str
            What the footer says then.
        told : dict, optional
            What a person said about it, by field.
        **changes
            Fields of `State`.
        """
        arguments = {"model": path, **({"told": told} if told else {})}

        def finish(facts: dict[str, Any]) -> str:
            self._session.update(model=Model(path, facts), **changes)
            return message

        self._session.begin(
            "inspect",
            f"Opening {Path(path).name}",
            "napari_unet.api:iter_inspect",
            lambda _token, _progress: arguments,
            finish,
        )
