"""What the work on one image gave, and the record of a success."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from napari_unet.batch.failures import ChangedError
from napari_unet.batch.inputs import examine
from napari_unet.errors import OutputError
from napari_unet.files import digest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from napari_unet.batch.inputs import Input


@dataclass(frozen=True)
class Made:
    """What is known of a result beside its bytes.

    Attributes
    ----------
    numerics : dict of str to str
        Fingerprint of the arithmetic; empty where it is not known.
    sums : tuple of str
        SHA-256 of what was written, where who wrote it hashed it.
    deaths : int
        Processes that died over it and were replaced without further ado.
    """

    numerics: dict[str, str] = field(default_factory=dict)
    sums: tuple[str, ...] = ()
    deaths: int = 0

    @classmethod
    def of(cls, result: Any) -> Made:
        """Take it from `Finished.result`, which may be a fingerprint alone."""
        if isinstance(result, Made):
            return result
        return cls(result) if isinstance(result, dict) else cls()

    def after(self, deaths: int) -> Made:
        """Return it with that many deaths."""
        return replace(self, deaths=deaths)


def success(image: Input, waiting: Mapping[str, Path], made: Made) -> dict[str, object]:
    """Fields of the record of a result that is whole.

    Parameters
    ----------
    image : Input
        As it was when the work began.
    waiting : mapping of str to pathlib.Path
        Where the result lies, and what was written beside it, as
        `napari_unet.batch.names.files_of` names it; read back from the disk.
    made : Made
        What is known of them.

    Raises
    ------
    OutputError
        If nothing was written.
    ChangedError
        If the image is not what it was.
    """
    if not waiting["output"].exists():
        raise OutputError("The result was not written")
    now = examine(image.path)
    if (now.size, now.mtime_ns, now.fault) != (image.size, image.mtime_ns, ""):
        raise ChangedError(
            f"{image.path.name} was changed while it was read",
            hint="Its result is thrown away; run the batch again.",
        )
    sums = made.sums or [digest(path) for path in waiting.values()]
    names = (f"{name}_sha256" for name in waiting)
    fields = dict(zip(names, sums, strict=True))
    return {"outcome": "done", **fields, "numerics": made.numerics}
