"""The one exception family: every error a user can cause or meet."""

from __future__ import annotations


class UNetError(Exception):
    """An error told in words: what happened, what was found, what to do.

    Parameters
    ----------
    what : str
        What went wrong, one sentence without its full stop.
    found : str, optional
        What was found.
    expected : str, optional
        What was expected instead.
    hint : str, optional
        What the user can do about it.
    """

    def __init__(
        self, what: str, *, found: str = "", expected: str = "", hint: str = ""
    ) -> None:
        super().__init__(what)
        self.what = what
        self.found = found
        self.expected = expected
        self.hint = hint

    def __str__(self) -> str:
        facts = [f"found {self.found}"] if self.found else []
        facts += [f"expected {self.expected}"] if self.expected else []
        text = self.what + (f": {', '.join(facts)}" if facts else "")
        return f"{text}. {self.hint}" if self.hint else f"{text}."

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.what, self.found, self.expected, self.hint)


def _rebuild(
    kind: type[UNetError], what: str, found: str, expected: str, hint: str
) -> UNetError:
    """Make an error again on the far side of a pipe."""
    return kind(what, found=found, expected=expected, hint=hint)


class UsageError(UNetError):
    """A setting or a combination of settings that cannot be carried out."""


class ImageError(UNetError):
    """An image that cannot be read, or not in the way that was asked."""


class UnreadableError(ImageError):
    """An image that the disk or the network did not give; another try may succeed."""


class ModelError(UNetError):
    """A checkpoint that is refused, or a model that does not fit the image."""


class StrokesError(UNetError):
    """Annotations that cannot be trained on."""


class OutputError(UNetError):
    """A result that cannot be written."""


class DeviceError(UNetError):
    """A device that is absent, full or lost."""


class ProjectError(UNetError):
    """An annotation project that cannot be read or used."""
