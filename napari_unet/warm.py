"""What stays loaded between two calls: the last model and the last statistics."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_unet.config import PredictConfig
    from napari_unet.events import CancelToken
    from napari_unet.images.intensity import Scaling
    from napari_unet.images.stack import ImageStack
    from napari_unet.networks.network import Network

_last: tuple[object, Network] | None = None
_last_scaling: tuple[object, Scaling] | None = None


def network(model: str | Path | Network) -> Network:
    """Load a model, or take the one used last if its file has not changed."""
    global _last
    from napari_unet import checkpoints

    if not isinstance(model, (str, Path)):
        return checkpoints.load(model)
    from napari_unet.batch.inputs import examine

    path = Path(model).resolve()
    state = [examine(p) for p in (path, path.with_suffix(".unet.json"))]
    if _last is None or _last[0] != state:
        _last = state, checkpoints.load(path)
    return _last[1]


def scaling(
    stack: ImageStack,
    network: Network,
    config: PredictConfig,
    cancel: CancelToken | None,
) -> Scaling | None:
    """Take the intensity scaling measured last, so that a preview need not wait."""
    global _last_scaling
    from napari_unet.batch.inputs import examine
    from napari_unet.images import intensity
    from napari_unet.inference.job import normalizations
    from napari_unet.inference.layout import lay_out

    if not stack.source or network.spec.recipe is not None:
        return None
    wanted = normalizations(network.spec, config.normalize)
    channels = lay_out(stack, network.spec, config.channels).channels
    what = (stack.axes, stack.shape, config.series, channels, config.nan)
    state = (examine(Path(stack.source)), what, wanted)
    if _last_scaling is None or _last_scaling[0] != state:
        found = intensity.measure(
            stack, wanted, channels=channels, nan=config.nan, cancel=cancel
        )
        if cancel is not None and cancel.is_set():
            return None
        _last_scaling = state, found
    return _last_scaling[1]
