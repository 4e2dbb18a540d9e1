"""Locks that work on network shares: files made with O_EXCL, and a heartbeat.

A lock is a file ``NAME.GENERATION`` that only one process can make. Its owner touches
it every few seconds. Who finds it untouched for `STALE` seconds by its own clock, or
its process gone from this computer, makes the next generation; the file of the dead is
never removed before that, so two can never both think they took it over. After making
its file a process looks again: if anyone else has made one meanwhile, it steps back.
No clock of another computer is compared, and no lock of the operating system is used.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import threading
import time
import uuid
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from napari_unet import disk
from napari_unet.batch.owners import Owner, is_gone, is_here, myself, parse
from napari_unet.disk_errors import telling_write_errors
from napari_unet.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

LOCKS = ".unet-locks"
STALE = 30.0
"""Seconds without a heartbeat after which an owner counts as dead."""
_BEAT = 5.0
_LOOK_AGAIN = 0.1
_GONE = (errno.ENOENT, errno.ESTALE)
"""What is not there; a share may notice that only when a file is used."""


@dataclass
class Lock:
    """A lock that is held; `release` gives it back.

    Attributes
    ----------
    path : pathlib.Path
        Its file.
    text : bytes
        What is in it.
    dead : mapping of pathlib.Path to bytes
        Files of dead owners and what was in them, removed with it.
    """

    path: Path
    text: bytes = b""
    dead: Mapping[Path, bytes] = field(default_factory=dict)

    def release(self) -> None:
        """Let others have it."""
        for path, text in (*self.dead.items(), (self.path, self.text)):
            _remove(path, text)


@dataclass
class Locks:
    """The locks of one folder, and the heart that beats for those held.

    Parameters
    ----------
    folder : pathlib.Path
        The folder whose work is shared out.
    stale : float
        Seconds without a heartbeat after which an owner counts as dead.

    Attributes
    ----------
    others : dict of str to Owner
        Who holds the locks that could not be had, by name.
    """

    folder: Path
    stale: float = STALE
    others: dict[str, Owner] = field(default_factory=dict)
    _held: dict[Path, Lock] = field(default_factory=dict)
    _given: set[bytes] = field(default_factory=set)
    _seen: dict[Path, tuple[int, float]] = field(default_factory=dict)
    _me: Owner = field(default_factory=myself)
    _was_there: bool = False

    def __post_init__(self) -> None:
        self.place = self.folder / LOCKS
        self._stop = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="locks", daemon=True)
        self._heart.start()

    def take(self, name: str) -> Lock | None:
        """Take a lock, or None while another process has it.

        Parameters
        ----------
        name : str
            What is locked; any text.

        Raises
        ------
        OutputError
            If the lock cannot be written.
        """
        stem = hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:24]
        return self._take(stem, name)

    def _take(self, stem: str, name: str) -> Lock | None:
        """Take the lock whose files are called `stem`."""
        with telling_write_errors(self.place):
            if self._was_there and not self.folder.is_dir():
                # a share is gone; below its folder lies another disk
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            disk.make_folder(self.place)
            self._was_there = True
            dead = {path: _content(path) for path in self._files(stem)}
            if not all(self._is_dead(path, text, name) for path, text in dead.items()):
                return None
            number = 1 + max(map(_generation, dead), default=0)
            mine = self.place / f"{stem}.{number}"
            if (text := self._make(mine)) is None:
                return None
            known = {path: text for path, text in dead.items() if text is not None}
            expected = {**known, mine: text}
            there = {*self._files(stem), mine}
            if any(_content(path) != expected.get(path, b"?") for path in there):
                _remove(mine, text)  # somebody came at the same moment
                return None
        self.others.pop(name, None)
        self._held[mine] = Lock(mine, text, known)
        return self._held[mine]

    def take_over(self, name: str) -> Lock | None:
        """Take a lock, waiting whether an owner elsewhere shows any life.

        That takes `stale` seconds if it shows none.

        Returns
        -------
        Lock or None
            None as soon as the owner is known to be alive.
        """
        first = None
        while (lock := self.take(name)) is None:
            owner = self.others.get(name)
            beats = {path: beat for path, (beat, _) in self._seen.items()}
            first = first or beats
            if (owner is not None and is_here(owner, self._me)) or beats != first:
                return None
            time.sleep(_LOOK_AGAIN)
        return lock

    def is_lost(self, lock: Lock) -> bool:
        """Whether another process took over, since this one stood still too long."""
        later = self._files(lock.path.name.partition(".")[0])
        number = _generation(lock.path)
        return any(_generation(path) > number for path in later)

    def is_over(self, path: Path) -> bool:
        """Whether the lock in a file is free, its owner being gone or silent."""
        text = _content(path)
        return text is None or self._is_dead(path, text, path.name)

    @contextlib.contextmanager
    def holding(self, name: str, wait: float = 0.01) -> Iterator[None]:
        """Wait for a lock that is never held for long, and hold it for a block."""
        while (lock := self.take(name)) is None:
            time.sleep(wait * (1 + os.urandom(1)[0] / 256))
        try:
            yield
        finally:
            self.release(lock)

    def release(self, lock: Lock) -> None:
        """Give a lock back."""
        self._held.pop(lock.path, None)
        lock.release()
        if _content(lock.path) == lock.text:  # it could not be removed
            self._given.add(lock.text)

    def close(self) -> None:
        """Give back what is still held, and tidy up."""
        self._stop.set()
        for held in list(self._held.values()):
            self.release(held)
        for stem in self._stems():  # of processes that are gone
            with contextlib.suppress(OutputError):
                if lock := self._take(stem, stem):
                    self.release(lock)
        with contextlib.suppress(OSError):  # others may still use it
            self.place.rmdir()

    def _stems(self) -> set[str]:
        """Names of all locks there are."""
        with contextlib.suppress(OSError):
            return {name.partition(".")[0] for name in os.listdir(self.place)}
        return set()

    def _files(self, stem: str) -> list[Path]:
        """Files of one lock; at most one of them is alive."""
        try:
            names = os.listdir(self.place)
        except OSError as error:
            if error.errno not in _GONE:
                raise
            return []
        return sorted(self.place / n for n in names if n.partition(".")[0] == stem)

    def _make(self, path: Path) -> bytes | None:
        """Make a lock file, and tell what is in it; None if another was faster."""
        owner = {**asdict(self._me), "token": uuid.uuid4().hex}
        text = json.dumps(owner).encode()
        try:
            file = disk.opened(path)
        except (FileExistsError, FileNotFoundError):
            return None
        try:
            with file:
                file.write(text)
        except BaseException:
            disk.remove(path)
            raise
        return text

    def _is_dead(self, path: Path, text: bytes | None, name: str) -> bool:
        """Whether the owner of a lock is gone or has not been heard of for long."""
        if path in self._held:
            return False
        if text in self._given:
            return True
        if (owner := parse(text)) is not None:
            self.others[name] = owner
            if is_gone(owner, self._me):
                return True
        try:  # it was opened just now, so a share tells its true time
            beat = path.stat().st_mtime_ns
        except OSError as error:
            if error.errno not in _GONE:
                raise
            self._seen.pop(path, None)
            return True  # given back this moment
        known, since = self._seen.get(path, (None, 0.0))
        if known != beat:
            self._seen[path] = beat, time.monotonic()
            return False
        return time.monotonic() - since > self.stale

    def _beat(self) -> None:
        """Touch the locks that are held."""
        while not self._stop.wait(min(_BEAT, self.stale / 4)):
            for path in list(self._held):
                with contextlib.suppress(OSError):
                    os.utime(path)


def _generation(path: Path) -> int:
    number = path.name.rpartition(".")[2]
    return int(number) if number.isdecimal() else 0


def _remove(path: Path, text: bytes) -> None:
    """Remove a lock file, unless it is that of another owner by now."""
    if _content(path) in (
        text,
        None,
    ):  # a share may not know its own files for a moment
        disk.remove(path)


def _content(path: Path) -> bytes | None:
    """Read a lock file; None where it is gone."""
    try:
        return path.read_bytes()
    except OSError as error:
        if error.errno not in _GONE:
            raise
        return None
