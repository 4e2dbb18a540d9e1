"""One owner of a file among all processes, also after one of them was killed."""

from __future__ import annotations

import sys

if sys.platform == "win32":
    import msvcrt
    import os

    _FAR = 1 << 40  # a byte behind all others, so that these can be read and written

    def lock(handle: int) -> None:
        """Lock an open file; the system unlocks it when its owner closes it or dies.

        Raises
        ------
        BlockingIOError
            If another owner has it.
        OSError
            If files cannot be locked here.
        """
        os.lseek(handle, _FAR, os.SEEK_SET)
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except PermissionError as error:
            raise BlockingIOError(error.errno, error.strerror) from error

else:
    import fcntl

    def lock(handle: int) -> None:
        """Lock an open file; the system unlocks it when its owner closes it or dies.

        Raises
        ------
        BlockingIOError
            If another owner has it.
        OSError
            If files cannot be locked here.
        """
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
