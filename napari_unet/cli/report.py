"""What the command line says while it works, all of it on stderr."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from napari_unet.events import Metric, Progress, Started, Warned

if TYPE_CHECKING:
    from tqdm import tqdm

    from napari_unet.events import Event

_EVERY = 10.0  # seconds between lines of progress in a log file


class Report:
    """Shows events: as a bar to a person, as a line now and then in a log file.

    Attributes
    ----------
    warnings : list of str
        What `Warned` said, for the final answer.
    """

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self._bar: tqdm[Any] | None = None
        self._live = sys.stderr.isatty()
        self._title = ""
        self._last_line = time.monotonic()
        self._metrics: dict[str, str] = {}

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, Started):
            self._start(event)
        elif isinstance(event, Progress):
            self._progress(event)
        elif isinstance(event, Metric):
            self._metrics[event.name] = f"{event.name} {event.value:.4g}"
        elif isinstance(event, Warned):
            self.warnings.append(event.message)
            self.say(event.message)

    def say(self, text: str) -> None:
        """Write a line above the bar."""
        if self._bar is not None:
            self._bar.clear()
        print(_one_line(text), file=sys.stderr, flush=True)
        if self._bar is not None:
            self._bar.refresh()

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _start(self, event: Started) -> None:
        """Begin a new piece of work."""
        self.close()
        self._title, _, more = event.title.partition(": ")
        self._metrics.clear()
        if more or not self._live:
            self.say(event.title)
        if not self._live:
            return
        from tqdm import tqdm

        self._bar = tqdm(
            total=event.total, desc=self._title, file=sys.stderr, leave=False,
            bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}{postfix}",
            dynamic_ncols=True,
        )  # fmt: skip

    def _progress(self, event: Progress) -> None:
        """Move on."""
        note = "  ".join(filter(None, [event.note, *self._metrics.values()]))
        if self._bar is not None:
            self._bar.total = event.total
            self._bar.n = event.done
            self._bar.set_postfix_str(note, refresh=True)
        elif not self._live and time.monotonic() - self._last_line > _EVERY:
            self._last_line = time.monotonic()
            share = event.done / event.total if event.total else 1.0
            self.say(f"{self._title}: {share:.0%} {note}".rstrip())


def _one_line(text: str) -> str:
    """Keep control characters of file names and metadata off the terminal."""
    return "".join(c if c.isprintable() else " " for c in text)
