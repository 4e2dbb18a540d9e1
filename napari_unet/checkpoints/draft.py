"""From tensors and hints to a network: family, spec, and the proof if there is one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from itertools import islice, product
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from napari_unet.checkpoints import sidecar
from napari_unet.checkpoints.identify import assemble, fit, identify
from napari_unet.checkpoints.oracle import Check, compare
from napari_unet.errors import ModelError
from napari_unet.files import digest
from napari_unet.networks.network import Network
from napari_unet.networks.spec import Assumption, ModelSpec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np

    from napari_unet.checkpoints.identify import Match
    from napari_unet.checkpoints.unwrap import Found

_MOST_VARIANTS = 16
_ARCHITECTURE = "architecture."
_WEIGHTS = "weights"


@dataclass(frozen=True)
class Tests:
    """Arrays that came with the checkpoint, (1, C, *spatial), and how to compare.

    Attributes
    ----------
    inputs, outputs : list of numpy.ndarray
        What goes in and what must come out.
    activation : str
        After the network: sigmoid, softmax or none.
    tolerance : tuple of float
        Relative and absolute.
    of_graph : bool
        Whether they are what the graph in the file itself gives, for an input that is
        not scaled.
    """

    inputs: list[np.ndarray[Any, Any]]
    outputs: list[np.ndarray[Any, Any]]
    activation: str
    tolerance: tuple[float, float]
    of_graph: bool = False


@dataclass
class Draft:
    """A foreign checkpoint on its way to a network.

    Attributes
    ----------
    path : pathlib.Path
        What was opened.
    container : str
        What kind of file it is, in words.
    found : Found
        The tensors.
    digests : list of str
        SHA-256 of everything that decides the outcome.
    hints : dict
        Settings of the source's own network class.
    fields : dict
        Fields of the spec that are declared.
    assumed : list of Assumption
        Replaces the family's assumptions of the same fields.
    tests : Tests, optional
        The proof.
    told : dict, optional
        What a person said about it, as in a sidecar; read from the sidecar when not
        given.
    """

    path: Path
    container: str
    found: Found
    digests: list[str]
    hints: dict[str, Any] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)
    assumed: list[Assumption] = field(default_factory=list)
    tests: Tests | None = None
    told: dict[str, Any] | None = None


def settings(found: Found) -> dict[str, Any]:
    """Return the network's own settings where the training program saved them."""
    gathered: dict[str, Any] = {}
    init = found.extras.get("init")
    for place in (
        found.extras.get("hyper_parameters"),
        found.extras.get("datamodule_hyper_parameters"),
        init.get("model_kwargs") if isinstance(init, dict) else None,
        found.extras.get("model_build_kwargs"),
    ):
        if isinstance(place, dict):
            gathered.update(place)
    for name in ("mask_values", "cfg"):  # milesial's classes, BiaPy's configuration
        if name in found.extras:
            gathered[name] = found.extras[name]
    return {**gathered, **found.hints}


def finish(draft: Draft, guess: bool = True) -> Network:
    """Make the network of a draft; settings left open are tried on its test tensors.

    Parameters
    ----------
    draft : Draft
        What is known of it.
    guess : bool
        Whether families count whose outputs were not compared with the source's own.

    Raises
    ------
    ModelError
        If no family fits, or no variant gives the stored outputs.
    """
    told = sidecar.read(draft.path) if draft.told is None else draft.told
    match = identify(draft.found.tensors, draft.hints, draft.path.name, guess)
    match = _settled(match, draft.found.hints.get("evidence", {}))
    checks: list[Check] = []
    for settings in _variants(match, told):
        network = _network(draft, match, settings, told)
        if draft.tests is None:
            return network
        checks.append(_compare(network, draft.tests, match))
        if checks[-1].passed:
            return _proved(network, checks[-1], draft.tests)
    raise _unproved(draft, match, checks)


def _settled(match: Match, evidence: dict[str, Any]) -> Match:
    """Take what the file itself shows for settings that its names leave open."""
    known = {
        name: evidence[name]
        for a in match.inferred.assumed
        if (name := a.field.removeprefix(_ARCHITECTURE)) != a.field
        and name in evidence
        and (not a.alternatives or evidence[name] in (a.value, *a.alternatives))
    }
    inferred = replace(
        match.inferred,
        architecture={**match.inferred.architecture, **known},
        assumed=tuple(
            a
            for a in match.inferred.assumed
            if a.field.removeprefix(_ARCHITECTURE) not in known
        ),
    )
    return replace(match, inferred=inferred)


