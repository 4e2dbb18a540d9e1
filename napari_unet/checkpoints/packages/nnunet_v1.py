"""nnU-Net v1's trained models: folders and exported archives.

A model is a folder with a checkpoint for each fold, ``model_final_checkpoint.model``,
and beside each a pickle with the plans and the name of the trainer. The pickle is read
as a tree of plain values. The probabilities of the folds are averaged (nnunet 1.7.1,
inference.predict).
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.checkpoints.draft import Draft
from napari_unet.checkpoints.packages import nnunet_folds as folds
from napari_unet.checkpoints.packages.base import Package
from napari_unet.checkpoints.packages.nnunet_v1_plans import describe, picked
from napari_unet.checkpoints.pickle_tree import read_pickle

if TYPE_CHECKING:
    from napari_unet.checkpoints.source import Source
    from napari_unet.checkpoints.unwrap import Found

_MOST_PICKLE = 1 << 26
_MOST_TEXT = 1 << 20
_CHECKPOINT = re.compile(r"^((?:[^/]+/)*)(?:fold_\d+|all)/(model_\w+)\.model$")
_KINDS = ("model_final_checkpoint", "model_best", "model_latest")
_POSTPROCESSING = "postprocessing.json"
_HEAD = re.compile(r"(^|\.)seg_outputs\.\d+\.weight$")
_FIRST = re.compile(r"(^|\.)conv_blocks_context\.0\.blocks\.0\.conv\.weight$")


class NNUNetV1Package(Package):
    """A trained nnU-Net v1 model, as a folder or an exported archive."""

    title = "nnU-Net v1 model"

    def claims(self, source: Source) -> bool:
        """Whether there are checkpoints of folds with their pickles."""
        return bool(_models(source.names()))

    def holds(self, source: Source, name: str) -> bool:
        """Whether `name` is the checkpoint of a fold."""
        return any(name in names for names in _models(source.names()).values())

    def draft(self, source: Source, weights: str | None = None) -> Draft:
        """Read the plans and the checkpoints of all folds, or the one that is named."""
        models = _models(source.names())
        place = folds.choose(source, models) if weights is None else _place(weights)
        names = _folds(models[place]) if weights is None else [weights]
        pickle = source.read(f"{names[0]}.pkl", _MOST_PICKLE)
        words, found, digests = folds.read(source, names, "probabilities")
        if weights is None:
            folds.note_choice(found, place, models)
        digests.append(hashlib.sha256(pickle).hexdigest())
        draft = Draft(source.path, f"{self.title}, {words}", found, digests)
        _describe(draft, read_pickle(pickle, Path(f"{names[0]}.pkl")))
        _note_postprocessing(found, source, f"{place}{_POSTPROCESSING}")
        return draft


def _describe(draft: Draft, saved: Any) -> None:
    """Put what plans and trainer say into the draft."""
    with folds.reading_plans(draft):
        plans = picked(saved)
        described = describe(plans)
    draft.hints |= described.hints
    draft.fields |= described.fields
    draft.found.notes += described.notes
    folds.check_channels(draft, _HEAD, _FIRST)
    folds.note_trainer(draft.found, plans["name"])


def _note_postprocessing(found: Found, source: Source, name: str) -> None:
    """Tell that small objects are not removed, where nnU-Net would."""
    if name not in source.names():
        return
    try:
        classes = json.loads(source.read(name, _MOST_TEXT))["for_which_classes"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return
    if classes:
        found.notes.append(
            "its postprocessing, which keeps the largest object of a class, is not done"
        )


def _models(names: list[str]) -> dict[str, list[str]]:
    """Return the checkpoints by folder, with its slash, that have their pickles."""
    models: dict[str, list[str]] = {}
    for name in names:
        match = _CHECKPOINT.match(name)
        if match and f"{name}.pkl" in names and match[2] in _KINDS:
            models.setdefault(match[1], []).append(name)
    return models


def _place(name: str) -> str:
    """Return the folder of the model that a checkpoint belongs to."""
    match = _CHECKPOINT.match(name)
    return match[1] if match else ""


def _folds(names: list[str]) -> list[str]:
    """Return one checkpoint of each fold, all of the same kind: final rather than best.

    A network trained on all cases is used only where there are no folds.
    """
    for kind in _KINDS:
        of_kind = [n for n in names if n.endswith(f"/{kind}.model")]
        numbered = [n for n in of_kind if "/fold_" in f"/{n}"]
        if of_kind:
            return sorted(numbered, key=folds.number) or of_kind
    return names
