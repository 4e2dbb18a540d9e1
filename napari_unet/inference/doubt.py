"""Where next: what a network is least sure of, and the spots best worth a stroke.

The network looks at the image four times: as it is and mirrored along Y, X and both.
Doubt is how near the two best classes are in the mean of the four (margin sampling,
Scheffer et al. 2001): it is high where every look is undecided, and where the looks
decide differently.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_unet.errors import UsageError
from napari_unet.events import (
    Cancelled,
    CancelToken,
    Finished,
    Preview,
    Progress,
    Started,
    Warned,
)
from napari_unet.images.sinks import ArraySink
from napari_unet.images.views import Flipped
from napari_unet.inference.layout import lay_out
from napari_unet.inference.predict import predict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from napari_unet.config import PredictConfig
    from napari_unet.events import Event
    from napari_unet.images.stack import ImageStack
    from napari_unet.inference.layout import Region
    from napari_unet.networks.network import Network
    from napari_unet.networks.spec import ModelSpec

_BLUR = 4.0  # pixels; a stroke covers a spot, not a pixel of an outline
_NEAR_PAINT = 12  # pixels around paint where nothing more need be painted
_PLANES = 8  # a plane off counts as so many pixels aside
_LOOKS = [(), ("Y",), ("X",), ("Y", "X")]


@dataclass(frozen=True)
class Spot:
    """A place worth painting next.

    Attributes
    ----------
    place : dict
        Position in the image by axis name.
    doubt : float
        Mean doubt around it, 0 to 1.
    """

    place: dict[str, int]
    doubt: float


@dataclass(frozen=True)
class Doubt:
    """What a network is not sure of.

    Attributes
    ----------
    axes : str
        Axes of the maps.
    doubt : numpy.ndarray
        float32, 1 - the difference of the two best classes' mean probabilities.
    disagreement : numpy.ndarray
        float32, how far the looks are from their mean: half the sum over the classes of
        the absolute difference, as the mean over the looks (0 to 1).
    spots : tuple of Spot
        Where to paint next, the most doubtful first.
    """

    axes: str
    doubt: np.ndarray = field(repr=False)
    disagreement: np.ndarray = field(repr=False)
    spots: tuple[Spot, ...]


def where_next(
    stack: ImageStack,
    network: Network,
    config: PredictConfig,
    *,
    region: Region | None = None,
    strokes: ImageStack | None = None,
    number: int = 5,
    cancel: CancelToken | None = None,
) -> Iterator[Event]:
    """Find where a network is least sure.

    Parameters
    ----------
    stack, network, config
        As for `predict`; the kind of result is chosen here.
    region : mapping, optional
        Part of the image, such as the planes in view. Its maps are held in memory.
    strokes : ImageStack, optional
        What is painted, on the axes of the image without C; spots keep off it.
    number : int
        Most spots.
    cancel : CancelToken, optional
        Asks to stop.

    Yields
    ------
    Event
        `Started`, `Warned` and `Progress`, and last `Finished` with a `Doubt`, or
        `Cancelled`.

    Raises
    ------
    UsageError
        If the network does not tell classes apart, or as for `predict`.
    UNetError
        As for `predict`.
    """
    _check(network.spec)
    layout = lay_out(stack, network.spec, config.channels, region)
    # Whole slices only: no axis is dropped, and maps and places keep their order.
    wanted = {axis: slice(*ends) for axis, ends in layout.wanted.items()}
    axes = layout.looped + layout.spatial
    yield Started(f"{stack.name}: looking for doubt", 100, "%")
    looks: list[np.ndarray] = []
    for look, mirrored in enumerate(_LOOKS):
        for event in _look(stack, network, config, wanted, mirrored, cancel):
            if isinstance(event, Cancelled):
                yield event
                return
            if isinstance(event, Progress):
                share = (look + event.done / event.total) / len(_LOOKS)
                yield Progress(100 * share, 100, "%")
            elif isinstance(event, Warned) and look == 0:
                yield event
            elif isinstance(event, Finished):
                looks.append(_chances(event.result, network.spec, mirrored))
    doubt, disagreement = doubt_of(np.stack(looks))
    done = None if strokes is None else _near(strokes, wanted, axes)
    spots = [
        Spot({a: n + wanted[a].start for a, n in spot.place.items()}, spot.doubt)
        for spot in rank(doubt, axes, number, done)
    ]
    yield Finished(Doubt(axes, doubt, disagreement, tuple(spots)))


def doubt_of(looks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Doubt and disagreement of several looks.

    Parameters
    ----------
    looks : numpy.ndarray
        Probabilities, (looks, classes, ...), that sum to 1 over the classes.

    Returns
    -------
    tuple of numpy.ndarray
        Two float32 maps without the first two axes, see `Doubt`.
    """
    mean = looks.mean(0)
    best = np.partition(mean, -2, axis=0)[-2:]
    apart = np.abs(looks - mean).sum(1).mean(0) / 2
    return (1 - (best[1] - best[0])).astype(np.float32), apart.astype(np.float32)


