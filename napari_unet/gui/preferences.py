"""What the user set on the U-Net page of napari's preferences."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs
from napari.settings import get_plugin_settings
from napari.utils.notifications import show_warning

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_unet.gui.form import Form

NAME = "unet-napari"
DEFAULTS: dict[str, Any] = {
    "device": "auto",
    "memory": 0.0,
    "preview_delay": 300,
    "autosave": 4.0,
    "scratch_folder": "",
    "rounds_folder": "",
}
"""As in the manifest; for a package that napari has not been told of."""


def preferences() -> dict[str, Any]:
    """Read the preferences."""
    page = _page()
    return {name: getattr(page, name, default) for name, default in DEFAULTS.items()}


def watch(changed: Callable[[], None]) -> Callable[[], None]:
    """Call `changed` after each change; returns what ends that."""
    events = getattr(_page(), "events", None)
    if events is None:
        return lambda: None

    def call(*_: object) -> None:
        changed()

    events.connect(call)
    return lambda: events.disconnect(call)


class Preferred:
    """Fields of a form that begin as the preferences say and follow their changes.

    Parameters
    ----------
    form : Form
        The form.
    *names : str
        Its fields, called as the preferences are.
    """

    def __init__(self, form: Form, *names: str) -> None:
        self._fields = {name: form.fields[name] for name in names}
        self._taken: dict[str, Any] = {}
        self.take()

    def take(self) -> None:
        """Take what has changed since the last time; 0 stands for nothing."""
        for name, value in preferences().items():
            if name in self._fields and self._taken.get(name) != value:
                self._fields[name].value = str(value or "")
                self._taken[name] = value


def scratch_folder() -> Path:
    """Make a folder for the pixels of one viewer."""
    wish = preferences()["scratch_folder"] or None
    try:
        if wish is not None:
            Path(wish).mkdir(parents=True, exist_ok=True)
            return Path(tempfile.mkdtemp(prefix=f"{NAME}-", dir=wish))
    except OSError as error:
        show_warning(f"{wish} cannot hold results ({error.strerror}); see Preferences.")
    return Path(tempfile.mkdtemp(prefix=f"{NAME}-"))


def rounds_folder() -> Path:
    """Folder for training rounds."""
    wish = preferences()["rounds_folder"]
    return Path(wish) if wish else platformdirs.user_data_path(NAME) / "rounds"


def recovery_folder() -> Path:
    """Folder for strokes that have no project; always the same, to be found again."""
    return platformdirs.user_data_path(NAME) / "recovery"


def _page() -> Any:
    """Return the page of our settings, None where napari has none."""
    with contextlib.suppress(KeyError):
        return get_plugin_settings(NAME).general
    return None
