"""TorchScript: the weights are read and the program beside them is only looked at.

A script can read and write files while it is loaded, so `torch.jit.load` is never
called. The tensors lie in ``data.pkl`` and ``data/*`` as in PyTorch's own files; these
alone are copied and read with the restricted unpickler. The program is plain text;
what it says about a few settings is taken as evidence, see `evidence`.
"""

from __future__ import annotations

import re
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import torch

from napari_unet.checkpoints.source import damaged, open_zip
from napari_unet.checkpoints.unpickle import Stub, read_tree
from napari_unet.checkpoints.unwrap import Found, unwrap

_DEEPEST = 64
_MOST_TEXT = 16 << 20
_MOST_WEIGHTS = 1 << 34
_NUMBER = r"(-?\d+\.?\d*(?:e[-+]?\d+)?)"
_PATTERNS = {
    "align_corners": re.compile(
        r"upsample_(?:bilinear2d|trilinear3d)\([\w.]+, [^()]*?, (True|False)\b"
    ),
    "negative_slope": re.compile(rf"leaky_relu_?\([\w.]+, {_NUMBER}\)"),
    "eps": re.compile(rf"batch_norm\([^()]*?, {_NUMBER}, {_NUMBER}, (?:True|False)\)"),
}


def read(path: Path, choice: str = "") -> Found:
    """Return the weights of a TorchScript file; nothing in it is run."""
    with (
        open_zip(path) as archive,
        tempfile.TemporaryDirectory(prefix="napari-unet-") as folder,
    ):
        bare = Path(folder) / path.name
        _copy_weights(path, archive, bare)
        tree = read_tree(bare, is_zip=True)
        settings = evidence(_program(archive))
    state = _state(tree) if isinstance(tree, Stub) else tree
    found = unwrap(state, path.name, choice)
    found.extras = {}
    found.notes.append("the weights of a TorchScript file were read, not its program")
    if settings:
        found.hints["evidence"] = settings
    return found


def evidence(program: str) -> dict[str, Any]:
    """Return the settings that the text of a program agrees on.

    Parameters
    ----------
    program : str
        TorchScript's own source text.

    Returns
    -------
    dict
        Some of align_corners, negative_slope and eps (of batch norms), where all
        places that name them name the same value.
    """
    found: dict[str, Any] = {}
    for name, pattern in _PATTERNS.items():
        values = {
            match.group(match.lastindex or 0) for match in pattern.finditer(program)
        }
        if len(values) == 1:
            text = values.pop()
            found[name] = text == "True" if text in ("True", "False") else float(text)
    return found


def _copy_weights(path: Path, archive: zipfile.ZipFile, target: Path) -> None:
    """Copy the members that hold tensors to an archive of their own."""
    names = archive.namelist()
    root = next((n for n in names if n.count("/") == 1 and n.endswith("/data.pkl")), "")
    if not root:
        raise damaged(path, "a TorchScript file without data.pkl")
    top = root.removesuffix("data.pkl")
    wanted = (root, f"{top}byteorder", f"{top}version")
    members = [
        info
        for info in archive.infolist()
        if info.filename in wanted or info.filename.startswith(f"{top}data/")
    ]
    if sum(info.file_size for info in members) > _MOST_WEIGHTS:
        raise damaged(path, "weights of over 16 GB")
    try:
        with zipfile.ZipFile(target, "w") as copy:
            for info in members:
                copy.writestr(info.filename, archive.read(info))
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise damaged(path, str(error)) from error


def _program(archive: zipfile.ZipFile) -> str:
    """Return the text of the program, as far as it is of a sane size."""
    texts, room = [], _MOST_TEXT
    for info in archive.infolist():
        if "/code/" in info.filename and info.filename.endswith(".py"):
            room -= info.file_size
            if room < 0:
                break
            texts.append(archive.read(info).decode(errors="replace"))
    return "\n".join(texts)


def _state(stub: Stub, prefix: str = "", depth: int = 0) -> dict[str, torch.Tensor]:
    """State dict of a scripted module: its attributes are tensors and modules."""
    state: dict[str, torch.Tensor] = {}
    if depth > _DEEPEST:
        return state
    for key, value in stub.state.items():
        if isinstance(value, torch.Tensor):
            state[f"{prefix}{key}"] = value
        elif isinstance(value, Stub):
            state.update(_state(value, f"{prefix}{key}.", depth + 1))
    return state
