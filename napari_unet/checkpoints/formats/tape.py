"""A graph on its way from a file to a program: steps one after another.

Each step is carried out at once on tensors without memory, of a few image sizes, so
that every shape is torch's own and sizes that a graph computes are known. A size is an
array with one number for each of these *probes*; what is the same for all of them, such
as the ratio of two sizes, holds for images of any size that fits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_unet.checkpoints.formats.refusal import Refused
from napari_unet.networks.program import Operation, carry_out, make_layer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MOST_STEPS = 10_000
_PROBES = 3
_LENGTH = 3840  # divisible by 2 eight times, by 3 and by 5
_MOST_GROWTH = 1 << 12
_FINAL = ("sigmoid", "softmax")


@dataclass(frozen=True, eq=False)
class Value:
    """An image inside the network.

    Attributes
    ----------
    number : int
        The step that gives it, -1 for the input.
    probes : tuple of torch.Tensor
        Without memory, (N, C, *spatial) each.
    dropped : int
        How many of the last axes, one pixel long, the graph does not see.
    merged : bool
        Whether the graph sees it as (1, N * C, *spatial), as in an instance norm.
    """

    number: int
    probes: tuple[torch.Tensor, ...]
    dropped: int = 0
    merged: bool = False

    @property
    def channels(self) -> int:
        """Number of channels."""
        return int(self.probes[0].shape[1])

    @property
    def shape(self) -> tuple[np.ndarray[Any, Any], ...]:
        """The shape that the graph sees; for each axis an array over the probes."""
        batch, channels, *space = self._shape
        if self.merged:
            batch, channels = np.ones_like(batch), batch * channels
        return (batch, channels, *space)[: len(self._shape) - self.dropped]

    @property
    def space(self) -> tuple[np.ndarray[Any, Any], ...]:
        """The spatial part of its own shape."""
        return self._shape[2:]

    @property
    def _shape(self) -> tuple[np.ndarray[Any, Any], ...]:
        axes = range(self.probes[0].ndim)
        return tuple(np.array([p.shape[axis] for p in self.probes]) for axis in axes)


class Tape:
    """Steps of a program while they are found.

    Parameters
    ----------
    shape : sequence of int or None
        Of the input, (N, C, *spatial); None for lengths that the file leaves open.

    Attributes
    ----------
    image : Value
        The input.
    notes : list of str
        What a reader should know about the program.
    tensors : dict of str to torch.Tensor
        Weights as `napari_unet.networks.program.Program` names them.
    """

    def __init__(self, shape: Sequence[int | None]) -> None:
        self.ndim = len(shape) - 2
        if self.ndim not in (2, 3):
            raise Refused(f"an input of {self.ndim + 2} axes")
        probes = tuple(
            torch.empty(_probe(shape, n), device="meta") for n in range(_PROBES)
        )
        self.image = Value(-1, probes)
        self.notes: list[str] = []
        self.tensors: dict[str, torch.Tensor] = {}
        self._steps: list[Operation] = []
        self._newest: dict[int, Value] = {}
        self._bases: dict[int, int] = {}

    def note(self, text: str) -> None:
        """Add a note, once."""
        if text not in self.notes:
            self.notes.append(text)

    def note_size(self, shape: Sequence[int | None]) -> None:
        """Note the size of image that a graph was made for, where it is fixed."""
        if any(shape[2:]):
            sizes = " x ".join(str(n or "any") for n in shape[2:])
            self.note(f"made for images of {sizes} pixels")

    def add(
        self,
        kind: str,
        inputs: Sequence[Value],
        settings: dict[str, Any] | None = None,
        **weights: torch.Tensor | None,
    ) -> Value:
        """Write a step and return what it gives.

        Parameters
        ----------
        kind : str
            One of `napari_unet.networks.program.OPERATIONS`.
        inputs : sequence of Value
            What it reads.
        settings : dict, optional
            Of its layer.
        **weights : torch.Tensor or None
            Of its layer, by name.

        Raises
        ------
        Refused
            If torch cannot carry it out, or there are too many steps.
        """
        number = len(self._steps)
        if number >= MOST_STEPS:
            raise Refused(f"over {MOST_STEPS} operations")
        try:
            step = Operation(
                kind=kind,
                inputs=tuple(v.number for v in inputs),
                settings=settings or {},
            )
            probes = self._carried_out(step, inputs)
            self._check_size(probes)
        except (RuntimeError, ValueError, TypeError) as error:
            raise Refused(f"a step {kind} that does not fit ({_line(error)})") from None
        self._steps.append(step)
        for name, tensor in weights.items():
            if tensor is not None:
                self.tensors[f"n{number}.{name}"] = tensor
        return Value(number, probes)

    def _check_size(self, probes: tuple[torch.Tensor, ...]) -> None:
        for result, image in zip(probes, self.image.probes, strict=True):
            pixels = image.numel() // image.shape[1]
            if result.numel() > _MOST_GROWTH * pixels:
                raise Refused("an image that grows without measure")

    def _carried_out(
        self, step: Operation, inputs: Sequence[Value]
    ) -> tuple[torch.Tensor, ...]:
        with torch.device("meta"):
            layer = make_layer(step, self.ndim)
        if layer is not None:
            layer.eval()
        return tuple(
            carry_out(step.kind, layer, list(read))
            for read in zip(*(v.probes for v in inputs), strict=True)
        )

    def overwrite(self, old: Value, new: Value) -> None:
        """Let whoever reads `old` from now on read `new`: an operation in place.

        Raises
        ------
        Refused
            If `old` shares its pixels with another image.
        """
        if old.number in self._bases or old.number in self._bases.values():
            raise Refused("an operation in place on a part of an image")
        if new.number != old.number:
            self._newest[old.number] = new

    def part(self, whole: Value, kind: str, settings: dict[str, Any]) -> Value:
        """Write a step that gives a part of an image, which shares its pixels."""
        done = self.add(kind, [whole], settings)
        self._bases[done.number] = whole.number
        return done

    def newest(self, value: Value) -> Value:
        """Return what is in the place of a value by now."""
        while value.number in self._newest:
            new = self._newest[value.number]
            value = replace(new, dropped=value.dropped, merged=value.merged)
        return value

    def slopes(self, product: Value, image: Value) -> torch.Tensor | None:
        """Return what each channel of `image` was multiplied by to give `product`."""
        step = self._steps[product.number] if product.number >= 0 else None
        is_scaled = step is not None and step.settings.get("operation") == "mul"
        if step is None or not is_scaled or step.inputs != (image.number,):
            return None
        return self.tensors[f"n{product.number}.value"]

    def program(self, output: Value) -> dict[str, Any]:
        """Return the steps that `output` depends on.

        Returns
        -------
        dict
            What `napari_unet.networks.program.ProgramSpec` is made of, and
            ``activation`` where the graph ends in one, which is cut off.
        """
        output = self.newest(output)
        last, final = output.number, ""
        if last >= 0 and self._steps[last].settings.get("name") in _FINAL:
            final = str(self._steps[last].settings["name"])
            last = self._steps[last].inputs[0]
        numbers = self._needed(last)
        if not any(self._steps[n].kind in ("conv", "transposed") for n in numbers):
            raise Refused("no convolution")
        if output.dropped or output.merged:
            raise Refused("an output that is no image")
        return {
            "ndim": self.ndim,
            "in_channels": self.image.channels,
            "out_channels": output.channels,
            "steps": self._kept(numbers),
            "activation": final,
        }

    def _needed(self, last: int) -> list[int]:
        """Return the numbers of the steps that a step depends on, and its own."""
        needed, waiting = set(), [last]
        while waiting:
            number = waiting.pop()
            if number >= 0 and number not in needed:
                needed.add(number)
                waiting.extend(self._steps[number].inputs)
        return sorted(needed)

    def _kept(self, numbers: list[int]) -> list[dict[str, Any]]:
        """Return some steps, and keep their weights, under new numbers."""
        new = {-1: -1, **{old: n for n, old in enumerate(numbers)}}
        self.tensors = {
            f"n{new[old]}.{name}": tensor
            for key, tensor in self.tensors.items()
            for head, name in [key.split(".")]
            if (old := int(head[1:])) in new
        }
        return [
            {
                "kind": step.kind,
                "inputs": [new[i] for i in step.inputs],
                "settings": step.settings,
            }
            for step in (self._steps[n] for n in numbers)
        ]


def record(
    shape: Sequence[int | None], play: Callable[[Tape], Value]
) -> tuple[Tape, Value]:
    """Translate a graph, for images of any size if it can be.

    Parameters
    ----------
    shape : sequence of int or None
        Of the input, (N, C, *spatial), as far as the file fixes it.
    play : callable
        Writes the steps to a tape and returns the output.

    Raises
    ------
    Refused
        If the graph is not carried out for the size in the file either.
    """
    opened = [None, shape[1], *[None] * len(shape[2:])]
    try:
        return _played(Tape(opened), play)
    except Refused:
        if list(shape) == opened:
            raise
    tape = Tape(shape)
    tape.note_size(shape)
    return _played(tape, play)


def _played(tape: Tape, play: Callable[[Tape], Value]) -> tuple[Tape, Value]:
    try:
        return tape, play(tape)
    except Refused:
        raise
    except Exception as error:  # the file's graph decides what breaks here
        raise Refused(f"a graph that does not fit ({error!r})"[:300]) from error


def constant(size: Any) -> int | None:
    """Return a size that is the same for all probes, None for one that is not."""
    values = np.unique(np.asarray(size))
    if len(values) != 1 or values[0] != int(values[0]):
        return None
    return int(values[0])


def _probe(shape: Sequence[int | None], n: int) -> list[int]:
    """Return the shape of a probe; open lengths differ from axis to axis."""
    batch, channels, *space = shape
    return [
        n + 1 if batch is None else batch,
        channels or 1,
        *(
            _LENGTH * (1 + n + _PROBES * axis) if length is None else length
            for axis, length in enumerate(space)
        ),
    ]


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
