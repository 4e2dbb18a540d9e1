"""How fast is the engine, against its peers and the network alone?

    python -m benchmarks.inference [--what 2d 3d stack] [--device cuda] [--rounds 3]
        [--small] [--only NAME ...]
    python -m benchmarks.inference --growth

From a compressed TIFF file to another. One process, engines taking turns, order
reversed every other round; the figures are medians over rounds, ratios those of the
rounds. Every engine gets the same network with random weights. "plain" is the network
as peers run it, "prepared" ours: batch norm folded, channels last. Ours has the memory
settings of its own processes, see `napari_unet.execution.memory`. Labels are compared
with the whole-image forward. monai and nnunetv2 are left out where they are not
installed. --growth is seconds and memory against the size of the image.
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
    parser.add_argument("--what", nargs="+", choices=CASES, default=[*CASES])
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="smaller images")
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--only", nargs="+", help="engines whose names contain these")
    args = parser.parse_args()
    if args.growth:
        _grow([name for name in args.what if name in GROWTH], args.rounds)
        return
    for name in args.what:
        shape = CASES[name][1 if args.small else 0]
        with _engines(name, shape, device=args.device) as engines:
            chosen = _chosen(engines.all(), args.only)
            if args.device != "cpu":
                for engine in chosen.values():
                    engine()  # CUDA chooses its algorithms
            table(chosen, args.rounds)


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


if __name__ == "__main__":
    main()
