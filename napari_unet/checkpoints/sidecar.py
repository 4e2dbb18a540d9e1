"""``<name>.unet.json`` beside a foreign file: what a person told us about it.

It overrides what the file does not say, so that a question is answered once.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet import disk, files
from napari_unet.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

FIELDS = (
    *("activation", "architecture", "class_names", "name", "normalization"),
    *("spacing", "task", "weights"),
)
_MOST_BYTES = 1 << 20


def beside(path: Path) -> Path:
    """Return the sidecar's name for a checkpoint: ``net.pth`` has ``net.unet.json``."""
    return path.with_name(f"{path.stem}.unet.json")


def read(path: Path) -> dict[str, Any]:
    """Return the overrides for a checkpoint, empty if there is no sidecar.

    Raises
    ------
    ModelError
        If the sidecar is no JSON object or names an unknown field.
    """
    side = beside(path)
    if not side.is_file():
        return {}
    if side.stat().st_size > _MOST_BYTES:
        raise _wrong(side, "over one megabyte")
    try:
        fields = json.loads(side.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise _wrong(side, f"no JSON ({error})") from error
    if not isinstance(fields, dict):
        raise _wrong(side, f"a {type(fields).__name__}")
    unknown = [name for name in fields if name not in FIELDS]
    if unknown:
        raise _wrong(side, f"the field {unknown[0]}")
    return fields


def write(path: Path | str, **fields: Any) -> Path:
    """Remember facts about a checkpoint; those already there are kept or replaced.

    Parameters
    ----------
    path : path-like
        The checkpoint.
    **fields
        Some of `FIELDS`; `architecture` holds single settings of the network.

    Returns
    -------
    pathlib.Path
        The sidecar.

    Raises
    ------
    ModelError
        If a field is unknown.
    OutputError
        If it cannot be written.
    """
    path = Path(path)
    side = beside(path)
    unknown = [name for name in fields if name not in FIELDS]
    if unknown:
        raise _wrong(side, f"the field {unknown[0]}")
    files.write(side, json.dumps({**read(path), **fields}, indent=2).encode() + b"\n")
    return side


@contextmanager
def trying(path: Path | str, **fields: Any) -> Iterator[None]:
    """Write facts about a checkpoint; if the block fails, take them back."""
    side = beside(Path(path))
    before = side.read_bytes() if side.is_file() else None
    write(path, **fields)
    try:
        yield
    except BaseException:
        disk.remove(side) if before is None else files.write(side, before)
        raise


def _wrong(side: Path, found: str) -> ModelError:
    return ModelError(
        f"{side.name} cannot be used",
        found=found,
        expected=f"a JSON object with some of {', '.join(FIELDS)}",
        hint="Correct or remove it.",
    )
