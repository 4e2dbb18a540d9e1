"""Verdict: which weights of a training are taken, and what speaks against them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from napari_unet.training import guard
from napari_unet.training.tempering import tempered

if TYPE_CHECKING:
    from napari_unet.networks.network import Network
    from napari_unet.training.course import Course


_CONTRADICTED = 0.1  # a loss of Dice that is no mere forgetting


@dataclass(frozen=True)
class Verdict:
    """The network that is kept, and its scores.

    Attributes
    ----------
    network : Network
        What is kept.
    share : float
        How far it lies from its base towards the tuned weights, 1 for all the way.
    score : float or None
        Its score on the held-out strokes, `scores` all of them.
    references : mapping
        From `napari_unet.training.guard.compare`.
    worse : tuple of str
        What speaks against it, a sentence each.
    price : tuple of str
        What it lost, a sentence each, where its gain on the held-out strokes is larger.
    """

    network: Network
    share: float
    score: float | None
    scores: dict[str, Any] = field(repr=False)
    references: dict[str, dict[str, float]] = field(repr=False)
    worse: tuple[str, ...]
    price: tuple[str, ...] = ()


def judge(course: Course) -> Verdict:
    """Take the tuned weights, or less of them where those have forgotten something.

    Of the networks between base and tuned weights the first that nothing speaks
    against; the tuned one where something speaks against all of them, or so much is
    lost that the strokes must contradict what was learned before. A little that is lost
    is no objection but a `price` where more is gained on the held-out strokes. New
    networks know nothing that they could forget, and are taken as they are.
    """
    first = None
    for share, network in tempered(course.lesson.network, course.tuned):
        verdict = weighed(_judge(course, share, network), course.standing.before)
        first = first or verdict
        if not verdict.worse:
            return verdict
        if course.lesson.is_new or not 0 < _lost(first) < _CONTRADICTED:
            break
    assert first is not None
    return first


def weighed(verdict: Verdict, before: float | None) -> Verdict:
    """Take a network that gained more on the new strokes than it lost on the old.

    Strokes are painted where a network errs, so a gain on a few of them proves nothing:
    the 95 % interval of the new score has to lie above the old one.

    Parameters
    ----------
    verdict : Verdict
        What may speak against a network.
    before : float or None
        Score of the one before on the held-out strokes.

    Returns
    -------
    Verdict
        With a `price` in the place of `worse` where that holds.
    """
    lost = _lost(verdict)
    if before is None or verdict.score is None or not 0 < lost < _CONTRADICTED:
        return verdict
    interval = verdict.scores.get("dice_interval")
    if interval is None or interval[0] <= before or verdict.score - before <= lost:
        return verdict
    return replace(verdict, worse=(), price=verdict.worse)


def _is_below(scores: dict[str, Any], before: float | None) -> bool:
    """Whether a score lies below another one by more than chance."""
    interval = scores.get("dice_interval")
    return interval is not None and before is not None and interval[1] < before


def _lost(verdict: Verdict) -> float:
    """Most Dice that was lost on what judged earlier rounds."""
    return max(
        (
            r["before"] - r["after"]
            for r in verdict.references.values()
            if "before" in r
        ),
        default=0.0,
    )


def _judge(course: Course, share: float, network: Network) -> Verdict:
    """Score one network."""
    lesson, best = course.lesson, course.standing.best
    assert best is not None
    score, scores = best.score, best.scores
    if share < 1 and lesson.validated:
        scores = course.judge.score(network)
        score = scores["dice"]
    compared = guard.compare(
        lesson.references, course.judge.previous, network, lesson.kind
    )
    before = course.standing.before
    judged = any("before" in r for r in compared.values())
    if judged and scores.get("dice_interval") is None:
        # Three held-out strokes or fewer prove little where better judges are.
        before = None
    if course.standing.has_all and not _is_below(scores, before):
        before = None  # scored half way, so a little less says nothing
    worse = guard.objections(before, score, compared)
    return Verdict(network, share, score, scores, compared, worse)
