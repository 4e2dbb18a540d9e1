"""How fast is the engine, against its peers and the network alone?

    python -m benchmarks.inference [--what 2d 3d stack gpu] [--rounds 3] [--small]
    python -m benchmarks.inference --growth

From a compressed TIFF file to another. One process, engines taking turns, order
reversed every other round; the figures are medians over rounds, ratios those of the
rounds. Every engine gets the same network with random weights. "plain" is the network
as peers run it, "prepared" ours: batch norm folded, channels last. Ours has the memory
settings of its own processes, see `napari_unet.execution.memory`. Labels are compared
with the whole-image forward. monai and nnunetv2 are left out where they are not
installed, and the part on a GPU where there is none. --growth is seconds and memory
against the size of the image.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from benchmarks.engines import Engines
from benchmarks.measuring import table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.measuring import Engine

CASES = {
    "2d": ((4096, 4096), (2048, 2048), (32, 64, 128, 256, 512), (512, 512)),
    "3d": ((64, 512, 512), (32, 256, 256), (16, 32, 64, 128), (32, 128, 128)),
    "stack": ((200, 512, 512), (12, 512, 512), (16, 32, 64, 128, 256), (256, 256)),
}
"""Image, smaller image, widths of the levels, patch of the peers."""
GROWTH = {
    "2d": [(n, n) for n in (1024, 2048, 4096, 8192)],
    "3d": [(n, 256, 256) for n in (32, 64, 128, 256)],
}
_GROWING = {"2d": (8, 16, 32, 64, 128), "3d": (8, 16, 32)}
_GROWTH_ENGINES = ("whole, prepared", "ours, float32", "25 %, plain")


def main() -> None:
    """Print a table for each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--what", nargs="+", choices=[*CASES, "gpu"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="smaller images")
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--only", nargs="+", help="engines whose names contain these")
    args = parser.parse_args()
    if args.growth:
        _grow(args.what or list(GROWTH), args.rounds)
        return
    for name in args.what or [*CASES, "gpu"]:
        if name == "gpu":
            _gpu(args.rounds)
            continue
        shape = CASES[name][1 if args.small else 0]
        with _engines(name, shape) as engines:
            table(_chosen(engines.all(), args.only), args.rounds)


@contextmanager
def _engines(
    name: str,
    shape: tuple[int, ...],
    widths: tuple[int, ...] | None = None,
    device: str = "cpu",
) -> Iterator[Engines]:
    """Prepare the engines of a case, and say which it is."""
    _, _, usual, patch = CASES[name]
    widths = widths or usual
    size = " x ".join(map(str, shape))
    print(f"\n{name}: {size}, widths {widths}, {device}", flush=True)
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        is_stack = name == "stack"
        yield Engines(Path(folder), shape, widths, patch, device, is_stack)


def _chosen(
    engines: dict[str, Engine], parts: Sequence[str] | None
) -> dict[str, Engine]:
    """Keep the engines whose names contain one of the parts."""
    return {
        name: engine
        for name, engine in engines.items()
        if not parts or any(part in name for part in parts)
    }


def _grow(names: list[str], rounds: int) -> None:
    """Print seconds and memory against the size of the image."""
    for name in names:
        for shape in GROWTH[name]:
            with _engines(name, shape, _GROWING[name]) as engines:
                table(_chosen(engines.all(), _GROWTH_ENGINES), rounds)


def _gpu(rounds: int) -> None:
    """Print the tables of a GPU, and how much of our time its network takes."""
    if not torch.cuda.is_available():
        print("\ngpu: no CUDA device, left out")
        return
    print(f"\ngpu: {torch.cuda.get_device_name()}")
    for name, (shape, *_) in CASES.items():
        with _engines(name, shape, device="cuda") as engines:
            every = engines.all()
            for engine in every.values():
                engine()  # CUDA chooses its algorithms
            seconds = table(every, rounds)
        share = seconds["whole, prepared, no files"] / seconds["ours, float32"]
        print(f"the forward alone takes {share:.2f} of ours, float32")


if __name__ == "__main__":
    main()
