"""What a user can do in the dock, without Qt: every button is one method of a page."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any

from napari_unet.errors import UNetError
from napari_unet.gui.auditing import Auditing
from napari_unet.gui.batching import Batching
from napari_unet.gui.boxes import Boxes
from napari_unet.gui.compare import Compare
from napari_unet.gui.doubting import Doubting
from napari_unet.gui.file_facts import FileReader
from napari_unet.gui.file_opening import Opening
from napari_unet.gui.glimpses import Glimpses
from napari_unet.gui.keeping import Keeping
from napari_unet.gui.looks import Looks
from napari_unet.gui.lost_strokes import LostStrokes
from napari_unet.gui.measuring import Measuring
from napari_unet.gui.models import Models
from napari_unet.gui.outlooks import Outlooks
from napari_unet.gui.painting import Painting
from napari_unet.gui.planning import Planning
from napari_unet.gui.predicting import Predicting
from napari_unet.gui.previews import Previews
from napari_unet.gui.projects import Projects
from napari_unet.gui.recent import Recent
from napari_unet.gui.results import Results, collect, warm_up
from napari_unet.gui.session import Session
from napari_unet.gui.staging import Staging
from napari_unet.gui.stroke_layers import StrokeLayers
from napari_unet.gui.tasks import Tasks
from napari_unet.gui.teaching import Teaching
from napari_unet.gui.training import Training
from napari_unet.gui.versions import Versions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from napari_unet.execution.protocol import Runner
    from napari_unet.gui.layers import Layers
    from napari_unet.gui.session import Notify

_LARGE = 16 << 20
"""Pixels from which on what is in view is predicted before the rest."""


class Controller:
    """The dock's actions: here those on the image, the others by page.

    Parameters
    ----------
    layers : Layers
        The viewer's layers.
    runner : Runner
        Where jobs compute.
    folder : pathlib.Path
        Private folder for pixels on their way; removed by `close`.
    rounds : pathlib.Path
        Where new checkpoints are kept.
    recovery : pathlib.Path
        Where strokes are kept that have no project.
    post : callable
        Calls a function on the main thread, soon.
    background : callable
        Calls a function on another thread.
    notify : callable
        Shows a message outside the dock: (``"error"`` or ``"info"``, text).

    Attributes
    ----------
    session : Session
        The state, and what runs.
    models, predicting, previews, looks, measuring, planning, training, batch
        What can be done with models and on each page.
    projects, keeping, lost, painting, boxes
        What can be done with strokes and the project they are kept in.
    versions, compare, doubting, auditing, outlooks
        What can be done with rounds and strokes on the Train page.
    opening : Opening
        Opens files in the viewer.
    strokes : StrokeLayers
        The stroke layers of the viewer.
    """

    def __init__(
        self,
        layers: Layers,
        runner: Runner,
        folder: Path,
        rounds: Path,
        recovery: Path,
        *,
        post: Callable[[Callable[[], None]], None],
        background: Callable[[Callable[[], None]], None],
        notify: Notify,
    ) -> None:
        self.session = session = Session(Tasks(runner, post, background), notify)
        self.strokes = StrokeLayers(layers)
        self.projects = projects = Projects(session, layers, self.strokes, recovery)
        self.keeping = keeping = Keeping(session, self.strokes, projects)
        self.lost = LostStrokes(session, projects, recovery)
        self.boxes = Boxes(session, layers, projects, keeping)
        self.painting = Painting(
            session, layers, self.strokes, projects, keeping, self.boxes
        )
        self.models = models = Models(session, Recent(rounds / "recent.json"))
        self.batch = Batching(session)
        self.opening = Opening(session, layers)
        self._is_warm = False
        self._files = FileReader(session, layers, self.refresh)
        self._layers = layers
        self._staging = staging = Staging(folder)
        results = Results(layers)
        self.looks = looks = Looks(session, layers, results, staging)
        self.measuring = Measuring(session, layers, results, staging)
        self.predicting = Predicting(session, layers, results, looks, staging)
        self.previews = Previews(session, layers, results, looks, staging)
        self.planning = Planning(session, layers)
        teaching = Teaching(session, layers, self.strokes, projects, keeping, staging)
        glimpses = Glimpses(session, layers, results, staging)
        self.versions = versions = Versions(
            session, models, lambda: projects.rounds_folder or rounds, glimpses.refresh
        )
        self.outlooks = Outlooks(session, teaching)
        self.training = Training(
            session, teaching, projects, models, versions, glimpses
        )
        self.compare = Compare(session, layers, results, glimpses)
        self.doubting = Doubting(session, layers, self.strokes, results, staging)
        self.auditing = Auditing(session, layers, projects, keeping, teaching)
        layers.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Look at the viewer's layers again."""
        state = self.session.state
        images = self._layers.images()
        image = state.image.name if state.image else ""
        if image not in images:
            image = self._layers.active_image() or (images[0] if images else "")
        self.session.update(
            images=images,
            image=self._layers.image(image) if image else None,
        )
        self.painting.refresh()

    def catch_up(self) -> None:
        """Do what follows from a change of the view, the model or the settings.

        Called a moment after the last change, and often in vain.
        """
        if self.session.state.model is not None and not self._is_warm:
            self._is_warm = True
            self.session.tasks.aside(warm_up, collect)
        if self._files.catch_up():
            return
        self.lost.look()
        self.looks.catch_up()
        self.previews.catch_up()
        self.planning.catch_up()
        self.outlooks.catch_up()
        self.doubting.catch_up()
        self.versions.catch_up()
        self.training.catch_up()

    def predict_all(self, settings: Mapping[str, Any]) -> None:
        """Predict the whole image, what the canvas shows of a large one first."""
        self.predicting.predict(settings)
        image = self.session.state.image
        if self.session.state.activity is None or image is None or not image.flat:
            return
        with contextlib.suppress(UNetError):  # nothing of it is in view
            region = self._layers.visible_region(image.name)
            seen = math.prod(part.stop - part.start for part in region.values())
            total = math.prod(image.plane_shape)
            if total > _LARGE and seen < total / 4:
                self.previews.ask(settings)

    def choose_image(self, name: str) -> None:
        """Work on another image; its own strokes are chosen with it."""
        state = self.session.state
        if state.image is not None and state.image.name == name:
            return
        self.session.update(
            image=self._layers.image(name),
            strokes=None,
            channels=None,
            suspects=tuple(s for s in state.suspects if s.picture),
        )
        self.refresh()

    def set_axes(self, axes: str) -> None:
        """Take the axes of the image from the user."""
        image = self.session.state.image
        if image is None:
            return
        if self.session.attempt(lambda: self._layers.set_axes(image.name, axes)):
            self.session.say("")
            self.refresh()

    def set_channels(self, channels: tuple[int, ...] | None) -> None:
        """Choose the channels that feed the network."""
        self.session.update(channels=channels)

    def set_from_scratch(self, scratch: bool) -> None:
        """Choose whether training makes a new network."""
        self.session.update(from_scratch=scratch)

    def stop(self) -> None:
        """Stop what runs."""
        self.session.stop()

    def close(self) -> None:
        """Stop what runs, end the computing process and remove private files."""
        self.session.tasks.close(self._staging.put_away())
        self.projects.close()
        self.previews.close()
        self.looks.close()
        self.planning.close()
        self.outlooks.close()
        self.session.update(activity=None, aside=None, live=False)
