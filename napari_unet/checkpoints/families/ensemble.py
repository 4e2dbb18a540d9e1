"""Networks of one architecture whose logits are averaged, such as nnU-Net's folds."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar

from torch import nn

from napari_unet.checkpoints.families.base import Family, Inferred, Shapes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import torch

_KEY = re.compile(r"^folds\.(\d+)\.(.+)$")
_MOST = 20

Tensors = dict[str, "torch.Tensor"]


def joined(members: list[Mapping[str, torch.Tensor]]) -> Tensors:
    """Return the tensors of several networks under the names of an ensemble."""
    return {
        f"folds.{n}.{k}": v for n, one in enumerate(members) for k, v in one.items()
    }


def parted(tensors: Mapping[str, torch.Tensor]) -> list[Tensors]:
    """Return the tensors of each member; undoes `joined`.

    Raises
    ------
    ValueError
        If the names are not those of an ensemble.
    """
    members: dict[int, Tensors] = {}
    for key, tensor in tensors.items():
        match = _KEY.match(key)
        if match is None:
            raise ValueError(f"{key} belongs to no member")
        members.setdefault(int(match[1]), {})[match[2]] = tensor
    if not 1 < len(members) <= _MOST or sorted(members) != list(range(len(members))):
        raise ValueError(f"members {sorted(members)}")
    return [members[n] for n in range(len(members))]


class EnsembleFamily(Family):
    """Several networks of another family; the architecture is that of its members.

    The entries ``member``, the name of the family, and ``folds``, their number, are
    added to it.
    """

    name = "ensemble"
    title = "average of several networks"
    source = "nnunetv2 2.8.1, nnUNetPredictor.predict_logits_from_preprocessed_data"
    typical: ClassVar[Mapping[str, Any]] = {
        "member": "nnunet",
        "folds": 2,
        "ndim": 2,
        "in_channels": 1,
        "out_channels": 2,
        "widths": [8, 16],
        "strides": [[1, 1], [2, 2]],
        "kernels": [[3, 3]] * 2,
        "convs": [2, 2],
        "decoder_convs": [2],
    }

    def recognise(self, shapes: Shapes) -> bool:
        """Whether all names are those of members."""
        return all(_KEY.match(key) for key in shapes)

    def accept(self, tensors: Mapping[str, torch.Tensor]) -> Tensors:
        """Return the tensors under the members' names."""
        members = parted(tensors)
        family = _claimant(Shapes(members[0]))
        return joined([family.accept(member) for member in members])

    def emit(
        self, tensors: Mapping[str, torch.Tensor], architecture: Mapping[str, Any]
    ) -> Tensors:
        """Return the tensors under the source's names, each after ``folds.<n>.``."""
        family, own, _ = _member(architecture)
        return joined([family.emit(member, own) for member in parted(tensors)])

    def infer(self, shapes: Shapes, hints: Mapping[str, Any]) -> Inferred:
        """Read the architecture of the first member; the others must have it too."""
        members = parted(shapes.tensors)
        first = Shapes(members[0])
        family = _claimant(first)
        inferred = family.infer(first, hints)
        architecture = {
            **inferred.architecture,
            "member": family.name,
            "folds": len(members),
        }
        return Inferred(architecture, inferred.fields, inferred.assumed)

    def build(self, architecture: Mapping[str, Any]) -> nn.Module:
        """Make the module with fresh weights."""
        family, own, folds = _member(architecture)
        if not 1 < folds <= _MOST:
            raise ValueError(f"an ensemble of {folds}")
        return Ensemble([family.build(own) for _ in range(folds)])


class Ensemble(nn.Module):
    """The mean of the members' logits."""

    def __init__(self, members: list[nn.Module]) -> None:
        super().__init__()
        self.folds = nn.ModuleList(members)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits, (N, out_channels, *spatial)."""
        total = self.folds[0](x)
        for n in range(1, len(self.folds)):
            total = total + self.folds[n](x)
        logits: torch.Tensor = total / len(self.folds)
        return logits


def _claimant(shapes: Shapes) -> Family:
    """Return the family of a member."""
    found = [f for f in _others() if f.is_proven and f.recognise(shapes)]
    if len(found) != 1:
        raise ValueError("members of no one kind")
    return found[0]


def _member(architecture: Mapping[str, Any]) -> tuple[Family, dict[str, Any], int]:
    """Part an architecture into the family, the member's own and the number."""
    own = dict(architecture)
    name, folds = own.pop("member"), int(own.pop("folds"))
    family = next((f for f in _others() if f.name == name), None)
    if family is None:
        raise ValueError(f"members of the kind {name}")
    return family, own, folds


def _others() -> Iterator[Family]:
    """Yield all other families, which are not known yet when this is imported."""
    from napari_unet.checkpoints.families import FAMILIES

    return (f for f in FAMILIES if not isinstance(f, EnsembleFamily))
