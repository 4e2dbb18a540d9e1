"""What packages of nnU-Net's versions share: configurations, folds and channels."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from napari_unet.checkpoints import sidecar
from napari_unet.checkpoints.families.ensemble import joined
from napari_unet.checkpoints.unwrap import Found
from napari_unet.checkpoints.weights import MOST_WEIGHTS, read_weights
from napari_unet.errors import ModelError
from napari_unet.files import digest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from napari_unet.checkpoints.draft import Draft
    from napari_unet.checkpoints.source import Source

_PREFERRED = ("3d_fullres", "3d_lowres", "2d")
_FOLD = re.compile(r"(?:^|/)fold_(\d+)/")
_OWN = "nnUNetTrainer"


def choose(source: Source, places: Iterable[str]) -> str:
    """Choose among several configurations: the one wished for, or the usual one.

    Parameters
    ----------
    source : Source
        The package.
    places : iterable of str
        Folders of the configurations, each with its slash.

    Raises
    ------
    ModelError
        If the one wished for in the sidecar is not there.
    """
    wish = sidecar.read(source.path).get("weights")
    if wish and f"{wish}/" in places:
        return f"{wish}/"
    if wish:
        raise ModelError(
            f"{source.path.name} has no configuration {wish}",
            expected=", ".join(p.rstrip("/") for p in places),
        )
    return min(places, key=_rank)


def _rank(place: str) -> int:
    """Return how far down the list the configuration is that a folder is named after.

    Version 2 has it at the end of a name, version 1 as a folder.
    """
    parts = re.split("/|__", place)
    return min((_PREFERRED.index(p) for p in parts if p in _PREFERRED), default=9)


def note_choice(found: Found, place: str, places: Collection[str]) -> None:
    """Tell which configuration was taken where there are several."""
    if len(places) > 1:
        found.wrapper = place.rstrip("/")
        found.choices = [p.rstrip("/") for p in places if p != place]


def number(name: str) -> int:
    """Return the number of the fold that a checkpoint is of, 0 if it has none."""
    match = _FOLD.search(name)
    return int(match[1]) if match else 0


def read(
    source: Source, names: list[str], averaged: str
) -> tuple[str, Found, list[str]]:
    """Read checkpoints; several are joined to an ensemble.

    Parameters
    ----------
    source : Source
        The package.
    names : list of str
        One checkpoint for each fold.
    averaged : str
        What is averaged over the folds, in words.

    Returns
    -------
    words : str
        Format of the files.
    found : Found
        The tensors, with what lay around them in the first file.
    digests : list of str
        SHA-256 of each file.
    """
    members: list[Found] = []
    digests: list[str] = []
    words = ""
    for name in names:
        with source.file(name, MOST_WEIGHTS) as path:
            words, found = read_weights(path)
            digests.append(digest(path))
        members.append(found)
    first = members[0]
    if len(members) == 1:
        return words, first, digests
    tensors = joined([_unwrapped(m.tensors) for m in members])
    notes = list(dict.fromkeys(note for m in members for note in m.notes))
    numbers = ", ".join(str(number(name)) for name in names)
    notes.append(f"the mean of the {averaged} of folds {numbers}")
    return words, Found(tensors, first.wrapper, first.extras, notes), digests


def _unwrapped(tensors: dict[str, Any]) -> dict[str, Any]:
    """Take off what training on several devices puts before all names."""
    prefix = "module."
    if all(key.startswith(prefix) for key in tensors):
        return {key.removeprefix(prefix): v for key, v in tensors.items()}
    return tensors


def note_trainer(found: Found, trainer: Any) -> None:
    """Tell of a trainer that is not nnU-Net's own."""
    if trainer and not str(trainer).startswith(_OWN):
        found.notes.append(f"trained by {trainer}, which is not nnU-Net's own")


def check_channels(draft: Draft, head: re.Pattern[str], first: re.Pattern[str]) -> None:
    """Refuse weights that take or give other channels than the dataset has.

    Parameters
    ----------
    draft : Draft
        With a recipe and a normalization among its fields.
    head, first : re.Pattern
        Names of the weights of the last and the first convolution.

    Raises
    ------
    ModelError
        With both numbers.
    """
    recipe, scaled = draft.fields["recipe"], draft.fields["normalization"]
    heads = len(recipe.region_labels or recipe.label_values)
    for pattern, axis, wanted, words in (
        (head, 0, heads, "output channels for its labels or regions"),
        (first, 1, len(scaled), "input channels"),
    ):
        tensors = draft.found.tensors.items()
        found = {v.shape[axis] for k, v in tensors if pattern.search(k)}
        if found - {wanted}:
            raise ModelError(
                f"The weights of {draft.path.name} do not fit its plans and dataset",
                found=f"{max(found)} {words}",
                expected=str(wanted),
            )


@contextmanager
def reading_plans(draft: Draft) -> Iterator[None]:
    """Tell plans that lack something, or hold what they should not, as one error."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        first = str(error).partition("\n")[0]
        raise ModelError(
            f"The plans of {draft.path.name} cannot be used",
            found=f"{type(error).__name__}: {first}",
        ) from error
