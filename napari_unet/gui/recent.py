"""The models opened last, remembered from one session to the next."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from napari_unet import files
from napari_unet.errors import UNetError

_MOST = 8


class Recent:
    """Paths of checkpoints, the newest first.

    What cannot be read or written is no error: the list is a convenience.

    Parameters
    ----------
    path : pathlib.Path
        The file that remembers them.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def paths(self) -> list[str]:
        """List the checkpoints that are still there."""
        try:
            known = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return []
        texts = known if isinstance(known, list) else []
        return [p for p in texts if isinstance(p, str) and Path(p).exists()][:_MOST]

    def add(self, path: str) -> None:
        """Put a checkpoint on top."""
        others = [known for known in self.paths() if known != path]
        with contextlib.suppress(OSError, UNetError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            files.write_json(self._path, [path, *others][:_MOST])
