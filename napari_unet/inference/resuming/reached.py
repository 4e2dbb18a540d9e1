"""How far a run has come, in the order in which its parts are finished."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_unet.inference.layout import Layout
    from napari_unet.inference.plan import Plan
    from napari_unet.inference.tiling import Range

    Box = tuple[Range, ...]


@dataclass
class Reached:
    """A place in a run: what lies before it is finished, what lies behind is not.

    Attributes
    ----------
    boxes : sequence of tuple of tuple of int
        Tiles or strips of a frame, in order, as start and stop per spatial axis. Each
        is finished rows after rows.
    frames : int
        Number of frames.
    stops : set of int, optional
        Rows at which a part may end; any row when not given.
    frame, box, row : int
        The place: finished frames, boxes in the next one, and the first row that is
        not finished in the next box.
    pixels : int
        Finished pixels.
    """

    boxes: Sequence[Box]
    frames: int
    stops: frozenset[int] | None = None
    frame: int = 0
    box: int = 0
    row: int = field(init=False)
    pixels: int = 0

    def __post_init__(self) -> None:
        self.row = self.boxes[0][0][0]

    @classmethod
    def none(cls, plan: Plan, layout: Layout) -> Reached:
        """Return the place before the first part of a planned run."""
        boxes, stops = plan.boxes(), None
        if plan.way == "blend":
            ends = [span.write[0] for span in plan.spans[0][1:]]
            stops = frozenset([*ends, boxes[0][0][1]])
        elif plan.way != "stream":
            stops = frozenset(span.write[1] for span in plan.spans[0])
        return cls(boxes, layout.frames, stops)

    @property
    def share(self) -> float:
        """Finished share of the run."""
        frame = sum(math.prod(b - a for a, b in box) for box in self.boxes)
        return self.pixels / (frame * self.frames)

    def take(self, write: Box) -> bool:
        """Move on behind a part; False, and nothing happens, if it is not the next."""
        if self.frame == self.frames:
            return False
        (_, end), *others = self.boxes[self.box]
        start, stop = write[0]
        fits = start == self.row and start < stop <= end and write[1:] == tuple(others)
        if not fits or not (self.stops is None or stop in self.stops):
            return False
        self.pixels += math.prod(b - a for a, b in write)
        self._move(stop, end)
        return True

    def _move(self, row: int, end: int) -> None:
        self.row = row
        if row == end:
            self.box = (self.box + 1) % len(self.boxes)
            self.frame += self.box == 0
            self.row = self.boxes[self.box][0][0]
