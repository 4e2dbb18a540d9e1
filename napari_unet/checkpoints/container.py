"""What a file is, told from its content; its name decides nothing."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

from napari_unet.checkpoints.source import check_local_headers, open_zip
from napari_unet.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

Kind = Literal[
    "safetensors",
    "torch",
    "legacy",
    "torchscript",
    "pt2",
    "onnx",
    "keras",
    "hdf5",
    "archive",
    "folder",
    "text",
]

_HEAD = 512
_HDF5 = b"\x89HDF\r\n\x1a\n"
_LEGACY = b"\x80\x02\x8a\x0a"
_STATE_DICT = (
    "Save the network's state_dict with torch.save(net.state_dict(), path) where it "
    "was made, and open that file."
)


@dataclass(frozen=True)
class Refusal:
    """Why files of a kind are not opened, and what to do instead."""

    found: str
    hint: str = _STATE_DICT


_REFUSED_ZIPS = {
    "torch.package": Refusal("a torch.package, which holds Python code"),
    "npz": Refusal("a NumPy archive"),
}
_REFUSED_HEADS = {
    b"version https://git-lfs": Refusal(
        "a Git LFS pointer, which stands for the real file",
        "Fetch the file with `git lfs pull` or download it itself.",
    ),
    b"\x1f\x8b": Refusal("a gzip archive", "Unpack it first."),
    b"\x93NUMPY": Refusal("a NumPy array"),
    b"II*\0": Refusal("a TIFF image", "Open it as an image."),
    b"MM\0*": Refusal("a TIFF image", "Open it as an image."),
}


def refuse(path: Path, refusal: Refusal) -> ModelError:
    """Make the error for a file that is not opened."""
    return ModelError(
        f"{path.name} is not a checkpoint that can be opened",
        found=refusal.found,
        expected="weights: a PyTorch state dict, safetensors or a bioimage.io package",
        hint=refusal.hint,
    )


def sniff(path: Path) -> Kind:
    """Tell what kind of checkpoint a file or folder is.

    Raises
    ------
    ModelError
        If it is none, or one that is not opened, with the reason.
    """
    if path.is_dir():
        return "folder"
    if not path.exists():
        raise ModelError(f"There is no file {path}")
    if not path.is_file():
        raise refuse(path, Refusal("neither a file nor a folder"))
    return _file(path)


def _file(path: Path) -> Kind:
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if head.startswith(b"PK"):
        return _zip(path)
    if head.startswith(_LEGACY):
        return "legacy"
    if head.startswith(_HDF5):
        return "hdf5"
    if _is_safetensors(head, path.stat().st_size):
        return "safetensors"
    if head[:1] == b"\x08" and (b"\x12" in head[2:4] or path.suffix == ".onnx"):
        return "onnx"
    if path.suffix in (".yaml", ".yml", ".json") and head.isascii():
        return "text"
    raise refuse(path, _reason(head, path))


def _zip(path: Path) -> Kind:
    """Tell zip archives apart by the names inside."""
    with open_zip(path) as file:
        kind = _zip_kind(file.namelist())
        if kind in ("torch", "torchscript", "pt2"):
            check_local_headers(path, file)
    if kind in _REFUSED_ZIPS:
        raise refuse(path, _REFUSED_ZIPS[kind])
    return cast("Kind", kind)


def _zip_kind(names: list[str]) -> str:
    """Name the kind of a zip archive."""
    inside = {name.split("/", 1)[-1] for name in names}
    last = {name.rsplit("/", 1)[-1] for name in names}
    if "constants.pkl" in inside:
        return "torchscript"
    if "archive_format" in inside or "serialized_exported_program.json" in names:
        return "pt2"
    if ".data/extern_modules" in inside:
        return "torch.package"
    if "data.pkl" in inside:
        return "torch"
    if "model.weights.h5" in last:
        return "keras"
    return "npz" if all(name.endswith(".npy") for name in last) else "archive"


def _is_safetensors(head: bytes, size: int) -> bool:
    """Whether the file starts with the length of a JSON header and the header."""
    return size > 9 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") >= 2


def _reason(head: bytes, path: Path) -> Refusal:
    """Say what a file that is no checkpoint is."""
    if not head:
        return Refusal("an empty file", "Download or save it again.")
    for magic, refusal in _REFUSED_HEADS.items():
        if head.startswith(magic):
            return refusal
    if head[257:262] == b"ustar":
        return Refusal("a tar archive in the torch format before 2016")
    if head[0] == 0x80 and head[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        return Refusal("a bare Python pickle, which would run code when opened")
    return _text(head)


def _text(head: bytes) -> Refusal:
    """Tell text from unknown bytes."""
    start = head.lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        hint = "The download went wrong, perhaps at a login page; download it again."
        return Refusal("a web page", hint)
    try:
        head.decode()
    except UnicodeDecodeError:
        return Refusal("unknown bytes; the file may be damaged", "Download it again.")
    return Refusal("a text file")


def zip_root(path: Path) -> str:
    """Name of the folder inside a torch zip file that holds data.pkl."""
    with zipfile.ZipFile(path) as file:
        found = [n for n in file.namelist() if n.count("/") == 1]
    return next(n for n in found if n.endswith("/data.pkl")).split("/")[0]
