"""Which family a checkpoint belongs to, proved by its names and shapes."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ValidationError

from napari_unet.checkpoints.families import FAMILIES
from napari_unet.checkpoints.families.base import Shapes
from napari_unet.checkpoints.refused import refused
from napari_unet.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import nn

    from napari_unet.checkpoints.families.base import Family, Inferred

Tensors = dict[str, torch.Tensor]

PROVEN = tuple(f for f in FAMILIES if f.is_proven)
UNPROVEN = tuple(f for f in FAMILIES if not f.is_proven)

_WRAPPED = ("_orig_mod.", "_fsdp_wrapped_module.")
_COUNTER = "num_batches_tracked"
_MOST_VIEWS = 64
_NEAR = 0.3


@dataclass(frozen=True)
class View:
    """Tensors after a prefix was taken off.

    Attributes
    ----------
    tensors : dict of str to torch.Tensor
        With the names a family expects.
    prefix : str
        What was taken off, such as ``"module.model."``.
    notes : tuple of str
        What was left out on the way.
    """

    tensors: Tensors
    prefix: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Match:
    """A family that fits."""

    family: Family
    inferred: Inferred
    view: View


@dataclass(frozen=True)
class Miss:
    """How far the names are from those a family expects."""

    title: str
    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    misshaped: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.missing or self.extra or self.misshaped)

    def __str__(self) -> str:
        parts = [
            f"{word} {', '.join(keys[:5])}{' ...' if len(keys) > 5 else ''}"
            for word, keys in (
                ("lacking", self.missing),
                ("too many", self.extra),
                ("other shapes", self.misshaped),
            )
            if keys
        ]
        return f"nearest to {self.title}: {'; '.join(parts)}"


def identify(
    tensors: Tensors, hints: Mapping[str, Any], name: str, guess: bool = True
) -> Match:
    """Find the one family that a set of tensors belongs to.

    Parameters
    ----------
    tensors : dict of str to torch.Tensor
        As found in the file, perhaps under a common prefix.
    hints : mapping
        The source's own settings, as far as known.
    name : str
        Name of the file, for messages.
    guess : bool
        Whether families count whose outputs were not compared with the source's own.

    Raises
    ------
    ModelError
        If no family fits, with what is nearest and the keys that differ, or if more
        than one does.
    """
    misses: list[Miss] = []
    for families in (PROVEN, UNPROVEN) if guess else (PROVEN,):
        for view in views(tensors):
            matches = list(_claims(view, hints, families, misses))
            if len(matches) == 1:
                return matches[0]
            if matches:
                raise _ambiguous(name, matches)
    raise _unknown(tensors, misses, name)


def views(tensors: Tensors) -> Iterator[View]:
    """Yield the tensors as they are, then with common prefixes taken off."""
    tensors = {_unwrapped(k): v for k, v in tensors.items()}
    waiting = deque([View(tensors)])
    for _ in range(_MOST_VIEWS):
        if not waiting:
            return
        view = waiting.popleft()
        yield view
        heads = {k.partition(".")[0] for k in view.tensors if "." in k}
        waiting.extend(v for head in sorted(heads) if (v := _stripped(view, head)))


def fit(family: Family, inferred: Inferred, tensors: Tensors) -> Miss:
    """Compare tensors with the module a family would build; empty if they fit."""
    expected = Shapes(_on_meta(family, inferred.architecture).state_dict())
    found = Shapes(tensors)
    optional = {k for k in {*expected, *found} if k.endswith(_COUNTER)}
    return Miss(
        family.title,
        missing=[k for k in expected if k not in found and k not in optional],
        extra=[k for k in found if k not in expected and k not in optional],
        misshaped=[k for k in expected if k in found and found[k] != expected[k]],
    )


def assemble(
    family: Family, architecture: Mapping[str, Any], tensors: Tensors
) -> nn.Module:
    """Build a module around tensors that fit; strict."""
    module = _on_meta(family, architecture)
    expected = module.state_dict()
    for key, tensor in expected.items():
        if key.endswith(_COUNTER) and key not in tensors:
            tensors = {**tensors, key: torch.zeros((), dtype=tensor.dtype)}
    known = {k: v for k, v in tensors.items() if k in expected or _COUNTER not in k}
    module.load_state_dict(known, strict=True, assign=True)
    return module.eval()


def _on_meta(family: Family, architecture: Mapping[str, Any]) -> nn.Module:
    """Build a module without memory for its weights."""
    with torch.device("meta"):
        return family.build(architecture)


def _claims(
    view: View,
    hints: Mapping[str, Any],
    families: tuple[Family, ...],
    misses: list[Miss],
) -> Iterator[Match]:
    """Yield the families that fit a view exactly; remember near misses."""
    shapes = Shapes(view.tensors)
    in_order = shapes.in_order and not hints.get("unordered")
    for family in families:
        if family.needs_order and not in_order:
            continue
        if family.is_graph != ("program" in hints) or not family.recognise(shapes):
            continue
        fitting = view
        try:
            fitting = replace(view, tensors=family.accept(view.tensors))
            inferred = family.infer(Shapes(fitting.tensors), hints)
            miss = fit(family, inferred, fitting.tensors)
        except (KeyError, IndexError, ValueError, TypeError, ValidationError):
            miss = Miss(family.title, extra=["keys that make up no such network"])
        if not miss:
            yield Match(family, inferred, fitting)
        elif family.is_proven:
            misses.append(miss)


def _stripped(view: View, head: str) -> View | None:
    """Take a first name off all keys; what lacks it may hold no convolutions."""
    prefix = f"{head}."
    inside = {
        k.removeprefix(prefix): v
        for k, v in view.tensors.items()
        if k.startswith(prefix)
    }
    outside = [k for k in view.tensors if not k.startswith(prefix)]
    if any(view.tensors[k].ndim > 2 for k in outside):
        return None
    notes = view.notes
    if outside:
        notes = (*notes, f"left out beside the network: {', '.join(outside[:5])}")
    return replace(view, tensors=inside, prefix=view.prefix + prefix, notes=notes)


def _unwrapped(key: str) -> str:
    """Take off what torch.compile and FSDP put anywhere in a name."""
    for word in _WRAPPED:
        key = key.replace(word, "")
    return key


def _ambiguous(name: str, matches: list[Match]) -> ModelError:
    return ModelError(
        f"{name} fits more than one kind of network",
        found=" and ".join(m.family.title for m in matches),
    )


def _unknown(tensors: Tensors, misses: list[Miss], name: str) -> ModelError:
    """Make the error that says what the file is nearest to."""
    known_not = refused(tensors)
    if known_not is not None:
        network, mark = known_not
        return ModelError(
            f"{name} holds a {network.title}, which is not opened",
            found=f"the tensor {mark}",
            hint=f"Reason: {network.reason}.",
        )
    near = misses or list(_nearest(tensors))
    first = ", ".join(f"{k} {tuple(v.shape)}" for k, v in list(tensors.items())[:3])
    known = ", ".join(f.title for f in PROVEN)
    return ModelError(
        f"The network in {name} is not one of the known kinds",
        found=str(near[0]) if near else f"{len(tensors)} tensors such as {first}",
        expected=known,
        hint="If it is one of these with changes, save the unchanged network.",
    )


def _nearest(tensors: Tensors) -> Iterator[Miss]:
    """Yield the family whose typical names are most alike, if any is near."""
    found = {_pattern(k) for k in tensors}
    scored = [
        (len(found & names) / len(found | names), family)
        for family in PROVEN
        for names in [{_pattern(k) for k in _typical(family)}]
    ]
    score, family = max(scored, key=lambda pair: pair[0])
    if score > _NEAR:
        expected = _typical(family)
        yield Miss(
            family.title,
            missing=[k for k in expected if k not in tensors],
            extra=[k for k in tensors if k not in expected],
        )


def _typical(family: Family) -> list[str]:
    return list(_on_meta(family, family.typical).state_dict())


def _pattern(key: str) -> str:
    """Return a name with its numbers blotted out."""
    return ".".join("#" if part.isdigit() else part for part in key.split("."))
