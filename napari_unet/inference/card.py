"""The words of a plan, the same on the command line and in the dock.

Needs neither torch nor the plan itself, only its facts as plain values, so that they
can come from another process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_WAYS = {
    "whole": "whole frames",
    "stream": "streamed",
    "exact": "exact tiles",
    "blend": "blended patches",
}


def lines(facts: Mapping[str, Any]) -> dict[str, str]:
    """Say what a prediction will take, a line for each cost.

    Parameters
    ----------
    facts : mapping
        Fields of `napari_unet.inference.forecast.Forecast` by name.
    """
    shape = " x ".join(map(str, facts["output_shape"]))
    return {
        "way": facts["plan"],
        "pieces": f"{facts['pieces']:,}",
        "device": facts["device"],
        "memory": f"{_size(facts['device_bytes'])} for the network, "
        f"{_size(facts['host_bytes'])} for pixels on their way and the program",
        "result": f"{shape}, {_size(facts['output_bytes'])} before compression",
        "time": f"about {_duration(facts['seconds'])}",
    }


def summary(facts: Mapping[str, Any]) -> str:
    """Say it in one line, such as ``"streamed · 64 pieces · about 3 min · 1.2 GB"``."""
    count = facts["pieces"]
    pieces = "1 piece" if count == 1 else f"{count:,} pieces"
    memory = _size(facts["device_bytes"] + facts["host_bytes"])
    time = f"about {_duration(facts['seconds'])}"
    return " · ".join([_WAYS[facts["way"]], pieces, time, f"{memory} of memory"])


def _size(count: int) -> str:
    """Write bytes for a person."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count / 1e3:.0f} kB"


def _duration(seconds: float) -> str:
    """Write a time for a person."""
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 1 else "a second"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.1f} h"
