"""What a checkpoint family is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from napari_unet.networks.spec import Assumption

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Inferred:
    """What a family reads from a checkpoint.

    Attributes
    ----------
    architecture : dict
        JSON-able; `Family.build` makes the module from it.
    fields : dict
        Fields of `ModelSpec`: ndim, in_channels, out_channels, and what else is known.
    assumed : tuple of Assumption
        What the file does not tell; fields of the architecture are named
        ``"architecture.<name>"``.
    """

    architecture: dict[str, Any]
    fields: dict[str, Any]
    assumed: tuple[Assumption, ...] = field(default=())


class Family(Protocol):
    """A kind of checkpoint: its key names, its defaults and its module.

    The module has the key names of the source, so that a strict load is the proof.
    """

    @property
    def name(self) -> str:
        """Name in `ModelSpec.family`."""
        ...

    @property
    def title(self) -> str:
        """Name for people."""
        ...

    @property
    def typical(self) -> dict[str, Any]:
        """Architecture whose keys show what such a checkpoint looks like."""
        ...

    def recognise(self, shapes: Shapes) -> bool:
        """Whether the marking keys are there."""
        ...

    def infer(self, shapes: Shapes, hints: Mapping[str, Any]) -> Inferred:
        """Read the architecture from names and shapes.

        `hints` are the source's own settings where the file brings them along. Raises
        KeyError, IndexError or ValueError where the keys do not make up a network.
        """
        ...

    def build(self, architecture: Mapping[str, Any]) -> nn.Module:
        """Make the module with fresh weights."""
        ...


def activation(out_channels: int) -> Assumption:
    """Assume what turns raw outputs into probabilities: one channel means sigmoid."""
    value, other = (
        ("sigmoid", "softmax") if out_channels == 1 else ("softmax", "sigmoid")
    )
    reason = f"{out_channels} output channel{'' if out_channels == 1 else 's'}"
    return Assumption(
        field="activation", value=value, alternatives=(other, "none"), reason=reason
    )


def normalization(kind: str, reason: str, **settings: Any) -> Assumption:
    """Assume how pixels were scaled in training."""
    others = tuple(k for k in ("zscore", "minmax", "percentile", "none") if k != kind)
    return Assumption(
        field="normalization",
        value=[{"kind": kind, **settings}],
        alternatives=others,
        reason=reason,
    )


def count(shapes: Shapes, pattern: str) -> int:
    """Count n = 0, 1, ... while a key starts with `pattern` with n put in."""
    n = 0
    while any(key.startswith(pattern.format(n)) for key in shapes):
        n += 1
    return n
