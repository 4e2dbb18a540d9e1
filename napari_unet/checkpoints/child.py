"""The process that opens foreign files: reads one, writes plain tensors, ends.

Started by `napari_unet.checkpoints.quarantine`. A crash or an attack on torch's reader
ends this process and nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import warnings
from pathlib import Path

TENSORS = "tensors.safetensors"
FOUND = "found.json"
ERROR = "error.json"
_GIB = 1 << 30


def main() -> None:
    """Read the file named first, write into the folder named second."""
    source, folder = Path(sys.argv[1]), Path(sys.argv[2])
    os.environ.pop("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", None)
    warnings.simplefilter("ignore")

    from napari_unet.errors import ModelError

    try:
        limit(source.stat().st_size)
        convert(source, folder, *sys.argv[3:])
    except ModelError as error:
        facts = [error.what, error.found, error.expected, error.hint]
        (folder / ERROR).write_text(json.dumps(facts))


def convert(source: Path, folder: Path, kind: str, choice: str = "") -> None:
    """Write the tensors of `source` and the plain values around them to `folder`."""
    from safetensors.torch import save_file

    from napari_unet.checkpoints import formats

    found = formats.read(source, kind, choice)
    save_file(found.tensors, folder / TENSORS)
    facts = {
        "order": list(found.tensors),
        "wrapper": found.wrapper,
        "extras": found.extras,
        "notes": found.notes,
        "choices": found.choices,
        "hints": found.hints,
    }
    (folder / FOUND).write_text(json.dumps(facts))


def limit(size: int) -> None:
    """Limit memory, time and file size to what reading `size` bytes can need."""
    with contextlib.suppress(ImportError):  # no such limits on Windows
        import resource

        wanted = {
            resource.RLIMIT_DATA: 4 * _GIB + 30 * size,
            resource.RLIMIT_CPU: 300 + size // 2_000_000,
            resource.RLIMIT_FSIZE: 50 * size + (1 << 26),
            resource.RLIMIT_CORE: 0,
        }
        for kind, value in wanted.items():
            _, hard = resource.getrlimit(kind)
            top = value if hard == resource.RLIM_INFINITY else min(value, hard)
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(kind, (top, top))


if __name__ == "__main__":
    main()
