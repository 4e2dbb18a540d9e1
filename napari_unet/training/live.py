"""The networks of trainings that run in this process, to be looked at meanwhile."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from napari_unet.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from napari_unet.networks.network import Network

_running: dict[Path, Callable[[], Network]] = {}


@contextmanager
def shown(output: Path, make: Callable[[], Network]) -> Iterator[None]:
    """Let others look at the network of a training as long as it runs.

    Parameters
    ----------
    output : pathlib.Path
        The checkpoint that is to be made, by which the training is known.
    make : callable
        Makes a copy of the network as it is.
    """
    _running[output.resolve()] = make
    try:
        yield
    finally:
        del _running[output.resolve()]


def network_of(output: Path) -> Network:
    """Copy the network of a training as it is now.

    Raises
    ------
    UsageError
        If no such training runs in this process.
    """
    make = _running.get(output.resolve())
    if make is None:
        raise UsageError(f"No training of {output.name} runs")
    return make()
