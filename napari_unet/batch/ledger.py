"""The ledger: one line of JSON for each step of an image's fate, never rewritten.

A result counts as done when its record says so and its bytes have the recorded hash;
that a file exists proves nothing. Lines are flushed to the disk after the result they
speak of. Each carries its own checksum, so a torn or damaged line is passed over.
Several processes may add to one ledger; each holds its lock while it does.
"""

from __future__ import annotations

import errno
import hashlib
import json
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ConfigDict, Field

from napari_unet import disk, files
from napari_unet.config import Config
from napari_unet.files import telling_write_errors

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

LEDGER = "unet-ledger.jsonl"
WRITTEN = ("output", "table", "probabilities")


class Record(Config):
    """What became of one image.

    Attributes
    ----------
    input : str
        Path of the image, relative to the output folder where that is possible, and
        its series where a file holds several.
    size, mtime_ns : int
        State of the image: bytes, and time of the last change in nanoseconds.
    input_sha256 : str
        SHA-256 of the image, where the settings ask for it.
    model : str
        SHA-256 of the checkpoint.
    settings : str
        SHA-256 of the settings that decide the result.
    version : str
        Version of this package.
    output : str
        Name of the result in the output folder.
    output_sha256 : str
        SHA-256 of the result; before it is done, of what stands in its place.
    next_sha256 : str
        SHA-256 of a result that is whole and about to take that place.
    table, table_sha256 : str
        Likewise of the table of measurements, empty where there is none.
    probabilities, probabilities_sha256 : str
        Likewise of the probabilities, empty where they are not written beside.
    next_beside : tuple of str
        SHA-256 of table and probabilities about to take their places.
    began : str
        When the work began, UTC.
    seconds : float
        How long it took.
    numerics : mapping of str to str
        What decides the last bits of a result: device, precision, threads, versions.
    outcome : {"started", "stopped", "done", "failed"}
        started is written before the work, so that a result left by a killed run is
        known as ours; stopped: the user ended it in good order.
    reason : str
        Why it failed, one sentence.
    passing : bool
        Whether the cause lay outside the image, such as a full disk; the next run
        then tries again by itself.
    deaths : int
        How often a process died over this image.
    elsewhere : bool
        Whether a worker of a cluster computes it, so that the image is not to blame
        where the batch itself dies.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    input: str
    size: int
    mtime_ns: int
    input_sha256: str = ""
    model: str
    settings: str
    version: str
    output: str
    output_sha256: str = ""
    next_sha256: str = ""
    table: str = ""
    table_sha256: str = ""
    probabilities: str = ""
    probabilities_sha256: str = ""
    next_beside: tuple[str, ...] = ()
    began: str = ""
    seconds: float = 0.0
    numerics: dict[str, str] = Field(default_factory=dict)
    outcome: Literal["started", "stopped", "done", "failed"]
    reason: str = ""
    passing: bool = False
    deaths: int = 0
    elsewhere: bool = False

    @property
    def files(self) -> dict[str, str]:
        """Names of what is written: output, and table and probabilities if wanted."""
        names = {name: getattr(self, name) for name in WRITTEN}
        return {name: file for name, file in names.items() if file}

    def sha256(self, name: str) -> str:
        """Return the SHA-256 of one of `WRITTEN`, empty where it has none."""
        found: str = getattr(self, f"{name}_sha256")
        return found


@dataclass
class Content:
    """What a ledger holds.

    Attributes
    ----------
    records : dict of str to Record
        The last one of each image, in the order they were written.
    damaged : list of int
        Numbers of the lines, from 1, that are not what was written.
    """

    records: dict[str, Record] = field(default_factory=dict)
    damaged: list[int] = field(default_factory=list)


class Ledger:
    """The records of one output folder.

    Parameters
    ----------
    folder : pathlib.Path
        The output folder.
    make : bool
        Whether it is made where it is absent.

    Raises
    ------
    OutputError
        If the folder or the file cannot be read or written.
    """

    def __init__(self, folder: Path, *, make: bool = True) -> None:
        self.path = folder / LEDGER
        self._read = 0
        self._latest: dict[str, Record] = {}
        with telling_write_errors(self.path):
            if make:
                disk.make_folder(folder)
            self.refresh()

    def __getitem__(self, image: str) -> Record | None:
        """Last record of an image, None where there is none."""
        return self._latest.get(image)

    def outputs(self) -> dict[str, str]:
        """Name of the result by image."""
        return {image: record.output for image, record in self._latest.items()}

    def records(self) -> list[Record]:
        """Last record of each image, in the order in which they first came."""
        return list(self._latest.values())

    def refresh(self) -> dict[str, str]:
        """Read what was added since the last time; return results by image.

        Raises
        ------
        OutputError
            If it cannot be read, or is gone since the last time.
        """
        with telling_write_errors(self.path):
            try:
                new = _bytes(self.path, self._read)
            except FileNotFoundError:
                if self._read:
                    raise
                return {}
        self._read += new.rfind(b"\n") + 1  # a last line may still be growing
        records = _content(new.split(b"\n")).records
        self._latest |= records
        return {image: record.output for image, record in records.items()}

    def append(self, record: Record) -> None:
        """Write a record and flush it to the disk.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        files.append(self.path, _line(record))
        self._latest[record.input] = record


