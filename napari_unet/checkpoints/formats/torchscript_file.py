"""TorchScript: the weights and the text of the program, read and never run.

A script can read and write files while it is loaded, so `torch.jit.load` is never
called. The tensors lie in ``data.pkl`` and ``data/*`` as in PyTorch's own files; these
alone are copied and read with the restricted unpickler. The program is plain text: a
traced network is translated, see `script_text`; of any other, what it says about a few
settings is taken as evidence, see `evidence`.
"""

from __future__ import annotations

import pickletools
import re
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from napari_unet.checkpoints.formats.script_text import Script
from napari_unet.checkpoints.formats.tape import record
from napari_unet.checkpoints.formats.with_graph import found
from napari_unet.checkpoints.source import damaged, member, open_zip
from napari_unet.checkpoints.unpickle import Stub, read_tree
from napari_unet.checkpoints.unwrap import unwrap
from napari_unet.errors import ModelError

if TYPE_CHECKING:
    from napari_unet.checkpoints.formats.tape import Tape, Value
    from napari_unet.checkpoints.unwrap import Found

_DEEPEST = 64
_MOST_TEXT = 16 << 20
_MOST_WEIGHTS = 1 << 34
_MOST_INPUTS = 1 << 16
_NUMBER = r"(-?\d+\.?\d*(?:e[-+]?\d+)?)"
_PATTERNS = {
    "align_corners": re.compile(
        r"upsample_(?:bilinear2d|trilinear3d)\([\w.]+, [^()]*?, (True|False)\b"
    ),
    "negative_slope": re.compile(rf"leaky_relu_?\([\w.]+, {_NUMBER}\)"),
    "eps": re.compile(rf"batch_norm\([^()]*?, {_NUMBER}, {_NUMBER}, (?:True|False)\)"),
}


def read(path: Path, choice: str = "") -> Found:
    """Return the weights of a TorchScript file, and its graph where it is plain.

    Nothing in it is run.
    """
    with open_zip(path) as archive:
        tree = _pickle(path, archive, "data")
        if not isinstance(tree, Stub):
            return unwrap(tree, path.name, choice)
        state = _state(tree)
        if not any(tensor.ndim >= 3 for tensor in state.values()):
            return unwrap(state, path.name, choice)
        made = found(path.name, state, lambda: _graph(path, archive, tree))
        settings = evidence("\n".join(_texts(path, archive).values()))
    made.notes.append("the program of a TorchScript file was read, not run")
    if settings:
        made.hints["evidence"] = settings
    return made


def _graph(path: Path, archive: zipfile.ZipFile, tree: Stub) -> tuple[Tape, Value]:
    """Translate the program of the network."""
    script = Script(_texts(path, archive), _constants(path, archive))
    shape = _input(path, archive) or _guessed(_state(tree))
    return record(shape, lambda tape: script.play(tape, tree))


def _constants(path: Path, archive: zipfile.ZipFile) -> list[Any]:
    """Return the tensors that the program names by number."""
    try:
        return list(_pickle(path, archive, "constants"))
    except (ModelError, TypeError):
        return []


def _input(path: Path, archive: zipfile.ZipFile) -> list[int | None]:
    """Return the shape of the image a network was traced with, where it is kept.

    The tensor itself is left out of the file, so its pickle is only looked through: the
    numbers behind a storage are an offset, the sizes and the strides.
    """
    names = [n for n in archive.namelist() if n.endswith("/traced_inputs.pkl")]
    if len(names) != 1 or archive.getinfo(names[0]).file_size > _MOST_INPUTS:
        return []
    data = member(path, archive, archive.getinfo(names[0]))
    numbers: list[list[int | None]] = []
    try:
        for code, value, _ in pickletools.genops(data):
            if code.name == "BINPERSID":
                numbers.append([])
            elif isinstance(value, int) and code.name.startswith("BININT") and numbers:
                numbers[-1].append(value)
    except ValueError:
        return []
    axes = len(numbers[0]) // 2 if len(numbers) == 1 else 0
    return numbers[0][1 : 1 + axes] if axes in (4, 5) else []


def _guessed(state: dict[str, torch.Tensor]) -> list[int | None]:
    """Return the shape that the first convolution reads."""
    first = next(t for t in state.values() if t.ndim >= 3)
    return [None, first.shape[1], *[None] * (first.ndim - 2)]


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


def _pickle(path: Path, archive: zipfile.ZipFile, name: str) -> Any:
    """Read one of the pickles of a file with the restricted unpickler."""
    with tempfile.TemporaryDirectory(prefix="napari-unet-") as folder:
        bare = Path(folder) / path.name
        _copy(path, archive, name, bare)
        return read_tree(bare, is_zip=True)


def _copy(path: Path, archive: zipfile.ZipFile, name: str, target: Path) -> None:
    """Copy a pickle and its tensors to a torch file of their own."""
    names = archive.namelist()
    end = f"/{name}.pkl"
    root = next((n for n in names if n.count("/") == 1 and n.endswith(end)), "")
    if not root:
        raise damaged(path, f"a TorchScript file without {name}.pkl")
    top = root.removesuffix(f"{name}.pkl")
    wanted = (root, *(f"{top}{n}" for n in ("byteorder", "version", ".data/version")))
    members = [
        info
        for info in archive.infolist()
        if info.filename in wanted or info.filename.startswith(f"{top}{name}/")
    ]
    if sum(info.file_size for info in members) > _MOST_WEIGHTS:
        raise damaged(path, "weights of over 16 GB")
    with zipfile.ZipFile(target, "w") as copy:
        for info in members:
            place = _as_data(info.filename, top, name)
            copy.writestr(place, member(path, archive, info))


def _as_data(name_inside: str, top: str, name: str) -> str:
    """Name a member as if its pickle were the one of the weights."""
    inside = name_inside.removeprefix(top)
    for end in (".pkl", "/"):
        if inside.startswith(name + end):
            inside = f"data{inside.removeprefix(name)}"
    return f"net/{inside}"


def _texts(path: Path, archive: zipfile.ZipFile) -> dict[str, str]:
    """Return the program by module, as far as it is of a sane size."""
    texts, room = {}, _MOST_TEXT
    for info in archive.infolist():
        _, is_code, name = info.filename.partition("/code/")
        if is_code and name.endswith(".py"):
            room -= info.file_size
            if room < 0:
                break
            module = name.removesuffix(".py").replace("/", ".")
            texts[module] = member(path, archive, info).decode(errors="replace")
    return texts


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
