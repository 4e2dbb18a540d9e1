"""How a process of our own takes memory from the system."""

from __future__ import annotations

import ctypes
import os
import sys

_NO_MAPS, _NO_TRIM = (-4, 0), (-1, 2**31 - 1)
"""M_MMAP_MAX and M_TRIM_THRESHOLD of glibc's mallopt."""
_CACHES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
_CACHED = "256"
"""What oneDNN and torch's bridge to it keep ready, by layer and shape: 1024 by default,
which a view that moves fills with shapes that never come again."""


def keep() -> None:
    """Let freed memory stay with this process, where glibc can, and bound its caches.

    A network frees large tensors and takes as large ones again all the time; by default
    each of them is given back to the system and mapped anew, page by page. Not for the
    viewer's process, which has other things to do with its memory. To be called before
    torch is imported.
    """
    for name in _CACHES:
        os.environ.setdefault(name, _CACHED)
    libc = _glibc()
    if libc is not None:
        for setting in (_NO_MAPS, _NO_TRIM):
            libc.mallopt(*setting)


def give_back() -> None:
    """Give freed memory back to the system after `keep`."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") else None
