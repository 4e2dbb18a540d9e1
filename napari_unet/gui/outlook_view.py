"""What a round would train, in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from napari_unet.gui import words

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from napari_unet.gui.state import State


@dataclass(frozen=True)
class OutlookView:
    """The plan of a round, ready to be put into widgets.

    Attributes
    ----------
    title : str
        All of it in a line.
    text : str
        All of it in sentences.
    is_new : bool
        Whether a new network is planned, so that its shape can be chosen.
    hints : mapping of str to str
        What is planned, by setting.
    """

    title: str
    text: str
    is_new: bool
    hints: Mapping[str, str] = field(default_factory=dict)


def outlook_view(state: State) -> OutlookView:
    """Decide what is said of the next round."""
    is_new = state.start is None
    title = "New U-Net" if is_new else "Patches"
    plan = state.outlook
    if plan is None:
        return OutlookView(title, "It is planned once strokes are painted.", is_new)
    if plan.trouble:
        return OutlookView(title, plan.trouble, is_new)
    facts = plan.facts
    short = _network(facts) if is_new else _patches(facts, noun="")
    text = "\n".join(_lines(facts, is_new))
    return OutlookView(f"{title}: {short}", text, is_new, _hints(facts))


def _lines(facts: Mapping[str, Any], is_new: bool) -> Iterator[str]:
    """Tell the network, the patches, what it was planned from, and notes."""
    if "widths" in facts:
        channels = ", ".join(map(str, facts["widths"]))
        yield f"{len(facts['axes'])}D, {_poolings(facts)}; {channels} channels."
    memory = facts["memory"]
    takes = f", about {words.size(memory)} of memory" if memory else ""
    yield f"Each step learns from {_patches(facts)}{takes}."
    sees = _sizes(facts["receptive_field"])
    yield f"{words.grouped(facts['weights'])} weights; a pixel is judged by {sees} px."
    if is_new:
        yield f"Planned from {_origin(facts)}. What you set below is taken instead."
    yield from facts["notes"]


def _network(facts: Mapping[str, Any]) -> str:
    """Say in a few words what a network is."""
    first, last = facts["widths"][0], facts["widths"][-1]
    return f"{len(facts['axes'])}D, {first}–{last} channels"


def _poolings(facts: Mapping[str, Any]) -> str:
    """Say how often the axes are halved, each for itself where that differs."""
    counts = _halvings(facts)
    if len(set(counts)) == 1:
        return words.count(counts[0], "pooling")
    each = zip(facts["axes"], counts, strict=True)
    return "poolings " + ", ".join(f"{axis} {n}" for axis, n in each)


def _halvings(facts: Mapping[str, Any]) -> list[int]:
    """How often each axis is halved."""
    return [
        sum(stride[n] > 1 for stride in facts["strides"])
        for n in range(len(facts["axes"]))
    ]


def _patches(facts: Mapping[str, Any], noun: str = "patch") -> str:
    """Say how many patches of which size."""
    count = words.count(facts["batch"], noun) if noun else str(facts["batch"])
    return f"{count} of {_sizes(facts['patch'])} px"


def _origin(facts: Mapping[str, Any]) -> str:
    """Say what a network was planned from."""
    noun = "object" if facts["painted_as"] == "instances" else "class"
    images = words.count(facts["images"], "image")
    about = "of" if facts["images"] == 1 else "of about"
    text = f"{words.count(facts['painted'], noun)} painted on {images} {about} "
    text += f"{_sizes(facts['typical_size'])} px"
    spacing = facts["typical_spacing"]
    ratio = spacing.get("Z", 0) / spacing["X"] if spacing.get("X") else 0
    if ratio and len(facts["axes"]) == 3:
        text += f", planes {ratio:.2g} pixels apart"
    return text


def _hints(facts: Mapping[str, Any]) -> dict[str, str]:
    """Write what is planned for each setting."""
    hints = {
        "ndim": str(len(facts["axes"])),
        "patch": ", ".join(map(str, facts["patch"])),
        "batch": str(facts["batch"]),
    }
    if "widths" in facts:
        hints |= {
            "depth": str(len(facts["strides"])),
            "width": str(facts["widths"][0]),
            "poolings": ", ".join(map(str, _halvings(facts))),
        }
    return hints


def _sizes(numbers: list[int]) -> str:
    """Write a size along several axes."""
    return " × ".join(map(str, numbers))
