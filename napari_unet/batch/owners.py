"""Who holds a lock: a process, and on which start of which computer it runs."""

from __future__ import annotations

import json
import os
import platform
import uuid
from dataclasses import dataclass
from pathlib import Path

import psutil

_OUTERMOST = "pid:[4026531836]"
"""Linux's first set of processes (PROC_PID_INIT_INO)."""


@dataclass(frozen=True)
class Owner:
    """Who holds a lock.

    Attributes
    ----------
    host : str
        Name of the computer, for messages; several may have the same.
    pid : int
        Its process.
    born : float
        When that process started, in seconds since its computer did, to tell it from
        a later one of the same number.
    computer, start, space : str
        Which computer, which start of it, and which set of processes there, since a
        container has its own. The name of a computer alone does not do: copied
        computers and containers share it, and a living owner elsewhere would be taken
        for a dead one here.
    """

    host: str
    pid: int
    born: float
    computer: str = ""
    start: str = ""
    space: str = ""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def myself() -> Owner:
    """Describe this process."""
    process = psutil.Process()
    host = platform.node()
    marks = _read("/etc/machine-id"), f"{uuid.getnode():x}"
    start, space = _read("/proc/sys/kernel/random/boot_id"), _space()
    return Owner(host, process.pid, _born(process), " ".join(marks), start, space)


def parse(text: bytes | None) -> Owner | None:
    """Tell who holds a lock; None while it is being written, or damaged."""
    try:
        fields = json.loads(text or b"")
        host, pid, born = str(fields["host"]), int(fields["pid"]), float(fields["born"])
        marks = (str(fields[name]) for name in ("computer", "start", "space"))
        return Owner(host, pid, born, *marks)
    except (ValueError, TypeError, KeyError):
        return None


def is_gone(owner: Owner, me: Owner) -> bool:
    """Whether the owner ran here, where it would be seen, and does so no more."""
    if (owner.host, owner.computer) != (me.host, me.computer):
        return False
    if owner.start != me.start:  # all of an earlier start is gone
        return owner.space == me.space == _OUTERMOST
    if owner.space != me.space:
        return False
    try:
        process = psutil.Process(owner.pid)
        alive = process.status() != psutil.STATUS_ZOMBIE
        return not alive or abs(_born(process) - owner.born) > 1.0
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False


def is_here(owner: Owner, me: Owner) -> bool:
    """Whether the owner runs where this process would see its end."""
    mine = me.host, me.computer, me.start, me.space
    return (owner.host, owner.computer, owner.start, owner.space) == mine


def _born(process: psutil.Process) -> float:
    """When a process started, in seconds since the computer did; no clock counts."""
    return float(process.create_time() - psutil.boot_time())


def _space() -> str:
    """Set of processes that this one sees; always the same outside containers."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:  # not Linux
        return ""


def _read(path: str) -> str:
    """Text of a small file of the system, empty where there is none."""
    try:
        return Path(path).read_text("ascii", "replace").strip()
    except OSError:
        return ""