def latest(path: Path) -> dict[str, Record]:
    """Read the last record of each image; empty where there is no ledger."""
    return read(path).records


def fingerprint_of(folder: Path, model: str) -> dict[str, str]:
    """Fingerprint of the newest result that a model gave; empty if there is none."""
    records = latest(folder / LEDGER).values()
    newest = newest_of(r for r in records if r.model == model)
    return {} if newest is None else newest.numerics


def newest_of(records: Iterable[Record]) -> Record | None:
    """Last record of a result; the order of lines counts, clocks may be wrong."""
    done = [record for record in records if record.outcome == "done"]
    return done[-1] if done else None


def read(path: Path) -> Content:
    """Read a ledger with its damage; empty where there is none."""
    try:
        return _content(_bytes(path).split(b"\n"))
    except FileNotFoundError:
        return Content()


def _bytes(path: Path, begin: int = 0) -> bytes:
    """Read a ledger from some byte on; a pipe in its place would block."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "no regular file")
    with path.open("rb") as file:
        file.seek(begin)
        return file.read()


def _content(lines: list[bytes]) -> Content:
    """Parse the lines that are whole."""
    found = Content()
    for number, line in enumerate(lines, 1):
        record = _parse(line)
        if record is not None:
            found.records.pop(record.input, None)
            found.records[record.input] = record
        elif line:
            found.damaged.append(number)
    return found


def _parse(line: bytes) -> Record | None:
    """Read one line; None if it is not as it was written or names a path outside."""
    try:
        fields = json.loads(line)
        check = fields.pop("check")
        record = Record(**fields)
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        return None  # a pydantic ValidationError is a ValueError
    safe = bool(record.output) and all(map(_is_plain_name, record.files.values()))
    same = check == _checksum(fields) and line == _text(fields)
    return record if safe and same else None


def _is_plain_name(name: str) -> bool:
    """Whether a name stays inside its folder on every system."""
    return name not in ("", ".", "..") and not any(c in name for c in "/\\:\0")


def _line(record: Record) -> bytes:
    """Write one record with its checksum; pure ASCII, whatever the file names."""
    return _text(record.model_dump(mode="json")) + b"\n"


def _text(fields: dict[str, Any]) -> bytes:
    """Write fields with their checksum, always in the same way."""
    return json.dumps({**fields, "check": _checksum(fields)}).encode()


def _checksum(fields: dict[str, Any]) -> str:
    """Short SHA-256 of a record."""
    text = json.dumps(fields, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
