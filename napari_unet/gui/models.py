"""Opening checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.config import ExportConfig
from napari_unet.gui.state import Model

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_unet.gui.recent import Recent
    from napari_unet.gui.session import Session


class Models:
    """Chooses the model that is used.

    Parameters
    ----------
    session : Session
        Shared with the other pages.
    recent : Recent
        Remembers what was opened.
    """

    def __init__(self, session: Session, recent: Recent) -> None:
        self._session = session
        self.recent = recent

    def open(self, path: str, then: Callable[[], None] | None = None) -> None:
        """Look at a checkpoint and use it; rounds start from it from now on."""
        if not self._session.is_busy():
            fresh: dict[str, Any] = {"past": (), "future": (), "curves": {}}
            message = f"Opened {Path(path).name}"
            self.use(path, message, then=then, as_base=True, **fresh)

    def forget(self) -> None:
        """Work without a model."""
        self._session.update(
            model=None, base=None, past=(), future=(), declined=None, message=""
        )

    def tell(self, facts: dict[str, Any]) -> None:
        """Say what the checkpoint in use leaves open, and open it so."""
        model = self._session.state.model
        if model is not None and not self._session.is_busy():
            self.use(
                model.path,
                "The checkpoint is opened so from now on.",
                told=facts,
                as_base=model == self._session.state.base,
            )

    def export(self, path: str, *, overwrite: bool, model: str = "") -> None:
        """Write a model for other programs; its form follows from the name.

        Parameters
        ----------
        path : str
            The file.
        overwrite : bool
            Whether the user agreed to replace a file of that name.
        model : str
            Its checkpoint, that of the model in use when not given.
        """
        used = self._session.state.model
        model = model or (used.path if used else "")
        if not model or self._session.is_busy():
            return
        arguments = {
            "model": model,
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
        then: Callable[[], None] | None = None,
        as_base: bool = False,
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
        then : callable, optional
            Called once it is used.
        as_base : bool
            Whether rounds start from it.
        **changes
            Fields of `State`.
        """
        arguments = {"model": path, **({"told": told} if told else {})}

        def finish(facts: dict[str, Any]) -> str:
            model = Model(path, facts)
            self._session.update(
                model=model,
                declined=None,
                **({"base": model} if as_base else {}),
                **changes,
            )
            self._session.tasks.aside(lambda: self.recent.add(path), lambda _: None)
            return message

        def after() -> None:
            model = self._session.state.model
            if then is not None and model is not None and model.path == path:
                then()

        self._session.begin(
            "inspect",
            f"Opening {Path(path).name}",
            "napari_unet.api:iter_inspect",
            lambda _token, _progress: arguments,
            finish,
            after=after,
        )
