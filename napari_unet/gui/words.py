"""Axes and models in words, without Qt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_LETTERS = {
    "t": "T",
    "time": "T",
    "frame": "T",
    "z": "Z",
    "depth": "Z",
    "plane": "Z",
    "slice": "Z",
    "c": "C",
    "ch": "C",
    "channel": "C",
    "channels": "C",
    "y": "Y",
    "row": "Y",
    "height": "Y",
    "x": "X",
    "column": "X",
    "col": "X",
    "width": "X",
    "p": "P",
    "position": "P",
}
_PLANES = {"Z": "plane", "T": "time point", "C": "channel", "P": "position"}
LOOKS = {
    "labels": "Classes",
    "probabilities": "Probabilities",
    "doubt": "Doubt",
    "instances": "Separate objects",
    "logits": "Raw scores (logits)",
}


def axes_of(labels: Sequence[str]) -> str | None:
    """Read axes from the axis labels of a layer.

    Parameters
    ----------
    labels : sequence of str
        Such as ``("z", "y", "x")`` or ``("time", "y", "x")``; the labels that napari
        gives by itself, ``("-3", "-2", "-1")``, mean nothing.

    Returns
    -------
    str or None
        One capital letter an axis, None if a label means nothing or two are equal, or
        if Y or X is missing. Two axes without names are ``"YX"``.
    """
    letters = [_LETTERS.get(label.strip().lower(), "") for label in labels]
    axes = "".join(letters)
    if all(letters) and len(set(axes)) == len(axes) and {"Y", "X"} <= set(axes):
        return axes
    return "YX" if len(letters) == 2 and not axes else None


def choices(ndim: int) -> dict[str, str]:
    """Offer axes in words for an image with `ndim` unnamed axes."""
    if ndim == 3:
        return {"Z-stack": "ZYX", "Time series": "TYX", "Channels": "CYX"}
    return {
        "Z-stacks over time": "TZYX",
        "Z-stack, channels": "ZCYX",
        "Channels, Z-stack": "CZYX",
        "Time, channels": "TCYX",
    }


def describe(axes: str, shape: Sequence[int]) -> str:
    """Say what an image is, such as ``"Z-stack, 40 planes, 1 channel"``."""
    sizes = dict(zip(axes, shape, strict=True))
    kind = "Z-stack" if "Z" in sizes else "Image"
    if "T" in sizes:
        kind = "Time series" + (" of Z-stacks" if "Z" in sizes else "")
    counted = [count(sizes[a], _PLANES.get(a, f"{a} step")) for a in axes if a in "TZP"]
    plane = f"{sizes['Y']} × {sizes['X']} px"
    return ", ".join([kind, *counted, plane, count(sizes.get("C", 1), "channel")])


def count(number: int, noun: str) -> str:
    """Count things, such as ``"1 channel"`` or ``"2 classes"``."""
    plural = noun + ("es" if noun.endswith(("s", "x", "ch")) else "s")
    return f"{grouped(number)} {noun if number == 1 else plural}"


def grouped(number: int) -> str:
    """Write a number with its thousands apart, such as ``"2 769"``."""
    return f"{number:,}".replace(",", " ")


def model_line(facts: Mapping[str, Any]) -> str:
    """Say what a model is, ``"2D · 1 channel → 2 classes"``, and where it runs."""
    inputs = count(int(facts["in_channels"]), "channel")
    line = f"{facts['ndim']}D · {inputs} → {_outputs(facts)}"
    return f"{line}\nRuns on {facts['device']}" if facts.get("device") else line


def short(name: str, most: int = 30) -> str:
    """Shorten a name in its middle to at most so many letters."""
    if len(name) <= most:
        return name
    end = most // 2
    return f"{name[: most - end - 1]}…{name[-end:]}"


def _outputs(facts: Mapping[str, Any]) -> str:
    """Say what a model gives."""
    if facts.get("task") in ("instances", "flows"):
        return "separate objects"
    number = int(facts["out_channels"])
    if facts.get("task") == "restoration":
        return "restored image"
    if facts.get("activation") == "sigmoid":
        return count(number, "kind") + " of object"
    return count(number, "class")


def best_kind(facts: Mapping[str, Any]) -> str:
    """Choose the kind of result that a model is made for."""
    kinds = {"instances": "instances", "flows": "instances", "restoration": "logits"}
    return kinds.get(str(facts.get("task")), "labels")


def size(count: int) -> str:
    """Write a number of bytes, such as ``"1.2 GB"``."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count / 1e3:.0f} kB"


def seconds(value: float) -> str:
    """Write a span of time, such as ``"42 s"`` or ``"3 min"``."""
    if value < 90:
        return f"{max(1, round(value))} s"
    if value < 90 * 60:
        return f"{round(value / 60)} min"
    return f"{value / 3600:.1f} h"


_KEPT = {
    "train": "Training stops after its next step and keeps the best so far as a round.",
    "batch": "What is done is kept; run it again to go on with the rest.",
    "predict": "What is computed so far is not kept.",
}


def what_is_kept(kind: str) -> str:
    """Say what is left of a job of this kind that is stopped."""
    return _KEPT.get(kind, "It can be done again.")
