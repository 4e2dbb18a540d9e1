"""Batches for devices beside the processor: copied ahead, shared out, kept in order.

While a device computes one batch, the next one is on its way to it and the one before
is finished and written here. Several devices have only been tested with processors in
their place, one has been an NVIDIA H100; see docs/benchmarks.md.
"""

from __future__ import annotations

import itertools
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_unet.networks import device as devices

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    from napari_unet.inference.backoff import Runner
    from napari_unet.inference.pipeline import Piece

    Batch = list[Piece]
    Arrived = Callable[[], torch.Tensor]


class Upload:
    """Copies batches to a CUDA device while it computes.

    The pixels go through pinned memory and a stream of their own.

    Parameters
    ----------
    device : torch.device
        A CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def __call__(self, batch: Batch) -> Arrived | None:
        """Begin to copy the pixels of a batch.

        Returns
        -------
        callable or None
            Gives the pixels (N, C, *spatial) on the device to the thread that computes.
            None where the device has no room: the runner then steps back.
        """
        pixels = torch.from_numpy(np.stack([piece.pixels for piece in batch]))
        try:
            with torch.cuda.stream(self._stream):
                moved = pixels.pin_memory().to(self._device, non_blocking=True)
            done = self._stream.record_event()
        except RuntimeError as error:
            if devices.is_out_of_memory(error):
                return None
            raise

        def arrived() -> torch.Tensor:
            computing = torch.cuda.current_stream(self._device)
            computing.wait_event(done)
            moved.record_stream(computing)
            return moved

        return arrived


def spread(
    batches: Iterable[Batch], runners: Sequence[Runner], device: torch.device
) -> Generator[tuple[Piece, torch.Tensor]]:
    """Run batches, on a GPU beside this thread; the results come in order.

    Parameters
    ----------
    batches : iterable
        Tiles of one shape each, see `napari_unet.inference.pipeline.batches`.
    runners : sequence of Runner
        One for each device, all of one kind. An error of one is raised here.
    device : torch.device
        The first one.

    Yields
    ------
    tuple
        Each tile with its logits (C, *spatial).
    """
    if device.type != "cuda":
        for batch in batches:
            yield from zip(batch, runners[0](batch), strict=True)
        return
    yield from in_turn(batches, runners, [Upload(r.device) for r in runners])


def in_turn(
    batches: Iterable[Batch],
    runners: Sequence[Runner],
    uploads: Sequence[Callable[[Batch], Arrived | None]],
) -> Generator[tuple[Piece, torch.Tensor]]:
    """Give each device every so-manieth batch, with one more waiting than it computes.

    Each device has one thread that computes, so its batches follow one another.

    Parameters
    ----------
    batches, runners
        As in `spread`.
    uploads : sequence of callable
        Begin to copy a batch to each device, see `Upload`.
    """
    waiting: deque[tuple[Batch, Future[list[torch.Tensor]]]] = deque()
    with ExitStack() as stack:
        threads = [ThreadPoolExecutor(1, f"device-{n}") for n in range(len(runners))]
        for thread in threads:
            stack.callback(thread.shutdown, cancel_futures=True)
        turns = itertools.cycle(zip(threads, runners, uploads, strict=True))
        for batch, (thread, runner, upload) in zip(batches, turns, strict=False):
            waiting.append((batch, thread.submit(runner, batch, upload(batch))))
            if len(waiting) > len(runners):
                yield from _finished(*waiting.popleft())
        while waiting:
            yield from _finished(*waiting.popleft())


def _finished(
    batch: Batch, computing: Future[list[torch.Tensor]]
) -> Iterator[tuple[Piece, torch.Tensor]]:
    """Wait for a batch."""
    yield from zip(batch, computing.result(), strict=True)
