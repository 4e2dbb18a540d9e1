"""What a batch did, image by image."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

Status = Literal["done", "skipped", "failed", "to do"]


@dataclass(frozen=True, slots=True)
class Item:
    """What became of one image.

    Attributes
    ----------
    input : str
        Path of the image as it was given.
    output : str
        Path of the result; empty where there is none.
    status : {"done", "skipped", "failed", "to do"}
        skipped: done by an earlier run and unchanged since; to do: of a dry run.
    reason : str
        Why it failed, one sentence.
    seconds : float
        How long it took in this run.
    remembered : bool
        Whether a failure is that of an earlier run and was not tried again.
    probabilities : str
        Path of the probabilities beside the result; empty where there are none.
    """

    input: str
    output: str
    status: Status
    reason: str = ""
    seconds: float = 0.0
    remembered: bool = False
    probabilities: str = ""


@dataclass(frozen=True, slots=True)
class BatchSummary:
    """What became of all images.

    Attributes
    ----------
    output : str
        Folder of the results.
    items : tuple of Item
        One an image, in the order they were done.
    """

    output: str
    items: tuple[Item, ...]

    def count(self, status: Status) -> int:
        """Count the images that ended in a status."""
        return Counter(item.status for item in self.items)[status]

    def to_dict(self) -> dict[str, Any]:
        """Give all of it as plain values for JSON."""
        return {
            "output": self.output,
            "done": self.count("done"),
            "skipped": self.count("skipped"),
            "failed": self.count("failed"),
            "items": [asdict(item) for item in self.items],
        }

    def listing(self) -> str:
        """Write a line for each image, and the counts."""
        lines = [
            f"{item.status}: {item.input}"
            + (f" -> {item.output}" if item.output else "")
            + (f" ({item.reason})" if item.reason else "")
            for item in self.items
        ]
        return "\n".join([*lines, str(self)])

    def __str__(self) -> str:
        done, skipped, failed, to_do = (self.count(s) for s in get_args(Status))
        text = f"{done} done, {skipped} skipped (done before), {failed} failed"
        text += f", {to_do} to do" if to_do else ""
        remembered = sum(item.remembered for item in self.items)
        if remembered:
            text += f" ({remembered} of them before, not tried again)"
        return f"{text}; results in {self.output}"
