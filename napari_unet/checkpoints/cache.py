"""What foreign files held, kept as safetensors so that each file is read once.

The key is the SHA-256 of the file with the version of the reader; the cache lies in the
user's cache folder and the least used entries go first when it grows.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs
from safetensors.torch import save

from napari_unet import __version__
from napari_unet.checkpoints.tensorfile import read_tensors
from napari_unet.checkpoints.unwrap import Found
from napari_unet.errors import UNetError
from napari_unet.files import write

if TYPE_CHECKING:
    from collections.abc import Callable

_FACTS = "found"
_ORDER = "order"
_MOST_BYTES = 8 << 30


def folder() -> Path:
    """Return where the cache lies."""
    return Path(platformdirs.user_cache_dir("napari-unet", appauthor=False)) / "read"


def remembered(key: tuple[str, ...], read: Callable[[], Found]) -> Found:
    """Return what `read` gives, or what it gave for the same key.

    Parameters
    ----------
    key : tuple of str
        SHA-256 of the file and everything else that decides what is found.
    read : callable
        Reads the file.
    """
    text = "\n".join((__version__, *key))
    path = folder() / f"{hashlib.sha256(text.encode()).hexdigest()}.safetensors"
    with contextlib.suppress(OSError, UNetError, ValueError, TypeError, KeyError):
        found = _loaded(path)
        os.utime(path)
        return found
    found = read()
    with contextlib.suppress(OSError, UNetError):  # a full disk costs only the cache
        _store(path, found)
        _prune(path.parent)
    return found


def _loaded(path: Path) -> Found:
    tensors, metadata = read_tensors(path.read_bytes(), path.name)
    facts: dict[str, Any] = json.loads(metadata[_FACTS])
    return Found({name: tensors[name] for name in facts.pop(_ORDER)}, **facts)


def _store(path: Path, found: Found) -> None:
    names = [f.name for f in fields(found) if f.name != "tensors"]
    facts = {name: getattr(found, name) for name in names}
    header = json.dumps({**facts, _ORDER: list(found.tensors)})
    write(path, save(found.tensors, {_FACTS: header}))


def _prune(place: Path) -> None:
    """Remove the least used entries until the rest fits."""
    entries = sorted(
        ((p.stat().st_mtime, p.stat().st_size, p) for p in place.glob("*.safetensors")),
        reverse=True,
    )
    total = 0
    for _, size, path in entries:
        total += size
        if total > _MOST_BYTES:
            path.unlink(missing_ok=True)
