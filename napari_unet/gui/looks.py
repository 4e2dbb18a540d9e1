"""Other looks at a result: what its kept probabilities show without the network."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.events import Finished
from napari_unet.execution.protocol import Failed
from napari_unet.gui import tally
from napari_unet.gui.derived import Classes, DoubtMap, laid_out
from napari_unet.gui.state import Look
from napari_unet.gui.tasks import Task
from napari_unet.tasks.decisions import decision_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from napari_unet.config import PredictConfig
    from napari_unet.events import Event
    from napari_unet.gui.layers import Layers
    from napari_unet.gui.results import Results
    from napari_unet.gui.session import Session
    from napari_unet.gui.staging import Staging
    from napari_unet.gui.state import Model
    from napari_unet.tasks.decisions import Decision


@dataclass(eq=False)
class Kept:
    """A result of which the probabilities are kept.

    Attributes
    ----------
    image, suffix : str
        The image and which of its results.
    values : numpy.ndarray
        Probabilities; frames, Z, C, Y, X.
    file : pathlib.Path
        Where they are too.
    decision : Decision
        How they are read.
    model : str
        What made them.
    config : PredictConfig
        With what settings.
    start : mapping of str to int
        First voxel of a part of the image by axis.
    shown : Look
        What the layers show now.
    wanted : Look or None
        What the computing process was asked for.
    classes : Classes
        Labels made of them, on the axes of the layer.
    spatial : tuple of int
        Axes of the layer along which the model sees.
    """

    image: str
    suffix: str
    values: np.ndarray = field(repr=False)
    file: Path
    decision: Decision
    model: str
    config: PredictConfig
    start: Mapping[str, int]
    shown: Look
    classes: Classes
    spatial: tuple[int, ...]
    wanted: Look | None = None

    def remove(self) -> None:
        """Remove the file; one that is still mapped goes with its folder."""
        with contextlib.suppress(OSError):
            self.file.unlink(missing_ok=True)


class Looks:
    """Shows kept results as classes, probabilities, doubt or objects, at once.

    Parameters
    ----------
    session : Session
        Shared with the pages.
    layers : Layers
        Where the image is.
    results : Results
        Shows what comes out.
    staging : Staging
        Has room for objects.
    """

    def __init__(
        self, session: Session, layers: Layers, results: Results, staging: Staging
    ) -> None:
        self._session = session
        self._layers = layers
        self._results = results
        self._staging = staging
        self._kept: dict[str, Kept] = {}
        self._task: Task | None = None
        self._told: object = None

    def choose(self, look: Look) -> None:
        """Show results in another way, those there are and those to come."""
        self._session.update(look=look)
        self.show()

    def keep(
        self,
        image: str,
        suffix: str,
        file: Path,
        model: Model,
        config: PredictConfig,
        start: Mapping[str, int] | None = None,
    ) -> bool:
        """Take the probabilities of the result that was shown last.

        Nothing is taken where there are none, such as from a network that brings a
        procedure of its own.

        Parameters
        ----------
        image, suffix : str
            The image and which of its results.
        file : pathlib.Path
            Belongs to this object from now on; a part of an image is read into memory.
        model : Model
            What made it.
        config : PredictConfig
            With what settings.
        start : mapping of str to int, optional
            Of a part of the image.

        Returns
        -------
        bool
            Whether there were any.
        """
        self.drop(suffix)
        decision = decision_of(model.facts)
        if decision is None or not file.exists():
            return False
        values = np.load(file, mmap_mode=None if start else "r")
        layer = self._layers.layer(image)
        axes = self._layers.axes_of(layer) or ""
        classes = Classes(
            laid_out(values, axes, layer.ndim), decision, config.threshold
        )
        spatial = "ZYX"[-int(model.facts["ndim"]) :]
        self._kept[suffix] = Kept(
            *(image, suffix, values, file, decision, model.path, config, start or {}),
            shown=Look(config.kind, config.threshold),
            classes=classes,
            spatial=tuple(axes.index(a) for a in spatial),
        )
        self.show()
        return True

    def drop(self, suffix: str) -> None:
        """Forget a result and remove its file."""
        if (kept := self._kept.pop(suffix, None)) is not None:
            kept.remove()

    def close(self) -> None:
        """Forget everything; the files go with their folder."""
        self._kept.clear()
        self._task = None

    def has(self, suffix: str, config: PredictConfig) -> bool:
        """Whether a result is kept that shows another kind or threshold as well."""
        return suffix in self._kept and config.kind != "logits"

    def show(self) -> None:
        """Bring the layers of all kept results up to the chosen look, but objects."""
        look = self._session.state.look
        for suffix, kept in list(self._kept.items()):
            if not self._results.shown(kept.image, suffix):
                self.drop(suffix)
            elif look.kind != "instances" and not _is_same(kept.shown, look, kept):
                self._show(kept, look)

    def catch_up(self) -> None:
        """Find objects anew where the look asks for that, and count what is shown."""
        self.show()
        look = self._session.state.look
        for kept in self._kept.values():
            goal = kept.wanted or kept.shown
            if look.kind == "instances" and not _is_same(goal, look, kept):
                self._regroup(kept, look)
                return
        self._count()

    def _show(self, kept: Kept, look: Look) -> None:
        """Show classes, probabilities or doubt."""
        self._give_up(kept)
        kept.classes.threshold = look.threshold
        before, kept.shown = kept.shown, look
        if look.kind == before.kind == "labels" and self._has_classes(kept):
            self._results.refresh(kept.image, kept.suffix)
        elif look.kind != "logits":
            parts: dict[str, list[Any]] = {
                "labels": [kept.classes],
                "doubt": [DoubtMap(kept.classes.values, kept.decision)],
                "probabilities": list(kept.classes.values),
            }
            self._results.put(
                kept.image, kept.suffix, parts[look.kind], look.kind, kept.start
            )

    def _has_classes(self, kept: Kept) -> bool:
        """Whether the layer shows the classes that can be changed at once."""
        shown = self._results.shown(kept.image, kept.suffix)
        return len(shown) == 1 and shown[0].data is kept.classes

    def _regroup(self, kept: Kept, look: Look) -> None:
        """Ask the computing process for objects; the newest wish wins."""
        self._give_up(kept)
        output = self._staging.new_file()
        arguments = {
            "probabilities": str(kept.file),
            "model": kept.model,
            "output": str(output),
            "threshold": look.threshold,
            "split": look.split,
        }
        kept.wanted = look
        task = Task(
            "napari_unet.api:iter_regroup",
            lambda *_: arguments,
            lambda event: self._take(task, kept, output, event),
            turn="first",
        )
        self._task = task
        self._session.tasks.start(task)

    def _give_up(self, kept: Kept) -> None:
        """Want no objects any more that are being looked for."""
        if self._task is not None:
            self._session.tasks.cancel(self._task)
        self._task = kept.wanted = None

    def _take(self, task: Task, kept: Kept, output: Path, event: Event) -> None:
        """Show the objects that were found, unless something else is wanted by now."""
        if isinstance(event, Finished):
            is_wanted = task is self._task and self._kept.get(kept.suffix) is kept
            if is_wanted and self._results.shown(kept.image, kept.suffix):
                found = np.load(output, mmap_mode="r")
                kept.shown, kept.wanted = kept.wanted or kept.shown, None
                self._results.add(
                    *(kept.image, kept.suffix, found, "instances", kept.start),
                    file=output,
                )
                self._count()
                return
            output.unlink(missing_ok=True)
        elif isinstance(event, Failed) and task is self._task:
            self._session.fail(event.error)

    def _count(self) -> None:
        """Count objects and foreground of the newest result, in the background."""
        kept = next(reversed(self._kept.values()), None)
        shown = self._results.shown(kept.image, kept.suffix) if kept else []
        if kept is None or not shown:
            self._session.update(tally="")
            return
        if kept.wanted is not None:
            return
        where = tally.region(self._layers.viewer, shown[0], kept.classes.size)
        wish = (id(kept), kept.shown, str(where))
        if wish == self._told:
            return
        self._told = wish
        ids = kept.shown.kind == "instances"
        data = shown[0].data if ids else _frozen(kept.classes)

        def then(found: Any) -> None:
            if self._told == wish and isinstance(found, str):
                self._session.update(tally=found)

        self._session.tasks.aside(
            lambda: tally.sentence(data, where, kept.spatial, ids=ids), then
        )


def _frozen(classes: Classes) -> Classes:
    """Copy what another thread counts, as the threshold may change meanwhile."""
    return Classes(classes.values, classes.decision, classes.threshold)


def _is_same(one: Look, other: Look, kept: Kept) -> bool:
    """Whether two looks show the same."""
    if one.kind != other.kind:
        return False
    if one.kind in ("probabilities", "doubt", "logits"):
        return True
    if one.kind == "instances" and one.split != other.split:
        return False
    return one.threshold == other.threshold or not kept.decision.has_threshold
