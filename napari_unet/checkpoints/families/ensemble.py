"""Networks of one architecture whose logits are averaged, such as nnU-Net's folds."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from napari_unet.checkpoints.families.base import Family, Inferred, Shapes
from napari_unet.networks.activations import logits_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_KEY = re.compile(r"^folds\.(\d+)\.(.+)$")
_MOST = 20

AVERAGED = "averaged"
"""Hint: what is averaged, ``"logits"`` if it is not given; else what the activation
makes of them, ``"softmax"`` or ``"sigmoid"``."""

Tensors = dict[str, torch.Tensor]


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
    added to it, and `AVERAGED` where it is not the logits.
    """

    name = "ensemble"
    title = "average of several networks"
    source = (
        "nnunetv2 2.8.1, nnUNetPredictor.predict_logits_from_preprocessed_data; "
        "nnunet 1.7.1, inference.predict.predict_cases"
    )
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
            **{key: hints[key] for key in (AVERAGED,) if key in hints},
        }
        return Inferred(architecture, inferred.fields, inferred.assumed)

    def build(self, architecture: Mapping[str, Any]) -> nn.Module:
        """Make the module with fresh weights."""
        family, own, folds = _member(architecture)
        averaged = str(architecture.get(AVERAGED, "logits"))
        if not 1 < folds <= _MOST:
            raise ValueError(f"an ensemble of {folds}")
        if averaged not in _KINDS:
            raise ValueError(f"an average of {averaged}")
        return _KINDS[averaged]([family.build(own) for _ in range(folds)])


class Ensemble(nn.Module):
    """The mean of the members' logits."""

    def __init__(self, members: list[nn.Module]) -> None:
        super().__init__()
        self.folds = nn.ModuleList(members)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits, (N, out_channels, *spatial)."""
        total = self.averaged(self.folds[0](x))
        for n in range(1, len(self.folds)):
            total = total + self.averaged(self.folds[n](x))
        return self.undone(total / len(self.folds))

    def averaged(self, logits: torch.Tensor) -> torch.Tensor:
        """Return what is averaged."""
        return logits

    def undone(self, mean: torch.Tensor) -> torch.Tensor:
        """Return logits of an average."""
        return mean


class SoftmaxEnsemble(Ensemble):
    """The mean of the members' softmax, as logits."""

    def averaged(self, logits: torch.Tensor) -> torch.Tensor:
        """Return probabilities over the channels."""
        return torch.softmax(logits, 1)

    def undone(self, mean: torch.Tensor) -> torch.Tensor:
        """Return logits of probabilities."""
        return logits_of(mean, "softmax")


class SigmoidEnsemble(Ensemble):
    """The mean of the members' sigmoid, as logits."""

    def averaged(self, logits: torch.Tensor) -> torch.Tensor:
        """Return a probability for each channel."""
        return torch.sigmoid(logits)

    def undone(self, mean: torch.Tensor) -> torch.Tensor:
        """Return logits of probabilities."""
        return logits_of(mean, "sigmoid")


_KINDS = {"logits": Ensemble, "softmax": SoftmaxEnsemble, "sigmoid": SigmoidEnsemble}


def _claimant(shapes: Shapes) -> Family:
    """Return the family of a member."""
    found = [f for f in _others() if f.is_proven and f.recognise(shapes)]
    if len(found) != 1:
        raise ValueError("members of no one kind")
    return found[0]


def _member(architecture: Mapping[str, Any]) -> tuple[Family, dict[str, Any], int]:
    """Part an architecture into the family, the member's own and the number."""
    own = {k: v for k, v in architecture.items() if k != AVERAGED}
    name, folds = own.pop("member"), int(own.pop("folds"))
    family = next((f for f in _others() if f.name == name), None)
    if family is None:
        raise ValueError(f"members of the kind {name}")
    return family, own, folds


def _others() -> Iterator[Family]:
    """Yield all other families, which are not known yet when this is imported."""
    from napari_unet.checkpoints.families import FAMILIES

    return (f for f in FAMILIES if not isinstance(f, EnsembleFamily))
