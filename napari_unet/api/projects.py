"""Learn from an annotation project."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_unet.api.learning import iter_finetune
from napari_unet.config import FinetuneConfig
from napari_unet.errors import ProjectError, UsageError
from napari_unet.events import Finished, Warned, drain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from napari_unet.api.types import Model, OnEvent
    from napari_unet.events import CancelToken, Event
    from napari_unet.training.rounds import Round


def iter_finetune_project(
    project: str | Path,
    model: Model | None,
    output: str | Path,
    config: FinetuneConfig,
    *,
    earlier: Sequence[str | Path] = (),
    go_on: bool = False,
    only_plan: bool = False,
    cancel: CancelToken | None = None,
) -> Iterator[Event]:
    """Learn from all images of a project that were painted on; else `iter_finetune`.

    Whether ids are classes or objects is as in the project unless `config` says it. The
    new round is noted in the project.

    Raises
    ------
    ProjectError
        If the project or one of its images cannot be used.
    UNetError
        As `iter_finetune`.
    """
    from napari_unet.projects.lessons import lessons
    from napari_unet.projects.project import Project

    opened = Project.open(project, writable=False)
    if config.complete:
        raise UsageError(
            "The strokes of a project are not complete",
            hint="Draw complete boxes instead.",
        )
    if config.strokes == "auto":
        config = config.model_copy(update={"strokes": opened.contents.kind})
    taught = lessons(opened, config.changed_images)
    for event in iter_finetune(
        [lesson.image for lesson in taught],
        [lesson.strokes for lesson in taught],
        model, output, config,
        boxes=[lesson.boxes for lesson in taught],
        earlier=earlier, go_on=go_on, only_plan=only_plan, cancel=cancel,
    ):  # fmt: skip
        if isinstance(event, Finished) and not only_plan:
            yield from _note(opened.folder, event.result)
        yield event


def _note(folder: Path, made: Round) -> Iterator[Event]:
    """Note a round in its project, unless the project is open elsewhere."""
    from napari_unet.projects.folders import SilentError
    from napari_unet.projects.project import Project

    try:
        try:
            project = Project.open(folder)
        except SilentError as error:
            yield Warned(f"{error} Waiting.")
            project = Project.open(folder, wait=True)
    except ProjectError as error:
        yield Warned(f"The round is not noted in the project. {error}")
        return
    try:
        project.add_round(made.path, made.digest, made.score_before, made.score_after)
    finally:
        project.close()


def finetune_project(
    project: str | Path,
    output: str | Path,
    model: Model | None = None,
    *,
    earlier: Sequence[str | Path] = (),
    on_event: OnEvent | None = None,
    **settings: Any,
) -> Any:
    """Learn from a project and return the `Round`: checkpoint path and scores.

    Keyword settings are the fields of `FinetuneConfig`.
    """
    config = FinetuneConfig.build(**settings)
    events = iter_finetune_project(project, model, output, config, earlier=earlier)
    return drain(events, on_event)
