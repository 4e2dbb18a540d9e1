"""The last steps of a part: finished, kept, written and shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_unet.events import Preview, Stopped, Warned

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from napari_unet.events import CancelToken, Event
    from napari_unet.images.sinks import Sink, Writer
    from napari_unet.inference.finish import Block, Reduced
    from napari_unet.inference.job import Job
    from napari_unet.inference.resuming.keeper import Keeper
    from napari_unet.inference.resuming.reached import Box, Reached


def deliver(
    job: Job,
    sink: Writer,
    position: Mapping[str, int],
    part: tuple[Box, Reduced] | None,
    ends_frame: bool = False,
) -> Iterator[Event]:
    """Finish a part of a frame and write what is known then.

    Parameters
    ----------
    job : Job
        The prediction.
    sink : Writer
        Where the result goes.
    position : mapping of str to int
        The frame's position along the looped axes.
    part : tuple, optional
        Where it lies in the frame, and what `Job.reduce` gave for it.
    ends_frame : bool
        Whether nothing of the frame comes after it.

    Yields
    ------
    Event
        A `Preview` for each block.
    """
    if part is not None and job.beside is not None:
        write, (_, values) = part
        assert values is not None
        job.beside.write(position, write, values)
    for write, block in _finished(job, part, ends_frame):
        region, values = job.layout.place(position, write, block)
        sink.write(region, values)
        yield Preview(region, values)


def replay(
    job: Job, sink: Sink, kept: Keeper, reached: Reached, cancel: CancelToken
) -> Iterator[Event]:
    """Write what an earlier run had finished, and move `reached` behind it.

    Raises
    ------
    Stopped
        If `cancel` is set meanwhile.
    """
    positions = job.layout.positions()
    number, position = -1, {}
    for frame, write, reduced, ends in kept.replay():
        if cancel.is_set():
            raise Stopped("stopped while taking over what an earlier run had done")
        if frame > number:
            number, position = frame, next(positions)
        yield from deliver(job, sink, position, (write, reduced), ends)
    if reached.pixels:
        yield Warned(f"An earlier run goes on; {reached.share:.0%} of it was done.")


def _finished(
    job: Job, part: tuple[Box, Reduced] | None, ends_frame: bool
) -> Iterator[Block]:
    """Blocks of the frame that are final now."""
    if part is not None:
        write, reduced = part
        yield from job.finisher.add(write, reduced.own)
    if ends_frame:
        yield from job.finisher.end_frame()
