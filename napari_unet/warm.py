"""What stays loaded between two calls: the last model and the last statistics."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_unet.events import CancelToken
    from napari_unet.images.intensity import Scaling
    from napari_unet.inference.job import Job
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


def scaling(job: Job, cancel: CancelToken) -> Scaling:
    """Measure the intensities of a stack, or take what was measured last.

    So a preview need not wait, and neither need the run after it. Folders, whose every
    file would have to be looked at, are only remembered for parts of them.

    Raises
    ------
    Stopped
        If `cancel` is set meanwhile.
    """
    global _last_scaling
    from napari_unet.batch.inputs import examine
    from napari_unet.inference.job import measure, normalizations

    stack, config, source = job.stack, job.config, Path(job.stack.source)
    if not job.stack.source or (source.is_dir() and _is_whole(job)):
        return measure(job, cancel)
    wanted = normalizations(job.network.spec, config.normalize)
    what = (stack.axes, stack.shape, config.series, job.layout.channels, config.nan)
    state = (examine(source), what, wanted)
    if _last_scaling is None or _last_scaling[0] != state:
        _last_scaling = state, measure(job, cancel)
    return _last_scaling[1]


def _is_whole(job: Job) -> bool:
    """Whether all of a stack is wanted."""
    sizes = job.stack.sizes
    return all(part == (0, sizes[axis]) for axis, part in job.layout.wanted.items())
