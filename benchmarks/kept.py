"""Kept probabilities in a mapped .npy file and in zarr: writing, space, a threshold.

Two classes of 4096 x 4096 are written rows by rows, as a streamed run gives them, and
one plane is shown at a threshold. Seconds are of the processor, the best of three.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from scipy import ndimage

if TYPE_CHECKING:
    from collections.abc import Callable

SIZE, ROWS = 4096, 64


def main() -> None:
    """Print the table."""
    values = _probabilities()
    folder = Path(tempfile.mkdtemp())
    try:
        print("store | write (s) | bytes | threshold of a plane (s)")
        for name, make in _stores(folder, values).items():
            wrote = _seconds(lambda make=make: _fill(make(), values))
            store = make()
            _fill(store, values)
            shown = _seconds(lambda store=store: np.asarray(store[1]) >= 0.5)
            size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
            print(f"{name} | {wrote:.2f} | {size / 1e6:.0f} MB | {shown:.4f}")
            del store
            for path in folder.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    finally:
        shutil.rmtree(folder)


def _stores(folder: Path, like: np.ndarray) -> dict[str, Callable[[], Any]]:
    """Make each store anew at a call."""
    facts: dict[str, Any] = {"shape": like.shape, "dtype": like.dtype}

    def npy() -> Any:
        return np.lib.format.open_memmap(folder / "a.npy", "w+", **facts)

    def chunked(*chunk: int) -> Callable[[], Any]:
        return lambda: zarr.create_array(
            folder / "a.zarr", chunks=chunk, overwrite=True, **facts
        )

    return {
        ".npy": npy,
        "zarr, chunks of the rows": chunked(1, ROWS, SIZE),
        "zarr, chunks of 512 x 512": chunked(1, 512, 512),
    }


def _fill(store: Any, values: np.ndarray) -> None:
    for row in range(0, SIZE, ROWS):
        store[:, row : row + ROWS] = values[:, row : row + ROWS]


def _seconds(work: Callable[[], object]) -> float:
    times = []
    for _ in range(3):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return min(times)


def _probabilities() -> np.ndarray:
    """Smooth areas with the noise of a network's last bits, (2, Y, X) float32."""
    rng = np.random.default_rng(0)
    areas = ndimage.zoom(rng.random((SIZE // 16,) * 2, np.float32), 16, order=1)
    logits = 8 * (areas - 0.5) + rng.normal(0, 0.05, areas.shape)
    one = (1 / (1 + np.exp(-logits))).astype(np.float32)
    return np.stack([1 - one, one])


if __name__ == "__main__":
    main()