def rank(
    doubt: np.ndarray, axes: str, number: int, done: np.ndarray | None = None
) -> list[Spot]:
    """Find the most doubtful spots, spaced apart.

    Spots are at least an eighth of the longer side of a plane apart, or that many
    eighths of planes.

    Parameters
    ----------
    doubt : numpy.ndarray
        Any map; it is blurred within planes.
    axes : str
        Its axes, Y and X last.
    number : int
        Most spots.
    done : numpy.ndarray, optional
        bool, where no spot is wanted.
    """
    planes = [0.0] * (doubt.ndim - 2)
    left = ndimage.gaussian_filter(doubt, [*planes, _BLUR, _BLUR], mode="nearest")
    if done is not None:
        left[done] = 0
    apart = max(max(doubt.shape[-2:]) // 8, 16)
    reach = [max(apart // _PLANES, 1)] * len(planes) + [apart, apart]
    spots = []
    for _ in range(number):
        at = np.unravel_index(int(left.argmax()), left.shape)
        if left[at] <= 0:
            break
        place = {a: int(n) for a, n in zip(axes, at, strict=True)}
        spots.append(Spot(place, float(left[at])))
        box = tuple(
            slice(max(n - r + 1, 0), n + r) for n, r in zip(at, reach, strict=True)
        )
        left[box] = 0
    return spots


def _check(spec: ModelSpec) -> None:
    """Refuse networks that do not tell classes apart."""
    if spec.task not in ("semantic", "instances"):
        raise UsageError(
            f"The model {spec.name} has no classes to be in doubt of",
            found=f"task {spec.task}",
            expected="semantic or instances",
        )


def _look(
    stack: ImageStack,
    network: Network,
    config: PredictConfig,
    wanted: Mapping[str, slice],
    mirrored: tuple[str, ...],
    cancel: CancelToken | None,
) -> Iterator[Event]:
    """Predict probabilities of the image in a mirror, without the previews."""
    array = Flipped(stack.array, [stack.axes.index(axis) for axis in mirrored])
    seen = dataclasses.replace(stack, array=array, source="", _close=None)
    there = dict(wanted)
    for axis in mirrored:
        size, part = stack.sizes[axis], wanted[axis]
        there[axis] = slice(size - part.stop, size - part.start)
    asked = config.model_copy(update={"kind": "probabilities"})
    sink = ArraySink()
    for event in predict(seen, network, asked, sink, region=there, cancel=cancel):
        if not isinstance(event, Preview):
            yield event


def _chances(
    found: np.ndarray, spec: ModelSpec, mirrored: tuple[str, ...]
) -> np.ndarray:
    """Probabilities of the classes, (classes, ...), the right way round again.

    An instance network's interior and boundary are one class. Each sigmoid output is a
    choice of its own; the least sure one counts.
    """
    chances: np.ndarray = np.moveaxis(found, -3, 0)
    chances = np.flip(chances, tuple({"Y": -2, "X": -1}[axis] for axis in mirrored))
    if spec.task == "instances":
        return np.stack([chances[0], chances[1:].sum(0)])
    if spec.activation == "sigmoid" or len(chances) == 1:
        least = np.abs(chances - 0.5).argmin(0)[None]
        chosen = np.take_along_axis(chances, least, 0)[0]
        return np.stack([1 - chosen, chosen])
    return chances


def _near(strokes: ImageStack, wanted: Mapping[str, slice], axes: str) -> np.ndarray:
    """Where something is painted already, or close by on the same plane."""
    painted = strokes.read({**wanted, **_first_channel(strokes)}, axes) > 0
    size = [1] * (painted.ndim - 2) + [2 * _NEAR_PAINT + 1] * 2
    near: np.ndarray = ndimage.maximum_filter(painted, size)
    return near


def _first_channel(strokes: ImageStack) -> dict[str, int]:
    return {"C": 0} if "C" in strokes.axes else {}
