"""Where the shipped sample images and the checkpoint lie."""

from __future__ import annotations

from importlib import resources
from pathlib import Path


def sample(name: str = "") -> Path:
    """Path of a shipped file, such as ``"timelapse.ome.tif"``.

    Parameters
    ----------
    name : str
        File or folder below ``sample_data/``; its README lists them. The folder
        itself when empty.

    Returns
    -------
    pathlib.Path
        From the installed package, or from the checkout where it is not installed.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    """
    path = _folder() / name
    if not path.exists():
        raise FileNotFoundError(f"no sample named {name}")
    return path


def _folder() -> Path:
    """Find the folder of a wheel or an editable install, else of the checkout."""
    try:
        return Path(str(resources.files("napari_unet_data") / "sample_data"))
    except ModuleNotFoundError:
        return Path(__file__).parents[1] / "sample_data"
