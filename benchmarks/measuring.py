"""Seconds and memory of engines that take turns in one process."""

from __future__ import annotations

import ctypes
import statistics
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet.execution import memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np

    Engine = Callable[[], np.ndarray]


def table(engines: dict[str, Engine], rounds: int) -> dict[str, float]:
    """Run all engines in turn, print what they took, and return the median seconds.

    The order is reversed every other round; ratios and label flips are those to the
    first engine, ratios the median of the rounds' ratios.
    """
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    rise: dict[str, float] = {}
    labels: dict[str, np.ndarray] = {}
    for n in range(rounds):
        for name in list(engines)[:: 1 if n % 2 else -1]:
            with Anonymous() as watch:
                start = time.perf_counter()
                labels[name] = engines[name]()
                seconds[name].append(time.perf_counter() - start)
            rise[name] = max(rise.get(name, 0.0), watch.rise)
    first, *_ = engines
    for name, times in seconds.items():
        ratios = [a / b for a, b in zip(times, seconds[first], strict=True)]
        flips = float((labels[name] != labels[first]).mean())
        print(
            f"{name:32} {statistics.median(times):8.2f} s"
            f" {statistics.median(ratios):6.2f} of {first}"
            f" {flips:9.2e} flips {rise[name] / 1e6:7.0f} MB",
            flush=True,
        )
    return {name: statistics.median(times) for name, times in seconds.items()}


@contextmanager
def kept_memory() -> Iterator[None]:
    """Run as our command line and our computing process do, and put things back.

    The peers' thresholds afterwards are the largest that glibc would come to by itself.
    """
    memory.keep()
    try:
        yield
    finally:
        memory.give_back()
        libc = ctypes.CDLL(None)
        for setting in ((-4, 65536), (-3, 32 << 20), (-1, 64 << 20)):
            libc.mallopt(*setting)


class Anonymous:
    """Watches how far the anonymous memory of this process rises."""

    def __enter__(self) -> Anonymous:
        self.start = self.peak = anonymous()
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()

    @property
    def rise(self) -> int:
        """Bytes above the start."""
        return self.peak - self.start

    def _watch(self) -> None:
        while not self.stop.wait(0.02):
            self.peak = max(self.peak, anonymous())


def anonymous(process: int | str = "self") -> int:
    """RssAnon of a process in bytes, 0 where the system does not tell."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(n.split()[1]) * 1024 for n in lines if n.startswith("RssAnon:"))
