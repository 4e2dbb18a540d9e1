"""What a checkpoint family is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from napari_unet.networks.spec import Assumption

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import torch
    from torch import nn


class Shapes(dict[str, tuple[int, ...]]):
    """Shapes by name, in the order of the file.

    Attributes
    ----------
    tensors : mapping of str to torch.Tensor
        The tensors themselves, for the few rules that look at values.
    """

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        super().__init__({k: tuple(v.shape) for k, v in tensors.items()})
        self.tensors = tensors

    @property
    def in_order(self) -> bool:
        """Whether names come as torch registers them: each bias after its weight.

        Sorted and shuffled names, as safetensors has them, do not.
        """
        keys = list(self)
        return all(
            after == f"{before.removesuffix('weight')}bias"
            for before, after in zip(keys, [*keys[1:], ""], strict=True)
            if before.endswith("weight")
            and f"{before.removesuffix('weight')}bias" in self
        )


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


class Family(ABC):
    """A kind of checkpoint: its key names, its defaults and its module.

    The module has the key names of the source, so that a strict load is the proof. Each
    family is one file beside this one, found by being there.

    Attributes
    ----------
    name : str
        Name in `ModelSpec.family`.
    title : str
        Name for people.
    source : str
        Library, version and class that the module agrees with.
    typical : mapping
        Architecture whose keys show what such a checkpoint looks like.
    is_proven : bool
        Whether its outputs were compared with the source's own; families that are not
        are tried last.
    needs_order : bool
        Whether the order of the names tells the order of the layers.
    is_graph : bool
        Whether the file tells every operation, in ``hints["program"]``; such files are
        of no other family.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]
    typical: ClassVar[Mapping[str, Any]]
    is_proven: ClassVar[bool] = True
    needs_order: ClassVar[bool] = False
    is_graph: ClassVar[bool] = False

    @abstractmethod
    def recognise(self, shapes: Shapes) -> bool:
        """Whether the marking keys are there."""

    def accept(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the tensors under the module's names.

        Overridden where a source stores tensors twice or named them otherwise once.
        """
        return dict(tensors)

    def emit(
        self, tensors: Mapping[str, torch.Tensor], architecture: Mapping[str, Any]
    ) -> dict[str, torch.Tensor]:
        """Return the tensors as the source's own module wants them; undoes `accept`."""
        del architecture
        return dict(tensors)

    @abstractmethod
    def infer(self, shapes: Shapes, hints: Mapping[str, Any]) -> Inferred:
        """Read the architecture from names and shapes.

        `hints` are the source's own settings where the file brings them along. Raises
        KeyError, IndexError or ValueError where the keys do not make up a network.
        """

    @abstractmethod
    def build(self, architecture: Mapping[str, Any]) -> nn.Module:
        """Make the module with fresh weights."""


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


def setting(
    name: str, value: Any, alternatives: Iterable[Any] = (), reason: str = ""
) -> Assumption:
    """Assume a setting of the architecture.

    Parameters
    ----------
    name : str
        Its name in the architecture.
    value : object
        What is taken.
    alternatives : iterable
        What else it may be; empty where any value may be told.
    reason : str
        Why the file does not tell it.
    """
    return Assumption(
        field=f"architecture.{name}",
        value=value,
        alternatives=tuple(alternatives),
        reason=reason,
    )


def count(shapes: Shapes, pattern: str) -> int:
    """Count n = 0, 1, ... while a key starts with `pattern` with n put in."""
    n = 0
    while any(key.startswith(pattern.format(n)) for key in shapes):
        n += 1
    return n
