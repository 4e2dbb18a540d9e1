"""The upper half of the Train page's actions: strokes, and the classes to paint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_unet.errors import UNetError, UsageError
from napari_unet.gui import guessing, legend, words
from napari_unet.gui.pointing import Pointing
from napari_unet.projects.schema import StrokeClass, new_class

if TYPE_CHECKING:
    from napari_unet.gui.boxes import Boxes
    from napari_unet.gui.keeping import Keeping
    from napari_unet.gui.layers import Layers
    from napari_unet.gui.projects import Projects
    from napari_unet.gui.session import Session
    from napari_unet.gui.stroke_layers import StrokeLayers
    from napari_unet.projects.schema import Kind

_MOST_IN_BYTE = 255
_LARGEST_TO_GUESS = 64 << 20


class Painting:
    """Makes stroke layers, chooses what is painted and knows what was.

    Parameters
    ----------
    session : Session
        Shared with the other pages.
    layers : Layers
        Where the images are.
    strokes : StrokeLayers
        Where the strokes are.
    projects : Projects
        Has them.
    keeping : Keeping
        Keeps them.
    boxes : Boxes
        Shows the boxes of an image with its strokes.
    """

    def __init__(
        self,
        session: Session,
        layers: Layers,
        strokes: StrokeLayers,
        projects: Projects,
        keeping: Keeping,
        boxes: Boxes,
    ) -> None:
        self._session = session
        self._layers = layers
        self._strokes = strokes
        self._projects = projects
        self._keeping = keeping
        self._boxes = boxes
        self._pointing = Pointing(layers)
        self._guessed: tuple[str, frozenset[int]] | None = None
        projects.on_show(self._shown)

    def refresh(self) -> None:
        """Look at the layers again; an image's own strokes are chosen first."""
        state = self._session.state
        names = self._strokes.names()
        image = state.image.name if state.image else ""
        self._session.update(
            stroke_layers=names,
            results=bool(image) and self._pointing.prediction(image) is not None,
            points=self._pointing.points() is not None,
        )
        chosen = state.strokes.name if state.strokes else ""
        if chosen not in names:
            own = [name for name in names if name.startswith(f"{image} · ")]
            chosen = own[0] if own else (names[0] if names else "")
        self.choose(chosen)

    def new(self) -> None:
        """Add a stroke layer to the image, or go on with the one it has."""
        image = self._session.state.image
        if image is not None and image.axes is not None:
            self._session.attempt(lambda: self._new(image.name))

    def _new(self, image: str) -> None:
        """Show the strokes that the project has of an image, ready to be painted on."""
        name = f"{image} · strokes"
        if name not in self._strokes.names():
            picture, strokes = self._projects.strokes_of(image)
            shown = self._strokes.of_picture(picture)
            name = shown or self._strokes.new(image, strokes, picture)
            self._boxes.show(image, picture)
        self.choose(name)
        self.paint(self._session.state.painting)
        self._session.say(
            "Paint some background, then click object and paint some of those."
        )

    def _shown(self, image: str, picture: str) -> None:
        """Choose strokes that a project shows, and show their boxes."""
        self._boxes.show(image, picture)
        self.refresh()
        self.choose(self._strokes.of_picture(picture))

    def choose(self, name: str) -> None:
        """Learn from another stroke layer."""
        state = self._session.state
        if not name or state.image is None:
            self._session.update(strokes=None)
            return
        self._strokes.dress(name, state.classes, legend.kind(state) == "instances")
        self._session.update(strokes=self._strokes.facts(name, state.image.name))
        self._guess()

    def recount(self) -> bool:
        """Count what was painted since; whether that is all there is to count."""
        strokes = self._session.state.strokes
        if strokes is None:
            return True
        self.choose(strokes.name)
        now = self._session.state.strokes
        return now is None or now.counted

    def paint(self, number: int) -> None:
        """Paint a class."""
        strokes = self._session.state.strokes
        if strokes is not None:
            self._keeping.check_disk()
            self._strokes.paint(strokes.name, number)
        self._session.update(painting=number)

    def start(self) -> None:
        """Take the brush: a class that is not painted yet, or a new object."""
        state = self._session.state
        counts = state.strokes.counts if state.strokes else {}
        if legend.kind(state) == "instances":
            self.paint(self._next_object(counts))
            return
        empty = [row.number for row in legend.legend(state) if not row.pixels]
        keep = counts.get(state.painting, 0) == 0 or not empty
        self.paint(state.painting if keep else empty[0])

    def add_class(self) -> None:
        """Offer one more class."""
        classes = self._session.state.classes
        numbers = [row.number for row in legend.legend(self._session.state)]
        number = 1 + max(numbers, default=0)
        if number > _MOST_IN_BYTE:
            self._session.fail(UsageError("There are no more than 255 classes"))
            return
        self._set_classes((*classes, new_class(number)))
        self.paint(number)

    def change_class(self, number: int, **fields: Any) -> None:
        """Rename, recolour, hide or show a class."""
        classes = {known.number: known for known in self._session.state.classes}
        try:
            known = classes.get(number, new_class(number))
            classes[number] = StrokeClass(**{**dict(known), **fields})
        except ValueError:
            self._session.fail(UsageError("The class cannot be changed so"))
            return
        self._set_classes(tuple(classes[n] for n in sorted(classes)))

    def remove_class(self, number: int) -> None:
        """Take a class out, and what is painted of it."""
        state = self._session.state
        if state.strokes is not None and state.strokes.counts.get(number):
            self._strokes.erase(state.strokes.name, number)
        rest = tuple(c for c in state.classes if c.number != number)
        self._set_classes(rest)
        self.recount()
        if state.painting == number:
            self.paint(1)

    def set_kind(self, kind: Kind) -> None:
        """Say whether stroke ids are classes or objects, or let it be found out."""
        self._session.update(kind=kind)
        self._projects.change(kind=kind)
        self._widen()
        self.recount()

    def accept(self) -> None:
        """Copy what is predicted under the cursor into the strokes."""
        self._session.attempt(self._accept)

    def _accept(self) -> None:
        """Paint the predicted object, or the background under the brush."""
        state = self._session.state
        if state.image is None or state.strokes is None:
            raise UsageError("There are no strokes yet", hint="Make a stroke layer.")
        name = state.strokes.name
        pixels, value, objects = self._pointing.predicted(state.image.name, name)
        if legend.kind(state) == "instances":
            if value == 0:
                raise UsageError("There is no object under the cursor")
            number = self._next_object(state.strokes.counts)
        elif objects and value:
            number = state.painting if state.painting > 1 else 2
        else:
            number = value + 1
        painted = self._strokes.write(name, [(pixels, number)])
        self.recount()
        self._session.say(f"Accepted {words.count(painted, 'pixel')}.")

    def discs(self) -> None:
        """Turn points into discs of the class that is painted, or of objects."""
        self._session.attempt(self._discs)

    def _discs(self) -> None:
        """Paint a disc for each point."""
        state = self._session.state
        if state.image is None or state.strokes is None:
            raise UsageError("There are no strokes yet", hint="Make a stroke layer.")
        found = self._pointing.discs(state.image.name, state.strokes.name)
        first = self._next_object(state.strokes.counts)
        are_objects = legend.kind(state) == "instances"
        if are_objects:
            self._widen()
        numbers = [
            first + i if are_objects else state.painting for i in range(len(found))
        ]
        name = self._session.state.strokes.name  # type: ignore[union-attr]
        self._strokes.write(name, list(zip(found, numbers, strict=True)))
        self.recount()
        self._session.say(f"Made discs of {words.count(len(found), 'point')}.")

    def _picture(self) -> str:
        """Id of the picture that is painted on, or nothing."""
        strokes = self._session.state.strokes
        return self._keeping.picture_of(strokes.name) if strokes is not None else ""

    def _set_classes(self, classes: tuple[StrokeClass, ...]) -> None:
        """Show and keep other classes."""
        state = self._session.state
        self._session.update(classes=classes)
        self._projects.change(classes=classes)
        if state.strokes is not None:
            self.choose(state.strokes.name)

    def _next_object(self, counts: Any) -> int:
        """Smallest id that no object has."""
        return 1 + max(counts, default=0)

    def _widen(self) -> None:
        """Make room for ids of objects beyond 255."""
        state, picture = self._session.state, self._picture()
        if state.strokes is None or not self._projects.project or not picture:
            return
        if legend.kind(state) != "instances" or state.strokes.dtype != "uint8":
            return
        if not self._strokes.picture_of(state.strokes.name):
            return
        project = self._projects.project
        number = project.convert(picture, "uint16")
        self._strokes.put(state.strokes.name, project.strokes(number), number)
        self._projects.tell()

    def _guess(self) -> None:
        """Find out whether ids look like classes or objects, in the background."""
        strokes = self._session.state.strokes
        if strokes is None or not strokes.counts or self._session.state.kind != "auto":
            return
        known = strokes.name, frozenset(strokes.counts)
        if known == self._guessed:
            return
        self._guessed = known
        array = self._strokes.array(strokes.name)
        if array.nbytes <= _LARGEST_TO_GUESS:
            self._session.tasks.aside(lambda: guessing.guess(array), self._guessed_it)

    def _guessed_it(self, found: Any) -> None:
        """Show what ids look like."""
        if not isinstance(found, UNetError):
            self._session.update(guess=found)
