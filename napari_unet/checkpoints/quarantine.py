"""Foreign files are opened in a short-lived process; only plain tensors come back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from napari_unet.checkpoints import child
from napari_unet.checkpoints.tensorfile import read_tensors
from napari_unet.checkpoints.unwrap import Found
from napari_unet.errors import ModelError

_PACKAGE = Path(__file__).resolve().parents[2]
_START = (
    "import sys; sys.path.append(sys.argv.pop(1)); "
    "from napari_unet.checkpoints.child import main; main()"
)
_TIMEOUT = 300.0
_FACTS = ("wrapper", "extras", "notes", "choices", "hints")


def read_foreign(
    path: Path, kind: str, choice: str = "", timeout: float = _TIMEOUT
) -> Found:
    """Read a file of a known format in a child process.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    kind : str
        Its format, one of `formats.WORDS`.
    choice : str
        Which of several sets of weights, see `Found.choices`.
    timeout : float
        Seconds after which the child is ended.

    Raises
    ------
    ModelError
        If the file is refused, or reading it ended the child.
    """
    with tempfile.TemporaryDirectory(prefix="napari-unet-") as name:
        folder = Path(name)
        code = _run(path.resolve(), folder, [kind, choice], timeout)
        if (folder / child.ERROR).exists():
            what, found, expected, hint = json.loads((folder / child.ERROR).read_text())
            raise ModelError(what, found=found, expected=expected, hint=hint)
        if code != 0 or not (folder / child.FOUND).exists():
            raise ModelError(
                f"{path.name} could not be read",
                found=f"the reading process ended with code {code}",
                hint="The file is damaged, or too large for the memory.",
            )
        return _collect(folder)


def _run(path: Path, folder: Path, wish: list[str], timeout: float) -> int:
    """Start the child away from the working directory and wait for it."""
    hidden = ("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "PYTHONSTARTUP", "PYTHONINSPECT")
    environment = {k: v for k, v in os.environ.items() if k not in hidden}
    environment["OMP_NUM_THREADS"] = "1"
    command = [sys.executable, "-P", "-c", _START, str(_PACKAGE)]
    try:
        done = subprocess.run(
            [*command, str(path), str(folder), *wish],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ModelError(
            f"{path.name} could not be read", found=f"no end after {timeout:.0f} s"
        ) from error
    return done.returncode


def _collect(folder: Path) -> Found:
    """Read what the child wrote."""
    facts = json.loads((folder / child.FOUND).read_text())
    tensors, _ = read_tensors((folder / child.TENSORS).read_bytes(), child.TENSORS)
    ordered = {key: tensors[key] for key in facts["order"]}
    return Found(ordered, **{k: facts[k] for k in _FACTS})
