"""Stream: a network that is fed rows and gives rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_unet.inference.streaming.parts import parts
from napari_unet.inference.streaming.rows import Joined, Queue, Rows
from napari_unet.inference.streaming.steps import Step
from napari_unet.networks.graph import UnknownLayerError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from napari_unet.networks.graph import Graph


class Streamed:
    """A network that was made ready to run along one axis.

    Parameters
    ----------
    graph : Graph
        Its layers, none of which looks at the whole image.
    axis : int
        Number of the spatial axis along which rows come.

    Raises
    ------
    UnknownLayerError
        If a layer looks at the whole image.
    """

    def __init__(self, graph: Graph, axis: int = 0) -> None:
        if graph.global_layers:
            raise UnknownLayerError(graph.global_layers[0])
        self.graph = graph
        self.axis = axis
        self.parts = parts(graph, axis)


class Stream:
    """One frame on its way through a network.

    After the frame's last row, the rows given are those of the network's output for
    the whole frame, up to the rounding of sums.

    Parameters
    ----------
    network : Streamed
        The network.
    length : int
        Rows of the frame, a length that the network allows.
    chunk : int
        Rows of the frame that go through all layers at a time.

    Raises
    ------
    UnknownLayerError
        If the length does not suit the network.
    """

    def __init__(self, network: Streamed, length: int, chunk: int) -> None:
        lengths = network.graph.lengths(network.axis, length)
        if lengths is None:
            raise UnknownLayerError(f"{length} rows do not suit all layers")
        self._rows: list[Rows] = []
        self._steps: list[Step | None] = []
        self._readers: list[list[tuple[int, int]]] = []
        for part in network.parts:
            for n, source in enumerate(part.inputs):
                self._readers[source].append((len(self._rows), n))
            self._readers.append([])
            sources, rows = [self._rows[n] for n in part.inputs], lengths[part.own]
            if part.joins:
                self._rows.append(Joined(part.axis + 2, rows, sources))
                self._steps.append(None)
                continue
            output = Queue(part.axis + 2, rows)
            most = max(1, -(-rows * chunk // length))
            self._rows.append(output)
            self._steps.append(Step(part, sources, output, most) if sources else None)
        self._inputs = [part.inputs for part in network.parts]

    @property
    def stop(self) -> int:
        """Rows of the output that are behind, given or left out."""
        return self._rows[-1].stop

    def needed(self, row: int) -> int:
        """Return the first row of the frame that output rows from `row` on depend on.

        Parameters
        ----------
        row : int
            Row of the output.
        """
        first = [rows.length for rows in self._rows]
        first[-1] = row
        for number in reversed(range(len(first))):
            step = self._steps[number]
            for n, source in enumerate(self._inputs[number]):
                if first[number] < self._rows[number].length:
                    low = step.lowest(n, first[number]) if step else first[number]
                    first[source] = min(first[source], low)
        return first[0]

    def skip(self, count: int) -> None:
        """Go on as if `count` rows of the frame had been pushed, without computing.

        All layers then stand where they would, so that what follows is computed in the
        very pieces, and to the very bits, of a run from the first row on. Output rows
        that depend on those left out are left out too; see `needed` and `stop`. Must
        come before the first `push`.
        """
        self._queue(0).skip(count)
        while self._round():
            self._queue(-1).pop()

    def _queue(self, number: int) -> Queue:
        rows = self._rows[number]
        assert isinstance(rows, Queue)
        return rows

    def push(self, rows: Tensor) -> Iterator[Tensor]:
        """Take the next rows of the frame.

        Parameters
        ----------
        rows : torch.Tensor
            (N, C, *spatial), next to those before along the streamed axis.

        Yields
        ------
        torch.Tensor
            The next rows of the output, as many as are finished now.
        """
        self._queue(0).append(rows)
        moving = True
        while moving:
            moving = self._round()
            finished = self._queue(-1).pop()
            if finished is not None:
                yield finished

    def _round(self) -> bool:
        """Let every step compute some rows, and tell whether there were any."""
        return max([self._advance(number) for number in range(len(self._steps))])

    def _advance(self, number: int) -> bool:
        """Compute the next rows of a step, and tell whether there were any."""
        step = self._steps[number]
        if step is None or not step.advance():
            return False
        for n in set(self._inputs[number]):
            self._forget(n)
        return True

    def _forget(self, number: int) -> None:
        """Drop the rows that nobody reads any more."""
        rows = self._rows[number]
        rows.drop(min(self._needed(*reader) for reader in self._readers[number]))
        if isinstance(rows, Joined):
            for n in set(self._inputs[number]):
                self._forget(n)

    def _needed(self, number: int, n: int) -> int:
        """Return the first row that a reader still wants."""
        step, rows = self._steps[number], self._rows[number]
        if step is None:
            assert isinstance(rows, Joined)
            return rows.start
        return step.needed(n)
