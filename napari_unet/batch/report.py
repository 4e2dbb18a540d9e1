"""The report of a batch: all its images as CSV and JSON, and all measurements."""

from __future__ import annotations

import csv
import io
from collections import Counter
from typing import TYPE_CHECKING, Any

from napari_unet import files

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from napari_unet.batch.ledger import Record

CSV, JSON, TABLE = "unet-report.csv", "unet-report.json", "unet-measurements.csv"
REPORTS = (CSV, JSON, TABLE)
_COLUMNS = (
    "input", "outcome", "reason", "output", "table", "probabilities", "seconds",
    "began", "deaths", "output_sha256", "model", "settings", "version",
)  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write(folder: Path, records: Sequence[Record]) -> None:
    """Write the report of a folder of results anew.

    Parameters
    ----------
    folder : pathlib.Path
        The folder.
    records : sequence of Record
        The last one of each image; written by name, whoever was first.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    records = sorted(records, key=lambda record: record.input)
    rows = [[_plain(getattr(r, name)) for name in _COLUMNS] for r in records]
    files.write(folder / CSV, table([_COLUMNS, *rows]))
    counts = Counter(record.outcome for record in records)
    images = [record.model_dump(mode="json") for record in records]
    files.write_json(folder / JSON, {"counts": counts, "images": images})
    _gather(folder, records)


def table(rows: Iterable[Sequence[Any]]) -> bytes:
    """Write rows as CSV that no spreadsheet takes for a program.

    A text that begins like a formula gets an apostrophe in front, numbers stay.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([_harmless(value) for value in row] for row in rows)
    return text.getvalue().encode(errors="backslashreplace")


def _gather(folder: Path, records: Sequence[Record]) -> None:
    """Put the measurements of all images one under the other, their names in front.

    Columns that only some tables have are empty elsewhere.
    """
    done = [r for r in records if r.outcome == "done" and r.table]
    if not done:
        return
    columns: dict[str, None] = {}
    for record in done:
        with (folder / record.table).open(newline="", encoding="utf-8") as file:
            columns |= dict.fromkeys(next(csv.reader(file), []))
    with files.commit(folder / TABLE) as part, files.writing(part) as target:
        target.write(table([("input", *columns)]))
        for record in done:
            with (folder / record.table).open(newline="", encoding="utf-8") as file:
                for row in csv.DictReader(file):
                    values = [row.get(name) or "" for name in columns]
                    target.write(table([(record.input, *values)]))


def _plain(value: Any) -> Any:
    return " ".join(value.split()) if isinstance(value, str) else value


def _harmless(value: Any) -> Any:
    """Keep a spreadsheet from running a text."""
    if not isinstance(value, str) or not value.startswith(_FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value
