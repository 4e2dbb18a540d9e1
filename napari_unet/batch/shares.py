"""Which workers are at which image, and how many an image may have."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from napari_unet.config import BatchConfig


@dataclass(frozen=True, eq=False)
class Order:
    """One image that is to be done.

    Attributes
    ----------
    source, target : pathlib.Path
        The image and the result.
    digest : str
        SHA-256 of the model.
    config : BatchConfig
        How to read and predict.
    """

    source: Path
    target: Path
    digest: str
    config: BatchConfig


@dataclass
class Shares:
    """Hands out workers: one to each image, and those left to who can use more.

    Parameters
    ----------
    workers : mapping
        Those that take part, by their addresses; may change at any time.
    """

    workers: Mapping[str, str]
    _busy: dict[str, Order] = field(default_factory=dict)
    _wanting: list[Order] = field(default_factory=list)

    @property
    def free(self) -> str | None:
        """Address of a worker that has nothing to do."""
        return next((a for a in self.workers if a not in self._busy), None)

    def lanes(self, order: Order) -> int:
        """How many units of an image may be under way: what others leave, or one."""
        free = sum(address not in self._busy for address in self.workers)
        mine = sum(other is order for other in self._busy.values())
        wanted = sum(other is not order for other in self._wanting)
        return max(1, mine + free - wanted)

    @contextlib.contextmanager
    def wanting(self, order: Order) -> Iterator[None]:
        """Note that an image waits for a worker."""
        self._wanting.append(order)
        try:
            yield
        finally:
            self._wanting.remove(order)

    @contextlib.contextmanager
    def busy(self, address: str, order: Order) -> Iterator[None]:
        """Note that a worker is at an image."""
        self._busy[address] = order
        try:
            yield
        finally:
            del self._busy[address]


@dataclass(frozen=True)
class Share:
    """The lanes of one image, see `napari_unet.batch.lanes.Lanes`."""

    shares: Shares
    order: Order

    @property
    def lanes(self) -> int:
        """How many of its units may be under way at once."""
        return self.shares.lanes(self.order)
