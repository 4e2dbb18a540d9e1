"""The forgetting guard: whether a round is worse than the one before.

The held-out strokes of a round share its mistakes: where classes were painted the wrong
way round, a network that learned that scores best on them. So the strokes that judged
earlier rounds judge this one too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_unet.training.heldout import LEAST_STROKES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_unet.networks.network import Network
    from napari_unet.training.annotations import Kind
    from napari_unet.training.references import Reference

_LEAST = 0.01  # of the Dice that counts as lost
_LEAST_OF_FEW = 0.1  # where so few strokes judge that they have no interval

_KEPT = {"after": "dice", "strokes": "strokes"}


def compare(
    references: Sequence[Reference],
    before: Network | None,
    after: Network,
    kind: Kind,
) -> dict[str, dict[str, float]]:
    """Score two networks by what judged earlier rounds.

    Parameters
    ----------
    references : sequence of Reference
        Of earlier rounds.
    before : Network, optional
        The round before, or what this one started from.
    after : Network
        The new one.
    kind : {"classes", "instances"}
        What stroke ids are.

    Returns
    -------
    dict
        By name of the earlier round, the Dice ``before`` (left out without a network)
        and ``after``, and the number of ``strokes`` that tell.
    """
    scores = {}
    for reference in references:
        judged = reference.judge(after).score(after)
        scores[reference.name] = {k: judged[v] for k, v in _KEPT.items()}
        if before is not None and reference.fits(before, kind):
            judged = reference.judge(before).score(before)
            scores[reference.name]["before"] = judged["dice"]
    return scores


def objections(
    before: float | None,
    after: float | None,
    references: Mapping[str, Mapping[str, float]],
) -> tuple[str, ...]:
    """Say what speaks against a round, a sentence each.

    Parameters
    ----------
    before, after : float or None
        Score on this round's held-out strokes.
    references : mapping
        From `compare`.
    """
    said = []
    if before is not None and after is not None and before - after > _LEAST:
        said.append(
            f"On the held-out strokes it scores {after:.3f}, less than {before:.3f} "
            "before."
        )
    for name, scores in references.items():
        old, new = scores.get("before"), scores["after"]
        few = scores.get("strokes", LEAST_STROKES) < LEAST_STROKES
        least = _LEAST_OF_FEW if few else _LEAST
        if old is not None and old - new > least:
            said.append(
                f"On what judged {name} it scores {new:.3f}, less than {old:.3f} "
                "before: it has forgotten, or the new strokes contradict the old ones."
            )
    return tuple(said)
