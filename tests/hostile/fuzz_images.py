"""Open and read mutated images: each ends in pixels or in one kind of error.

``python -m hostile.fuzz_images FOLDER COUNT [SEED]`` mutates good files of each kind at
random and reads all of each in a forked process, in at most 10 s and 1 GiB above what
the process took before. Prints how they ended, as JSON. Needs a system with fork.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import sys
import traceback
from collections import Counter
from pathlib import Path

import numpy as np
import tifffile

from hostile.fuzz import mutate
from napari_unet.batch.isolated import own_memory
from napari_unet.errors import UNetError
from napari_unet.images.blocks import blocks
from napari_unet.images.readers import open_image, series_of

READ, REFUSED, ESCAPED, OTHER_SHAPE, DIED = (
    "read", "refused", "another error", "another shape", "died",
)  # fmt: skip
_SECONDS = 10
_ABOVE = 1 << 30
_AXES = {"seed0": "YX", "seed7": "ZYX"}


def seeds(folder: Path) -> list[Path]:
    """Write one good file of each kind."""
    pixels = np.random.default_rng(0).integers(0, 4000, (6, 60, 70), np.uint16)
    paths = [folder / f"seed{n}" for n in range(8)]
    write = tifffile.imwrite
    write(paths[0], pixels[0])
    write(paths[1], pixels, compression="zlib", tile=(32, 32), metadata={"axes": "ZYX"})
    write(paths[2], pixels, ome=True, metadata={"axes": "ZYX", "PhysicalSizeX": 0.5})
    write(paths[3], pixels, imagej=True, metadata={"axes": "ZYX", "spacing": 2.0})
    write(paths[4], pixels, bigtiff=True, compression="zlib", metadata={"axes": "TYX"})
    with tifffile.TiffWriter(paths[5], ome=True) as tif:
        for plane in pixels[:2]:
            tif.write(plane, compression="lzw", metadata={"axes": "YX"})
    write(paths[6], pixels, rowsperstrip=7, predictor=2, compression="zlib",
          metadata={"axes": "ZYX"})  # fmt: skip
    with paths[7].open("wb") as file:
        np.save(file, pixels)
    return paths


def shape_of(path: Path, axes: str | None) -> tuple[int, ...]:
    """Read all of an image and give its shape."""
    names = series_of(path)
    series = names[0] if len(names) > 1 else None
    with open_image(path, axes=axes, series=series) as stack:
        for region in blocks(stack):
            stack.read(region, stack.axes)
        return stack.shape


def ending(path: Path, axes: str | None, shape: tuple[int, ...]) -> str:
    """Read a file in a forked process and say how that ended."""
    pid = os.fork()
    if pid == 0:
        os._exit(_read(path, axes, shape))
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return f"{DIED} of signal {os.WTERMSIG(status)}"
    return (READ, REFUSED, ESCAPED, OTHER_SHAPE)[os.WEXITSTATUS(status)]


def _read(path: Path, axes: str | None, shape: tuple[int, ...]) -> int:
    signal.alarm(_SECONDS)
    most = own_memory(os.getpid()) + _ABOVE
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    sys.stderr.flush()
    try:
        found = shape_of(path, axes)
    except UNetError:
        return 1
    except BaseException:
        traceback.print_exc()
        return 2
    return 0 if found == shape else 3


def main() -> None:
    folder, count = Path(sys.argv[1]), int(sys.argv[2])
    draw = random.Random(int(sys.argv[3]) if len(sys.argv) > 3 else 0)
    good = []
    for path in seeds(folder):
        axes = _AXES.get(path.name)
        good.append((path.read_bytes(), axes, shape_of(path, axes)))
    endings: Counter[str] = Counter()
    for n in range(count):
        path = folder / f"mutant{n}"
        data, axes, shape = good[n % len(good)]
        path.write_bytes(mutate(data, draw))
        end = ending(path, axes, shape)
        endings[end] += 1
        if end in (READ, REFUSED):
            path.unlink()
        else:
            print(f"{path}: {end}", file=sys.stderr)
    print(json.dumps(endings))


if __name__ == "__main__":
    main()
