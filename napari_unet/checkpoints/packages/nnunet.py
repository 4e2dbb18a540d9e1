"""nnU-Net v2's trained models: folders, exported archives and single checkpoints.

A model is a folder with ``plans.json``, ``dataset.json`` and a checkpoint for each fold
of the cross-validation; the logits of the folds are averaged, as nnU-Net does
(nnunetv2 2.8.1, nnUNetPredictor). A single checkpoint holds its own plans.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

from napari_unet.checkpoints.draft import Draft
from napari_unet.checkpoints.packages import nnunet_folds as folds
from napari_unet.checkpoints.packages.base import Package
from napari_unet.checkpoints.packages.nnunet_plans import describe
from napari_unet.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_unet.checkpoints.source import Source

_MOST_TEXT = 1 << 25
_PLANS, _DATASET = "plans.json", "dataset.json"
_CHECKPOINT = re.compile(r"^((?:[^/]+/)*)fold_(\d+|all)/checkpoint_(\w+)\.pth$")
_KINDS = ("final", "best", "latest")
_HEAD = re.compile(r"(^|\.)decoder\.seg_layers\.\d+\.weight$")
_FIRST = re.compile(r"encoder\.(stem|stages\.0\.0)\.convs\.0\.conv\.weight$")


class NNUNetPackage(Package):
    """A trained nnU-Net v2 model, as a folder or an exported archive."""

    title = "nnU-Net model"

    def claims(self, source: Source) -> bool:
        """Whether there are plans and checkpoints of folds."""
        return bool(_models(source.names()))

    def holds(self, source: Source, name: str) -> bool:
        """Whether `name` is the checkpoint of a fold."""
        match = _CHECKPOINT.match(name)
        return match is not None and match[1] in _models(source.names())

    def draft(self, source: Source, weights: str | None = None) -> Draft:
        """Read the plans and the checkpoints of all folds, or the one that is named."""
        models = _models(source.names())
        if weights is not None:
            place, names = weights.rpartition("fold_")[0], [weights]
        else:
            place = folds.choose(source, models)
            names = _folds(models[place])
        texts = [source.read(f"{place}{_PLANS}", _MOST_TEXT)]
        if f"{place}{_DATASET}" in source.names():
            texts.append(source.read(f"{place}{_DATASET}", _MOST_TEXT))
        words, found, digests = folds.read(source, names, "logits")
        if weights is None:
            folds.note_choice(found, place, models)
        digests += [hashlib.sha256(text).hexdigest() for text in texts]
        draft = Draft(source.path, f"{self.title}, {words}", found, digests)
        read = [_parsed(source, text) for text in texts]
        _describe(draft, read[0], read[1] if len(read) > 1 else None)
        return draft

    def complete(self, draft: Draft) -> None:
        """Add the plans that nnU-Net saves inside a checkpoint."""
        saved = draft.found.extras.get("init_args")
        if isinstance(saved, dict) and isinstance(saved.get(_stem(_PLANS)), dict):
            _describe(draft, saved[_stem(_PLANS)], None)


def _describe(
    draft: Draft, plans: Mapping[str, Any], dataset: Mapping[str, Any] | None
) -> None:
    """Put what plans, dataset and checkpoint say into the draft."""
    extras = draft.found.extras
    saved = extras.get("init_args")
    saved = saved if isinstance(saved, dict) else {}
    with folds.reading_plans(draft):
        described = describe(
            plans,
            str(saved["configuration"]),
            saved["dataset_json"] if dataset is None else dataset,
            extras.get("inference_allowed_mirroring_axes"),
        )
    draft.hints |= described.hints
    draft.fields |= described.fields
    folds.check_channels(draft, _HEAD, _FIRST)
    draft.found.notes += described.notes
    folds.note_trainer(draft.found, extras.get("trainer_name"))


def _models(names: list[str]) -> dict[str, list[str]]:
    """Return the checkpoints by folder, with its slash, where there are plans too."""
    models: dict[str, list[str]] = {}
    for name in names:
        match = _CHECKPOINT.match(name)
        if match and f"{match[1]}{_PLANS}" in names and match[3] in _KINDS:
            models.setdefault(match[1], []).append(name)
    return models


def _folds(names: list[str]) -> list[str]:
    """Return one checkpoint of each fold, all of the same kind: final rather than best.

    A network trained on all cases is used only where there are no folds.
    """
    for kind in _KINDS:
        of_kind = [n for n in names if n.endswith(f"/checkpoint_{kind}.pth")]
        numbered = [n for n in of_kind if "fold_all/" not in n]
        if of_kind:
            return sorted(numbered, key=folds.number) or of_kind
    return names


def _parsed(source: Source, text: bytes) -> dict[str, Any]:
    """Read a JSON object."""
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _wrong(source, f"no JSON ({type(error).__name__})") from error
    if not isinstance(facts, dict):
        raise _wrong(source, f"a {type(facts).__name__}")
    return facts


def _wrong(source: Source, found: str) -> ModelError:
    return ModelError(
        f"{_PLANS} or {_DATASET} of {source.path.name} cannot be used", found=found
    )


def _stem(name: str) -> str:
    return name.rpartition(".")[0]
