"""The ledger: one line of JSON for each image done or failed, never rewritten.

A result counts as done when its record says so and its bytes have the recorded hash;
that a file exists proves nothing. Lines are flushed to the disk after the result they
speak of. Each carries its own checksum, so a torn or damaged line is passed over.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ConfigDict, ValidationError

from napari_unet.config import Config
from napari_unet.files import telling_write_errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LEDGER = "unet-ledger.jsonl"


class Record(Config):
    """What became of one image.

    Attributes
    ----------
    input : str
        Path of the image, relative to the output folder where that is possible.
    size, mtime_ns : int
        State of the image: bytes, and time of the last change in nanoseconds.
    model : str
        SHA-256 of the checkpoint.
    settings : str
        SHA-256 of the settings that decide the result.
    version : str
        Version of this package.
    output : str
        Name of the result in the output folder.
    output_sha256 : str
        SHA-256 of the result, empty unless done.
    seconds : float
        How long it took.
    outcome : {"started", "done", "failed"}
        started is written before the work, so that a result left by a killed run is
        known as ours.
    reason : str
        Why it failed, one sentence.
    passing : bool
        Whether the cause lay outside the image, such as a full disk; the next run
        then tries again by itself.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    input: str
    size: int
    mtime_ns: int
    model: str
    settings: str
    version: str
    output: str
    output_sha256: str = ""
    seconds: float = 0.0
    outcome: Literal["started", "done", "failed"]
    reason: str = ""
    passing: bool = False


class Ledger:
    """The records of one output folder.

    Parameters
    ----------
    folder : pathlib.Path
        The output folder; made if absent.

    Raises
    ------
    OutputError
        If the folder or the file cannot be read or written.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LEDGER
        with telling_write_errors(self.path):
            folder.mkdir(parents=True, exist_ok=True)
            self._latest = latest(self.path)

    def __getitem__(self, image: str) -> Record | None:
        """Last record of an image, None where there is none."""
        return self._latest.get(image)

    def outputs(self) -> dict[str, str]:
        """Name of the result by image."""
        return {image: record.output for image, record in self._latest.items()}

    def append(self, record: Record) -> None:
        """Write a record and flush it to the disk.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        with telling_write_errors(self.path):
            _append(self.path, _line(record))
        self._latest[record.input] = record


def latest(path: Path) -> dict[str, Record]:
    """Read the last record of each image; empty where there is no ledger."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return {}
    return {record.input: record for record in _records(lines)}


def _records(lines: list[bytes]) -> Iterator[Record]:
    """Parse the lines that are whole."""
    for line in lines:
        record = _parse(line)
        if record is not None:
            yield record


def _parse(line: bytes) -> Record | None:
    """Read one line; None if it is torn, damaged or names a path outside."""
    try:
        fields = json.loads(line)
        check = fields.pop("check")
        record = Record(**fields)
    except (ValueError, TypeError, AttributeError, KeyError, ValidationError):
        return None
    safe = _is_plain_name(record.output)
    return record if safe and check == _checksum(fields) else None


def _is_plain_name(name: str) -> bool:
    """Whether a name stays inside its folder on every system."""
    return name not in ("", ".", "..") and not any(c in name for c in "/\\:\0")


def _line(record: Record) -> bytes:
    """Write one record with its checksum; pure ASCII, whatever the file names."""
    fields = record.model_dump()
    return json.dumps({**fields, "check": _checksum(fields)}).encode() + b"\n"


def _checksum(fields: dict[str, Any]) -> str:
    """Short SHA-256 of a record."""
    text = json.dumps(fields, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _append(path: Path, line: bytes) -> None:
    """Add a line in one write; a torn line before it is closed first."""
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else b"\n" + line
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
