"""What the runs of one network in this process share, so that their values agree.

A part of an image that is asked for before a run, or between two of its pieces, is
computed by the same placed network and cut by the same decision, and so gets the values
of the run.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from napari_unet.inference import footprint, tiling
from napari_unet.inference.plan import Plan, plan

if TYPE_CHECKING:
    from napari_unet.config import PredictConfig
    from napari_unet.inference.plan import Memory
    from napari_unet.inference.tiling import Range
    from napari_unet.networks.network import Network


@dataclass
class _Kept:
    """What is kept of one network as long as its weights stay as they are."""

    state: tuple[int, int]
    placed: dict[tuple[str, str], Network] = field(default_factory=dict)
    per_pixel: float = 0.0
    plans: dict[object, Plan] = field(default_factory=dict)
    reduced: dict[object, Any] = field(default_factory=dict)


_all: WeakKeyDictionary[Network, _Kept] = WeakKeyDictionary()


def _of(network: Network) -> _Kept:
    state = _state(network)
    if network not in _all or _all[network].state != state:
        _all[network] = _Kept(state)
    return _all[network]


def _state(network: Network) -> tuple[int, int]:
    """Tell the module and how often its weights were changed in place."""
    module = network.module
    tensors = itertools.chain(module.parameters(), module.buffers())
    return id(module), sum(t._version for t in tensors if not t.is_inference())


def placed(network: Network, device: str, precision: str) -> Network:
    """Place a network, once for each device and arithmetic; see `Network.place`."""
    copies = _of(network).placed
    if (device, precision) not in copies:
        copies[device, precision] = network.place(device, precision)
    return copies[device, precision]


def per_pixel(network: Network) -> float:
    """Measure `footprint.bytes_per_pixel`, once."""
    kept = _of(network)
    kept.per_pixel = kept.per_pixel or footprint.bytes_per_pixel(
        network, tiling.grids(network.geometry)
    )
    return kept.per_pixel


def reduced(network: Network, device: str, plan: Plan) -> Any:
    """Return what runs with this plan came to on a device; None where it fits.

    Plans stay as they are, because whether a frame is cut decides some values.
    """
    return _of(network).reduced.get(_size(device, plan))


def remember(network: Network, device: str, plan: Plan, reduced: Any) -> None:
    """Let the next run with this plan begin with the sizes that a device has room for.

    It is forgotten with the process, since a device may have been full of other things.
    """
    if reduced is not None:
        _of(network).reduced[_size(device, plan)] = reduced


def _size(device: str, plan: Plan) -> object:
    return device, plan.way, plan.tile, plan.chunk


def planned(
    network: Network,
    size: tuple[int, ...],
    config: PredictConfig,
    memory: Memory,
    target: tuple[Range, ...] | None = None,
) -> Plan:
    """Plan as `napari_unet.inference.plan.plan`, with the decision of the first run.

    Whether a frame is taken whole or blended is asked of the free memory, which is less
    while another run is under way; the values of networks without exact tiles depend on
    the answer. So it stands for frames of one size, as long as they fit at all.
    """
    geometry, kept = network.geometry, _of(network).plans
    is_open = not geometry.exact and config.tiling == "auto" and config.tile is None
    key = (size, config.device, config.memory)
    before = kept.get(key) if is_open else None
    if before is not None and before.way in ("whole", "blend"):
        settled = config.model_copy(update={"tiling": before.way})
        again = plan(size, geometry, settled, memory, target)
        if before.way == "blend" or again.peak <= 2 * memory.budget:
            return replace(again, reason=before.reason)
    chosen = plan(size, geometry, config, memory, target)
    if is_open:
        kept[key] = chosen
    return chosen
