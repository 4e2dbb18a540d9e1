"""Open mutated checkpoints: each ends in a network or in one kind of error.

``python -m hostile.fuzz FOLDER COUNT [SEED]`` mutates good files of every format at
random, opens each in a forked process with the reading process' own limits, and prints
how they ended. Needs a system with fork.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file
from zoo import keras_files
from zoo.stored_cases import cases

from napari_unet import checkpoints
from napari_unet.checkpoints import cache, child, formats, weights
from napari_unet.errors import ModelError
from napari_unet.networks.unet import UNet, UNetSpec

if TYPE_CHECKING:
    from collections.abc import Callable

OPENED, REFUSED, ESCAPED, DIED = "opened", "refused", "another error", "died"
_SECONDS = 30


def seeds(folder: Path) -> list[Path]:
    """Write one good file of each format."""
    spec = UNetSpec(widths=(4, 8))
    net = UNet(spec)
    state = net.state_dict()
    lightning = {"state_dict": {f"net.{k}": v for k, v in state.items()}, "epoch": 3}
    paths = [folder / f"seed{n}" for n in range(8)]
    torch.save(state, paths[0])
    torch.save(lightning, paths[1])
    torch.save(state, paths[2], _use_new_zipfile_serialization=False)
    torch.save(net, paths[3])
    save_file(state, paths[4])
    torch.save(
        {"model": state, "model_ema": state, "cfg": {"a": [1.5, None]}}, paths[5]
    )
    image = torch.zeros(1, 1, 8, 8)
    with warnings.catch_warnings(action="ignore"):
        torch.jit.trace(net.eval(), image).save(paths[6])
        torch.export.save(torch.export.export(net.eval(), (image,)), paths[7])
    return [*paths, *keras_seeds(folder)]


def keras_seeds(folder: Path) -> list[Path]:
    """Write one good file of each format of Keras."""
    wanted = {"keras3": "sequential", "keras2": "nested-frozen-h5"}
    return [
        keras_files.put_together(case.facts["file"], folder / f"seed-{library}")
        for library, name in wanted.items()
        for case in cases(library)
        if case.name == name
    ]


def mutate(data: bytes, draw: random.Random) -> bytes:
    """Change a file in one to four places."""
    changes: list[Callable[[bytearray, random.Random], None]] = [
        _flip, _flip, _overwrite, _cut, _remove, _double, _number, _swap,
    ]  # fmt: skip
    changed = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        if changed:
            draw.choice(changes)(changed, draw)
    return bytes(changed)


def _place(data: bytearray, draw: random.Random) -> int:
    """Choose a position, more often near either end, where formats keep their words."""
    near = min(len(data), 2048)
    return draw.choice(
        [
            draw.randrange(len(data)),
            draw.randrange(near),
            len(data) - 1 - draw.randrange(near),
        ]
    )


def _flip(data: bytearray, draw: random.Random) -> None:
    data[_place(data, draw)] ^= 1 << draw.randrange(8)


def _overwrite(data: bytearray, draw: random.Random) -> None:
    at = _place(data, draw)
    size = len(data[at : at + draw.randint(1, 64)])
    data[at : at + size] = draw.randbytes(size)


def _cut(data: bytearray, draw: random.Random) -> None:
    del data[_place(data, draw) :]


def _remove(data: bytearray, draw: random.Random) -> None:
    at = _place(data, draw)
    del data[at : at + draw.randint(1, 64)]


def _double(data: bytearray, draw: random.Random) -> None:
    at = _place(data, draw)
    data[at:at] = data[at : at + draw.randint(1, 512)]


def _number(data: bytearray, draw: random.Random) -> None:
    at, value = _place(data, draw), draw.choice([0, 0xFF, 0x7F, 0x80])
    size = len(data[at : at + draw.choice([1, 2, 4, 8])])
    data[at : at + size] = bytes([value]) * size


def _swap(data: bytearray, draw: random.Random) -> None:
    """Exchange two bytes, such as two opcodes of a pickle."""
    a, b = _place(data, draw), _place(data, draw)
    data[a], data[b] = data[b], data[a]


def ending(path: Path) -> str:
    """Open a file in a forked process and say how that ended."""
    pid = os.fork()
    if pid == 0:
        os._exit(_open(path))
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return f"{DIED} of signal {os.WTERMSIG(status)}"
    return (OPENED, REFUSED, ESCAPED)[os.WEXITSTATUS(status)]


def _open(path: Path) -> int:
    signal.alarm(_SECONDS)
    child.limit(path.stat().st_size)
    sys.stderr.flush()
    try:
        checkpoints.load(path)
    except ModelError:
        return 1
    except BaseException:
        traceback.print_exc()
        return 2
    return 0


def main() -> None:
    folder, count = Path(sys.argv[1]), int(sys.argv[2])
    draw = random.Random(int(sys.argv[3]) if len(sys.argv) > 3 else 0)
    torch.set_num_threads(1)
    weights.read_foreign = formats.read
    cache.folder = lambda: folder / "no" / "cache"
    cache._store = lambda *_: None
    good = [path.read_bytes() for path in seeds(folder)]
    endings: Counter[str] = Counter()
    for n in range(count):
        path = folder / f"mutant{n}"
        path.write_bytes(mutate(good[n % len(good)], draw))
        end = ending(path)
        endings[end] += 1
        if end in (OPENED, REFUSED):
            path.unlink()
        else:
            print(f"{path}: {end}", file=sys.stderr)
    print(json.dumps(endings))


if __name__ == "__main__":
    main()
