"""How a process of our own takes memory from the system."""

from __future__ import annotations

import ctypes
import sys

_NO_MAPS, _NO_TRIM = (-4, 0), (-1, 2**31 - 1)
"""M_MMAP_MAX and M_TRIM_THRESHOLD of glibc's mallopt."""


def keep() -> None:
    """Let freed memory stay with this process, where glibc can.

    A network frees large tensors and takes as large ones again all the time; by default
    each of them is given back to the system and mapped anew, page by page. Not for the
    viewer's process, which has other things to do with its memory.
    """
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
