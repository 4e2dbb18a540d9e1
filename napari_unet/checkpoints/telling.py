"""A person's word about what a checkpoint does not say, remembered beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.checkpoints import sidecar
from napari_unet.checkpoints.loading import load
from napari_unet.errors import ModelError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_unet.networks.network import Network
    from napari_unet.networks.spec import ModelSpec

_ARCHITECTURE = "architecture."


def tell(path: str | Path, facts: Mapping[str, Any]) -> Network:
    """Set fields that a checkpoint leaves open, and open it so.

    The facts go into the sidecar, so that the checkpoint opens the same way from then
    on; a fact that does not fit is taken back.

    Parameters
    ----------
    path : path-like
        The checkpoint, as it is opened.
    facts : mapping of str to object
        By field, as in ``spec.assumed``: ``"activation"``,
        ``"architecture.strides"``, ... A normalization may be its kind alone.

    Returns
    -------
    Network
        Opened with these facts.

    Raises
    ------
    UsageError
        If a field is not one that can be told.
    ModelError
        If the checkpoint cannot be opened so.
    """
    path = Path(path)
    if load(path).spec.provenance.get("told") is None:
        raise UsageError(
            f"{path.name} says everything itself",
            hint="Facts can be told about checkpoints of other programs.",
        )
    with sidecar.trying(path, **_fields(path, facts)):
        network = load(path)
        _refuse_unheard(network.spec, facts)
    return network


def _fields(path: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Order facts as a sidecar has them."""
    known = sidecar.read(path)
    fields: dict[str, Any] = {}
    for name, value in facts.items():
        if name.startswith(_ARCHITECTURE):
            told = fields.setdefault(
                "architecture", dict(known.get("architecture", {}))
            )
            told[name.removeprefix(_ARCHITECTURE)] = value
        elif name == "normalization" and isinstance(value, str):
            fields[name] = [{"kind": value}]
        elif name in sidecar.FIELDS and name != "architecture":
            fields[name] = value
        else:
            raise UsageError(
                f"There is no fact {name} to tell about a checkpoint",
                expected=", ".join((*sidecar.FIELDS, "architecture.<setting>")),
                hint="inspect lists what a checkpoint leaves open.",
            )
    return fields


def _refuse_unheard(spec: ModelSpec, facts: Mapping[str, Any]) -> None:
    """Refuse settings of the network that its family does not know."""
    unheard = [
        name
        for name in facts
        if name.startswith(_ARCHITECTURE)
        and name.removeprefix(_ARCHITECTURE) not in spec.architecture
    ]
    if unheard:
        raise ModelError(
            f"{spec.name} has no setting {unheard[0]}",
            expected=", ".join(f"{_ARCHITECTURE}{k}" for k in spec.architecture),
        )
