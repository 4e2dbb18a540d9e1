"""Journal: what a run has finished so far, in a file, so that a killed run can go on.

The file is a list of records that are only ever appended: a head in JSON and a payload
of plain bytes, under a checksum that covers the records before it too. Reading ends at
the first record that is torn, damaged or not wanted, and writing goes on there. It is
data only; nothing in it is ever executed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import struct
import time
from typing import TYPE_CHECKING, Any, BinaryIO

from napari_unet.inference.resuming.locking import lock

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_MAGIC = b"UNETRUN1"
_SLOT = 1024
_LENGTHS = struct.Struct("<4sIQ")
_MARK = b"\nrec"
_CHECK = 16
_LONGEST_HEAD = 16 << 20
_PAUSE = 2.0
"""Seconds between two flushes to the disk, which a cut of the power makes precious."""
_SHARE = 50
"""Pauses are this many times as long as the flush before, so slow disks cost 2 %."""


class Journal:
    """The records of one run, owned by this process alone.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    create : bool
        Whether to make it where it is absent.

    Raises
    ------
    BlockingIOError
        If another run that is alive owns it.
    OSError
        If it cannot be opened, or is no regular file.
    """

    def __init__(self, path: Path, *, create: bool) -> None:
        self.path = path
        self._file = _owned(path, create)
        self._start = len(_MAGIC) + _SLOT
        self._end, self._check = self._start, _MAGIC
        self._is_last = False
        self._flushed, self._pause = time.monotonic(), _PAUSE

    @property
    def hidden(self) -> list[str]:
        """Names of the unfinished files of the run, which a later run removes."""
        self._file.seek(0)
        head = self._file.read(self._start)
        try:
            names = json.loads(head[len(_MAGIC) :])
        except ValueError:
            return []
        is_ours = head.startswith(_MAGIC) and isinstance(names, list)
        return [n for n in names if isinstance(n, str)] if is_ours else []

    @hidden.setter
    def hidden(self, names: Sequence[str]) -> None:
        self._file.seek(0)
        self._file.write(_MAGIC + json.dumps(list(names)).encode().ljust(_SLOT)[:_SLOT])
        self._file.flush()

    def clear(self) -> None:
        """Forget all records."""
        self._file.truncate(0)
        self._end, self._check = self._start, _MAGIC

    def records(self) -> Iterator[tuple[dict[str, Any], bytes]]:
        """Read on behind the last record that was read.

        A record counts as read when the next one is asked for; where the caller stops
        instead, it is written over by the next `append`.

        Yields
        ------
        head : dict
            As it was appended.
        payload : bytes
            As it was appended.
        """
        while (found := self._next()) is not None:
            end, check, head, payload = found
            yield head, payload
            self._end, self._check = end, check

    def append(
        self, head: Mapping[str, Any], payload: bytes | memoryview = b""
    ) -> None:
        """Add a record behind those that were read or written.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        text = json.dumps(head).encode()
        payload = memoryview(payload).cast("B")
        lengths = _LENGTHS.pack(_MARK, len(text), len(payload))
        check = _checksum(self._check, lengths, text, payload)
        self._file.seek(self._end)
        if not self._is_last:
            self._file.truncate()
            self._is_last = True
        for part in (lengths, check, text, payload):
            self._file.write(part)
        self._file.flush()
        self._end, self._check = self._file.tell(), check
        self._flush_now_and_then()

    def close(self) -> None:
        """Give it back; the file stays."""
        with contextlib.suppress(OSError):  # what a full disk did not take
            self._file.close()

    def remove(self) -> None:
        """Give it back and remove the file."""
        if os.name == "nt":  # where open files cannot be removed
            self.close()
        with contextlib.suppress(OSError):
            self.path.unlink()
        self.close()

    def _next(self) -> tuple[int, bytes, dict[str, Any], bytes] | None:
        """Read the record behind the last one, None where there is none."""
        size = os.fstat(self._file.fileno()).st_size
        self._file.seek(self._end)
        lengths = self._file.read(_LENGTHS.size)
        if len(lengths) < _LENGTHS.size:
            return None
        mark, head, payload = _LENGTHS.unpack(lengths)
        end = self._end + _LENGTHS.size + _CHECK + head + payload
        if mark != _MARK or head > _LONGEST_HEAD or end > size:
            return None
        check, text = self._file.read(_CHECK), self._file.read(head)
        data = self._file.read(payload)
        if _checksum(self._check, lengths, text, data) != check:
            return None
        try:
            facts = json.loads(text)
        except ValueError:
            return None
        return (end, check, facts, data) if isinstance(facts, dict) else None

    def _flush_now_and_then(self) -> None:
        """Flush to the disk, seldom enough not to be felt."""
        begin = time.monotonic()
        if begin - self._flushed < self._pause:
            return
        getattr(os, "fdatasync", os.fsync)(self._file.fileno())
        self._flushed = time.monotonic()
        self._pause = max(_PAUSE, _SHARE * (self._flushed - begin))


def _checksum(before: bytes, *parts: bytes | memoryview) -> bytes:
    total = hashlib.blake2b(before, digest_size=_CHECK)
    for part in parts:
        total.update(part)
    return total.digest()


def _owned(path: Path, create: bool) -> BinaryIO:
    """Open a file and lock it; one that was removed meanwhile is opened anew."""
    flags = os.O_RDWR | (os.O_CREAT if create else 0)
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    flags |= getattr(os, "O_NONBLOCK", 0)
    while True:
        file = os.fdopen(os.open(path, flags, 0o666), "r+b")
        try:
            state = os.fstat(file.fileno())
            if not stat.S_ISREG(state.st_mode):
                raise OSError(f"{path} is no regular file")
            lock(file.fileno())
            if os.name == "nt" or _is_there(path, state):
                return file
        except BaseException:
            file.close()
            raise
        file.close()
        if not create and not path.exists():
            raise FileNotFoundError(path)


def _is_there(path: Path, state: os.stat_result) -> bool:
    """Whether a path still leads to the file that was opened."""
    try:
        return os.path.samestat(os.stat(path), state)
    except FileNotFoundError:
        return False