def _variants(match: Match, told: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what the architecture may be: as assumed first, then the alternatives."""
    given = told.get("architecture", {})
    choices = {
        name: (a.value, *a.alternatives)
        for a in match.inferred.assumed
        if a.field.startswith(_ARCHITECTURE)
        and (name := a.field.removeprefix(_ARCHITECTURE)) not in given
    }
    for values in islice(product(*choices.values()), _MOST_VARIANTS):
        yield {**dict(zip(choices, values, strict=True)), **given}


def _network(
    draft: Draft, match: Match, settings: dict[str, Any], told: dict[str, Any]
) -> Network:
    """Assemble one variant."""
    architecture = {**match.inferred.architecture, **settings}
    tensors = match.view.tensors
    try:
        miss = fit(match.family, _with(match, architecture), tensors)
        if miss:
            raise ModelError(
                f"The settings do not fit the weights of {draft.path.name}",
                found=str(miss),
                hint=f"Correct {sidecar.beside(draft.path).name}.",
            )
        spec = ModelSpec(**_fields(draft, match, architecture, told))
    except (ValidationError, ValueError, TypeError, IndexError) as error:
        raise ModelError(
            f"The settings for {draft.path.name} cannot be used",
            found=str(error).splitlines()[0],
            hint=f"Correct {sidecar.beside(draft.path).name}." if told else "",
        ) from error
    module = assemble(match.family, architecture, tensors)
    return Network(module, spec, _digest(draft))


def _fields(
    draft: Draft, match: Match, architecture: dict[str, Any], told: dict[str, Any]
) -> dict[str, Any]:
    """Gather the spec; a person's word counts most, then the file's, then defaults."""
    replaced = {a.field for a in draft.assumed}
    assumed = [a for a in match.inferred.assumed if a.field not in replaced]
    assumed += _weights(draft.found)
    declared = {**match.inferred.fields, **draft.fields, **told}
    settled = {_ARCHITECTURE + name for name in told.get("architecture", {})}
    open_fields = [
        a
        for a in (*assumed, *draft.assumed)
        if a.field not in declared and a.field not in settled
    ]
    declared.pop(_WEIGHTS, None)
    names = declared.get("class_names", ())
    if len(names) != match.inferred.fields["out_channels"]:
        declared.pop("class_names", None)
    loose = {
        a.field: a.value
        for a in open_fields
        if "." not in a.field and a.field != _WEIGHTS
    }
    return {
        "name": draft.path.stem,
        **loose,
        **declared,
        "family": match.family.name,
        "architecture": architecture,
        "assumed": tuple(open_fields),
        "provenance": {**_provenance(draft, match), "told": told},
    }


def _weights(found: Found) -> list[Assumption]:
    """Say which of several sets of weights was taken."""
    if not found.choices:
        return []
    return [
        Assumption(
            field=_WEIGHTS,
            value=found.wrapper,
            alternatives=tuple(found.choices),
            reason="the file holds several sets of weights",
        )
    ]


def _provenance(draft: Draft, match: Match) -> dict[str, Any]:
    return {
        "source": draft.path.name,
        "container": draft.container,
        "sha256": draft.digests[0],
        "wrapper": draft.found.wrapper,
        "prefix": match.view.prefix,
        "notes": [*draft.found.notes, *match.view.notes, *_unproven(match)],
    }


def _unproven(match: Match) -> list[str]:
    """Say so where no library's output proves the family."""
    if match.family.is_proven:
        return []
    return [
        "unproven: the network was read from shapes alone; compare a result with one "
        "of the program it comes from"
    ]


def _with(match: Match, architecture: dict[str, Any]) -> Any:
    """Return what was inferred, with another architecture."""
    return type(match.inferred)(architecture, match.inferred.fields)


def _digest(draft: Draft) -> str:
    """Hash of everything that decides what the network gives."""
    side = sidecar.beside(draft.path)
    parts = [*draft.digests, *([digest(side)] if side.is_file() else [])]
    if len(parts) == 1:
        return parts[0]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def _compare(network: Network, tests: Tests, match: Match) -> Check:
    """Run the test tensors; what the source's own network ends in is part of it."""
    inside = match.inferred.fields.get("activation", "none")
    activation = inside if tests.activation == "none" else tests.activation
    arrays = tests.inputs, tests.outputs
    return compare(network, *arrays, activation, tests.tolerance, tests.of_graph)


def _proved(network: Network, check: Check, tests: Tests) -> Network:
    """Record the outcome; the test tensors settle the architecture."""
    outcome: dict[str, Any] = {"test": check.as_dict()}
    if tests.of_graph:
        words = f"computes what the graph in the file does, to {check.difference:.0e}"
        outcome = {"notes": [*network.spec.provenance["notes"], words]}
    spec = network.spec.model_copy(
        update={
            "assumed": tuple(
                a for a in network.spec.assumed if not a.field.startswith(_ARCHITECTURE)
            ),
            "provenance": {**network.spec.provenance, **outcome},
        }
    )
    return Network(network.module, spec, network.digest)


def _unproved(draft: Draft, match: Match, checks: list[Check]) -> ModelError:
    gaps = [c.difference for c in checks if c.difference is not None]
    if gaps:
        found = f"outputs that differ by {min(gaps):.2g} from the stored ones"
    else:
        found = f"an output of shape {checks[0].found}"
    return ModelError(
        f"{draft.path.name} has the weights of a {match.family.title}, but does not "
        "give the outputs stored with it",
        found=found,
        expected=f"shape {checks[0].expected}, within the tolerance it declares",
        hint="Its own code does something more; such a network is not opened.",
    )
