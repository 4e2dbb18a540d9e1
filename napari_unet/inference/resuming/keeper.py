"""A run that was ended goes on where it stopped, with the bytes of one that was not.

Beside a result that is being written lies a hidden journal with all that is finished.
The next run with the same image, model, settings and device takes it from there into a
new file, and computes the rest. Formats such as TIFF need not be resumable for that.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
from typing import TYPE_CHECKING, Any, Self

from napari_unet.errors import DeviceError, OutputError, UsageError
from napari_unet.events import Stopped
from napari_unet.images.sinks import FileSink
from napari_unet.inference.resuming.blocks import pack, unpack
from napari_unet.inference.resuming.decisions import WORDS, Decisions, identity
from napari_unet.inference.resuming.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_unet.config import PredictConfig
    from napari_unet.images.intensity import Scaling
    from napari_unet.images.sinks import Sink
    from napari_unet.images.stack import ImageStack
    from napari_unet.inference.finish import Reduced
    from napari_unet.inference.layout import Region
    from napari_unet.inference.probabilities import Probabilities
    from napari_unet.inference.resuming.reached import Box, Reached
    from napari_unet.networks.network import Network

_ROOM = 256 << 20
"""Free bytes on the disk below which the result needs them more."""
_PART = re.compile(r"\.[0-9a-f]{8,32}\.part(\.\w+)*")
_LOST = "if it is ended, the next one begins anew"
_PASSING = (Stopped, OutputError, DeviceError, UsageError, MemoryError)
"""Ends of a run after which the next one may come further."""


class Keeper:
    """Keeps what a run has finished until its result is complete.

    It is a context: left without an error or for one that would come again, it forgets
    all; otherwise the journal stays.

    Parameters
    ----------
    sink : FileSink, optional
        Writes the result. Nothing is kept without.
    facts : dict, optional
        What the run is about. Nothing is kept without.
    beside : Probabilities, optional
        What is written beside the result.

    Attributes
    ----------
    past : Decisions or None
        Those of an earlier run that goes on, None where a new one begins.
    """

    def __init__(
        self,
        sink: FileSink | None,
        facts: dict[str, Any] | None,
        beside: Probabilities | None = None,
    ) -> None:
        self.past: Decisions | None = None
        self._facts = facts
        self._sink, self._beside = sink, beside
        self._path = journal_of(sink.path) if sink and facts else None
        self._notes: list[str] = []
        self._records: Iterator[tuple[dict[str, Any], bytes]] = iter(())
        self._reached: Reached | None = None
        self._is_behind = False
        self._is_kept = False
        self._journal = self._opened(create=False)
        if self._journal is not None:
            self._recall(self._journal)

    def take_notes(self) -> list[str]:
        """Return what the user should be told since the last call."""
        notes, self._notes = self._notes, []
        return notes

    def begin_anew(self, why: str) -> None:
        """Do not go on with an earlier run, and say so if it had finished anything."""
        self.past = None
        if next(self._records, None) is not None:
            self._notes.append(f"An earlier run is begun anew, since {why}.")

    def begin(self, decisions: Decisions, reached: Reached) -> None:
        """Get ready to keep parts, once the sink is open.

        Parameters
        ----------
        decisions : Decisions
            Made before the first pixel; `past` where that is set.
        reached : Reached
            The place before the first part; moves on with each.
        """
        self._reached = reached
        if self._journal is None:
            self._journal = self._opened(create=True)
        if self._journal is None or self._sink is None:
            return
        try:
            if self.past is None:
                self._journal.clear()
                head = {"about": self._facts, **decisions.to_json()}
                self._journal.append(head)
            beside = self._beside.hidden if self._beside else ()
            hidden = (*self._sink.hidden, *beside)
            self._journal.hidden = [path.name for path in hidden]
        except OSError as error:
            self._give_up(error)

    def replay(self) -> Iterator[tuple[int, Box, Reduced, bool]]:
        """Give the parts an earlier run finished, up to the first that is damaged.

        Yields
        ------
        frame : int
            Number of the frame.
        write : tuple of tuple of int
            Where the part lies in it.
        reduced : Reduced
            What `Job.reduce` gave for it.
        ends : bool
            Whether it is the frame's last.
        """
        if self.past is None or self._journal is None or self._reached is None:
            return
        for head, payload in self._records:
            frame = self._reached.frame
            write = _ranges(head.get("write"))
            reduced = unpack(head, payload, [b - a for a, b in write])
            if reduced is None or (reduced.beside is None) != (self._beside is None):
                return
            if not self._reached.take(write):
                return
            yield frame, write, reduced, self._reached.frame > frame

    def add(self, write: Box, reduced: Reduced) -> None:
        """Keep a part that was just finished.

        From a part on that is not the next one of the plan, since the memory was too
        short for that, nothing more is kept: the next run goes on from there.
        """
        if self._journal is None or self._reached is None or self._is_behind:
            return
        if not self._reached.take(write):
            self._is_behind = True
            return
        try:
            facts, data = pack(reduced)
            self._check_room(len(data))
            self._journal.append({"write": write, **facts}, data)
        except OSError as error:
            self._give_up(error)

    def advice(self, text: str) -> str:
        """Add to the note of a run that was stopped how it goes on."""
        return f"{text}; run it again to go on from there" if self._is_kept else text

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if self._journal is None:
            return
        passing = isinstance(error, _PASSING) or not isinstance(error, Exception)
        begun = self._reached is not None
        some = self.past is not None or (self._reached and self._reached.pixels > 0)
        self._is_kept = error is not None and (not begun or (passing and bool(some)))
        if self._is_kept:
            self._journal.close()
        else:
            self._journal.remove()

    def _opened(self, *, create: bool) -> Journal | None:
        """Open the journal of an earlier run, or make one."""
        if self._path is None:
            return None
        try:
            return Journal(self._path, create=create)
        except BlockingIOError:
            self._path = None
            self._notes.append(f"Another run writes the same result; {_LOST}.")
        except OSError as error:
            if create:
                self._tell_lost(error)
        return None

    def _recall(self, journal: Journal) -> None:
        """See whether an earlier run can go on; remove what it left half-written."""
        for name in filter(_PART.fullmatch, journal.hidden):
            _remove(journal.path.with_name(name))
        self._records = journal.records()
        head, _ = next(self._records, ({}, b""))
        self.past = Decisions.from_json(head)
        about = head.get("about")
        if self.past is not None and about == self._facts:
            return
        self.begin_anew(difference(about, self._facts))

    def _check_room(self, size: int) -> None:
        """Leave the last of a disk to the result."""
        assert self._journal is not None
        if shutil.disk_usage(self._journal.path.parent).free < _ROOM + size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _give_up(self, error: OSError) -> None:
        """Go on without a journal."""
        assert self._journal is not None
        self._journal.remove()
        self._journal = None
        self._tell_lost(error)

    def _tell_lost(self, error: OSError) -> None:
        self._notes.append(f"The run is not kept, {_reason(error)}; {_LOST}.")


def keeper(
    sink: Sink,
    stack: ImageStack,
    network: Network,
    config: PredictConfig,
    region: Region | None = None,
    scaling: Scaling | None = None,
    view: Region | None = None,
    beside: Probabilities | None = None,
) -> Keeper:
    """Make the keeper of a run, which does nothing unless the sink writes a file.

    Nothing is kept of a part of an image either: it is asked for again and again with
    the moving view, and the next one is another.

    Parameters
    ----------
    sink, stack, network, config, region, scaling, view, beside
        As in `napari_unet.inference.predict.predict`.

    Raises
    ------
    DeviceError
        If the device is absent.
    """
    if region or not isinstance(sink, FileSink):
        return Keeper(None, None)
    facts = identity(stack, network, config, scaling)
    if facts is not None:
        facts["settings"] += [str(view), beside is not None]
    return Keeper(sink, facts, beside)


def journal_of(path: Path) -> Path:
    """Name the journal of a result: hidden, and short however long that name is."""
    name = hashlib.sha256(path.name.encode(errors="surrogateescape")).hexdigest()[:16]
    return path.with_name(f".unet-{name}.journal")


def difference(old: Any, new: dict[str, Any] | None) -> str:
    """Say what two runs differ in."""
    if not isinstance(old, dict) or new is None:
        return "its journal is damaged"
    changed = (WORDS[key] for key in WORDS if old.get(key) != new[key])
    return next(changed, "its journal is damaged")


def _ranges(value: Any) -> Box:
    """Read where a part lies; nothing where that makes no sense."""
    try:
        ranges = tuple((int(a), int(b)) for a, b in value)
    except (TypeError, ValueError):
        return ((0, 0),)
    return ranges or ((0, 0),)


def _reason(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is nearly full"
    return error.strerror or str(error)


def _remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()
