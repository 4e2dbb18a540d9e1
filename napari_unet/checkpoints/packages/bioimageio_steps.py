"""Processing steps of bioimage.io descriptions, in our words.

Follows the specification (bioimage-io/spec-bioimage-io 0.5.4), 0.4 included.
"""

from __future__ import annotations

from typing import Any

from napari_unet.images.intensity import Normalization

_IGNORED = ("ensure_dtype",)
_FINAL = ("sigmoid", "softmax")


def normalizations(
    inputs: list[dict[str, Any]], notes: list[str]
) -> tuple[Normalization, ...]:
    """Translate what happens before the network.

    Parameters
    ----------
    inputs : list of dict
        Entries of the description; inputs beyond the first are stacked as channels.
    notes : list of str
        Grows by the steps that are not carried out.

    Returns
    -------
    tuple of Normalization
        One for all channels of a single input, or one per stacked channel.
    """
    if len(inputs) == 1:
        return (_normalization(inputs[0], notes),)
    stacked: list[Normalization] = []
    for entry in inputs:
        one, channels = _normalization(entry, notes), _channels(entry)
        if one.joint and channels > 1:
            notes.append("inputs of several channels are scaled channel by channel")
        stacked += [one.model_copy(update={"joint": False})] * channels
    return tuple(stacked)


def _normalization(entry: dict[str, Any], notes: list[str]) -> Normalization:
    found = Normalization()
    for step in entry.get("preprocessing") or ():
        name, settings = _step(step)
        known = _known(name, settings)
        if known is not None and found.kind == "none":
            found = known
        elif name == "clip" and found.kind == "percentile" and _is_unit(settings):
            found = found.model_copy(update={"clip": True})
        elif name not in _IGNORED:
            notes.append(f"the step {name} before the network is not carried out")
    return found


def _known(name: str, settings: dict[str, Any]) -> Normalization | None:
    """Translate one preprocessing step, None if it has no counterpart."""
    axes = settings.get("axes")
    joint = axes is None or any(a in ("c", "channel") for a in axes)
    eps = float(settings.get("eps", 1e-6))
    if "mean" in settings and "zero_mean" in name:
        gain = 1.0 / (float(settings["std"]) + eps)
        return Normalization(
            kind="linear", gain=gain, offset=-gain * float(settings["mean"])
        )
    if name == "zero_mean_unit_variance":
        return Normalization(kind="zscore", joint=joint, eps=eps)
    if name == "scale_range" and "reference_tensor" not in settings:
        return Normalization(
            kind="percentile",
            joint=joint,
            low=float(settings.get("min_percentile", 0.0)),
            high=float(settings.get("max_percentile", 100.0)),
            eps=eps,
        )
    if name == "scale_linear":
        return _linear(settings)
    return None


def _is_unit(settings: dict[str, Any]) -> bool:
    """Whether values are clipped to [0, 1]."""
    return (settings.get("min"), settings.get("max")) == (0, 1)


def _linear(settings: dict[str, Any]) -> Normalization | None:
    gain, offset = settings.get("gain", 1.0), settings.get("offset", 0.0)
    if isinstance(gain, list) or isinstance(offset, list):
        return None
    return Normalization(kind="linear", gain=float(gain), offset=float(offset))


def activation(outputs: list[dict[str, Any]], notes: list[str]) -> str:
    """Return the activation declared after the network, none if outputs disagree.

    `notes` grows by the steps that are not carried out.
    """
    found = set()
    for entry in outputs:
        names = [_step(step)[0] for step in entry.get("postprocessing") or ()]
        found.add(next((n for n in names if n in _FINAL), "none"))
        notes += [
            f"the step {n} after the network is not carried out"
            for n in names
            if n not in (*_FINAL, *_IGNORED)
        ]
    return found.pop() if len(found) == 1 else "none"


def _step(step: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return str(step.get("id") or step["name"]), dict(step.get("kwargs") or {})


def _channels(entry: dict[str, Any]) -> int:
    """Count the channels of a tensor: 0.5 names them, 0.4 gives a shape."""
    axes = entry["axes"]
    if isinstance(axes, str):
        shape = entry["shape"]
        sizes = shape if isinstance(shape, list) else shape["min"]
        return int(sizes[axes.index("c")]) if "c" in axes else 1
    named = [a for a in axes if isinstance(a, dict) and a.get("type") == "channel"]
    return len(named[0].get("channel_names") or [None]) if named else 1
