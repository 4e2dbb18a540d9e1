"""How BiaPy scales images, from the configuration in its checkpoints (BiaPy 3.7.1)."""

from __future__ import annotations

from typing import Any

_EPS = 1e-6


def scaling(config: Any) -> list[dict[str, Any]]:
    """Return the normalisation of each channel, or one for all; empty if unknown.

    Parameters
    ----------
    config : object
        The ``cfg`` of a checkpoint. A clipping to percentiles before a z-score is not
        carried out here, so such a configuration counts as unknown; so does division
        by the range of the pixel type.
    """
    place = config
    for key in ("DATA", "NORMALIZATION"):
        place = place.get(key) if isinstance(place, dict) else None
    if not isinstance(place, dict):
        return []
    clip, kind = place.get("PERC_CLIP") or {}, place.get("TYPE")
    clips = bool(clip.get("ENABLE"))
    if kind == "scale_range" and clips:
        ends = _ends(clip)
        return [{"kind": "percentile", **ends, "clip": True, "eps": 0}] if ends else []
    if kind == "scale_range":
        return [{"kind": "minmax", "eps": 0}]
    if kind == "zero_mean_unit_variance" and not clips:
        return _standard(place.get("ZERO_MEAN_UNIT_VAR"))
    return []


def _ends(clip: dict[str, Any]) -> dict[str, float] | None:
    """Return the percentiles of a clipping, None where values are given instead."""
    low, high = clip.get("LOWER_PERC"), clip.get("UPPER_PERC")
    if not isinstance(low, (int, float)) or not isinstance(high, (int, float)):
        return None
    return {"low": low, "high": high} if 0 <= low < high <= 100 else None


def _standard(given: Any) -> list[dict[str, Any]]:
    """Return z-scores, with the numbers of the configuration where it has some."""
    means, stds = (
        given.get(f"{name}_VAL") if isinstance(given, dict) else None
        for name in ("MEAN", "STD")
    )
    if not isinstance(means, (list, tuple)) or not isinstance(stds, (list, tuple)):
        return []
    if -1 in means or -1 in stds or len(means) != len(stds):
        return [{"kind": "zscore", "eps": 0}]
    pairs = [(m, max(s, _EPS)) for m, s in zip(means, stds, strict=True)]
    return [{"kind": "linear", "gain": 1 / s, "offset": -m / s} for m, s in pairs]
