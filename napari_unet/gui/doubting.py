"""Where to paint next: a map of doubt, and the spots that teach most, one by one."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from napari_unet.config import PredictConfig
from napari_unet.errors import ImageError, UNetError
from napari_unet.events import Cancelled, Event, Finished
from napari_unet.execution.protocol import Failed
from napari_unet.gui import buttons
from napari_unet.gui.tasks import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from napari_unet.events import CancelToken
    from napari_unet.gui.layers import Layers
    from napari_unet.gui.results import Results
    from napari_unet.gui.session import Session
    from napari_unet.gui.staging import Staging
    from napari_unet.gui.state import Model
    from napari_unet.gui.stroke_layers import StrokeLayers
    from napari_unet.gui.tasks import Prepare

    _Place = tuple[str, Model, Mapping[str, slice]]
_DEPTH = 16
"""Planes that a 3D network looks at on each side of the one in view."""
_LARGEST = 4096
"""Longest side of a plane that is looked at as a whole; of others, what is in view."""
_SUFFIX = "doubt"
_JOB = "napari_unet.api:iter_where_next"


@dataclass(frozen=True)
class _Found:
    """Spots of one look, and those still to be visited."""

    image: str
    model: Model
    looked: Mapping[str, slice]
    spots: tuple[Mapping[str, int], ...] = field(default=())


class Doubting:
    """Flies to where the model is least sure.

    Parameters
    ----------
    session : Session
        Shared with the pages.
    layers : Layers
        Where the image is.
    strokes : StrokeLayers
        What is painted; spots keep off it.
    results : Results
        Shows the map.
    staging : Staging
        Takes pixels to the computing process.
    """

    def __init__(
        self,
        session: Session,
        layers: Layers,
        strokes: StrokeLayers,
        results: Results,
        staging: Staging,
    ) -> None:
        self._session = session
        self._layers = layers
        self._strokes = strokes
        self._results = results
        self._staging = staging
        self._found: _Found | None = None
        self._seen: object = None
        self._task: Task | None = None

    def next_spot(self) -> None:
        """Go to the next spot; look for spots where none is left on these planes."""
        if not self._visit():
            self._session.attempt(self._look)

    def show(self, shown: bool) -> None:
        """Show the map of doubt over the image, or take it away."""
        self._session.update(doubt=shown)
        self._seen, self._task = None, None
        state = self._session.state
        if state.image is not None and not shown:
            self._results.remove(state.image.name, _SUFFIX)
        elif shown:
            self._found = None
            self._session.attempt(self._look)

    def catch_up(self) -> None:
        """Make the map anew, in spare time, for other planes or another model."""
        state = self._session.state
        if not state.doubt or state.activity is not None or state.image is None:
            return
        if not buttons.next_spot(state).enabled or self._is_known():
            return
        if not self._session.tasks.spare_time_is_used:
            self._session.attempt(self._look_again)

    def _is_known(self) -> bool:
        """Whether the map, or its failure, is that of the view."""
        state = self._session.state
        assert state.image is not None
        now = (state.image.name, state.model, self._region(state.image.name))
        return now == self._seen

    def _visit(self) -> bool:
        """Go to a spot that was found for this model on the planes in view."""
        state, found = self._session.state, self._found
        if found is None or state.image is None or state.model is None:
            return False
        here = (state.image.name, state.model)
        if (found.image, found.model) != here or not found.spots:
            return False
        if self._region(state.image.name) != found.looked:
            return False
        spot, *rest = found.spots
        self._found = _Found(*here, found.looked, tuple(rest))
        try:
            self._layers.go_to(state.image.name, spot)
        except ImageError as error:
            self._session.say(str(error), "bad")
            return True
        left = f"; {len(rest)} more" if rest else ", the last of these"
        self._session.say(f"The model is in doubt here{left}. Paint what it is.")
        return True

    def _look(self) -> None:
        """Look for doubt on the planes in view, and go to the first spot."""
        if self._session.is_busy():
            return
        prepare, place = self._asked()
        self._session.begin(
            *("doubt", "Looking for doubt", _JOB, prepare),
            lambda result: self._tell(result, place),
        )

    def _look_again(self) -> None:
        """Look for doubt on the planes in view, and say nothing."""
        prepare, place = self._asked()
        self._seen = place
        task = Task(
            _JOB, prepare, lambda event: self._take(task, event, place), turn="last"
        )
        self._task = task
        self._session.tasks.start(task)

    def _asked(self) -> tuple[Prepare, _Place]:
        """Take hold of what is looked at."""
        state = self._session.state
        assert state.image is not None
        assert state.model is not None
        image, model = state.image.name, state.model
        config = PredictConfig.build(**(state.settings or {}), channels=state.channels)
        pixels, region = self._layers.pixels(image), self._region(image)
        painted = None
        if state.strokes is not None and state.strokes.fits:
            painted = self._strokes.pixels(state.strokes.name, image)

        def prepare(token: CancelToken, progress: Callable[[float], None]) -> Any:
            source = self._staging.source(pixels, token, progress)
            strokes = painted and self._staging.source(painted, token, progress)
            return {
                "image": source,
                "model": model.path,
                "config": config,
                "region": region,
                "strokes": strokes,
            }

        return prepare, (image, model, region)

    def _tell(self, result: Mapping[str, Any], place: _Place) -> str:
        """Take what was found, and go to the first spot."""
        self._keep(result, place)
        if self._found is None or not self._found.spots:
            return "The model is in doubt nowhere here that is not painted"
        self._visit()
        return ""

    def _take(self, task: Task, event: Event, place: _Place) -> None:
        """Take what was found in spare time, if it is still wanted."""
        if task is not self._task:
            return
        if isinstance(event, Finished):
            with contextlib.suppress(UNetError):  # the image is gone
                self._keep(event.result, place)
        elif isinstance(event, Cancelled):  # another job took its place
            self._seen = None
        elif isinstance(event, Failed):
            self._session.say(str(event.error), "bad")

    def _keep(self, result: Mapping[str, Any], place: _Place) -> None:
        """Keep the spots, and show the map if it is wanted."""
        image, _, region = self._seen = place
        spots = tuple(spot["place"] for spot in result["spots"])
        self._found = _Found(*place, spots)
        if self._session.state.doubt:
            start = {axis: part.start for axis, part in region.items()}
            self._results.add(image, _SUFFIX, result["doubt"], "doubt", start)

    def _region(self, image: str) -> dict[str, slice]:
        """List the planes in view, whole if they are not very large."""
        region = self._layers.visible_region(image)
        state = self._session.state
        sizes = state.image.sizes if state.image else {}
        solid = state.model is not None and int(state.model.facts["ndim"]) == 3
        if max(sizes.get(axis, 1) for axis in "YX") <= _LARGEST:
            region |= {axis: slice(0, sizes[axis]) for axis in "YX"}
        if solid and "Z" in region:
            low, high = region["Z"].start - _DEPTH, region["Z"].stop + _DEPTH
            region["Z"] = slice(max(low, 0), min(high, sizes["Z"]))
        return region
