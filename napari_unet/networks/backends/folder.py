"""Where built programs are kept: a folder that nobody else can write.

A built program is code that is run when it is loaded. So the folder must belong to the
user and be closed to others, and a folder that is not so is refused, not repaired:
what lies in it may be anybody's.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs
import torch

from napari_unet import __version__
from napari_unet.errors import UNetError

if TYPE_CHECKING:
    from torch import nn

_MOST = 64
"""Programs that are kept; the oldest go first."""


def build_folder(
    module: nn.Module, image: torch.Tensor, facts: str, backend: str
) -> Path:
    """Return the private folder of the programs of a network for one shape of input.

    Parameters
    ----------
    module : torch.nn.Module
        Layers as they run; their weights are part of the folder's name.
    image : torch.Tensor
        An input: shape, layout, type and device are part of it too.
    facts : str
        All that decides what the layers do beside their weights.
    backend : str
        Name and version of what builds.

    Raises
    ------
    UNetError
        If the folder is not the user's own, or others can write it.
    OSError
        If it cannot be made.
    """
    root = Path(platformdirs.user_cache_dir("napari-unet", appauthor=False)) / "built"
    root.parent.mkdir(parents=True, exist_ok=True)
    folder = root / _key(module, image, facts, backend)
    for path in (root, folder):
        path.mkdir(mode=0o700, exist_ok=True)
        _check(path)
    os.utime(folder)
    _prune(root)
    return folder


def _key(module: nn.Module, image: torch.Tensor, facts: str, backend: str) -> str:
    """SHA-256 of all that decides what is built."""
    parts = (
        *(facts, backend, __version__, torch.__version__, torch.get_num_threads()),
        *(tuple(image.shape), image.stride(), image.dtype, image.device, module),
    )
    digest = hashlib.sha256("\n".join(map(str, parts)).encode())
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        plain = tensor.detach().cpu().contiguous().flatten()
        digest.update(plain.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _check(path: Path) -> None:
    """Refuse a folder that others could have filled."""
    facts = path.lstat()
    if not stat.S_ISDIR(facts.st_mode):
        raise UNetError("The folder for built programs is no folder", found=str(path))
    if not hasattr(os, "getuid"):  # on Windows the user's folders are closed
        return
    if facts.st_uid != os.getuid() or facts.st_mode & 0o077:
        raise UNetError(
            "The folder for built programs is open to other users",
            found=f"{stat.filemode(facts.st_mode)} {path}",
            expected="a folder of your own with the mode drwx------",
            hint="Delete it; it is made anew.",
        )


def _prune(root: Path) -> None:
    """Remove the programs that were used longest ago."""
    folders = sorted(root.iterdir(), key=lambda path: path.stat().st_mtime)
    for path in folders[:-_MOST]:
        shutil.rmtree(path, ignore_errors=True)
