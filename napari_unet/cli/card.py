"""The card that ``predict --plan`` prints for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_unet.inference.forecast import Forecast


def card(forecast: Forecast) -> str:
    """Write what a prediction will take, a line for each cost."""
    shape = " x ".join(map(str, forecast.output_shape))
    lines = {
        "way": forecast.plan,
        "pieces": f"{forecast.pieces:,}",
        "device": forecast.device,
        "memory": f"{_size(forecast.device_bytes)} for the network, "
        f"{_size(forecast.host_bytes)} for pixels on their way and the program",
        "result": f"{shape}, {_size(forecast.output_bytes)} before compression",
        "time": f"about {_duration(forecast.seconds)}",
    }
    return "\n".join(f"{name + ':':8} {text}" for name, text in lines.items())


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
