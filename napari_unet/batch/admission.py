"""Which workers of a cluster may take part: those that compute alike."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from napari_unet.batch.numerics import difference
from napari_unet.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator


FETCH = 2.0
"""Seconds a result, some hundred bytes, may take from a worker that is done."""


@dataclass
class Admission:
    """Lets workers in that have our versions and one and the same arithmetic.

    The arithmetic is that of the results that are there already, if any worker has it;
    else that of most of the workers that come first.

    Parameters
    ----------
    versions : dict of str to str
        Of this process.
    run : str
        Text of the lock of the run, which a worker must be able to read.
    numerics : dict of str to str
        Fingerprint of results that are there already; empty if there are none.

    Attributes
    ----------
    marks : dict of str to str
        Workers that take part: their address, and the mark of their process.
    refused : dict of str to str
        Why the others do not.
    """

    versions: dict[str, str]
    run: str
    numerics: dict[str, str]
    marks: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    _answers: dict[str, dict[str, Any] | str] = field(default_factory=dict)
    _standard: dict[str, str] | None = None

    @property
    def known(self) -> set[str]:
        """Addresses of workers that have answered."""
        return {*self.marks, *self.refused, *self._answers}

    def hear(self, address: str, answer: dict[str, Any] | str) -> None:
        """Take what a worker says of itself, see `napari_unet.batch.remote.facts`.

        Parameters
        ----------
        address : str
            The worker.
        answer : dict or str
            The facts, or why there are none.
        """
        self._answers[address] = answer

    def forget(self, address: str) -> None:
        """Strike a worker off that is gone."""
        for known in (self.marks, self.refused, self._answers):
            known.pop(address, None)

    def decide(self, more: bool) -> Iterator[tuple[str, str]]:
        """Let workers in.

        Parameters
        ----------
        more : bool
            Whether other answers are due, which may decide about the arithmetic.

        Yields
        ------
        tuple of str
            Address of a worker that is refused, and why.
        """
        sound = [
            answer["numerics"]
            for answer in self._answers.values()
            if not self._fault(answer) and isinstance(answer, dict)
        ]
        if self._standard is None:
            if not self._answers or (more and self.numerics not in sound):
                return
            self._standard = self._chosen(sound)
        for address, answer in self._answers.items():
            fault = self._fault(answer) or self._otherness(answer)
            if fault:
                self.refused[address] = fault
                yield address, fault
            elif isinstance(answer, dict):
                self.marks[address] = answer["mark"]
        self._answers.clear()

    def refuse_empty(self) -> None:
        """Give up where workers are there and none may take part.

        Raises
        ------
        UsageError
            With the reason of one of them.
        """
        if self.refused and not self.marks and not self._answers:
            raise UsageError(
                "No worker of the cluster can be used",
                found="; ".join(sorted(set(self.refused.values()))[:3]),
            )

    def _chosen(self, sound: list[dict[str, str]]) -> dict[str, str] | None:
        """Choose the arithmetic that counts."""
        if not sound or self.numerics in sound:
            return self.numerics if sound else None
        return min(sound, key=lambda one: (-sound.count(one), sorted(one.items())))

    def _fault(self, answer: dict[str, Any] | str) -> str:
        """Why a worker cannot be used whatever the others are."""
        if isinstance(answer, str):
            return answer
        if other := difference(self.versions, answer["versions"]):
            return f"it has other versions than this process ({other})"
        if answer["run"] != self.run:
            return "it does not see the folder of the results under the same path"
        return ""

    def _otherness(self, answer: dict[str, Any] | str) -> str:
        """Say where a worker computes otherwise than the rest."""
        if self._standard is None or isinstance(answer, str):
            return ""
        other = difference(self._standard, answer["numerics"])
        return f"it computes otherwise ({other})" if other else ""


def answer_of(future: Any) -> dict[str, Any] | str | None:
    """Take the facts of a worker, or why it gave none; None if it died with them."""
    if future.status != "finished":
        error = future.exception() if future.status == "error" else "no answer"
        return " ".join(str(error).split()).rstrip(".") or type(error).__name__
    try:
        result: dict[str, Any] = future.result(FETCH)
    except TimeoutError:
        return None
    return result
